#!/usr/bin/env python3
"""Restores a backup from a cuttlebone repository, written from docs/format.md alone.

The password comes from the environment variable CUTTLEBONE_PASSWORD. If a second copy of a damaged
object is whole, the program prints a warning to standard error. Other damage that concerns the
backup ends the program.
"""

import argparse
import contextlib
import functools
import hashlib
import os
import re
import sys
import unicodedata
from pathlib import Path
from typing import Any

import cuttlebone_format as format
from cuttlebone_format import CHUNK, NODE, PACK_HEAD, FormatError, require

HASH, PROJECT_ID = "[0-9a-f]{64}", "[0-9a-f]{32}"
RUNS_KEPT = 16
SLOTS = 64
DIRECTORY = {CHUNK: "packs", NODE: "trees"}


warned = []


def warn(text):
    warned.append(text)
    print(f"warning: {text}", file=sys.stderr)


def named(directory: Path, pattern: str) -> list[Path]:
    """Returns the entries whose names match the pattern; a reader ignores all others."""
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if re.fullmatch(pattern, path.name))


def read_either(path: Path, decode):
    """Decodes the object, or its copy if the object is missing or damaged."""
    first_error = None
    for candidate in (path, path.with_name(path.name + ".copy")):
        try:
            return decode(candidate.read_bytes())
        except (OSError, FormatError) as error:
            warn(f"{candidate}: {error}")
            error = error if isinstance(error, FormatError) else FormatError("missing", str(error))
            first_error = first_error or error
    raise first_error


def open_slots(directory: Path, project_id: bytes | None, password: bytes) -> format.Slot | None:
    """Returns the first key slot in `directory` that the password opens. None if it opens none."""
    names = sorted(
        {path.name.removesuffix(".copy") for path in named(directory, HASH + r"(\.copy)?")}
    )
    for name in names[:SLOTS]:
        for path in (directory / name, directory / (name + ".copy")):
            try:
                return format.decode_slot(
                    path.read_bytes(), bytes.fromhex(name), project_id, password
                )
            except FormatError as error:
                if error.kind == "does-not-open":
                    break  # The slot is whole but has another password, and so has its copy.
                warn(f"{path}: {error}")
            except OSError as error:
                warn(error)
    return None


def passwords(given: bytes) -> list[bytes]:
    """Returns the password as given and, if that differs, in Normalisation Form C."""
    try:
        return list(dict.fromkeys([given, unicodedata.normalize("NFC", given.decode()).encode()]))
    except UnicodeDecodeError:
        return [given]


