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


def run_fields(run: format.Run) -> dict:
    blobs = [blob._asdict() for blob in run.blobs]
    return {"codec": run.codec, "stored_length": run.stored_length, "offset": run.offset, "blobs": blobs}


def check_keys(secret=None, password=None, salt=None, memory_kib=None, passes=None, lanes=None):
    if secret is not None:
        return {name: format.derive(name, secret) for name in format.DERIVED}
    return {"key": format.argon2id(password, salt, memory_kib, passes, lanes)}


def check_ids(project_secret, kind, plain=None, size=None, chunk_size=None, top=None):
    if plain is not None:
        return {"id": format.blob_id({"chunk": CHUNK, "node": NODE}[kind], plain, project_secret)}
    return {"root": format.root_of(format.Content(kind, size, chunk_size, top, b""), project_secret)}


def check_pack(data, name, *keys):
    """Opens every blob."""
    format.check_name(data, name)
    nonce, contents = format.decode_contents(data[:PACK_HEAD], data, len(data), *keys)
    runs = [run_fields(run) for run in contents.runs]
    for ordinal, (run, shown) in enumerate(zip(contents.runs, runs, strict=True)):
        joined = format.open_run(nonce, ordinal, run, data[run.offset : run.offset + run.stored_length], *keys)
        for place, blob in enumerate(shown["blobs"]):
            blob["plain"] = format.cut_blob(run, place, joined, keys[1])
    return {"kind": contents.kind, "runs": runs}


def check_index(*args):
    packs, superseded = format.decode_index(*args)
    packs = [
        {"pack": pack, "nonce": nonce, "kind": contents.kind, "runs": [run_fields(run) for run in contents.runs]}
        for pack, nonce, contents in packs
    ]
    return {"packs": packs, "superseded": superseded}


def check_node(data):
    node = format.decode_node(data)
    if node.type in (format.LEAF, format.BRANCH):
        children = [{"position": position, "id": child} for position, child in node.children]
        return {"type": node.type, "level": node.level, "width": node.width, "children": children}
    entries = [{"length": length, "id": child} for length, child in node.children]
    return {"type": node.type, "level": node.level, "entries": entries}


def check_tree(project_secret, content, blobs):
    content = format.decode_content(content)
    require(format.root_of(content, project_secret) == content.root, "bad-root", "the root is another")
    store = {}
    for blob in blobs:
        kind, plain = {"chunk": CHUNK, "node": NODE}[blob["kind"]], bytes.fromhex(blob["plain"])
        plain = (plain * blob.get("times", 1)).ljust(blob.get("length", 0), b"\0")
        store[kind, format.blob_id(kind, plain, project_secret)] = plain

    def fetch(kind, blob_id):
        require((kind, blob_id) in store, "missing", f"no blob {blob_id.hex()}")
        return store[kind, blob_id]

    pieces = [{"offset": offset, "length": len(plain)} for offset, plain in format.walk(content, fetch)]
    whole = read_backup.digest(content, fetch, format.blake3()) if content.size <= 64 * format.MIB else None
    return {"pieces": pieces} | ({"blake3": whole} if whole else {})


def check_whole(password, files, changes, volume):
    files = {name: data for name, data in (files | changes).items() if data is not None}
    with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stderr(io.StringIO()):
        for name, data in files.items():
            path = Path(directory, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes.fromhex(data))
        project, record = read_backup.choose(read_backup.open_projects(Path(directory), password), None, volume)
        content = format.decode_content(record["content"])
        return {"record": record, "blake3": read_backup.digest(content, project.fetch, format.blake3())}


CHECKS = {
    "keys": lambda i, _: check_keys(**i),
    "ids": lambda i, _: check_ids(**i),
    "repository": lambda i, data: format.decode_repository(data, i.get("repository_secret")),
    "slot": lambda i, data: format.decode_slot(data, i["name"], i.get("project_id"), i["password"]),
    "project": lambda i, data: format.decode_project(data, **i),
    "pack": lambda i, data: check_pack(data, i["name"], i["project_id"], i["project_secret"]),
    "index": lambda i, data: check_index(data, i["name"], i["project_id"], i["project_secret"]),
    "node": lambda _, data: check_node(data),
    "tree": lambda i, _: check_tree(**i),
    "record": lambda i, data: {"record": format.decode_record(data, i["name"], i["project_id"], i["project_secret"])},
    "tombstone": lambda i, data: {
        "tombstone": format.decode_tombstone(data, i["name"], i["project_id"], i["project_secret"])
    },
    "lease": lambda i, data: {"lease": format.decode_lease(data, i["project_id"], i["project_secret"])},
    "mark": lambda i, data: {"mark": format.decode_mark(data, i["name"], i["project_id"], i["project_secret"])},
    "whole": lambda i, _: check_whole(**i),
}
NOT_HEX = {"kind", "volume"}
NAMED = {"slot", "pack", "index", "record", "tombstone", "mark"}


def run_vectors(directory: Path) -> bool:
    """Runs every case of every file in the directory; prints each difference."""
    total = failed = 0
    for path in sorted(directory.glob("*.json")):
        cases = json.loads(path.read_text(), object_pairs_hook=format.Object)
        for case in cases:
            inputs = {
                name: bytes.fromhex(value) if isinstance(value, str) and name not in NOT_HEX else value
                for name, value in (cases[0].get("inputs", {}) | case.get("inputs", {})).items()
                if value is not None
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
