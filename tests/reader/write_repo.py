"""A minimal writer, for tests only: it makes valid objects and, on request, invalid ones.

Every encoder takes the fields of docs/format.md as keyword arguments with valid defaults, so a test
vector names only the field that it gets wrong. "Random" bytes come from a seeded BLAKE3 output.
"""

import json

import zstandard
from blake3 import blake3
from cuttlebone_format import (
    BRANCH, CHUNK, CONTENTS, FANOUT, H, MAC, NODE, RAW, LEAF, LEAF_SIZE, STREAM_BRANCH, STREAM_LEAF, ZERO_ID, ZSTD,
    Content, argon2id, blob_id, derive, root_of, seal, top_level,
)  # fmt: skip


class Random:
    """Bytes that look random and are the same in every run."""

    def __init__(self, seed: str):
        self.stream, self.at = blake3(seed.encode()), 0

    def __call__(self, size: int) -> bytes:
        self.at += size
        return self.stream.digest(length=size, seek=self.at - size)


def u(bits: int, number: int) -> bytes:
    return number.to_bytes(bits // 8, "little")


def header(magic: bytes, *, version=1, zero=0, features=0) -> bytes:
    return magic + u(16, version) + u(16, zero) + u(32, features)


def compress(plain: bytes, **options) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(plain)


def to_json(value) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False).encode()


def repository(secret: bytes, repository_id: bytes, created: int, *, head=header(b"CTLBrepo")) -> bytes:
    body = head + repository_id + u(64, created)
    body += MAC(derive("repository_file", secret), body)
    return body + H(body)


def slot(
    random, secret, password, info, *, project_id=None, scope=None, capability=0, kdf=1, zero=0,
    memory=8, passes=1, lanes=1, head=header(b"CTLBslot"), cost=None, length=None,
) -> bytes:  # fmt: skip
    """`cost`: the parameters for Argon2id, where it does not accept the stated ones."""
    owner = project_id or bytes(16)
    scope = int(project_id is not None) if scope is None else scope
    salt, nonce, info_nonce = random(32), random(24), random(24)
    body = head + bytes([scope, capability, kdf, zero]) + u(32, memory) + u(32, passes) + u(32, lanes) + salt
    key = argon2id(password, salt, *(cost or (memory, passes, lanes)))
    body += nonce + seal(key, nonce, owner + body, secret)
    sealed = seal(derive("slot_info", secret), info_nonce, owner + body, to_json(info))
    return body + info_nonce + u(32, len(sealed) if length is None else length) + sealed


def project(random, repository_secret, project_id, secret, settings, *, head=header(b"CTLBproj"), length=None):
    nonce, settings_nonce = random(24), random(24)
    body = head + nonce + seal(derive("project_wrap", repository_secret), nonce, project_id + head, secret)
    sealed = seal(derive("object", secret), settings_nonce, project_id + body, to_json(settings))
    return body + settings_nonce + u(32, len(sealed) if length is None else length) + sealed


def sealed(random, project_id, secret, magic, body, *, codec=None, zero=0, length=None, stored=None, head=None):
    """`codec`: the shorter one if not given. `stored`: the encoded body for the payload."""
    head, nonce = head or header(magic), random(24)
    if codec is None:
        codec = ZSTD if len(compress(body)) < len(body) else RAW
    if stored is None:
        stored = compress(body) if codec == ZSTD else body
    payload = bytes([codec]) + u(24, zero) + u(32, len(body) if length is None else length) + stored
    return head + nonce + seal(derive("object", secret), nonce, project_id + head, payload)


def descriptor(codec, stored_length, lengths, ids, *, zero=0, count=None) -> bytes:
    body = bytes([codec, zero]) + u(16, len(ids) if count is None else count) + u(32, stored_length)
    return body + b"".join(u(32, length) + name for length, name in zip(lengths, ids, strict=True))


def contents(kind, runs, *, zero=0, count=None) -> bytes:
    """`runs`: descriptors."""
    return bytes([kind]) + u(24, zero) + u(32, len(runs) if count is None else count) + b"".join(runs)


