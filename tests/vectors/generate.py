#!/usr/bin/env python3
"""Makes the test vectors, the same in every run: generate.py [DIR]. README.md describes their form.

The expected values come from what was written, never from a decoder. Where possible a wrong object
has one fault only: its hash, tags and sums are computed after the fault was added.
"""

import json
import sys
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "reader"))

from cuttlebone_format import (  # noqa: E402
    BRANCH, CHUNK, DERIVED, FANOUT, H, KIB, MAX_BLOB, MAX_PACK, MAX_RUN, MIB, NODE, RAW, LEAF, LEAF_SIZE,
    STREAM_BRANCH, STREAM_LEAF, ZERO_ID, ZSTD, Content, argon2id, blob_id, derive, root_of,
)  # fmt: skip
from write_repo import (  # noqa: E402
    Faulty, Pack, Random, Tree, Writer, compress, contents, describe, descriptor, grid_node, header, index_body,
    project, repository, sealed, slot, stream_node, to_json, u,
)  # fmt: skip

SECRET, OTHER_SECRET = Random("repository secret")(32), Random("another repository secret")(32)
PROJECT_SECRET, OTHER_PROJECT_SECRET = Random("project secret")(32), Random("another project secret")(32)
PROJECT_ID, OTHER_PROJECT_ID = Random("project id")(16), Random("another project id")(16)
PASSWORD = "pass wörd".encode()
TIME = "2026-11-21T10:00:00Z"
IDS = [Random(f"id {i}")(32) for i in range(8)]
SHORT = [bytes([0xA0 + i]) * 32 for i in range(8)]
"""Ids that compress well, which keeps the files small."""


def as_json(value):
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {name: as_json(item) for name, item in value.items()}
    return [as_json(item) for item in value] if isinstance(value, (list, tuple)) else value


def without(value: dict, name: str) -> dict:
    return {key: item for key, item in value.items() if key != name}


class Cases(list):
    """The cases of one file, and the inputs of cases that do not set their own."""

    def __init__(self, **inputs):
        self.inputs = inputs

    def add(self, name: str, comment: str, data: bytes | None, expect, /, **inputs):
        """`expect`: the error's kind, or the decoded fields. Omits inputs equal to the first case's."""
        assert name not in [case["name"] for case in self], name
        inputs = {key: value for key, value in as_json(self.inputs | inputs).items() if value is not None}
        if self:
            first = self[0].get("inputs", {})
            inputs = {key: inputs.get(key) for key in [*first, *inputs] if inputs.get(key) != first.get(key)}
        case = {"name": name, "comment": comment, "inputs": inputs}
        case = {member: value for member, value in case.items() if value}
        if data is not None:
            case["object"] = data.hex()
        case["expect"] = {"error": expect} if isinstance(expect, str) else {"ok": as_json(expect)}
        self.append(case)

    def headers(self, magic: bytes, make):
        """Adds every fault of a header. `make(head)` returns a valid object but for that header."""
        other = b"CTLBrepo" if magic != b"CTLBrepo" else b"CTLBslot"
        self.add("magic-other-object", "the magic of another kind of object", make(header(other)), "bad-magic")
        self.add("magic-case", "the magic in lower case", make(header(magic.lower())), "bad-magic")
        for version in 0, 2, 256:
            self.add(f"version-{version}", "", make(header(magic, version=version)), "bad-version")
        for zero in 1, 0x8000:
            self.add(
                f"header-zero-{zero:04x}", "bytes 10..12 are zero", make(header(magic, zero=zero)), "nonzero-reserved"
            )
        for bit in 0, 31:
            head = header(magic, features=1 << bit)
            self.add(f"feature-bit-{bit}", "no feature is defined yet", make(head), "unknown-feature")

    def flips(self, data: bytes, places: dict[str, int], expect="does-not-open"):
        for what, at in places.items():
            wrong = bytearray(data)
            wrong[at] ^= 1
            self.add(f"flip-{what}", f"one bit of byte {at} is flipped", bytes(wrong), expect)

    def truncated(self, data: bytes, lengths, kind="truncated"):
        for length in lengths:
            length %= len(data)
            self.add(f"first-{length}-bytes", f"only {length} of {len(data)} bytes", data[:length], kind)


# ---- Derivations -------------------------------------------------------------------------------


def keys() -> Cases:
    cases = Cases()
    for name, secret in ("zero-secret", bytes(32)), ("repository-secret", SECRET), ("project-secret", PROJECT_SECRET):
        cases.add(name, "every key, though only some belong to R and some to P", None,
                  {name: derive(name, secret) for name in DERIVED}, secret=secret)  # fmt: skip
    for name, password, memory, passes, lanes in [
        ("argon2id", PASSWORD, 8, 1, 1),
        ("argon2id-lanes", PASSWORD, 64, 2, 4),
        ("argon2id-empty-password", b"", 8, 1, 1),
        ("argon2id-not-utf8", b"\xff\x00\n", 16, 3, 2),
        ("argon2id-odd-memory", PASSWORD, 37, 1, 3),
    ]:
        salt = Random(name)(32)
        cases.add(name, "", None, {"key": argon2id(password, salt, memory, passes, lanes)},
                  password=password, salt=salt, memory_kib=memory, passes=passes, lanes=lanes)  # fmt: skip
    return cases


def ids() -> Cases:
    cases = Cases(project_secret=PROJECT_SECRET)
    for kind, code in ("chunk", CHUNK), ("node", NODE):
        for name, plain in ("byte", b"\0"), ("text", b"cuttlebone"), ("two-blocks", bytes(range(256)) * 4 + b"!"):
            cases.add(f"{kind}-{name}", "", None, {"id": blob_id(code, plain, PROJECT_SECRET)}, kind=kind, plain=plain)
    cases.add("chunk-other-project", "another project, another id", None,
              {"id": blob_id(CHUNK, b"cuttlebone", OTHER_PROJECT_SECRET)},
              project_secret=OTHER_PROJECT_SECRET, kind="chunk", plain=b"cuttlebone")  # fmt: skip
    for name, kind, size, chunk_size, top in [
        ("root-image", "image", 10_000_000, 65_536, IDS[0]),
        ("root-image-zeros", "image", 10_000_000, 65_536, None),
        ("root-image-empty", "image", 0, 65_536, None),
        ("root-image-largest", "image", 2**64 - 1, 4 * MIB, IDS[0]),
        ("root-image-other-chunk-size", "image", 10_000_000, 4096, IDS[0]),
        ("root-stream", "stream", 10_000_000, 0, IDS[0]),
        ("root-stream-empty", "stream", 0, 0, None),
    ]:
        root = root_of(Content(kind, size, chunk_size, top, b""), PROJECT_SECRET)
        cases.add(name, "", None, {"root": root}, kind=kind, size=size, chunk_size=chunk_size, top=top)
    return cases


# ---- Objects -----------------------------------------------------------------------------------


def repository_file() -> Cases:
    cases = Cases(repository_secret=SECRET)
    repository_id, created = Random("repository id")(16), 1_795_219_200
    right = repository(SECRET, repository_id, created)
    fields = {"repository_id": repository_id, "created": created}
    cases.add("right", "", right, fields)
    cases.add("created-largest", "", repository(SECRET, repository_id, 2**64 - 1), fields | {"created": 2**64 - 1})
    foreign = repository(OTHER_SECRET, repository_id, created)
    cases.add("without-secret", "the key of a project alone cannot check the MAC", foreign, fields,
              repository_secret=None)  # fmt: skip
    cases.add("other-secret", "whole, but of another repository", foreign, "bad-mac")
    cases.headers(b"CTLBrepo", lambda head: repository(SECRET, repository_id, created, head=head))
    places = {"id": 16, "created": 32, "mac": 40, "mac-end": 71, "hash": 72, "hash-end": 103}
    cases.flips(right, places, "bad-hash")
    for what, at in ("id", 16), ("created", 39), ("mac", 40):
        body = bytearray(right[:72])
        body[at] ^= 0x80
        cases.add(f"forged-{what}", "changed, with a matching hash", bytes(body) + H(bytes(body)), "bad-mac")
    cases.truncated(right, [0, 7, 8, 15, 16, 39, 72, 103])
    cases.add("trailing-byte", "", right + b"\0", "trailing-bytes")
    return cases