class Project:
    def __init__(self, directory: Path, bundle: dict[str, bytes]):
        self.directory, self.id = directory, bytes.fromhex(directory.name)
        self.damaged, self.foreign = set(), set()  # names of records
        self.keys, _ = read_either(
            directory / "project", lambda data: format.decode_project(data, self.id, bundle)
        )  # fmt: skip
        self.signers = format.Signers(self.keys.signing_public)
        self.settings = self.read_settings()
        self.name = self.settings["name"] if self.settings else directory.name
        self.read_signers()
        self.index = None
        # Cache some runs: neighbouring chunks share a run, and a changed file uses several runs in
        # turn.
        self.open_run = functools.lru_cache(maxsize=RUNS_KEPT)(self.open_run)

    def batched(self, directory: str) -> dict[str, bytes]:
        """Returns the objects of this directory that batches contain, by name."""
        found = {}
        for path in named(self.directory / "batches", HASH):
            try:
                name = bytes.fromhex(path.name)
                batch = format.decode_batch(path.read_bytes(), name, self.id)
            except (OSError, FormatError) as error:
                warn(f"{path}: {error}")
                continue
            found |= {
                item.hash.hex(): item.bytes
                for item in batch
                if format.BATCHED[item.kind] == directory
            }
        return found

    def decoded(self, directory: str, decode) -> dict[str, Any]:
        """Returns all objects of a directory that `decode(data, name)` can decode, by name."""
        found = {}
        # An object in a batch counts as if it were stored under its own name.
        batched = self.batched(directory) if directory in format.BATCHED.values() else {}
        names = batched.keys() | {path.name for path in named(self.directory / directory, HASH)}
        for name in sorted(names):
            path = self.directory / directory / name
            try:
                data = path.read_bytes() if path.exists() else batched[name]
                found[name] = decode(data, bytes.fromhex(name))
            except (OSError, FormatError) as error:
                warn(f"{path}: {error}")
                kind = getattr(error, "kind", "missing")
                is_foreign = kind in ("foreign", "bad-signature")
                unusable = self.foreign if is_foreign else self.damaged
                unusable |= {name} if directory == "backups" else set()
        return found

    def twins(self, directory: str) -> list[Path]:
        """Returns the paths of objects that are kept twice. One of the copies may be missing."""
        paths = named(self.directory / directory, HASH + r"(\.copy)?")
        return sorted({path.with_name(path.name.removesuffix(".copy")) for path in paths})

    def read_settings(self) -> dict | None:
        def decode(data, name):
            try:
                return format.decode_settings(data, name, self.keys)
            except FormatError as error:
                if error.kind in ("bad-version", "unknown-feature"):
                    newer.append(error)
                raise

        newer, found = [], {}
        for path in self.twins("settings"):
            with contextlib.suppress(FormatError):  # read_either has printed a warning.
                name = bytes.fromhex(path.name)
                found[path.name] = read_either(path, lambda data: decode(data, name))  # noqa: B023
        if newer:
            raise newer[0]
        if not found:
            warn(f"{self.directory}: no settings")
            return None
        return max(found.items(), key=lambda item: (item[1]["revision"], item[0]))[1]

    def read_signers(self):
        """Reads the certificates, and the log, which names revoked signers and removed objects."""
        for path in self.twins("writers"):
            with contextlib.suppress(FormatError):  # read_either has printed a warning.
                name = bytes.fromhex(path.name)
                self.signers.certificates[name] = read_either(
                    path,
                    lambda data: format.decode_certificate(data, name, self.keys),  # noqa: B023
                )
        self.log = self.decoded("log", lambda data, name: format.decode_log(data, name, self.keys))
        self.removed = {}
        self.removed_segments = set()
        for entry in self.log.values():
            self.removed_segments |= {name.hex() for kind, name in entry.removed if kind == 2}
            for revoked in entry.body and entry.body.get("revoked") or []:
                accepted = map(bytes.fromhex, revoked.get("accepted") or [])
                self.signers.revoked.setdefault(bytes.fromhex(revoked["signer"]), []).extend(
                    accepted
                )
            for removed in entry.body and entry.body.get("removed_records") or []:
                self.removed[removed["record"]] = removed

    def records(self) -> dict[str, dict]:
        """Returns all records that count, by name. In each volume, the newest is the last one."""
        read = self.decoded(
            "backups", lambda data, name: format.decode_record(data, name, self.keys, self.signers)
        )
        self.read = {name: record for name, (record, _) in read.items()}
        self.signed = signed = {name: signer for name, (_, signer) in read.items()}
        records = {name: record for name, (record, _) in read.items()}
        self.voided = set()
        for void, signer in self.decoded(
            "voids", lambda data, name: format.decode_void(data, name, self.keys, self.signers)
        ).values():
            if signed.get(void["record"], signer) == signer:
                self.voided.add(void["record"])
            else:
                warn(f"a void of record {void['record']}: its signer is not the record's (foreign)")
        kept = format.without_revoked(records, signed, self.signers)
        for name in records.keys() - kept.keys():
            warn(f"record {name}: its signer was revoked (foreign)")
        full = {name for name in kept if signed[name] == self.signers.authority}
        ordered = {}
        for volume in sorted({record["volume"]["name"] for record in kept.values()}):
            own = {
                name: record for name, record in kept.items() if record["volume"]["name"] == volume
            }
            passed = {name: own.pop(name) for name in self.voided & own.keys()}
            ordered |= {name: passed[name] for name in sorted(passed)}
            passed |= {
                name: removed
                for name, removed in self.removed.items()
                if name not in own and removed["volume"]["name"] == volume
            }
            counting = full | self.removed.keys()
            ordered |= {
                name: own[name] for name in reversed(format.newest_first(own, passed, counting))
            }
        return ordered

    def require_certain(self, name: str):
        """Fails if a lost record may be newer than the record `name`, and of the same volume."""
        excused = {hash.hex() for entry in self.log.values() for _, hash in entry.removed}
        for entry in self.log.values():
            excused |= set(entry.body and entry.body.get("lost") or [])
        full = [record for name, record in self.read.items()
                if self.signed[name] == self.signers.authority]  # fmt: skip
        lost = set.union(set(), *map(format.references, [*full, *self.removed.values()]))
        for entry in self.log.values():
            lost |= {name.hex() for kind, name in entry.added if kind == 1}
            for revoked in entry.body and entry.body.get("revoked") or []:
                lost |= set(revoked.get("accepted") or [])
        lost |= self.damaged
        lost -= self.read.keys() | excused | self.foreign
        # A record follows only records of its own volume.
        volume = self.read[name]["volume"]["name"]
        for record in full:
            if record["volume"]["name"] != volume:
                lost -= set(record.get("follows") or [])
        seen, todo = set(), [name]
        while todo:
            if (known := todo.pop()) not in seen:
                seen.add(known)
                todo += format.references(self.read.get(known) or self.removed.get(known) or {})
        for record in sorted(lost - seen):
            require(False, "missing", f"record {record} is lost, and may be of a newer backup")

    def load_index(self):
        """Maps (kind, id) to all its places: [(pack, ordinal of the run, place in the run)]."""
        segments, errors = {}, {}
        for path in named(self.directory / "index", HASH):
            try:
                segments[path.name] = format.decode_index(
                    path.read_bytes(), bytes.fromhex(path.name), self.keys, self.signers
                )
            except (OSError, FormatError) as error:
                errors[path.name] = error
        full = [
            segment for segment in segments.values() if segment.signer == self.signers.authority
        ]
        self.superseded = superseded = {
            name.hex() for segment in full for name in segment.superseded
        } | self.removed_segments
        damaged = errors.keys() - superseded
        for name in sorted(damaged):
            warn(f"{self.directory / 'index' / name}: {errors[name]}")
        # A pack may be listed several times. A false listing must not hide another one.
        self.packs = []
        for name, segment in sorted(segments.items(), key=lambda item: item[0] in superseded):
            for listing in segment.packs:
                if name not in superseded or self.path_of(listing).exists():
                    self.packs.append(listing)
        if damaged or not segments:
            self.packs += self.read_contents(known={listing.pack for listing in self.packs})
        self.index = {}
        for number, listing in enumerate(self.packs):
            for ordinal, run in enumerate(listing.contents.runs):
                for place, blob in enumerate(run.blobs):
                    found = self.index.setdefault((listing.contents.kind, blob.id), [])
                    found.append((number, ordinal, place))

    def read_contents(self, known: set[bytes]) -> list[format.Listing]:
        """Reads the contents of packs that no segment names, from the packs themselves."""
        found = []
        for kind, directory in DIRECTORY.items():
            for path in named(self.directory / directory, "[0-9a-f]{2}"):
                for pack in named(path, path.name + HASH.replace("64", "62")):
                    if bytes.fromhex(pack.name) not in known:
                        try:
                            found.append(self.read_listing(pack, kind))
                        except (OSError, FormatError) as error:
                            warn(f"{pack}: {error}")
        return found

    def read_listing(self, path: Path, kind: int) -> format.Listing:
        """Reads a whole pack and checks everything that needs no key of its runs."""
        data, name = path.read_bytes(), bytes.fromhex(path.name)
        format.check_name(data, name)
        listing = format.decode_contents(
            name, data[:PACK_HEAD], data, len(data), self.keys, self.signers, data
        )
        require(listing.contents.kind == kind, "bad-value", "a pack in the other directory")
        return listing

    def path_of(self, listing: format.Listing) -> Path:
        name = listing.pack.hex()
        return self.directory / DIRECTORY[listing.contents.kind] / name[:2] / name

    def open_run(self, number: int, ordinal: int) -> bytes:
        """Returns the joined blobs of a run. The last few runs are cached."""
        listing = self.packs[number]
        run = listing.contents.runs[ordinal]
        with self.path_of(listing).open("rb") as file:
            file.seek(run.offset)
            sealed = file.read(run.stored_length)
        return format.open_run(listing, ordinal, sealed, self.keys)

    def places(self, kind: int, blob_id: bytes) -> list[tuple[int, int, int]]:
        if self.index is None:
            self.load_index()
        return self.index.get((kind, blob_id), [])

    def fetch(self, kind: int, blob_id: bytes) -> bytes:
        """Returns the plain blob, from any pack that holds it undamaged."""
        for number, ordinal, place in self.places(kind, blob_id):
            try:
                joined = self.open_run(number, ordinal)
                return format.cut_blob(self.packs[number], ordinal, place, joined, self.keys)
            except (OSError, FormatError) as error:
                if getattr(error, "kind", None) == "no-key":
                    raise
                warn(f"{self.path_of(self.packs[number])}: {error}")
        what = {CHUNK: "chunk", NODE: "node"}[kind]
        raise FormatError("missing", f"no whole copy of {what} {blob_id.hex()}")

    def find(self, kind: int, blob_id: bytes) -> bytes:
        """Returns a node. For a chunk, returns zeros of its length if an existing pack lists it."""
        if kind == NODE:
            return self.fetch(kind, blob_id)
        for number, ordinal, place in self.places(kind, blob_id):
            if self.path_of(self.packs[number]).exists():
                return bytes(self.packs[number].contents.runs[ordinal].blobs[place].plain_length)
        raise FormatError("missing", f"no pack with chunk {blob_id.hex()}")


