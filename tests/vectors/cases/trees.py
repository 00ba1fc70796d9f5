"""Makes the cases for tree nodes and whole trees."""

from cuttlebone_format import (
    BRANCH, CHUNK, FANOUT, H, KIB, LEAF, LEAF_SIZE, MAX_BLOB, MIB, NODE, STREAM_BRANCH, STREAM_LEAF,
    ZERO_ID,
)  # fmt: skip
from write_repo import Tree, grid_node, stream_node

from .common import IDS, KEYS, PROJECT_SECRET, Cases


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
    cases.add(
        "leaf-width-1024",
        "",
        grid_node(0, 1024, {1023: IDS[0]}),
        grid(LEAF, 0, 1024, {1023: IDS[0]}),
    )
    cases.add(
        "leaf-bit-order", "children 0, 9 and 63", grid_node(0, 64, some), grid(LEAF, 0, 64, some)
    )
    for level in 1, 7:
        cases.add(
            f"branch-level-{level}", "", grid_node(level, 64, some), grid(BRANCH, level, 64, some)
        )
    zeros = [(1, IDS[0]), (MAX_BLOB, IDS[1]), (7, ZERO_ID)]
    cases.add(
        "stream-leaf", "with a run of zeros", stream_node(0, zeros), stream(STREAM_LEAF, 0, zeros)
    )
    long = [(2**64 - 2, IDS[0]), (1, IDS[1])]
    for level in 1, 15:
        cases.add(
            f"stream-branch-level-{level}",
            "",
            stream_node(level, long),
            stream(STREAM_BRANCH, level, long),
        )

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
        (
            "leaf-bit-beyond-width",
            "bit 1 of width 1",
            grid_node(0, 1, one, bitmap=3),
            "nonzero-reserved",
        ),
        ("leaf-bit-7-of-width-4", "", grid_node(0, 4, one, bitmap=0x81), "nonzero-reserved"),
        ("leaf-only-bit-beyond-width", "", grid_node(0, 2, one, bitmap=4), "nonzero-reserved"),
        ("leaf-ids-missing", "two bits, one id", grid_node(0, 64, one, bitmap=3), "truncated"),
        (
            "branch-ids-missing",
            "all bits, one id",
            grid_node(1, 64, one, bitmap=2**64 - 1),
            "truncated",
        ),
        (
            "leaf-ids-too-many",
            "one bit, two ids",
            grid_node(0, 64, {0: IDS[0], 1: IDS[1]}, bitmap=1),
            "trailing-bytes",
        ),
        ("leaf-trailing-byte", "", grid_node(0, 64, one) + b"\0", "trailing-bytes"),
        ("stream-leaf-level-1", "", stream_node(1, entries, type=STREAM_LEAF), "limit-exceeded"),
        (
            "stream-branch-level-0",
            "",
            stream_node(0, entries, type=STREAM_BRANCH),
            "limit-exceeded",
        ),
        ("stream-branch-level-16", "too deep", stream_node(16, entries), "limit-exceeded"),
        ("stream-leaf-without-entries", "", stream_node(0, []), "limit-exceeded"),
        (
            "stream-leaf-256-entries",
            "the most allowed, but they are missing",
            stream_node(0, entries, count=256),
            "truncated",
        ),
        ("stream-leaf-257-entries", "", stream_node(0, entries, count=257), "limit-exceeded"),
        ("stream-leaf-count-more", "", stream_node(0, entries, count=3), "truncated"),
        ("stream-leaf-count-less", "", stream_node(0, entries, count=1), "trailing-bytes"),
        ("stream-leaf-trailing-byte", "", stream_node(0, entries) + b"\0", "trailing-bytes"),
        ("stream-leaf-length-0", "", stream_node(0, [(0, IDS[0])]), "limit-exceeded"),
        (
            "stream-leaf-length-over-limit",
            "",
            stream_node(0, [(MAX_BLOB + 1, IDS[0])]),
            "limit-exceeded",
        ),
        (
            "stream-branch-zero-id",
            "only a stream leaf has runs of zeros",
            stream_node(1, [(5, ZERO_ID)]),
            "bad-value",
        ),
        (
            "stream-leaf-zeros-over-limit",
            "",
            stream_node(0, [(MAX_BLOB + 1, ZERO_ID)]),
            "limit-exceeded",
        ),
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
        cases.add(
            f"stream-leaf-first-{length}-bytes", "", stream_node(0, entries)[:length], "truncated"
        )
    return cases