def slots() -> Cases:
    cases = Cases(password=PASSWORD)
    info = {"label": "safe", "created": TIME, "host": "büro", "user": "ada"}
    random = Random("slots")

    def make(secret=SECRET, password=PASSWORD, info=info, **fields):
        return slot(random, secret, password, info, **fields)

    def fields(scope=0, secret=SECRET, info=info, memory=8, passes=1, lanes=1):
        return {
            "scope": scope, "memory_kib": memory, "passes": passes, "lanes": lanes, "secret": secret, "info": info,
        }  # fmt: skip

    right = make()
    cases.add("right", "opens the whole repository", right, fields())
    project_slot = make(PROJECT_SECRET, project_id=PROJECT_ID)
    cases.add("right-project", "opens one project", project_slot, fields(1, PROJECT_SECRET), project_id=PROJECT_ID)
    odd = {"memory": 99, "passes": 3, "lanes": 4}
    cases.add("other-parameters", "", make(**odd), fields(**odd))
    cases.add("info-empty", "all members may be missing", make(info={}), fields(info={}))
    extra = {"label": "x", "color": ["blue", 1, None]}
    cases.add("info-unknown-member", "kept and ignored", make(info=extra), fields(info=extra))
    cases.add("password-empty", "", make(password=b""), fields(), password=b"")

    cases.add("wrong-password", "", right, "does-not-open", password=PASSWORD + b"\n")
    cases.add("other-project", "the owner is bound", project_slot, "does-not-open", project_id=OTHER_PROJECT_ID)
    cases.add("project-slot-in-keys", "scope 1 outside of a project", project_slot, "bad-value")
    cases.add("repository-slot-in-project", "scope 0 inside of a project", right, "bad-value", project_id=PROJECT_ID)
    cases.headers(b"CTLBslot", lambda head: make(info={}, head=head))
    for name, wrong, kind in [
        ("scope-2", {"scope": 2}, "bad-value"),
        ("capability-1", {"capability": 1}, "bad-value"),
        ("derivation-0", {"kdf": 0}, "bad-value"),
        ("derivation-2", {"kdf": 2}, "bad-value"),
        ("zero-field", {"zero": 1}, "nonzero-reserved"),
        ("memory-0", {"memory": 0}, "limit-exceeded"),
        ("memory-below-8-lanes", {"memory": 31, "lanes": 4}, "limit-exceeded"),
        ("memory-over-limit", {"memory": 4 * MIB + 1}, "limit-exceeded"),
        ("memory-largest", {"memory": 2**32 - 1}, "limit-exceeded"),
        ("passes-0", {"passes": 0}, "limit-exceeded"),
        ("passes-over-limit", {"passes": 1025}, "limit-exceeded"),
        ("lanes-0", {"lanes": 0}, "limit-exceeded"),
        ("lanes-over-limit", {"lanes": 65, "memory": 8 * 65}, "limit-exceeded"),
        ("lanes-overflow", {"lanes": 0x2000_0001}, "limit-exceeded"),
        ("info-length-15", {"length": 15}, "limit-exceeded"),
        ("info-length-0", {"length": 0}, "limit-exceeded"),
        ("info-length-over-limit", {"length": 65_537}, "limit-exceeded"),
    ]:
        cases.add(name, "", make(info={}, **wrong, cost=(8, 1, 1)), kind)
    for name, wrong in [
        ("not-json", b"{"), ("array", b"[]"), ("array-of-strings", b'["safe"]'), ("nothing", b""),
        ("not-utf8", b'{"label": "\xff"}'), ("two-values", b"{}{}"), ("number", b'{"label": 1, "host": "h"}'),
        ("null", b'{"label": null, "host": "h"}'), ("member-twice", b'{"label": "a", "label": "a"}'),
    ]:  # fmt: skip
        cases.add(f"info-{name}", "counts as empty", make(info=wrong), fields(info={}))
    sealed_length = len(right) - 164
    cases.add("info-length-short", "one byte less than there are", make(length=sealed_length - 1), "trailing-bytes")
    cases.add("info-length-long", "one byte more than there are", make(length=sealed_length + 1), "truncated")
    cases.truncated(right, [0, 15, 16, 63, 87, 88, 135, 163, 164, -1])
    cases.add("trailing-byte", "", right + b"\0", "trailing-bytes")
    cases.flips(right, {"salt": 32, "nonce": 64, "secret": 88, "secret-tag": 135})
    cases.flips(right, {"info-nonce": 136, "info": 164, "info-tag": len(right) - 1}, fields(info={}))
    changed = bytearray(right)
    changed[24] = 2
    cases.add("changed-passes", "changed after sealing", bytes(changed), "does-not-open")
    other = make()
    cases.add("info-of-another-slot", "does not open, counts as empty", right[:136] + other[136:], fields(info={}))
    cases.add("other-name", "stored under another hash", right, "bad-hash", name=H(b""))
    return cases


def projects() -> Cases:
    cases = Cases(project_id=PROJECT_ID, repository_secret=SECRET)
    settings = {"name": "büro", "created": TIME, "chunk_size": 65_536, "requires": []}
    random = Random("projects")

    def make(settings=settings, project_id=PROJECT_ID, **fields):
        return project(random, SECRET, project_id, PROJECT_SECRET, settings, **fields)

    def fields(settings=settings):
        return {"project_secret": PROJECT_SECRET, "settings": settings}

    right = make()
    cases.add("right", "", right, fields())
    only = {"repository_secret": None, "project_secret": PROJECT_SECRET}
    cases.add("with-project-secret", "as a project's slot gives it", right, fields(), **only)
    for size in 4096, 4 * MIB:
        value = settings | {"chunk_size": size}
        cases.add(f"chunk-size-{size}", "", make(value), fields(value))
    value = settings | {"color": {"deep": [1, 2]}}
    cases.add("unknown-member", "ignored", make(value), fields(value))
    value = settings | {"requires": None}
    cases.add("requires-null", "", make(value), fields(value))
    value = without(settings, "requires")
    cases.add("requires-missing", "", make(value), fields(value))

    cases.add("other-secret", "", right, "does-not-open", repository_secret=OTHER_SECRET)
    cases.add("other-project-secret", "", right, "does-not-open", **(only | {"project_secret": OTHER_PROJECT_SECRET}))
    cases.add("other-id", "lies in another project's directory", right, "does-not-open", project_id=OTHER_PROJECT_ID)
    cases.add("other-id-settings", "so do the settings", right, "does-not-open", project_id=OTHER_PROJECT_ID, **only)
    cases.headers(b"CTLBproj", lambda head: make(head=head))
    for name, wrong, kind in [
        ("settings-not-json", b"name", "bad-json"),
        ("settings-array", b"[1]", "bad-json"),
        ("settings-not-utf8", b'{"name": "\xc3"}', "bad-json"),
        ("settings-nan", to_json(settings)[:-1] + b', "x": NaN}', "bad-json"),
        ("settings-members-in-array", to_json(list(settings.values())), "bad-json"),
        ("name-twice", b'{"name": "x", ' + to_json(settings)[1:], "bad-value"),
        ("name-lone-surrogate", to_json(settings | {"name": "?"}).replace(b"?", b"\\ud800"), "bad-value"),
        ("name-missing", {"name": None}, "bad-value"),
        ("name-number", {"name": 1}, "bad-value"),
        ("created-missing", {"created": None}, "bad-value"),
        ("created-number", {"created": 1}, "bad-value"),
        ("created-words", {"created": "today"}, "bad-value"),
        ("chunk-size-missing", {"chunk_size": None}, "bad-value"),
        ("chunk-size-string", {"chunk_size": "65536"}, "bad-value"),
        ("chunk-size-fraction", {"chunk_size": 4096.5}, "bad-value"),
        ("chunk-size-negative", {"chunk_size": -4096}, "bad-value"),
        ("chunk-size-0", {"chunk_size": 0}, "limit-exceeded"),
        ("chunk-size-2048", {"chunk_size": 2048}, "limit-exceeded"),
        ("chunk-size-8388608", {"chunk_size": 8 * MIB}, "limit-exceeded"),
        ("chunk-size-no-power", {"chunk_size": 12_288}, "bad-value"),
        ("requires-unknown", {"requires": ["magic"]}, "unknown-feature"),
        ("requires-string", {"requires": "magic"}, "bad-value"),
        ("requires-numbers", {"requires": [1]}, "bad-value"),
    ]:
        if isinstance(wrong, dict):
            wrong = {key: item for key, item in (settings | wrong).items() if item is not None}
        cases.add(name, "", make(wrong), kind)
    for name, length, kind in [
        ("length-15", 15, "limit-exceeded"),
        ("length-over-limit", 65_537, "limit-exceeded"),
        ("length-short", len(right) - 117, "trailing-bytes"),
        ("length-long", len(right) - 115, "truncated"),
    ]:
        cases.add(name, "the length of the settings", make(length=length), kind)
    cases.truncated(right, [0, 15, 39, 87, 111, 115, -1])
    cases.add("trailing-byte", "", right + b"\0", "trailing-bytes")
    places = {"nonce": 16, "secret": 40, "secret-tag": 87, "settings-nonce": 88, "settings": 116}
    cases.flips(right, places | {"settings-tag": len(right) - 1})
    cases.add(
        "settings-of-another", "they are bound to the wrapped secret", right[:88] + make()[88:], "does-not-open"
    )
    return cases


def listed(kind: int, runs, *, plain=False) -> dict:
    """Returns the expected contents; `plain` adds the blobs. `runs`: as in `describe`."""
    shown, offset = [], 32
    for run in runs:
        blobs, (_, content) = run.blobs if isinstance(run, Faulty) else run, describe(PROJECT_SECRET, kind, run)
        shown.append({
            "codec": RAW if content == b"".join(blobs) else ZSTD, "stored_length": len(content) + 16, "offset": offset,
            "blobs": [
                {"plain_length": len(blob), "id": blob_id(kind, blob, PROJECT_SECRET), "plain": blob} for blob in blobs
            ],
        })  # fmt: skip
        if not plain:
            shown[-1]["blobs"] = [without(blob, "plain") for blob in shown[-1]["blobs"]]
        offset += len(content) + 16
    return {"kind": kind, "runs": shown}


SKIPPABLE = bytes.fromhex("502a4d1801000000") + b"x"
SAND, TEXT = Random("sand")(16), b"cuttlebone " * 20
CHUNKS = [[SAND, SAND[:9]], [TEXT, b"x", TEXT[3:]], [b"x"]]
NODES = [[grid_node(0, 64, {0: IDS[0], 63: IDS[1]})], [stream_node(0, [(5, IDS[2])])]]
SMALL = [[SAND[:9], SAND[9:]], [b"x"]]
HALF = MAX_RUN // 2

# Faults of the descriptor of a raw run of one blob of 16 bytes, SAND.
RUN_FAULTS = [
    ("codec-2", {"codec": 2}, "bad-codec"),
    ("codec-255", {"codec": 255}, "bad-codec"),
    ("run-zero-01", {"zero": 1}, "nonzero-reserved"),
    ("run-zero-80", {"zero": 0x80}, "nonzero-reserved"),
    ("blob-count-0", {"count": 0}, "limit-exceeded"),
    ("blob-count-1025", {"count": 1025}, "limit-exceeded"),
    ("blob-count-65535", {"count": 65_535}, "limit-exceeded"),
    ("plain-length-0", {"lengths": [0]}, "limit-exceeded"),
    ("plain-length-0-of-two", {"lengths": [0, 16], "ids": SHORT[:2]}, "limit-exceeded"),
    ("plain-length-over-limit", {"lengths": [MAX_BLOB + 1], "stored_length": MAX_BLOB + 17}, "limit-exceeded"),
    ("plain-length-largest", {"lengths": [2**32 - 1], "stored_length": 15}, "limit-exceeded"),
    (
        "sum-over-limit",
        {"lengths": [HALF, HALF + 1], "ids": SHORT[:2], "stored_length": MAX_RUN + 17},
        "limit-exceeded",
    ),
    (
        "sum-over-32-bits",
        {"lengths": [MAX_BLOB] * 1024, "ids": SHORT[:1] * 1024, "stored_length": 16},
        "limit-exceeded",
    ),
    ("raw-stored-short", {"lengths": [17]}, "bad-length"),
    ("raw-stored-long", {"lengths": [15]}, "bad-length"),
    ("raw-stored-of-first-blob", {"lengths": [16, 1], "ids": SHORT[:2]}, "bad-length"),
    ("raw-stored-0", {"stored_length": 0}, "bad-length"),
    ("stored-0", {"codec": ZSTD, "stored_length": 0}, "limit-exceeded"),
    ("stored-16", {"codec": ZSTD, "stored_length": 16}, "limit-exceeded"),
    ("stored-over-plain", {"codec": ZSTD, "stored_length": 33}, "limit-exceeded"),
    ("stored-largest", {"codec": ZSTD, "stored_length": 2**32 - 1}, "limit-exceeded"),
]

