"""The objects of a cuttlebone repository, decoded as docs/format.md describes them.

Nothing here touches a disk: every decoder takes bytes and returns plain values, or raises FormatError
with one of the error kinds of tests/vectors/README.md. Section numbers are those of the page.
"""

import json
import re
import struct
from collections import Counter
from datetime import datetime
from typing import NamedTuple

import zstandard
from argon2.low_level import Type as Argon2Type, hash_secret_raw
from blake3 import blake3
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt as aead_open,
    crypto_aead_xchacha20poly1305_ietf_encrypt as aead_seal,
)
from nacl.exceptions import CryptoError

KIB, MIB = 1 << 10, 1 << 20
TAG = 16
LEAF_SIZE = 4 * MIB
MAX_BLOB = 4 * MIB
MAX_PACK = 256 * MIB
MAX_RUN = 4 * MIB
MAX_RUN_BLOBS = 1024
MAX_RUNS = MAX_BLOBS = MIB
PACK_HEAD = 32
PACK_HEADER = b"CTLBpack" + bytes([1]) + bytes(7)
MAX_BODY = {b"CTLBindx": 64 * MIB} | dict.fromkeys((b"CTLBbkup", b"CTLBtomb", b"CTLBleas", b"CTLBmark"), 16 * MIB)
RAW, ZSTD = 0, 1
CHUNK, NODE = 1, 2
LEAF, BRANCH, STREAM_LEAF, STREAM_BRANCH = 1, 2, 3, 4
FANOUT = 64
ZERO_ID = bytes(32)
CONTENTS = 2**64 - 1
"""The ordinal of a pack's contents."""


class FormatError(Exception):
    def __init__(self, kind: str, text: str):
        super().__init__(f"{text} ({kind})")
        self.kind = kind


def require(condition, kind: str, text: str):
    if not condition:
        raise FormatError(kind, text)


# ---- Section 2: cryptography -------------------------------------------------------------------

DERIVED = (
    "repository_file", "project_wrap", "slot_info", "chunk_id", "node_id", "root", "pack", "object", "stream_cuts",
)  # fmt: skip


def H(data: bytes) -> bytes:
    return blake3(data).digest()


def MAC(key: bytes, data: bytes) -> bytes:
    return blake3(data, key=key).digest()


def derive(name: str, secret: bytes) -> bytes:
    return blake3(secret, derive_key_context="cuttlebone 2026-11-21 " + name.replace("_", " ")).digest()


def seal(key: bytes, nonce: bytes, ad: bytes, plain: bytes) -> bytes:
    return aead_seal(plain, ad, nonce, key)


def unseal(key: bytes, nonce: bytes, ad: bytes, sealed: bytes, what: str) -> bytes:
    require(len(sealed) >= TAG, "truncated", f"{what} is shorter than a tag")
    try:
        return aead_open(sealed, ad, nonce, key)
    except CryptoError:
        raise FormatError("does-not-open", f"{what} does not open") from None


def argon2id(password: bytes, salt: bytes, memory_kib: int, passes: int, lanes: int) -> bytes:
    return hash_secret_raw(password, salt, passes, memory_kib, lanes, hash_len=32, type=Argon2Type.ID, version=0x13)


def check_name(data: bytes, name: bytes | None):
    """Refuses bytes whose hash is not `name`. None: the object is not named by its hash."""
    require(name is None or H(data) == name, "bad-hash", "the bytes do not hash to the object's name")


# ---- Parsing -----------------------------------------------------------------------------------


