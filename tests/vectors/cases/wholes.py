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
        "the files that all cases share",
        None,
        expect("disk"),
        files=files,
        changes={},
        volume="disk",
    )
    add("stream", "", expect("dump"), volume="dump")
    add("originals-missing", "the copies are read", expect("disk"), without(twins))
    add("originals-damaged", "the copies are read", expect("disk"), flip(twins))
    add("copies-damaged", "", expect("disk"), flip(copies))
    add("first-node-pack-missing", "the second is read", expect("disk"), without(packs[1:2]))
    add("second-node-pack-damaged", "the first is read", expect("disk"), flip(packs[2:3]))
    add("foreign-names", "are ignored", expect("disk"), {
        "keys/.new": b"?", "projects/.x/y": b"?", "marks/m": b"?",
        main.path + "backups/" + "AB" * 32: b"?",
        main.path + "packs/00/" + "ff" * 32: b"?", main.path + "index/.tmp": b"?"})  # fmt: skip
    add(
        "project-slot",
        "the project's own slot, no other",
        expect("disk"),
        only_guest,
        password=b"guest",
    )
    add("segments-damaged", "the contents of the packs are read", expect("disk"), flip(segments))
    add("superseded-segment", "names a pack that is gone", expect("disk"), added(superseded))
    add("chunk-in-second-pack", "the first is damaged", expect("disk"),
        added(lambda: main.put_segment([main.put_pack(CHUNK,
            [[p.ljust(4096, b"\0") for p in chunks.values()]])]))
        | flip(packs[:1]))  # fmt: skip
    made = []
    changes = added(lambda: made.append(put_parts()))
    add(
        "runs-partly-used",
        "one with a blob whose bytes do not match its id",
        made[0],
        changes,
        volume="dump",
    )
    add("blob-of-other-id", "in a pack; another pack is read", expect("disk"), added(put_liar))
    for name, comment, volume_id, times in [
        (
            "newest-by-instant",
            "not by its spelling",
            None,
            ["2026-11-21T12:00:00.5+01:00", "2026-11-21T12:00:00+01:30"],
        ),
        (
            "newest-by-nanosecond",
            "",
            None,
            ["2026-11-21T10:00:00.000000002Z", "2026-11-21T10:00:00.000000001Z"],
        ),
        (
            "newest-by-hash",
            "of one instant: the largest hash",
            None,
            [TIME, "2026-11-21T11:00:00+01:00"],
        ),
        (
            "volumes-of-one-name",
            "count as one",
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
    add("removed-in-log", "a backup can be read until it is deleted", expect("disk"), entry)
    roles(main, add, added, put_zeros, expect)
    add("wrong-password", "", "does-not-open", password=b"wrong")
    add("no-repository-file", "", "missing", without(["cuttlebone", "cuttlebone.copy"]))
    add("both-node-packs-damaged", "", "missing", flip(packs[1:3]))
    add("chunk-pack-missing", "", "missing", without(packs[:1]))
    add(
        "record-missing",
        "",
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

    case("session", "a backup of a write key", of_write_key, 0)
    case("signer-unknown", "is foreign", lambda: [put_zeros(1, LATER, signer=STRANGER)])
    case("signer-verify", "is foreign", lambda: [put_zeros(1, LATER, signer=seeds["verify"])])
    case("requires-of-write-signer", "is foreign, and stops no reader",
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
        "later is what follows, not what has the later time",
        lambda: line(LATER, EARLIER),
        1,
    )

    def branches():
        first, second = line(LATER, EARLIER)
        third = put_zeros(3, "2026-11-22T11:00:00Z", follows=[first[0].hex()])
        return [first, second, third]

    case("two-lines", "the later of the two ends", branches, 2)

    def removed():
        first, second, third = line(LATER, TIME, EARLIER)
        del main.files[f"{main.path}backups/{second[0].hex()}"]
        gone = {"record": second[0].hex(), "volume": second[1]["record"]["volume"], "time": TIME,
                "follows": [first[0].hex()]}  # fmt: skip
        main.put_log(removed=[(1, second[0])], body={"removed_records": [gone]})
        return [first, second, third]

    case("follows-through-removed", "the log repeats what a removed record followed", removed, 2)

    def replaced(**fields):
        first, second = line(LATER, LATER)
        return [first, second, put_zeros(3, LATER, replaces=first[0].hex(), follows=[], **fields)]

    case("replaced", "the new record takes the place of the old one", replaced, 1)

    def replaced_newest():
        first, second = line(LATER, LATER)
        return [first, put_zeros(3, LATER, replaces=second[0].hex(), follows=[first[0].hex()])]

    case("replaced-newest", "", replaced_newest, 1)

    def replacing_was_removed():
        first = put_zeros(1, LATER)
        second = put_zeros(2, TIME, replaces=first[0].hex())
        third = put_zeros(3, EARLIER, follows=[second[0].hex()])
        del main.files[f"{main.path}backups/{second[0].hex()}"]
        gone = {"record": second[0].hex(), "volume": second[1]["record"]["volume"], "time": TIME,
                "replaces": first[0].hex()}  # fmt: skip
        main.put_log(removed=[(1, second[0])], body={"removed_records": [gone]})
        return [first, second, third]

    comment = "the replaced one is older than what followed it"
    case("replacing-record-removed", comment, replacing_was_removed, 2)

    def replaced_by_writer():
        first = put_zeros(1, LATER)
        return [first, put_zeros(2, TIME, replaces=first[0].hex(), signer=seeds["write"])]

    case("replaced-by-write-signer", "does not count", replaced_by_writer, 0)

    def with_revocation(accept=()):
        made = line(LATER, LATER, LATER, seed=seeds["write"])
        revoke([made[at][0] for at in accept])
        return made

    case("revoked", "what the signer wrote is foreign", with_revocation)
    case(
        "revoked-but-accepted",
        "and what the accepted record follows",
        lambda: with_revocation([1]),
        1,
    )

    def revoked_by_writer():
        made = line(LATER, seed=seeds["write"])
        main.put_log(body={"revoked": [revoked]}, signer=seeds["write"])
        return made

    case("revoked-by-write-signer", "a write key signs no log", revoked_by_writer, 0)

    def voided(seed, by):
        made = line(TIME, LATER, seed=seed)
        void(made[1][0], signer=by)
        return made

    case("voided", "by its signer", lambda: voided(seeds["write"], seeds["write"]), 0)
    case("voided-by-another", "is foreign", lambda: voided(None, seeds["write"]), 1)
    case(
        "voided-by-full",
        "is foreign, too: a full key uses the log",
        lambda: voided(seeds["write"], None),
        1,
    )
    for role, password in ("write", b"writer"), ("verify", b"auditor"):
        add(
            f"chunks-with-{role}-key",
            "it holds no key of chunks",
            "no-key",
            keys,
            password=password,
        )

    def with_second_certificate():
        made = with_revocation()
        main.put_certificate("write", bytes(32), seeds["write"])
        return made

    case("revoked-with-second-certificate", "the signer is revoked", with_second_certificate)
