"""Writes valid and faulty objects and whole repositories. For tests and test vectors only."""

import json

import zstandard
from blake3 import blake3

from cuttlebone_format import (
    BRANCH, CHUNK, FANOUT, H, LEAF, LEAF_SIZE, MAC, NODE, PROJECT_KEY, RAW, ROLES, STREAM_BRANCH,
    STREAM_LEAF, WRITE,
    ZERO_ID, ZSTD, Content, ProjectKeys, RunKeys, argon2id, derive, ed25519, full_keys, root_of,
    seal, seal_run,
    seal_signed, session_key, sign, slot_metadata, top_level, unseal, x_wing_encapsulate,
)  # fmt: skip


class Random:
    """Bytes that look random and are the same in every run."""

    def __init__(self, seed: str):
        self.seed, self.at = seed.encode(), 0

    def __call__(self, size: int) -> bytes:
        self.at += size
        return blake3(self.seed).digest(length=size, seek=self.at - size)


def u(bits: int, number: int) -> bytes:
    return number.to_bytes(bits // 8, "little")


def header(magic: bytes, *, version=1, epoch=0, features=0) -> bytes:
    return magic + u(16, version) + u(16, epoch) + u(32, features)


def compress(plain: bytes, **options) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(plain)


def to_json(value) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False).encode()


def repository(
    secret: bytes, repository_id: bytes, created: int, *, head=header(b"CTLBrepo")
) -> bytes:
    body = head + repository_id + u(64, created)
    body += MAC(derive("repository file", secret), body)
    return body + H(body)


# ---- Keys --------------------------------------------------------------------------------------


def write_bundle(keys: ProjectKeys, seed: bytes) -> dict[str, bytes]:
    return {
        "metadata": keys.metadata, "chunks": keys.chunks, "data_public": keys.data_public,
        "signing_public": keys.signing_public, "signing": seed,
    }  # fmt: skip


def verify_bundle(keys: ProjectKeys, seed: bytes) -> dict[str, bytes]:
    return {"metadata": keys.metadata, "signing_public": keys.signing_public, "signing": seed}


def slot(
    random, bundle, password, info, *, project_id=None, scope=None, role="full", kdf=1, zero=0,
    memory=8, passes=1,
    lanes=1, head=header(b"CTLBslot"), cost=None, bundle_length=None, length=None,
    change=lambda plain: plain,
) -> bytes:  # fmt: skip
    """`cost`: the parameters that Argon2id gets, if it does not accept the stated ones. `role`: the
    name of the role, or its byte. `change(plain)`: alters the bundle before it is sealed."""
    owner = project_id or bytes(16)
    scope = int(project_id is not None) if scope is None else scope
    role = ROLES.index(role) if isinstance(role, str) else role
    body = (
        head
        + bytes([scope, role, kdf, zero])
        + u(32, memory)
        + u(32, passes)
        + u(32, lanes)
        + random(32)
    )
    key, slot_key = argon2id(password, body[32:], *(cost or (memory, passes, lanes))), random(32)
    body += seal(key, random(32), owner + body, slot_key)
    sealed = seal(
        derive("slot bundle", slot_key), random(32), owner + body, change(b"".join(bundle.values()))
    )
    body += (
        sealed[:24]
        + u(32, len(sealed) - 24 if bundle_length is None else bundle_length)
        + sealed[24:]
    )
    sealed = seal(
        derive("slot info", slot_metadata(bundle)), random(32), owner + H(body), to_json(info)
    )
    return body + sealed[:24] + u(32, len(sealed) - 24 if length is None else length) + sealed[24:]


def project(
    random, repository_secret, keys: ProjectKeys, secret, *, head=header(b"CTLBproj"), signing=None,
    signer=None,
    public=None,
) -> bytes:  # fmt: skip
    """`signing`, `public`: the signing and the data public key, if not those of `keys`. `signer`:
    the seed that signs, if not the seed of `keys`."""
    body = head + seal(
        derive("project wrap", repository_secret), random(32), keys.id + head, secret
    )
    body += (signing or keys.signing_public) + (public or keys.data_public)
    return body + sign(signer or keys.signing, keys.id, head, body)