class Fields:
    """Takes fields from the front of `data`, in order."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def take(self, size: int) -> bytes:
        require(self.at + size <= len(self.data), "truncated", f"ends before byte {self.at + size}")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def bounded(self, size: int, low: int, high: int, what: str) -> int:
        number = self.number(size)
        require(low <= number <= high, "limit-exceeded", f"{what} is {number}, not {low} to {high}")
        return number

    def one_of(self, size: int, allowed, what: str, kind="bad-value") -> int:
        number = self.number(size)
        require(number in allowed, kind, f"{what} is {number}")
        return number

    def zeros(self, size: int):
        require(not any(self.take(size)), "nonzero-reserved", "a zero field is not zero")

    def rest(self) -> bytes:
        return self.take(len(self.data) - self.at)

    def end(self):
        require(self.at == len(self.data), "trailing-bytes", "bytes follow the end of the object")


def take_header(fields: Fields, magic: bytes):
    require(fields.take(8) == magic, "bad-magic", f"is no {magic.decode()} object")
    version = fields.number(2)
    require(version == 1, "bad-version", f"has version {version}")
    fields.zeros(2)
    require(fields.number(4) == 0, "unknown-feature", "requires a feature that this reader lacks")


def decompress(codec: int, stored: bytes, length: int) -> bytes:
    """Decodes one run or body, which must have exactly `length` bytes; never more than that."""
    if codec == ZSTD:
        try:
            require(stored[:4] == b"\x28\xb5\x2f\xfd", "bad-codec", "is no Zstandard frame")
            frame = zstandard.get_frame_parameters(stored)
            stated = frame.content_size
            require(frame.dict_id == 0, "bad-codec", "the frame wants a dictionary")
            require(stated in (length, zstandard.CONTENTSIZE_UNKNOWN), "bad-length", "frame of another length")
            bounded = zstandard.ZstdDecompressor().stream_reader(stored)
            require(len(bounded.read(length + 1)) <= length, "bad-length", "decodes to more than stated")
            # The stream reader accepts half a frame, or several frames.
            frame = zstandard.ZstdDecompressor().decompressobj()
            plain = frame.decompress(stored)
            require(frame.eof and not frame.unused_data, "bad-codec", "is not one whole frame")
            require(len(plain) == length, "bad-length", "decodes to less than stated")
            return plain
        except zstandard.ZstdError as error:
            raise FormatError("bad-codec", f"does not decompress: {error}") from None
    require(len(stored) == length, "bad-length", "a raw body of another length than stated")
    return stored


# ---- JSON bodies -------------------------------------------------------------------------------


class Object(dict):
    """A JSON object; `twice` holds the names of the members that occur more than once."""

    def __init__(self, pairs):
        super().__init__(pairs)
        self.twice = {name for name, count in Counter(name for name, _ in pairs).items() if count > 1}


def parse_json(body: bytes) -> Object:
    def refuse(word):
        raise ValueError(word)

    def integer(text):
        return int(text) if text != "-0" else -0.0

    try:
        hooks = {"parse_constant": refuse, "parse_int": integer, "object_pairs_hook": Object}
        value = json.loads(body.decode("utf-8"), **hooks)
    except (ValueError, RecursionError) as error:
        raise FormatError("bad-json", f"is not JSON: {error}") from None
    require(isinstance(value, dict), "bad-json", "is not a JSON object")
    return value


def fits(value, shape, what="the body"):
    """Refuses a value that does not have the shape.

    A shape is a type, a function that raises, a list with the shape of each item, or a dictionary with
    the shapes of an object's members. A member marked * may be missing or null, one marked ? may be
    missing.
    """
    if isinstance(shape, dict):
        fits(value, Object, what)
        for name, inner in shape.items():
            name, mark = name.rstrip("*?"), name[-1]
            require(name not in value.twice, "bad-value", f"member {name} occurs twice")
            if name in value and (mark != "*" or value[name] is not None):
                fits(value[name], inner, name)
            else:
                require(mark in "*?", "bad-value", f"member {name} is missing")
    elif isinstance(shape, list):
        fits(value, list, what)
        for item in value:
            fits(item, shape[0], what)
    elif isinstance(shape, type):
        right = type(value) is shape and not (shape is str and re.search("[\ud800-\udfff]", value))
        require(right, "bad-value", f"{what} is {value!r}")
    else:
        shape(value, what)


def where(inner, test, kind="bad-value"):
    """Returns a shape for values that have the shape `inner` and pass the test."""

    def shape(value, what):
        fits(value, inner, what)
        require(test(value), kind, f"{what} is {value!r}")

    return shape


def timestamp(value, what="time") -> tuple[datetime, str]:
    """Returns the instant in a form that can be compared: whole seconds, digits of the fraction."""
    pattern = r"(\d{4}-\d\d-\d\dT\d\d:\d\d:)(\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:[0-5]\d)"
    fits(value, str, what)
    try:
        minute, second, fraction, zone = re.fullmatch(pattern, value.upper(), re.ASCII).groups()
        require(value[:4] <= "9998", "bad-value", f"{what} is {value!r}")
        return datetime.fromisoformat(minute + second.replace("60", "59") + zone), (fraction or "").rstrip("0")
    except (AttributeError, ValueError):
        raise FormatError("bad-value", f"{what} is {value!r}") from None


def hexadecimal(size=None):
    """Returns the shape of the digits of `size` bytes, or of any number of bytes."""
    return where(str, lambda text: re.fullmatch("([0-9a-f]{2})*", text) and size in (None, len(text) // 2))


def top(value, what):
    fits(value, type(None) if value is None else HASH, what)


def path(value, what):
    fits(value, {"hex": hexadecimal()} if isinstance(value, dict) else str, what)


def pairs(value, what):
    require(isinstance(value, list), "bad-value", f"{what} is no array")
    for pair in value:
        require(isinstance(pair, list) and len(pair) == 2, "bad-value", f"{what} has {pair!r}")
        for text in pair:
            path(text, what)


def labels(value, what):
    fits(value, Object, what)
    fits(list(value.values()), [str], what)


HASH, U64 = hexadecimal(32), where(int, lambda n: 0 <= n < 2**64)
FEATURES = where([str], lambda names: not names, "unknown-feature")
CHUNK_SIZE = where(where(U64, lambda n: 4 * KIB <= n <= 4 * MIB, "limit-exceeded"), lambda n: n & (n - 1) == 0)
SIZE = where(U64, lambda n: n <= 2**64 - LEAF_SIZE, "limit-exceeded")
INODE = where([U64], lambda pair: len(pair) == 2)
CHANGED = where([int], lambda pair: len(pair) == 2 and all(-(2**63) <= n < 2**63 for n in pair))
INFO = {"label?": str, "created?": str, "host?": str, "user?": str}
SETTINGS = {"requires*": FEATURES, "name": str, "created": timestamp, "chunk_size": CHUNK_SIZE}
CONTENT = {
    "kind": where(str, lambda kind: kind in ("image", "stream")), "size": SIZE, "chunk_size": U64, "top": top,
    "root": HASH,
}  # fmt: skip
IMAGE = {
    "order*": where(int, lambda n: 0 <= n < 256), "features*": U64, "stripe_unit*": U64, "stripe_count*": U64,
    "metadata*": pairs,
}  # fmt: skip
RECORD = {
    "requires*": FEATURES, "volume": {"id": hexadecimal(16), "name": str}, "time": timestamp, "finished": timestamp,
    "content": CONTENT, "host*": str, "base*": HASH, "heads*": [HASH], "labels*": labels,
    "source*": {
        "kind": str, "path*": path, "inode*": INODE, "changed_ns*": CHANGED, "settled?": bool, "snapshot*": path,
        "protected*": bool, "from_snapshot*": path, "image*": IMAGE,
    },
    "counts*": {"changed?": U64, "read?": U64, "new?": U64, "stored?": U64, "chunks_new?": U64}, "tool*": str,
}  # fmt: skip
TOMBSTONE = {"requires*": FEATURES, "time": timestamp, "records": [HASH], "host*": str, "tool*": str}
LEASE = {
    "requires*": FEATURES, "work": str, "running_seconds": U64, "packs*": [HASH], "tops*": [HASH], "host*": str,
    "process*": {"boot": str, "namespace": str, "pid": where(int, lambda n: 0 <= n < 2**32), "started": U64},
    "tool*": str,
}  # fmt: skip
MARK = {"requires*": FEATURES, "time": timestamp, "packs*": [HASH], "segments*": [HASH], "host*": str, "tool*": str}


# ---- Section 4: repository file ----------------------------------------------------------------


def decode_repository(data: bytes, repository_secret: bytes | None = None) -> dict:
    fields = Fields(data)
    take_header(fields, b"CTLBrepo")
    repository_id, created, mac, checksum = fields.take(16), fields.number(8), fields.take(32), fields.take(32)
    fields.end()
    require(H(data[:72]) == checksum, "bad-hash", "the repository file is damaged")
    if repository_secret is not None:
        key = derive("repository_file", repository_secret)
        require(MAC(key, data[:40]) == mac, "bad-mac", "the repository file belongs to another secret")
    return {"repository_id": repository_id, "created": created}


# ---- Section 5: key slot -----------------------------------------------------------------------


def decode_slot(data: bytes, name: bytes | None, project_id: bytes | None, password: bytes) -> dict:
    """`project_id` is the one of the slot's directory; None for the slots of the repository."""
    check_name(data, name)
    fields = Fields(data)
    take_header(fields, b"CTLBslot")
    scope = fields.one_of(1, [0 if project_id is None else 1], "scope")
    fields.one_of(1, [0], "capability")
    fields.one_of(1, [1], "key derivation")
    fields.zeros(1)
    memory, passes, lanes = fields.number(4), fields.bounded(4, 1, 1024, "passes"), fields.bounded(4, 1, 64, "lanes")
    require(8 * lanes <= memory <= 4 * MIB, "limit-exceeded", f"memory is {memory} KiB")
    salt, nonce, sealed, info_nonce = fields.take(32), fields.take(24), fields.take(48), fields.take(24)
    sealed_info = fields.take(fields.bounded(4, 16, 65_536, "length of info"))
    fields.end()
    owner = project_id or bytes(16)
    key = argon2id(password, salt, memory, passes, lanes)
    secret = unseal(key, nonce, owner + data[:64], sealed, "the slot")
    try:
        info_key = derive("slot_info", secret)
        info = parse_json(unseal(info_key, info_nonce, owner + data[:136], sealed_info, "the slot's info"))
        fits(info, INFO)
    except FormatError:
        info = {}  # The info is for people only.
    return {"scope": scope, "memory_kib": memory, "passes": passes, "lanes": lanes, "secret": secret, "info": info}


