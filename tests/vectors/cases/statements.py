"""Makes the cases for settings, certificates, voids, audits, ledgers, log entries and batches."""

from cuttlebone_format import KIB, LOG_KINDS, MIB, H, ed25519
from write_repo import (
    Random, audit_body, header, ledger_body, log_entry, sealed, to_json, u,
)  # fmt: skip

from .common import (
    KEYS, OTHER_KEYS, OTHER_PROJECT_ID, PROJECT, PROJECT_ID, REVOKED, SHORT, SIGNED, TIME, WRITER,
    Cases, body_faults,
    elsewhere, feature_faults, revocation, signature_faults, without,
)  # fmt: skip

LONG, DENSE = b'{"x":"' + bytes(200).hex().encode() + b'"}', b'{"x":0}'


def sealed_json(
    kind: str, magic: bytes, body: dict, right, wrong, *, inputs=SIGNED, writers=False, limit=MIB
) -> Cases:
    """Returns the cases of an object with a JSON body. `right` lists (name, comment, body). `wrong`
    lists (name, changed members), or (name, changed members, error) if the error is not
    bad-value."""
    cases = Cases(**inputs)
    random = Random(kind)

    def make(body, **fields):
        return sealed(random, KEYS, magic, to_json(body), **fields)

    first = make(body)
    cases.add("right", "The object has only the members that must exist.", first, {kind: body})
    for name, comment, value in right:
        cases.add(name, comment, make(value), {kind: value})
    elsewhere(cases, first)
    cases.headers(magic, lambda head: make(body, head=head))
    other = sealed(random, KEYS, b"CTLBbkup", to_json(body))
    cases.add(
        "record-in-disguise",
        "The header of a record was replaced by that of this object.",
        header(magic) + other[16:], "does-not-open"
    )
    body_faults(cases, make, LONG, DENSE, limit)
    signature_faults(cases, magic, make, body, {kind: body}, writers)
    feature_faults(cases, make, body, writers)
    for name, value in [
        ("not-json", b"words"), ("array", to_json([body])),
        ("members-in-array", to_json(list(body.values()))),
        ("nothing", b""), ("two-values", b"{}{}"), ("not-utf8", b'{"x": "\xff"}'),
        ("bom", b"\xef\xbb\xbf" + to_json(body)),
    ]:  # fmt: skip
        comment = {
            "members-in-array": "The body is an array of the members' values.",
            "nothing": "The body has no bytes.",
            "bom": "The body begins with a byte order mark.",
        }.get(name, "")
        cases.add(f"json-{name}", comment, make(value), "bad-json")
    for name, value in body.items():
        cases.add(f"{name}-missing", "", make(without(body, name)), "bad-value")
        cases.add(f"{name}-null", "", make(body | {name: None}), "bad-value")
        twice = to_json(body)[:-1] + b", " + to_json({name: value})[1:]
        comment = "The member occurs twice, with the same value."
        cases.add(f"{name}-twice", comment, make(twice), "bad-value")
    for name, value, *error in wrong:
        cases.add(name, "", make(body | value), *(error or ["bad-value"]))
    return cases


