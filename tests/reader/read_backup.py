#!/usr/bin/env python3
"""Restores a backup from a cuttlebone repository, written from docs/format.md alone.

The password comes from the environment variable CUTTLEBONE_PASSWORD. Damage that a second copy makes
up for is a warning on standard error; other damage ends the program.
"""

import argparse
import functools
import hashlib
import os
import re
import sys
from pathlib import Path

import cuttlebone_format as format
from cuttlebone_format import CHUNK, NODE, PACK_HEAD, FormatError, require

HASH, PROJECT_ID = "[0-9a-f]{64}", "[0-9a-f]{32}"
RUNS_KEPT = 16


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


def open_slots(directory: Path, project_id: bytes | None, password: bytes) -> bytes | None:
    """Returns the secret of the first key slot in `directory` that the password opens."""
    names = sorted({path.name.removesuffix(".copy") for path in named(directory, HASH + r"(\.copy)?")})
    for name in names:
        for path in (directory / name, directory / (name + ".copy")):
            try:
                return format.decode_slot(path.read_bytes(), bytes.fromhex(name), project_id, password)["secret"]
            except FormatError as error:
                if error.kind == "does-not-open":
                    break  # Whole, but for another password; so is its copy.
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
        # Neighbouring chunks share a run, and a changed file uses several runs in turn.
        self.open_run = functools.lru_cache(maxsize=RUNS_KEPT)(self.open_run)

    def records(self) -> dict[str, dict]:
        """Returns all whole records by name, the newest last."""
        records = {}
        for path in named(self.directory / "backups", HASH):
            try:
                records[path.name] = format.decode_record(path.read_bytes(), bytes.fromhex(path.name), *self.keys)
            except (OSError, FormatError) as error:
                warn(f"{path}: {error}")
        return dict(sorted(records.items(), key=lambda item: (format.timestamp(item[1]["time"]), item[0])))

    def load_index(self):
        """Maps (kind, id) to all its places: [(pack, ordinal of the run, place in the run)]."""
        packs, superseded, segments, errors = {}, set(), {}, {}
        for path in named(self.directory / "index", HASH):
            try:
                segments[path.name], names = format.decode_index(
                    path.read_bytes(), bytes.fromhex(path.name), *self.keys
                )
                superseded.update(name.hex() for name in names)
            except (OSError, FormatError) as error:
                errors[path.name] = error
        damaged = errors.keys() - superseded
        for name in sorted(damaged):
            warn(f"{self.directory / 'index' / name}: {errors[name]}")
        for name in segments.keys() - superseded:
            packs |= {listing.pack.hex(): (listing.nonce, listing.contents) for listing in segments[name]}
        if damaged or not segments:
            packs |= self.read_contents(known=packs)
        self.index, self.packs = {}, packs
        for pack, (_, contents) in sorted(packs.items()):
            for ordinal, run in enumerate(contents.runs):
                for place, blob in enumerate(run.blobs):
                    self.index.setdefault((contents.kind, blob.id), []).append((pack, ordinal, place))

    def read_contents(self, known) -> dict:
        """Reads nonce and contents of packs that no segment names, from the packs themselves."""
        packs = {}
        for path in named(self.directory / "packs", "[0-9a-f]{2}"):
            for pack in named(path, path.name + HASH.replace("64", "62")):
                if pack.name not in known:
                    try:
                        data = pack.read_bytes()
                        packs[pack.name] = format.decode_contents(data[:PACK_HEAD], data, len(data), *self.keys)
                    except (OSError, FormatError) as error:
                        warn(f"{pack}: {error}")
        return packs

    def path_of(self, pack: str) -> Path:
        return self.directory / "packs" / pack[:2] / pack

    def open_run(self, pack: str, ordinal: int) -> bytes:
        """Returns the joined blobs of a run. The last few runs are cached."""
        nonce, contents = self.packs[pack]
        run = contents.runs[ordinal]
        with self.path_of(pack).open("rb") as file:
            file.seek(run.offset)
            sealed = file.read(run.stored_length)
        return format.open_run(nonce, ordinal, run, sealed, *self.keys)

    def fetch(self, kind: int, blob_id: bytes) -> bytes:
        """Returns the plain blob, from any pack that holds it whole."""
        if self.index is None:
            self.load_index()
        for pack, ordinal, place in self.index.get((kind, blob_id), []):
            try:
                run = self.packs[pack][1].runs[ordinal]
                return format.cut_blob(run, place, self.open_run(pack, ordinal), self.secret)
            except (OSError, FormatError) as error:
                warn(f"{self.path_of(pack)}: {error}")
        what = {CHUNK: "chunk", NODE: "node"}[kind]
        raise FormatError("missing", f"no whole copy of {what} {blob_id.hex()}")