class Faulty:
    """A run with a wrong descriptor, or with a given content."""

    def __init__(self, blobs, content=None, **wrong):
        self.blobs, self.content, self.wrong = blobs, content, wrong


def describe(secret: bytes, kind: int, run) -> tuple[bytes, bytes]:
    """Returns a run's descriptor and content. `run`: a list of plain blobs, or Faulty."""
    run = run if isinstance(run, Faulty) else Faulty(run)
    joined = b"".join(run.blobs)
    content = min(joined, compress(joined), key=len) if run.content is None else run.content
    fields = {
        "codec": RAW if content == joined else ZSTD, "stored_length": len(content) + 16,
        "lengths": [len(plain) for plain in run.blobs], "ids": [blob_id(kind, plain, secret) for plain in run.blobs],
    }  # fmt: skip
    return descriptor(**(fields | run.wrong)), content


class Pack:
    """Runs of blobs of one kind; sets `data`, `name`, `nonce` and `contents` (as bytes)."""

    def __init__(
        self, random, project_id, secret, kind, runs, *, head=header(b"CTLBpack"), relist=None, change=None, size=None,
        **wrong,
    ):  # fmt: skip
        """`runs`: as in `describe`. `relist(descriptors)` and `change(contents)` alter the contents
        after the runs are sealed. `wrong`: fields of the contents. `size`: their stated length."""
        key, nonce = derive("pack", secret), random(16)
        data, descriptors = head + nonce, []
        for ordinal, (described, content) in enumerate(describe(secret, kind, run) for run in runs):
            descriptors.append(described)
            data += seal(key, nonce + u(64, ordinal), project_id + head + bytes([kind]) + described, content)
        listed = contents(kind, relist(descriptors) if relist else descriptors, **wrong)
        listed = change(listed) if change else listed
        tail = seal(key, nonce + u(64, CONTENTS), project_id + head, listed)
        self.nonce, self.contents = nonce, listed
        self.data = data + tail + u(32, len(tail) if size is None else size)
        self.name = H(self.data)


def index_body(packs, superseded=()) -> bytes:
    """`packs`: (name, nonce, contents)."""
    body = u(32, len(packs)) + b"".join(b"".join(pack) for pack in packs)
    return body + u(32, len(superseded)) + b"".join(superseded)