def settings() -> Cases:
    body = {"revision": 1, "name": "büro", "created": TIME, "chunk_size": 65_536}
    full = body | {
        "requires": [],
        "trust": "project",
        "retired": "elsewhere",
        "parity": {"any": [1, "thing"]},
    }
    right = [
        ("full", "All members exist.", full),
        ("nulls", "All members that may be missing are null.",
            body | dict.fromkeys(("requires", "trust", "parity", "retired"))),
        ("unknown-members", "A reader ignores members that it does not know.",
            body | {"color": {"deep": [1]}, "mood": 7}),
        ("revision-largest", "The revision is 2^64 − 1.", body | {"revision": 2**64 - 1}),
        ("chunk-size-smallest", "", body | {"chunk_size": 4096}),
        ("chunk-size-largest", "", body | {"chunk_size": 4 * MIB}),
        ("trust-other", "Any string but `project` means the same as none.",
            body | {"trust": "nobody"}),
        ("parity-smallest", "", body | {"parity": 1}),
        ("parity-largest", "", body | {"parity": 50}),
        ("parity-ended", "The value 0 ends the parity of the project.", body | {"parity": 0}),
        ("parity-no-rate", "The value 51 means the same as none.", body | {"parity": 51}),
        ("parity-fraction", "A fraction means the same as none.", body | {"parity": 5.5}),
    ]
    return sealed_json("settings", b"CTLBsett", body, right, [
        ("revision-0", {"revision": 0}, "limit-exceeded"), ("revision-string", {"revision": "1"}),
        ("revision-fraction", {"revision": 1.5}), ("revision-over-64-bits", {"revision": 2**64}),
        ("name-number", {"name": 1}), ("created-words", {"created": "today"}),
        ("created-number", {"created": 1}),
        ("chunk-size-string", {"chunk_size": "65536"}),
        ("chunk-size-0", {"chunk_size": 0}, "limit-exceeded"),
        ("chunk-size-2048", {"chunk_size": 2048}, "limit-exceeded"),
        ("chunk-size-8388608", {"chunk_size": 8 * MIB}, "limit-exceeded"),
        ("chunk-size-no-power", {"chunk_size": 12_288}), ("trust-number", {"trust": 1}),
        ("retired-array", {"retired": ["x"]}),
    ], inputs=PROJECT)  # fmt: skip


def certificates() -> Cases:
    signer = ed25519.public_key(WRITER).hex()
    body = {"role": "write", "slot": SHORT[0].hex(), "signer": signer, "created": TIME}
    full = body | {
        "requires": [],
        "volumes": ["web-*", "db?", ""],
        "features": ["magic"],
        "label": "büro",
    }
    own = without(body, "signer") | {"role": "full"}
    right = [
        ("full", "All members exist.", full),
        ("nulls", "All members that may be missing are null.",
            body | dict.fromkeys(("requires", "volumes", "features", "label"))),
        ("role-full", "A certificate of the role full has no signer.", own),
        ("role-full-null", "A certificate of the role full has a signer that is null.",
            own | {"signer": None}),
        ("role-verify", "", body | {"role": "verify"}),
        ("volumes-empty", "An empty array means the same as none: all names match.",
            body | {"volumes": []}),
        ("unknown-members", "A reader ignores members that it does not know.",
            body | {"color": {"deep": [1]}, "mood": 7}),
    ]
    return sealed_json("certificate", b"CTLBcert", body, right, [
        ("role-unknown", {"role": "read"}), ("role-upper-case", {"role": "Write"}),
        ("role-number", {"role": 1}),
        ("role-full-with-signer", {"role": "full"}),
        ("role-verify-without-signer", {"role": "verify", "signer": None}),
        ("slot-short", {"slot": SHORT[0].hex()[:-2]}),
        ("slot-upper-case", {"slot": SHORT[0].hex().upper()}),
        ("signer-short", {"signer": signer[:-2]}), ("signer-long", {"signer": signer + "00"}),
        ("signer-array", {"signer": [signer]}), ("volumes-string", {"volumes": "web-*"}),
        ("volumes-of-null", {"volumes": [None]}),
        ("features-string", {"features": "magic"}), ("created-words", {"created": "today"}),
        ("label-number", {"label": 1}),
    ], inputs=PROJECT)  # fmt: skip


