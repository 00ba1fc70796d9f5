"""The objects of a cuttlebone repository, decoded as docs/format.md describes them.

Nothing here touches a disk: every decoder takes bytes and gives plain values, or raises FormatError
with one of the error kinds of tests/vectors/README.md. Section numbers are those of the page.
"""

import json
import re
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
SLOT_SIZE = 4 * MIB
MAX_BLOB = 4 * MIB
MAX_PACK = 256 * MIB
MAX_ENTRIES = MIB
ENTRY_SIZE = 44
PACK_HEAD = 32
MAX_BODY = {b"CTLBindx": 64 * MIB, b"CTLBbkup": 16 * MIB}
RAW, ZSTD = 0, 1
CHUNK, NODE = 1, 2
SLOT, BRANCH, STREAM_LEAF, STREAM_BRANCH = 1, 2, 3, 4
FANOUT = 64
ZERO_ID = bytes(32)
TRAILER = 2**64 - 1


class FormatError(Exception):
    def __init__(self, kind: str, text: str):
        super().__init__(f"{text} ({kind})")
        self.kind = kind


def require(condition, kind: str, text: str):
    if not condition:
        raise FormatError(kind, text)


# ---- Section 2: cryptography -------------------------------------------------------------------

LABELS = {
    "repository_file": "cuttlebone 2026-11-21 repository file",
    "project_wrap": "cuttlebone 2026-11-21 project wrap",
    "slot_info": "cuttlebone 2026-11-21 slot info",
    "chunk_id": "cuttlebone 2026-11-21 chunk id",
    "node_id": "cuttlebone 2026-11-21 node id",
    "root": "cuttlebone 2026-11-21 root",
    "pack": "cuttlebone 2026-11-21 pack",
    "object": "cuttlebone 2026-11-21 object",
    "stream_cuts": "cuttlebone 2026-11-21 stream cuts",
}


def H(data: bytes) -> bytes:
    return blake3(data).digest()


def MAC(key: bytes, data: bytes) -> bytes:
    return blake3(data, key=key).digest()


def derive(name: str, secret: bytes) -> bytes:
    return blake3(secret, derive_key_context=LABELS[name]).digest()


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
    """The file name of most objects is the hash of their bytes. None: the object has no such name."""
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
    """Decodes one blob or body that must have exactly `length` bytes; never makes more than that."""
    if codec == ZSTD:
        try:
            require(stored[:4] == b"\x28\xb5\x2f\xfd", "bad-codec", "is no Zstandard frame")
            frame = zstandard.get_frame_parameters(stored)
            stated = frame.content_size
            require(frame.dict_id == 0, "bad-codec", "the frame wants a dictionary")
            require(stated in (length, zstandard.CONTENTSIZE_UNKNOWN), "bad-length", "frame of another length")
            bounded = zstandard.ZstdDecompressor().stream_reader(stored)
            require(len(bounded.read(length + 1)) <= length, "bad-length", "decodes to more than stated")
            # The reader above takes half a frame, or several; this call takes exactly one.
            plain = zstandard.ZstdDecompressor().decompress(stored, max_output_size=length, allow_extra_data=False)
            require(len(plain) == length, "bad-length", "decodes to less than stated")
            return plain
        except zstandard.ZstdError as error:
            raise FormatError("bad-codec", f"does not decompress: {error}") from None
    require(len(stored) == length, "bad-length", "a raw body of another length than stated")
    return stored


# ---- JSON bodies -------------------------------------------------------------------------------


def parse_json(body: bytes) -> dict:
    def refuse(word):
        raise ValueError(word)

    try:
        value = json.loads(body.decode("utf-8"), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise FormatError("bad-json", f"is not JSON: {error}") from None
    require(isinstance(value, dict), "bad-json", "is not a JSON object")
    return value


def member(obj: dict, name: str, kind: type, default=None):
    """The member `name` of type `kind`. With a default, it may be missing or null."""
    value = obj.get(name)
    if value is None and default is not None:
        return default
    right = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
    require(right, "bad-value", f"member {name} is {value!r}")
    return value


def unsigned(obj: dict, name: str, bits: int) -> int:
    value = member(obj, name, int)
    require(0 <= value < 1 << bits, "bad-value", f"member {name} is {value}")
    return value


def hexadecimal(obj: dict, name: str, size: int) -> bytes:
    value = member(obj, name, str)
    require(re.fullmatch(f"[0-9a-f]{{{2 * size}}}", value), "bad-value", f"member {name} is {value!r}")
    return bytes.fromhex(value)


def timestamp(obj: dict, name: str) -> datetime:
    value = member(obj, name, str)
    shape = r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)"
    try:
        require(re.fullmatch(shape, value, re.ASCII), "bad-value", f"member {name} is {value!r}")
        return datetime.fromisoformat(value.upper())
    except ValueError:
        raise FormatError("bad-value", f"member {name} is {value!r}") from None


