"""Makes the cases for whole repositories."""

from cuttlebone_format import CHUNK, H, NODE, decode_certificate, ed25519
from write_repo import Faulty, Tree, Writer, to_json

from .common import IDS, PASSWORD, SAND, STRANGER, TEXT, TIME, Cases


def wholes() -> Cases:
    cases = Cases(password=PASSWORD)
    writer = Writer("whole", PASSWORD)
    main = writer.add_project("main", 4096)
    plain = TEXT * 50 + bytes(4096) + b"end"
    chunks = {at: plain[at : at + 4096] for at in range(0, len(plain), 4096)}
    record_name = {}
    for volume, build in {
        "disk": lambda tree: tree.image(len(plain), 4096, chunks),
        "dump": lambda tree: tree.stream([plain[:5000], plain[5000:]], 8),
    }.items():
        tree = Tree(main.keys)
        record_name[volume] = main.put_backup(tree, build(tree), volume, TIME)
    files = writer.files

    def expect(volume):
        tree = Tree(main.keys)
        content = (
            tree.image(len(plain), 4096, chunks)
            if volume == "disk"
            else tree.stream([plain[:5000], plain[5000:]], 8)
        )
        volume = {"id": H(volume.encode())[:16].hex(), "name": volume}
        return {
            "record": {"volume": volume, "content": content, "time": TIME, "finished": TIME},
            "blake3": H(plain),
        }

    def add(name, comment, expected, changes=None, volume="disk", **inputs):
        cases.add(
            name,
            comment,
            None,
            expected,
            files=files,
            changes=changes or {},
            volume=volume,
            **inputs,
        )

    def flip(paths):
        return {
            path: files[path][:40] + bytes([files[path][40] ^ 1]) + files[path][41:]
            for path in paths
        }

    def without(paths):
        return {path: None for path in paths}

    twins = [path for path in files if path + ".copy" in files]
    copies = [path + ".copy" for path in twins]
    packs = [path for path in files if "/packs/" in path or "/trees/" in path][
        :3
    ]  # of `disk`: chunks, nodes, nodes
    segments = [path for path in files if "/index/" in path]

    def added(make):
        """Returns the files that `make` adds, and removes them, so that other cases lack them."""
        before = dict(files)
        make()
        new = {path: files.pop(path) for path in list(files) if path not in before}
        return new

    def superseded():
        gone = main.put_pack(CHUNK, [[chunks[0]]])
        old = main.put_segment([gone])
        main.put_segment([], superseded=[old])
        del files[main.pack_path(CHUNK, gone.name)]

    def put_zeros(size, time, volume_id=None, signer=None, name="dump", **members):
        """Puts a record of zeros, which needs no blob. Returns its name and the expected result."""
        content = Tree(main.keys).content("image", size, 4096, None)
        volume = {"id": volume_id or H(b"dump")[:16].hex(), "name": name}
        record = {"volume": volume, "content": content, "time": time, "finished": time} | members
        name = main.put_sealed("backups", b"CTLBbkup", to_json(record), signer=signer)
        return name, {"record": record, "blake3": H(bytes(size))}

    def put_parts():
        """Puts a newer `dump` of two chunks. The first is the middle one of three chunks in a run,
        and the others are unused. The second shares a run with a chunk whose stated id is wrong."""
        tree = Tree(main.keys)
        whole, first, odd = [SAND, b"second", b"third"], b"first", b"odd"
        content = tree.stream([whole[1], first], 8)
        ids = [main.keys.blob_id(CHUNK, first), IDS[0]]
        packs = [main.put_pack(CHUNK, [whole, Faulty([first, odd], ids=ids)])]
        packs += [main.put_pack(NODE, [[node] for node in tree.nodes.values()]) for _ in range(2)]
        main.put_segment(packs)
        volume, time = {"id": H(b"dump")[:16].hex(), "name": "dump"}, "2026-11-21T11:00:00Z"
        record = {"volume": volume, "content": content, "time": time, "finished": time}
        main.put_sealed("backups", b"CTLBbkup", to_json(record))
        return {"record": record, "blake3": H(whole[1] + first)}

    def put_liar():
        """Puts a pack and a segment that list other bytes under the id of `disk`'s first chunk."""
        lie = main.keys.blob_id(CHUNK, chunks[0])
        main.put_segment([main.put_pack(CHUNK, [Faulty([b"a", b"b" * 4096], ids=[IDS[0], lie])])])

    guest = added(lambda: main.put_key("full", b"guest"))
    only_guest = without([path for path in files if path.startswith("keys/")]) | guest
    cases.add(
        "image",
        "The reader restores an image from the files that all cases share.",
        None,
        expect("disk"),
        files=files,
        changes={},
        volume="disk",
    )
    add("stream", "The reader restores a stream from these files.", expect("dump"), volume="dump")
    add("originals-missing", "Of the files with a copy, only the copies exist.", expect("disk"),
        without(twins))
    add("originals-damaged", "Of the files with a copy, only the copies are undamaged.",
        expect("disk"), flip(twins))
    add("copies-damaged", "All files that end in `.copy` are damaged.", expect("disk"),
        flip(copies))
    add("first-node-pack-missing", "One of the two packs of nodes is missing.", expect("disk"),
        without(packs[1:2]))
    add("second-node-pack-damaged", "One of the two packs of nodes is damaged.", expect("disk"),
        flip(packs[2:3]))
    add("foreign-names",
        "A reader ignores files with names of other forms, and packs in wrong directories.",
            expect("disk"), {
        "keys/.new": b"?", "projects/.x/y": b"?", "marks/m": b"?",
        main.path + "backups/" + "AB" * 32: b"?",
        main.path + "packs/00/" + "ff" * 32: b"?", main.path + "index/.tmp": b"?"})  # fmt: skip
    add(
        "project-slot",
        "The only slot is one of the project.",
        expect("disk"),
        only_guest,
        password=b"guest",
    )
    add("segments-damaged",
        "All segments are damaged, so the reader reads the contents of the packs.", expect("disk"),
            flip(segments))
    add("superseded-segment", "A superseded segment names a pack that no longer exists.",
        expect("disk"), added(superseded))
    add("chunk-in-second-pack",
        "The pack of chunks is damaged, but another one has the same chunks.", expect("disk"),
        added(lambda: main.put_segment([main.put_pack(CHUNK,
            [[p.ljust(4096, b"\0") for p in chunks.values()]])]))
        | flip(packs[:1]))  # fmt: skip
    made = []
    changes = added(lambda: made.append(put_parts()))
    add(
        "runs-partly-used",
        "The backup uses one chunk of each of two runs. Another chunk of a run has a wrong id.",
        made[0],
        changes,
        volume="dump",
    )
    add("blob-of-other-id",
        "A pack states the id of a chunk for other bytes, so the reader uses another pack.",
            expect("disk"), added(put_liar))
    for name, comment, volume_id, times in [
        (
            "newest-by-instant",
            "Times are compared as instants, not as text.",
            None,
            ["2026-11-21T12:00:00.5+01:00", "2026-11-21T12:00:00+01:30"],
        ),
        (
            "newest-by-nanosecond",
            "The newest backup is one nanosecond later.",
            None,
            ["2026-11-21T10:00:00.000000002Z", "2026-11-21T10:00:00.000000001Z"],
        ),
        (
            "newest-by-hash",
            "All backups have the same time, so the newest has the largest hash.",
            None,
            [TIME, "2026-11-21T11:00:00+01:00"],
        ),
        (
            "volumes-of-one-name",
            "The backups of a volume are those with its name, whatever their volume id is.",
            IDS[0][:16].hex(),
            ["2026-11-21T10:00:01Z", "2026-11-21T10:00:00Z"],
        ),
    ]:
        made = []
        changes = added(
            lambda: made.extend(put_zeros(i + 1, time, volume_id) for i, time in enumerate(times))
        )  # noqa: B023
        if name == "newest-by-hash":
            old = record_name["dump"], expect("dump")
            made = sorted([*made, old], key=lambda item: item[0], reverse=True)
        add(name, comment, made[0][1], changes, volume="dump")
    entry = added(lambda: main.put_log(removed=[(1, record_name["disk"])]))
    add("removed-in-log",
        "The log removes the record, but the record still exists and can be read.", expect("disk"),
            entry)
    roles(main, add, added, put_zeros, expect)
    add("wrong-password", "The password opens no slot.", "does-not-open", password=b"wrong")
    add("no-repository-file", "Both copies of the repository file are missing.", "missing",
        without(["cuttlebone", "cuttlebone.copy"]))
    add("both-node-packs-damaged", "Both packs with the nodes of the volume are damaged.",
        "missing", flip(packs[1:3]))
    add("chunk-pack-missing", "The only pack of chunks is missing.", "missing", without(packs[:1]))
    add(
        "record-missing",
        "The record of the volume is missing.",
        "missing",
        without([f"{main.path}backups/{record_name['disk'].hex()}"]),
    )
    return cases


