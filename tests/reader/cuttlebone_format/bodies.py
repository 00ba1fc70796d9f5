"""JSON bodies: their conventions, and the shape of each."""

import json
import re
from collections import Counter
from datetime import datetime
from typing import NamedTuple

from .fields import KIB, MIB, FormatError, require
from .keys import ROLES

LEAF_SIZE = 4 * MIB


class Object(dict):
    """A JSON object; `twice` holds the names of the members that occur more than once."""

    def __init__(self, pairs):
        super().__init__(pairs)
        self.twice = {
            name for name, count in Counter(name for name, _ in pairs).items() if count > 1
        }


def parse_json(body: bytes) -> Object:
    value = parse_any_json(body)
    require(isinstance(value, dict), "bad-json", "is not a JSON object")
    return value


def parse_any_json(body: bytes):
    def refuse(word):
        raise ValueError(word)

    def integer(text):
        return int(text) if text != "-0" else -0.0

    try:
        hooks = {"parse_constant": refuse, "parse_int": integer, "object_pairs_hook": Object}
        return json.loads(body.decode("utf-8"), **hooks)
    except (ValueError, RecursionError) as error:
        raise FormatError("bad-json", f"is not JSON: {error}") from None


def fits(value, shape, what="the body"):
    """Refuses a value that does not have the shape.

    A shape is a type, a function that raises an error for a wrong value, a list with the shape that
    every item has, or a dictionary with the shapes of an object's members. In the dictionary, `*`
    after a name means that the member may be missing or null, and `?` that it may be missing.
    """
    if isinstance(shape, dict):
        fits(value, Object, what)
        for name, inner in shape.items():
            name, mark = name.rstrip("*?"), name[-1]
            require(name not in value.twice, "bad-value", f"member {name} occurs twice")
            if name in value and (mark != "*" or value[name] is not None):
                fits(value[name], inner, name)
            else:
                require(mark in "*?", "bad-value", f"member {name} is missing")
    elif isinstance(shape, list):
        fits(value, list, what)
        for item in value:
            fits(item, shape[0], what)
    elif isinstance(shape, type):
        right = type(value) is shape and not (shape is str and re.search("[\ud800-\udfff]", value))
        require(right, "bad-value", f"{what} is {value!r}")
    else:
        shape(value, what)


def where(inner, test, kind="bad-value"):
    """Returns a shape for values that have the shape `inner` and pass the test."""

    def shape(value, what):
        fits(value, inner, what)
        require(test(value), kind, f"{what} is {value!r}")

    return shape


def timestamp(value, what="time") -> tuple[datetime, str]:
    """Returns a pair that can be compared: the whole seconds, and the digits of the fraction."""
    pattern = r"(\d{4}-\d\d-\d\dT\d\d:\d\d:)(\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:[0-5]\d)"
    fits(value, str, what)
    try:
        minute, second, fraction, zone = re.fullmatch(pattern, value.upper(), re.ASCII).groups()
        require(value[:4] <= "9998", "bad-value", f"{what} is {value!r}")
        return datetime.fromisoformat(minute + second.replace("60", "59") + zone), (
            fraction or ""
        ).rstrip("0")
    except (AttributeError, ValueError):
        raise FormatError("bad-value", f"{what} is {value!r}") from None