# ---- Section 6: project object -----------------------------------------------------------------


def decode_project(data: bytes, project_id: bytes, *, repository_secret=None, project_secret=None) -> dict:
    """Takes either secret. A key slot of a project holds the project's secret itself."""
    fields = Fields(data)
    take_header(fields, b"CTLBproj")
    nonce, wrapped, settings_nonce = fields.take(24), fields.take(48), fields.take(24)
    sealed = fields.take(fields.bounded(4, 16, 65_536, "length of settings"))
    fields.end()
    if project_secret is None:
        wrap = derive("project_wrap", repository_secret)
        project_secret = unseal(wrap, nonce, project_id + data[:16], wrapped, "the project's secret")
    key = derive("object", project_secret)
    settings = parse_json(unseal(key, settings_nonce, project_id + data[:88], sealed, "the project's settings"))
    fits(settings, SETTINGS)
    return {"project_secret": project_secret, "settings": settings}


# ---- Section 7: sealed object ------------------------------------------------------------------


def open_sealed(data: bytes, name: bytes | None, magic: bytes, project_id: bytes, project_secret: bytes) -> bytes:
    check_name(data, name)
    fields = Fields(data)
    take_header(fields, magic)
    nonce = fields.take(24)
    key = derive("object", project_secret)
    payload = Fields(unseal(key, nonce, project_id + data[:16], fields.rest(), "the object"))
    codec = payload.one_of(1, [RAW, ZSTD], "codec", "bad-codec")
    payload.zeros(3)
    length, body = payload.bounded(4, 0, MAX_BODY[magic], "length of body"), payload.rest()
    require(len(body) <= length, "bad-length", "the body is longer than the plain one")
    return decompress(codec, body, length)


