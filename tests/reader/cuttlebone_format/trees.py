"""Section 10 of docs/format.md: trees."""

from typing import NamedTuple

from .bodies import LEAF_SIZE, Content
from .crypto import MAC, derive
from .fields import KIB, MIB, Fields, require
from .keys import CHUNK, NODE, ProjectKeys

MAX_BLOB = 4 * MIB
LEAF, BRANCH, STREAM_LEAF, STREAM_BRANCH = 1, 2, 3, 4
FANOUT = 64
ZERO_ID = bytes(32)


class Node(NamedTuple):
    type: int
    level: int
    width: int
    """Leaf and branch: the children that a full node has. Stream: the number of entries."""
    children: list
    """Leaf and branch: (position, id) of each child that exists. Stream: (length, id)."""


def decode_node(data: bytes) -> Node:
    fields = Fields(data)
    kind = fields.one_of(1, [LEAF, BRANCH, STREAM_LEAF, STREAM_BRANCH], "type of node")
    low, high = {LEAF: (0, 0), BRANCH: (1, 7), STREAM_LEAF: (0, 0), STREAM_BRANCH: (1, 15)}[kind]
    level = fields.bounded(1, low, high, "level")
    if kind in (LEAF, BRANCH):
        width = fields.bounded(2, 1, LEAF_SIZE // (4 * KIB), "width")
        require(
            width == FANOUT if kind == BRANCH else width & (width - 1) == 0,
            "bad-value",
            f"width is {width}",
        )
        bits = int.from_bytes(fields.take((width + 7) // 8), "little")
        require(bits >> width == 0, "nonzero-reserved", "bits beyond the width are set")
        require(bits, "not-canonical", "a node without children")
        children = [(i, fields.take(32)) for i in range(width) if bits >> i & 1]
    else:
        width = fields.bounded(2, 1, 256, "number of entries")
        limit = MAX_BLOB if kind == STREAM_LEAF else 2**64 - 1
        children = [
            (fields.bounded(8, 1, limit, "length of entry"), fields.take(32)) for _ in range(width)
        ]
        branch_of_zeros = kind == STREAM_BRANCH and any(child == ZERO_ID for _, child in children)
        require(not branch_of_zeros, "bad-value", "a run of zeros in a branch")
        require(
            sum(length for length, _ in children) < 2**64, "limit-exceeded", "the lengths overflow"
        )
    fields.end()
    return Node(kind, level, width, children)


def top_level(size: int) -> int:
    """Returns the level of an image's top node."""
    level = 0
    while FANOUT**level * LEAF_SIZE < size:
        level += 1
    return level


def root_of(content: Content, keys: ProjectKeys) -> bytes:
    kind = {"image": 1, "stream": 2}[content.kind]
    tail = (
        content.size.to_bytes(8, "little")
        + content.chunk_size.to_bytes(4, "little")
        + (content.top or ZERO_ID)
    )
    return MAC(derive("root", keys.metadata), bytes([kind]) + tail)


def walk(content: Content, fetch, strict=False):
    """Yields (offset, plain chunk) in order, without zeros.

    `fetch(kind, id)` returns a plain blob. `strict` refuses two things that a restore accepts:
    stored zeros, and padding that is not zero.
    """
    if content.top is None:
        return iter(())
    if content.kind == "image":
        return walk_image(content, fetch, strict, content.top, top_level(content.size), 0)
    return walk_stream(fetch, strict, content.top, None, content.size, 0)


def take_chunk(fetch, strict: bool, child: bytes, length: int) -> bytes:
    chunk = fetch(CHUNK, child)
    require(len(chunk) == length, "bad-length", f"a chunk of {len(chunk)} bytes, not {length}")
    require(not strict or any(chunk), "not-canonical", "a chunk of zeros is stored")
    return chunk


def walk_image(content: Content, fetch, strict: bool, node_id: bytes, level: int, start: int):
    node = decode_node(fetch(NODE, node_id))
    require(node.type in (LEAF, BRANCH), "bad-value", "a stream's node in an image")
    require(node.level == level, "bad-value", f"a node of level {node.level} where {level} belongs")
    span = FANOUT ** (level - 1) * LEAF_SIZE if level else content.chunk_size
    require(
        level or node.width == LEAF_SIZE // span, "bad-value", "the leaf has another chunk size"
    )
    for position, child in node.children:
        offset = start + position * span
        require(offset < content.size, "not-canonical", "a child beyond the end of the volume")
        if level:
            yield from walk_image(content, fetch, strict, child, level - 1, offset)
            continue
        chunk, left = take_chunk(fetch, strict, child, span), content.size - offset
        require(
            not strict or not any(chunk[left:]),
            "not-canonical",
            "the last chunk's padding is not zero",
        )
        yield offset, chunk[:left]


def walk_stream(fetch, strict: bool, node_id: bytes, level: int | None, length: int, start: int):
    node = decode_node(fetch(NODE, node_id))
    require(node.type in (STREAM_LEAF, STREAM_BRANCH), "bad-value", "an image's node in a stream")
    require(
        level in (None, node.level),
        "bad-value",
        f"a node of level {node.level} where {level} belongs",
    )
    total = sum(entry for entry, _ in node.children)
    require(total == length, "bad-length", f"a node spans {total} bytes, not {length}")
    for length, child in node.children:
        if node.level:
            yield from walk_stream(fetch, strict, child, node.level - 1, length, start)
        elif child != ZERO_ID:
            yield start, take_chunk(fetch, strict, child, length)
        start += length
