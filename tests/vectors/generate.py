#!/usr/bin/env python3
"""Makes the test vectors, the same in every run: generate.py [DIR]. README.md tells their form.

What is expected comes from what was written, never from a decoder. Where possible a wrong object has
one fault only: its hash, tags and sums are made anew after the fault went in.
"""

import json
import sys
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "reader"))

from cuttlebone_format import (  # noqa: E402
    BRANCH, CHUNK, FANOUT, DERIVED, H, KIB, MAX_BLOB, MAX_PACK, MIB, NODE, RAW, SLOT, SLOT_SIZE,
    STREAM_BRANCH, STREAM_LEAF, ZERO_ID, ZSTD, Content, argon2id, blob_id, derive, root_of,
)  # fmt: skip
from write_repo import (  # noqa: E402
    Pack, Random, Tree, Writer, compress, entry, grid_node, header, index_body, project, repository, sealed,
    slot, stream_node, to_json, u,
)  # fmt: skip

SECRET, OTHER_SECRET = Random("repository secret")(32), Random("another repository secret")(32)
PROJECT_SECRET, OTHER_PROJECT_SECRET = Random("project secret")(32), Random("another project secret")(32)
PROJECT_ID, OTHER_PROJECT_ID = Random("project id")(16), Random("another project id")(16)
PASSWORD = "pass wörd".encode()
TIME = "2026-11-21T10:00:00Z"
IDS = [Random(f"id {i}")(32) for i in range(8)]


def as_json(value):
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {name: as_json(item) for name, item in value.items()}
    return [as_json(item) for item in value] if isinstance(value, (list, tuple)) else value


def without(value: dict, name: str) -> dict:
    return {key: item for key, item in value.items() if key != name}


class Cases(list):
    """The cases of one file. `named`: objects whose file name is their hash, given as input `name`."""

    def __init__(self, *, named=False, **inputs):
        self.named, self.inputs = named, inputs

    def add(self, name: str, comment: str, data: bytes | None, expect, /, **inputs):
        """`expect`: the error's kind, or the decoded fields."""
        assert name not in [case["name"] for case in self], name
        if self.named:
            inputs = {"name": H(data)} | inputs
        inputs = {key: value for key, value in (self.inputs | inputs).items() if value is not None}
        case = {"name": name, "comment": comment, "inputs": as_json(inputs)}
        if data is not None:
            case["object"] = data.hex()
        case["expect"] = {"error": expect} if isinstance(expect, str) else {"ok": as_json(expect)}
        self.append(case)

    def headers(self, magic: bytes, make):
        """Every fault of a header. `make(head)` gives the object with that header, right in all else."""
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
    cases.add("without-secret", "who holds a project's key only cannot check the MAC", foreign, fields,
              repository_secret=None)  # fmt: skip
    cases.add("other-secret", "whole, but of another repository", foreign, "bad-mac")
    cases.headers(b"CTLBrepo", lambda head: repository(SECRET, repository_id, created, head=head))
    places = {"id": 16, "created": 32, "mac": 40, "mac-end": 71, "hash": 72, "hash-end": 103}
    cases.flips(right, places, "bad-hash")
    for what, at in ("id", 16), ("created", 39), ("mac", 40):
        body = bytearray(right[:72])
        body[at] ^= 0x80
        cases.add(f"forged-{what}", "changed, and the hash made anew", bytes(body) + H(bytes(body)), "bad-mac")
    cases.truncated(right, [0, 7, 8, 15, 16, 39, 72, 103])
    cases.add("trailing-byte", "", right + b"\0", "trailing-bytes")
    return cases


def slots() -> Cases:
    cases = Cases(named=True, password=PASSWORD)
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
    cases.headers(b"CTLBslot", lambda head: make(head=head))
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
        cases.add(name, "", make(**wrong, cost=(8, 1, 1)), kind)
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
        "settings-of-another", "bound to the wrapped secret beside them", right[:88] + make()[88:], "does-not-open"
    )
    return cases


def content_of(data: bytes) -> bytes:
    return min(data, compress(data), key=len)


def entry_list(kind: int, blobs, start=32) -> list[dict]:
    """What an ok case expects of entries. `blobs`: (plain, content)."""
    listed, offset = [], start
    for plain, content in blobs:
        listed.append({
            "kind": kind, "codec": RAW if plain == content else ZSTD, "plain_length": len(plain),
            "stored_length": len(content) + 16, "id": blob_id(kind, plain, PROJECT_SECRET), "offset": offset,
        })  # fmt: skip
        offset += len(content) + 16
    return listed


SKIPPABLE = bytes.fromhex("502a4d1801000000") + b"x"
SAND, TEXT = Random("sand")(40), b"cuttlebone " * 20
CHUNKS = [SAND, TEXT, b"x"]
NODES = [grid_node(0, 64, {0: IDS[0], 63: IDS[1]}), stream_node(0, [(5, IDS[2])])]