# ---- Sealed objects ----------------------------------------------------------------------------


def encode_body(
    body: bytes, *, codec=None, zero=0, length=None, stored=None, padding=0, pad=None
) -> bytes:
    """`codec`: if not given, the codec with the shorter result. `stored`: the encoded body.
    `padding`: the stated length of the padding. `pad`: the bytes of the padding."""
    if codec is None:
        codec = ZSTD if len(compress(body)) < len(body) else RAW
    if stored is None:
        stored = compress(body) if codec == ZSTD else body
    length = len(body) if length is None else length
    pad = bytes(padding) if pad is None else pad
    return bytes([codec]) + u(24, zero) + u(32, length) + u(32, padding) + stored + pad


def sealed(
    random, keys: ProjectKeys, magic, body, *, head=None, signer=None, claim=None,
    change=lambda payload, nonce: payload, resealed=False, **fields
):  # fmt: skip
    """`signer`: the seed that signs, instead of the seed of `keys`. `claim`: the stated public key,
    instead of the key of the seed. `change(payload, nonce)`: alters the payload after it was
    signed. `resealed`: if true, the signed payload is sealed with a second nonce. `fields`: see
    `encode_body`."""
    head, signer = head or header(magic), signer or keys.signing
    payload = encode_body(body, **fields) + (claim or ed25519.public_key(signer))
    ad = keys.id + head

    def end(payload, nonce):
        return change(payload + sign(signer, keys.id, head, nonce + payload), nonce)

    data = head + seal_signed(keys.object, random(32), ad, payload, end)
    if resealed:
        nonce, sealed = data[16:40], data[40:]
        data = head + seal(keys.object, random(32), ad, unseal(keys.object, nonce, ad, sealed, ""))
    return data


def log_entry(
    random, keys: ProjectKeys, number, previous=(), added=(), removed=(), body=None, *,
    time=1_795_219_200, flags=0,
    project_id=None, head=header(b"CTLBlogs"), counts=None, length=None, signer=None, **fields,
) -> bytes:  # fmt: skip
    """`added`, `removed`: (kind, hash). `counts`: the stated numbers of previous entries, added
    objects and removed objects. `body`: JSON. `fields`: see `encode_body`."""
    counts = counts or (len(previous), len(added), len(removed))
    payload = None if body is None else encode_body(to_json(body), **fields)
    stated = (0 if payload is None else len(payload) + 40) if length is None else length
    data = head + (project_id or keys.id) + u(64, number) + u(64, time) + u(32, flags)
    data += b"".join(u(32, count) for count in (*counts, stated)) + b"".join(previous)
    data += b"".join(bytes([kind]) + name for kind, name in (*added, *removed))
    if payload is not None:
        data += seal(keys.object, random(32), keys.id + H(data), payload)
    return data + sign(signer or keys.signing, keys.id, head, data)


def audit_body(body, packs) -> bytes:
    body = to_json(body)
    return u(32, len(body)) + body + u(32, len(packs)) + b"".join(packs)


def ledger_body(body, groups) -> bytes:
    """`groups`: tuples of time, result and packs."""
    body = to_json(body)
    out = u(32, len(body)) + body + u(32, len(groups))
    for time, result, packs in groups:
        out += u(64, time) + u(8, result) + u(32, len(packs)) + b"".join(packs)
    return out


# ---- Packs -------------------------------------------------------------------------------------


def descriptor(
    codec, stored_length, lengths, ids, *, suite=0, count=None, check=bytes(16)
) -> bytes:
    body = (
        bytes([codec, suite])
        + u(16, len(ids) if count is None else count)
        + u(32, stored_length)
        + check
    )
    return body + b"".join(u(32, length) + name for length, name in zip(lengths, ids, strict=True))


def contents(kind, runs, *, session=0, zero=0, count=None, gap=0) -> bytes:
    """`runs`: descriptors."""
    head = (
        bytes([kind, session])
        + u(16, zero)
        + u(32, len(runs) if count is None else count)
        + u(32, gap)
    )
    return head + b"".join(runs)