# Faults of contents of right runs.
CONTENTS_FAULTS = [
    ("kind-0", {"kind": 0}, "bad-value"),
    ("kind-3", {"kind": 3}, "bad-value"),
    ("contents-zero-000001", {"zero": 1}, "nonzero-reserved"),
    ("contents-zero-800000", {"zero": 1 << 23}, "nonzero-reserved"),
    ("run-count-0", {"count": 0}, "limit-exceeded"),
    ("run-count-over-limit", {"count": MIB + 1}, "limit-exceeded"),
    ("run-count-largest", {"count": 2**32 - 1}, "limit-exceeded"),
]


def packs() -> Cases:
    cases = Cases(project_id=PROJECT_ID, project_secret=PROJECT_SECRET)
    random = Random("packs")

    def make(runs=SMALL, kind=CHUNK, **fields):
        return Pack(random, PROJECT_ID, PROJECT_SECRET, kind, runs, **fields).data

    def fields(kind, runs):
        return listed(kind, runs, plain=True)

    cases.add("right-chunks", "a raw run, a compressed one, one of one blob", make(CHUNKS), fields(CHUNK, CHUNKS))
    cases.add("right-nodes", "", make(NODES, NODE), fields(NODE, NODES))
    cases.add("one-byte", "the smallest blob", make([[b"x"]]), fields(CHUNK, [[b"x"]]))
    for name, comment, kind, runs in [
        ("nodes-in-one-run", "the program does not write this, but reads it", NODE, [[NODES[0][0], NODES[1][0]]]),
        ("blob-twice", "in one run, and in another", CHUNK, [[SAND, SAND], [SAND]]),
        ("frame-without-size", "a frame need not state its content's size", CHUNK,
         [Faulty([TEXT, b"x"], compress(TEXT + b"x", write_content_size=False))]),
        ("frame-with-checksum", "", CHUNK, [Faulty([TEXT], compress(TEXT, write_checksum=True))]),
    ]:  # fmt: skip
        cases.add(name, comment, make(runs, kind), fields(kind, runs))
    right = make(SMALL)
    cases.add("other-project-secret", "", right, "does-not-open", project_secret=OTHER_PROJECT_SECRET)
    cases.add("other-project", "", right, "does-not-open", project_id=OTHER_PROJECT_ID)
    cases.add("other-name", "stored under another hash", right, "bad-hash", name=H(b""))
    cases.headers(b"CTLBpack", lambda head: make([[b"x"]], head=head))
    for name, wrong, kind in RUN_FAULTS:
        if len(wrong.get("ids", [])) < 1024:
            ids = {"ids": IDS[:1]} | wrong
            cases.add(name, "in the first of two runs", make([Faulty([SAND], SAND, **ids), [b"x"]]), kind)
    for name, wrong, kind in CONTENTS_FAULTS:
        wrong = dict(wrong)
        cases.add(name, "", make([[SAND]], wrong.pop("kind", CHUNK), **wrong), kind)
    cases.add("kind-changed", "after the runs were sealed", make([[SAND]], change=lambda c: bytes([NODE]) + c[1:]),
              "does-not-open")  # fmt: skip
    cases.add("empty", "no run", make([]), "truncated")
    for name, comment, count, kind in [
        ("run-count-more", "the count is one too many", 3, "truncated"),
        ("run-count-most", "the count is the largest", MIB, "truncated"),
        ("run-count-less", "the count is one too few", 1, "trailing-bytes"),
    ]:
        cases.add(name, comment, make(count=count), kind)
    two = [Faulty([TEXT, b"x"], compress(TEXT + b"x"), count=1)]
    cases.add("blob-count-more", "the only run has one blob less", make([Faulty([SAND], count=2)]), "truncated")
    cases.add("blob-count-less", "the only run has one blob more", make(two), "trailing-bytes")
    cases.add("contents-trailing-byte", "", make(change=lambda c: c + b"\0"), "trailing-bytes")
    for cut in 1, 32, 36, 44:
        cases.add(f"contents-cut-{cut}", f"without the last {cut} bytes", make(change=lambda c: c[:-cut]), "truncated")  # noqa: B023

    def wrong_ids(name, comment, blobs, *ids):
        cases.add(name, comment, make([Faulty(blobs, ids=list(ids))]), "bad-id")

    id_of = partial(blob_id, CHUNK, project_secret=PROJECT_SECRET)
    wrong_ids("wrong-id", "", [SAND], IDS[0])
    wrong_ids("wrong-id-in-run", "of the second of three blobs", [SAND, TEXT, b"x"], id_of(SAND), IDS[0], id_of(b"x"))
    wrong_ids("ids-swapped", "of two blobs of a run", [SAND, SAND[::-1]], id_of(SAND[::-1]), id_of(SAND))
    wrong_ids("id-of-run", "of the joined blobs", [SAND, b"x"], id_of(SAND + b"x"), id_of(b"x"))
    wrong_ids("id-of-other-kind", "a chunk under a node's id", [SAND], blob_id(NODE, SAND, PROJECT_SECRET))
    cases.add("blob-border", "one byte of the first blob is counted to the second",
              make([Faulty([SAND, b"xy"], lengths=[15, 3])]), "bad-id")  # fmt: skip

    joined, lengths = TEXT + b"x", [len(TEXT), 1]
    frame, silent = compress(joined), compress(joined, write_content_size=False)
    checked, bomb = compress(joined, write_checksum=True), compress(bytes(MIB))
    less, more = [len(TEXT) - 1, 1], [len(TEXT), 2]
    for name, comment, said, content, kind in [
        ("frame-longer", "than the sum", less, frame, "bad-length"),
        ("frame-shorter", "than the sum", more, frame, "bad-length"),
        ("silent-frame-longer", "states no size", less, silent, "bad-length"),
        ("silent-frame-shorter", "states no size", more, silent, "bad-length"),
        ("frame-of-first-blob", "without the second", lengths, compress(TEXT), "bad-length"),
        ("bomb", "1 MiB of zeros with a stated length of 221 bytes", lengths, bomb, "bad-length"),
        ("frame-cut", "the frame's last byte is missing", lengths, checked[:-1], "bad-codec"),
        ("frame-and-byte", "a byte follows the frame", lengths, frame + b"\0", "bad-codec"),
        ("two-frames", "the second of no bytes", lengths, frame + compress(b""), "bad-codec"),
        ("frame-for-each-blob", "not one for the run", lengths, compress(TEXT) + compress(b"x"), "bad-length"),
        ("silent-frame-for-each-blob", "not one for the run", lengths,
         compress(TEXT, write_content_size=False) + compress(b"x", write_content_size=False), "bad-codec"),
        ("skippable-frame", "before the frame", lengths, SKIPPABLE + frame, "bad-codec"),
        ("frame-checksum", "is wrong", lengths, checked[:-1] + bytes([checked[-1] ^ 1]), "bad-codec"),
        ("no-frame", "codec 1, but raw bytes", lengths, SAND, "bad-codec"),
    ]:  # fmt: skip
        cases.add(name, comment, make([Faulty([TEXT, b"x"], content, codec=ZSTD, lengths=said)]), kind)

    length = len(contents(CHUNK, [describe(PROJECT_SECRET, CHUNK, run)[0] for run in SMALL])) + 16
    for name, size, kind in [
        ("contents-length-0", 0, "bad-length"),
        ("contents-length-16", 16, "bad-length"),
        ("contents-length-67", 67, "bad-length"),
        ("contents-length-68", 68, "does-not-open"),
        ("contents-length-plus-1", length + 1, "does-not-open"),
        ("contents-length-minus-1", length - 1, "does-not-open"),
        ("contents-length-all", len(right) - 36, "does-not-open"),
        ("contents-length-beyond-pack", len(right) - 35, "bad-length"),
        ("contents-length-largest", 2**32 - 1, "bad-length"),
    ]:
        cases.add(name, "", make(size=size), kind)
    y = describe(PROJECT_SECRET, CHUNK, [b"y"])[0]
    cases.add("descriptor-without-run", "one more than runs", make(relist=lambda d: d + [y]), "bad-length")
    cases.add("run-without-descriptor", "one more than descriptors", make(relist=lambda d: d[:-1]), "bad-length")
    cases.add("stored-less", "than there is, so the sum is not the pack's size",
              make([Faulty([TEXT], codec=ZSTD, stored_length=len(compress(TEXT)) + 15)]), "bad-length")  # fmt: skip
    cases.add("byte-before-contents", "belongs to no run", right[: -4 - length] + b"\0" + right[-4 - length :],
              "bad-length")  # fmt: skip
    cases.add("descriptors-swapped", "the sum is right, the order is not", make(relist=lambda d: d[::-1]),
              "does-not-open")  # fmt: skip
    halves = [SAND[:9], SAND[9:]]
    ids = [blob_id(CHUNK, half, PROJECT_SECRET) for half in halves]
    for name, comment, fields_then in [
        ("id", "another id", (RAW, 32, [9, 7], [ids[0], IDS[0]])),
        ("order", "blobs swapped", (RAW, 32, [7, 9], ids[::-1])),
        ("lengths", "of the same sum", (RAW, 32, [8, 8], ids)),
        ("codec", "compressed instead of raw", (ZSTD, 32, [9, 7], ids)),
    ]:
        swap = [descriptor(*fields_then)]
        cases.add(f"changed-{name}", f"{comment}; changed after the run was sealed",
                  make([halves], relist=lambda _: swap), "does-not-open")  # noqa: B023  # fmt: skip
    swapped = make([[SAND], [SAND[::-1]]])
    swapped = swapped[:32] + swapped[64:96] + swapped[32:64] + swapped[96:]
    cases.add("runs-swapped", "two runs of one length", swapped, "does-not-open")
    size = len(right)
    cases.flips(right, {"nonce": 16, "first-run": 32, "first-tag": 63, "second-run": 64,
                        "contents": size - 5 - 20, "contents-tag": size - 5})  # fmt: skip
    cases.truncated(right, [0, 15, 31, 32, 36, 103])
    cases.truncated(right, [104, -1], "bad-length")
    cases.add("trailing-zero-bytes", "then the contents' length is 0", right + bytes(4), "bad-length")
    return cases