def hexadecimal(size=None):
    """Returns the shape of the hexadecimal digits of `size` bytes, or of any number if None."""
    return where(
        str, lambda text: re.fullmatch("([0-9a-f]{2})*", text) and size in (None, len(text) // 2)
    )


def top(value, what):
    fits(value, type(None) if value is None else HASH, what)


def path(value, what):
    fits(value, {"hex": hexadecimal()} if isinstance(value, dict) else str, what)


def pairs(value, what):
    require(isinstance(value, list), "bad-value", f"{what} is no array")
    for pair in value:
        require(isinstance(pair, list) and len(pair) == 2, "bad-value", f"{what} has {pair!r}")
        for text in pair:
            path(text, what)


def labels(value, what):
    fits(value, Object, what)
    fits(list(value.values()), [str], what)


HASH, U64 = hexadecimal(32), where(int, lambda n: 0 <= n < 2**64)
FEATURES = [str]
CHUNK_SIZE = where(
    where(U64, lambda n: 4 * KIB <= n <= 4 * MIB, "limit-exceeded"), lambda n: n & (n - 1) == 0
)
SIZE = where(U64, lambda n: n <= 2**64 - LEAF_SIZE, "limit-exceeded")
INODE = where([U64], lambda pair: len(pair) == 2)
CHANGED = where([int], lambda pair: len(pair) == 2 and all(-(2**63) <= n < 2**63 for n in pair))
VOLUME = {"id": hexadecimal(16), "name": str}
INFO = {"label?": str, "created?": str, "host?": str, "user?": str}
CONTENT = {
    "kind": where(str, lambda kind: kind in ("image", "stream")), "size": SIZE, "chunk_size": U64,
    "top": top,
    "root": HASH,
}  # fmt: skip
IMAGE = {
    "order*": where(int, lambda n: 0 <= n < 256),
    "features*": U64,
    "stripe_unit*": U64,
    "stripe_count*": U64,
    "data_pool*": path,
}
RBD = {
    "cluster": str,
    "pool_id": U64,
    "pool*": path,
    "namespace*": path,
    "image_id": str,
    "image*": path,
    "snapshot_id*": U64,
}
ATTACHMENTS = where(
    [{"name": str, "size": SIZE, "top": top, "root": HASH}],
    lambda items: len({item["name"] for item in items}) == len(items),
)
RECORD = {
    "volume": VOLUME, "time": timestamp, "finished": timestamp, "content": CONTENT, "host*": str,
    "follows*": [HASH],
    "replaces*": HASH, "original*": HASH, "base*": HASH, "heads*": [HASH], "marks*": [HASH],
    "labels*": labels,
    "source*": {
        "kind": str, "name*": str, "image_id*": str, "path*": path, "inode*": INODE,
        "changed_ns*": CHANGED, "settled?": bool, "snapshot*": path,
        "protected*": bool, "from_snapshot*": path, "image*": IMAGE, "rbd*": RBD, "group*": str,
        "consistency*": str, "changes_in_row*": U64, "change_list*": str,
    },
    "attachments*": ATTACHMENTS,
    "counts*": {"changed?": U64, "read?": U64, "new?": U64, "stored?": U64, "chunks_new?": U64},
    "tool*": str,
}  # fmt: skip
LEASE = {
    "work": str, "running_seconds": U64, "store_time*": U64, "packs*": [HASH], "tops*": [HASH],
    "removes*": [HASH], "keeps*": [HASH],
    "host*": str,
    "process*": {"boot": str, "namespace": str, "pid": where(int, lambda n: 0 <= n < 2**32),
        "started": U64},
    "tool*": str,
}  # fmt: skip
MARK = {
    "time": timestamp, "packs*": [HASH], "segments*": [HASH], "records*": [HASH], "host*": str,
    "tool*": str,
}  # fmt: skip
SETTINGS = {
    "revision": where(U64, lambda n: n >= 1, "limit-exceeded"), "name": str, "created": timestamp,
    "chunk_size": CHUNK_SIZE, "trust*": str, "retired*": str,
}  # fmt: skip
CERTIFICATE = {
    "role": where(str, lambda role: role in ROLES), "slot": HASH, "signer*": HASH,
    "volumes*": [str],
    "features*": [str], "created": timestamp, "label*": str,
}  # fmt: skip
VOID = {"record": HASH, "reason*": str, "time": timestamp}
LOG = {
    "host*": str, "tool*": str,
    "removed_records*": [{
        "record": HASH, "volume": VOLUME, "follows*": [HASH], "heads*": [HASH], "replaces*": HASH,
        "time": timestamp, "reason*": str,
    }],
    "revoked*": [{"certificate": HASH, "signer": HASH, "accepted*": [HASH]}], "lost*": [HASH],
}  # fmt: skip
AUDIT = {"time": timestamp, "host*": str, "tool*": str, "result": str}


def at_most(inner, limit: int):
    """Returns a shape for lists, or texts in bytes, that are no longer than `limit`."""
    return where(
        inner, lambda value: len(value.encode() if isinstance(value, str) else value) <= limit
    )


NAME, TEXT = at_most(str, 1024), at_most(str, 4096)
LEDGER = {
    "time": timestamp, "host*": NAME, "tool*": NAME, "replaces*": at_most([HASH], 1000),
    "runs*": at_most([{
        "time": timestamp, "host*": NAME, "level": where(str, ("hashed", "opened").__contains__),
        "seed": HASH, "packs": U64, "bytes": U64, "damaged": U64, "seconds": U64, "complete": bool,
    }], 100),
    "drills*": at_most([{
        "time": timestamp, "host*": NAME, "backup": HASH, "volume": NAME, "bytes": U64,
        "milliseconds": U64, "command*": TEXT, "success": bool, "problem*": TEXT,
    }], 100),
}  # fmt: skip


class Content(NamedTuple):
    kind: str
    size: int
    chunk_size: int
    top: bytes | None
    root: bytes


def decode_content(obj: Object) -> Content:
    fits(obj, CONTENT)
    kind, size, top = obj["kind"], obj["size"], obj["top"]
    if kind == "image":
        fits(obj["chunk_size"], CHUNK_SIZE, "chunk_size")
    require(kind == "image" or obj["chunk_size"] == 0, "bad-value", "a stream with a chunk size")
    require(size or top is None, "not-canonical", "content of no bytes has a top node")
    require(top or kind == "image" or not size, "bad-value", "a stream without a top node")
    return Content(
        kind, size, obj["chunk_size"], top and bytes.fromhex(top), bytes.fromhex(obj["root"])
    )


def attachment_content(attachment: Object) -> Content:
    return decode_content(Object([*attachment.items(), ("kind", "stream"), ("chunk_size", 0)]))


def required(value: Object) -> list[str]:
    """Returns the features that a body requires."""
    fits(value, {"requires*": FEATURES})
    return value.get("requires") or []