class Faulty:
    """A run with a wrong descriptor, or with content that is not made from its blobs."""

    def __init__(self, blobs, content=None, **wrong):
        self.blobs, self.content, self.wrong = blobs, content, wrong


class Session:
    """A session of a write key."""

    def __init__(self, random, keys: ProjectKeys):
        self.encapsulation, shared = x_wing_encapsulate(keys.data_public, random(64))
        self.key = session_key(shared, self.encapsulation, keys.data_public, keys.id)


def describe(keys: ProjectKeys, subkey: bytes, kind: int, run) -> tuple[bytes, bytes]:
    """Returns a run's descriptor and content. `run`: a list of plain blobs, or Faulty."""
    run = run if isinstance(run, Faulty) else Faulty(run)
    joined = b"".join(run.blobs)
    content = min(joined, compress(joined), key=len) if run.content is None else run.content
    codec = RAW if content == joined else ZSTD
    fields = {
        "codec": codec, "stored_length": len(content) + 16,
        "lengths": [len(plain) for plain in run.blobs],
        "ids": [keys.blob_id(kind, plain) for plain in run.blobs],
        "check": MAC(derive("run check", subkey), content)[:16] if codec == ZSTD else bytes(16),
    }  # fmt: skip
    return descriptor(**(fields | run.wrong)), content


class Pack:
    """A pack: runs of blobs of one kind. Sets `data`, `name`, `random`, `signer`, `session` and
    `contents` (up to and including the descriptors)."""

    def __init__(
        self, random, keys: ProjectKeys, kind, runs, *, session: Session | None = None,
        head=header(b"CTLBpack"),
        relist=None, change=None, ending=None, size=None, gap=0, gap_bytes=None, signer=None,
        claim=None, stated=None,
        after=lambda contents, nonce: contents, resealed=False, before=lambda data: data, **wrong,
    ):  # fmt: skip
        """`runs`: as in `describe`. `before(data)` alters header and runs. `relist(descriptors)`
        and `change(contents)` alter the contents before they are signed. `after(contents,
        nonce)` alters them after they were signed. `resealed`: if true, the signed contents are
        sealed with a second nonce. `ending`: replaces the session's encapsulation. `stated`: the
        stated hash of the bytes before the contents. `wrong`: replaces fields of the contents.
        `size`: the stated length of the sealed contents."""
        self.random, self.session, signer = random(16), session, signer or keys.signing
        self.signer = claim or ed25519.public_key(signer)
        key = session.key if session else keys.tree if kind == NODE else keys.data
        run_keys = RunKeys(key, keys.id, self.random)
        data, descriptors = head + self.random, []
        for ordinal, (described, content) in enumerate(
            describe(keys, run_keys.subkey, kind, run) for run in runs
        ):
            descriptors.append(described)
            data += seal_run(
                run_keys.key(ordinal, described), keys.id + head + bytes([kind]), content
            )
        data = before(data + (bytes(gap) if gap_bytes is None else gap_bytes))
        fields = {"session": int(session is not None), "gap": gap} | wrong
        self.contents = contents(kind, relist(descriptors) if relist else descriptors, **fields)
        self.contents = change(self.contents) if change else self.contents
        plain = self.contents + (
            (session.encapsulation if session else b"") if ending is None else ending
        )
        plain += (stated or H(data)) + self.signer
        ad = keys.id + data[:32]

        def end(plain, nonce):
            return after(plain + sign(signer, keys.id, head, nonce + plain), nonce)

        tail = seal_signed(keys.contents, random(32), ad, plain, end)
        if resealed:
            plain = unseal(keys.contents, tail[:24], ad, tail[24:], "")
            tail = seal(keys.contents, random(32), ad, plain)
        self.data = data + tail + u(32, len(tail) if size is None else size)
        self.name = H(self.data)


