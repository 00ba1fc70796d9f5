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
    cases.add("right", "the required members only", first, {kind: body})
    for name, comment, value in right:
        cases.add(name, comment, make(value), {kind: value})
    elsewhere(cases, first)
    cases.headers(magic, lambda head: make(body, head=head))
    other = sealed(random, KEYS, b"CTLBbkup", to_json(body))
    cases.add(
        "record-in-disguise", "the header is bound", header(magic) + other[16:], "does-not-open"
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
        cases.add(f"json-{name}", "", make(value), "bad-json")
    for name, value in body.items():
        cases.add(f"{name}-missing", "", make(without(body, name)), "bad-value")
        cases.add(f"{name}-null", "", make(body | {name: None}), "bad-value")
        twice = to_json(body)[:-1] + b", " + to_json({name: value})[1:]
        cases.add(f"{name}-twice", "", make(twice), "bad-value")
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
        ("full", "all members", full),
        ("nulls", "", body | dict.fromkeys(("requires", "trust", "parity", "retired"))),
        ("unknown-members", "are ignored", body | {"color": {"deep": [1]}, "mood": 7}),
        ("revision-largest", "", body | {"revision": 2**64 - 1}),
        ("chunk-size-smallest", "", body | {"chunk_size": 4096}),
        ("chunk-size-largest", "", body | {"chunk_size": 4 * MIB}),
        ("trust-other", "means the same as none", body | {"trust": "nobody"}),
        ("parity-smallest", "", body | {"parity": 1}),
        ("parity-largest", "", body | {"parity": 50}),
        ("parity-ended", "writers store no parity", body | {"parity": 0}),
        ("parity-no-rate", "means the same as none", body | {"parity": 51}),
        ("parity-fraction", "means the same as none", body | {"parity": 5.5}),
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
        ("full", "all members", full),
        ("nulls", "", body | dict.fromkeys(("requires", "volumes", "features", "label"))),
        ("role-full", "without signer", own),
        ("role-full-null", "", own | {"signer": None}),
        ("role-verify", "", body | {"role": "verify"}),
        ("volumes-empty", "means the same as none", body | {"volumes": []}),
        ("unknown-members", "are ignored", body | {"color": {"deep": [1]}, "mood": 7}),
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
        ("full", "all members", body | {"requires": [], "reason": "paused"}),
        ("nulls", "", body | {"requires": None, "reason": None}),
        ("unknown-members", "are ignored", body | {"color": 1}),
    ]
    cases = sealed_json("void", b"CTLBvoid", body, right, [
        ("record-short", {"record": SHORT[0].hex()[:-2]}),
        ("record-upper-case", {"record": SHORT[0].hex().upper()}),
        ("record-array", {"record": [SHORT[0].hex()]}), ("reason-number", {"reason": 1}),
        ("time-words", {"time": "now"}),
    ], writers=True, limit=64 * KIB)  # fmt: skip
    made = sealed(Random("revoked void"), KEYS, b"CTLBvoid", to_json(body), signer=REVOKED)
    cases.add("signer-revoked", "", made, "foreign", log=[revocation()])
    cases.add("signer-not-revoked", "", made, {"void": body})
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
    cases.add("full", "all members", make(full), shown(full))
    nulls = body | dict.fromkeys(("requires", "host", "tool"))
    cases.add("nulls", "", make(nulls), shown(nulls))
    cases.add("no-packs", "", make(packs=[]), shown(packs=[]))
    elsewhere(cases, right)
    cases.headers(b"CTLBaudt", lambda head: make(head=head))
    plain = audit_body(body, packs)
    signature_faults(
        cases, b"CTLBaudt", lambda _, **fields: make(**fields), body, shown(), writers=False
    )
    for name, comment, raw, kind in [
        ("empty", "", b"", "truncated"),
        ("json-cut", "", plain[:20], "truncated"),
        ("json-length-largest", "", u(32, 2**32 - 1) + plain[4:], "truncated"),
        ("packs-missing", "", plain[: -3 * 32 - 4], "truncated"),
        ("pack-cut", "", plain[:-1], "truncated"),
        (
            "count-largest",
            "",
            plain[: -3 * 32 - 4] + u(32, 2**32 - 1) + plain[-3 * 32 :],
            "truncated",
        ),
        ("count-less", "", plain[: -3 * 32 - 4] + u(32, 2) + plain[-3 * 32 :], "trailing-bytes"),
        ("trailing-byte-inside", "", plain + b"\0", "trailing-bytes"),
        ("packs-descending", "", audit_body(body, packs[::-1]), "not-canonical"),
        ("pack-twice", "", audit_body(body, [*packs, packs[2]]), "not-canonical"),
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
        ("body-over-limit", "", None, "limit-exceeded"),
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
    cases.add("full", "all members", make(full), shown(full))
    nulls = body | dict.fromkeys(("requires", "host", "tool", "runs", "drills", "replaces"))
    cases.add("nulls", "", make(nulls), shown(nulls))
    cases.add("no-groups", "", make(groups=[]), shown(groups=[]))
    elsewhere(cases, right)
    cases.headers(b"CTLBledg", lambda head: make(head=head))
    signature_faults(
        cases, b"CTLBledg", lambda _, **fields: make(**fields), body, shown(), verifiers=True
    )
    plain = ledger_body(body, groups)

    def grouped(*groups):
        return ledger_body(body, groups)

    for name, comment, raw, kind in [
        ("empty", "", b"", "truncated"),
        ("json-cut", "", plain[:20], "truncated"),
        ("json-length-largest", "", u(32, 2**32 - 1) + plain[4:], "truncated"),
        ("groups-missing", "", plain[: 4 + len(to_json(body))], "truncated"),
        ("pack-cut", "", plain[:-1], "truncated"),
        ("trailing-byte-inside", "", plain + b"\0", "trailing-bytes"),
        ("result-3", "", grouped((7, 3, SHORT[:1])), "bad-value"),
        ("group-empty", "", grouped((7, 1, [])), "not-canonical"),
        ("packs-descending", "", grouped((7, 1, SHORT[1::-1])), "not-canonical"),
        ("pack-twice", "", grouped((7, 1, [SHORT[0], SHORT[0]])), "not-canonical"),
        ("groups-descending", "", grouped((8, 1, SHORT[:1]), (7, 1, SHORT[:1])), "not-canonical"),
        ("results-descending", "", grouped((7, 2, SHORT[:1]), (7, 1, SHORT[:1])), "not-canonical"),
        ("group-twice", "", grouped((7, 1, SHORT[:1]), (7, 1, SHORT[1:2])), "not-canonical"),
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
        ("runs-101", "", ledger_body(body | {"runs": [run] * 101}, groups), "bad-value"),
        ("drills-101", "", ledger_body(body | {"drills": [drill] * 101}, groups), "bad-value"),
        ("replaces-1001", "", ledger_body(body | {"replaces": ["09" * 32] * 1001}, groups),
         "bad-value"),
        ("host-1025", "", ledger_body(body | {"host": "h" * 1025}, groups), "bad-value"),
        ("run-host-1025", "", ledger_body(body | {"runs": [run | {"host": "h" * 1025}]}, groups),
         "bad-value"),
        ("volume-1025", "",
         ledger_body(body | {"drills": [drill | {"volume": "v" * 1025}]}, groups), "bad-value"),
        ("problem-4098", "two bytes a character",
         ledger_body(body | {"drills": [drill | {"problem": "é" * 2049}]}, groups), "bad-value"),
        ("replaces-short", "", ledger_body(body | {"replaces": ["09"]}, groups), "bad-value"),
        ("requires-unknown", "", ledger_body(body | {"requires": ["magic"]}, groups),
         "unknown-feature"),
        ("body-over-limit", "", None, "limit-exceeded"),
    ]:  # fmt: skip
        length = {"length": 4 * MIB + 1} if raw is None else {}
        cases.add(name, comment, make(raw=plain if raw is None else raw, **length), kind)
    longest = body | {
        "host": "h" * 1024, "runs": [run] * 100, "replaces": ["09" * 32] * 1000,
        "drills": [drill | {"volume": "é" * 512, "problem": "p" * 4096}] * 100,
    }  # fmt: skip
    cases.add("longest", "", make(longest), shown(longest))
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
    cases.add("right", "without a sealed part", right, shown())
    first = {"number": 1, "previous": (), "removed": ()}
    add("first", "", **first)
    add("largest-numbers", "", number=2**64 - 1, time=2**64 - 1)
    cases.add("summary", "", make(flags=1), shown(summary=True))
    every = [(kind, SHORT[0]) for kind in sorted(LOG_KINDS)]
    add("every-kind", "", added=every)
    add("nothing", "", added=(), removed=())
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
    add("full", "all members", body)
    add("body-empty", "", {})
    names = "requires", "host", "tool", "removed_records", "revoked", "lost"
    add("nulls", "", dict.fromkeys(names))
    add("removed-record-short", "", {"removed_records": [gone]})
    add("revoked-short", "", {"revoked": [revoked]})
    add("unknown-members", "are ignored", body | {"color": 1})
    cases.add("padded", "", make({}, padding=9), shown({}))
    cases.add("other-name", "stored under another hash", right, "bad-hash", name=SHORT[0])
    cases.add("other-project", "", right, "bad-signature", project_id=OTHER_PROJECT_ID)
    cases.add("other-project-secret", "", right, "bad-signature", project_secret=Random("x")(32))
    cases.add("signed-by-write-key", "", make(signer=WRITER), "bad-signature")
    cases.add("signed-by-other-project", "", make(signer=OTHER_KEYS.signing), "bad-signature")
    cases.add(
        "project-id-of-another",
        "signed for this project",
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
    cases.add("trailing-byte", "after the signature", right + b"\0", "bad-signature")
    cases.add("signature-of-another", "", right[:-64] + make(time=1)[-64:], "bad-signature")
    for name, comment, fields, kind in [
        ("number-0", "", {"number": 0}, "bad-value"),
        ("number-1-with-previous", "", {"number": 1}, "bad-value"),
        ("number-2-without-previous", "", {"number": 2, "previous": ()}, "bad-value"),
        ("flag-2", "", {"flags": 2}, "nonzero-reserved"),
        ("flag-largest", "", {"flags": 1 << 31}, "nonzero-reserved"),
        ("previous-descending", "", {"previous": SHORT[6:4:-1]}, "not-canonical"),
        ("previous-twice", "", {"previous": [SHORT[5]] * 2}, "not-canonical"),
        ("added-descending", "", {"added": added[::-1]}, "not-canonical"),
        ("added-twice", "", {"added": [added[0]] * 2}, "not-canonical"),
        ("removed-kinds-descending", "", {"removed": removed[::-1]}, "not-canonical"),
        ("kind-0", "", {"added": [(0, SHORT[0])]}, "bad-value"),
        ("kind-10", "", {"removed": [(10, SHORT[0])]}, "bad-value"),
        ("kind-255", "", {"removed": [(255, SHORT[0])]}, "bad-value"),
        ("previous-count-more", "", {"counts": (3, 3, 2)}, "truncated"),
        ("added-count-more", "", {"counts": (2, 4, 2)}, "truncated"),
        ("removed-count-less", "", {"counts": (2, 3, 1)}, "trailing-bytes"),
        ("counts-largest", "", {"counts": (2**32 - 1,) * 3}, "truncated"),
        ("sealed-length-1", "", {"length": 1}, "bad-value"),
        ("sealed-length-39", "", {"length": 39}, "bad-value"),
        ("sealed-length-40", "", {"length": 40}, "truncated"),
        ("sealed-length-largest", "", {"length": 2**32 - 1}, "truncated"),
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
    for name, fields, kind in [
        ("payload-codec-2", {"codec": 2}, "bad-codec"),
        ("payload-zero", {"zero": 1}, "nonzero-reserved"),
        ("payload-length-more", {"stored": b"{"}, "bad-length"),
        ("payload-padding-not-zero", {"padding": 1, "pad": b"\1"}, "nonzero-reserved"),
    ]:  # fmt: skip
        cases.add(name, "", make({}, **fields), kind)
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
    cases.add("nothing", "", make([]), shown([]))
    cases.add("name-other", "", right, "bad-hash", name=SHORT[0])
    cases.add("other-project", "", make(project=OTHER_PROJECT_ID), "does-not-open")
    for name, head, kind in [
        ("magic-other-object", header(b"CTLBlogs"), "bad-magic"),
        ("version-2", b"CTLBbtch" + u(16, 2) + bytes(6), "bad-version"),
        ("key-epoch", b"CTLBbtch" + u(16, 1) + u(16, 1) + bytes(4), "unknown-feature"),
        ("feature", b"CTLBbtch" + u(16, 1) + u(16, 0) + u(32, 4), "unknown-feature"),
    ]:
        cases.add(name, "", make(head=head), kind)
    other = (1, SHORT[0], b"an object with another hash")
    for name, data, kind in [
        ("empty", b"", "truncated"),
        ("count-cut", right[:34], "truncated"),
        ("table-cut", right[:80], "truncated"),
        ("contents-cut", right[:-1], "truncated"),
        ("count-most", make(count=2**18), "truncated"),
        ("count-above", make(count=2**18 + 1), "limit-exceeded"),
        ("count-largest", make(count=2**32 - 1), "limit-exceeded"),
        ("trailing-byte", right + b"\0", "trailing-bytes"),
        ("kind-of-a-pack", make([(3, *items[0][1:])]), "bad-value"),
        ("descending", make(items[::-1]), "not-canonical"),
        ("twice", make([items[0], items[0]]), "not-canonical"),
        ("object-with-another-hash", make([other]), "bad-hash"),
    ]:
        cases.add(name, "", data, kind)
    return cases