# ---- Section 8: pack ---------------------------------------------------------------------------


class Blob(NamedTuple):
    plain_length: int
    id: bytes


class Run(NamedTuple):
    codec: int
    stored_length: int
    blobs: list[Blob]
    kind: int
    raw: bytes
    """The kind and the descriptor, as in the run's associated data."""
    offset: int
    """The offset of the sealed run in the pack."""


class Contents(NamedTuple):
    kind: int
    runs: list[Run]
    pack_size: int


# The smallest and the largest length: one run of one blob, and the most runs of one blob.
SEALED_CONTENTS = 8 + 44 + TAG, 8 + 44 * MAX_RUNS + TAG


def take_run(fields: Fields, kind: int, offset: int) -> Run:
    start = fields.at
    codec = fields.one_of(1, [RAW, ZSTD], "codec", "bad-codec")
    fields.zeros(1)
    count = fields.bounded(2, 1, MAX_RUN_BLOBS, "number of blobs")
    stored = fields.number(4)
    blobs = [Blob(*item) for item in struct.iter_unpack("<I32s", fields.take(36 * count))]
    for blob in blobs:
        require(1 <= blob.plain_length <= MAX_BLOB, "limit-exceeded", f"a blob of {blob.plain_length} bytes")
    length = sum(blob.plain_length for blob in blobs)
    require(length <= MAX_RUN, "limit-exceeded", f"a run of {length} bytes")
    require(codec != RAW or stored == length + TAG, "bad-length", "lengths of a raw run differ")
    require(TAG < stored <= length + TAG, "limit-exceeded", f"stored length is {stored}")
    return Run(codec, stored, blobs, kind, bytes([kind]) + fields.data[start : fields.at], offset)


