#!/usr/bin/env python3
"""Writes tiny repositories and reads them back. Run: python tests/reader/test_reader.py"""

import copy
import hashlib
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import cuttlebone_format as format
from cuttlebone_format import CHUNK, LEAF_SIZE, MIB, NODE, PACK_HEAD, RAW, ZSTD
from in_repository import CHUNK_SIZE, HERE, PASSWORD, InRepository, image_chunks, stream_chunks
from read_backup import choose, digest, open_projects
from run_vectors import run_vectors
from write_repo import Faulty, Random, Tree, Writer, grid_node, to_json


class Repository(InRepository):
    # ---- Whole repositories ----

    def test_image(self):
        self.assert_image(self.restore("image"))

    def test_stream(self):
        self.assertEqual(self.restore("stream").read_bytes(), b"".join(stream_chunks()))

    def test_nothing_and_zeros(self):
        self.assertEqual(self.restore("empty image").read_bytes(), b"")
        self.assertEqual(self.restore("empty stream").read_bytes(), b"")
        self.assertEqual(self.restore("zeros").read_bytes(), bytes(5 * MIB + 1))

    def test_sha256(self):
        done = self.run_reader("--volume", "stream", "--sha256")
        self.assertEqual(done.stdout.strip(), hashlib.sha256(b"".join(stream_chunks())).hexdigest())

    def test_list_and_prefix(self):
        lines = self.run_reader("--list").stdout.splitlines()
        self.assertEqual(len(lines), 5)
        prefix = next(line for line in lines if "\tstream\t" in line and "\t0" not in line).split()[
            0
        ]
        done = self.run_reader("--backup", prefix, "--sha256")
        self.assertEqual(done.stdout.strip(), hashlib.sha256(b"".join(stream_chunks())).hexdigest())

    def test_newest_backup_of_the_volume(self):
        """Times are compared as instants, not as text: 11:30+02:00 is before 10:00Z."""
        for time, plain in (
            ("2026-11-21T11:30:00+02:00", b"old"),
            ("2026-11-21T10:00:00.5Z", b"new"),
        ):
            tree = Tree(self.project.keys)
            self.project.put_backup(tree, tree.stream([plain], 4), "stream", time)
        self.assertEqual(self.restore("stream").read_bytes(), b"new")

    def test_newest_of_one_instant_is_the_last_by_hash(self):
        names = {}
        for plain in b"one", b"two", b"three":
            tree = Tree(self.project.keys)
            content = tree.stream([plain], 4)
            names[self.project.put_backup(tree, content, "s", "2026-11-21T10:00:00Z")] = plain
        self.assertEqual(self.restore("s").read_bytes(), names[max(names)])

    def test_volumes_of_one_name_are_one_sequence(self):
        tree = Tree(self.project.keys)
        self.project.put_backup(
            tree, tree.stream([b"moved"], 4), "stream", "2026-11-21T11:00:00Z", volume_id="00" * 16
        )
        self.assertEqual(self.restore("stream").read_bytes(), b"moved")

    def test_projects_of_one_name(self):
        self.writer.add_project("main", CHUNK_SIZE)
        done = self.run_reader("--list")
        self.assertEqual(done.returncode, 0)
        self.assertIn("another project is called main", done.stderr)

    def test_check(self):
        done = self.run_reader("--check")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(len(done.stdout.splitlines()), 5)
        self.assertIn(hashlib.sha256(b"".join(stream_chunks())).hexdigest(), done.stdout)

    def test_check_reports_stored_zeros_and_padding(self):
        for size, plain in (CHUNK_SIZE, bytes(CHUNK_SIZE)), (100, b"a" * CHUNK_SIZE):
            tree = Tree(self.project.keys)
            top = tree.add(NODE, grid_node(0, LEAF_SIZE // CHUNK_SIZE, {0: tree.add(CHUNK, plain)}))
            content = tree.content("image", size, CHUNK_SIZE, top)
            self.project.put_backup(tree, content, f"odd {size}", "2026-11-21T10:00:00Z")
            self.assertEqual(self.restore(f"odd {size}").read_bytes(), plain[:size])
        done = self.run_reader("--check")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(len(done.stdout.splitlines()), 5)
        self.assertEqual(done.stderr.count("not-canonical"), 2)

    def put_with_attachment(self):
        """Makes a backup of zeros with an attachment. The newest pack of chunks holds only the
        attachment's chunk. Returns the content of the attachment."""
        tree = Tree(self.project.keys)
        metadata = b'[["key",{"hex":"ff"}]]'
        stream = tree.stream([metadata], fanout=4)
        attachment = {key: stream[key] for key in ("size", "top", "root")}
        attachment["name"] = "rbd-metadata"
        content = tree.content("image", 5 * MIB, CHUNK_SIZE, None)
        time = "2026-11-21T10:00:00Z"
        self.project.put_backup(tree, content, "rbd", time, attachments=[attachment])
        return metadata

    def test_attachment(self):
        metadata = self.put_with_attachment()
        out = Path(self.directory.name, "out")
        done = self.run_reader("--volume", "rbd", "--attachment", "rbd-metadata", "-o", out)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(out.read_bytes(), metadata)
        self.assertEqual(self.run_reader("--check").returncode, 0)
        done = self.run_reader("--volume", "rbd", "--attachment", "other", "--sha256")
        self.assertEqual(done.returncode, 1)

    def test_damaged_attachment(self):
        self.put_with_attachment()
        self.flip(self.paths("/packs/")[-1], 32)
        done = self.run_reader("--check")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(len(done.stdout.splitlines()), 5, "all backups except the damaged one")

    def test_check_fails_on_a_damaged_object_even_if_its_copy_is_whole(self):
        self.flip("cuttlebone", 50)
        self.assertEqual(self.run_reader("--check").returncode, 1)

    def test_project_slot(self):
        self.project.put_key("full", b"guest")
        done = self.run_reader("--volume", "stream", "--sha256", password=b"guest")
        self.assertEqual(done.stdout.strip(), hashlib.sha256(b"".join(stream_chunks())).hexdigest())

    def test_foreign_names_are_ignored(self):
        for name in ("keys/.part", "projects/.new/project", "marks/x", "notes.txt"):
            self.files[name] = b"?"
        for name in (
            "backups/.x",
            "index/.x",
            "packs/00/.x",
            "audits/x",
            "ledger/x",
            "voids/x",
            "log/.x",
            "writers/x",
        ):
            self.files[self.project.path + name] = b"?"
        self.assert_image(self.restore("image"))

    def test_leases_and_marks_are_ignored(self):
        """One lease and one mark are valid, and all others are invalid. The valid mark names all
        packs and segments."""
        packs = [Path(path).name for path in self.paths("/packs/") + self.paths("/trees/")]
        segments = [Path(path).name for path in self.paths("/index/")]
        mark = {"packs": packs, "segments": segments, "time": "2026-11-21T10:00:00Z"}
        self.project.put_sealed("marks", b"CTLBmark", to_json(mark))
        name = self.project.put_sealed(
            "leases", b"CTLBleas", to_json({"work": "prune", "running_seconds": 1})
        )
        leases = self.project.path + "leases/"
        self.files[leases + name.hex()[:32]] = self.files.pop(leases + name.hex())
        for name in ("leases/" + "ab" * 16, "marks/" + "ab" * 32, "leases/.x", "marks/.x"):
            self.files[self.project.path + name] = b"?"
        self.assert_image(self.restore("image"))
        done = self.run_reader("--check")
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def put_missing_pack(self):
        """Returns a pack with a chunk of the image, after deleting its file. Its name sorts before
        the name of the existing pack."""
        existing = Path(self.packs("image")[0]).name
        while True:
            pack = self.project.put_pack(CHUNK, [[image_chunks()[0]]])
            del self.files[self.project.pack_path(CHUNK, pack.name)]
            if pack.name.hex() < existing:
                return pack

    def test_superseded_segment_is_ignored(self):
        """The old segment names a missing pack; the new one does not."""
        old = self.project.put_segment([self.put_missing_pack()])
        self.assert_image(self.restore("image", warnings=True))
        self.project.put_segment([], superseded=[old])
        self.assert_image(self.restore("image"))

    def test_superseded_segment_supersedes(self):
        """A segment that is superseded itself still supersedes others."""
        first = self.project.put_segment([self.put_missing_pack()])
        second = self.project.put_segment([], superseded=[first])
        self.project.put_segment([], superseded=[second])
        self.assert_image(self.restore("image"))

    def test_segment_that_the_log_removes_is_superseded(self):
        old = self.project.put_segment([self.put_missing_pack()])
        self.assert_image(self.restore("image", warnings=True))
        self.project.put_log(removed=[(2, old)])
        self.assert_image(self.restore("image"))

    def test_damaged_segment_supersedes_nothing(self):
        old = self.project.put_segment([self.put_missing_pack()])
        name = self.project.put_segment([], superseded=[old]).hex()
        self.assert_image(self.restore("image"))
        self.flip(f"{self.project.path}index/{name}", 60)
        done = self.run_reader("--project", "main", "--volume", "image", "--sha256")
        self.assertIn("No such file", done.stderr)

    def test_superseded_segment_is_read_while_its_packs_exist(self):
        segments = [bytes.fromhex(Path(path).name) for path in self.paths("/index/")]
        self.project.put_segment([], superseded=segments)
        self.assert_image(self.restore("image"))

    def test_superseded_segment_may_be_damaged(self):
        old = self.project.put_segment([self.put_missing_pack()])
        self.flip(f"{self.project.path}index/{old.hex()}", 60)
        self.assert_image(self.restore("image", warnings=True))
        self.project.put_segment([], superseded=[old])
        self.assert_image(self.restore("image"))

    # ---- Runs ----

    def put_runs(self, runs, chunks) -> bytes:
        """Stores a stream of `chunks`. One pack has all of them, in `runs`. Returns the content."""
        tree = Tree(self.project.keys)
        content = tree.stream(chunks, 4)
        packs = [self.project.put_pack(CHUNK, runs)]
        packs += [
            self.project.put_pack(NODE, [[node] for node in tree.nodes.values()]) for _ in range(2)
        ]
        self.project.put_segment(packs)
        volume = {"id": "00" * 16, "name": "runs"}
        record = {"volume": volume, "content": content, "time": "2026-11-21T10:00:00Z"}
        self.project.put_sealed(
            "backups", b"CTLBbkup", to_json(record | {"finished": record["time"]})
        )
        return b"".join(chunks)

    def test_runs_of_the_writer(self):
        """There are compressed and raw runs of several chunks, and runs of a single node."""
        project, runs = self.opened(), {CHUNK: [], NODE: []}
        project.load_index()
        for listing in project.packs:
            runs[listing.contents.kind] += listing.contents.runs
        kinds = {(run.codec, len(run.blobs)) for run in runs[CHUNK]}
        self.assertLessEqual({(RAW, 3), (ZSTD, 3), (ZSTD, 2)}, kinds)
        self.assertEqual({len(run.blobs) for run in runs[NODE]}, {1})

    def test_partly_used_run(self):
        sand = [Random(f"part {i}")(100) for i in range(3)]
        text = [letter * 100 for letter in (b"a", b"b", b"c")]
        plain = self.put_runs([text, sand], [sand[1], text[2], text[0]])
        self.assertEqual(self.restore("runs").read_bytes(), plain)

    def test_run_is_opened_once(self):
        chunks = [b"%d" % i for i in range(30)]
        plain = self.put_runs(
            [chunks[:20], chunks[20:]], [*chunks[:10], *chunks[20:], *chunks[10:20]]
        )
        project = self.opened()
        content = format.decode_content(choose([project], None, "runs")[1]["content"])
        opened = []
        real = format.open_run
        with mock.patch.object(
            format, "open_run", lambda *args: opened.append(args[0].contents.kind) or real(*args)
        ):
            self.assertEqual(
                b"".join(chunk for _, chunk in format.walk(content, project.fetch)), plain
            )
        self.assertEqual(opened.count(CHUNK), 2)

    def test_blob_of_another_id_spoils_no_other(self):
        """One pack lists `b` without holding it. The reader gets `b` from
        another pack, and the neighbours of `b` from the first pack."""
        ids = [self.project.keys.blob_id(CHUNK, plain) for plain in (b"a", b"b", b"c")]
        plain = self.put_runs([Faulty([b"a", b"x", b"c"], ids=ids)], [b"a", b"b", b"c"])
        done = self.run_reader("--volume", "runs", "--sha256")
        self.assertIn("missing", done.stderr)
        self.project.put_segment([self.project.put_pack(CHUNK, [[b"b"]])])
        self.assertEqual(self.restore_any("runs").read_bytes(), plain)

    # ---- Damage of objects that have a second copy ----

    def test_copies(self):
        for path in [path for path in self.files if path + ".copy" in self.files]:
            self.flip(path, len(self.files[path]) // 2)
        self.assert_image(self.restore("image", warnings=True))

    def test_originals_missing(self):
        for path in [path for path in self.files if path + ".copy" in self.files]:
            del self.files[path]
        self.assert_image(self.restore("image", warnings=True))

    def test_either_node_pack_may_be_damaged(self):
        for damaged in self.packs("image")[1:]:
            whole = self.files[damaged]
            self.flip(damaged, PACK_HEAD + 5)
            self.assert_image(self.restore_any("image"))
            self.files[damaged] = whole

    def restore_any(self, volume: str) -> Path:
        out = Path(self.directory.name, "out")
        self.assertEqual(self.run_reader("--volume", volume, "-o", out).returncode, 0)
        return out

    def test_node_pack_missing(self):
        del self.files[self.packs("image")[1]]
        self.restore_any("image")

    def test_chunk_in_a_second_pack(self):
        self.flip(self.packs("image")[0], PACK_HEAD + 5)
        self.assert_fails("missing")
        first_run = [plain for plain in image_chunks().values() if any(plain)][:3]
        self.project.put_segment([self.project.put_pack(CHUNK, [first_run[:1]])])
        self.assert_fails("missing")
        self.project.put_segment([self.project.put_pack(CHUNK, [first_run[1:]])])
        self.assert_image(self.restore_any("image"))

    def test_damaged_segment_is_rebuilt_from_packs(self):
        for path in self.paths("/index/"):
            self.flip(path, 60)
        self.assert_image(self.restore("image", warnings=True))

    def test_missing_index_is_rebuilt_from_packs(self):
        for path in self.paths("/index/"):
            del self.files[path]
        self.assert_image(self.restore("image"))

    # ---- Failures ----

    def test_wrong_password(self):
        self.assert_fails("does-not-open", password=b"wrong")

    def test_both_copies_damaged(self):
        for path in self.packs("image")[1:]:
            self.flip(path, PACK_HEAD + 5)
        self.assert_fails("missing")

    def test_no_repository_file(self):
        del self.files["cuttlebone"], self.files["cuttlebone.copy"]
        self.assert_fails("missing")

    def test_repository_file_of_another_repository(self):
        other = Writer("another", PASSWORD).files
        for name in ("cuttlebone", "cuttlebone.copy"):
            self.files[name] = other[name]
        self.assert_fails("bad-mac")

    def test_damaged_record(self):
        for path in self.paths("/backups/"):
            self.flip(path, 50)
        self.assert_fails("no such backup")

    def test_project_under_another_id(self):
        for path in [path for path in self.files if path.startswith(self.project.path)]:
            self.files["projects/" + "00" * 16 + "/" + path.removeprefix(self.project.path)] = (
                self.files.pop(path)
            )
        self.assert_fails("no such backup")


class Golden(unittest.TestCase):
    """Reads repositories that the program wrote."""

    def test_all_are_read(self):
        directory = HERE.parent / "golden"
        sums = sorted(directory.glob("*.sums"))
        self.assertTrue(sums)
        for path in sums:
            expected = {}
            for line in path.read_text().splitlines():
                hashed, backup, volume = line.split("  ")
                expected[backup] = hashed, volume
            for password in "golden", "guest":
                found = {}
                for project in open_projects(path.with_suffix(""), password.encode()):
                    for name, record in project.records().items():
                        content = format.decode_content(record["content"])
                        hashed = digest(content, project.fetch, format.blake3(), strict=True)
                        found[name] = hashed, record["volume"]["name"]
                self.assertEqual(found, expected)


class Vectors(unittest.TestCase):
    directory = HERE.parent / "vectors"

    def test_vectors(self):
        self.assertTrue(run_vectors(self.directory))

    def test_generator_makes_the_stored_vectors(self):
        with tempfile.TemporaryDirectory() as directory:
            subprocess.run([sys.executable, self.directory / "generate.py", directory], check=True)
            for path in self.directory.glob("*.json"):
                self.assertEqual(
                    Path(directory, path.name).read_bytes(), path.read_bytes(), path.name
                )


if __name__ == "__main__":
    unittest.main()