def check_requires(obj: dict):
    names = member(obj, "requires", list, default=[])
    require(all(isinstance(name, str) for name in names), "bad-value", "requires is no list of strings")
    require(not names, "unknown-feature", f"requires {names}")


def chunk_size_of(obj: dict) -> int:
    size = unsigned(obj, "chunk_size", 32)
    require(4 * KIB <= size <= 4 * MIB, "limit-exceeded", f"chunk_size is {size}")
    require(size & (size - 1) == 0, "bad-value", f"chunk_size is {size}, no power of two")
    return size


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
    """`project_id` is that of the directory the slot lies in; None for the repository's own slots."""
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
    info = unseal(derive("slot_info", secret), info_nonce, owner + data[:136], sealed_info, "the slot's info")
    return {
        "scope": scope, "memory_kib": memory, "passes": passes, "lanes": lanes,
        "secret": secret, "info": parse_json(info),
    }  # fmt: skip


# ---- Section 6: project object -----------------------------------------------------------------


def decode_project(data: bytes, project_id: bytes, *, repository_secret=None, project_secret=None) -> dict:
    """Opens with either secret; a project slot gives the project's secret itself."""
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
    check_requires(settings)
    member(settings, "name", str)
    timestamp(settings, "created")
    chunk_size_of(settings)
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
    length = payload.bounded(4, 0, MAX_BODY[magic], "length of body")
    return decompress(codec, payload.rest(), length)


# ---- Section 8: pack ---------------------------------------------------------------------------


class Entry(NamedTuple):
    kind: int
    codec: int
    plain_length: int
    stored_length: int
    id: bytes
    raw: bytes
    """The entry's 44 bytes, which the blob's associated data holds."""
    offset: int
    """Where the sealed blob lies in the pack."""


def take_entries(fields: Fields) -> list[Entry]:
    """A `u32` count and the entries of one pack, as a trailer and an index segment hold them."""
    entries, offset = [], PACK_HEAD
    for _ in range(fields.bounded(4, 1, MAX_ENTRIES, "number of entries")):
        start = fields.at
        kind = fields.one_of(1, [CHUNK, NODE], "kind of blob")
        codec = fields.one_of(1, [RAW, ZSTD], "codec", "bad-codec")
        fields.zeros(2)
        plain = fields.bounded(4, 1, MAX_BLOB, "plain length")
        stored = fields.bounded(4, TAG + 1, plain + TAG, "stored length")
        require(codec != RAW or stored == plain + TAG, "bad-length", "lengths of a raw blob differ")
        require(not entries or kind == entries[0].kind, "bad-value", "blobs of two kinds in one pack")
        blob_id = fields.take(32)
        entries.append(Entry(kind, codec, plain, stored, blob_id, fields.data[start : fields.at], offset))
        offset += stored
    require(pack_size(entries) <= MAX_PACK, "limit-exceeded", "the pack is too large")
    return entries


def trailer_size(count: int) -> int:
    return 4 + ENTRY_SIZE * count + TAG


def pack_size(entries: list[Entry]) -> int:
    return PACK_HEAD + sum(entry.stored_length for entry in entries) + trailer_size(len(entries)) + 4


def blob_id(kind: int, plain: bytes, project_secret: bytes) -> bytes:
    return MAC(derive("chunk_id" if kind == CHUNK else "node_id", project_secret), plain)


