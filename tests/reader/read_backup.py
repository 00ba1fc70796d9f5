#!/usr/bin/env python3
"""Restores a backup from a cuttlebone repository, knowing only docs/format.md.

The password comes from the environment variable CUTTLEBONE_PASSWORD. What is damaged but could be
read from its second copy is told on standard error; what could not be read ends the program.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import re
import sys
import tempfile
from pathlib import Path

import cuttlebone_format as format
from cuttlebone_format import CHUNK, NODE, PACK_HEAD, FormatError, require

HASH, PROJECT_ID = "[0-9a-f]{64}", "[0-9a-f]{32}"


def warn(text):
    print(f"warning: {text}", file=sys.stderr)


def named(directory: Path, pattern: str) -> list[Path]:
    """The entries whose names fit; all others are none of ours."""
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if re.fullmatch(pattern, path.name))


def read_either(path: Path, decode):
    """Decodes the object, or the copy beside it if the object is missing or damaged."""
    first_error = None
    for candidate in (path, path.with_name(path.name + ".copy")):
        try:
            return decode(candidate.read_bytes())
        except (OSError, FormatError) as error:
            warn(f"{candidate}: {error}")
            error = error if isinstance(error, FormatError) else FormatError("missing", str(error))
            first_error = first_error or error
    raise first_error


def open_slots(directory: Path, project_id: bytes | None, password: bytes) -> bytes | None:
    """The secret of the first slot in `directory` that the password opens."""
    names = sorted({path.name.removesuffix(".copy") for path in named(directory, HASH + r"(\.copy)?")})
    for name in names:
        for path in (directory / name, directory / (name + ".copy")):
            try:
                return format.decode_slot(path.read_bytes(), bytes.fromhex(name), project_id, password)["secret"]
            except FormatError as error:
                if error.kind == "does-not-open":
                    break  # Whole, but of another password; so is its copy.
                warn(f"{path}: {error}")
            except OSError as error:
                warn(error)
    return None


class Project:
    def __init__(self, directory: Path, **secret):
        self.directory, self.id = directory, bytes.fromhex(directory.name)
        project = read_either(directory / "project", lambda data: format.decode_project(data, self.id, **secret))
        self.secret, self.name = project["project_secret"], project["settings"]["name"]
        self.keys = (self.id, self.secret)
        self.index = None

    def records(self) -> dict[str, dict]:
        """All whole records by name, in order of time."""
        records = {}
        for path in named(self.directory / "backups", HASH):
            try:
                records[path.name] = format.decode_record(path.read_bytes(), bytes.fromhex(path.name), *self.keys)
            except (OSError, FormatError) as error:
                warn(f"{path}: {error}")
        return dict(sorted(records.items(), key=lambda item: format.timestamp(item[1], "time")))

    def load_index(self):
        """(kind, id) → where it lies: [(pack, ordinal, entry)]."""
        packs, superseded, segments, damaged = {}, set(), {}, False
        for path in named(self.directory / "index", HASH):
            try:
                segments[path.name], names = format.decode_index(
                    path.read_bytes(), bytes.fromhex(path.name), *self.keys
                )
                superseded.update(name.hex() for name in names)
            except (OSError, FormatError) as error:
                warn(f"{path}: {error}")
                damaged = True
        for name in segments.keys() - superseded:
            packs |= {pack.hex(): entries for pack, entries in segments[name]}
        if damaged or not segments:
            packs |= self.read_trailers(known=packs)
        self.index = {}
        for pack, entries in sorted(packs.items()):
            for ordinal, entry in enumerate(entries):
                self.index.setdefault((entry.kind, entry.id), []).append((pack, ordinal, entry))

    def read_trailers(self, known) -> dict:
        """The entries of the packs that no segment named, from the packs themselves."""
        packs = {}
        for path in named(self.directory / "packs", "[0-9a-f]{2}"):
            for pack in named(path, path.name + HASH.replace("64", "62")):
                if pack.name not in known:
                    try:
                        data = pack.read_bytes()
                        packs[pack.name] = format.decode_trailer(data[:PACK_HEAD], data, len(data), *self.keys)
                    except (OSError, FormatError) as error:
                        warn(f"{pack}: {error}")
        return packs

    def fetch(self, kind: int, blob_id: bytes) -> bytes:
        """The plain blob, from any pack that holds it whole."""
        if self.index is None:
            self.load_index()
        for pack, ordinal, entry in self.index.get((kind, blob_id), []):
            path = self.directory / "packs" / pack[:2] / pack
            try:
                with path.open("rb") as file:
                    head = file.read(PACK_HEAD)
                    file.seek(entry.offset)
                    sealed = file.read(entry.stored_length)
                return format.open_blob(head, ordinal, entry, sealed, *self.keys)
            except (OSError, FormatError) as error:
                warn(f"{path}: {error}")
        what = {CHUNK: "chunk", NODE: "node"}[kind]
        raise FormatError("missing", f"no whole copy of {what} {blob_id.hex()}")


def open_projects(repository: Path, password: bytes) -> list[Project]:
    """All projects that the password opens."""
    read_either(repository / "cuttlebone", format.decode_repository)
    secret = open_slots(repository / "keys", None, password)
    if secret:
        read_either(repository / "cuttlebone", lambda data: format.decode_repository(data, secret))
    projects = []
    for directory in named(repository / "projects", PROJECT_ID):
        try:
            if secret:
                projects.append(Project(directory, repository_secret=secret))
            elif own := open_slots(directory / "keys", bytes.fromhex(directory.name), password):
                projects.append(Project(directory, project_secret=own))
        except (OSError, FormatError) as error:
            warn(f"{directory}: {error}")
    if not secret and not projects:
        raise FormatError("does-not-open", "the password opens nothing here")
    return projects


# ---- What becomes of the chunks ----------------------------------------------------------------


def restore(content: format.Content, fetch, out: Path):
    """Holes stay holes: only chunks that exist are written."""
    with out.open("wb") as file:
        for offset, plain in format.walk(content, fetch):
            file.seek(offset)
            file.write(plain)
        file.truncate(content.size)


def digest(content: format.Content, fetch, hasher) -> str:
    zeros, at = bytes(format.MIB), 0

    def skip_to(end):
        for start in range(at, end, len(zeros)):
            hasher.update(zeros[: end - start])

    for offset, plain in format.walk(content, fetch):
        skip_to(offset)
        hasher.update(plain)
        at = offset + len(plain)
    skip_to(content.size)
    return hasher.hexdigest()


# ---- Test vectors ------------------------------------------------------------------------------


def as_json(value):
    """Decoded values as the vectors write them: bytes as hexadecimal."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {name: as_json(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    return value