def open_projects(repository: Path, password: bytes) -> list[Project]:
    """Returns all projects that the password opens."""
    read_either(repository / "cuttlebone", format.decode_repository)
    for form in passwords(password):
        if projects := open_projects_with(repository, form):
            return projects
    raise FormatError("does-not-open", "the password opens nothing here")


def open_projects_with(repository: Path, password: bytes) -> list[Project] | None:
    slot = open_slots(repository / "keys", None, password)
    if slot:
        secret = slot.bundle["repository_secret"]
        read_either(repository / "cuttlebone", lambda data: format.decode_repository(data, secret))
    projects, opened = [], slot is not None
    for directory in named(repository / "projects", PROJECT_ID):
        try:
            own = slot or open_slots(directory / "keys", bytes.fromhex(directory.name), password)
            if own is None:
                continue
            opened = True
            project = Project(directory, own.bundle)
            if project.name in [other.name for other in projects]:
                warn(f"{directory}: another project is called {project.name}; this one is ignored")
            else:
                projects.append(project)
        except (OSError, FormatError) as error:
            warn(f"{directory}: {error}")
    return projects if opened else None


# ---- Restore, digest, check --------------------------------------------------------------------


def restore(content: format.Content, fetch, out: Path):
    """Writes only chunks that exist, so that holes stay holes."""
    with out.open("wb") as file:
        for offset, plain in format.walk(content, fetch):
            file.seek(offset)
            file.write(plain)
        file.truncate(content.size)


