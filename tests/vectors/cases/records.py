"""Makes the cases for backup records."""

from cuttlebone_format import LEAF_SIZE, MIB, RAW
from write_repo import Random, Tree, compress, header, sealed, to_json

from .common import (
    KEYS, LIMITED, SHORT, SIGNED, TIME, Cases, body_faults, elsewhere, feature_faults,
    signature_faults, without,
)  # fmt: skip

# Comments of cases whose names do not say enough.
CONTENT_COMMENTS = {
    "size-over-limit": "The size is 2^64 − 2^22 + 1.",
    "kind-object": "The kind is an object, not a string.",
    "root-wrong": "The root is not that of the content.",
    "root-of-other-size": "The size was changed after the root was computed.",
    "root-of-other-chunk-size": "The chunk size was changed after the root was computed.",
    "root-of-other-top": "The top node was changed after the root was computed.",
    "root-of-zeros": "The top node was set to null after the root was computed.",
    "root-of-stream": "The kind and the chunk size were changed after the root was computed.",
}
COMMENTS = {
    "time-basic-form": "The time has neither `-` nor `:`.",
    "time-comma": "The fraction begins with a comma.",
    "time-dot-alone": "No digit follows the dot.",
    "time-other-digits": "The first digit of the year is not an ASCII digit.",
    "time-blank-behind": "A space follows the time.",
    "heads-of-null": "An element of `heads` is null.",
    "source-kind-as-hex": "The kind is an object with `hex`, a form that only bytes have.",
    "path-number": "The path in `source` is a number.",
    "path-empty-object": "The path in `source` is an object without `hex`.",
    "path-odd-digits": "The path in `source` has an odd number of hexadecimal digits.",
    "path-upper-case": "The path in `source` has hexadecimal digits in upper case.",
    "path-array": "The path in `source` is an array.",
    "inode-number": "The member `inode` is a number, not two numbers.",
    "inode-one": "The member `inode` has one number, not two.",
    "inode-three": "The member `inode` has three numbers, not two.",
    "changed_ns-over-63-bits": "A time is 2^63, which 64 bits with a sign cannot hold.",
    "settled-null": "The member `settled` may be missing, but not be null.",
    "image-order-256": "The order of the image in `source` is above 255.",
    "rbd-image_id-hex": "The image id is an object with `hex`, a form that only bytes have.",
    "attachments-of-null": "An element of `attachments` is null.",
    "attachment-without-top": "The attachment has five bytes, but no top node.",
    "attachment-twice": "Two attachments have the same name.",
    "counts-null-member": "A number may be missing, but not be null.",
    "attachment-root-wrong": "The root of the attachment is not that of its content.",
    "attachment-root-of-other-size": "The size was changed after the root was computed.",
    "attachment-top-of-nothing": "The attachment has no bytes, but a top node.",
    "attachment-size-over-limit": "The size of the attachment is 2^64 − 2^22 + 1.",
}