ENTRY_FAULTS = [
    ("kind-0", {"kind": 0}, "bad-value"),
    ("kind-3", {"kind": 3}, "bad-value"),
    ("codec-2", {"codec": 2}, "bad-codec"),
    ("codec-255", {"codec": 255}, "bad-codec"),
    ("zero-field", {"zero": 1}, "nonzero-reserved"),
    ("zero-field-high", {"zero": 0x100}, "nonzero-reserved"),
    ("plain-length-0", {"plain_length": 0}, "limit-exceeded"),
    ("plain-length-over-limit", {"plain_length": MAX_BLOB + 1}, "limit-exceeded"),
    ("stored-length-0", {"stored_length": 0}, "limit-exceeded"),
    ("stored-length-16", {"stored_length": 16}, "limit-exceeded"),
    ("stored-length-over-plain", {"codec": ZSTD, "plain_length": 1, "stored_length": 18}, "limit-exceeded"),
    ("raw-stored-length-short", {"plain_length": 41}, "bad-length"),
]


def packs() -> Cases:
    cases = Cases(named=True, project_id=PROJECT_ID, project_secret=PROJECT_SECRET)
    random = Random("packs")

    def make(blobs=CHUNKS, kind=CHUNK, **fields):
        return Pack(random, PROJECT_ID, PROJECT_SECRET, kind, blobs, **fields).data

    def fields(kind, plains):
        entries = entry_list(kind, [(plain, content_of(plain)) for plain in plains])
        return {"blobs": [listed | {"plain": plain} for listed, plain in zip(entries, plains, strict=True)]}

    right = make()
    cases.add("right-chunks", "raw and compressed", right, fields(CHUNK, CHUNKS))
    cases.add("right-nodes", "", make(NODES, NODE), fields(NODE, NODES))
    cases.add("one-byte", "the smallest blob", make([b"x"]), fields(CHUNK, [b"x"]))
    nothing_stated = compress(TEXT, write_content_size=False)
    expected = fields(CHUNK, [TEXT])
    expected["blobs"][0]["stored_length"] = len(nothing_stated) + 16
    cases.add("frame-without-size", "a frame need not state its content's size",
              make([(TEXT, {"codec": ZSTD}, nothing_stated)]), expected)  # fmt: skip
    checked = compress(TEXT, write_checksum=True)
    expected = fields(CHUNK, [TEXT])
    expected["blobs"][0]["stored_length"] = len(checked) + 16
    cases.add("frame-with-checksum", "", make([(TEXT, {"codec": ZSTD}, checked)]), expected)

    cases.add("other-project-secret", "", right, "does-not-open", project_secret=OTHER_PROJECT_SECRET)
    cases.add("other-project", "", right, "does-not-open", project_id=OTHER_PROJECT_ID)
    cases.add("other-name", "stored under another hash", right, "bad-hash", name=H(b""))
    cases.headers(b"CTLBpack", lambda head: make(head=head))
    for name, wrong, kind in ENTRY_FAULTS:
        cases.add(name, "in the first entry", make([(SAND, wrong, SAND), b"x"]), kind)
    cases.add("two-kinds", "a chunk and a node", make([SAND, (b"x", {"kind": NODE}, b"x")]), "bad-value")
    cases.add("wrong-id", "", make([(SAND, {"blob_id": IDS[0]}, SAND)]), "bad-id")
    node_id = blob_id(NODE, SAND, PROJECT_SECRET)
    cases.add("id-of-other-kind", "a chunk under a node's id", make([(SAND, {"blob_id": node_id}, SAND)]), "bad-id")

    bomb = compress(bytes(MIB))
    for name, comment, wrong, content, kind in [
        ("frame-longer", "than the plain length", {"plain_length": len(TEXT) - 1}, compress(TEXT), "bad-length"),
        ("frame-shorter", "than the plain length", {"plain_length": len(TEXT) + 1}, compress(TEXT), "bad-length"),
        ("silent-frame-longer", "states no size", {"plain_length": len(TEXT) - 1}, nothing_stated, "bad-length"),
        ("silent-frame-shorter", "states no size", {"plain_length": len(TEXT) + 1}, nothing_stated, "bad-length"),
        ("bomb", "a MiB of zeros said to be 220 bytes", {}, bomb, "bad-length"),
        ("frame-cut", "the frame's last byte is missing", {}, checked[:-1], "bad-codec"),
        ("frame-and-byte", "a byte behind the frame", {}, compress(TEXT) + b"\0", "bad-codec"),
        ("two-frames", "the second of no bytes", {}, compress(TEXT) + compress(b""), "bad-codec"),
        (
            "skippable-frame",
            "before the frame",
            {},
            SKIPPABLE + compress(TEXT),
            "bad-codec",
        ),
        (
            "frame-checksum",
            "the frame's own checksum is wrong",
            {},
            checked[:-1] + bytes([checked[-1] ^ 1]),
            "bad-codec",
        ),
        ("no-frame", "codec 1, but raw bytes", {}, SAND, "bad-codec"),
    ]:
        cases.add(name, comment, make([(TEXT, {"codec": ZSTD, **wrong}, content)]), kind)

    cases.add("empty", "no blob", make([]), "limit-exceeded")
    cases.add("count-more", "the count is one too many", make(count=4), "bad-length")
    cases.add("count-less", "the count is one too few", make(count=2), "bad-length")
    cases.add("count-0", "", make(count=0), "bad-length")
    cases.add("count-largest", "", make(count=2**32 - 1), "bad-length")
    length = 4 + 44 * 3 + 16
    for name, size, kind in [
        ("trailer-length-0", 0, "bad-length"),
        ("trailer-length-plus-1", length + 1, "bad-length"),
        ("trailer-length-minus-1", length - 1, "bad-length"),
        ("trailer-length-two-entries", length - 44, "does-not-open"),
        ("trailer-length-four-entries", length + 44, "does-not-open"),
        ("trailer-length-beyond-pack", 20 + 44 * 1000, "bad-length"),
        ("trailer-length-no-entries", 20, "limit-exceeded"),
        ("trailer-length-over-limit", 20 + 44 * (MIB + 1), "limit-exceeded"),
        ("trailer-length-largest", 2**32 - 1, "bad-length"),
    ]:
        cases.add(name, "", make(size=size), kind)
    more = entry(CHUNK, RAW, 1, 17, blob_id(CHUNK, b"y", PROJECT_SECRET))
    cases.add("entry-without-blob", "one entry more than blobs", make(change=lambda e: e + [more]), "bad-length")
    cases.add("blob-without-entry", "one entry less than blobs", make(change=lambda e: e[:-1]), "bad-length")
    cases.add("entries-swapped", "the sum is right, the order is not", make(change=lambda e: e[::-1]), "does-not-open")
    cases.add("entry-changed", "after the blob was sealed: another id",
              make(change=lambda e: [e[0][:12] + IDS[0]] + e[1:]), "does-not-open")  # fmt: skip
    cases.add(
        "byte-before-trailer", "belongs to no entry", right[: -4 - length] + b"\0" + right[-4 - length :], "bad-length"
    )
    swapped = make([SAND, SAND[::-1]])
    cases.add(
        "blobs-swapped",
        "two blobs of one length",
        swapped[:32] + swapped[88:144] + swapped[32:88] + swapped[144:],
        "does-not-open",
    )
    cases.flips(
        right,
        {"nonce": 16, "first-blob": 32, "first-tag": 87, "trailer": len(right) - 5 - 20, "trailer-tag": len(right) - 5},
    )
    cases.truncated(right, [0, 15, 31, 32, 36])
    cases.truncated(right, [99, -1], "bad-length")
    cases.add("trailing-zero-bytes", "then the trailer's length is 0", right + bytes(4), "bad-length")
    return cases