def voids() -> Cases:
    body = {"record": SHORT[0].hex(), "time": TIME}
    right = [
        ("full", "All members exist.", body | {"requires": [], "reason": "paused"}),
        ("nulls", "All members that may be missing are null.",
            body | {"requires": None, "reason": None}),
        ("unknown-members", "A reader ignores members that it does not know.", body | {"color": 1}),
    ]
    cases = sealed_json("void", b"CTLBvoid", body, right, [
        ("record-short", {"record": SHORT[0].hex()[:-2]}),
        ("record-upper-case", {"record": SHORT[0].hex().upper()}),
        ("record-array", {"record": [SHORT[0].hex()]}), ("reason-number", {"reason": 1}),
        ("time-words", {"time": "now"}),
    ], writers=True, limit=64 * KIB)  # fmt: skip
    made = sealed(Random("revoked void"), KEYS, b"CTLBvoid", to_json(body), signer=REVOKED)
    cases.add("signer-revoked", "The log revokes the signer.", made, "foreign", log=[revocation()])
    cases.add("signer-not-revoked", "The log does not revoke the signer.", made, {"void": body})
    return cases


def audits() -> Cases:
    cases = Cases(**SIGNED)
    random = Random("audits")
    body, packs = {"time": TIME, "result": "whole"}, SHORT[:3]

    def make(body=body, packs=packs, raw=None, **fields):
        return sealed(
            random, KEYS, b"CTLBaudt", audit_body(body, packs) if raw is None else raw, **fields
        )

    def shown(body=body, packs=packs):
        return {"body": body, "packs": packs}

    right = make()
    cases.add("right", "", right, shown())
    full = {"requires": [], **body, "host": "h", "tool": "vectors 1"}
    cases.add("full", "All members exist.", make(full), shown(full))
    nulls = body | dict.fromkeys(("requires", "host", "tool"))
    cases.add("nulls", "All members that may be missing are null.", make(nulls), shown(nulls))
    cases.add("no-packs", "The audit names no pack.", make(packs=[]), shown(packs=[]))
    elsewhere(cases, right)
    cases.headers(b"CTLBaudt", lambda head: make(head=head))
    plain = audit_body(body, packs)
    signature_faults(
        cases, b"CTLBaudt", lambda _, **fields: make(**fields), body, shown(), writers=False
    )
    for name, comment, raw, kind in [
        ("empty", "The body has no bytes.", b"", "truncated"),
        ("json-cut", "The body ends in the JSON.", plain[:20], "truncated"),
        ("json-length-largest", "The stated length of the JSON is 2^32 − 1.",
            u(32, 2**32 - 1) + plain[4:], "truncated"),
        ("packs-missing", "The body ends before the number of packs.", plain[: -3 * 32 - 4],
            "truncated"),
        ("pack-cut", "The last byte of the body is missing.", plain[:-1], "truncated"),
        (
            "count-largest",
            "The body states 2^32 − 1 packs, but has three.",
            plain[: -3 * 32 - 4] + u(32, 2**32 - 1) + plain[-3 * 32 :],
            "truncated",
        ),
        ("count-less", "The body states two packs, but has three.",
            plain[: -3 * 32 - 4] + u(32, 2) + plain[-3 * 32 :], "trailing-bytes"),
        ("trailing-byte-inside", "A byte follows the last hash in the body.", plain + b"\0",
            "trailing-bytes"),
        ("packs-descending", "The packs are in descending order.", audit_body(body, packs[::-1]),
            "not-canonical"),
        ("pack-twice", "A pack occurs twice.", audit_body(body, [*packs, packs[2]]),
            "not-canonical"),
        ("not-json", "", audit_body(b"words", packs), "bad-json"),
        ("json-array", "", audit_body(b"[]", packs), "bad-json"),
        ("time-missing", "", audit_body(without(body, "time"), packs), "bad-value"),
        ("time-words", "", audit_body(body | {"time": "now"}, packs), "bad-value"),
        ("result-missing", "", audit_body(without(body, "result"), packs), "bad-value"),
        ("result-number", "", audit_body(body | {"result": 1}, packs), "bad-value"),
        ("host-number", "", audit_body(body | {"host": 1}, packs), "bad-value"),
        (
            "requires-unknown",
            "",
            audit_body(body | {"requires": ["magic"]}, packs),
            "unknown-feature",
        ),
        ("body-over-limit", "The stated length of the body is above the limit.", None,
            "limit-exceeded"),
    ]:
        length = {"length": 16 * MIB + 1} if raw is None else {}
        cases.add(name, comment, make(raw=plain if raw is None else raw, **length), kind)
    return cases


