#!/usr/bin/env python3
"""Checks statements of “cuttlebone head” against tiny repositories, some of which lack objects.

Run: python tests/reader/test_statement.py"""

import shutil
import subprocess
import sys
import unittest
from pathlib import Path

from check_statement import word
from cuttlebone_format import H
from in_repository import HERE, InRepository

KINDS = {"backups": 1, "index": 2, "packs": 3, "trees": 4, "settings": 6}


class Statement(InRepository):
    def setUp(self):
        super().setUp()
        self.entry = self.project.put_log(added=self.everything())

    def everything(self) -> list[tuple[int, bytes]]:
        parts = [path.removeprefix(self.project.path).split("/") for path in self.paths("/")]
        return sorted(
            (KINDS[part[0]], bytes.fromhex(part[-1]))
            for part in parts
            if part[0] in KINDS and not part[-1].endswith(".copy")
        )

    def statement(self, number=1, entry=None, digits=64) -> str:
        keys, entry = self.project.keys, entry or self.entry
        fingerprint = H(keys.signing_public)[:20]
        shown = number.to_bytes(8, "little") + entry[:20] + fingerprint
        c = H(b"cuttlebone head\0" + keys.id + shown)
        words = "-".join(word(int.from_bytes(c[at : at + 2], "big")) for at in (0, 2))
        parts = (keys.id.hex(), number, entry.hex()[:digits], fingerprint.hex(), words)
        return ":".join(map(str, ("CUTTLEBONE:HEAD:1", *parts)))

    def check(self, statement: str) -> subprocess.CompletedProcess:
        repository = Path(self.directory.name, "repository")
        shutil.rmtree(repository, ignore_errors=True)
        for name, data in self.files.items():
            path = repository / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        command = [sys.executable, HERE / "check_statement.py", repository, statement]
        return subprocess.run(command, capture_output=True, text=True)

    def assert_holds(self, statement: str):
        done = self.check(statement)
        self.assertEqual(done.returncode, 0, done)

    def assert_fault(self, text: str, statement: str):
        done = self.check(statement)
        self.assertEqual(done.returncode, 1, done)
        self.assertIn(text, done.stdout + done.stderr)

    def test_a_repository_that_has_everything_fits_its_statement(self):
        self.assert_holds(self.statement())
        self.assert_holds(self.statement().upper())
        self.assert_holds(self.statement(digits=40))

    def test_later_entries_do_not_matter(self):
        self.project.put_log(2, [self.entry], added=[(1, bytes(32))])
        self.assert_holds(self.statement())

    def test_a_rollback_is_noticed(self):
        del self.files[f"{self.project.path}log/{self.entry.hex()}"]
        self.assert_fault("rolled back", self.statement())

    def test_each_missing_or_damaged_object_is_named(self):
        for part in "backups", "index", "packs", "trees":
            path = self.paths(f"/{part}/")[0]
            name = path.rsplit("/", 1)[1]
            data = self.files.pop(path)
            self.assert_fault(f"{part}/{name} is missing", self.statement())
            self.files[path] = data[:-1] + bytes([data[-1] ^ 1])
            self.assert_fault(f"{part}/{name} is missing or damaged", self.statement())
            self.files[path] = data
        self.assert_holds(self.statement())

    def test_an_object_that_an_entry_removes_may_be_missing(self):
        path = self.paths("/backups/")[0]
        item = (1, bytes.fromhex(path.rsplit("/", 1)[1]))
        del self.files[path]
        self.project.put_log(2, [self.entry], removed=[item])
        self.assert_holds(self.statement())

    def test_a_removal_that_another_signer_logs_does_not_count(self):
        path = self.paths("/backups/")[0]
        item = (1, bytes.fromhex(path.rsplit("/", 1)[1]))
        del self.files[path]
        self.project.put_log(2, [self.entry], removed=[item], signer=self.writer.random(32))
        self.assert_fault("is missing", self.statement())

    def test_a_missing_ancestor_is_noticed(self):
        second = self.project.put_log(2, [self.entry], added=[])
        del self.files[f"{self.project.path}log/{self.entry.hex()}"]
        self.assert_fault(f"log entry {self.entry.hex()} is missing", self.statement(2, second))

    def test_a_mistyped_statement_is_refused(self):
        statement = self.statement()
        self.assert_fault("checksum", statement.replace(":1:", ":2:").replace("HEAD:2", "HEAD:1"))
        self.assert_fault("no statement", statement[:-1])
        self.assert_fault("no statement", "CUTTLEBONE:HEAD:2" + statement[17:])

    def test_a_project_with_another_key_is_refused(self):
        other = self.writer.add_project("third", 4096)
        for name in "project", "project.copy":
            self.files[self.project.path + name] = self.files[other.path + name]
        self.assert_fault("another key signs the log", self.statement())


if __name__ == "__main__":
    unittest.main()
