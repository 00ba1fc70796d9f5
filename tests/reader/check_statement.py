#!/usr/bin/env python3
"""Finds out whether a repository was rolled back after a statement of “cuttlebone head”.

Written from docs/format.md alone (section 12). It needs no key and no password.
"""

import argparse
import re
import sys
from pathlib import Path

from cuttlebone_format import (
    H,
    Entry,
    Fields,
    FormatError,
    check_name,
    check_signature,
    decode_batch,
    decode_plain_log,
    log_set,
    require,
    take_magic,
)

DIRECTORIES = {
    1: "backups", 2: "index", 3: "packs", 4: "trees", 5: "writers", 6: "settings", 7: "voids",
    8: "audits",
}  # fmt: skip
STATEMENT = (
    r"cuttlebone:head:1:([0-9a-f]{32}):([0-9]+):([0-9a-f]{40,64}):([0-9a-f]{40})"
    r":([bdfghjklmnprstvzaiou]{5}-[bdfghjklmnprstvzaiou]{5})"
)


def word(number: int) -> str:
    """Writes 16 bits as a word of five letters."""
    consonants, vowels = "bdfghjklmnprstvz", "aiou"
    letters = [(consonants, 12, 15), (vowels, 10, 3), (consonants, 6, 15), (vowels, 4, 3)]
    return "".join(
        choice[number >> shift & mask] for choice, shift, mask in [*letters, (consonants, 0, 15)]
    )


def parse(text: str) -> tuple[bytes, int, str, bytes]:
    """Returns the id of the project, number and hash digits of the entry, and the fingerprint."""
    match = re.fullmatch(STATEMENT, text.strip().lower())
    require(match, "bad-value", "this is no statement")
    project_id, number, digits, fingerprint, checksum = match.groups()
    project_id, fingerprint = bytes.fromhex(project_id), bytes.fromhex(fingerprint)
    require(int(number) < 2**64, "bad-value", "the number is too large")
    shown = int(number).to_bytes(8, "little") + bytes.fromhex(digits[:40]) + fingerprint
    c = H(b"cuttlebone head\0" + project_id + shown)[:4]
    words = [word(int.from_bytes(c[at : at + 2], "big")) for at in (0, 2)]
    require("-".join(words) == checksum, "bad-hash", "the checksum does not fit: copy it again")
    return project_id, int(number), digits, fingerprint


def signing_key(directory: Path, fingerprint: bytes) -> bytes:
    """Returns the public key that signs the log, from either copy of the project object."""
    for path in (directory / "project", directory / "project.copy"):
        if not path.is_file():
            continue
        data = path.read_bytes()
        try:
            header = take_magic(Fields(data), b"CTLBproj")
            public = data[88:120]
            require(H(public)[:20] == fingerprint, "bad-key", "another key signs the log")
            check_signature(public, bytes.fromhex(directory.name), header, data[:-64], data[-64:])
            return public
        except FormatError as error:
            print(f"warning: {path}: {error}", file=sys.stderr)
    raise FormatError("missing", "no project object with the key of the statement")


def read_batches(directory: Path, project_id: bytes) -> dict[tuple[int, bytes], bytes]:
    """Returns the objects in batches, by kind and name. They count like those in files."""
    found = {}
    for path in sorted((directory / "batches").glob("?" * 64)):
        try:
            for item in decode_batch(path.read_bytes(), bytes.fromhex(path.name), project_id):
                found[item.kind, item.hash] = item.bytes
        except (OSError, ValueError, FormatError) as error:
            print(f"warning: {path}: {error}", file=sys.stderr)
    return found


def read_log(directory: Path, project_id: bytes, public: bytes, batched) -> dict[bytes, Entry]:
    entries = {}
    files = {name.hex(): data for (kind, name), data in batched.items() if kind == 0}
    paths = {path.name: path for path in (directory / "log").glob("?" * 64)}
    for name in sorted(files.keys() | paths.keys()):
        try:
            data = paths[name].read_bytes() if name in paths else files[name]
            hash_ = bytes.fromhex(name)
            entries[hash_], _, _ = decode_plain_log(data, hash_, project_id, public)
        except (OSError, ValueError, FormatError) as error:
            print(f"warning: log/{name}: {error}", file=sys.stderr)
    return entries


def is_whole(directory: Path, kind: int, name: bytes, batched) -> bool:
    """Returns whether a batch holds the object, or a file of it has the hash that names it."""
    if (kind, name) in batched:
        return True
    place = directory / DIRECTORIES.get(kind, "parity")
    if kind in (3, 4):
        place /= name.hex()[:2]
    for path in (place / name.hex(), place / (name.hex() + ".copy")):
        try:
            check_name(path.read_bytes(), name)
            return True
        except (OSError, FormatError):
            continue
    return False


def check(repository: Path, text: str) -> list[str]:
    """Returns the faults. There are none if each object that the statement covers is whole, or if
    an entry removes it."""
    project_id, number, digits, fingerprint = parse(text)
    directory = repository / "projects" / project_id.hex()
    require(directory.is_dir(), "missing", "the project is not there")
    public = signing_key(directory, fingerprint)
    batched = read_batches(directory, project_id)
    entries = read_log(directory, project_id, public, batched)
    names = [name for name in entries if name.hex().startswith(digits)]
    if not names:
        return ["the entry is not in the log: the repository was rolled back"]
    [name] = names
    require(entries[name].number == number, "bad-value", "the entry has another number")
    removed = {item for entry in entries.values() for item in entry.removed}
    try:
        stood_for = log_set(entries, name)
    except KeyError as error:
        return [f"log entry {error.args[0].hex()} is missing"]
    return [
        f"{DIRECTORIES.get(kind, 'parity')}/{item.hex()} is missing or damaged, and no entry"
        " removes it"
        for kind, item in sorted(stood_for - removed)
        if not is_whole(directory, kind, item, batched)
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("repository", metavar="REPO", type=Path)
    parser.add_argument("statement", metavar="CUTTLEBONE:HEAD:…", help="the content of the QR code")
    args = parser.parse_args()
    faults = check(args.repository, args.statement)
    for fault in faults:
        print(fault)
    if not faults:
        print("all objects that the statement covers exist, or were removed by an entry of the log")
    sys.exit(bool(faults))


if __name__ == "__main__":
    try:
        main()
    except (OSError, FormatError) as error:
        sys.exit(f"error: {error}")
