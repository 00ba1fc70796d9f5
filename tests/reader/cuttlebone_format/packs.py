"""Packs and index segments: sections 8 and 9 of docs/format.md."""

import struct
from typing import NamedTuple

from .crypto import (
    ENCAPSULATION, H, MAC, NONCE, RAW, SIGNATURE, TAG, ZSTD, check_signature, decompress, derive,
    unseal, unseal_run,
)  # fmt: skip
from .fields import MIB, Fields, require, take_magic
from .keys import CHUNK, FULL, NODE, WRITE, ProjectKeys, Signers
from .objects import INDEX, check_signed_header, open_sealed
from .trees import MAX_BLOB

MAX_PACK = 256 * MIB
MAX_RUN = 4 * MIB
MAX_RUN_BLOBS = 1024
MAX_RUNS = MAX_BLOBS = MIB
PACK_HEAD = 32
PACK_HEADER = b"CTLBpack" + bytes([1]) + bytes(7)
PROJECT_KEY = 2**32 - 1
"""In an index segment, this number means that the pack has no session."""
ENDING = 32 + 32 + SIGNATURE
"""The bytes after descriptors and encapsulation in contents: hash, signer and signature."""
# The smallest and the largest `t`, the length of the sealed contents: for one run, and for the
# maximum number of runs, with one blob in each run.
SEALED_CONTENTS = (
    NONCE + 12 + 60 + ENDING + TAG,
    NONCE + 12 + 60 * MAX_RUNS + ENCAPSULATION + ENDING + TAG,
)


class Blob(NamedTuple):
    plain_length: int
    id: bytes


class Run(NamedTuple):
    codec: int
    stored_length: int
    check: bytes
    blobs: list[Blob]
    descriptor: bytes
    offset: int
    """The offset of the sealed run in the pack."""


class Contents(NamedTuple):
    kind: int
    session: int
    gap: int
    runs: list[Run]
    pack_size: int


class Listing(NamedTuple):
    """A pack as it describes itself, or as an index segment describes it."""

    pack: bytes
    random: bytes
    signer: bytes
    encapsulation: bytes | None
    contents: Contents


def take_run(fields: Fields, offset: int) -> Run:
    start = fields.at
    codec = fields.one_of(1, [RAW, ZSTD], "codec", "bad-codec")
    fields.one_of(1, [0], "suite")
    count = fields.bounded(2, 1, MAX_RUN_BLOBS, "number of blobs")
    stored, check = fields.number(4), fields.take(16)
    blobs = [Blob(*item) for item in struct.iter_unpack("<I32s", fields.take(36 * count))]
    for blob in blobs:
        require(
            1 <= blob.plain_length <= MAX_BLOB,
            "limit-exceeded",
            f"a blob of {blob.plain_length} bytes",
        )
    length = sum(blob.plain_length for blob in blobs)
    require(length <= MAX_RUN, "limit-exceeded", f"a run of {length} bytes")
    require(codec != RAW or stored == length + TAG, "bad-length", "lengths of a raw run differ")
    require(TAG < stored <= length + TAG, "limit-exceeded", f"stored length is {stored}")
    return Run(codec, stored, check, blobs, fields.data[start : fields.at], offset)


def take_contents(fields: Fields) -> Contents:
    """Takes contents up to and including the descriptors, as a pack and an index segment store
    them."""
    start, offset, runs, blobs = fields.at, PACK_HEAD, [], 0
    kind = fields.one_of(1, [CHUNK, NODE], "kind of blobs")
    session = fields.one_of(1, [0, 1] if kind == CHUNK else [0], "key")
    fields.zeros(2)
    count = fields.bounded(4, 1, MAX_RUNS, "number of runs")
    gap = fields.bounded(4, 0, MAX_PACK, "length of the gap")
    for _ in range(count):
        runs.append(take_run(fields, offset))
        offset += runs[-1].stored_length
        blobs += len(runs[-1].blobs)
        require(blobs <= MAX_BLOBS, "limit-exceeded", "the pack has too many blobs")
    length = NONCE + fields.at - start + session * ENCAPSULATION + ENDING + TAG
    size = offset + gap + length + 4
    require(size <= MAX_PACK, "limit-exceeded", "the pack is too large")
    return Contents(kind, session, gap, runs, size)