def indexes() -> Cases:
    cases = Cases(named=True, project_id=PROJECT_ID, project_secret=PROJECT_SECRET)
    random = Random("indexes")

    def make(body, **fields):
        return sealed(random, PROJECT_ID, PROJECT_SECRET, b"CTLBindx", body, **fields)

    def raw(kind, blobs):
        listed = [dict(item, blob_id=item["id"]) for item in entry_list(kind, blobs)]
        return [entry(**{k: v for k, v in item.items() if k not in ("id", "offset")}) for item in listed]

    chunks = [(plain, content_of(plain)) for plain in CHUNKS]
    nodes = [(plain, content_of(plain)) for plain in NODES]
    nonces = [Random(f"nonce {i}")(16) for i in range(3)]
    body = index_body([
        (IDS[0], nonces[0], raw(CHUNK, chunks)), (IDS[1], nonces[1], raw(NODE, nodes)),
        (IDS[2], nonces[2], raw(NODE, nodes)),
    ], [IDS[3]])  # fmt: skip
    fields = {
        "packs": [
            {"pack": IDS[0], "nonce": nonces[0], "entries": entry_list(CHUNK, chunks)},
            {"pack": IDS[1], "nonce": nonces[1], "entries": entry_list(NODE, nodes)},
            {"pack": IDS[2], "nonce": nonces[2], "entries": entry_list(NODE, nodes)},
        ],
        "superseded": [IDS[3]],
    }  # fmt: skip
    right = make(body)
    cases.add("right", "the same nodes in two packs", right, fields)
    cases.add("right-compressed", "", make(body, codec=ZSTD), fields)
    cases.add("nothing", "no pack, nothing superseded", make(bytes(8)), {"packs": [], "superseded": []})

    def one_pack(entries, superseded=()):
        return index_body([(IDS[0], nonces[0], entries)], superseded)

    small = one_pack(raw(CHUNK, chunks[:1]), [IDS[1], IDS[2]])
    one = {
        "packs": [{"pack": IDS[0], "nonce": nonces[0], "entries": entry_list(CHUNK, chunks[:1])}],
        "superseded": [IDS[1], IDS[2]],
    }
    cases.add("two-superseded", "", make(small), one)

    cases.add("other-project-secret", "", right, "does-not-open", project_secret=OTHER_PROJECT_SECRET)
    cases.add("other-project", "", right, "does-not-open", project_id=OTHER_PROJECT_ID)
    cases.add("other-name", "stored under another hash", right, "bad-hash", name=H(b""))
    cases.headers(b"CTLBindx", lambda head: make(small, head=head))
    sealed_faults(cases, make, one_pack(raw(CHUNK, chunks[:1] * 9)), small, 64 * MIB)
    for name, wrong, kind in ENTRY_FAULTS:
        first = {"kind": CHUNK, "codec": RAW, "plain_length": 40, "stored_length": 56, "blob_id": IDS[5]}
        cases.add(name, "in the first entry", make(one_pack([entry(**(first | wrong))])), kind)
    mixed = raw(CHUNK, chunks[:1]) + raw(NODE, nodes[:1])
    cases.add("two-kinds", "in one pack", make(one_pack(mixed)), "bad-value")
    cases.add("pack-without-entries", "", make(one_pack([])), "limit-exceeded")
    large = [entry(CHUNK, RAW, MAX_BLOB, MAX_BLOB + 16, IDS[5])] * 64
    assert 64 * MAX_BLOB == MAX_PACK
    cases.add("pack-over-limit", "64 chunks of 4 MiB, with tags and trailer",
              make(one_pack(large)), "limit-exceeded")  # fmt: skip
    full = large[:63]
    cases.add("pack-63-large-chunks", "as many as fit", make(one_pack(full)), {
        "packs": [{"pack": IDS[0], "nonce": nonces[0], "entries": [
            {"kind": CHUNK, "codec": RAW, "plain_length": MAX_BLOB, "stored_length": MAX_BLOB + 16, "id": IDS[5],
             "offset": 32 + i * (MAX_BLOB + 16)} for i in range(63)
        ]}], "superseded": [],
    })  # fmt: skip
    cases.add("entry-count-over-limit", "", make(u(32, 1) + IDS[0] + nonces[0] + u(32, MIB + 1)), "limit-exceeded")
    for name, wrong in [
        ("packs-count-more", u(32, 2) + small[4:100]),
        ("packs-count-largest", u(32, 2**32 - 1) + small[4:100]),
        ("entries-count-more", small[:52] + u(32, 3) + small[56:100]),
        ("superseded-count-more", small[:100] + u(32, 3) + small[104:]),
        ("superseded-count-largest", small[:100] + u(32, 2**32 - 1) + small[104:]),
        ("body-empty", b""),
        ("body-3-bytes", bytes(3)),
        ("body-without-superseded", small[:100]),
        ("body-cut", small[:-1]),
    ]:
        cases.add(name, "", make(wrong), "truncated")
    cases.add("superseded-count-less", "", make(small[:100] + u(32, 1) + small[104:]), "trailing-bytes")
    cases.add("body-trailing-byte", "", make(small + b"\0"), "trailing-bytes")
    return cases