def trees() -> Cases:
    cases = Cases(project_secret=PROJECT_SECRET)

    def blobs(tree: Tree) -> list[dict]:
        """Returns all blobs of a tree. A chunk is `plain`, repeated `times` times, and then filled
        with zeros up to `length`."""
        listed = [{"kind": "node", "plain": plain} for plain in tree.nodes.values()]
        for plain in tree.chunks.values():
            core = plain.rstrip(b"\0") or plain
            times = len(core) if core == core[:1] * len(core) else 1
            listed.append(
                {
                    "kind": "chunk",
                    "plain": core[: len(core) // times],
                    "times": times,
                    "length": len(plain),
                }
            )
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
        tree = Tree(KEYS)
        add(name, comment, tree, tree.image(size, chunk_size, data), whole(size, data))

    small, large = b"a" * 4096, b"b" * MIB
    image("image-one-leaf", "two chunks and a gap", 5 * 4096, {0: small, 8192: b"c" * 4096})
    image("image-cut-chunk", "the last chunk is padded with zeros", 4096 + 100, {4096: b"d" * 100})
    image(
        "image-full-leaf", "4 MiB exactly: a leaf on top", LEAF_SIZE, {LEAF_SIZE - MIB: large}, MIB
    )
    image("image-one-byte-more", "two leaves: a branch on top", LEAF_SIZE + 1, {LEAF_SIZE: b"e"})
    image("image-64-leaves", "level 1", 64 * LEAF_SIZE, {0: small, 63 * LEAF_SIZE: small})
    image("image-65-leaves", "level 2", 65 * LEAF_SIZE, {64 * LEAF_SIZE: small})
    largest = 2**64 - LEAF_SIZE
    image(
        "image-largest",
        "2^64 − 2^22 bytes: level 7",
        largest,
        {0: small, largest - 4096: b"z" * 4096},
    )
    image(
        "image-largest-cut",
        "its last chunk has one byte",
        largest - 4095,
        {0: small, largest - 4096: b"z"},
    )
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
        tree, data, at = Tree(KEYS), {}, 0
        content = tree.stream(chunks, 3)
        for chunk in chunks:
            data |= {at: chunk} if any(chunk) else {}
            at += len(chunk)
        add(name, comment, tree, content, whole(at, data))

    def broken(name, comment, kind, build):
        """Adds a case with a wrong tree. `build(tree)` returns kind of content, size, chunk size
        and top. `kind` is an error, or the expected result."""
        tree = Tree(KEYS)
        add(name, comment, tree, tree.content(*build(tree)), kind)

    def leaf_top(size, children, width=1024, chunk_size=4096):
        def build(tree):
            added = {
                at: tree.add(CHUNK, child) if len(child) != 32 else child
                for at, child in children.items()
            }
            return "image", size, chunk_size, tree.add(NODE, grid_node(0, width, added))

        return build

    def branch_over(size, node, position=0, level=1):
        def build(tree):
            return (
                "image",
                size,
                4096,
                tree.add(NODE, grid_node(level, FANOUT, {position: tree.add(NODE, node(tree))})),
            )

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
    broken(
        "image-other-width",
        "the leaf is of another chunk size",
        "bad-value",
        leaf_top(4096, {0: small}, 512),
    )
    zeros = "stored, although zeros have no id: to be reported, but it can be read"
    read = {"pieces": [{"offset": 0, "length": 4096}], "blake3": H(bytes(4096))}
    broken("image-chunk-of-zeros", zeros, read, leaf_top(4096, {0: bytes(4096)}))
    read = {"pieces": [{"offset": 0, "length": 4000}], "blake3": H(small[:4000])}
    broken(
        "image-padding",
        "not zero: to be reported, but it is cut off",
        read,
        leaf_top(4000, {0: small}),
    )
    broken(
        "image-chunk-beyond-end", "", "not-canonical", leaf_top(4096, {0: small, 1: b"b" * 4096})
    )
    broken(
        "image-leaf-on-top-of-two",
        "a branch belongs there",
        "bad-value",
        leaf_top(two_leaves, {0: small}),
    )
    broken(
        "image-branch-on-top-of-one", "a leaf belongs there", "bad-value", branch_over(4096, a_leaf)
    )
    broken("image-level-2-on-top", "level 1 belongs there", "bad-value", branch_over(
        two_leaves, lambda tree: grid_node(1, FANOUT, {0: tree.add(NODE, a_leaf(tree))}),
        level=2))  # fmt: skip
    broken(
        "image-level-skipped",
        "a leaf below level 2",
        "bad-value",
        branch_over(65 * LEAF_SIZE, a_leaf, level=2),
    )
    broken("image-level-repeated", "level 1 below level 1", "bad-value", branch_over(
        two_leaves, lambda tree: grid_node(1, FANOUT,
            {0: tree.add(NODE, a_leaf(tree))})))  # fmt: skip
    broken(
        "image-leaf-beyond-end", "", "not-canonical", branch_over(two_leaves, a_leaf, position=2)
    )
    broken("image-stream-node", "in an image", "bad-value", branch_over(two_leaves, a_stream_leaf))
    broken("image-chunk-as-node", "ids of chunks and nodes differ", "missing",
           lambda tree: ("image", 4096, 4096, tree.add(CHUNK, a_leaf(tree))))  # fmt: skip
    broken(
        "image-empty-node",
        "",
        "not-canonical",
        branch_over(two_leaves, lambda tree: grid_node(0, 1024, {})),
    )

    def stream_top(size, make):
        return lambda tree: ("stream", size, 0, tree.add(NODE, make(tree)))

    def over(length, node, level=1):
        return lambda tree: stream_node(level, [(length, tree.add(NODE, node(tree)))])

    broken(
        "stream-size-less",
        "the stream leaf spans 3 bytes",
        "bad-length",
        stream_top(2, a_stream_leaf),
    )
    broken(
        "stream-size-more",
        "the stream leaf spans 3 bytes",
        "bad-length",
        stream_top(4, a_stream_leaf),
    )
    broken(
        "stream-branch-length-less",
        "the stream leaf spans 3 bytes",
        "bad-length",
        stream_top(2, over(2, a_stream_leaf)),
    )
    broken(
        "stream-branch-length-more",
        "the stream leaf spans 3 bytes",
        "bad-length",
        stream_top(4, over(4, a_stream_leaf)),
    )
    broken("stream-chunk-longer", "than its entry", "bad-length",
           stream_top(2, lambda tree: stream_node(0, [(2, tree.add(CHUNK, b"one"))])))  # fmt: skip
    broken("stream-chunk-shorter", "than its entry", "bad-length",
           stream_top(4, lambda tree: stream_node(0, [(4, tree.add(CHUNK, b"one"))])))  # fmt: skip
    read = {"pieces": [{"offset": 0, "length": 3}], "blake3": H(bytes(3))}
    broken("stream-chunk-of-zeros", zeros, read,
           stream_top(3, lambda tree: stream_node(0,
               [(3, tree.add(CHUNK, bytes(3)))])))  # fmt: skip
    broken(
        "stream-level-skipped",
        "a stream leaf below level 2",
        "bad-value",
        stream_top(3, over(3, a_stream_leaf, level=2)),
    )
    broken("stream-level-repeated", "", "bad-value", stream_top(3, over(3, over(3, a_stream_leaf))))
    broken("stream-image-node", "in a stream", "bad-value", stream_top(4096, a_leaf))
    broken("stream-zero-id-in-branch", "only a stream leaf has runs of zeros", "bad-value",
           stream_top(5, lambda tree: stream_node(1, [(5, ZERO_ID)])))  # fmt: skip
    return cases