def take_contents(fields: Fields) -> Contents:
    """Takes contents, which have the same form in a pack and in an index segment."""
    start, offset, runs, blobs = fields.at, PACK_HEAD, [], 0
    kind = fields.one_of(1, [CHUNK, NODE], "kind of blobs")
    fields.zeros(3)
    for _ in range(fields.bounded(4, 1, MAX_RUNS, "number of runs")):
        runs.append(take_run(fields, kind, offset))
        offset += runs[-1].stored_length
        blobs += len(runs[-1].blobs)
        require(blobs <= MAX_BLOBS, "limit-exceeded", "the pack has too many blobs")
    size = offset + fields.at - start + TAG + 4
    require(size <= MAX_PACK, "limit-exceeded", "the pack is too large")
    return Contents(kind, runs, size)


def blob_id(kind: int, plain: bytes, project_secret: bytes) -> bytes:
    return MAC(derive("chunk_id" if kind == CHUNK else "node_id", project_secret), plain)


def decode_contents(head: bytes, tail: bytes, size: int, project_id: bytes, project_secret: bytes):
    """Returns nonce and contents of a pack of `size` bytes.

    `head`: the first 32 bytes. `tail`: the last bytes, with at least the sealed contents and `t`.
    """
    fields = Fields(head)
    take_header(fields, b"CTLBpack")
    nonce = fields.take(16)
    least, most = SEALED_CONTENTS
    require(size >= PACK_HEAD + least + 4, "truncated", "the pack is too short")
    require(size <= MAX_PACK, "limit-exceeded", "the pack is too large")
    length = int.from_bytes(tail[-4:], "little")
    require(least <= length <= most, "bad-length", f"no contents have {length} bytes")
    require(length <= size - PACK_HEAD - 4, "bad-length", f"no space for contents of {length} bytes")
    key, full_nonce = derive("pack", project_secret), nonce + CONTENTS.to_bytes(8, "little")
    fields = Fields(unseal(key, full_nonce, project_id + PACK_HEADER, tail[-4 - length : -4], "the contents"))
    contents = take_contents(fields)
    fields.end()
    require(size == contents.pack_size, "bad-length", "the pack's size is not the sum of its parts")
    return nonce, contents


def open_run(nonce: bytes, ordinal: int, run: Run, sealed: bytes, project_id: bytes, project_secret: bytes) -> bytes:
    """Returns the joined blobs. `nonce`: the pack's, from its head or from the index."""
    key, nonce = derive("pack", project_secret), nonce + ordinal.to_bytes(8, "little")
    content = unseal(key, nonce, project_id + PACK_HEADER + run.raw, sealed, f"run {ordinal}")
    return decompress(run.codec, content, sum(blob.plain_length for blob in run.blobs))