def ledgers() -> Cases:
    cases = Cases(**SIGNED)
    random = Random("ledger")
    body = {"time": TIME}
    groups = [
        (7, 0, SHORT[:1]), (7, 1, SHORT[:2]), (7, 2, SHORT[1:2]), (2**64 - 1, 1, SHORT[:3])
    ]  # fmt: skip

    def make(body=body, groups=groups, raw=None, **fields):
        return sealed(
            random, KEYS, b"CTLBledg", ledger_body(body, groups) if raw is None else raw, **fields
        )

    def shown(body=body, groups=groups):
        groups = [{"time": t, "result": result, "packs": packs} for t, result, packs in groups]
        return {"body": body, "groups": groups}

    right = make()
    cases.add("right", "", right, shown())
    run = {
        "time": TIME, "host": "h", "level": "opened", "seed": "07" * 32, "packs": 3, "bytes": 5,
        "damaged": 1, "seconds": 9, "complete": True,
    }  # fmt: skip
    drill = {
        "time": TIME, "host": "h", "backup": "08" * 32, "volume": "v", "bytes": 6,
        "milliseconds": 7, "command": "fsck -n", "success": True, "problem": "p",
    }  # fmt: skip
    full = {
        **body, "host": "h", "tool": "vectors 1", "runs": [run], "drills": [drill],
        "replaces": ["09" * 32],
    }  # fmt: skip
    cases.add("full", "All members but `requires` exist.", make(full), shown(full))
    nulls = body | dict.fromkeys(("requires", "host", "tool", "runs", "drills", "replaces"))
    cases.add("nulls", "All members that may be missing are null.", make(nulls), shown(nulls))
    cases.add("no-groups", "The entry has no groups.", make(groups=[]), shown(groups=[]))
    elsewhere(cases, right)
    cases.headers(b"CTLBledg", lambda head: make(head=head))
    signature_faults(
        cases, b"CTLBledg", lambda _, **fields: make(**fields), body, shown(), verifiers=True
    )
    plain = ledger_body(body, groups)

    def grouped(*groups):
        return ledger_body(body, groups)

    for name, comment, raw, kind in [
        ("empty", "The body has no bytes.", b"", "truncated"),
        ("json-cut", "The body ends in the JSON.", plain[:20], "truncated"),
        ("json-length-largest", "The stated length of the JSON is 2^32 − 1.",
            u(32, 2**32 - 1) + plain[4:], "truncated"),
        ("groups-missing", "The body ends before the number of groups.",
            plain[: 4 + len(to_json(body))], "truncated"),
        ("pack-cut", "The last byte of the body is missing.", plain[:-1], "truncated"),
        ("trailing-byte-inside", "A byte follows the last hash in the body.", plain + b"\0",
            "trailing-bytes"),
        ("result-3", "The result 3 is not defined.", grouped((7, 3, SHORT[:1])), "bad-value"),
        ("group-empty", "A group has no packs.", grouped((7, 1, [])), "not-canonical"),
        ("packs-descending", "The packs are in descending order.", grouped((7, 1, SHORT[1::-1])),
            "not-canonical"),
        ("pack-twice", "A pack occurs twice in a group.", grouped((7, 1, [SHORT[0], SHORT[0]])),
            "not-canonical"),
        ("groups-descending", "The times of the groups are in descending order.",
            grouped((8, 1, SHORT[:1]), (7, 1, SHORT[:1])), "not-canonical"),
        ("results-descending", "Two groups have the same time, and descending results.",
            grouped((7, 2, SHORT[:1]), (7, 1, SHORT[:1])), "not-canonical"),
        ("group-twice", "Two groups have the same time and result.",
            grouped((7, 1, SHORT[:1]), (7, 1, SHORT[1:2])), "not-canonical"),
        ("not-json", "", ledger_body(b"words", groups), "bad-json"),
        ("json-array", "", ledger_body(b"[]", groups), "bad-json"),
        ("time-missing", "", ledger_body({}, groups), "bad-value"),
        ("time-words", "", ledger_body({"time": "now"}, groups), "bad-value"),
        ("runs-object", "", ledger_body(body | {"runs": {}}, groups), "bad-value"),
        ("run-without-seed", "", ledger_body(body | {"runs": [without(run, "seed")]}, groups),
         "bad-value"),
        ("drill-success-number", "",
         ledger_body(body | {"drills": [drill | {"success": 1}]}, groups), "bad-value"),
        ("run-level-unknown", "",
         ledger_body(body | {"runs": [run | {"level": "read"}]}, groups), "bad-value"),
        ("runs-101", "The entry has 101 runs.", ledger_body(body | {"runs": [run] * 101}, groups),
            "bad-value"),
        ("drills-101", "The entry has 101 drills.",
            ledger_body(body | {"drills": [drill] * 101}, groups), "bad-value"),
        ("replaces-1001", "The entry replaces 1,001 others.",
            ledger_body(body | {"replaces": ["09" * 32] * 1001}, groups),
         "bad-value"),
        ("host-1025", "The host has 1,025 bytes.",
            ledger_body(body | {"host": "h" * 1025}, groups), "bad-value"),
        ("run-host-1025", "The host of a run has 1,025 bytes.",
            ledger_body(body | {"runs": [run | {"host": "h" * 1025}]}, groups),
         "bad-value"),
        ("volume-1025", "The volume of a drill has 1,025 bytes.",
         ledger_body(body | {"drills": [drill | {"volume": "v" * 1025}]}, groups), "bad-value"),
        ("problem-4098", "The problem of a drill has 2,049 characters of two bytes.",
         ledger_body(body | {"drills": [drill | {"problem": "é" * 2049}]}, groups), "bad-value"),
        ("replaces-short", "", ledger_body(body | {"replaces": ["09"]}, groups), "bad-value"),
        ("requires-unknown", "", ledger_body(body | {"requires": ["magic"]}, groups),
         "unknown-feature"),
        ("body-over-limit", "The stated length of the body is above the limit.", None,
            "limit-exceeded"),
    ]:  # fmt: skip
        length = {"length": 4 * MIB + 1} if raw is None else {}
        cases.add(name, comment, make(raw=plain if raw is None else raw, **length), kind)
    longest = body | {
        "host": "h" * 1024, "runs": [run] * 100, "replaces": ["09" * 32] * 1000,
        "drills": [drill | {"volume": "é" * 512, "problem": "p" * 4096}] * 100,
    }  # fmt: skip
    cases.add("longest", "Arrays and strings have the greatest lengths that are allowed.",
        make(longest), shown(longest))
    return cases