def indexes() -> Cases:
    cases = Cases(project_id=PROJECT_ID, project_secret=PROJECT_SECRET)
    random = Random("indexes")

    def make(body, **fields):
        return sealed(random, PROJECT_ID, PROJECT_SECRET, b"CTLBindx", body, **fields)

    nonces = [bytes([0xB0 + i]) * 16 for i in range(3)]

    def described(kind, runs):
        return contents(kind, [describe(PROJECT_SECRET, kind, run)[0] for run in runs])

    three = [(CHUNK, CHUNKS), (NODE, NODES), (NODE, NODES)]
    body = index_body([(SHORT[i], nonces[i], described(*pack)) for i, pack in enumerate(three)], [SHORT[3]])
    shown = [{"pack": SHORT[i], "nonce": nonces[i]} | listed(*pack) for i, pack in enumerate(three)]
    fields = {"packs": shown, "superseded": [SHORT[3]]}
    right = make(body, codec=RAW)
    cases.add("right", "the same nodes in two packs", right, fields)
    cases.add("right-compressed", "", make(body, codec=ZSTD), fields)
    cases.add("nothing", "no pack, nothing superseded", make(bytes(8)), {"packs": [], "superseded": []})

    def one_pack(contents, superseded=()):
        return index_body([(SHORT[0], nonces[0], contents)], superseded)

    sand = described(CHUNK, [[SAND]])
    small = one_pack(sand, [SHORT[1], SHORT[2]])
    one = {
        "packs": [{"pack": SHORT[0], "nonce": nonces[0]} | listed(CHUNK, [[SAND]])],
        "superseded": [SHORT[1], SHORT[2]],
    }
    cases.add("two-superseded", "", make(small), one)

    right = make(small)
    cases.add("other-project-secret", "", right, "does-not-open", project_secret=OTHER_PROJECT_SECRET)
    cases.add("other-project", "", right, "does-not-open", project_id=OTHER_PROJECT_ID)
    cases.add("other-name", "stored under another hash", right, "bad-hash", name=H(b""))
    cases.headers(b"CTLBindx", lambda head: make(small, head=head))
    sealed_faults(cases, make, one_pack(described(CHUNK, [[SAND] * 9])), bytes(8), 64 * MIB)
    for name, wrong, kind in RUN_FAULTS:
        run = {"codec": RAW, "stored_length": 32, "lengths": [16], "ids": SHORT[5:6]} | wrong
        cases.add(
            name, "in the first of two runs", make(one_pack(contents(CHUNK, [descriptor(**run), sand[8:]]))), kind
        )
    for name, wrong, kind in CONTENTS_FAULTS:
        wrong = contents(**{"kind": CHUNK, "runs": [sand[8:]], **wrong})
        cases.add(name, "", make(one_pack(wrong)), kind)

    large = descriptor(RAW, MAX_RUN + 16, [MAX_BLOB], SHORT[5:6])
    assert 64 * MAX_RUN == MAX_PACK
    cases.add("pack-over-limit", "64 chunks of 4 MiB, with tags and contents",
              make(one_pack(contents(CHUNK, [large] * 64))), "limit-exceeded")  # fmt: skip
    # The stored size that is left in the pack for one more run after 63 large ones.
    rest = MAX_PACK - 32 - 63 * (MAX_RUN + 16 + 44) - 8 - 44 - 16 - 4 - 16
    for name, length in ("pack-of-limit", rest), ("pack-one-byte-over-limit", rest + 1):
        last = descriptor(RAW, length + 16, [length], SHORT[6:7])
        runs = [{"codec": RAW, "stored_length": MAX_RUN + 16, "offset": 32 + i * (MAX_RUN + 16),
                 "blobs": [{"plain_length": MAX_BLOB, "id": SHORT[5]}]} for i in range(63)]  # fmt: skip
        runs.append({"codec": RAW, "stored_length": rest + 16, "offset": 32 + 63 * (MAX_RUN + 16),
                     "blobs": [{"plain_length": rest, "id": SHORT[6]}]})  # fmt: skip
        expected = {"packs": [{"pack": SHORT[0], "nonce": nonces[0], "kind": CHUNK, "runs": runs}], "superseded": []}
        cases.add(name, "63 large runs and one that fills the pack",
                  make(one_pack(contents(CHUNK, [large] * 63 + [last]))),
                  expected if length == rest else "limit-exceeded")  # fmt: skip
    many = [descriptor(RAW, 1024 + 16, [1] * 1024, SHORT[5:6] * 1024)] * 1024
    cases.add("too-many-blobs", "1,048,577, though neither runs nor bytes are too many",
              make(one_pack(contents(CHUNK, [*many, sand[8:]]))), "limit-exceeded")  # fmt: skip

    end = 52 + len(sand)
    two = contents(CHUNK, [descriptor(RAW, 33, [16, 1], SHORT[5:7])])
    for name, comment, wrong in [
        ("packs-count-more", "", u(32, 2) + small[4:end]),
        ("packs-count-largest", "", u(32, 2**32 - 1) + small[4:end]),
        ("contents-missing", "", small[:52]),
        ("run-count-less", "the second run is read as superseded segments",
         one_pack(contents(CHUNK, [sand[8:]] * 2, count=1))),
        ("run-count-most", "the count is the largest", small[:56] + u(32, MIB) + sand[8:] * 2),
        ("blob-count-more", "the only run has one blob less",
         one_pack(contents(CHUNK, [descriptor(RAW, 32, [16], SHORT[5:6], count=2)]))),
        ("run-cut", "in the id of its second blob", one_pack(two)[:-9]),
        ("superseded-count-more", "", small[:end] + u(32, 3) + small[end + 4 :]),
        ("superseded-count-largest", "", small[:end] + u(32, 2**32 - 1) + small[end + 4 :]),
        ("body-empty", "", b""),
        ("body-3-bytes", "", bytes(3)),
        ("body-without-superseded", "", small[:end]),
        ("body-cut", "", small[:-1]),
    ]:  # fmt: skip
        cases.add(name, comment, make(wrong), "truncated")
    cases.add("run-count-more", "the superseded segments are read as a run without blobs",
              make(one_pack(contents(CHUNK, [sand[8:]], count=2), SHORT[1:2])), "limit-exceeded")  # fmt: skip
    cases.add("superseded-count-less", "", make(small[:end] + u(32, 1) + small[end + 4 :]), "trailing-bytes")
    cases.add("body-trailing-byte", "", make(small + b"\0"), "trailing-bytes")
    return cases


def sealed_faults(cases: Cases, make, body: bytes, dense: bytes, limit: int):
    """Adds the faults of section 7. `body` gets shorter when compressed, `dense` does not."""
    make = partial(make, codec=RAW)
    right = make(body)
    for codec in 2, 255:
        cases.add(f"body-codec-{codec}", "", make(body, codec=codec), "bad-codec")
    for zero in 1, 1 << 23:
        cases.add(f"body-zero-{zero:06x}", "", make(body, zero=zero), "nonzero-reserved")
    frame, length = compress(body), len(body)
    silent = compress(body, write_content_size=False)
    assert len(silent) < length - 20 and len(compress(dense)) > len(dense)
    cases.add("body-frame-does-not-pay", "longer than the plain body", make(dense, codec=ZSTD), "bad-length")
    for name, comment, fields, kind in [
        ("body-length-less", "raw", {"length": length - 1}, "bad-length"),
        ("body-length-more", "raw", {"length": length + 1}, "bad-length"),
        ("body-length-over-limit", "raw", {"length": limit + 1}, "limit-exceeded"),
        ("body-frame-longer", "than stated", {"codec": ZSTD, "length": length - 1}, "bad-length"),
        ("body-frame-shorter", "than stated", {"codec": ZSTD, "length": length + 1}, "bad-length"),
        ("body-silent-frame-longer", "", {"codec": ZSTD, "length": length - 1, "stored": silent}, "bad-length"),
        ("body-silent-frame-shorter", "", {"codec": ZSTD, "length": length + 1, "stored": silent}, "bad-length"),
        ("body-frame-over-limit", "a bomb", {"codec": ZSTD, "length": limit + 1}, "limit-exceeded"),
        ("body-skippable-frame", "before the frame", {"codec": ZSTD, "stored": SKIPPABLE + frame}, "bad-codec"),
        ("body-frame-cut", "", {"codec": ZSTD, "stored": frame[:-1]}, "bad-codec"),
        ("body-frame-and-byte", "", {"codec": ZSTD, "stored": frame + b"\0"}, "bad-codec"),
        ("body-two-frames", "the second of no bytes", {"codec": ZSTD, "stored": frame + compress(b"")}, "bad-codec"),
        ("body-no-frame", "", {"codec": ZSTD, "stored": body}, "bad-codec"),
    ]:
        cases.add(name, comment, make(body, **fields), kind)
    cases.flips(right, {"nonce": 16, "payload": 40, "tag": len(right) - 1})
    cases.truncated(right, [0, 15, 39, 55])
    cases.truncated(right, [56, -1], "does-not-open")
    cases.add("trailing-byte", "looks like a wrong tag", right + b"\0", "does-not-open")


