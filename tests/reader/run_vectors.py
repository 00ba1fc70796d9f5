#!/usr/bin/env python3
"""Runs the test vectors through the reader: run_vectors.py [DIR]."""

import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path

import cuttlebone_format as format
import read_backup
from cuttlebone_format import CHUNK, NODE, PACK_HEAD, FormatError, require


def as_json(value):
    """Converts decoded values to the form of the vectors: bytes as hexadecimal."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {name: as_json(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    return value


def keys_of(inputs: dict) -> format.ProjectKeys:
    return format.full_keys(inputs.get("project_id", bytes(16)), inputs["project_secret"])


def signers_of(inputs: dict) -> format.Signers:
    """Returns the signers of all valid certificates, and which of them the log revokes."""
    keys = keys_of(inputs)
    signers = format.Signers(keys.signing_public)
    for data in inputs.get("certificates", []):
        with contextlib.suppress(FormatError):
            signers.certificates[format.H(data)] = format.decode_certificate(data, None, keys)
    for data in inputs.get("log", []):
        for revoked in format.decode_log(data, None, keys).body.get("revoked") or []:
            accepted = [bytes.fromhex(name) for name in revoked.get("accepted", [])]
            signers.revoked[bytes.fromhex(revoked["signer"])] = accepted
    return signers


def run_fields(run: format.Run) -> dict:
    fields = {name: getattr(run, name) for name in ("codec", "stored_length", "check", "offset")}
    return fields | {"blobs": [blob._asdict() for blob in run.blobs]}


def listing_fields(listing: format.Listing) -> dict:
    contents = listing.contents
    fields = {
        "kind": contents.kind,
        "random": listing.random,
        "signer": listing.signer,
        "gap": contents.gap,
    }
    if listing.encapsulation is not None:
        fields["encapsulation"] = listing.encapsulation
    return fields | {"runs": [run_fields(run) for run in contents.runs]}


def check_keys(secret=None, password=None, salt=None, memory_kib=None, passes=None, lanes=None):
    if secret is None:
        return {"key": format.argon2id(password, salt, memory_kib, passes, lanes)}
    keys = format.full_keys(bytes(16), secret)
    return {
        "repository": {words.replace(" ", "_"): key for words,
            key in format.derive_repository(secret).items()},
        "project": {
            "metadata": keys.metadata, "object": keys.object, "contents": keys.contents,
            "tree": keys.tree,
            "node_id": keys.blob_keys[NODE], "root": format.derive("root", keys.metadata),
            "slot_info": format.derive("slot info", keys.metadata), "chunks": keys.chunks,
            "chunk_id": keys.blob_keys[CHUNK],
            "stream_cuts": format.derive("stream cuts", keys.chunks)[:8],
            "data": keys.data, "data_private": keys.x_wing_seed, "data_public": keys.data_public,
            "signing": keys.signing, "signing_public": keys.signing_public,
            "report_public": format.report_public(keys.signing),
        },
    }  # fmt: skip


def check_ids(project_secret, kind, plain=None, size=None, chunk_size=None, top=None):
    keys = format.full_keys(bytes(16), project_secret)
    if plain is not None:
        return {"id": keys.blob_id({"chunk": CHUNK, "node": NODE}[kind], plain)}
    return {"root": format.root_of(format.Content(kind, size, chunk_size, top, b""), keys)}


def check_seal(key, random, ad, plain):
    made = format.seal(key, random, ad, plain)
    require(
        format.unseal(key, made[:24], ad, made[24:], "it") == plain,
        "bad-value",
        "opens to other bytes",
    )
    return {"nonce": made[:24], "sealed": made[24:]}


def check_session(project_id, seed, random):
    public = format.x_wing_public(seed)
    encapsulation, shared = format.x_wing_encapsulate(public, random)
    require(
        format.x_wing_decapsulate(seed, encapsulation) == shared,
        "bad-value",
        "another shared secret",
    )
    key = format.session_key(shared, encapsulation, public, project_id)
    return {"public": public, "encapsulation": encapsulation, "key": key}


def check_run(kind, ordinal, random, codec, content, blobs, encapsulation=None, **inputs):
    keys, kind = keys_of(inputs), {"chunk": CHUNK, "node": NODE}[kind]
    run_keys = format.RunKeys(keys.pack_key(kind, encapsulation), keys.id, random)
    plain = [bytes.fromhex(blob["plain"]) for blob in blobs]
    check = run_keys.check(content) if codec else bytes(16)
    head = (
        bytes([codec, 0])
        + len(blobs).to_bytes(2, "little")
        + (len(content) + 16).to_bytes(4, "little")
        + check
    )
    descriptor = head + b"".join(
        len(blob).to_bytes(4, "little") + keys.blob_id(kind, blob) for blob in plain
    )
    ad = keys.id + format.PACK_HEADER + bytes([kind])
    sealed = format.seal_run(run_keys.key(ordinal, descriptor), ad, content)
    return {"descriptor": descriptor, "sealed": sealed, "check": check}


def check_signature(project_id, header, data, signer, signature):
    format.check_signature(signer, project_id, header, data, signature)
    seed = WRITER if format.ed25519.public_key(WRITER) == signer else None
    return {"seed": seed} if seed else {}


def check_pack(data, name, keys, signers):
    """Decodes a pack and opens every blob in it."""
    format.check_name(data, name)
    listing = format.decode_contents(name, data[:PACK_HEAD], data, len(data), keys, signers, data)
    shown = listing_fields(listing)
    for ordinal, (run, fields) in enumerate(zip(listing.contents.runs, shown["runs"], strict=True)):
        sealed = data[run.offset : run.offset + run.stored_length]
        joined = format.open_run(listing, ordinal, sealed, keys)
        for place, blob in enumerate(fields["blobs"]):
            blob["plain"] = format.cut_blob(listing, ordinal, place, joined, keys)
    return shown


def check_index(*args):
    segment = format.decode_index(*args)
    packs = [{"pack": listing.pack} | listing_fields(listing) for listing in segment.packs]
    return {"packs": packs, "superseded": segment.superseded}


def check_slot(data, name, password, project_id=None):
    slot = format.decode_slot(data, name, project_id, password)
    return slot._asdict()


def check_log(data, name, **inputs):
    entry = format.decode_log(data, name, keys_of(inputs))
    shown = {name: getattr(entry, name) for name in ("number", "time", "summary", "previous")}
    for name in "added", "removed":
        shown[name] = [{"kind": kind, "hash": item} for kind, item in getattr(entry, name)]
    return shown | ({} if entry.body is None else {"body": entry.body})


def check_node(data):
    node = format.decode_node(data)
    if node.type in (format.LEAF, format.BRANCH):
        children = [{"position": position, "id": child} for position, child in node.children]
        return {"type": node.type, "level": node.level, "width": node.width, "children": children}
    entries = [{"length": length, "id": child} for length, child in node.children]
    return {"type": node.type, "level": node.level, "entries": entries}


def check_tree(project_secret, content, blobs):
    content, keys = format.decode_content(content), format.full_keys(bytes(16), project_secret)
    require(format.root_of(content, keys) == content.root, "bad-root", "the root differs")
    store = {}
    for blob in blobs:
        kind, plain = {"chunk": CHUNK, "node": NODE}[blob["kind"]], bytes.fromhex(blob["plain"])
        plain = (plain * blob.get("times", 1)).ljust(blob.get("length", 0), b"\0")
        store[kind, keys.blob_id(kind, plain)] = plain

    def fetch(kind, blob_id):
        require((kind, blob_id) in store, "missing", f"no blob {blob_id.hex()}")
        return store[kind, blob_id]

    pieces = [
        {"offset": offset, "length": len(plain)} for offset, plain in format.walk(content, fetch)
    ]
    whole = (
        read_backup.digest(content, fetch, format.blake3())
        if content.size <= 64 * format.MIB
        else None
    )
    return {"pieces": pieces} | ({"blake3": whole} if whole else {})


def check_whole(password, files, changes, volume):
    files = {name: data for name, data in (files | changes).items() if data is not None}
    with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stderr(io.StringIO()):
        for name, data in files.items():
            path = Path(directory, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes.fromhex(data))
        project, record = read_backup.choose(
            read_backup.open_projects(Path(directory), password), None, volume
        )
        content = format.decode_content(record["content"])
        return {
            "record": record,
            "blake3": read_backup.digest(content, project.fetch, format.blake3()),
        }


def with_signers(decode):
    return lambda i, data: decode(data, i["name"], keys_of(i), signers_of(i))


CHECKS = {
    "keys": lambda i, _: check_keys(**i),
    "ids": lambda i, _: check_ids(**i),
    "seal": lambda i, _: check_seal(**i),
    "session": lambda i, _: check_session(**i),
    "run": lambda i, _: check_run(**i),
    "signature": lambda i, _: check_signature(**i),
    "repository": lambda i, data: format.decode_repository(data, i.get("repository_secret")),
    "slot": lambda i, data: check_slot(data, **i),
    "project": lambda i, data: format.decode_project(data, i["project_id"], i["bundle"])[1],
    "settings": lambda i, data: {"settings": format.decode_settings(data, i["name"], keys_of(i))},
    "certificate": lambda i, data: {
        "certificate": format.decode_certificate(data, i["name"], keys_of(i))
    },
    "pack": with_signers(check_pack),
    "index": with_signers(check_index),
    "record": with_signers(lambda *args: {"record": format.decode_record(*args)[0]}),
    "log": lambda i, data: check_log(data, **i),
    "batch": lambda i, data: {
        "objects": [
            item._asdict() for item in format.decode_batch(data, i["name"], i["project_id"])
        ]
    },
    "void": with_signers(lambda *args: {"void": format.decode_void(*args)[0]}),
    "audit": with_signers(lambda *args: format.decode_audit(*args)._asdict()),
    "ledger": with_signers(lambda *args: format.decode_ledger(*args)._asdict()),
    "lease": lambda i, data: {"lease": format.decode_lease(data, keys_of(i), signers_of(i))},
    "mark": with_signers(lambda *args: {"mark": format.decode_mark(*args)}),
    "parity": lambda i, data: {
        "restored": format.restore_with_parity(i["protects"], i["left"], data)
    },
    "node": lambda _, data: check_node(data),
    "tree": lambda i, _: check_tree(**i),
    "whole": lambda i, _: check_whole(**i),
}
NOT_HEX = {"kind", "volume"}
NAMED = {
    "slot",
    "settings",
    "certificate",
    "pack",
    "index",
    "record",
    "log",
    "void",
    "audit",
    "ledger",
    "mark",
    "batch",
}
WRITER = format.blake3(b"seed of a write key").digest()
"""The seed of the signer in `signature.json`."""


def decoded(name: str, value):
    """Returns an input with its bytes decoded."""
    if name in NOT_HEX:
        return value
    if isinstance(value, str):
        return bytes.fromhex(value)
    if name == "bundle":
        return {part: bytes.fromhex(text) for part, text in value.items()}
    return [bytes.fromhex(text) for text in value] if name in ("certificates", "log") else value


def run_vectors(directory: Path) -> bool:
    """Runs every case of every file in the directory; prints each difference."""
    total = failed = 0
    for path in sorted(directory.glob("*.json")):
        cases = json.loads(path.read_text(), object_pairs_hook=format.Object)
        for case in cases:
            inputs = cases[0].get("inputs", {}) | case.get("inputs", {})
            inputs = {
                name: decoded(name, value) for name, value in inputs.items() if value is not None
            }
            data = bytes.fromhex(case.get("object", ""))
            if path.stem in NAMED:
                inputs.setdefault("name", format.H(data))
            try:
                result = {"ok": as_json(CHECKS[path.stem](inputs, data))}
            except FormatError as error:
                result = {"error": error.kind}
            total += 1
            if result != case["expect"]:
                failed += 1
                print(f"{path.name}: {case['name']}: expected {case['expect']}, got {result}")
    print(f"{total} cases, {failed} failed")
    return total > 0 and not failed


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    sys.exit(not run_vectors(Path(sys.argv[1]) if len(sys.argv) > 1 else here.parent / "vectors"))
