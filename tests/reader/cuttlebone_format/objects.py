"""Sections 4 to 7, 11 to 18, 22 and 23 of docs/format.md: all objects but packs, index segments,
tree nodes and parity."""

from typing import NamedTuple

from . import bodies
from .bodies import Object, decode_content, attachment_content, fits, parse_json, required
from .crypto import (
    DATA_PUBLIC_KEY, H, MAC, NONCE, RAW, SIGNATURE, ZSTD, argon2id, check_name, check_signature,
    decompress, derive,
    unseal,
)  # fmt: skip
from .fields import KIB, MIB, Fields, FormatError, check_header, require, take_magic
from .keys import FULL, ROLES, WRITE, ProjectKeys, Signers, full_keys
from .trees import root_of

SETTINGS, CERTIFICATE, INDEX, RECORD, VOID = (
    b"CTLBsett",
    b"CTLBcert",
    b"CTLBindx",
    b"CTLBbkup",
    b"CTLBvoid",
)
LEASE, MARK, AUDIT, LOG = b"CTLBleas", b"CTLBmark", b"CTLBaudt", b"CTLBlogs"
LEDGER = b"CTLBledg"
MAX_BODY = {INDEX: 64 * MIB, SETTINGS: MIB, CERTIFICATE: MIB, VOID: 64 * KIB, LOG: 32 * MIB}
MAX_BODY |= dict.fromkeys((RECORD, LEASE, MARK, AUDIT), 16 * MIB) | {LEDGER: 4 * MIB}
MAX_PADDING = MAX_LOG = 64 * MIB
SIGNERS = dict.fromkeys((RECORD, INDEX, VOID, LEASE), (FULL, WRITE))
SIGNERS |= dict.fromkeys((SETTINGS, CERTIFICATE, MARK, AUDIT), (FULL,))
SIGNERS |= {LEDGER: ROLES}
LOG_KINDS = {
    1: "record", 2: "segment", 3: "chunk pack", 4: "node pack", 5: "certificate", 6: "settings",
    7: "void", 8: "audit",
    9: "parity",
}  # fmt: skip


# ---- Section 23: batch --------------------------------------------------------------------------


BATCHED = {0: "log", 1: "backups", 7: "voids"}
"""The directories of the objects in a batch, by their kinds."""
MAX_BATCH = 128 * MIB
MAX_BATCHED = 1 << 18


class Batched(NamedTuple):
    kind: int
    hash: bytes
    bytes: bytes


def decode_batch(data: bytes, name: bytes | None, project_id: bytes) -> list[Batched]:
    """Returns the objects in a batch. Fails unless each has the hash that names it."""
    require(len(data) <= MAX_BATCH, "limit-exceeded", "the batch is too long")
    check_name(data, name)
    fields = Fields(data)
    header = take_magic(fields, b"CTLBbtch")
    check_header(header)
    require(fields.take(16) == project_id, "does-not-open", "the batch of another project")
    count = fields.number(4)
    require(count <= MAX_BATCHED, "limit-exceeded", "the batch has too many objects")
    rows = Fields(fields.take(count * 37))
    table = [
        (rows.one_of(1, BATCHED, "kind"), rows.take(32), rows.number(4)) for _ in range(count)
    ]
    names = [item[:2] for item in table]
    require(names == sorted(set(names)), "not-canonical", "the order of the objects")
    objects = [Batched(kind, item, fields.take(size)) for kind, item, size in table]
    fields.end()
    for item in objects:
        check_name(item.bytes, item.hash)
    return objects


# ---- Section 4: repository file ----------------------------------------------------------------


def decode_repository(data: bytes, repository_secret: bytes | None = None) -> dict:
    fields = Fields(data)
    header = take_magic(fields, b"CTLBrepo")
    repository_id, created, mac, checksum = (
        fields.take(16),
        fields.number(8),
        fields.take(32),
        fields.take(32),
    )
    fields.end()
    require(H(data[:72]) == checksum, "bad-hash", "the repository file is damaged")
    check_header(header)
    if repository_secret is not None:
        key = derive("repository file", repository_secret)
        require(
            MAC(key, data[:40]) == mac, "bad-mac", "the repository file belongs to another secret"
        )
    return {"repository_id": repository_id, "created": created}


# ---- Section 5: key slot -----------------------------------------------------------------------


class Slot(NamedTuple):
    scope: int
    role: str
    memory_kib: int
    passes: int
    lanes: int
    bundle: dict[str, bytes]
    info: Object


BUNDLES = {
    (0, "full"): {"repository_secret": 32},
    (1, "full"): {"project_secret": 32},
    (1, "write"): {
        "metadata": 32, "chunks": 32, "data_public": DATA_PUBLIC_KEY, "signing_public": 32,
        "signing": 32,
    },
    (1, "verify"): {"metadata": 32, "signing_public": 32, "signing": 32},
}  # fmt: skip