def records() -> Cases:
    cases = Cases(project_id=PROJECT_ID, project_secret=PROJECT_SECRET)
    random = Random("records")

    def make(body, codec=None, **fields):
        return sealed(random, PROJECT_ID, PROJECT_SECRET, b"CTLBbkup", to_json(body), codec=codec, **fields)

    def content(kind="image", size=10_000_000, chunk_size=65_536, top=SHORT[0], **wrong):
        return Tree(PROJECT_SECRET).content(kind, size, chunk_size, top) | wrong

    record = {
        "volume": {"id": SHORT[4][:16].hex(), "name": "büro / C:"}, "content": content(), "time": TIME,
        "finished": TIME,
    }  # fmt: skip
    full = {
        "requires": [], **record, "finished": "2026-11-21T12:00:00.123456+02:00", "host": "h", "base": SHORT[5].hex(),
        "heads": [SHORT[5].hex(), SHORT[6].hex()], "labels": {"keep": "yes"},
        "source": {"kind": "file", "path": {"hex": "ff2f00"}, "inode": [1, 2**64 - 1], "changed_ns": [-1, 2**63 - 1],
                   "settled": True},
        "counts": {"changed": 1, "read": 2, "new": 3, "stored": 4, "chunks_new": 5}, "tool": "vectors 1",
    }  # fmt: skip
    nulls = {name: None for name in ("requires", "host", "base", "heads", "labels", "source", "counts", "tool")}
    right = make(record)
    cases.add("right", "the required members only", right, {"record": record})
    cases.add("right-raw", "", make(record, RAW), {"record": record})
    assert len(compress(to_json(record))) < len(to_json(record))
    for name, comment, value in [
        ("full", "all members", full),
        ("nulls", "members that may be missing are null", record | nulls),
        ("unknown-members", "are ignored", record | {"mood": ["calm"], "volume": record["volume"] | {"color": 1}}),
        ("image-zeros", "no top node", record | {"content": content(top=None)}),
        ("image-empty", "no bytes", record | {"content": content(size=0, top=None)}),
        ("image-largest", "", record | {"content": content(size=2**64 - LEAF_SIZE)}),
        ("image-beyond-float", "2^53 + 1 bytes", record | {"content": content(size=2**53 + 1)}),
        ("stream", "", record | {"content": content("stream", 5, 0)}),
        ("stream-empty", "", record | {"content": content("stream", 0, 0, None)}),
        ("time-lower-case", "", record | {"time": "2026-11-21t10:00:00z"}),
        ("time-minus-zero", "", record | {"time": "2026-11-21T10:00:00-00:00"}),
        ("time-nine-digits", "", record | {"time": "2026-11-21T10:00:00.123456789-23:59"}),
        ("time-leap-second", "may be read as :59", record | {"time": "2016-12-31T23:59:60Z"}),
        ("source-text-path", "", record | {"source": {"kind": "a new kind", "path": "/dev/büro"}}),
        ("source-nulls", "", record | {"source": {"kind": "stdin", "path": None, "inode": None, "changed_ns": None}}),
        ("counts-some", "the others are 0", record | {"counts": {"read": 2**64 - 1}}),
        ("counts-none", "", record | {"counts": {}}),
    ]:
        cases.add(name, comment, make(value), {"record": value})

    cases.add("other-project-secret", "", right, "does-not-open", project_secret=OTHER_PROJECT_SECRET)
    cases.add("other-project", "", right, "does-not-open", project_id=OTHER_PROJECT_ID)
    cases.add("other-name", "stored under another hash", right, "bad-hash", name=H(b""))
    as_index = sealed(random, PROJECT_ID, PROJECT_SECRET, b"CTLBindx", to_json(record))
    disguised = header(b"CTLBbkup") + as_index[16:]
    cases.add("index-as-record", "the header is bound", disguised, "does-not-open")
    cases.headers(b"CTLBbkup", lambda head: make(record, head=head))
    sealed_faults(cases, make, b'{"x":"' + bytes(200).hex().encode() + b'"}', b'{"x":0}', 16 * MIB)

    for name, body in [
        ("body-empty", b""), ("body-not-json", b"record"), ("body-array", b"[]"), ("body-string", b'"x"'),
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
        cases.add(f"{name}-array", "", make(record | {name: list(members)}), "bad-value")
        twice = to_json(record)[:-1] + b"," + to_json({name: record[name]})[1:]
        cases.add(f"{name}-twice", "", make(twice), "bad-value")
    cases.add("unknown-twice", "a member that has no meaning", make(to_json(record)[:-1] + b', "x": 1, "x": 2}'),
              {"record": record | {"x": 2}})  # fmt: skip
    values = [[], *record.values()]
    cases.add("members-in-array", "without their names", make(values), "bad-json")
    for name in "time", "finished":
        cases.add(f"{name}-words", "not RFC 3339", make(record | {name: "yesterday"}), "bad-value")
        cases.add(f"{name}-month-13", "", make(record | {name: "2026-13-01T00:00:00Z"}), "bad-value")
        cases.add(f"{name}-without-zone", "", make(record | {name: "2026-11-21T10:00:00"}), "bad-value")
        faults = [
            ("space", "2026-11-21 10:00:00Z"), ("without-seconds", "2026-11-21T10:00Z"),
            ("basic-form", "20261121T100000Z"), ("named-zone", "2026-11-21T10:00:00+01:00[Europe/Paris]"),
            ("zone-of-hours", "2026-11-21T10:00:00+01"), ("zone-24-hours", "2026-11-21T10:00:00+24:00"),
            ("zone-60-minutes", "2026-11-21T10:00:00+01:60"), ("comma", "2026-11-21T10:00:00,5Z"),
            ("dot-alone", "2026-11-21T10:00:00.Z"), ("ten-digits", "2026-11-21T10:00:00.0123456789Z"),
            ("year-0000", "0000-11-21T10:00:00Z"), ("year-9999", "9999-11-21T10:00:00Z"),
            ("year-of-six-digits", "+002026-11-21T10:00:00Z"), ("february-30", "2026-02-30T10:00:00Z"),
            ("hour-24", "2026-11-21T24:00:00Z"), ("second-61", "2026-11-21T10:00:61Z"),
            ("other-digits", "２026-11-21T10:00:00Z"), ("blank-behind", "2026-11-21T10:00:00Z "),
        ]  # fmt: skip
        for what, wrong in faults if name == "time" else faults[:2]:
            cases.add(f"{name}-{what}", "", make(record | {name: wrong}), "bad-value")
    cases.add("requires-unknown", "", make(record | {"requires": ["magic"]}), "unknown-feature")
    cases.add("requires-string", "", make(record | {"requires": "magic"}), "bad-value")
    cases.add("requires-numbers", "", make(record | {"requires": [1]}), "bad-value")

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
        cases.add(f"content-{name}-missing", "", make(record | {"content": without(content(), name)}), "bad-value")
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
        cases.add(f"content-{name}", "", make(record | {"content": content() | wrong}), kind)
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
        ("from_snapshot-upper-case", {"source": {"kind": "rbd-diff", "from_snapshot": {"hex": "FF"}}}),
        ("protected-number", {"source": {"kind": "rbd-diff", "protected": 1}}),
        ("image-array", {"source": {"kind": "rbd-diff", "image": [22]}}),
        ("image-order-256", {"source": {"kind": "rbd-diff", "image": {"order": 256}}}),
        ("image-features-negative", {"source": {"kind": "rbd-diff", "image": {"features": -1}}}),
        ("metadata-object", {"source": {"kind": "rbd-diff", "image": {"metadata": {"a": "b"}}}}),
        ("metadata-one", {"source": {"kind": "rbd-diff", "image": {"metadata": [["a"]]}}}),
        ("metadata-odd-digits", {"source": {"kind": "rbd-diff", "image": {"metadata": [["a", {"hex": "f"}]]}}}),
        ("counts-array", {"counts": [1, 2, 3, 4, 5]}),
        ("counts-null-member", {"counts": {"read": None}}),
        ("counts-string", {"counts": {"read": "1"}}),
        ("counts-negative", {"counts": {"read": -1}}),
    ]:
        cases.add(name, "", make(record | wrong), "bad-value")
    image = {"order": 22, "features": 2**64 - 1, "stripe_unit": 65_536, "stripe_count": 16,
             "metadata": [["conf_rbd_cache", "false"], [{"hex": "ff"}, ""]]}  # fmt: skip
    diffs = {"source": {"kind": "rbd-diff", "snapshot": "s2", "from_snapshot": {"hex": "ff40"}, "protected": False, "image": image}}
    cases.add("diff", "a source that is a diff of an RBD image", make(record | diffs), {"record": record | diffs})
    nothing = {"kind": "rbd-diff"} | dict.fromkeys(("snapshot", "from_snapshot", "protected", "image"))
    cases.add("diff-nulls", "", make(record | {"source": nothing}), {"record": record | {"source": nothing}})
    minus_zero = to_json(record).replace(b'"size": 10000000', b'"size": -0')
    cases.add("content-size-minus-zero", "", make(minus_zero), "bad-value")
    cases.add("label-twice", "the last counts", make(to_json(record)[:-1] + b', "labels": {"a": "1", "a": "2"}}'),
              {"record": record | {"labels": {"a": "2"}}})  # fmt: skip
    cases.add("content-stream-without-top", "but of five bytes: a stream lists its zeros",
              make(record | {"content": content("stream", 5, 0, None)}), "bad-value")  # fmt: skip
    stream = content("stream", 5, 4096)
    cases.add("content-stream-with-chunk-size", "", make(record | {"content": stream}), "bad-value")
    cases.add(
        "content-top-of-nothing",
        "no bytes, but a top node",
        make(record | {"content": content(size=0)}),
        "not-canonical",
    )
    return cases


def tombstones() -> Cases:
    cases = Cases(project_id=PROJECT_ID, project_secret=PROJECT_SECRET)
    random = Random("tombstones")

    def make(body, codec=None, **fields):
        return sealed(random, PROJECT_ID, PROJECT_SECRET, b"CTLBtomb", to_json(body), codec=codec, **fields)

    tombstone = {"records": [SHORT[0].hex(), SHORT[1].hex()], "time": TIME}
    right = make(tombstone)
    cases.add("right", "the required members only", right, {"tombstone": tombstone})
    for name, comment, value in [
        ("full", "all members", {"requires": [], **tombstone, "host": "h", "tool": "vectors 1"}),
        ("nulls", "", tombstone | {"requires": None, "host": None, "tool": None}),
        ("unknown-members", "are ignored", tombstone | {"mood": "sad", "x": {"color": 1}}),
        ("no-records", "says nothing", tombstone | {"records": []}),
        ("record-twice", "a record that is named twice counts once", tombstone | {"records": [SHORT[0].hex()] * 2}),
    ]:
        cases.add(name, comment, make(value), {"tombstone": value})
    cases.add("other-project-secret", "", right, "does-not-open", project_secret=OTHER_PROJECT_SECRET)
    cases.add("other-project", "", right, "does-not-open", project_id=OTHER_PROJECT_ID)
    cases.add("other-name", "stored under another hash", right, "bad-hash", name=H(b""))
    as_record = sealed(random, PROJECT_ID, PROJECT_SECRET, b"CTLBbkup", to_json(tombstone))
    disguised = header(b"CTLBtomb") + as_record[16:]
    cases.add("record-as-tombstone", "the header is bound", disguised, "does-not-open")
    cases.headers(b"CTLBtomb", lambda head: make(tombstone, head=head))
    cases.add("body-over-limit", "", make(tombstone, length=16 * MIB + 1), "limit-exceeded")
    for name, body, kind in [
        ("not-json", b"tombstone", "bad-json"),
        ("array", to_json([tombstone]), "bad-json"),
        ("records-missing", without(tombstone, "records"), "bad-value"),
        ("records-null", tombstone | {"records": None}, "bad-value"),
        ("records-string", tombstone | {"records": SHORT[0].hex()}, "bad-value"),
        ("records-twice", to_json(tombstone)[:-1] + b', "records": []}', "bad-value"),
        ("record-short", tombstone | {"records": [SHORT[0].hex()[:-2]]}, "bad-value"),
        ("record-upper-case", tombstone | {"records": [SHORT[0].hex().upper()]}, "bad-value"),
        ("record-null", tombstone | {"records": [None]}, "bad-value"),
        ("time-missing", without(tombstone, "time"), "bad-value"),
        ("time-words", tombstone | {"time": "yesterday"}, "bad-value"),
        ("host-number", tombstone | {"host": 1}, "bad-value"),
        ("requires-unknown", tombstone | {"requires": ["magic"]}, "unknown-feature"),
    ]:
        cases.add(name, "", make(body), kind)
    return cases