def grid_node(level: int, width: int, children: dict[int, bytes], *, type=None, bitmap=None) -> bytes:
    """Encodes a leaf (level 0) or a branch; `children` by position."""
    bits = sum(1 << position for position in children) if bitmap is None else bitmap
    type = type or (BRANCH if level else LEAF)
    ids = b"".join(children[position] for position in sorted(children))
    return bytes([type, level]) + u(16, width) + u((width + 7) // 8 * 8, bits) + ids


def stream_node(level: int, entries, *, type=None, count=None) -> bytes:
    """`entries`: (length, id)."""
    type = type or (STREAM_BRANCH if level else STREAM_LEAF)
    count = len(entries) if count is None else count
    return bytes([type, level]) + u(16, count) + b"".join(u(64, length) + child for length, child in entries)


class Tree:
    """The blobs of one backup by id, and its content member."""

    def __init__(self, secret: bytes):
        self.secret, self.chunks, self.nodes = secret, {}, {}

    def add(self, kind: int, plain: bytes) -> bytes:
        name = blob_id(kind, plain, self.secret)
        (self.chunks if kind == CHUNK else self.nodes)[name] = plain
        return name

    def content(self, kind: str, size: int, chunk_size: int, top: bytes | None) -> dict:
        root = root_of(Content(kind, size, chunk_size, top, b""), self.secret)
        top = top and top.hex()
        return {"kind": kind, "size": size, "chunk_size": chunk_size, "top": top, "root": root.hex()}

    def image(self, size: int, chunk_size: int, data: dict[int, bytes]) -> dict:
        """`data`: chunks by offset; everything else is zeros."""
        children = {
            offset // chunk_size: self.add(CHUNK, plain.ljust(chunk_size, b"\0"))
            for offset, plain in data.items()
            if any(plain)
        }
        width = LEAF_SIZE // chunk_size
        for level in range(top_level(size) + 1):
            parents = {}
            for position, child in children.items():
                parents.setdefault(position // width, {})[position % width] = child
            children = {at: self.add(NODE, grid_node(level, width, below)) for at, below in parents.items()}
            width = FANOUT
        return self.content("image", size, chunk_size, children.get(0))

    def stream(self, chunks: list[bytes], fanout: int) -> dict:
        entries = [(len(plain), self.add(CHUNK, plain) if any(plain) else ZERO_ID) for plain in chunks]
        size, level = sum(map(len, chunks)), 0
        while entries and (level == 0 or len(entries) > 1):
            groups = [entries[at : at + fanout] for at in range(0, len(entries), fanout)]
            entries = [
                (sum(length for length, _ in group), self.add(NODE, stream_node(level, group))) for group in groups
            ]
            level += 1
        return self.content("stream", size, 0, entries[0][1] if entries else None)


class Writer:
    """A whole repository as a dictionary: path → bytes."""

    def __init__(self, seed: str, password: bytes):
        self.random, self.files = Random(seed), {}
        self.secret = self.random(32)
        self.put_twice("cuttlebone", repository(self.secret, self.random(16), 1_795_219_200))
        self.put_slot("", slot(self.random, self.secret, password, {"label": "test"}))

    def put_twice(self, path: str, data: bytes):
        self.files[path] = self.files[path + ".copy"] = data

    def put_slot(self, directory: str, data: bytes):
        self.put_twice(f"{directory}keys/{H(data).hex()}", data)

    def add_project(self, name: str, chunk_size: int) -> "ProjectWriter":
        return ProjectWriter(self, name, chunk_size)


class ProjectWriter:
    def __init__(self, writer: Writer, name: str, chunk_size: int):
        self.random, self.files = writer.random, writer.files
        self.id, self.secret = self.random(16), self.random(32)
        self.path = f"projects/{self.id.hex()}/"
        settings = {"name": name, "created": "2026-11-21T10:00:00Z", "chunk_size": chunk_size, "requires": []}
        data = project(self.random, writer.secret, self.id, self.secret, settings)
        writer.put_twice(self.path + "project", data)

    def put_sealed(self, directory: str, magic: bytes, body: bytes, **fields) -> bytes:
        data = sealed(self.random, self.id, self.secret, magic, body, **fields)
        self.files[f"{self.path}{directory}/{H(data).hex()}"] = data
        return H(data)

    def put_pack(self, kind: int, runs) -> Pack:
        pack = Pack(self.random, self.id, self.secret, kind, runs)
        self.files[f"{self.path}packs/{pack.name.hex()[:2]}/{pack.name.hex()}"] = pack.data
        return pack

    def put_segment(self, packs, superseded=()) -> bytes:
        body = index_body([(pack.name, pack.nonce, pack.contents) for pack in packs], superseded)
        return self.put_sealed("index", b"CTLBindx", body)

    def put_backup(self, tree: Tree, content: dict, volume: str, time: str, volume_id: str | None = None) -> bytes:
        """Puts chunks into one pack, up to three in a run, and nodes into two packs, each in a run
        of its own; then a segment and the record."""
        chunks, nodes = list(tree.chunks.values()), [[node] for node in tree.nodes.values()]
        chunks = [chunks[at : at + 3] for at in range(0, len(chunks), 3)]
        packs = [self.put_pack(kind, runs) for kind, runs in ((CHUNK, chunks), (NODE, nodes), (NODE, nodes)) if runs]
        if packs:
            self.put_segment(packs)
        volume = {"id": volume_id or H(volume.encode())[:16].hex(), "name": volume}
        record = {"volume": volume, "content": content, "time": time, "finished": time}
        return self.put_sealed("backups", b"CTLBbkup", to_json(record))