def digest(content: format.Content, fetch, hasher, strict=False) -> str:
    zeros, at = bytes(format.MIB), 0

    def skip_to(end):
        for start in range(at, end, len(zeros)):
            hasher.update(zeros[: end - start])

    for offset, plain in format.walk(content, fetch, strict):
        skip_to(offset)
        hasher.update(plain)
        at = offset + len(plain)
    skip_to(content.size)
    return hasher.hexdigest()


def check(projects: list[Project]) -> bool:
    """Reads all backups and prints the SHA-256 of each. Returns False after any warning.

    With a role that cannot open chunks, does not check them, and prints a dash for the SHA-256."""
    for project in projects:
        for name, record in project.records().items():
            try:
                hashed = "-"
                attachments = map(format.attachment_content, record.get("attachments") or [])
                for content in [*attachments, format.decode_content(record["content"])]:
                    if project.keys.data:
                        hashed = digest(content, project.fetch, hashlib.sha256(), strict=True)
                    else:
                        for _ in format.walk(content, project.find):
                            pass
                print(hashed, name, project.name, record["volume"]["name"], sep="\t")
            except FormatError as error:
                warn(f"backup {name}: {error}")
        for kind, directory in DIRECTORY.items():
            for path in sorted((project.directory / directory).glob("??/" + "?" * 64)):
                try:
                    project.read_listing(path, kind)
                except (OSError, FormatError) as error:
                    warn(f"{path}: {error}")
    return not warned