def leases() -> Cases:
    cases = Cases(project_id=PROJECT_ID, project_secret=PROJECT_SECRET)
    random = Random("leases")

    def make(body, codec=None, **fields):
        return sealed(random, PROJECT_ID, PROJECT_SECRET, b"CTLBleas", to_json(body), codec=codec, **fields)

    lease = {"work": "backup", "running_seconds": 90}
    process = {"boot": "b4e1", "namespace": "pid:[4026531836]", "pid": 2**32 - 1, "started": 2**64 - 1}
    full = {
        "requires": [], **lease, "packs": [SHORT[0].hex(), SHORT[1].hex()], "tops": [SHORT[2].hex()], "host": "h",
        "process": process, "tool": "vectors 1",
    }  # fmt: skip
    nulls = {name: None for name in ("requires", "packs", "tops", "host", "process", "tool")}
    right = make(lease)
    cases.add("right", "the required members only", right, {"lease": lease})
    for name, comment, value in [
        ("full", "all members", full),
        ("nulls", "members that may be missing are null", lease | nulls),
        ("prune", "", lease | {"work": "prune", "running_seconds": 0}),
        ("work-new", "work that is not known yet", lease | {"work": "dream"}),
        ("running-largest", "", lease | {"running_seconds": 2**64 - 1}),
        ("packs-only", "", lease | {"packs": [SHORT[0].hex()]}),
        ("tops-only", "", lease | {"tops": [SHORT[2].hex()]}),
        ("pack-twice", "a pack that is named twice counts once", lease | {"packs": [SHORT[0].hex()] * 2}),
        ("unknown-members", "are ignored",
         full | {"mood": "sad", "x": {"color": 1}, "process": process | {"color": "red"}}),
    ]:  # fmt: skip
        cases.add(name, comment, make(value), {"lease": value})
    cases.add("other-project-secret", "", right, "does-not-open", project_secret=OTHER_PROJECT_SECRET)
    cases.add("other-project", "", right, "does-not-open", project_id=OTHER_PROJECT_ID)
    as_mark = sealed(random, PROJECT_ID, PROJECT_SECRET, b"CTLBmark", to_json(lease))
    cases.add("mark-as-lease", "the header is bound", header(b"CTLBleas") + as_mark[16:], "does-not-open")
    cases.flips(right, {"nonce": 16, "payload": 40, "tag": len(right) - 1})
    cases.truncated(right, [0, 15, 16, 39])
    cases.headers(b"CTLBleas", lambda head: make(lease, head=head))
    cases.add("body-over-limit", "", make(lease, length=16 * MIB + 1), "limit-exceeded")
    for name, body, kind in [
        ("not-json", b"lease", "bad-json"),
        ("array", to_json([lease]), "bad-json"),
        ("members-in-array", to_json([[], "backup", 90]), "bad-json"),
        ("number", b"1", "bad-json"),
        ("nothing", b"", "bad-json"),
        ("two-values", b"{}{}", "bad-json"),
        ("requires-unknown", lease | {"requires": ["magic"]}, "unknown-feature"),
        ("requires-unknown-first", {"requires": ["magic"], "work": {}, "packs": "all"}, "unknown-feature"),
        ("requires-string", lease | {"requires": "magic"}, "bad-value"),
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
        ("pack-upper-case", lease | {"packs": [SHORT[0].hex(), SHORT[1].hex().upper()]}, "bad-value"),
        ("pack-null", lease | {"packs": [None]}, "bad-value"),
        ("top-long", lease | {"tops": [SHORT[2].hex() + "00"]}, "bad-value"),
        ("top-not-hex", lease | {"tops": ["x" * 64]}, "bad-value"),
        ("tops-object", lease | {"tops": {}}, "bad-value"),
        ("host-number", lease | {"host": 1}, "bad-value"),
        ("tool-array", lease | {"tool": ["x"]}, "bad-value"),
        ("process-string", lease | {"process": "1234"}, "bad-value"),
        ("process-array", lease | {"process": list(process.values())}, "bad-value"),
        ("process-empty", lease | {"process": {}}, "bad-value"),
        *[(f"process-{name}-missing", lease | {"process": without(process, name)}, "bad-value") for name in process],
        ("process-boot-null", lease | {"process": process | {"boot": None}}, "bad-value"),
        ("process-namespace-number", lease | {"process": process | {"namespace": 4026531836}}, "bad-value"),
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
        ("read-requires-unknown", reading | {"requires": ["magic"]}, "unknown-feature"),
    ]:
        cases.add(name, "", make(body), kind)
    cases.add("read-other-project", "", make(reading), "does-not-open", project_id=OTHER_PROJECT_ID)
    cases.add("read", "a reader, with the trees that it reads", make(reading), {"lease": reading})
    return cases