def index_body(packs, superseded=(), encapsulations=None) -> bytes:
    """`packs`: Pack, or (name, random, signer, number of the encapsulation, contents)."""
    if encapsulations is None:
        sessions = [pack.session for pack in packs if isinstance(pack, Pack) and pack.session]
        encapsulations = list(dict.fromkeys(session.encapsulation for session in sessions))
    body = u(32, len(encapsulations)) + b"".join(encapsulations) + u(32, len(packs))
    for pack in packs:
        if isinstance(pack, Pack):
            number = (
                encapsulations.index(pack.session.encapsulation) if pack.session else PROJECT_KEY
            )
            pack = pack.name, pack.random, pack.signer, number, pack.contents
        name, random, signer, number, listed = pack
        body += name + random + signer + u(32, number) + listed
    return body + u(32, len(superseded)) + b"".join(superseded)


# ---- Trees -------------------------------------------------------------------------------------


def grid_node(
    level: int, width: int, children: dict[int, bytes], *, type=None, bitmap=None
) -> bytes:
    """Encodes a leaf (level 0) or a branch. `children`: ids by position."""
    bits = sum(1 << position for position in children) if bitmap is None else bitmap
    type = type or (BRANCH if level else LEAF)
    ids = b"".join(children[position] for position in sorted(children))
    return bytes([type, level]) + u(16, width) + u((width + 7) // 8 * 8, bits) + ids


def stream_node(level: int, entries, *, type=None, count=None) -> bytes:
    """`entries`: (length, id)."""
    type = type or (STREAM_BRANCH if level else STREAM_LEAF)
    count = len(entries) if count is None else count
    return (
        bytes([type, level])
        + u(16, count)
        + b"".join(u(64, length) + child for length, child in entries)
    )


class Tree:
    """The blobs of one backup, by id. Makes the `content` of the backup's record."""

    def __init__(self, keys: ProjectKeys):
        self.keys, self.chunks, self.nodes = keys, {}, {}

    def add(self, kind: int, plain: bytes) -> bytes:
        name = self.keys.blob_id(kind, plain)
        (self.chunks if kind == CHUNK else self.nodes)[name] = plain
        return name

    def content(self, kind: str, size: int, chunk_size: int, top: bytes | None) -> dict:
        root = root_of(Content(kind, size, chunk_size, top, b""), self.keys)
        top = top and top.hex()
        return {
            "kind": kind,
            "size": size,
            "chunk_size": chunk_size,
            "top": top,
            "root": root.hex(),
        }

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
            children = {
                at: self.add(NODE, grid_node(level, width, below)) for at, below in parents.items()
            }
            width = FANOUT
        return self.content("image", size, chunk_size, children.get(0))

    def stream(self, chunks: list[bytes], fanout: int) -> dict:
        entries = [
            (len(plain), self.add(CHUNK, plain) if any(plain) else ZERO_ID) for plain in chunks
        ]
        size, level = sum(map(len, chunks)), 0
        while entries and (level == 0 or len(entries) > 1):
            groups = [entries[at : at + fanout] for at in range(0, len(entries), fanout)]
            entries = [
                (sum(length for length, _ in group), self.add(NODE, stream_node(level, group)))
                for group in groups
            ]
            level += 1
        return self.content("stream", size, 0, entries[0][1] if entries else None)


# ---- Whole repositories ------------------------------------------------------------------------


class Writer:
    """A whole repository as a dictionary: path → bytes."""

    def __init__(self, seed: str, password: bytes):
        self.random, self.files = Random(seed), {}
        self.secret = self.random(32)
        self.put_twice("cuttlebone", repository(self.secret, self.random(16), 1_795_219_200))
        self.put_slot(
            "", slot(self.random, {"repository_secret": self.secret}, password, {"label": "test"})
        )

    def put_twice(self, path: str, data: bytes):
        self.files[path] = self.files[path + ".copy"] = data

    def put_slot(self, directory: str, data: bytes):
        self.put_twice(f"{directory}keys/{H(data).hex()}", data)

    def add_project(self, name: str, chunk_size: int) -> "ProjectWriter":
        return ProjectWriter(self, name, chunk_size)


class ProjectWriter:
    """Creates a project and writes its objects. Signs with the full key unless another seed is
    given."""

    def __init__(self, writer: Writer, name: str, chunk_size: int):
        self.random, self.files = writer.random, writer.files
        self.id, self.secret = self.random(16), self.random(32)
        self.keys = full_keys(self.id, self.secret)
        self.path = f"projects/{self.id.hex()}/"
        writer.put_twice(
            self.path + "project", project(self.random, writer.secret, self.keys, self.secret)
        )
        settings = {
            "revision": 1,
            "name": name,
            "created": "2026-11-21T10:00:00Z",
            "chunk_size": chunk_size,
        }
        self.put_copy("settings", self.put_sealed("settings", b"CTLBsett", to_json(settings)))

    def put_sealed(self, directory: str, magic: bytes, body: bytes, **fields) -> bytes:
        return self.put(directory, sealed(self.random, self.keys, magic, body, **fields))

    def put(self, directory: str, data: bytes) -> bytes:
        self.files[f"{self.path}{directory}/{H(data).hex()}"] = data
        return H(data)

    def put_key(self, role: str, password: bytes, **certificate) -> bytes:
        """Puts a certificate and a slot. Returns the seed of the key. For a full key, this is the
        seed of the project."""
        seed = self.keys.signing if role == "full" else self.random(32)
        bundle = {"project_secret": self.secret}
        if role != "full":
            bundle = (write_bundle if role == WRITE else verify_bundle)(self.keys, seed)
        data = slot(self.random, bundle, password, {"label": role}, project_id=self.id, role=role)
        self.put_certificate(role, H(data), seed, **certificate)
        self.put_copy("keys", self.put("keys", data))
        return seed

    def put_certificate(self, role: str, slot_name: bytes, seed: bytes, **members) -> bytes:
        signer = {} if role == "full" else {"signer": ed25519.public_key(seed).hex()}
        body = (
            {"role": role, "slot": slot_name.hex(), "created": "2026-11-21T10:00:00Z"}
            | signer
            | members
        )
        name = self.put_sealed("writers", b"CTLBcert", to_json(body))
        self.put_copy("writers", name)
        return name

    def put_copy(self, directory: str, name: bytes):
        path = f"{self.path}{directory}/{name.hex()}"
        self.files[path + ".copy"] = self.files[path]

    def put_log(self, number=1, previous=(), **fields) -> bytes:
        return self.put("log", log_entry(self.random, self.keys, number, previous, **fields))

    def put_pack(self, kind: int, runs, **fields) -> Pack:
        pack = Pack(self.random, self.keys, kind, runs, **fields)
        self.files[self.pack_path(kind, pack.name)] = pack.data
        return pack

    def pack_path(self, kind: int, name: bytes) -> str:
        return f"{self.path}{'packs' if kind == CHUNK else 'trees'}/{name.hex()[:2]}/{name.hex()}"

    def put_segment(self, packs, superseded=(), **fields) -> bytes:
        return self.put_sealed("index", b"CTLBindx", index_body(packs, superseded), **fields)

    def put_backup(
        self, tree: Tree, content: dict, volume: str, time: str, *, volume_id: str | None = None,
        seed: bytes | None = None, **members,
    ) -> bytes:  # fmt: skip
        """Puts all chunks into one pack, with up to three in a run. Puts all nodes into each of two
        packs, with one node in a run. Then puts a segment and the record. `seed`: the seed of a
        write key. With it, the pack of chunks has a session."""
        chunks, nodes = list(tree.chunks.values()), [[node] for node in tree.nodes.values()]
        chunks = [chunks[at : at + 3] for at in range(0, len(chunks), 3)]
        session = Session(self.random, self.keys) if seed else None
        packs = [self.put_pack(CHUNK, chunks, session=session, signer=seed)] if chunks else []
        packs += [self.put_pack(NODE, nodes, signer=seed) for _ in range(2) if nodes]
        if packs:
            self.put_segment(packs, signer=seed)
        return self.put_record(content, volume, time, volume_id=volume_id, signer=seed, **members)

    def put_record(
        self, content: dict, volume: str, time: str, *, volume_id=None, signer=None, **members
    ) -> bytes:
        volume = {"id": volume_id or H(volume.encode())[:16].hex(), "name": volume}
        record = {"volume": volume, "content": content, "time": time, "finished": time} | members
        return self.put_sealed("backups", b"CTLBbkup", to_json(record), signer=signer)