def entry_fields(entry: format.Entry) -> dict:
    return {name: value for name, value in entry._asdict().items() if name != "raw"}


def check_keys(secret=None, password=None, salt=None, memory_kib=None, passes=None, lanes=None):
    if secret is not None:
        return {name: format.derive(name, secret) for name in format.LABELS}
    return {"key": format.argon2id(password, salt, memory_kib, passes, lanes)}


def check_ids(project_secret, kind, plain=None, size=None, chunk_size=None, top=None):
    if plain is not None:
        return {"id": format.blob_id({"chunk": CHUNK, "node": NODE}[kind], plain, project_secret)}
    return {"root": format.root_of(format.Content(kind, size, chunk_size, top, b""), project_secret)}


def check_pack(*args):
    return {"blobs": [entry_fields(entry) | {"plain": plain} for entry, plain in format.decode_pack(*args)]}


def check_index(*args):
    packs, superseded = format.decode_index(*args)
    packs = [{"pack": pack, "entries": [entry_fields(entry) for entry in entries]} for pack, entries in packs]
    return {"packs": packs, "superseded": superseded}


def check_node(data):
    node = format.decode_node(data)
    if node.type in (format.SLOT, format.BRANCH):
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
    whole = digest(content, fetch, format.blake3()) if content.size <= 64 * format.MIB else None
    return {"pieces": pieces} | ({"blake3": whole} if whole else {})


