"""Makes tiny repositories that tests read."""

import copy
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from cuttlebone_format import FANOUT, LEAF_SIZE, MIB
from read_backup import open_projects
from write_repo import Random, Tree, Writer

HERE = Path(__file__).parent
PASSWORD = b"correct horse"
CHUNK_SIZE = 4096
IMAGE_SIZE = FANOUT * LEAF_SIZE + 3 * LEAF_SIZE + 2 * CHUNK_SIZE + 1000


def image_chunks() -> dict[int, bytes]:
    """Returns chunks in three leaves under two levels of branches. The last chunk is incomplete."""
    random = Random("image")
    last = IMAGE_SIZE - 1000
    return {
        0: random(CHUNK_SIZE),
        CHUNK_SIZE: b"text " * 819 + b"!",
        2 * CHUNK_SIZE: bytes(CHUNK_SIZE),
        7 * LEAF_SIZE: random(CHUNK_SIZE),
        8 * LEAF_SIZE - CHUNK_SIZE: bytes(CHUNK_SIZE - 1) + b"x",
        last: random(1000),
    }


def stream_chunks() -> list[bytes]:
    random = Random("stream")
    return [random(1 + 37 * i) for i in range(20)] + [bytes(50_000)] + [b"log line\n" * 500, b"end"]


TIME = "2026-11-21T10:00:00Z"


def whole_repository():
    """Returns the writers of a repository with two projects, and of its first project."""
    writer = Writer("test", PASSWORD)
    project = writer.add_project("main", CHUNK_SIZE)
    writer.add_project("other", 65_536)
    for volume, make in {
        "image": lambda tree: tree.image(IMAGE_SIZE, CHUNK_SIZE, image_chunks()),
        "stream": lambda tree: tree.stream(stream_chunks(), fanout=4),
        "empty image": lambda tree: tree.image(0, CHUNK_SIZE, {}),
        "zeros": lambda tree: tree.image(5 * MIB + 1, CHUNK_SIZE, {}),
        "empty stream": lambda tree: tree.stream([], fanout=4),
    }.items():
        tree = Tree(project.keys)
        project.put_backup(tree, make(tree), volume, TIME)
    return writer, project


WHOLE = whole_repository()


class InRepository(unittest.TestCase):
    def setUp(self):
        self.writer, self.project = copy.deepcopy(WHOLE)
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        self.files = self.writer.files

    def run_reader(self, *args, password=PASSWORD) -> subprocess.CompletedProcess:
        repository = Path(self.directory.name, "repository")
        shutil.rmtree(repository, ignore_errors=True)
        for name, data in self.files.items():
            path = repository / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        command = [sys.executable, HERE / "read_backup.py", repository, *args]
        environment = os.environ | {"CUTTLEBONE_PASSWORD": password.decode()}
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    def restore(self, volume: str, warnings=False) -> Path:
        out = Path(self.directory.name, "out")
        done = self.run_reader("--project", "main", "--volume", volume, "-o", out)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(bool(done.stderr), warnings, done.stderr)
        return out

    def assert_image(self, out: Path):
        self.assertEqual(out.stat().st_size, IMAGE_SIZE)
        self.assertLess(out.stat().st_blocks * 512, MIB, "the file is not sparse")
        with out.open("rb") as file:
            for offset, plain in image_chunks().items():
                file.seek(offset)
                self.assertEqual(file.read(len(plain)), plain)
        whole = bytearray(IMAGE_SIZE)
        for offset, plain in image_chunks().items():
            whole[offset : offset + len(plain)] = plain
        self.assertEqual(hashlib.sha256(whole).digest(), hashlib.sha256(out.read_bytes()).digest())

    def assert_fails(self, word: str, **options):
        done = self.run_reader("--volume", "image", "--sha256", **options)
        self.assertEqual(done.returncode, 1)
        self.assertIn(word, done.stderr.splitlines()[-1])

    def paths(self, part: str) -> list[str]:
        return [path for path in self.files if part in path and path.startswith(self.project.path)]

    def packs(self, volume: str) -> list[str]:
        """Returns the chunk pack and the two node packs of a volume, in order of creation."""
        at = ["image", "stream"].index(volume)
        return self.paths("/packs/")[at : at + 1] + self.paths("/trees/")[2 * at : 2 * at + 2]

    def flip(self, path: str, at: int):
        data = bytearray(self.files[path])
        data[at] ^= 1
        self.files[path] = bytes(data)

    def opened(self):
        self.run_reader("--list")  # This writes the files of the repository.
        projects = open_projects(Path(self.directory.name, "repository"), PASSWORD)
        return next(project for project in projects if project.name == "main")