def cut_blob(run: Run, place: int, joined: bytes, project_secret: bytes) -> bytes:
    """Returns the blob at `place` in the opened run. The other blobs' ids are not checked."""
    start = sum(blob.plain_length for blob in run.blobs[:place])
    length, name = run.blobs[place]
    plain = joined[start : start + length]
    require(blob_id(run.kind, plain, project_secret) == name, "bad-id", "the blob has another id")
    return plain


# ---- Section 9: index segment ------------------------------------------------------------------


class Listing(NamedTuple):
    pack: bytes
    nonce: bytes
    contents: Contents


def decode_index(data: bytes, name: bytes | None, project_id: bytes, project_secret: bytes):
    """Returns the packs' listings, and the names of the superseded segments."""
    fields = Fields(open_sealed(data, name, b"CTLBindx", project_id, project_secret))
    packs = [Listing(fields.take(32), fields.take(16), take_contents(fields)) for _ in range(fields.number(4))]
    superseded = [fields.take(32) for _ in range(fields.number(4))]
    fields.end()
    return packs, superseded


# ---- Section 10: trees -------------------------------------------------------------------------


class Node(NamedTuple):
    type: int
    level: int
    width: int
    """Leaf and branch: the children that a full node has. Stream: the number of entries."""
    children: list
    """Leaf and branch: (position, id) of those that exist. Stream: (length, id)."""