def sealed_faults(cases: Cases, make, body: bytes, dense: bytes, limit: int):
    """The faults of section 7. `body` is shorter once compressed, and `dense` is not."""
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
    cases.add("trailing-byte", "cannot be told from a wrong tag", right + b"\0", "does-not-open")


def records() -> Cases:
    cases = Cases(named=True, project_id=PROJECT_ID, project_secret=PROJECT_SECRET)
    random = Random("records")

    def make(body, codec=None, **fields):
        return sealed(random, PROJECT_ID, PROJECT_SECRET, b"CTLBbkup", to_json(body), codec=codec, **fields)

    def content(kind="image", size=10_000_000, chunk_size=65_536, top=IDS[0], **wrong):
        return Tree(PROJECT_SECRET).content(kind, size, chunk_size, top) | wrong

    record = {
        "volume": {"id": IDS[4][:16].hex(), "name": "büro / C:"}, "content": content(), "time": TIME, "finished": TIME,
    }  # fmt: skip
    full = {
        "requires": [], **record, "finished": "2026-11-21T12:00:00.123456+02:00", "host": "h", "base": IDS[5].hex(),
        "heads": [IDS[5].hex(), IDS[6].hex()], "labels": {"keep": "yes"},
        "source": {"kind": "file", "path": {"hex": "ff2f00"}, "inode": [1, 2**64 - 1], "changed_ns": [-1, 2**63 - 1]},
        "counts": {"changed": 1, "read": 2, "new": 3, "stored": 4, "chunks_new": 5}, "tool": "vectors 1",
    }  # fmt: skip
    nulls = {name: None for name in ("requires", "host", "base", "heads", "labels", "source", "counts", "tool")}
    right = make(record)
    cases.add("right", "the members that may not be missing", right, {"record": record})
    cases.add("right-raw", "", make(record, RAW), {"record": record})
    assert len(compress(to_json(record))) < len(to_json(record))
    for name, comment, value in [
        ("full", "all members", full),
        ("nulls", "members that may be missing are null", record | nulls),
        ("unknown-members", "are ignored", record | {"mood": ["calm"], "volume": record["volume"] | {"color": 1}}),
        ("image-zeros", "no top node", record | {"content": content(top=None)}),
        ("image-empty", "no bytes", record | {"content": content(size=0, top=None)}),
        ("image-largest", "", record | {"content": content(size=2**64 - SLOT_SIZE)}),
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
        cases.add(f"{name}-words", "is no RFC 3339", make(record | {name: "yesterday"}), "bad-value")
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
        ("size-over-limit", {"size": 2**64 - SLOT_SIZE + 1}, "limit-exceeded"),
        ("kind-object", {"kind": {"image": None}}, "bad-value"),
        ("chunk_size-0", {"chunk_size": 0}, "limit-exceeded"),
        ("chunk_size-2048", {"chunk_size": 2048}, "limit-exceeded"),
        ("chunk_size-8388608", {"chunk_size": 8 * MIB}, "limit-exceeded"),
        ("chunk_size-no-power", {"chunk_size": 65_537}, "bad-value"),
        ("chunk_size-string", {"chunk_size": "65536"}, "bad-value"),
        ("top-short", {"top": IDS[0].hex()[:-2]}, "bad-value"),
        ("top-not-hex", {"top": "x" * 64}, "bad-value"),
        ("top-upper-case", {"top": IDS[0].hex().upper()}, "bad-value"),
        ("top-number", {"top": 0}, "bad-value"),
        ("root-null", {"root": None}, "bad-value"),
        ("root-short", {"root": IDS[0].hex()[:-2]}, "bad-value"),
        ("root-wrong", {"root": IDS[0].hex()}, "bad-root"),
        ("root-of-other-size", {"size": 10_000_001}, "bad-root"),
        ("root-of-other-chunk-size", {"chunk_size": 4096}, "bad-root"),
        ("root-of-other-top", {"top": IDS[1].hex()}, "bad-root"),
        ("root-of-zeros", {"top": None}, "bad-root"),
        ("root-of-stream", {"kind": "stream", "chunk_size": 0}, "bad-root"),
    ]:
        cases.add(f"content-{name}", "", make(record | {"content": content() | wrong}), kind)
    for name, wrong in [
        ("host-number", {"host": 1}),
        ("tool-array", {"tool": ["x"]}),
        ("base-short", {"base": IDS[5].hex()[:-2]}),
        ("base-number", {"base": 1}),
        ("heads-string", {"heads": IDS[5].hex()}),
        ("heads-upper-case", {"heads": [IDS[5].hex(), IDS[6].hex().upper()]}),
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
        ("counts-array", {"counts": [1, 2, 3, 4, 5]}),
        ("counts-null-member", {"counts": {"read": None}}),
        ("counts-string", {"counts": {"read": "1"}}),
        ("counts-negative", {"counts": {"read": -1}}),
    ]:
        cases.add(name, "", make(record | wrong), "bad-value")
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
        cases.add(f"slot-width-{width}", "", grid_node(0, width, full), grid(SLOT, 0, width, full))
    cases.add("slot-width-1024", "", grid_node(0, 1024, {1023: IDS[0]}), grid(SLOT, 0, 1024, {1023: IDS[0]}))
    cases.add("slot-bit-order", "children 0, 9 and 63", grid_node(0, 64, some), grid(SLOT, 0, 64, some))
    for level in 1, 7:
        cases.add(f"branch-level-{level}", "", grid_node(level, 64, some), grid(BRANCH, level, 64, some))
    zeros = [(1, IDS[0]), (MAX_BLOB, IDS[1]), (7, ZERO_ID)]
    cases.add("leaf", "with a run of zeros", stream_node(0, zeros), stream(STREAM_LEAF, 0, zeros))
    long = [(2**64 - 2, IDS[0]), (1, IDS[1])]
    for level in 1, 15:
        cases.add(f"stream-branch-level-{level}", "", stream_node(level, long), stream(STREAM_BRANCH, level, long))

    leaf = [(5, IDS[0]), (6, IDS[1])]
    for name, comment, data, kind in [
        ("type-0", "", grid_node(0, 64, one, type=5)[1:], "bad-value"),
        ("type-5", "", grid_node(0, 64, one, type=5), "bad-value"),
        ("slot-level-1", "", bytes([SLOT, 1]) + grid_node(0, 64, one)[2:], "limit-exceeded"),
        ("branch-level-0", "", grid_node(0, 64, one, type=BRANCH), "limit-exceeded"),
        ("branch-level-8", "too deep", grid_node(8, 64, one), "limit-exceeded"),
        ("branch-level-255", "too deep", grid_node(255, 64, one), "limit-exceeded"),
        ("slot-width-0", "", grid_node(0, 0, {}, bitmap=0), "limit-exceeded"),
        ("slot-width-2048", "", grid_node(0, 2048, one), "limit-exceeded"),
        ("slot-width-65535", "", grid_node(0, 65_535, one)[:200], "limit-exceeded"),
        ("slot-width-3", "4 MiB is no multiple", grid_node(0, 3, one), "bad-value"),
        ("branch-width-63", "", grid_node(1, 63, one), "bad-value"),
        ("branch-width-128", "", grid_node(1, 128, one), "bad-value"),
        ("slot-without-children", "", grid_node(0, 64, {}), "not-canonical"),
        ("branch-without-children", "", grid_node(1, 64, {}), "not-canonical"),
        ("slot-bit-beyond-width", "bit 1 of width 1", grid_node(0, 1, one, bitmap=3), "nonzero-reserved"),
        ("slot-bit-7-of-width-4", "", grid_node(0, 4, one, bitmap=0x81), "nonzero-reserved"),
        ("slot-only-bit-beyond-width", "", grid_node(0, 2, one, bitmap=4), "nonzero-reserved"),
        ("slot-ids-missing", "two bits, one id", grid_node(0, 64, one, bitmap=3), "truncated"),
        ("branch-ids-missing", "all bits, one id", grid_node(1, 64, one, bitmap=2**64 - 1), "truncated"),
        ("slot-ids-too-many", "one bit, two ids", grid_node(0, 64, {0: IDS[0], 1: IDS[1]}, bitmap=1), "trailing-bytes"),
        ("slot-trailing-byte", "", grid_node(0, 64, one) + b"\0", "trailing-bytes"),
        ("leaf-level-1", "", stream_node(1, leaf, type=STREAM_LEAF), "limit-exceeded"),
        ("stream-branch-level-0", "", stream_node(0, leaf, type=STREAM_BRANCH), "limit-exceeded"),
        ("stream-branch-level-16", "too deep", stream_node(16, leaf), "limit-exceeded"),
        ("leaf-without-entries", "", stream_node(0, []), "limit-exceeded"),
        ("leaf-256-entries", "as many as may be, but not there", stream_node(0, leaf, count=256), "truncated"),
        ("leaf-257-entries", "", stream_node(0, leaf, count=257), "limit-exceeded"),
        ("leaf-count-more", "", stream_node(0, leaf, count=3), "truncated"),
        ("leaf-count-less", "", stream_node(0, leaf, count=1), "trailing-bytes"),
        ("leaf-trailing-byte", "", stream_node(0, leaf) + b"\0", "trailing-bytes"),
        ("leaf-length-0", "", stream_node(0, [(0, IDS[0])]), "limit-exceeded"),
        ("leaf-length-over-limit", "", stream_node(0, [(MAX_BLOB + 1, IDS[0])]), "limit-exceeded"),
        ("stream-branch-zero-id", "only a leaf has runs of zeros", stream_node(1, [(5, ZERO_ID)]), "bad-value"),
        ("leaf-zeros-over-limit", "", stream_node(0, [(MAX_BLOB + 1, ZERO_ID)]), "limit-exceeded"),
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
        cases.add(f"leaf-first-{length}-bytes", "", stream_node(0, leaf)[:length], "truncated")
    return cases


def trees() -> Cases:
    cases = Cases(project_secret=PROJECT_SECRET)

    def blobs(tree: Tree) -> list[dict]:
        """A run of one byte is written as `plain` and `times`, the zeros behind it as `length`."""
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
    image("image-one-slot", "two chunks and a gap", 5 * 4096, {0: small, 8192: b"c" * 4096})
    image("image-cut-chunk", "the last chunk is filled up with zeros", 4096 + 100, {4096: b"d" * 100})
    image("image-full-slot", "4 MiB exactly: a slot on top", SLOT_SIZE, {SLOT_SIZE - MIB: large}, MIB)
    image("image-one-byte-more", "two slots: a branch on top", SLOT_SIZE + 1, {SLOT_SIZE: b"e"})
    image("image-64-slots", "level 1", 64 * SLOT_SIZE, {0: small, 63 * SLOT_SIZE: small})
    image("image-65-slots", "level 2", 65 * SLOT_SIZE, {64 * SLOT_SIZE: small})
    largest = 2**64 - SLOT_SIZE
    image("image-largest", "2^64 − 2^22 bytes: level 7", largest, {0: small, largest - 4096: b"z" * 4096})
    image("image-largest-cut", "its last chunk has one byte", largest - 4095, {0: small, largest - 4096: b"z"})
    image("image-zeros", "no node", 9000, {})
    image("image-empty", "", 0, {})
    image("image-chunk-4-mib", "width 1", SLOT_SIZE, {0: b"f" * SLOT_SIZE}, SLOT_SIZE)
    for name, comment, chunks in [
        ("stream-one-leaf", "", [b"one", b"two"]),
        ("stream-zeros", "a run of zeros in the middle", [b"one", bytes(1000), b"two"]),
        ("stream-all-zeros", "has a tree all the same", [bytes(1000), bytes(MIB)]),
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
        """`build(tree)` gives kind of content, size, chunk size and top. `kind` may be what is read all the same."""
        tree = Tree(PROJECT_SECRET)
        add(name, comment, tree, tree.content(*build(tree)), kind)

    def slot_top(size, children, width=1024, chunk_size=4096):
        def build(tree):
            added = {at: tree.add(CHUNK, child) if len(child) != 32 else child for at, child in children.items()}
            return "image", size, chunk_size, tree.add(NODE, grid_node(0, width, added))

        return build

    def branch_over(size, node, position=0, level=1):
        def build(tree):
            return "image", size, 4096, tree.add(NODE, grid_node(level, FANOUT, {position: tree.add(NODE, node(tree))}))

        return build

    def a_slot(tree):
        return grid_node(0, 1024, {0: tree.add(CHUNK, small)})

    def a_leaf(tree):
        return stream_node(0, [(3, tree.add(CHUNK, b"one"))])

    two_slots = SLOT_SIZE + 1
    broken("image-chunk-missing", "", "missing", slot_top(4096, {0: IDS[0]}))
    broken("image-top-missing", "", "missing", lambda tree: ("image", 4096, 4096, IDS[0]))
    broken("image-short-chunk", "", "bad-length", slot_top(8192, {0: b"a" * 4095}))
    broken("image-long-chunk", "", "bad-length", slot_top(8192, {0: b"a" * 4097}))
    broken("image-other-width", "the slot is of another chunk size", "bad-value", slot_top(4096, {0: small}, 512))
    zeros = "stored, though zeros have no id: to be reported, but it can be read"
    read = {"pieces": [{"offset": 0, "length": 4096}], "blake3": H(bytes(4096))}
    broken("image-chunk-of-zeros", zeros, read, slot_top(4096, {0: bytes(4096)}))
    read = {"pieces": [{"offset": 0, "length": 4000}], "blake3": H(small[:4000])}
    broken("image-filling", "not zero: to be reported, but it is clipped", read, slot_top(4000, {0: small}))
    broken("image-chunk-beyond-end", "", "not-canonical", slot_top(4096, {0: small, 1: b"b" * 4096}))
    broken("image-slot-on-top-of-two", "a branch belongs there", "bad-value", slot_top(two_slots, {0: small}))
    broken("image-branch-on-top-of-one", "a slot belongs there", "bad-value", branch_over(4096, a_slot))
    broken("image-level-2-on-top", "level 1 belongs there", "bad-value", branch_over(
        two_slots, lambda tree: grid_node(1, FANOUT, {0: tree.add(NODE, a_slot(tree))}), level=2))  # fmt: skip
    broken("image-level-skipped", "a slot below level 2", "bad-value", branch_over(65 * SLOT_SIZE, a_slot, level=2))
    broken("image-level-repeated", "level 1 below level 1", "bad-value", branch_over(
        two_slots, lambda tree: grid_node(1, FANOUT, {0: tree.add(NODE, a_slot(tree))})))  # fmt: skip
    broken("image-slot-beyond-end", "", "not-canonical", branch_over(two_slots, a_slot, position=2))
    broken("image-stream-node", "in an image", "bad-value", branch_over(two_slots, a_leaf))
    broken("image-chunk-as-node", "ids of chunks and nodes differ", "missing",
           lambda tree: ("image", 4096, 4096, tree.add(CHUNK, a_slot(tree))))  # fmt: skip
    broken("image-empty-node", "", "not-canonical", branch_over(two_slots, lambda tree: grid_node(0, 1024, {})))

    def stream_top(size, make):
        return lambda tree: ("stream", size, 0, tree.add(NODE, make(tree)))

    def over(length, node, level=1):
        return lambda tree: stream_node(level, [(length, tree.add(NODE, node(tree)))])

    broken("stream-size-less", "the leaf spans 3 bytes", "bad-length", stream_top(2, a_leaf))
    broken("stream-size-more", "the leaf spans 3 bytes", "bad-length", stream_top(4, a_leaf))
    broken("stream-branch-length-less", "the leaf spans 3 bytes", "bad-length", stream_top(2, over(2, a_leaf)))
    broken("stream-branch-length-more", "the leaf spans 3 bytes", "bad-length", stream_top(4, over(4, a_leaf)))
    broken("stream-chunk-longer", "than its entry", "bad-length",
           stream_top(2, lambda tree: stream_node(0, [(2, tree.add(CHUNK, b"one"))])))  # fmt: skip
    broken("stream-chunk-shorter", "than its entry", "bad-length",
           stream_top(4, lambda tree: stream_node(0, [(4, tree.add(CHUNK, b"one"))])))  # fmt: skip
    read = {"pieces": [{"offset": 0, "length": 3}], "blake3": H(bytes(3))}
    broken("stream-chunk-of-zeros", zeros, read,
           stream_top(3, lambda tree: stream_node(0, [(3, tree.add(CHUNK, bytes(3)))])))  # fmt: skip
    broken("stream-level-skipped", "a leaf below level 2", "bad-value", stream_top(3, over(3, a_leaf, level=2)))
    broken("stream-level-repeated", "", "bad-value", stream_top(3, over(3, over(3, a_leaf))))
    broken("stream-image-node", "in a stream", "bad-value", stream_top(4096, a_slot))
    broken("stream-zero-id-in-branch", "only a leaf has runs of zeros", "bad-value",
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
        cases.add(name, comment, None, expected, changes=changes or {}, volume=volume, **inputs)

    def flip(paths):
        return {path: files[path][:40] + bytes([files[path][40] ^ 1]) + files[path][41:] for path in paths}

    def without(paths):
        return {path: None for path in paths}

    twins = [path for path in files if path + ".copy" in files]
    copies = [path + ".copy" for path in twins]
    packs = [path for path in files if "/packs/" in path][:3]  # of `disk`: chunks, nodes, nodes
    segments = [path for path in files if "/index/" in path]

    def added(make):
        """The files that `make` adds, which other cases do not have."""
        before = dict(files)
        make()
        new = {path: files.pop(path) for path in list(files) if path not in before}
        return new

    def superseded():
        gone = main.put_pack(CHUNK, [chunks[0]])
        old = main.put_segment([gone])
        main.put_segment([], superseded=[old])
        del files[f"{main.path}packs/{gone.name.hex()[:2]}/{gone.name.hex()}"]

    def put_small(time, volume_id):
        """Another backup of `dump`, which holds its own time."""
        tree = Tree(main.secret)
        content = tree.stream([time.encode()], 8)
        name = main.put_backup(tree, content, "dump", time, volume_id)
        volume = {"id": volume_id or H(b"dump")[:16].hex(), "name": "dump"}
        record = {"volume": volume, "content": content, "time": time, "finished": time}
        return name, {"record": record, "blake3": H(time.encode())}

    guest = slot(writer.random, main.secret, b"guest", {}, project_id=main.id)
    only_guest = without([path for path in files if path.startswith("keys/")])
    only_guest[f"{main.path}keys/{H(guest).hex()}"] = guest
    cases.add("image", "the files that all cases share", None, expect("disk"), files=files, changes={}, volume="disk")
    add("stream", "", expect("dump"), volume="dump")
    add("originals-missing", "the copies serve", expect("disk"), without(twins))
    add("originals-damaged", "the copies serve", expect("disk"), flip(twins))
    add("copies-damaged", "", expect("disk"), flip(copies))
    add("first-node-pack-missing", "the second serves", expect("disk"), without(packs[1:2]))
    add("second-node-pack-damaged", "the first serves", expect("disk"), flip(packs[2:3]))
    add("foreign-names", "are ignored", expect("disk"), {
        "keys/.new": b"?", "projects/.x/y": b"?", "marks/m": b"?", main.path + "backups/" + "AB" * 32: b"?",
        main.path + "packs/00/" + "ff" * 32: b"?", main.path + "index/.tmp": b"?"})  # fmt: skip
    add("project-slot", "the project's own slot, no other", expect("disk"), only_guest, password=b"guest")
    add("segments-damaged", "the trailers serve", expect("disk"), flip(segments))
    add("superseded-segment", "names a pack that is gone", expect("disk"), added(superseded))
    add("chunk-in-second-pack", "the first is damaged", expect("disk"),
        added(lambda: main.put_segment([main.put_pack(CHUNK, [p[:4096].ljust(4096, b"\0") for p in chunks.values()])]))
        | flip(packs[:1]))  # fmt: skip
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
        changes = added(lambda: made.extend(put_small(time, volume_id) for time in times))  # noqa: B023
        if name == "newest-by-hash":
            old = record_name["dump"], expect("dump")
            made = sorted([*made, old], key=lambda item: item[0], reverse=True)
        add(name, comment, made[0][1], changes, volume="dump")
    add("wrong-password", "", "does-not-open", password=b"wrong")
    add("no-repository-file", "", "missing", without(["cuttlebone", "cuttlebone.copy"]))
    add("both-node-packs-damaged", "", "missing", flip(packs[1:3]))
    add("chunk-pack-missing", "", "missing", without(packs[:1]))
    add("record-missing", "", "missing", without([f"{main.path}backups/{record_name['disk'].hex()}"]))
    return cases


FILES = {
    "keys": keys, "ids": ids, "repository": repository_file, "slot": slots, "project": projects, "pack": packs,
    "index": indexes, "record": records, "node": nodes, "tree": trees, "whole": wholes,
}  # fmt: skip


def main():
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    for name, make in FILES.items():
        cases = ",\n".join(json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in make())
        (directory / f"{name}.json").write_text(f"[\n{cases}\n]\n")


if __name__ == "__main__":
    main()
