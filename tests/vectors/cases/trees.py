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
        "Only the last of 1,024 children exists.",
        grid_node(0, 1024, {1023: IDS[0]}),
        grid(LEAF, 0, 1024, {1023: IDS[0]}),
    )
    cases.add(
        "leaf-bit-order",
        "The children 0, 9 and 63 exist.",
        grid_node(0, 64, some),
        grid(LEAF, 0, 64, some),
    )
    for level in 1, 7:
        cases.add(
            f"branch-level-{level}", "", grid_node(level, 64, some), grid(BRANCH, level, 64, some)
        )
    zeros = [(1, IDS[0]), (MAX_BLOB, IDS[1]), (7, ZERO_ID)]
    cases.add(
        "stream-leaf", "The last entry stands for seven zero bytes.", stream_node(0, zeros),
            stream(STREAM_LEAF, 0, zeros)
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
        ("leaf-level-1", "The level of a leaf is 0.", bytes([LEAF, 1]) + grid_node(0, 64, one)[2:],
            "limit-exceeded"),
        ("branch-level-0", "The level of a branch is at least 1.",
            grid_node(0, 64, one, type=BRANCH), "limit-exceeded"),
        ("branch-level-8", "The level of a branch is at most 7.", grid_node(8, 64, one),
            "limit-exceeded"),
        ("branch-level-255", "The level of a branch is at most 7.", grid_node(255, 64, one),
            "limit-exceeded"),
        ("leaf-width-0", "", grid_node(0, 0, {}, bitmap=0), "limit-exceeded"),
        ("leaf-width-2048", "", grid_node(0, 2048, one), "limit-exceeded"),
        ("leaf-width-65535", "", grid_node(0, 65_535, one)[:200], "limit-exceeded"),
        ("leaf-width-3", "The width is not a power of two.", grid_node(0, 3, one), "bad-value"),
        ("branch-width-63", "The width of a branch is 64.", grid_node(1, 63, one), "bad-value"),
        ("branch-width-128", "The width of a branch is 64.", grid_node(1, 128, one), "bad-value"),
        ("leaf-without-children", "No bit is set.", grid_node(0, 64, {}), "not-canonical"),
        ("branch-without-children", "No bit is set.", grid_node(1, 64, {}), "not-canonical"),
        (
            "leaf-bit-beyond-width",
            "Bit 1 is set, but the width is 1.",
            grid_node(0, 1, one, bitmap=3),
            "nonzero-reserved",
        ),
        ("leaf-bit-7-of-width-4", "Bit 7 is set, but the width is 4.",
            grid_node(0, 4, one, bitmap=0x81), "nonzero-reserved"),
        ("leaf-only-bit-beyond-width", "The only bit that is set is 2, but the width is 2.",
            grid_node(0, 2, one, bitmap=4), "nonzero-reserved"),
        ("leaf-ids-missing", "Two bits are set, but there is one id.",
            grid_node(0, 64, one, bitmap=3), "truncated"),
        (
            "branch-ids-missing",
            "All 64 bits are set, but there is one id.",
            grid_node(1, 64, one, bitmap=2**64 - 1),
            "truncated",
        ),
        (
            "leaf-ids-too-many",
            "One bit is set, but there are two ids.",
            grid_node(0, 64, {0: IDS[0], 1: IDS[1]}, bitmap=1),
            "trailing-bytes",
        ),
        ("leaf-trailing-byte", "", grid_node(0, 64, one) + b"\0", "trailing-bytes"),
        ("stream-leaf-level-1", "The level of a stream leaf is 0.",
            stream_node(1, entries, type=STREAM_LEAF), "limit-exceeded"),
        (
            "stream-branch-level-0",
            "The level of a stream branch is at least 1.",
            stream_node(0, entries, type=STREAM_BRANCH),
            "limit-exceeded",
        ),
        ("stream-branch-level-16", "The level of a stream branch is at most 15.",
            stream_node(16, entries), "limit-exceeded"),
        ("stream-leaf-without-entries", "", stream_node(0, []), "limit-exceeded"),
        (
            "stream-leaf-256-entries",
            "The node states 256 entries, the most allowed, but has two.",
            stream_node(0, entries, count=256),
            "truncated",
        ),
        ("stream-leaf-257-entries", "The node states 257 entries, one above the limit.",
            stream_node(0, entries, count=257), "limit-exceeded"),
        ("stream-leaf-count-more", "The node states three entries, but has two.",
            stream_node(0, entries, count=3), "truncated"),
        ("stream-leaf-count-less", "The node states one entry, but has two.",
            stream_node(0, entries, count=1), "trailing-bytes"),
        ("stream-leaf-trailing-byte", "", stream_node(0, entries) + b"\0", "trailing-bytes"),
        ("stream-leaf-length-0", "The length of an entry is 0.", stream_node(0, [(0, IDS[0])]),
            "limit-exceeded"),
        (
            "stream-leaf-length-over-limit",
            "The length of a chunk is one byte above 4 MiB.",
            stream_node(0, [(MAX_BLOB + 1, IDS[0])]),
            "limit-exceeded",
        ),
        (
            "stream-branch-zero-id",
            "An entry has the zero id, which only a stream leaf may have.",
            stream_node(1, [(5, ZERO_ID)]),
            "bad-value",
        ),
        (
            "stream-leaf-zeros-over-limit",
            "An entry for zeros states one byte more than 4 MiB.",
            stream_node(0, [(MAX_BLOB + 1, ZERO_ID)]),
            "limit-exceeded",
        ),
        ("stream-branch-length-0", "The length of an entry is 0.", stream_node(1, [(0, IDS[0])]),
            "limit-exceeded"),
        (
            "stream-branch-overflow",
            "The lengths of the entries add up to 2^64.",
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
    image("image-one-leaf", "The leaf has two chunks with a chunk of zeros between them.",
        5 * 4096, {0: small, 8192: b"c" * 4096})
    image("image-cut-chunk", "The volume ends within its last chunk, which is padded with zeros.",
        4096 + 100,
        {4096: b"d" * 100})
    image(
        "image-full-leaf", "The volume has exactly 4 MiB, so its top node is a leaf.", LEAF_SIZE,
            {LEAF_SIZE - MIB: large}, MIB
    )
    image("image-one-byte-more", "The volume has 4 MiB and one byte, so its top node is a branch.",
        LEAF_SIZE + 1, {LEAF_SIZE: b"e"})
    image("image-64-leaves", "The top node has level 1.", 64 * LEAF_SIZE, {0: small,
        63 * LEAF_SIZE: small})
    image("image-65-leaves", "The top node has level 2.", 65 * LEAF_SIZE, {64 * LEAF_SIZE: small})
    largest = 2**64 - LEAF_SIZE
    image(
        "image-largest",
        "The volume has 2^64 − 2^22 bytes, so its top node has level 7.",
        largest,
        {0: small, largest - 4096: b"z" * 4096},
    )
    image(
        "image-largest-cut",
        "Only one byte of the last chunk is in the volume.",
        largest - 4095,
        {0: small, largest - 4096: b"z"},
    )
    image("image-zeros", "The volume has only zeros, so it has no top node.", 9000, {})
    image("image-empty", "The volume has no bytes.", 0, {})
    image("image-chunk-4-mib", "A chunk has 4 MiB, so the leaf has width 1.", LEAF_SIZE,
        {0: b"f" * LEAF_SIZE}, LEAF_SIZE)
    for name, comment, chunks in [
        ("stream-one-leaf", "", [b"one", b"two"]),
        ("stream-zeros", "The second of three entries stands for zeros.",
            [b"one", bytes(1000), b"two"]),
        ("stream-all-zeros", "The stream has only zeros. It has a top node nevertheless.",
            [bytes(1000), bytes(MIB)]),
        ("stream-three-levels", "The top node has level 2.",
            [bytes([65 + i]) * (i + 1) for i in range(10)]),
        ("stream-empty", "The stream has no bytes.", []),
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
    broken("image-chunk-missing", "The leaf names a chunk that does not exist.", "missing",
        leaf_top(4096, {0: IDS[0]}))
    broken("image-top-missing", "The top node does not exist.", "missing",
        lambda tree: ("image", 4096, 4096, IDS[0]))
    broken("image-short-chunk", "A chunk has 4,095 bytes, not 4,096.", "bad-length",
        leaf_top(8192, {0: b"a" * 4095}))
    broken("image-long-chunk", "A chunk has 4,097 bytes, not 4,096.", "bad-length",
        leaf_top(8192, {0: b"a" * 4097}))
    broken(
        "image-other-width",
        "The width of the leaf is that of another chunk size.",
        "bad-value",
        leaf_top(4096, {0: small}, 512),
    )
    zeros = "A chunk of zeros is stored. A restore may read it, a check reports it."
    read = {"pieces": [{"offset": 0, "length": 4096}], "blake3": H(bytes(4096))}
    broken("image-chunk-of-zeros", zeros, read, leaf_top(4096, {0: bytes(4096)}))
    read = {"pieces": [{"offset": 0, "length": 4000}], "blake3": H(small[:4000])}
    broken(
        "image-padding",
        "The padding is not zero. A restore may cut it off, a check reports it.",
        read,
        leaf_top(4000, {0: small}),
    )
    broken(
        "image-chunk-beyond-end", "A chunk begins at the volume's end.", "not-canonical",
            leaf_top(4096, {0: small, 1: b"b" * 4096})
    )
    broken(
        "image-leaf-on-top-of-two",
        "The volume has two leaves, but its top node is a leaf.",
        "bad-value",
        leaf_top(two_leaves, {0: small}),
    )
    broken(
        "image-branch-on-top-of-one", "The volume has one leaf, but its top node is a branch.",
            "bad-value", branch_over(4096, a_leaf)
    )
    broken("image-level-2-on-top",
        "The volume has two leaves, but its top node has level 2, not 1.", "bad-value", branch_over(
        two_leaves, lambda tree: grid_node(1, FANOUT, {0: tree.add(NODE, a_leaf(tree))}),
        level=2))  # fmt: skip
    broken(
        "image-level-skipped",
        "A leaf is a child of a branch of level 2.",
        "bad-value",
        branch_over(65 * LEAF_SIZE, a_leaf, level=2),
    )
    broken("image-level-repeated", "A branch of level 1 is a child of a branch of level 1.",
        "bad-value", branch_over(
        two_leaves, lambda tree: grid_node(1, FANOUT,
            {0: tree.add(NODE, a_leaf(tree))})))  # fmt: skip
    broken(
        "image-leaf-beyond-end", "A leaf begins beyond the volume's end.", "not-canonical",
            branch_over(two_leaves, a_leaf, position=2)
    )
    broken("image-stream-node", "A stream leaf is in the tree of an image.", "bad-value",
        branch_over(two_leaves, a_stream_leaf))
    broken("image-chunk-as-node",
        "The top node is stored as a chunk, which has another id than a node.", "missing",
           lambda tree: ("image", 4096, 4096, tree.add(CHUNK, a_leaf(tree))))  # fmt: skip
    broken(
        "image-empty-node",
        "A leaf has no children.",
        "not-canonical",
        branch_over(two_leaves, lambda tree: grid_node(0, 1024, {})),
    )

    def stream_top(size, make):
        return lambda tree: ("stream", size, 0, tree.add(NODE, make(tree)))

    def over(length, node, level=1):
        return lambda tree: stream_node(level, [(length, tree.add(NODE, node(tree)))])

    broken(
        "stream-size-less",
        "The stream has two bytes, but its leaf spans three.",
        "bad-length",
        stream_top(2, a_stream_leaf),
    )
    broken(
        "stream-size-more",
        "The stream has four bytes, but its leaf spans three.",
        "bad-length",
        stream_top(4, a_stream_leaf),
    )
    broken(
        "stream-branch-length-less",
        "The branch states two bytes for a leaf that spans three.",
        "bad-length",
        stream_top(2, over(2, a_stream_leaf)),
    )
    broken(
        "stream-branch-length-more",
        "The branch states four bytes for a leaf that spans three.",
        "bad-length",
        stream_top(4, over(4, a_stream_leaf)),
    )
    broken("stream-chunk-longer", "A chunk is one byte longer than its entry states.", "bad-length",
           stream_top(2, lambda tree: stream_node(0, [(2, tree.add(CHUNK, b"one"))])))  # fmt: skip
    broken("stream-chunk-shorter", "A chunk is one byte shorter than its entry states.",
        "bad-length",
           stream_top(4, lambda tree: stream_node(0, [(4, tree.add(CHUNK, b"one"))])))  # fmt: skip
    read = {"pieces": [{"offset": 0, "length": 3}], "blake3": H(bytes(3))}
    broken("stream-chunk-of-zeros", zeros, read,
           stream_top(3, lambda tree: stream_node(0,
               [(3, tree.add(CHUNK, bytes(3)))])))  # fmt: skip
    broken(
        "stream-level-skipped",
        "A stream leaf is a child of a stream branch of level 2.",
        "bad-value",
        stream_top(3, over(3, a_stream_leaf, level=2)),
    )
    broken("stream-level-repeated",
        "A stream branch of level 1 is a child of a stream branch of level 1.", "bad-value",
            stream_top(3, over(3, over(3, a_stream_leaf))))
    broken("stream-image-node", "The leaf of an image is in the tree of a stream.", "bad-value",
        stream_top(4096, a_leaf))
    broken("stream-zero-id-in-branch",
        "An entry of a stream branch has the zero id, which only a stream leaf may have.",
            "bad-value",
           stream_top(5, lambda tree: stream_node(1, [(5, ZERO_ID)])))  # fmt: skip
    return cases