def slot_metadata(bundle: dict[str, bytes]) -> bytes:
    """Returns the key that the slot info key derives from."""
    if "project_secret" in bundle:
        return derive("metadata", bundle["project_secret"])
    return bundle.get("metadata") or bundle["repository_secret"]


def decode_slot(data: bytes, name: bytes | None, project_id: bytes | None, password: bytes) -> Slot:
    """Opens a key slot. `project_id` comes from the directory of the slot. It is None for the slots
    of the repository."""
    check_name(data, name)
    fields = Fields(data)
    header = take_magic(fields, b"CTLBslot")
    scope = fields.one_of(1, [0 if project_id is None else 1], "scope")
    role = ROLES[fields.one_of(1, [0, 1, 2] if scope else [0], "role")]
    fields.one_of(1, [1], "key derivation")
    fields.zeros(1)
    memory, passes, lanes = (
        fields.number(4),
        fields.bounded(4, 1, 1024, "passes"),
        fields.bounded(4, 1, 64, "lanes"),
    )
    require(8 * lanes <= memory <= 4 * MIB, "limit-exceeded", f"memory is {memory} KiB")
    salt, nonce, sealed, bundle_nonce = (
        fields.take(32),
        fields.take(24),
        fields.take(48),
        fields.take(24),
    )
    shape = BUNDLES[scope, role]
    sealed_bundle = fields.take(
        fields.one_of(4, [sum(shape.values()) + 16], "length of the bundle")
    )
    before_info, info_nonce = data[: fields.at], fields.take(24)
    sealed_info = fields.take(fields.bounded(4, 16, 65_536, "length of info"))
    fields.end()
    owner = project_id or bytes(16)
    slot_key = unseal(
        argon2id(password, salt, memory, passes, lanes),
        nonce,
        owner + data[:64],
        sealed,
        "the slot",
    )
    check_header(header)
    plain = Fields(
        unseal(
            derive("slot bundle", slot_key),
            bundle_nonce,
            owner + data[:136],
            sealed_bundle,
            "the slot",
        )
    )
    bundle = {part: plain.take(size) for part, size in shape.items()}
    try:
        info_key = derive("slot info", slot_metadata(bundle))
        info = parse_json(
            unseal(info_key, info_nonce, owner + H(before_info), sealed_info, "the slot's info")
        )
        fits(info, bodies.INFO)
    except FormatError:
        info = Object([])  # Only people read the info, so damage to it is ignored.
    return Slot(scope, role, memory, passes, lanes, bundle, info)


# ---- Section 6: project object -----------------------------------------------------------------


def bundle_keys(project_id: bytes, bundle: dict[str, bytes]) -> ProjectKeys:
    """Returns the keys that a slot of the project holds."""
    if "project_secret" in bundle:
        return full_keys(project_id, bundle["project_secret"])
    return ProjectKeys(id=project_id, **bundle)


def decode_project(
    data: bytes, project_id: bytes, bundle: dict[str, bytes]
) -> tuple[ProjectKeys, dict]:
    """Returns the keys that the bundle of a slot gives access to, and the decoded fields."""
    fields = Fields(data)
    header = take_magic(fields, b"CTLBproj")
    nonce, wrapped = fields.take(24), fields.take(48)
    signing_public, data_public, signature = (
        fields.take(32),
        fields.take(DATA_PUBLIC_KEY),
        fields.take(SIGNATURE),
    )
    fields.end()
    if "repository_secret" in bundle:
        wrap = derive("project wrap", bundle["repository_secret"])
        secret = unseal(wrap, nonce, project_id + header, wrapped, "the project's secret")
        bundle = {"project_secret": secret}
    keys = bundle_keys(project_id, bundle)
    require(signing_public == keys.signing_public, "bad-key", "another signing public key")
    require(keys.data_public in (None, data_public), "bad-key", "another data public key")
    check_signature(keys.signing_public, project_id, header, data[:-SIGNATURE], signature)
    check_header(header)
    shown = {"signing_public": signing_public, "data_public": data_public}
    return keys, shown | (
        {"project_secret": bundle["project_secret"]} if "project_secret" in bundle else {}
    )


# ---- Section 7: sealed object ------------------------------------------------------------------


class Opened(NamedTuple):
    signer: bytes
    body: bytes


def take_body(payload: Fields, limit: int) -> bytes:
    codec = payload.one_of(1, [RAW, ZSTD], "codec", "bad-codec")
    payload.zeros(3)
    length, padding = (
        payload.bounded(4, 0, limit, "length of body"),
        payload.bounded(4, 0, MAX_PADDING, "padding"),
    )
    require(padding <= payload.left(), "truncated", "the padding is longer than the payload")
    stored = payload.take(payload.left() - padding)
    payload.zeros(padding)
    require(len(stored) <= length, "bad-length", "the body is longer than the plain one")
    return decompress(codec, stored, length)


