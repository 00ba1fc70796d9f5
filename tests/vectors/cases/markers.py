"""Makes the cases for leases and marks."""

from cuttlebone_format import MIB
from write_repo import Random, header, sealed, to_json

from .common import (
    KEYS, OTHER_PROJECT_ID, REVOKED, SHORT, SIGNED, TIME, Cases, elsewhere, feature_faults,
    revocation,
    signature_faults, without,
)  # fmt: skip


def leases() -> Cases:
    cases = Cases(**SIGNED)
    random = Random("leases")

    def make(body, codec=None, **fields):
        return sealed(random, KEYS, b"CTLBleas", to_json(body), codec=codec, **fields)

    lease = {"work": "backup", "running_seconds": 90}
    process = {
        "boot": "b4e1",
        "namespace": "pid:[4026531836]",
        "pid": 2**32 - 1,
        "started": 2**64 - 1,
    }
    full = {
        "requires": [], **lease, "store_time": 1795910400,
        "packs": [SHORT[0].hex(), SHORT[1].hex()],
        "tops": [SHORT[2].hex()],
        "removes": [SHORT[3].hex()], "keeps": [SHORT[4].hex()], "host": "h", "process": process,
        "tool": "vectors 1",
    }  # fmt: skip
    nulls = {
        name: None
        for name in (
            "requires", "store_time", "packs", "tops", "removes", "keeps", "host", "process",
            "tool",
        )
    }  # fmt: skip
    right = make(lease)
    cases.add("right", "The lease has only the members that must exist.", right, {"lease": lease})
    for name, comment, value in [
        ("full", "All members exist.", full),
        ("nulls", "All members that may be missing are null.", lease | nulls),
        ("prune", "The lease is for a prune.", lease | {"work": "prune", "running_seconds": 0}),
        ("work-new", "Later versions may add other kinds of `work`.", lease | {"work": "dream"}),
        ("running-largest", "The number is 2^64 − 1.", lease | {"running_seconds": 2**64 - 1}),
        ("store-time-largest", "The number is 2^64 − 1.", lease | {"store_time": 2**64 - 1}),
        ("packs-only", "", lease | {"packs": [SHORT[0].hex()]}),
        ("tops-only", "", lease | {"tops": [SHORT[2].hex()]}),
        ("pack-twice", "A pack that is named twice counts once.",
            lease | {"packs": [SHORT[0].hex()] * 2}),
        ("unknown-members", "A reader ignores members that it does not know.",
         full | {"mood": "sad", "x": {"color": 1}, "process": process | {"color": "red"}}),
    ]:  # fmt: skip
        cases.add(name, comment, make(value), {"lease": value})
    elsewhere(cases, right, named=False)
    as_mark = sealed(random, KEYS, b"CTLBmark", to_json(lease))
    cases.add(
        "mark-as-lease",
        "The header of a mark was replaced by that of a lease.",
        header(b"CTLBleas") + as_mark[16:], "does-not-open"
    )
    cases.flips(right, {"nonce": 16, "payload": 40, "tag": len(right) - 1})
    cases.truncated(right, [0, 15, 16, 39])
    cases.headers(b"CTLBleas", lambda head: make(lease, head=head))
    signature_faults(cases, b"CTLBleas", make, lease, {"lease": lease})
    feature_faults(cases, make, lease)
    cases.add("signer-revoked", "The log revokes the signer.", make(lease, signer=REVOKED),
        "foreign", log=[revocation()])
    cases.add("signer-not-revoked", "The log does not revoke the signer.",
        make(lease, signer=REVOKED), {"lease": lease})
    cases.add("body-over-limit", "The stated length of the body is above 16 MiB.",
        make(lease, length=16 * MIB + 1), "limit-exceeded")
    for name, body, kind in [
        ("not-json", b"lease", "bad-json"),
        ("array", to_json([lease]), "bad-json"),
        ("members-in-array", to_json([[], "backup", 90]), "bad-json"),
        ("number", b"1", "bad-json"),
        ("nothing", b"", "bad-json"),
        ("two-values", b"{}{}", "bad-json"),
        ("removes-string", lease | {"removes": SHORT[0].hex()}, "bad-value"),
        ("removes-short", lease | {"removes": [SHORT[0].hex()[:-2]]}, "bad-value"),
        ("keeps-number", lease | {"keeps": [1]}, "bad-value"),
        ("keeps-upper-case", lease | {"keeps": [SHORT[0].hex().upper()]}, "bad-value"),
        ("work-missing", without(lease, "work"), "bad-value"),
        ("work-null", lease | {"work": None}, "bad-value"),
        ("work-number", lease | {"work": 1}, "bad-value"),
        ("work-twice", to_json(lease)[:-1] + b', "work": "prune"}', "bad-value"),
        ("running-missing", without(lease, "running_seconds"), "bad-value"),
        ("running-null", lease | {"running_seconds": None}, "bad-value"),
        ("running-negative", lease | {"running_seconds": -1}, "bad-value"),
        ("running-fraction", lease | {"running_seconds": 1.5}, "bad-value"),
        ("running-string", lease | {"running_seconds": "90"}, "bad-value"),
        ("running-over-64-bits", lease | {"running_seconds": 2**64}, "bad-value"),
        ("packs-string", lease | {"packs": SHORT[0].hex()}, "bad-value"),
        ("pack-short", lease | {"packs": [SHORT[0].hex()[:-2]]}, "bad-value"),
        (
            "pack-upper-case",
            lease | {"packs": [SHORT[0].hex(), SHORT[1].hex().upper()]},
            "bad-value",
        ),
        ("pack-null", lease | {"packs": [None]}, "bad-value"),
        ("top-long", lease | {"tops": [SHORT[2].hex() + "00"]}, "bad-value"),
        ("top-not-hex", lease | {"tops": ["x" * 64]}, "bad-value"),
        ("tops-object", lease | {"tops": {}}, "bad-value"),
        ("host-number", lease | {"host": 1}, "bad-value"),
        ("tool-array", lease | {"tool": ["x"]}, "bad-value"),
        ("process-string", lease | {"process": "1234"}, "bad-value"),
        ("process-array", lease | {"process": list(process.values())}, "bad-value"),
        ("process-empty", lease | {"process": {}}, "bad-value"),
        *[
            (f"process-{name}-missing", lease | {"process": without(process, name)}, "bad-value")
            for name in process
        ],
        ("process-boot-null", lease | {"process": process | {"boot": None}}, "bad-value"),
        (
            "process-namespace-number",
            lease | {"process": process | {"namespace": 4026531836}},
            "bad-value",
        ),
        ("process-pid-string", lease | {"process": process | {"pid": "1"}}, "bad-value"),
        ("process-pid-over-32-bits", lease | {"process": process | {"pid": 2**32}}, "bad-value"),
        ("process-started-negative", lease | {"process": process | {"started": -1}}, "bad-value"),
    ]:
        cases.add(name, "", make(body), kind)
    reading = lease | {"work": "read", "tops": [SHORT[2].hex(), SHORT[1].hex()]}
    for name, body, kind in [
        ("read-top-short", reading | {"tops": [SHORT[2].hex(), SHORT[1].hex()[:-2]]}, "bad-value"),
        ("read-top-number", reading | {"tops": [1]}, "bad-value"),
        ("read-tops-string", reading | {"tops": SHORT[2].hex()}, "bad-value"),
        ("read-running-missing", without(reading, "running_seconds"), "bad-value"),
        ("store-time-negative", lease | {"store_time": -1}, "bad-value"),
        ("store-time-fraction", lease | {"store_time": 1.5}, "bad-value"),
        ("store-time-string", lease | {"store_time": "90"}, "bad-value"),
        ("store-time-over-64-bits", lease | {"store_time": 2**64}, "bad-value"),
    ]:
        cases.add(name, "", make(body), kind)
    cases.add("read-other-project", "The lease is in the directory of another project.",
        make(reading), "does-not-open", project_id=OTHER_PROJECT_ID)
    cases.add("read", "The lease is for reading, and names the top nodes of the trees.",
        make(reading), {"lease": reading})
    return cases