def marks() -> Cases:
    cases = Cases(project_id=PROJECT_ID, project_secret=PROJECT_SECRET)
    random = Random("marks")

    def make(body, codec=None, **fields):
        return sealed(random, PROJECT_ID, PROJECT_SECRET, b"CTLBmark", to_json(body), codec=codec, **fields)

    mark = {"time": TIME}
    packs, segments = [SHORT[0].hex(), SHORT[1].hex()], [SHORT[2].hex()]
    full = {"requires": [], "packs": packs, "segments": segments, **mark, "host": "h", "tool": "vectors 1"}
    nulls = {name: None for name in ("requires", "packs", "segments", "host", "tool")}
    right = make(mark)
    cases.add("right", "the only required member; it names nothing", right, {"mark": mark})
    for name, comment, value in [
        ("full", "all members", full),
        ("nulls", "members that may be missing are null", mark | nulls),
        ("packs", "", mark | {"packs": packs}),
        ("segments", "", mark | {"segments": segments}),
        ("none", "", mark | {"packs": [], "segments": []}),
        ("pack-twice", "a pack that is named twice counts once", mark | {"packs": packs[:1] * 2}),
        ("unknown-members", "are ignored", full | {"mood": "sad", "x": {"color": 1}}),
    ]:
        cases.add(name, comment, make(value), {"mark": value})
    cases.add("other-project-secret", "", right, "does-not-open", project_secret=OTHER_PROJECT_SECRET)
    cases.add("other-project", "", right, "does-not-open", project_id=OTHER_PROJECT_ID)
    cases.add("other-name", "stored under another hash", right, "bad-hash", name=H(b""))
    as_tombstone = sealed(random, PROJECT_ID, PROJECT_SECRET, b"CTLBtomb", to_json(mark))
    cases.add("tombstone-as-mark", "the header is bound", header(b"CTLBmark") + as_tombstone[16:], "does-not-open")
    cases.headers(b"CTLBmark", lambda head: make(mark, head=head))
    cases.add("body-over-limit", "", make(mark, length=16 * MIB + 1), "limit-exceeded")
    for name, body, kind in [
        ("not-json", b"mark", "bad-json"),
        ("array", to_json([mark]), "bad-json"),
        ("members-in-array", to_json([[], packs, segments, TIME]), "bad-json"),
        ("string", b'"mark"', "bad-json"),
        ("nothing", b"", "bad-json"),
        ("requires-unknown", mark | {"requires": ["magic"]}, "unknown-feature"),
        ("requires-unknown-first", {"requires": ["magic"], "time": 0, "packs": "all"}, "unknown-feature"),
        ("requires-string", mark | {"requires": "magic"}, "bad-value"),
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


# ---- Trees -------------------------------------------------------------------------------------


def nodes() -> Cases:
    cases = Cases()

    def grid(type, level, width, children):
        children = [{"position": position, "id": child} for position, child in children.items()]
        return {"type": type, "level": level, "width": width, "children": children}

    def stream(type, level, entries):
        entries = [{"length": length, "id": child} for length, child in entries]
        return {"type": type, "level": level, "entries": entries}

    some = {0: IDS[0], 9: IDS[1], 63: IDS[2]}
    one = {0: IDS[0]}
    for width in 1, 2, 8, 64:
        full = {i: IDS[i % 8] for i in range(min(width, 8))}
        cases.add(f"leaf-width-{width}", "", grid_node(0, width, full), grid(LEAF, 0, width, full))
    cases.add("leaf-width-1024", "", grid_node(0, 1024, {1023: IDS[0]}), grid(LEAF, 0, 1024, {1023: IDS[0]}))
    cases.add("leaf-bit-order", "children 0, 9 and 63", grid_node(0, 64, some), grid(LEAF, 0, 64, some))
    for level in 1, 7:
        cases.add(f"branch-level-{level}", "", grid_node(level, 64, some), grid(BRANCH, level, 64, some))
    zeros = [(1, IDS[0]), (MAX_BLOB, IDS[1]), (7, ZERO_ID)]
    cases.add("stream-leaf", "with a run of zeros", stream_node(0, zeros), stream(STREAM_LEAF, 0, zeros))
    long = [(2**64 - 2, IDS[0]), (1, IDS[1])]
    for level in 1, 15:
        cases.add(f"stream-branch-level-{level}", "", stream_node(level, long), stream(STREAM_BRANCH, level, long))

    entries = [(5, IDS[0]), (6, IDS[1])]
    for name, comment, data, kind in [
        ("type-0", "", grid_node(0, 64, one, type=5)[1:], "bad-value"),
        ("type-5", "", grid_node(0, 64, one, type=5), "bad-value"),
        ("leaf-level-1", "", bytes([LEAF, 1]) + grid_node(0, 64, one)[2:], "limit-exceeded"),
        ("branch-level-0", "", grid_node(0, 64, one, type=BRANCH), "limit-exceeded"),
        ("branch-level-8", "too deep", grid_node(8, 64, one), "limit-exceeded"),
        ("branch-level-255", "too deep", grid_node(255, 64, one), "limit-exceeded"),
        ("leaf-width-0", "", grid_node(0, 0, {}, bitmap=0), "limit-exceeded"),
        ("leaf-width-2048", "", grid_node(0, 2048, one), "limit-exceeded"),
        ("leaf-width-65535", "", grid_node(0, 65_535, one)[:200], "limit-exceeded"),
        ("leaf-width-3", "4 MiB is no multiple", grid_node(0, 3, one), "bad-value"),
        ("branch-width-63", "", grid_node(1, 63, one), "bad-value"),
        ("branch-width-128", "", grid_node(1, 128, one), "bad-value"),
        ("leaf-without-children", "", grid_node(0, 64, {}), "not-canonical"),
        ("branch-without-children", "", grid_node(1, 64, {}), "not-canonical"),
        ("leaf-bit-beyond-width", "bit 1 of width 1", grid_node(0, 1, one, bitmap=3), "nonzero-reserved"),
        ("leaf-bit-7-of-width-4", "", grid_node(0, 4, one, bitmap=0x81), "nonzero-reserved"),
        ("leaf-only-bit-beyond-width", "", grid_node(0, 2, one, bitmap=4), "nonzero-reserved"),
        ("leaf-ids-missing", "two bits, one id", grid_node(0, 64, one, bitmap=3), "truncated"),
        ("branch-ids-missing", "all bits, one id", grid_node(1, 64, one, bitmap=2**64 - 1), "truncated"),
        ("leaf-ids-too-many", "one bit, two ids", grid_node(0, 64, {0: IDS[0], 1: IDS[1]}, bitmap=1), "trailing-bytes"),
        ("leaf-trailing-byte", "", grid_node(0, 64, one) + b"\0", "trailing-bytes"),
        ("stream-leaf-level-1", "", stream_node(1, entries, type=STREAM_LEAF), "limit-exceeded"),
        ("stream-branch-level-0", "", stream_node(0, entries, type=STREAM_BRANCH), "limit-exceeded"),
        ("stream-branch-level-16", "too deep", stream_node(16, entries), "limit-exceeded"),
        ("stream-leaf-without-entries", "", stream_node(0, []), "limit-exceeded"),
        ("stream-leaf-256-entries", "the most allowed, but they are missing", stream_node(0, entries, count=256), "truncated"),
        ("stream-leaf-257-entries", "", stream_node(0, entries, count=257), "limit-exceeded"),
        ("stream-leaf-count-more", "", stream_node(0, entries, count=3), "truncated"),
        ("stream-leaf-count-less", "", stream_node(0, entries, count=1), "trailing-bytes"),
        ("stream-leaf-trailing-byte", "", stream_node(0, entries) + b"\0", "trailing-bytes"),
        ("stream-leaf-length-0", "", stream_node(0, [(0, IDS[0])]), "limit-exceeded"),
        ("stream-leaf-length-over-limit", "", stream_node(0, [(MAX_BLOB + 1, IDS[0])]), "limit-exceeded"),
        ("stream-branch-zero-id", "only a stream leaf has runs of zeros", stream_node(1, [(5, ZERO_ID)]), "bad-value"),
        ("stream-leaf-zeros-over-limit", "", stream_node(0, [(MAX_BLOB + 1, ZERO_ID)]), "limit-exceeded"),
        ("stream-branch-length-0", "", stream_node(1, [(0, IDS[0])]), "limit-exceeded"),
        (
            "stream-branch-overflow",
            "the sum is 2^64",
            stream_node(1, [(2**64 - 1, IDS[0]), (1, IDS[1])]),
            "limit-exceeded",
        ),
    ]:
        cases.add(name, comment, data, kind)
    cases.truncated(grid_node(0, 64, some), [0, 1, 2, 3, 4, 11, 12, 43, -1])
    for length in 4, 12, 43, 83:
        cases.add(f"stream-leaf-first-{length}-bytes", "", stream_node(0, entries)[:length], "truncated")
    return cases


def trees() -> Cases:
    cases = Cases(project_secret=PROJECT_SECRET)

    def blobs(tree: Tree) -> list[dict]:
        """Writes repeated bytes as `plain` and `times`, and the zeros after them as `length`."""
        listed = [{"kind": "node", "plain": plain} for plain in tree.nodes.values()]
        for plain in tree.chunks.values():
            core = plain.rstrip(b"\0") or plain
            times = len(core) if core == core[:1] * len(core) else 1
            listed.append({"kind": "chunk", "plain": core[: len(core) // times], "times": times, "length": len(plain)})
        return listed

    def whole(size: int, data: dict[int, bytes]) -> dict:
        pieces = [{"offset": at, "length": len(plain)} for at, plain in sorted(data.items())]
        if size > 64 * MIB:
            return {"pieces": pieces}
        plain = bytearray(size)
        for at, piece in data.items():
            plain[at : at + len(piece)] = piece
        return {"pieces": pieces, "blake3": H(bytes(plain))}

    def add(name, comment, tree, content, expect):
        cases.add(name, comment, None, expect, content=content, blobs=blobs(tree))

    def image(name, comment, size, data, chunk_size=4 * KIB):
        tree = Tree(PROJECT_SECRET)
        add(name, comment, tree, tree.image(size, chunk_size, data), whole(size, data))

    small, large = b"a" * 4096, b"b" * MIB
    image("image-one-leaf", "two chunks and a gap", 5 * 4096, {0: small, 8192: b"c" * 4096})
    image("image-cut-chunk", "the last chunk is padded with zeros", 4096 + 100, {4096: b"d" * 100})
    image("image-full-leaf", "4 MiB exactly: a leaf on top", LEAF_SIZE, {LEAF_SIZE - MIB: large}, MIB)
    image("image-one-byte-more", "two leaves: a branch on top", LEAF_SIZE + 1, {LEAF_SIZE: b"e"})
    image("image-64-leaves", "level 1", 64 * LEAF_SIZE, {0: small, 63 * LEAF_SIZE: small})
    image("image-65-leaves", "level 2", 65 * LEAF_SIZE, {64 * LEAF_SIZE: small})
    largest = 2**64 - LEAF_SIZE
    image("image-largest", "2^64 − 2^22 bytes: level 7", largest, {0: small, largest - 4096: b"z" * 4096})
    image("image-largest-cut", "its last chunk has one byte", largest - 4095, {0: small, largest - 4096: b"z"})
    image("image-zeros", "no node", 9000, {})
    image("image-empty", "", 0, {})
    image("image-chunk-4-mib", "width 1", LEAF_SIZE, {0: b"f" * LEAF_SIZE}, LEAF_SIZE)
    for name, comment, chunks in [
        ("stream-one-leaf", "", [b"one", b"two"]),
        ("stream-zeros", "a run of zeros in the middle", [b"one", bytes(1000), b"two"]),
        ("stream-all-zeros", "has a tree", [bytes(1000), bytes(MIB)]),
        ("stream-three-levels", "", [bytes([65 + i]) * (i + 1) for i in range(10)]),
        ("stream-empty", "", []),
    ]:
        tree, data, at = Tree(PROJECT_SECRET), {}, 0
        content = tree.stream(chunks, 3)
        for chunk in chunks:
            data |= {at: chunk} if any(chunk) else {}
            at += len(chunk)
        add(name, comment, tree, content, whole(at, data))

    def broken(name, comment, kind, build):
        """`build(tree)` returns kind of content, size, chunk size and top. `kind`: an error, or the
        expected result."""
        tree = Tree(PROJECT_SECRET)
        add(name, comment, tree, tree.content(*build(tree)), kind)

    def leaf_top(size, children, width=1024, chunk_size=4096):
        def build(tree):
            added = {at: tree.add(CHUNK, child) if len(child) != 32 else child for at, child in children.items()}
            return "image", size, chunk_size, tree.add(NODE, grid_node(0, width, added))

        return build

    def branch_over(size, node, position=0, level=1):
        def build(tree):
            return "image", size, 4096, tree.add(NODE, grid_node(level, FANOUT, {position: tree.add(NODE, node(tree))}))

        return build

    def a_leaf(tree):
        return grid_node(0, 1024, {0: tree.add(CHUNK, small)})

    def a_stream_leaf(tree):
        return stream_node(0, [(3, tree.add(CHUNK, b"one"))])

    two_leaves = LEAF_SIZE + 1
    broken("image-chunk-missing", "", "missing", leaf_top(4096, {0: IDS[0]}))
    broken("image-top-missing", "", "missing", lambda tree: ("image", 4096, 4096, IDS[0]))
    broken("image-short-chunk", "", "bad-length", leaf_top(8192, {0: b"a" * 4095}))
    broken("image-long-chunk", "", "bad-length", leaf_top(8192, {0: b"a" * 4097}))
    broken("image-other-width", "the leaf is of another chunk size", "bad-value", leaf_top(4096, {0: small}, 512))
    zeros = "stored, although zeros have no id: to be reported, but it can be read"
    read = {"pieces": [{"offset": 0, "length": 4096}], "blake3": H(bytes(4096))}
    broken("image-chunk-of-zeros", zeros, read, leaf_top(4096, {0: bytes(4096)}))
    read = {"pieces": [{"offset": 0, "length": 4000}], "blake3": H(small[:4000])}
    broken("image-padding", "not zero: to be reported, but it is cut off", read, leaf_top(4000, {0: small}))
    broken("image-chunk-beyond-end", "", "not-canonical", leaf_top(4096, {0: small, 1: b"b" * 4096}))
    broken("image-leaf-on-top-of-two", "a branch belongs there", "bad-value", leaf_top(two_leaves, {0: small}))
    broken("image-branch-on-top-of-one", "a leaf belongs there", "bad-value", branch_over(4096, a_leaf))
    broken("image-level-2-on-top", "level 1 belongs there", "bad-value", branch_over(
        two_leaves, lambda tree: grid_node(1, FANOUT, {0: tree.add(NODE, a_leaf(tree))}), level=2))  # fmt: skip
    broken("image-level-skipped", "a leaf below level 2", "bad-value", branch_over(65 * LEAF_SIZE, a_leaf, level=2))
    broken("image-level-repeated", "level 1 below level 1", "bad-value", branch_over(
        two_leaves, lambda tree: grid_node(1, FANOUT, {0: tree.add(NODE, a_leaf(tree))})))  # fmt: skip
    broken("image-leaf-beyond-end", "", "not-canonical", branch_over(two_leaves, a_leaf, position=2))
    broken("image-stream-node", "in an image", "bad-value", branch_over(two_leaves, a_stream_leaf))
    broken("image-chunk-as-node", "ids of chunks and nodes differ", "missing",
           lambda tree: ("image", 4096, 4096, tree.add(CHUNK, a_leaf(tree))))  # fmt: skip
    broken("image-empty-node", "", "not-canonical", branch_over(two_leaves, lambda tree: grid_node(0, 1024, {})))

    def stream_top(size, make):
        return lambda tree: ("stream", size, 0, tree.add(NODE, make(tree)))

    def over(length, node, level=1):
        return lambda tree: stream_node(level, [(length, tree.add(NODE, node(tree)))])

    broken("stream-size-less", "the stream leaf spans 3 bytes", "bad-length", stream_top(2, a_stream_leaf))
    broken("stream-size-more", "the stream leaf spans 3 bytes", "bad-length", stream_top(4, a_stream_leaf))
    broken("stream-branch-length-less", "the stream leaf spans 3 bytes", "bad-length", stream_top(2, over(2, a_stream_leaf)))
    broken("stream-branch-length-more", "the stream leaf spans 3 bytes", "bad-length", stream_top(4, over(4, a_stream_leaf)))
    broken("stream-chunk-longer", "than its entry", "bad-length",
           stream_top(2, lambda tree: stream_node(0, [(2, tree.add(CHUNK, b"one"))])))  # fmt: skip
    broken("stream-chunk-shorter", "than its entry", "bad-length",
           stream_top(4, lambda tree: stream_node(0, [(4, tree.add(CHUNK, b"one"))])))  # fmt: skip
    read = {"pieces": [{"offset": 0, "length": 3}], "blake3": H(bytes(3))}
    broken("stream-chunk-of-zeros", zeros, read,
           stream_top(3, lambda tree: stream_node(0, [(3, tree.add(CHUNK, bytes(3)))])))  # fmt: skip
    broken("stream-level-skipped", "a stream leaf below level 2", "bad-value", stream_top(3, over(3, a_stream_leaf, level=2)))
    broken("stream-level-repeated", "", "bad-value", stream_top(3, over(3, over(3, a_stream_leaf))))
    broken("stream-image-node", "in a stream", "bad-value", stream_top(4096, a_leaf))
    broken("stream-zero-id-in-branch", "only a stream leaf has runs of zeros", "bad-value",
           stream_top(5, lambda tree: stream_node(1, [(5, ZERO_ID)])))  # fmt: skip
    return cases


# ---- Whole repositories ------------------------------------------------------------------------


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
        tree = Tree(main.secret)
        record_name[volume] = main.put_backup(tree, build(tree), volume, TIME)
    files = writer.files

    def expect(volume):
        tree = Tree(main.secret)
        content = (
            tree.image(len(plain), 4096, chunks) if volume == "disk" else tree.stream([plain[:5000], plain[5000:]], 8)
        )
        volume = {"id": H(volume.encode())[:16].hex(), "name": volume}
        return {"record": {"volume": volume, "content": content, "time": TIME, "finished": TIME}, "blake3": H(plain)}

    def add(name, comment, expected, changes=None, volume="disk", **inputs):
        cases.add(name, comment, None, expected, files=files, changes=changes or {}, volume=volume, **inputs)

    def flip(paths):
        return {path: files[path][:40] + bytes([files[path][40] ^ 1]) + files[path][41:] for path in paths}

    def without(paths):
        return {path: None for path in paths}

    twins = [path for path in files if path + ".copy" in files]
    copies = [path + ".copy" for path in twins]
    packs = [path for path in files if "/packs/" in path][:3]  # of `disk`: chunks, nodes, nodes
    segments = [path for path in files if "/index/" in path]

    def added(make):
        """Returns the files that `make` adds; other cases do not have them."""
        before = dict(files)
        make()
        new = {path: files.pop(path) for path in list(files) if path not in before}
        return new

    def superseded():
        gone = main.put_pack(CHUNK, [[chunks[0]]])
        old = main.put_segment([gone])
        main.put_segment([], superseded=[old])
        del files[f"{main.path}packs/{gone.name.hex()[:2]}/{gone.name.hex()}"]

    def put_zeros(size, time, volume_id=None):
        """Puts another backup of `dump`, which needs no blob."""
        content = Tree(main.secret).content("image", size, 4096, None)
        volume = {"id": volume_id or H(b"dump")[:16].hex(), "name": "dump"}
        record = {"volume": volume, "content": content, "time": time, "finished": time}
        name = main.put_sealed("backups", b"CTLBbkup", to_json(record))
        return name, {"record": record, "blake3": H(bytes(size))}

    def put_parts():
        """Puts a newer `dump` of two chunks. One is the middle of three in its run; the others are
        unused. The second shares its run with a chunk that does not have its stated id."""
        tree = Tree(main.secret)
        whole, first, odd = [SAND, b"second", b"third"], b"first", b"odd"
        content = tree.stream([whole[1], first], 8)
        ids = [blob_id(CHUNK, first, main.secret), IDS[0]]
        packs = [main.put_pack(CHUNK, [whole, Faulty([first, odd], ids=ids)])]
        packs += [main.put_pack(NODE, [[node] for node in tree.nodes.values()]) for _ in range(2)]
        main.put_segment(packs)
        volume, time = {"id": H(b"dump")[:16].hex(), "name": "dump"}, "2026-11-21T11:00:00Z"
        record = {"volume": volume, "content": content, "time": time, "finished": time}
        main.put_sealed("backups", b"CTLBbkup", to_json(record))
        return {"record": record, "blake3": H(whole[1] + first)}

    def put_liar():
        """Puts a pack and a segment that list other bytes under the id of `disk`'s first chunk."""
        lie = blob_id(CHUNK, chunks[0], main.secret)
        main.put_segment([main.put_pack(CHUNK, [Faulty([b"a", b"b" * 4096], ids=[IDS[0], lie])])])

    guest = slot(writer.random, main.secret, b"guest", {}, project_id=main.id)
    only_guest = without([path for path in files if path.startswith("keys/")])
    only_guest[f"{main.path}keys/{H(guest).hex()}"] = guest
    cases.add("image", "the files that all cases share", None, expect("disk"), files=files, changes={}, volume="disk")
    add("stream", "", expect("dump"), volume="dump")
    add("originals-missing", "the copies are read", expect("disk"), without(twins))
    add("originals-damaged", "the copies are read", expect("disk"), flip(twins))
    add("copies-damaged", "", expect("disk"), flip(copies))
    add("first-node-pack-missing", "the second is read", expect("disk"), without(packs[1:2]))
    add("second-node-pack-damaged", "the first is read", expect("disk"), flip(packs[2:3]))
    add("foreign-names", "are ignored", expect("disk"), {
        "keys/.new": b"?", "projects/.x/y": b"?", "marks/m": b"?", main.path + "backups/" + "AB" * 32: b"?",
        main.path + "packs/00/" + "ff" * 32: b"?", main.path + "index/.tmp": b"?"})  # fmt: skip
    add("project-slot", "the project's own slot, no other", expect("disk"), only_guest, password=b"guest")
    add("segments-damaged", "the contents of the packs are read", expect("disk"), flip(segments))
    add("superseded-segment", "names a pack that is gone", expect("disk"), added(superseded))
    add("chunk-in-second-pack", "the first is damaged", expect("disk"),
        added(lambda: main.put_segment([main.put_pack(CHUNK, [[p.ljust(4096, b"\0") for p in chunks.values()]])]))
        | flip(packs[:1]))  # fmt: skip
    made = []
    changes = added(lambda: made.append(put_parts()))
    add("runs-partly-used", "one with a blob whose bytes do not match its id", made[0], changes, volume="dump")
    add("blob-of-other-id", "in a pack; another pack is read", expect("disk"), added(put_liar))
    for name, comment, volume_id, times in [
        (
            "newest-by-instant",
            "not by its spelling",
            None,
            ["2026-11-21T12:00:00.5+01:00", "2026-11-21T12:00:00+01:30"],
        ),
        ("newest-by-nanosecond", "", None, ["2026-11-21T10:00:00.000000002Z", "2026-11-21T10:00:00.000000001Z"]),
        ("newest-by-hash", "of one instant: the largest hash", None, [TIME, "2026-11-21T11:00:00+01:00"]),
        ("volumes-of-one-name", "count as one", IDS[0][:16].hex(), ["2026-11-21T10:00:01Z", "2026-11-21T10:00:00Z"]),
    ]:
        made = []
        changes = added(lambda: made.extend(put_zeros(i + 1, time, volume_id) for i, time in enumerate(times)))  # noqa: B023
        if name == "newest-by-hash":
            old = record_name["dump"], expect("dump")
            made = sorted([*made, old], key=lambda item: item[0], reverse=True)
        add(name, comment, made[0][1], changes, volume="dump")
    removed = {"records": [record_name["disk"].hex()], "time": TIME}
    add("tombstone-of-existing-record", "a backup can be read until it is deleted", expect("disk"),
        added(lambda: main.put_sealed("tombstones", b"CTLBtomb", to_json(removed))))  # fmt: skip
    add("wrong-password", "", "does-not-open", password=b"wrong")
    add("no-repository-file", "", "missing", without(["cuttlebone", "cuttlebone.copy"]))
    add("both-node-packs-damaged", "", "missing", flip(packs[1:3]))
    add("chunk-pack-missing", "", "missing", without(packs[:1]))
    add("record-missing", "", "missing", without([f"{main.path}backups/{record_name['disk'].hex()}"]))
    return cases


FILES = {
    "keys": keys, "ids": ids, "repository": repository_file, "slot": slots, "project": projects, "pack": packs,
    "index": indexes, "record": records, "tombstone": tombstones, "lease": leases, "mark": marks, "node": nodes,
    "tree": trees, "whole": wholes,
}  # fmt: skip


def main():
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    for name, make in FILES.items():
        cases = ",\n".join(json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in make())
        (directory / f"{name}.json").write_text(f"[\n{cases}\n]\n")


if __name__ == "__main__":
    main()