def logs() -> Cases:
    cases = Cases(**PROJECT)
    random = Random("logs")
    added, removed = [(1, SHORT[1]), (1, SHORT[2]), (2, SHORT[0])], [(3, SHORT[4]), (9, SHORT[0])]
    usual = {"number": 3, "previous": SHORT[5:7], "added": added, "removed": removed}

    def make(body=None, **fields):
        return log_entry(random, KEYS, body=body, **(usual | fields))

    def shown(body=None, **fields):
        fields = {"time": 1_795_219_200, "summary": False} | usual | fields
        for name in "added", "removed":
            fields[name] = [{"kind": kind, "hash": item} for kind, item in fields[name]]
        return fields | ({} if body is None else {"body": body})

    def add(name, comment, body=None, **fields):
        cases.add(name, comment, make(body, **fields), shown(body, **fields))

    right = make()
    cases.add("right", "The entry has no sealed payload.", right, shown())
    first = {"number": 1, "previous": (), "removed": ()}
    add("first", "The entry has the number 1, and no previous ones.", **first)
    add("largest-numbers", "Number and time are 2^64 − 1.", number=2**64 - 1, time=2**64 - 1)
    cases.add("summary", "The entry is a summary.", make(flags=1), shown(summary=True))
    every = [(kind, SHORT[0]) for kind in sorted(LOG_KINDS)]
    add("every-kind", "The entry adds an object of each kind.", added=every)
    add("nothing", "The entry neither adds nor removes objects.", added=(), removed=())
    volume = {"id": SHORT[0][:16].hex(), "name": "büro"}
    gone = {"record": SHORT[1].hex(), "volume": volume, "time": TIME}
    body = {
        "requires": [], "host": "h", "tool": "vectors 1", "lost": [SHORT[3].hex()],
        "removed_records": [gone | {"follows": [SHORT[2].hex()], "heads": [SHORT[3].hex()],
            "replaces": SHORT[4].hex(), "reason": "forgotten"}],
        "revoked": [{"certificate": SHORT[4].hex(), "signer": SHORT[6].hex(),
            "accepted": [SHORT[5].hex()]}],
    }  # fmt: skip
    revoked = {"certificate": SHORT[4].hex(), "signer": SHORT[6].hex()}
    add("full", "All members exist.", body)
    add("body-empty", "The body has no members.", {})
    names = "requires", "host", "tool", "removed_records", "revoked", "lost"
    add("nulls", "All members that may be missing are null.", dict.fromkeys(names))
    add("removed-record-short", "A removed record has only the members that must exist.",
        {"removed_records": [gone]})
    add("revoked-short", "A revoked signer has only the members that must exist.",
        {"revoked": [revoked]})
    add("unknown-members", "A reader ignores members that it does not know.", body | {"color": 1})
    cases.add("padded", "The padding has nine bytes.", make({}, padding=9), shown({}))
    cases.add("other-name", "The name of the file is not the hash of its bytes.", right,
        "bad-hash", name=SHORT[0])
    cases.add("other-project", "The entry is in the directory of another project.", right,
        "bad-signature", project_id=OTHER_PROJECT_ID)
    cases.add("other-project-secret", "The reader has the secret of another project.", right,
        "bad-signature", project_secret=Random("x")(32))
    cases.add("signed-by-write-key", "A write key signed the entry.", make(signer=WRITER),
        "bad-signature")
    cases.add("signed-by-other-project", "The full key of another project signed the entry.",
        make(signer=OTHER_KEYS.signing), "bad-signature")
    cases.add(
        "project-id-of-another",
        "The entry states another project id. Its signature was made for this project.",
        make(project_id=OTHER_PROJECT_ID),
        "bad-value",
    )
    cases.headers(b"CTLBlogs", lambda head: make(head=head), "bad-signature")
    places = {
        "id": 16,
        "number": 32,
        "time": 40,
        "summary": 48,
        "previous": 68,
        "added": 140,
        "removed": 240,
    }
    cases.flips(
        right,
        places | {"signature": len(right) - 64, "signature-end": len(right) - 1},
        "bad-signature",
    )
    sealed_one = make(body)
    cases.flips(sealed_one, {"body": len(sealed_one) - 70}, "bad-signature")
    cases.truncated(right, [0, 15, 67, 131])
    cases.truncated(right, [132, -1], "bad-signature")
    cases.add("trailing-byte", "A byte follows the signature.", right + b"\0", "bad-signature")
    cases.add("signature-of-another", "The signature is that of another entry.",
        right[:-64] + make(time=1)[-64:], "bad-signature")
    for name, comment, fields, kind in [
        ("number-0", "", {"number": 0}, "bad-value"),
        ("number-1-with-previous", "The number is 1, but the entry has previous ones.",
            {"number": 1}, "bad-value"),
        ("number-2-without-previous", "The number is 2, but the entry has no previous ones.",
            {"number": 2, "previous": ()}, "bad-value"),
        ("flag-2", "Bit 1 of the flags is set.", {"flags": 2}, "nonzero-reserved"),
        ("flag-largest", "Bit 31 of the flags is set.", {"flags": 1 << 31}, "nonzero-reserved"),
        ("previous-descending", "The previous entries are in descending order.",
            {"previous": SHORT[6:4:-1]}, "not-canonical"),
        ("previous-twice", "A previous entry occurs twice.", {"previous": [SHORT[5]] * 2},
            "not-canonical"),
        ("added-descending", "The added objects are in descending order.", {"added": added[::-1]},
            "not-canonical"),
        ("added-twice", "An added object occurs twice.", {"added": [added[0]] * 2},
            "not-canonical"),
        ("removed-kinds-descending", "The kinds of the removed objects are in descending order.",
            {"removed": removed[::-1]}, "not-canonical"),
        ("kind-0", "The kind of an added object is 0.", {"added": [(0, SHORT[0])]}, "bad-value"),
        ("kind-10", "The kind of a removed object is 10.", {"removed": [(10, SHORT[0])]},
            "bad-value"),
        ("kind-255", "The kind of a removed object is 255.", {"removed": [(255, SHORT[0])]},
            "bad-value"),
        ("previous-count-more", "The entry states three previous entries, but has two.",
            {"counts": (3, 3, 2)}, "truncated"),
        ("added-count-more", "The entry states four added objects, but has three.",
            {"counts": (2, 4, 2)}, "truncated"),
        ("removed-count-less", "The entry states one removed object, but has two.",
            {"counts": (2, 3, 1)}, "trailing-bytes"),
        ("counts-largest", "All three stated counts are 2^32 − 1.", {"counts": (2**32 - 1,) * 3},
            "truncated"),
        ("sealed-length-1", "The length s is 1.", {"length": 1}, "bad-value"),
        ("sealed-length-39", "The length s is 39, one below the limit.", {"length": 39},
            "bad-value"),
        ("sealed-length-40", "The length s is 40, but the entry has no sealed payload.",
            {"length": 40}, "truncated"),
        ("sealed-length-largest", "The length s is 2^32 − 1.", {"length": 2**32 - 1}, "truncated"),
    ]:
        cases.add(name, comment, make(**fields), kind)
    for name, wrong, kind in [
        ("body-not-json", b"words", "bad-json"), ("body-array", b"[]", "bad-json"),
        ("body-nothing", b"", "bad-json"),
        ("body-requires-unknown", body | {"requires": ["magic"]}, "unknown-feature"),
        ("body-host-number", {"host": 1}, "bad-value"),
        ("body-lost-string", {"lost": SHORT[0].hex()}, "bad-value"),
        ("body-lost-short", {"lost": [SHORT[0].hex()[:-2]]}, "bad-value"),
        *[(f"body-revoked-without-{name}", {"revoked": [without(revoked, name)]}, "bad-value")
            for name in revoked],
        ("body-revoked-signer-short",
            {"revoked": [revoked | {"signer": SHORT[6].hex()[2:]}]}, "bad-value"),
        ("body-revoked-number", {"revoked": [1]}, "bad-value"),
        *[(f"body-removed-without-{name}", {"removed_records": [without(gone, name)]},
            "bad-value") for name in gone],
        ("body-removed-time-words", {"removed_records": [gone | {"time": "now"}]}, "bad-value"),
        ("body-removed-replaces-array",
            {"removed_records": [gone | {"replaces": [SHORT[4].hex()]}]}, "bad-value"),
        ("body-removed-replaces-short",
            {"removed_records": [gone | {"replaces": SHORT[4].hex()[2:]}]}, "bad-value"),
        ("body-removed-volume-array",
            {"removed_records": [gone | {"volume": list(volume.values())}]}, "bad-value"),
    ]:  # fmt: skip
        cases.add(name, "", make(wrong), kind)
    for name, comment, fields, kind in [
        ("payload-codec-2", "The codec 2 is not defined.", {"codec": 2}, "bad-codec"),
        ("payload-zero", "The field after the codec is not zero.", {"zero": 1}, "nonzero-reserved"),
        ("payload-length-more", "The stated length is one byte more than that of the body.",
            {"stored": b"{"}, "bad-length"),
        ("payload-padding-not-zero", "The padding is not zero.",
            {"padding": 1, "pad": b"\1"}, "nonzero-reserved"),
    ]:  # fmt: skip
        cases.add(name, comment, make({}, **fields), kind)
    return cases