LATER, EARLIER = "2026-11-23T10:00:00Z", "2026-11-22T10:00:00Z"


def roles(main, add, added, put_zeros, expect):
    """Adds cases with backups of other signers, with revocations and voids, and cases on the order
    of backups."""
    seeds = {}
    keys = added(
        lambda: seeds.update(
            write=main.put_key("write", b"writer"), verify=main.put_key("verify", b"auditor")
        )
    )
    certificates = {
        decode_certificate(data, None, main.keys)["role"]: path
        for path, data in keys.items()
        if "/writers/" in path
    }
    revoked = {
        "certificate": certificates["write"].split("/")[-1].removesuffix(".copy"),
        "signer": ed25519.public_key(seeds["write"]).hex(),
    }

    def case(name, comment, make, pick=None):
        """`make()` puts objects and returns results of `put_zeros`. `pick`: the index of the newest
        backup among these. If it is None, the backup that was there before is the newest."""
        made = []
        changes = added(lambda: made.extend(make() or []))
        expected = expect("dump") if pick is None else made[pick][1]
        add(name, comment, expected, keys | changes, volume="dump")

    def revoke(accepted=()):
        accepted = [name.hex() for name in accepted]
        main.put_log(body={"revoked": [revoked | {"accepted": accepted}]})

    def void(record, **fields):
        main.put_sealed(
            "voids", b"CTLBvoid", to_json({"record": record.hex(), "time": TIME}), **fields
        )

    def of_write_key():
        tree = Tree(main.keys)
        content = tree.stream([b"sealed in a session", b"and more"], 8)
        main.put_backup(tree, content, "dump", LATER, seed=seeds["write"])
        volume = {"id": H(b"dump")[:16].hex(), "name": "dump"}
        record = {"volume": volume, "content": content, "time": LATER, "finished": LATER}
        return [(b"", {"record": record, "blake3": H(b"sealed in a sessionand more")})]

    case("session", "A write key made the newest backup.", of_write_key, 0)
    case("signer-unknown",
        "No certificate names the signer of the latest record, so the record is foreign.",
            lambda: [put_zeros(1, LATER, signer=STRANGER)])
    case("signer-verify", "A verify key signed the latest record, so the record is foreign.",
        lambda: [put_zeros(1, LATER, signer=seeds["verify"])])
    case("requires-of-write-signer",
        "A write signer's record requires an unknown feature, so it is foreign.",
         lambda: [put_zeros(1, LATER, signer=seeds["write"], requires=["magic"])])  # fmt: skip

    def line(*times, seed=None):
        """Puts backups that each follow the one before."""
        made = []
        for size, time in enumerate(times, 1):
            made.append(
                put_zeros(size, time, signer=seed, follows=[name.hex() for name, _ in made[-1:]])
            )
        return made

    case(
        "follows",
        "A record that follows another is newer, although its time is earlier.",
        lambda: line(LATER, EARLIER),
        1,
    )

    def branches():
        first, second = line(LATER, EARLIER)
        third = put_zeros(3, "2026-11-22T11:00:00Z", follows=[first[0].hex()])
        return [first, second, third]

    case("two-lines", "Two records follow the same one. The later of them is the newest.",
        branches, 2)

    def removed():
        first, second, third = line(LATER, TIME, EARLIER)
        del main.files[f"{main.path}backups/{second[0].hex()}"]
        gone = {"record": second[0].hex(), "volume": second[1]["record"]["volume"], "time": TIME,
                "follows": [first[0].hex()]}  # fmt: skip
        main.put_log(removed=[(1, second[0])], body={"removed_records": [gone]})
        return [first, second, third]

    case("follows-through-removed",
        "The newest record follows a removed one. The log repeats what that one followed.",
            removed, 2)

    def replaced(**fields):
        first, second = line(LATER, LATER)
        return [first, second, put_zeros(3, LATER, replaces=first[0].hex(), follows=[], **fields)]

    case("replaced",
        "A record replaces the older of two records, so the newer one stays the newest.",
        replaced, 1)

    def replaced_newest():
        first, second = line(LATER, LATER)
        return [first, put_zeros(3, LATER, replaces=second[0].hex(), follows=[first[0].hex()])]

    case("replaced-newest", "A record replaces the newest one, and so becomes the newest.",
        replaced_newest, 1)

    def replacing_was_removed():
        first = put_zeros(1, LATER)
        second = put_zeros(2, TIME, replaces=first[0].hex())
        third = put_zeros(3, EARLIER, follows=[second[0].hex()])
        del main.files[f"{main.path}backups/{second[0].hex()}"]
        gone = {"record": second[0].hex(), "volume": second[1]["record"]["volume"], "time": TIME,
                "replaces": first[0].hex()}  # fmt: skip
        main.put_log(removed=[(1, second[0])], body={"removed_records": [gone]})
        return [first, second, third]

    comment = "A record that replaced another was removed. The one that follows it is the newest."
    case("replacing-record-removed", comment, replacing_was_removed, 2)

    def replaced_by_writer():
        first = put_zeros(1, LATER)
        return [first, put_zeros(2, TIME, replaces=first[0].hex(), signer=seeds["write"])]

    case("replaced-by-write-signer", "A record of a write signer replaces no other record.",
        replaced_by_writer, 0)

    def with_revocation(accept=()):
        made = line(LATER, LATER, LATER, seed=seeds["write"])
        revoke([made[at][0] for at in accept])
        return made

    case("revoked", "The signer of the later records was revoked, so these are foreign.",
        with_revocation)
    case(
        "revoked-but-accepted",
        "The revocation accepts the second of three records, and so the one that it follows.",
        lambda: with_revocation([1]),
        1,
    )

    def revoked_by_writer():
        made = line(LATER, seed=seeds["write"])
        main.put_log(body={"revoked": [revoked]}, signer=seeds["write"])
        return made

    case("revoked-by-write-signer",
        "A write key signed the entry of the log, so nothing is revoked.", revoked_by_writer, 0)

    def voided(seed, by):
        made = line(TIME, LATER, seed=seed)
        void(made[1][0], signer=by)
        return made

    case("voided", "The signer of the newest record withdrew it with a void.",
        lambda: voided(seeds["write"], seeds["write"]), 0)
    case("voided-by-another",
        "A write key signed a void for a record of a full key, so the void is foreign.",
            lambda: voided(None, seeds["write"]), 1)
    case(
        "voided-by-full",
        "A full key signed a void for a record of a write key, so the void is foreign.",
        lambda: voided(seeds["write"], None),
        1,
    )
    for role, password in ("write", b"writer"), ("verify", b"auditor"):
        add(
            f"chunks-with-{role}-key",
            f"A {role} key does not hold the keys that open chunks.",
            "no-key",
            keys,
            password=password,
        )

    def with_second_certificate():
        made = with_revocation()
        main.put_certificate("write", bytes(32), seeds["write"])
        return made

    case("revoked-with-second-certificate",
        "A second certificate names the revoked signer, who stays revoked.",
            with_second_certificate)