def open_sealed(
    data: bytes, name: bytes | None, magic: bytes, keys: ProjectKeys, signers: Signers
) -> Opened:
    check_name(data, name)
    fields = Fields(data)
    header, nonce = take_magic(fields, magic), fields.take(NONCE)
    payload = unseal(keys.object, nonce, keys.id + header, fields.rest(), "the object")
    require(len(payload) >= 12 + 32 + SIGNATURE, "truncated", "the payload is too short")
    signer, signature = payload[-SIGNATURE - 32 : -SIGNATURE], payload[-SIGNATURE:]
    check_signature(signer, keys.id, header, nonce + payload[:-SIGNATURE], signature)
    check_signed_header(header, signers.may_sign(signer, SIGNERS[magic]))
    return Opened(signer, take_body(Fields(payload[: -SIGNATURE - 32]), MAX_BODY[magic]))


def check_signed_header(header: bytes, role: str):
    """Refuses a header of a later version. The object is foreign if its signer is not full."""
    try:
        check_header(header)
    except FormatError as error:
        require(role == FULL, "foreign", f"its signer may not require that: {error}")
        raise


def open_json(
    data: bytes, name: bytes | None, magic: bytes, shape: dict, keys: ProjectKeys, signers: Signers
):
    """Returns the body and its signer."""
    opened = open_sealed(data, name, magic, keys, signers)
    body = parse_json(opened.body)
    signers.check_features(opened.signer, required(body))
    fits(body, shape)
    return body, opened.signer


# ---- Section 11: backup record -----------------------------------------------------------------


def decode_record(
    data: bytes, name: bytes | None, keys: ProjectKeys, signers: Signers
) -> tuple[Object, bytes]:
    """Returns the record and its signer. Does not check whether a revocation makes it foreign."""
    record, signer = open_json(data, name, RECORD, bodies.RECORD, keys, signers)
    contents = [
        decode_content(record["content"]),
        *map(attachment_content, record.get("attachments") or []),
    ]
    for content in contents:
        require(root_of(content, keys) == content.root, "bad-root", "the root differs")
    signers.check_volume(signer, record["volume"]["name"])
    return record, signer


# ---- Section 12: log ---------------------------------------------------------------------------


class Entry(NamedTuple):
    number: int
    time: int
    summary: bool
    previous: list[bytes]
    added: list[tuple[int, bytes]]
    removed: list[tuple[int, bytes]]
    body: Object | None


def take_ascending(fields: Fields, count: int, take) -> list:
    items = [take() for _ in range(count)]
    ascends = all(low < high for low, high in zip(items, items[1:], strict=False))
    require(ascends, "not-canonical", "a list is not ascending")
    return items


def decode_log(data: bytes, name: bytes | None, keys: ProjectKeys) -> Entry:
    entry, plain, sealed = decode_plain_log(data, name, keys.id, keys.signing_public)
    if not sealed:
        return entry
    payload = Fields(
        unseal(keys.object, sealed[:NONCE], keys.id + H(plain), sealed[NONCE:], "the entry")
    )
    body = parse_json(take_body(payload, MAX_BODY[LOG]))
    names = required(body)
    require(not names, "unknown-feature", f"requires {names}")
    fits(body, bodies.LOG)
    return entry._replace(body=body)


def decode_plain_log(data: bytes, name: bytes | None, project_id: bytes, signing_public: bytes):
    """Decodes an entry without a secret key. Returns the entry without its body, the bytes before
    the nonce, and the nonce with the sealed body. The last is empty if the entry has no body."""
    check_name(data, name)
    require(len(data) <= MAX_LOG, "limit-exceeded", "the entry is too long")
    fields = Fields(data[:-SIGNATURE])
    header = take_magic(Fields(data), LOG)
    require(len(data) >= 68 + SIGNATURE, "truncated", "the entry is too short")
    check_signature(signing_public, project_id, header, data[:-SIGNATURE], data[-SIGNATURE:])
    check_header(fields.take(16))
    require(fields.take(16) == project_id, "bad-value", "the entry is of another project")
    number, time, flags = fields.number(8), fields.number(8), fields.number(4)
    require(flags in (0, 1), "nonzero-reserved", f"flags are {flags}")
    counts = [fields.number(4) for _ in range(3)]
    length = fields.number(4)
    require(length == 0 or length >= 40, "bad-value", f"a sealed part of {length} bytes")
    expected = 32 * counts[0] + 33 * (counts[1] + counts[2]) + length
    require(expected <= fields.left(), "truncated", "the lists are longer than the entry")
    require(expected == fields.left(), "trailing-bytes", "bytes follow the end of the object")

    def item():
        return fields.one_of(1, LOG_KINDS, "kind"), fields.take(32)

    previous = take_ascending(fields, counts[0], lambda: fields.take(32))
    added, removed = (
        take_ascending(fields, counts[1], item),
        take_ascending(fields, counts[2], item),
    )
    require(number and (number == 1) == (not previous), "bad-value", f"the number is {number}")
    return (
        Entry(number, time, flags == 1, previous, added, removed, None),
        fields.data[: fields.at],
        fields.rest(),
    )