def batches() -> Cases:
    cases = Cases(project_id=PROJECT_ID)
    items = [
        (kind, H(content), content)
        for kind, content in [(0, b"an entry"), (1, b""), (1, b"a record"), (7, b"a void")]
    ]
    items.sort(key=lambda item: item[:2])

    def make(items=items, head=None, project=PROJECT_ID, count=None):
        table = b"".join(bytes([kind]) + name + u(32, len(data)) for kind, name, data in items)
        number = u(32, len(items) if count is None else count)
        contents = b"".join(data for _, _, data in items)
        return (header(b"CTLBbtch") if head is None else head) + project + number + table + contents

    def shown(items=items):
        return {
            "objects": [{"kind": kind, "hash": name, "bytes": data} for kind, name, data in items]
        }

    right = make()
    cases.add("right", "", right, shown())
    cases.add("nothing", "The batch has no objects.", make([]), shown([]))
    cases.add("name-other", "The name of the file is not the hash of its bytes.", right,
        "bad-hash", name=SHORT[0])
    cases.add("other-project", "The batch states another project id than its directory.",
        make(project=OTHER_PROJECT_ID), "does-not-open")
    for name, head, kind in [
        ("magic-other-object", header(b"CTLBlogs"), "bad-magic"),
        ("version-2", b"CTLBbtch" + u(16, 2) + bytes(6), "bad-version"),
        ("key-epoch", b"CTLBbtch" + u(16, 1) + u(16, 1) + bytes(4), "unknown-feature"),
        ("feature", b"CTLBbtch" + u(16, 1) + u(16, 0) + u(32, 4), "unknown-feature"),
    ]:
        cases.add(name, "", make(head=head), kind)
    other = (1, SHORT[0], b"an object with another hash")
    for name, comment, data, kind in [
        ("empty", "The batch has no bytes.", b"", "truncated"),
        ("count-cut", "The batch ends in the number of objects.", right[:34], "truncated"),
        ("table-cut", "The batch ends in the table.", right[:80], "truncated"),
        ("contents-cut", "The last byte of the last object is missing.", right[:-1], "truncated"),
        ("count-most", "The batch states 262,144 objects, the most allowed, but has four.",
            make(count=2**18), "truncated"),
        ("count-above", "The batch states 262,145 objects.", make(count=2**18 + 1),
            "limit-exceeded"),
        ("count-largest", "The batch states 2^32 − 1 objects.", make(count=2**32 - 1),
            "limit-exceeded"),
        ("trailing-byte", "A byte follows the objects.", right + b"\0", "trailing-bytes"),
        ("kind-of-a-pack", "The kind of an object is 3.", make([(3, *items[0][1:])]), "bad-value"),
        ("descending", "The table is in descending order.", make(items[::-1]), "not-canonical"),
        ("twice", "An object occurs twice.", make([items[0], items[0]]), "not-canonical"),
        ("object-with-another-hash", "The table has a wrong hash of the object.", make([other]),
            "bad-hash"),
    ]:  # fmt: skip
        cases.add(name, comment, data, kind)
    return cases