def marks() -> Cases:
    cases = Cases(**SIGNED)
    random = Random("marks")

    def make(body, codec=None, **fields):
        return sealed(random, KEYS, b"CTLBmark", to_json(body), codec=codec, **fields)

    mark = {"time": TIME}
    packs, segments = [SHORT[0].hex(), SHORT[1].hex()], [SHORT[2].hex()]
    full = {
        "requires": [],
        "packs": packs,
        "segments": segments,
        "records": segments,
        **mark,
        "host": "h",
        "tool": "vectors 1",
    }
    nulls = {name: None for name in ("requires", "packs", "segments", "records", "host", "tool")}
    right = make(mark)
    cases.add("right", "The mark has only the member that must exist, and names no objects.",
        right, {"mark": mark})
    for name, comment, value in [
        ("full", "All members exist.", full),
        ("nulls", "All members that may be missing are null.", mark | nulls),
        ("packs", "", mark | {"packs": packs}),
        ("segments", "", mark | {"segments": segments}),
        ("none", "The mark names no objects.", mark | {"packs": [], "segments": []}),
        ("pack-twice", "A pack that is named twice counts once.", mark | {"packs": packs[:1] * 2}),
        ("unknown-members", "A reader ignores members that it does not know.",
            full | {"mood": "sad", "x": {"color": 1}}),
    ]:
        cases.add(name, comment, make(value), {"mark": value})
    elsewhere(cases, right)
    as_void = sealed(random, KEYS, b"CTLBvoid", to_json(mark))
    cases.add(
        "void-as-mark",
        "The header of a void was replaced by that of a mark.",
        header(b"CTLBmark") + as_void[16:], "does-not-open"
    )
    cases.headers(b"CTLBmark", lambda head: make(mark, head=head))
    signature_faults(cases, b"CTLBmark", make, mark, {"mark": mark}, writers=False)
    feature_faults(cases, make, mark, writers=False)
    cases.add("body-over-limit", "The stated length of the body is above 16 MiB.",
        make(mark, length=16 * MIB + 1), "limit-exceeded")
    for name, body, kind in [
        ("not-json", b"mark", "bad-json"),
        ("array", to_json([mark]), "bad-json"),
        ("members-in-array", to_json([[], packs, segments, TIME]), "bad-json"),
        ("string", b'"mark"', "bad-json"),
        ("nothing", b"", "bad-json"),
        ("records-string", mark | {"records": packs[0]}, "bad-value"),
        ("record-short", mark | {"records": [packs[0][:-2]]}, "bad-value"),
        ("packs-string", mark | {"packs": packs[0]}, "bad-value"),
        ("packs-twice", to_json(full)[:-1] + b', "packs": []}', "bad-value"),
        ("pack-short", mark | {"packs": [packs[0][:-2]]}, "bad-value"),
        ("pack-upper-case", mark | {"packs": [packs[0], packs[1].upper()]}, "bad-value"),
        ("pack-null", mark | {"packs": [None]}, "bad-value"),
        ("segments-string", mark | {"segments": segments[0]}, "bad-value"),
        ("segment-long", mark | {"segments": [segments[0] + "00"]}, "bad-value"),
        ("segment-not-hex", mark | {"segments": ["x" * 64]}, "bad-value"),
        ("time-missing", without(full, "time"), "bad-value"),
        ("time-null", mark | {"time": None}, "bad-value"),
        ("time-number", mark | {"time": 1}, "bad-value"),
        ("time-words", mark | {"time": "yesterday"}, "bad-value"),
        ("time-space", mark | {"time": "2026-11-21 10:00:00Z"}, "bad-value"),
        ("time-without-zone", mark | {"time": "2026-11-21T10:00:00"}, "bad-value"),
        ("time-twice", to_json(mark)[:-1] + b', "time": "2026-11-21T10:00:00Z"}', "bad-value"),
        ("host-number", mark | {"host": 1}, "bad-value"),
        ("tool-array", mark | {"tool": ["x"]}, "bad-value"),
    ]:
        cases.add(name, "", make(body), kind)
    return cases