# ---- Command line ------------------------------------------------------------------------------


def choose(projects: list[Project], prefix: str | None, volume: str | None) -> tuple[Project, dict]:
    """Returns the backup whose name has this prefix, or the newest one of the volume."""
    found = [
        (project, name, record)
        for project in projects
        for name, record in project.records().items()
    ]
    if prefix is not None:
        found = [item for item in found if item[1].startswith(prefix)]
        if len(found) > 1:
            sys.exit(f"error: {len(found)} backups begin with {prefix}")
    if volume is not None:
        named = [item for item in found if item[2]["volume"]["name"] == volume]
        found = [item for item in named if item[1] not in item[0].voided]
    require(found, "missing", "there is no such backup")
    if len({(item[0].id, item[2]["volume"]["name"]) for item in found}) > 1:
        sys.exit("error: several volumes fit; give --project, --volume or --backup")
    project, name, record = found[-1]
    if volume is not None:
        project.require_certain(name)
    return project, record


def chosen_content(record: dict, attachment: str | None) -> format.Content:
    if attachment is None:
        return format.decode_content(record["content"])
    named = [a for a in record.get("attachments") or [] if a["name"] == attachment]
    require(named, "missing", "the backup has no such attachment")
    return format.attachment_content(named[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("repository", metavar="REPO", type=Path)
    parser.add_argument("--project", metavar="NAME", help="only this project")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--backup", metavar="HASHPREFIX", help="the backup whose record has this name"
    )
    which.add_argument("--volume", metavar="NAME", help="the newest backup of this volume")
    parser.add_argument("--attachment", metavar="NAME", help="read this attachment of the backup")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--list", action="store_true", help="list backups")
    what.add_argument(
        "--check", action="store_true", help="read all backups, print the SHA-256 of each"
    )
    what.add_argument("-o", dest="out", metavar="OUT", type=Path, help="restore to this file")
    what.add_argument("--sha256", action="store_true", help="print the SHA-256 of the content")
    args = parser.parse_args()

    projects = open_projects(
        args.repository, os.fsencode(os.environ.get("CUTTLEBONE_PASSWORD", ""))
    )
    projects = [project for project in projects if args.project in (None, project.name)]
    if args.check:
        sys.exit(not check(projects))
    if args.list:
        for project in projects:
            for name, record in project.records().items():
                content = record["content"]
                columns = (
                    project.name,
                    record["volume"]["name"],
                    content["kind"],
                    str(content["size"]),
                )
                print(name[:16], record["time"], *columns, sep="\t")
        return
    project, record = choose(projects, args.backup, args.volume)
    content = chosen_content(record, args.attachment)
    if args.out:
        restore(content, project.fetch, args.out)
    else:
        print(digest(content, project.fetch, hashlib.sha256()))


if __name__ == "__main__":
    try:
        main()
    except (OSError, FormatError) as error:
        sys.exit(f"error: {error}")