def decode_trailer(head: bytes, tail: bytes, size: int, project_id: bytes, project_secret: bytes) -> list[Entry]:
    """`head`: the pack's first 32 bytes; `tail`: its last bytes, the trailer and `t` at least."""
    fields = Fields(head)
    take_header(fields, b"CTLBpack")
    nonce = fields.take(16)
    require(size >= PACK_HEAD + trailer_size(0) + 4, "truncated", "the pack is too short")
    require(size <= MAX_PACK, "limit-exceeded", "the pack is too large")
    length = int.from_bytes(tail[-4:], "little")
    count, odd = divmod(length - trailer_size(0), ENTRY_SIZE)
    require(not odd, "bad-length", f"no trailer has {length} bytes")
    require(1 <= count <= MAX_ENTRIES, "limit-exceeded", f"a trailer of {count} entries")
    require(length <= size - PACK_HEAD - 4, "bad-length", f"no room for a trailer of {length} bytes")
    key = derive("pack", project_secret)
    nonce += TRAILER.to_bytes(8, "little")
    trailer = Fields(unseal(key, nonce, project_id + head[:16], tail[-4 - length : -4], "the trailer"))
    require(int.from_bytes(trailer.data[:4], "little") == count, "bad-length", "the count is not that of the length")
    entries = take_entries(trailer)
    require(size == pack_size(entries), "bad-length", "the pack's size is not the sum of its parts")
    return entries


def open_blob(
    head: bytes, ordinal: int, entry: Entry, sealed: bytes, project_id: bytes, project_secret: bytes
) -> bytes:
    """`head`: the pack's first 32 bytes."""
    fields = Fields(head)
    take_header(fields, b"CTLBpack")
    nonce = fields.take(16) + ordinal.to_bytes(8, "little")
    ad = project_id + head[:16] + entry.raw
    content = unseal(derive("pack", project_secret), nonce, ad, sealed, f"blob {ordinal}")
    plain = decompress(entry.codec, content, entry.plain_length)
    require(blob_id(entry.kind, plain, project_secret) == entry.id, "bad-id", "the blob has another id")
    return plain


def decode_pack(data: bytes, name: bytes | None, project_id: bytes, project_secret: bytes) -> list[tuple[Entry, bytes]]:
    """A whole pack: all its entries and plain blobs."""
    check_name(data, name)
    head, keys = data[:PACK_HEAD], (project_id, project_secret)
    return [
        (entry, open_blob(head, i, entry, data[entry.offset : entry.offset + entry.stored_length], *keys))
        for i, entry in enumerate(decode_trailer(head, data, len(data), *keys))
    ]


# ---- Section 9: index segment ------------------------------------------------------------------


def decode_index(data: bytes, name: bytes | None, project_id: bytes, project_secret: bytes):
    """Gives the packs, each with its entries, and the names of the superseded segments."""
    fields = Fields(open_sealed(data, name, b"CTLBindx", project_id, project_secret))
    packs = [(fields.take(32), take_entries(fields)) for _ in range(fields.number(4))]
    superseded = [fields.take(32) for _ in range(fields.number(4))]
    fields.end()
    return packs, superseded


# ---- Section 10: trees -------------------------------------------------------------------------


class Node(NamedTuple):
    type: int
    level: int
    width: int
    """Slot and branch: the children a full node has. Stream: the number of entries."""
    children: list
    """Slot and branch: (position, id) of those that exist. Stream: (length, id)."""