def check_whole(password, files, changes, volume):
    files = {name: data for name, data in (files | changes).items() if data is not None}
    with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stderr(io.StringIO()):
        for name, data in files.items():
            path = Path(directory, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes.fromhex(data))
        project, record = choose(open_projects(Path(directory), password), None, volume)
        content = format.decode_content(record["content"])
        return {"record": record, "blake3": digest(content, project.fetch, format.blake3())}


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
    "whole": lambda i, _: check_whole(**i),
}
NOT_HEX = {"kind", "volume"}


def run_vectors(directory: Path) -> bool:
    """Runs every case of every file that is known by name; prints what differs."""
    total = failed = 0
    for path in sorted(directory.glob("*.json")):
        shared = {}
        for case in json.loads(path.read_text()):
            inputs = {
                name: bytes.fromhex(value) if isinstance(value, str) and name not in NOT_HEX else value
                for name, value in case["inputs"].items()
            }
            if path.stem == "whole":
                shared["files"] = inputs.get("files") or shared["files"]
                inputs |= shared
            try:
                result = {"ok": as_json(CHECKS[path.stem](inputs, bytes.fromhex(case.get("object", ""))))}
            except FormatError as error:
                result = {"error": error.kind}
            total += 1
            if result != case["expect"]:
                failed += 1
                print(f"{path.name}: {case['name']}: expected {case['expect']}, got {result}")
    print(f"{total} cases, {failed} failed")
    return total > 0 and not failed


# ---- Command line ------------------------------------------------------------------------------


def choose(projects: list[Project], prefix: str | None, volume: str | None) -> tuple[Project, dict]:
    """The backup of that prefix, or the newest one of the volume."""
    found = [(project, name, record) for project in projects for name, record in project.records().items()]
    if prefix is not None:
        found = [item for item in found if item[1].startswith(prefix)]
        if len(found) > 1:
            sys.exit(f"error: {len(found)} backups begin with {prefix}")
    if volume is not None:
        found = [item for item in found if item[2]["volume"]["name"] == volume]
    require(found, "missing", "there is no such backup")
    if len({item[2]["volume"]["id"] for item in found}) > 1:
        sys.exit("error: several volumes fit; give --project, --volume or --backup")
    project, _, record = max(found, key=lambda item: format.timestamp(item[2], "time"))
    return project, record


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("repository", metavar="REPO", type=Path, nargs="?")
    parser.add_argument("--project", metavar="NAME", help="only this project")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--backup", metavar="HASHPREFIX", help="the backup whose record has this name")
    which.add_argument("--volume", metavar="NAME", help="the newest backup of this volume")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--list", action="store_true", help="list backups")
    what.add_argument("-o", dest="out", metavar="OUT", type=Path, help="restore to this file")
    what.add_argument("--sha256", action="store_true", help="print the SHA-256 of the content")
    what.add_argument("--vectors", metavar="DIR", type=Path, help="check test vectors; needs no REPO")
    args = parser.parse_args()
    if args.vectors:
        sys.exit(not run_vectors(args.vectors))
    if args.repository is None:
        parser.error("REPO is missing")

    projects = open_projects(args.repository, os.fsencode(os.environ.get("CUTTLEBONE_PASSWORD", "")))
    projects = [project for project in projects if args.project in (None, project.name)]
    if args.list:
        for project in projects:
            for name, record in project.records().items():
                content = record["content"]
                columns = project.name, record["volume"]["name"], content["kind"], str(content["size"])
                print(name[:16], record["time"], *columns, sep="\t")
        return
    project, record = choose(projects, args.backup, args.volume)
    content = format.decode_content(record["content"])
    if args.out:
        restore(content, project.fetch, args.out)
    else:
        print(digest(content, project.fetch, hashlib.sha256()))


if __name__ == "__main__":
    try:
        main()
    except (OSError, FormatError) as error:
        sys.exit(f"error: {error}")
