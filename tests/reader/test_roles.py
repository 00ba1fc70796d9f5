"""Tests the reader with write and verify keys, and with objects that these keys may not sign."""

import copy
import hashlib
from pathlib import Path

import cuttlebone_format as format
from cuttlebone_format import CHUNK, NODE
from in_repository import CHUNK_SIZE, TIME, InRepository, stream_chunks
from write_repo import Session, Tree, header, to_json


class Roles(InRepository):
    def setUp(self):
        super().setUp()
        self.write = self.project.put_key("write", b"w", volumes=["web-*", "stream"])
        self.verify = self.project.put_key("verify", b"v")
        self.stranger = self.writer.random(32)

    def put_stream(
        self, plain: bytes, volume="stream", time="2026-11-21T11:00:00Z", **fields
    ) -> bytes:
        tree = Tree(self.project.keys)
        return self.project.put_backup(tree, tree.stream([plain], 4), volume, time, **fields)

    def put_zeros(self, size: int, volume="stream", time="2026-11-21T12:00:00Z", **fields) -> bytes:
        content = Tree(self.project.keys).content("image", size, CHUNK_SIZE, None)
        return self.project.put_record(content, volume, time, **fields)

    def assert_reads(self, plain: bytes, volume="stream", foreign=0):
        done = self.run_reader("--project", "main", "--volume", volume, "--sha256")
        self.assertEqual(done.stdout.strip(), hashlib.sha256(plain).hexdigest(), done.stderr)
        self.assertEqual(done.stderr.count("foreign"), foreign, done.stderr)

    def assert_uncertain(self, volume: str):
        done = self.run_reader("--project", "main", "--volume", volume, "--sha256")
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("may be of a newer backup", done.stderr)

    def assert_old_stream(self, foreign=1):
        self.assert_reads(b"".join(stream_chunks()), foreign=foreign)

    # ---- Packs of a session ----

    def test_full_key_reads_the_backup_of_a_write_key(self):
        self.put_stream(b"sealed in a session" * 9, seed=self.write)
        self.assert_reads(b"sealed in a session" * 9)
        for path in self.paths("/index/"):
            del self.files[path]
        self.assert_reads(b"sealed in a session" * 9)

    def test_session_of_another_project_does_not_open(self):
        elsewhere = Session(self.writer.random, self.writer.add_project("third", CHUNK_SIZE).keys)
        tree = Tree(self.project.keys)
        content = tree.stream([b"x"], 4)
        pack = self.project.put_pack(CHUNK, [[b"x"]], session=elsewhere)
        nodes = [
            self.project.put_pack(NODE, [[node] for node in tree.nodes.values()]) for _ in range(2)
        ]
        self.project.put_segment([pack, *nodes])
        self.project.put_record(content, "stream", "2026-11-21T12:00:00Z")
        done = self.run_reader("--project", "main", "--volume", "stream", "--sha256")
        self.assertIn("does not open", done.stderr)
        self.assertEqual(done.returncode, 1)

    def test_write_and_verify_keys_check_all_but_chunks(self):
        self.put_stream(b"sealed in a session", seed=self.write)
        for password in b"w", b"v":
            done = self.run_reader("--check", password=password)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertEqual({line[0] for line in done.stdout.splitlines()}, {"-"})
            self.assertEqual(
                len(self.run_reader("--list", password=password).stdout.splitlines()), 6
            )

    def test_write_and_verify_keys_read_no_chunk(self):
        self.put_stream(b"sealed in a session", seed=self.write)
        for password in b"w", b"v":
            for volume in "stream", "image":
                done = self.run_reader("--volume", volume, "--sha256", password=password)
                self.assertEqual(done.returncode, 1)
                self.assertIn("no-key", done.stderr)

    def test_check_with_a_verify_key_reports_a_missing_pack(self):
        del self.files[self.packs("image")[0]]
        done = self.run_reader("--check", password=b"v")
        self.assertEqual(done.returncode, 1)
        self.assertIn("no pack with chunk", done.stderr)

    # ---- Foreign objects ----

    def test_record_of_an_unknown_or_verify_signer_is_foreign(self):
        self.put_zeros(1, signer=self.stranger)
        self.put_zeros(2, signer=self.verify)
        self.assert_old_stream(foreign=2)

    def test_record_under_another_signers_name_is_damaged(self):
        content = Tree(self.project.keys).content("image", 1, CHUNK_SIZE, None)
        record = {
            "volume": {"id": "00" * 16, "name": "stream"},
            "content": content,
            "time": TIME,
            "finished": TIME,
        }
        claim = self.project.keys.signing_public
        self.project.put_sealed(
            "backups", b"CTLBbkup", to_json(record), signer=self.write, claim=claim
        )
        done = self.run_reader("--project", "main", "--volume", "stream", "--sha256")
        self.assertIn("bad-signature", done.stderr)
        self.assertEqual(done.returncode, 0)

    def test_record_of_another_volume_is_foreign(self):
        self.put_zeros(1, volume="image", signer=self.write)
        self.put_zeros(2, volume="web-1", signer=self.write)
        self.assert_reads(bytes(2), "web-1", foreign=1)
        done = self.run_reader("--project", "main", "--volume", "image", "--list")
        self.assertEqual(done.stdout.count("\timage\timage\t1\n"), 0)

    def test_required_feature_of_a_write_signer_is_foreign(self):
        self.put_zeros(1, signer=self.write, requires=["magic"])
        self.put_zeros(2, signer=self.write)
        self.assert_reads(bytes(2), foreign=1)
        done = self.run_reader("--list")
        self.assertNotIn("unknown-feature", done.stderr)

    def test_record_of_a_write_signer_with_unknown_version_or_feature_is_foreign(self):
        for number, head in enumerate(
            [header(b"CTLBbkup", version=2), header(b"CTLBbkup", features=1)]
        ):
            body = to_json({"number": number})
            self.project.put_sealed("backups", b"CTLBbkup", body, signer=self.write, head=head)
        self.assert_old_stream(foreign=2)

    def test_settings_certificates_and_marks_of_a_write_signer_are_foreign(self):
        settings = {"revision": 9, "name": "renamed", "created": TIME, "chunk_size": CHUNK_SIZE}
        self.project.put_sealed("settings", b"CTLBsett", to_json(settings), signer=self.write)
        certificate = {"role": "write", "slot": "00" * 32, "created": TIME}
        certificate["signer"] = format.ed25519.public_key(self.stranger).hex()
        name = self.project.put_sealed(
            "writers", b"CTLBcert", to_json(certificate), signer=self.write
        )
        self.project.put_copy("writers", name)
        self.put_zeros(1, signer=self.stranger)
        self.assert_old_stream(foreign=4)

    def test_log_entry_of_a_write_signer_revokes_nothing(self):
        certificates = [
            Path(path).name for path in self.paths("/writers/") if not path.endswith(".copy")
        ]
        self.put_stream(b"new", seed=self.write)
        signer = format.ed25519.public_key(self.write).hex()
        revoked = {
            "revoked": [
                {"certificate": name, "signer": signer, "accepted": []} for name in certificates
            ]
        }
        self.project.put_log(body=revoked, signer=self.write)
        self.assert_reads(b"new")

    def test_superseding_of_a_write_signer_is_ignored(self):
        """Only a full signer can supersede a segment."""
        old = self.project.put_segment([self.project.put_pack(CHUNK, [[stream_chunks()[0]]])])
        self.project.put_segment([], superseded=[old], signer=self.write)
        project = self.opened()
        project.load_index()
        self.assertEqual(project.superseded, set())
        self.project.put_segment([], superseded=[old])
        project = self.opened()
        project.load_index()
        self.assertEqual(project.superseded, {old.hex()})

    def test_void_of_another_signer_is_foreign(self):
        record = self.put_stream(b"new", seed=self.write)
        void = to_json({"record": record.hex(), "time": TIME})
        self.project.put_sealed("voids", b"CTLBvoid", void)
        self.assert_reads(b"new", foreign=1)
        self.project.put_sealed("voids", b"CTLBvoid", void, signer=self.write)
        self.assert_old_stream(foreign=1)

    # ---- Revocation ----

    def revoke(self, accepted=()):
        name = next(
            name
            for path in self.paths("/writers/")
            if len(name := Path(path).name) == 64 and self.role_of(path) == "write"
        )
        revoked = {
            "certificate": name,
            "signer": format.ed25519.public_key(self.write).hex(),
            "accepted": [record.hex() for record in accepted],
        }
        self.project.put_log(body={"revoked": [revoked]})

    def role_of(self, path: str) -> str:
        return format.decode_certificate(self.files[path], None, self.project.keys)["role"]

    def test_records_of_a_revoked_signer_are_foreign(self):
        self.put_stream(b"new", seed=self.write)
        self.revoke()
        self.assert_old_stream()

    def test_another_certificate_of_a_revoked_signer_does_not_count(self):
        self.put_stream(b"new", seed=self.write)
        self.revoke()
        self.project.put_certificate("write", bytes(32), self.write)
        self.assert_old_stream()

    def test_revocation_holds_without_the_certificate_that_it_names(self):
        self.put_stream(b"new", seed=self.write)
        self.revoke()
        for path in self.paths("/writers/"):
            del self.files[path]
        self.project.put_certificate("write", bytes(32), self.write)
        self.assert_old_stream()

    def test_accepted_records_of_a_revoked_signer_and_their_ancestors_count(self):
        first = self.put_stream(b"first", seed=self.write)
        second = self.put_stream(b"second", seed=self.write, follows=[first.hex()])
        self.put_stream(b"third", seed=self.write, follows=[second.hex()])
        self.revoke(accepted=[second])
        self.assert_reads(b"second", foreign=1)
        done = self.run_reader("--list")
        self.assertIn(first.hex()[:16], done.stdout)

    # ---- Order ----

    def put_line(self, size: int, **fields) -> bytes:
        return self.put_zeros(size, volume="line", **fields)

    def test_follower_is_newer_than_what_it_follows_whatever_its_time(self):
        first = self.put_line(1, time="2030-01-01T00:00:00Z")
        self.put_line(2, time="1970-01-01T00:00:00Z", follows=[first.hex()])
        self.assert_reads(bytes(2), "line")

    def test_order_goes_through_removed_records(self):
        first = self.put_line(1, time="2030-01-01T00:00:00Z")
        second = self.put_line(2, time="1980-01-01T00:00:00Z", follows=[first.hex()])
        self.put_line(3, time="1970-01-01T00:00:00Z", follows=[second.hex()])
        self.assert_reads(bytes(3), "line")
        del self.files[f"{self.project.path}backups/{second.hex()}"]
        self.assert_uncertain("line")
        volume = {"id": "00" * 16, "name": "line"}
        removed = {
            "record": second.hex(),
            "volume": volume,
            "time": TIME,
            "follows": [first.hex()],
            "reason": "x",
        }
        self.project.put_log(removed=[(1, second)], body={"removed_records": [removed]})
        self.assert_reads(bytes(3), "line")

    def test_replacing_record_takes_the_place_of_the_replaced_one(self):
        first = self.put_zeros(1, time="2026-11-22T00:00:00Z")
        self.put_zeros(2, time="2026-11-23T00:00:00Z", follows=[first.hex()])
        self.put_zeros(3, time="2026-11-22T00:00:00Z", replaces=first.hex(), follows=[])
        self.assert_reads(bytes(2))
        names = [
            line.split("\t")[-1]
            for line in self.run_reader("--list").stdout.splitlines()
            if "\tstream\t" in line
        ]
        self.assertEqual(names[-2:], ["3", "2"])

    def test_removed_replacing_record_keeps_the_place_of_the_replaced_one(self):
        first = self.put_line(1, time="2030-01-01T00:00:00Z")
        second = self.put_line(2, time="1980-01-01T00:00:00Z", replaces=first.hex())
        self.put_line(3, time="1970-01-01T00:00:00Z", follows=[second.hex()])
        self.assert_reads(bytes(3), "line")
        del self.files[f"{self.project.path}backups/{second.hex()}"]
        volume = {"id": "00" * 16, "name": "line"}
        removed = {"record": second.hex(), "volume": volume, "time": TIME}
        removed["replaces"] = first.hex()
        self.project.put_log(removed=[(1, second)], body={"removed_records": [removed]})
        self.assert_reads(bytes(3), "line")
        lines = self.run_reader("--list").stdout.splitlines()
        sizes = [line.split("\t")[-1] for line in lines if "\tline\t" in line]
        self.assertEqual(sizes, ["1", "3"], "the replaced record is listed again")

    def test_replacing_of_a_write_signer_does_not_count(self):
        first = self.put_zeros(1, time="2026-11-22T00:00:00Z")
        self.put_zeros(2, time="2026-11-21T00:00:00Z", replaces=first.hex(), signer=self.write)
        self.assert_reads(bytes(1))