def decode_node(data: bytes) -> Node:
    fields = Fields(data)
    kind = fields.one_of(1, [SLOT, BRANCH, STREAM_LEAF, STREAM_BRANCH], "type of node")
    low, high = {SLOT: (0, 0), BRANCH: (1, 7), STREAM_LEAF: (0, 0), STREAM_BRANCH: (1, 15)}[kind]
    level = fields.bounded(1, low, high, "level")
    if kind in (SLOT, BRANCH):
        width = fields.bounded(2, 1, SLOT_SIZE // (4 * KIB), "width")
        require(width == FANOUT if kind == BRANCH else width & (width - 1) == 0, "bad-value", f"width is {width}")
        bits = int.from_bytes(fields.take((width + 7) // 8), "little")
        require(bits >> width == 0, "nonzero-reserved", "bits beyond the width are set")
        require(bits, "not-canonical", "a node without children")
        children = [(i, fields.take(32)) for i in range(width) if bits >> i & 1]
    else:
        width = fields.bounded(2, 1, 256, "number of entries")
        limit = MAX_BLOB if kind == STREAM_LEAF else 2**64 - 1
        children = [(fields.bounded(8, 1, limit, "length of entry"), fields.take(32)) for _ in range(width)]
        require(sum(length for length, _ in children) < 2**64, "limit-exceeded", "the lengths overflow")
    fields.end()
    return Node(kind, level, width, children)


def top_level(size: int) -> int:
    """The level of an image's top node."""
    level = 0
    while FANOUT**level * SLOT_SIZE < size:
        level += 1
    return level


def root_of(content: "Content", project_secret: bytes) -> bytes:
    kind = {"image": 1, "stream": 2}[content.kind]
    tail = content.size.to_bytes(8, "little") + content.chunk_size.to_bytes(4, "little") + (content.top or ZERO_ID)
    return MAC(derive("root", project_secret), bytes([kind]) + tail)


def walk(content: "Content", fetch):
    """Yields (offset, plain chunk) in order, leaving out zeros. `fetch(kind, id)` gives a plain blob."""
    if content.top is None:
        return iter(())
    if content.kind == "image":
        return walk_image(content, fetch, content.top, top_level(content.size), 0)
    return walk_stream(fetch, content.top, None, content.size, 0)


def walk_image(content: "Content", fetch, node_id: bytes, level: int, start: int):
    node = decode_node(fetch(NODE, node_id))
    require(node.type in (SLOT, BRANCH), "bad-value", "a stream's node in an image")
    require(node.level == level, "bad-value", f"a node of level {node.level} where {level} belongs")
    span = FANOUT ** (level - 1) * SLOT_SIZE if level else content.chunk_size
    require(level or node.width == SLOT_SIZE // span, "bad-value", "the slot has another chunk size")
    for position, child in node.children:
        offset = start + position * span
        require(offset < content.size, "not-canonical", "a child beyond the end of the volume")
        if level:
            yield from walk_image(content, fetch, child, level - 1, offset)
            continue
        chunk = fetch(CHUNK, child)
        require(len(chunk) == span, "bad-length", f"a chunk of {len(chunk)} bytes")
        require(any(chunk), "not-canonical", "a chunk of zeros is stored")
        require(not any(chunk[content.size - offset :]), "not-canonical", "the last chunk's filling is not zero")
        yield offset, chunk[: content.size - offset]


def walk_stream(fetch, node_id: bytes, level: int | None, length: int, start: int):
    node = decode_node(fetch(NODE, node_id))
    require(node.type in (STREAM_LEAF, STREAM_BRANCH), "bad-value", "an image's node in a stream")
    require(level in (None, node.level), "bad-value", f"a node of level {node.level} where {level} belongs")
    total = sum(entry for entry, _ in node.children)
    require(total == length, "bad-length", f"a node spans {total} bytes, not {length}")
    for length, child in node.children:
        if node.level:
            yield from walk_stream(fetch, child, node.level - 1, length, start)
        elif child != ZERO_ID:
            chunk = fetch(CHUNK, child)
            require(len(chunk) == length, "bad-length", f"a chunk of {len(chunk)} bytes, not {length}")
            require(any(chunk), "not-canonical", "a chunk of zeros is stored")
            yield start, chunk
        start += length


# ---- Section 11: backup record -----------------------------------------------------------------


class Content(NamedTuple):
    kind: str
    size: int
    chunk_size: int
    top: bytes | None
    root: bytes


def decode_content(obj: dict) -> Content:
    kind = member(obj, "kind", str)
    require(kind in ("image", "stream"), "bad-value", f"content of kind {kind!r}")
    size = unsigned(obj, "size", 64)
    chunk_size = chunk_size_of(obj) if kind == "image" else unsigned(obj, "chunk_size", 32)
    require(kind == "image" or chunk_size == 0, "bad-value", "a stream with a chunk size")
    require("top" in obj, "bad-value", "member top is missing")
    top = None if obj["top"] is None else hexadecimal(obj, "top", 32)
    require(size or top is None, "not-canonical", "content of no bytes has a top node")
    return Content(kind, size, chunk_size, top, hexadecimal(obj, "root", 32))


def decode_record(data: bytes, name: bytes | None, project_id: bytes, project_secret: bytes) -> dict:
    """The record's JSON object, checked; its root too."""
    record = parse_json(open_sealed(data, name, b"CTLBbkup", project_id, project_secret))
    check_requires(record)
    volume = member(record, "volume", dict)
    hexadecimal(volume, "id", 16)
    member(volume, "name", str)
    timestamp(record, "time")
    timestamp(record, "finished")
    content = decode_content(member(record, "content", dict))
    require(root_of(content, project_secret) == content.root, "bad-root", "the root is another")
    return record