def records() -> Cases:
    cases = Cases(**SIGNED)
    random = Random("records")

    def make(body, codec=None, **fields):
        return sealed(random, KEYS, b"CTLBbkup", to_json(body), codec=codec, **fields)

    def content(kind="image", size=10_000_000, chunk_size=65_536, top=SHORT[0], **wrong):
        return Tree(KEYS).content(kind, size, chunk_size, top) | wrong

    def attachment(name, size, top=SHORT[1]):
        made = content("stream", size, 0, top)
        return {"name": name} | {member: made[member] for member in ("size", "top", "root")}

    record = {
        "volume": {"id": SHORT[4][:16].hex(), "name": "büro / C:"}, "content": content(),
        "time": TIME,
        "finished": TIME,
    }  # fmt: skip
    full = {
        "requires": [], **record, "finished": "2026-11-21T12:00:00.123456+02:00", "host": "h",
        "base": SHORT[5].hex(),
        "heads": [SHORT[5].hex(), SHORT[6].hex()], "follows": [SHORT[5].hex()],
        "replaces": SHORT[6].hex(), "original": SHORT[4].hex(),
        "marks": [SHORT[7].hex()], "labels": {"keep": "yes"},
        "source": {"kind": "file", "path": {"hex": "ff2f00"}, "inode": [1, 2**64 - 1],
            "changed_ns": [-1, 2**63 - 1],
                   "settled": True},
        "attachments": [attachment("xml", 5), attachment("nothing", 0, None)],
        "counts": {"changed": 1, "read": 2, "new": 3, "stored": 4, "chunks_new": 5},
        "tool": "vectors 1",
    }  # fmt: skip
    nulls = dict.fromkeys((
        "requires", "host", "base", "heads", "follows", "replaces", "original", "marks", "labels",
        "source", "attachments", "counts",
        "tool",
    ))  # fmt: skip
    right = make(record)
    cases.add("right", "The record has only the members that must exist.", right,
        {"record": record})
    cases.add("right-raw", "The body is not compressed.", make(record, RAW), {"record": record})
    assert len(compress(to_json(record))) < len(to_json(record))
    for name, comment, value in [
        ("full", "All members exist.", full),
        ("nulls", "All members that may be missing are null.", record | nulls),
        (
            "unknown-members",
            "A reader ignores members that it does not know.",
            record | {"mood": ["calm"], "volume": record["volume"] | {"color": 1}},
        ),
        ("image-zeros", "The image has only zeros, so it has no top node.",
            record | {"content": content(top=None)}),
        ("image-empty", "The image has no bytes.", record | {"content": content(size=0, top=None)}),
        ("image-largest", "The size is 2^64 − 2^22.",
            record | {"content": content(size=2**64 - LEAF_SIZE)}),
        ("image-beyond-float",
            "The size is 2^53 + 1, which a double-precision number cannot hold.",
                record | {"content": content(size=2**53 + 1)}),
        ("stream", "", record | {"content": content("stream", 5, 0)}),
        ("stream-empty", "The stream has no bytes.",
            record | {"content": content("stream", 0, 0, None)}),
        ("time-lower-case", "The letters T and Z are in lower case.",
            record | {"time": "2026-11-21t10:00:00z"}),
        ("time-minus-zero", "The zone offset is -00:00.",
            record | {"time": "2026-11-21T10:00:00-00:00"}),
        ("time-nine-digits", "The fraction has nine digits, the most allowed.",
            record | {"time": "2026-11-21T10:00:00.123456789-23:59"}),
        ("time-leap-second", "A leap second may be read as :59.",
            record | {"time": "2016-12-31T23:59:60Z"}),
        ("source-text-path", "The path is a string, and the kind of source is a new one.",
            record | {"source": {"kind": "a new kind", "path": "/dev/büro"}}),
        (
            "source-stated",
            "The user stated the name and the image id of the source.",
            record | {"source": {"kind": "rbd-diff", "name": "vms/büro", "image_id": "10ab"}},
        ),
        (
            "source-stated-nulls",
            "Name and image id of the source are null.",
            record | {"source": {"kind": "rbd-diff", "name": None, "image_id": None}},
        ),
        (
            "source-nulls",
            "The members of the source that may be missing are null.",
            record | {"source": {"kind": "stdin", "path": None, "inode": None, "changed_ns": None}},
        ),
        ("counts-some", "One number exists. The others are missing.",
            record | {"counts": {"read": 2**64 - 1}}),
        ("counts-none", "All numbers are missing.", record | {"counts": {}}),
    ]:
        cases.add(name, comment, make(value), {"record": value})

    elsewhere(cases, right)
    as_index = sealed(random, KEYS, b"CTLBvoid", to_json(record))
    disguised = header(b"CTLBbkup") + as_index[16:]
    cases.add("void-as-record", "The header of a void was replaced by that of a record.",
        disguised, "does-not-open")
    cases.headers(b"CTLBbkup", lambda head: make(record, head=head))
    body_faults(cases, make, b'{"x":"' + bytes(200).hex().encode() + b'"}', b'{"x":0}', 16 * MIB)
    signature_faults(cases, b"CTLBbkup", make, record, {"record": record})
    feature_faults(cases, make, record)
    for volume, fits in [
        ("web-1", True), ("web-", True), ("web-a/b*", True), ("db1", True), ("dbé", True),
        ("web", False), ("db", False),
        ("db12", False), ("my-web-1", False), ("WEB-1", False), ("", False), ("web-\nx", True),
    ]:  # fmt: skip
        named = record | {"volume": record["volume"] | {"name": volume}}
        verb = "fit" if fits else "do not fit"
        comment = f"The patterns of the signer's certificate, web-* and db?, {verb} this name."
        cases.add(f"limited-signer-{volume!r}", comment,
                  make(named, signer=LIMITED),
                  {"record": named} if fits else "foreign")  # fmt: skip
        if not fits:
            comment = "A full signer may back up volumes of any name."
            cases.add(f"full-signer-{volume!r}", comment, make(named), {"record": named})
    cases.add("limited-signer-other-id",
        "The patterns fit the name of the volume. Its id does not matter.",
              make(record | {"volume": {"id": SHORT[5][:16].hex(), "name": "db1"}}, signer=LIMITED),
              {"record": record | {"volume": {"id": SHORT[5][:16].hex(),
                  "name": "db1"}}})  # fmt: skip

    for name, body in [
        ("body-empty", b""), ("body-not-json", b"record"), ("body-array", b"[]"),
        ("body-string", b'"x"'),
        ("body-not-utf8", b'{"time": "\xff"}'), ("body-trailing", to_json(record) + b"{}"),
        ("body-cut", to_json(record)[:-1]), ("body-nan", to_json(record)[:-1] + b', "x": NaN}'),
        ("body-bom", b"\xef\xbb\xbf" + to_json(record)),
    ]:  # fmt: skip
        cases.add(f"json-{name}", "", make(body), "bad-json")
    for name in record:
        cases.add(f"{name}-missing", "", make(without(record, name)), "bad-value")
        cases.add(f"{name}-null", "", make(record | {name: None}), "bad-value")
        cases.add(f"{name}-number", "", make(record | {name: 1}), "bad-value")
        members = record[name].values() if isinstance(record[name], dict) else record[name]
        of_what = "the members' values" if isinstance(record[name], dict) else "characters"
        comment = f"The value is an array of {of_what}."
        cases.add(f"{name}-array", comment, make(record | {name: list(members)}), "bad-value")
        twice = to_json(record)[:-1] + b"," + to_json({name: record[name]})[1:]
        comment = "The member occurs twice, with the same value."
        cases.add(f"{name}-twice", comment, make(twice), "bad-value")
    cases.add("unknown-twice", "A member that this version does not name occurs twice.",
        make(to_json(record)[:-1] + b', "x": 1, "x": 2}'),
              {"record": record | {"x": 2}})  # fmt: skip
    values = [[], *record.values()]
    cases.add("members-in-array", "The body is an array of the members' values.", make(values),
        "bad-json")
    for name in "time", "finished":
        cases.add(f"{name}-words", "The time is not RFC 3339.", make(record | {name: "yesterday"}),
            "bad-value")
        cases.add(
            f"{name}-month-13", "", make(record | {name: "2026-13-01T00:00:00Z"}), "bad-value"
        )
        cases.add(
            f"{name}-without-zone", "", make(record | {name: "2026-11-21T10:00:00"}), "bad-value"
        )
        faults = [
            ("space", "2026-11-21 10:00:00Z"), ("without-seconds", "2026-11-21T10:00Z"),
            ("basic-form", "20261121T100000Z"),
            ("named-zone", "2026-11-21T10:00:00+01:00[Europe/Paris]"),
            ("zone-of-hours", "2026-11-21T10:00:00+01"),
            ("zone-24-hours", "2026-11-21T10:00:00+24:00"),
            ("zone-60-minutes", "2026-11-21T10:00:00+01:60"), ("comma", "2026-11-21T10:00:00,5Z"),
            ("dot-alone", "2026-11-21T10:00:00.Z"),
            ("ten-digits", "2026-11-21T10:00:00.0123456789Z"),
            ("year-0000", "0000-11-21T10:00:00Z"), ("year-9999", "9999-11-21T10:00:00Z"),
            ("year-of-six-digits", "+002026-11-21T10:00:00Z"),
            ("february-30", "2026-02-30T10:00:00Z"),
            ("hour-24", "2026-11-21T24:00:00Z"), ("second-61", "2026-11-21T10:00:61Z"),
            ("other-digits", "２026-11-21T10:00:00Z"), ("blank-behind", "2026-11-21T10:00:00Z "),
        ]  # fmt: skip
        for what, wrong in faults if name == "time" else faults[:2]:
            comment = COMMENTS.get(f"{name}-{what}", "")
            cases.add(f"{name}-{what}", comment, make(record | {name: wrong}), "bad-value")

    volume = record["volume"]
    for name, wrong in [
        ("id-missing", without(volume, "id")),
        ("name-missing", without(volume, "name")),
        ("name-number", volume | {"name": 1}),
        ("id-short", volume | {"id": volume["id"][:-2]}),
        ("id-long", volume | {"id": volume["id"] + "00"}),
        ("id-not-hex", volume | {"id": "g" * 32}),
        ("id-upper-case", volume | {"id": "ABCDEF" + volume["id"][6:]}),
    ]:
        cases.add(f"volume-{name}", "", make(record | {"volume": wrong}), "bad-value")
    for name in content():
        cases.add(
            f"content-{name}-missing",
            "",
            make(record | {"content": without(content(), name)}),
            "bad-value",
        )
    for name, wrong, kind in [
        ("kind-unknown", {"kind": "tape"}, "bad-value"),
        ("kind-number", {"kind": 1}, "bad-value"),
        ("size-string", {"size": "10000000"}, "bad-value"),
        ("size-negative", {"size": -1}, "bad-value"),
        ("size-fraction", {"size": 1.5}, "bad-value"),
        ("size-over-64-bits", {"size": 2**64}, "bad-value"),
        ("size-over-limit", {"size": 2**64 - LEAF_SIZE + 1}, "limit-exceeded"),
        ("kind-object", {"kind": {"image": None}}, "bad-value"),
        ("chunk_size-0", {"chunk_size": 0}, "limit-exceeded"),
        ("chunk_size-2048", {"chunk_size": 2048}, "limit-exceeded"),
        ("chunk_size-8388608", {"chunk_size": 8 * MIB}, "limit-exceeded"),
        ("chunk_size-no-power", {"chunk_size": 65_537}, "bad-value"),
        ("chunk_size-string", {"chunk_size": "65536"}, "bad-value"),
        ("top-short", {"top": SHORT[0].hex()[:-2]}, "bad-value"),
        ("top-not-hex", {"top": "x" * 64}, "bad-value"),
        ("top-upper-case", {"top": SHORT[0].hex().upper()}, "bad-value"),
        ("top-number", {"top": 0}, "bad-value"),
        ("root-null", {"root": None}, "bad-value"),
        ("root-short", {"root": SHORT[0].hex()[:-2]}, "bad-value"),
        ("root-wrong", {"root": SHORT[0].hex()}, "bad-root"),
        ("root-of-other-size", {"size": 10_000_001}, "bad-root"),
        ("root-of-other-chunk-size", {"chunk_size": 4096}, "bad-root"),
        ("root-of-other-top", {"top": SHORT[1].hex()}, "bad-root"),
        ("root-of-zeros", {"top": None}, "bad-root"),
        ("root-of-stream", {"kind": "stream", "chunk_size": 0}, "bad-root"),
    ]:
        body = record | {"content": content() | wrong}
        cases.add(f"content-{name}", CONTENT_COMMENTS.get(name, ""), make(body), kind)
    rbd = {"cluster": "8f72b51f-078e-424c-a303-575956341201", "pool_id": 2, "image_id": "10ab"}
    for name, wrong in [
        ("host-number", {"host": 1}),
        ("tool-array", {"tool": ["x"]}),
        ("base-short", {"base": SHORT[5].hex()[:-2]}),
        ("base-number", {"base": 1}),
        ("heads-string", {"heads": SHORT[5].hex()}),
        ("heads-upper-case", {"heads": [SHORT[5].hex(), SHORT[6].hex().upper()]}),
        ("heads-of-null", {"heads": [None]}),
        ("labels-array", {"labels": []}),
        ("labels-number", {"labels": {"keep": 1}}),
        ("source-string", {"source": "file"}),
        ("source-array", {"source": ["file"]}),
        ("source-without-kind", {"source": {"path": "x"}}),
        ("source-kind-null", {"source": {"kind": None}}),
        ("source-kind-as-hex", {"source": {"kind": {"hex": "ff"}}}),
        ("path-number", {"source": {"kind": "file", "path": 1}}),
        ("path-empty-object", {"source": {"kind": "file", "path": {}}}),
        ("path-odd-digits", {"source": {"kind": "file", "path": {"hex": "fff"}}}),
        ("path-upper-case", {"source": {"kind": "file", "path": {"hex": "FF"}}}),
        ("path-array", {"source": {"kind": "file", "path": ["ff"]}}),
        ("inode-number", {"source": {"kind": "file", "inode": 7}}),
        ("inode-one", {"source": {"kind": "file", "inode": [7]}}),
        ("inode-three", {"source": {"kind": "file", "inode": [7, 7, 7]}}),
        ("inode-negative", {"source": {"kind": "file", "inode": [7, -1]}}),
        ("changed_ns-over-63-bits", {"source": {"kind": "file", "changed_ns": [0, 2**63]}}),
        ("settled-null", {"source": {"kind": "file", "settled": None}}),
        ("settled-number", {"source": {"kind": "file", "settled": 1}}),
        ("snapshot-number", {"source": {"kind": "rbd-diff", "snapshot": 1}}),
        ("snapshot-odd-digits", {"source": {"kind": "rbd-diff", "snapshot": {"hex": "f"}}}),
        (
            "from_snapshot-upper-case",
            {"source": {"kind": "rbd-diff", "from_snapshot": {"hex": "FF"}}},
        ),
        ("protected-number", {"source": {"kind": "rbd-diff", "protected": 1}}),
        ("image-array", {"source": {"kind": "rbd-diff", "image": [22]}}),
        ("image-order-256", {"source": {"kind": "rbd-diff", "image": {"order": 256}}}),
        ("image-features-negative", {"source": {"kind": "rbd-diff", "image": {"features": -1}}}),
        ("image-data_pool-number", {"source": {"kind": "rbd", "image": {"data_pool": 1}}}),
        ("rbd-array", {"source": {"kind": "rbd", "rbd": list(rbd.values())}}),
        ("rbd-without-cluster", {"source": {"kind": "rbd", "rbd": without(rbd, "cluster")}}),
        ("rbd-without-pool_id", {"source": {"kind": "rbd", "rbd": without(rbd, "pool_id")}}),
        ("rbd-without-image_id", {"source": {"kind": "rbd", "rbd": without(rbd, "image_id")}}),
        ("rbd-cluster-null", {"source": {"kind": "rbd", "rbd": rbd | {"cluster": None}}}),
        ("rbd-pool_id-string", {"source": {"kind": "rbd", "rbd": rbd | {"pool_id": "3"}}}),
        ("rbd-pool_id-negative", {"source": {"kind": "rbd", "rbd": rbd | {"pool_id": -1}}}),
        ("rbd-pool-odd-digits", {"source": {"kind": "rbd", "rbd": rbd | {"pool": {"hex": "f"}}}}),
        ("rbd-namespace-number", {"source": {"kind": "rbd", "rbd": rbd | {"namespace": 0}}}),
        ("rbd-image_id-hex", {"source": {"kind": "rbd", "rbd": rbd | {"image_id": {"hex": ""}}}}),
        ("rbd-image-array", {"source": {"kind": "rbd", "rbd": rbd | {"image": ["a"]}}}),
        ("rbd-snapshot_id-string", {"source": {"kind": "rbd", "rbd": rbd | {"snapshot_id": "4"}}}),
        ("group-number", {"source": {"kind": "rbd", "group": 1}}),
        ("consistency-array", {"source": {"kind": "rbd", "consistency": ["crash"]}}),
        ("changes_in_row-string", {"source": {"kind": "rbd", "changes_in_row": "1"}}),
        ("changes_in_row-negative", {"source": {"kind": "rbd", "changes_in_row": -1}}),
        ("change_list-bool", {"source": {"kind": "rbd", "change_list": True}}),
        ("follows-string", {"follows": SHORT[5].hex()}),
        ("follows-short", {"follows": [SHORT[5].hex()[:-2]]}),
        ("replaces-array", {"replaces": [SHORT[5].hex()]}),
        ("replaces-upper-case", {"replaces": SHORT[5].hex().upper()}),
        ("original-array", {"original": [SHORT[4].hex()]}),
        ("original-short", {"original": SHORT[4].hex()[:-2]}),
        ("marks-number", {"marks": [1]}),
        ("attachments-object", {"attachments": attachment("x", 5)}),
        ("attachments-of-null", {"attachments": [None]}),
        ("attachment-name-missing", {"attachments": [without(attachment("x", 5), "name")]}),
        ("attachment-size-string", {"attachments": [attachment("x", 5) | {"size": "5"}]}),
        ("attachment-top-missing", {"attachments": [without(attachment("x", 5), "top")]}),
        ("attachment-without-top", {"attachments": [attachment("x", 5, None)]}),
        ("attachment-twice", {"attachments": [attachment("x", 5), attachment("x", 0, None)]}),
        ("counts-array", {"counts": [1, 2, 3, 4, 5]}),
        ("counts-null-member", {"counts": {"read": None}}),
        ("counts-string", {"counts": {"read": "1"}}),
        ("counts-negative", {"counts": {"read": -1}}),
    ]:
        cases.add(name, COMMENTS.get(name, ""), make(record | wrong), "bad-value")
    for name, wrong, kind in [
        ("attachment-root-wrong", attachment("x", 5) | {"root": SHORT[0].hex()}, "bad-root"),
        ("attachment-root-of-other-size", attachment("x", 5) | {"size": 6}, "bad-root"),
        ("attachment-top-of-nothing", attachment("x", 0), "not-canonical"),
        ("attachment-size-over-limit", attachment("x", 2**64 - LEAF_SIZE + 1), "limit-exceeded"),
    ]:
        cases.add(name, COMMENTS.get(name, ""), make(record | {"attachments": [wrong]}), kind)
    image = {"order": 22, "features": 2**64 - 1, "stripe_unit": 65_536, "stripe_count": 16}
    diffs = {
        "source": {
            "kind": "rbd-diff",
            "snapshot": "s2",
            "from_snapshot": {"hex": "ff40"},
            "protected": False,
            "image": image,
        }
    }
    cases.add(
        "diff",
        "The source is a diff of an RBD image.",
        make(record | diffs),
        {"record": record | diffs},
    )
    nothing = {"kind": "rbd-diff"} | dict.fromkeys(
        ("snapshot", "from_snapshot", "protected", "image")
    )
    cases.add(
        "diff-nulls",
        "The members of this source that may be missing are null.",
        make(record | {"source": nothing}),
        {"record": record | {"source": nothing}},
    )
    live = {
        "kind": "rbd",
        "snapshot": "cuttlebone-20261121T100000Z-00112233",
        "image": image | {"data_pool": "data"},
        "rbd": rbd | {"pool": {"hex": "ff"}, "namespace": "büro", "image": "a@b",
            "snapshot_id": 2**64 - 1},
        "group": "0123",
        "consistency": "quiesced",
        "changes_in_row": 2**64 - 1,
        "change_list": "distrusted",
    }  # fmt: skip
    cases.add(
        "rbd",
        "The source is an image in its cluster.",
        make(record | {"source": live}),
        {"record": record | {"source": live}},
    )
    nothing = {"kind": "rbd"} | dict.fromkeys(
        ("image", "rbd", "group", "consistency", "changes_in_row", "change_list")
    )
    cases.add(
        "rbd-nulls",
        "The members of this source that may be missing are null.",
        make(record | {"source": nothing}),
        {"record": record | {"source": nothing}},
    )
    least = {
        "kind": "rbd",
        "rbd": rbd | dict.fromkeys(("pool", "namespace", "image", "snapshot_id")),
        "consistency": "a new word",
        "changes_in_row": 0,
        "change_list": "a new word",
    }
    cases.add(
        "rbd-least",
        "The members of `source.rbd` that may be missing are null.",
        make(record | {"source": least}),
        {"record": record | {"source": least}},
    )
    minus_zero = to_json(record).replace(b'"size": 10000000', b'"size": -0')
    cases.add("content-size-minus-zero", "The size is -0, which has a sign.", make(minus_zero),
        "bad-value")
    cases.add("label-twice", "A label occurs twice, and the last one counts.",
        make(to_json(record)[:-1] + b', "labels": {"a": "1", "a": "2"}}'),
              {"record": record | {"labels": {"a": "2"}}})  # fmt: skip
    cases.add("content-stream-without-top",
        "The stream has five bytes, so it must have a top node, even for zeros.",
              make(record | {"content": content("stream", 5, 0, None)}), "bad-value")  # fmt: skip
    stream = content("stream", 5, 4096)
    cases.add("content-stream-with-chunk-size", "The chunk size of a stream is 0.",
        make(record | {"content": stream}), "bad-value")
    cases.add(
        "content-top-of-nothing",
        "The image has no bytes, but a top node.",
        make(record | {"content": content(size=0)}),
        "not-canonical",
    )
    return cases