def decode_node(data: bytes) -> Node:
    fields = Fields(data)
    kind = fields.one_of(1, [LEAF, BRANCH, STREAM_LEAF, STREAM_BRANCH], "type of node")
    low, high = {LEAF: (0, 0), BRANCH: (1, 7), STREAM_LEAF: (0, 0), STREAM_BRANCH: (1, 15)}[kind]
    level = fields.bounded(1, low, high, "level")
    if kind in (LEAF, BRANCH):
        width = fields.bounded(2, 1, LEAF_SIZE // (4 * KIB), "width")
        require(width == FANOUT if kind == BRANCH else width & (width - 1) == 0, "bad-value", f"width is {width}")
        bits = int.from_bytes(fields.take((width + 7) // 8), "little")
        require(bits >> width == 0, "nonzero-reserved", "bits beyond the width are set")
        require(bits, "not-canonical", "a node without children")
        children = [(i, fields.take(32)) for i in range(width) if bits >> i & 1]
    else:
        width = fields.bounded(2, 1, 256, "number of entries")
        limit = MAX_BLOB if kind == STREAM_LEAF else 2**64 - 1
        children = [(fields.bounded(8, 1, limit, "length of entry"), fields.take(32)) for _ in range(width)]
        branch_of_zeros = kind == STREAM_BRANCH and any(child == ZERO_ID for _, child in children)
        require(not branch_of_zeros, "bad-value", "a run of zeros in a branch")
        require(sum(length for length, _ in children) < 2**64, "limit-exceeded", "the lengths overflow")
    fields.end()
    return Node(kind, level, width, children)


def top_level(size: int) -> int:
    """Returns the level of an image's top node."""
    level = 0
    while FANOUT**level * LEAF_SIZE < size:
        level += 1
    return level


def root_of(content: "Content", project_secret: bytes) -> bytes:
    kind = {"image": 1, "stream": 2}[content.kind]
    tail = content.size.to_bytes(8, "little") + content.chunk_size.to_bytes(4, "little") + (content.top or ZERO_ID)
    return MAC(derive("root", project_secret), bytes([kind]) + tail)


def walk(content: "Content", fetch, strict=False):
    """Yields (offset, plain chunk) in order, without zeros.

    `fetch(kind, id)` returns a plain blob. `strict` refuses two things that a restore accepts: stored
    zeros, and padding that is not zero.
    """
    if content.top is None:
        return iter(())
    if content.kind == "image":
        return walk_image(content, fetch, strict, content.top, top_level(content.size), 0)
    return walk_stream(fetch, strict, content.top, None, content.size, 0)


def take_chunk(fetch, strict: bool, child: bytes, length: int) -> bytes:
    chunk = fetch(CHUNK, child)
    require(len(chunk) == length, "bad-length", f"a chunk of {len(chunk)} bytes, not {length}")
    require(not strict or any(chunk), "not-canonical", "a chunk of zeros is stored")
    return chunk


def walk_image(content: "Content", fetch, strict: bool, node_id: bytes, level: int, start: int):
    node = decode_node(fetch(NODE, node_id))
    require(node.type in (LEAF, BRANCH), "bad-value", "a stream's node in an image")
    require(node.level == level, "bad-value", f"a node of level {node.level} where {level} belongs")
    span = FANOUT ** (level - 1) * LEAF_SIZE if level else content.chunk_size
    require(level or node.width == LEAF_SIZE // span, "bad-value", "the leaf has another chunk size")
    for position, child in node.children:
        offset = start + position * span
        require(offset < content.size, "not-canonical", "a child beyond the end of the volume")
        if level:
            yield from walk_image(content, fetch, strict, child, level - 1, offset)
            continue
        chunk, left = take_chunk(fetch, strict, child, span), content.size - offset
        require(not strict or not any(chunk[left:]), "not-canonical", "the last chunk's padding is not zero")
        yield offset, chunk[:left]


def walk_stream(fetch, strict: bool, node_id: bytes, level: int | None, length: int, start: int):
    node = decode_node(fetch(NODE, node_id))
    require(node.type in (STREAM_LEAF, STREAM_BRANCH), "bad-value", "an image's node in a stream")
    require(level in (None, node.level), "bad-value", f"a node of level {node.level} where {level} belongs")
    total = sum(entry for entry, _ in node.children)
    require(total == length, "bad-length", f"a node spans {total} bytes, not {length}")
    for length, child in node.children:
        if node.level:
            yield from walk_stream(fetch, strict, child, node.level - 1, length, start)
        elif child != ZERO_ID:
            yield start, take_chunk(fetch, strict, child, length)
        start += length


# ---- Section 11: backup record -----------------------------------------------------------------


class Content(NamedTuple):
    kind: str
    size: int
    chunk_size: int
    top: bytes | None
    root: bytes


def decode_content(obj: Object) -> Content:
    fits(obj, CONTENT)
    kind, size, top = obj["kind"], obj["size"], obj["top"]
    if kind == "image":
        fits(obj["chunk_size"], CHUNK_SIZE, "chunk_size")
    require(kind == "image" or obj["chunk_size"] == 0, "bad-value", "a stream with a chunk size")
    require(size or top is None, "not-canonical", "content of no bytes has a top node")
    require(top or kind == "image" or not size, "bad-value", "a stream without a top node")
    return Content(kind, size, obj["chunk_size"], top and bytes.fromhex(top), bytes.fromhex(obj["root"]))


def decode_record(data: bytes, name: bytes | None, project_id: bytes, project_secret: bytes) -> Object:
    """Returns the record's JSON object, with its shape and root checked."""
    record = parse_json(open_sealed(data, name, b"CTLBbkup", project_id, project_secret))
    fits(record, RECORD)
    content = decode_content(record["content"])
    require(root_of(content, project_secret) == content.root, "bad-root", "the root is another")
    return record


# ---- Section 12: tombstone ---------------------------------------------------------------------


def decode_tombstone(data: bytes, name: bytes | None, project_id: bytes, project_secret: bytes) -> Object:
    """Returns the tombstone's JSON object, checked. A restore needs none."""
    tombstone = parse_json(open_sealed(data, name, b"CTLBtomb", project_id, project_secret))
    fits(tombstone, TOMBSTONE)
    return tombstone


# ---- Sections 13 and 14: lease, mark -----------------------------------------------------------


def decode_lease(data: bytes, project_id: bytes, project_secret: bytes) -> Object:
    """Returns the lease's JSON object, checked. Its name is not a hash. A restore needs none."""
    lease = parse_json(open_sealed(data, None, b"CTLBleas", project_id, project_secret))
    fits(lease, LEASE)
    return lease


def decode_mark(data: bytes, name: bytes | None, project_id: bytes, project_secret: bytes) -> Object:
    """Returns the mark's JSON object, checked. A restore needs none."""
    mark = parse_json(open_sealed(data, name, b"CTLBmark", project_id, project_secret))
    fits(mark, MARK)
    return mark