def decode_contents(
    name: bytes,
    head: bytes,
    tail: bytes,
    size: int,
    keys: ProjectKeys,
    signers: Signers,
    whole: bytes | None = None,
) -> Listing:
    """Decodes the contents of a pack of `size` bytes.

    `head`: the first 32 bytes. `tail`: the last bytes, with at least the sealed contents and `t`.
    `whole`: all bytes, if they were read; then the gap and the hash in the contents are checked,
    too.
    """
    fields = Fields(head)
    header, random = take_magic(fields, b"CTLBpack"), fields.take(16)
    least, most = SEALED_CONTENTS
    require(size >= PACK_HEAD + least + 4, "truncated", "the pack is too short")
    require(size <= MAX_PACK, "limit-exceeded", "the pack is too large")
    length = int.from_bytes(tail[-4:], "little")
    require(least <= length <= most, "bad-length", f"no contents have {length} bytes")
    require(
        length <= size - PACK_HEAD - 4, "bad-length", f"no space for contents of {length} bytes"
    )
    sealed = tail[-4 - length : -4]
    plain = unseal(keys.contents, sealed[:NONCE], keys.id + head, sealed[NONCE:], "the contents")
    stated, signer, signature = plain[-ENDING:-96], plain[-96:-SIGNATURE], plain[-SIGNATURE:]
    check_signature(signer, keys.id, header, sealed[:NONCE] + plain[:-SIGNATURE], signature)
    check_signed_header(header, signers.may_sign(signer, (FULL, WRITE)))
    fields = Fields(plain[:-ENDING])
    contents = take_contents(fields)
    encapsulation = fields.take(ENCAPSULATION) if contents.session else None
    fields.end()
    require(size == contents.pack_size, "bad-length", "the pack's size is not the sum of its parts")
    if whole is not None:
        before = whole[: -4 - length]
        require(
            not any(before[len(before) - contents.gap :]), "nonzero-reserved", "the gap is not zero"
        )
        require(H(before) == stated, "bad-hash", "the contents belong to other bytes")
    return Listing(name, random, signer, encapsulation, contents)


class RunKeys:
    """The keys of a pack's runs. `key`: `k` of section 8."""

    def __init__(self, key: bytes, project_id: bytes, random: bytes):
        self.subkey = MAC(key, b"run" + project_id + random)

    def key(self, ordinal: int, descriptor: bytes) -> bytes:
        return MAC(self.subkey, ordinal.to_bytes(8, "little") + descriptor)

    def check(self, content: bytes) -> bytes:
        """Returns the check of a compressed run. Readers need not verify it."""
        return MAC(derive("run check", self.subkey), content)[:16]


def open_run(listing: Listing, ordinal: int, sealed: bytes, keys: ProjectKeys) -> bytes:
    """Returns the joined blobs."""
    run, kind = listing.contents.runs[ordinal], listing.contents.kind
    key = RunKeys(keys.pack_key(kind, listing.encapsulation), keys.id, listing.random).key(
        ordinal, run.descriptor
    )
    content = unseal_run(key, keys.id + PACK_HEADER + bytes([kind]), sealed, f"run {ordinal}")
    return decompress(run.codec, content, sum(blob.plain_length for blob in run.blobs))


def cut_blob(listing: Listing, ordinal: int, place: int, joined: bytes, keys: ProjectKeys) -> bytes:
    """Returns the blob at `place` in the opened run. The other blobs' ids are not checked."""
    run = listing.contents.runs[ordinal]
    start = sum(blob.plain_length for blob in run.blobs[:place])
    length, name = run.blobs[place]
    plain = joined[start : start + length]
    require(keys.blob_id(listing.contents.kind, plain) == name, "bad-id", "the blob has another id")
    return plain


# ---- Section 9: index segment ------------------------------------------------------------------


class Segment(NamedTuple):
    signer: bytes
    packs: list[Listing]
    superseded: list[bytes]
    """This list counts only if a full key signed the segment."""


def take_listing(fields: Fields, encapsulations: list[bytes]) -> Listing:
    pack, random, signer, number = (
        fields.take(32),
        fields.take(16),
        fields.take(32),
        fields.number(4),
    )
    contents = take_contents(fields)
    require(
        (number != PROJECT_KEY) == bool(contents.session),
        "bad-value",
        "a session without encapsulation",
    )
    require(
        not contents.session or number < len(encapsulations),
        "bad-value",
        f"no encapsulation {number}",
    )
    return Listing(
        pack, random, signer, encapsulations[number] if contents.session else None, contents
    )


def decode_index(data: bytes, name: bytes | None, keys: ProjectKeys, signers: Signers) -> Segment:
    signer, body = open_sealed(data, name, INDEX, keys, signers)
    fields = Fields(body)
    encapsulations = [fields.take(ENCAPSULATION) for _ in range(fields.number(4))]
    packs = [take_listing(fields, encapsulations) for _ in range(fields.number(4))]
    superseded = [fields.take(32) for _ in range(fields.number(4))]
    fields.end()
    return Segment(signer, packs, superseded)