def log_set(entries: dict[bytes, Entry], name: bytes) -> set[tuple[int, bytes]]:
    """Returns the Set of an entry: all objects that the entry covers."""
    added, removed, seen, todo = set(), set(), {name}, [name]
    while todo:
        entry = entries[todo.pop()]
        added.update(entry.added)
        removed.update(entry.removed)
        new = set() if entry.summary else set(entry.previous) - seen
        seen |= new
        todo += new
    return added - removed


# ---- Sections 13 to 18 -------------------------------------------------------------------------


def decode_lease(data: bytes, keys: ProjectKeys, signers: Signers) -> Object:
    """Checks a lease and returns its JSON object. Leases are not named by hashes. A restore does
    not need them."""
    lease, signer = open_json(data, None, LEASE, bodies.LEASE, keys, signers)
    require(not signers.is_revoked(signer), "foreign", "its signer was revoked")
    return lease


def decode_mark(data: bytes, name: bytes | None, keys: ProjectKeys, signers: Signers) -> Object:
    """Checks a mark and returns its JSON object. A restore does not need marks."""
    return open_json(data, name, MARK, bodies.MARK, keys, signers)[0]


def decode_settings(data: bytes, name: bytes | None, keys: ProjectKeys) -> Object:
    return open_json(data, name, SETTINGS, bodies.SETTINGS, keys, Signers(keys.signing_public))[0]


def decode_certificate(data: bytes, name: bytes | None, keys: ProjectKeys) -> Object:
    certificate, _ = open_json(
        data, name, CERTIFICATE, bodies.CERTIFICATE, keys, Signers(keys.signing_public)
    )
    has_signer = certificate.get("signer") is not None
    require(
        has_signer == (certificate["role"] != FULL), "bad-value", "a signer, or none, for that role"
    )
    return certificate


def decode_void(
    data: bytes, name: bytes | None, keys: ProjectKeys, signers: Signers
) -> tuple[Object, bytes]:
    """Returns the void and its signer. The caller must check that the record has this signer."""
    void, signer = open_json(data, name, VOID, bodies.VOID, keys, signers)
    require(not signers.is_revoked(signer), "foreign", "its signer was revoked")
    return void, signer


class Audit(NamedTuple):
    body: Object
    packs: list[bytes]


def decode_audit(data: bytes, name: bytes | None, keys: ProjectKeys, signers: Signers) -> Audit:
    fields = Fields(open_sealed(data, name, AUDIT, keys, signers).body)
    body = parse_json(fields.take(fields.number(4)))
    names = required(body)
    require(not names, "unknown-feature", f"requires {names}")
    fits(body, bodies.AUDIT)
    count = fields.number(4)
    require(32 * count <= fields.left(), "truncated", "not all hashes are there")
    packs = take_ascending(fields, count, lambda: fields.take(32))
    fields.end()
    return Audit(body, packs)


class Ledger(NamedTuple):
    body: Object
    groups: list[dict]


def decode_ledger(data: bytes, name: bytes | None, keys: ProjectKeys, signers: Signers) -> Ledger:
    signer, plain = open_sealed(data, name, LEDGER, keys, signers)
    try:
        return decode_ledger_body(Fields(plain), signer, signers)
    except FormatError as error:
        require(signer == signers.authority, "foreign", f"its signer may not state that: {error}")
        raise


def decode_ledger_body(fields: Fields, signer: bytes, signers: Signers) -> Ledger:
    body = parse_json(fields.take(fields.number(4)))
    names = required(body)
    if names:
        signers.check_features(signer, names)
    fits(body, bodies.LEDGER)
    count = fields.number(4)
    require(13 * count <= fields.left(), "truncated", "not all groups are there")

    def group():
        time, result = fields.number(8), fields.one_of(1, [0, 1, 2], "result")
        packs = fields.number(4)
        require(packs > 0, "not-canonical", "a group has no packs")
        require(32 * packs <= fields.left(), "truncated", "not all hashes are there")
        return time, result, take_ascending(fields, packs, lambda: fields.take(32))

    groups = [group() for _ in range(count)]
    times = [(time, result) for time, result, _ in groups]
    require(times == sorted(set(times)), "not-canonical", "the groups are not ascending")
    fields.end()
    return Ledger(body, [{"time": t, "result": r, "packs": packs} for t, r, packs in groups])