def open_projects(repository: Path, password: bytes) -> list[Project]:
    """Returns all projects that the password opens."""
    read_either(repository / "cuttlebone", format.decode_repository)
    secret = open_slots(repository / "keys", None, password)
    if secret:
        read_either(repository / "cuttlebone", lambda data: format.decode_repository(data, secret))
    projects = []
    for directory in named(repository / "projects", PROJECT_ID):
        try:
            if secret:
                project = Project(directory, repository_secret=secret)
            elif own := open_slots(directory / "keys", bytes.fromhex(directory.name), password):
                project = Project(directory, project_secret=own)
            else:
                continue
            if project.name in [other.name for other in projects]:
                warn(f"{directory}: another project is called {project.name}; this one is ignored")
            else:
                projects.append(project)
        except (OSError, FormatError) as error:
            warn(f"{directory}: {error}")
    if not secret and not projects:
        raise FormatError("does-not-open", "the password opens nothing here")
    return projects


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
    """Reads all backups and prints the SHA-256 of each. Returns False after any warning."""
    for project in projects:
        for name, record in project.records().items():
            try:
                content = format.decode_content(record["content"])
                hashed = digest(content, project.fetch, hashlib.sha256(), strict=True)
                print(hashed, name, project.name, record["volume"]["name"], sep="\t")
            except FormatError as error:
                warn(f"backup {name}: {error}")
    return not warned


# ---- Command line ------------------------------------------------------------------------------


def choose(projects: list[Project], prefix: str | None, volume: str | None) -> tuple[Project, dict]:
    """Returns the backup with that prefix, or the newest one of the volumes of that name."""
    found = [(project, name, record) for project in projects for name, record in project.records().items()]
    if prefix is not None:
        found = [item for item in found if item[1].startswith(prefix)]
        if len(found) > 1:
            sys.exit(f"error: {len(found)} backups begin with {prefix}")
    if volume is not None:
        found = [item for item in found if item[2]["volume"]["name"] == volume]
    require(found, "missing", "there is no such backup")
    if len({(item[0].id, item[2]["volume"]["name"]) for item in found}) > 1:
        sys.exit("error: several volumes fit; give --project, --volume or --backup")
    project, _, record = found[-1]
    return project, record


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("repository", metavar="REPO", type=Path)
    parser.add_argument("--project", metavar="NAME", help="only this project")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--backup", metavar="HASHPREFIX", help="the backup whose record has this name")
    which.add_argument("--volume", metavar="NAME", help="the newest backup of this volume")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--list", action="store_true", help="list backups")
    what.add_argument("--check", action="store_true", help="read all backups, print the SHA-256 of each")
    what.add_argument("-o", dest="out", metavar="OUT", type=Path, help="restore to this file")
    what.add_argument("--sha256", action="store_true", help="print the SHA-256 of the content")
    args = parser.parse_args()

    projects = open_projects(args.repository, os.fsencode(os.environ.get("CUTTLEBONE_PASSWORD", "")))
    projects = [project for project in projects if args.project in (None, project.name)]
    if args.check:
        sys.exit(not check(projects))
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
