"""Makes the cases for index segments."""

from cuttlebone_format import (
    CHUNK, ENCAPSULATION, MAX_BLOB, MAX_PACK, MAX_RUN, MIB, NODE, PROJECT_KEY, RAW, ZSTD, ed25519,
)  # fmt: skip
from write_repo import Random, Session, contents, describe, descriptor, index_body, sealed, u

from .common import (
    KEYS,
    SAND,
    SHORT,
    SIGNED,
    WRITER,
    Cases,
    body_faults,
    elsewhere,
    signature_faults,
)
from .packs import CHUNKS, CONTENTS_FAULTS, NODES, RUN_FAULTS, SUBKEY, listed


def indexes() -> Cases:
    cases = Cases(**SIGNED)
    random = Random("indexes")

    def make(body, **fields):
        return sealed(random, KEYS, b"CTLBindx", body, **fields)

    randoms = [bytes([0xB0 + i]) * 16 for i in range(3)]
    writer, session = (
        ed25519.public_key(WRITER),
        Session(Random("session of indexes"), KEYS).encapsulation,
    )

    def described(kind, runs):
        return contents(kind, [describe(KEYS, SUBKEY, kind, run)[0] for run in runs])

    def listing(number, contents, signer=KEYS.signing_public, encapsulation=PROJECT_KEY):
        return SHORT[number], randoms[number], signer, encapsulation, contents

    def shown(number, kind, runs, signer=KEYS.signing_public, **fields):
        listed_runs = listed(kind, runs) if runs and not isinstance(runs[0], dict) else runs
        return {
            "pack": SHORT[number], "random": randoms[number], "signer": signer, "kind": kind,
            "gap": 0,
            "runs": listed_runs,
        } | fields  # fmt: skip

    def one_pack(contents, superseded=(), encapsulations=(), **fields):
        return index_body([listing(0, contents, **fields)], superseded, list(encapsulations))

    three = [(CHUNK, CHUNKS), (NODE, NODES), (NODE, NODES)]
    body = index_body([listing(i, described(*pack)) for i, pack in enumerate(three)], [SHORT[3]])
    fields = {"packs": [shown(i, *pack) for i, pack in enumerate(three)], "superseded": [SHORT[3]]}
    right = make(body, codec=RAW)
    cases.add("right", "Two of the three packs hold the same nodes.", right, fields)
    cases.add("right-compressed", "The body is compressed.", make(body, codec=ZSTD), fields)
    empty = {"packs": [], "superseded": []}
    cases.add("nothing", "The segment names neither packs nor superseded segments.",
        make(bytes(12)), empty)
    own = contents(CHUNK, [describe(KEYS, SUBKEY, CHUNK, run)[0] for run in CHUNKS], session=1)
    of_session = shown(0, CHUNK, CHUNKS, writer, encapsulation=session)
    cases.add("session", "The segment lists a pack of a session.",
              make(one_pack(own, encapsulations=[session], signer=writer, encapsulation=0),
                  signer=WRITER),
              {"packs": [of_session], "superseded": []})  # fmt: skip
    other = bytes(ENCAPSULATION)
    cases.add("second-session",
        "The pack uses the second of two encapsulations, and no pack uses the first.",
              make(one_pack(own, encapsulations=[other, session], signer=writer, encapsulation=1)),
              {"packs": [of_session], "superseded": []})  # fmt: skip
    cases.add("session-unused", "No pack uses the encapsulation.",
        make(index_body([], encapsulations=[session])), empty)
    gap = contents(CHUNK, [describe(KEYS, SUBKEY, CHUNK, run)[0] for run in CHUNKS], gap=9)
    cases.add(
        "gap",
        "The pack has a gap of nine bytes.",
        make(one_pack(gap)),
        {"packs": [shown(0, CHUNK, CHUNKS, gap=9)], "superseded": []},
    )
    cases.add("pack-signer-unknown",
        "No certificate names the signer of the pack. The segment is valid nevertheless.",
        make(one_pack(described(*three[0]), signer=SHORT[7])),
              {"packs": [shown(0, CHUNK, CHUNKS, SHORT[7])], "superseded": []})  # fmt: skip
    nodes_of_session = contents(
        NODE, [describe(KEYS, SUBKEY, NODE, run)[0] for run in NODES], session=1
    )
    for name, comment, wrong in [
        ("session-without-encapsulation",
            "The contents have a session's key, but `encapsulation` names no ciphertext.",
                one_pack(own)),
        ("encapsulation-without-session",
            "The contents have the project's key, but `encapsulation` names a ciphertext.",
         one_pack(described(*three[0]), encapsulations=[session], encapsulation=0)),
        ("encapsulation-beyond-list",
            "`encapsulation` is 1, the second, but the list has only one.",
            one_pack(own, encapsulations=[session], encapsulation=1)),
        ("encapsulation-of-nothing", "`encapsulation` is 0, the first, but the list is empty.",
            one_pack(own, encapsulation=0)),
        ("encapsulation-of-nodes", "The contents of a pack of nodes have a session's key.",
         one_pack(nodes_of_session, encapsulations=[session], encapsulation=0)),
    ]:  # fmt: skip
        cases.add(name, comment, make(wrong), "bad-value")

    sand = described(CHUNK, [[SAND]])
    small = one_pack(sand, [SHORT[1], SHORT[2]])
    one = {"packs": [shown(0, CHUNK, [[SAND]])], "superseded": [SHORT[1], SHORT[2]]}
    cases.add("two-superseded", "The segment names two superseded segments.", make(small), one)

    right = make(small)
    elsewhere(cases, right)
    cases.headers(b"CTLBindx", lambda head: make(small, head=head))
    body_faults(cases, make, one_pack(described(CHUNK, [[SAND] * 9])), bytes(12), 64 * MIB)
    signature_faults(cases, b"CTLBindx", make, small, one)
    for name, comment, wrong, kind in RUN_FAULTS:
        run = {"codec": RAW, "stored_length": 32, "lengths": [16], "ids": SHORT[5:6]} | wrong
        cases.add(
            name,
            comment,
            make(one_pack(contents(CHUNK, [descriptor(**run), sand[12:]]))),
            kind,
        )
    for name, comment, wrong, kind in CONTENTS_FAULTS:
        wrong = contents(**{"kind": CHUNK, "runs": [sand[12:]], **wrong})
        cases.add(name, comment, make(one_pack(wrong)), kind)

    large = descriptor(RAW, MAX_RUN + 16, [MAX_BLOB], SHORT[5:6])
    assert 64 * MAX_RUN == MAX_PACK
    cases.add("pack-over-limit",
        "The pack has 64 chunks of 4 MiB, so its size is above the limit with tags and contents.",
              make(one_pack(contents(CHUNK, [large] * 64))), "limit-exceeded")  # fmt: skip
    # The plain length of the run that fills the pack after 63 large runs.
    rest = MAX_PACK - 32 - 63 * (MAX_RUN + 16 + 60) - 24 - 12 - 60 - 128 - 16 - 4 - 16
    for name, comment, length in [
        ("pack-of-limit", "The pack has the largest size that is allowed.", rest),
        ("pack-one-byte-over-limit", "The size of the pack is one byte above the limit.", rest + 1),
    ]:
        last = descriptor(RAW, length + 16, [length], SHORT[6:7])
        runs = [
            {"codec": RAW, "stored_length": size + 16, "check": bytes(16),
                "offset": 32 + at * (MAX_RUN + 16),
             "blobs": [{"plain_length": size, "id": child}]}
            for at, (size, child) in enumerate([(MAX_BLOB, SHORT[5])] * 63 + [(rest, SHORT[6])])
        ]  # fmt: skip
        expected = {"packs": [shown(0, CHUNK, runs)], "superseded": []}
        cases.add(name, comment,
                  make(one_pack(contents(CHUNK, [large] * 63 + [last]))),
                  expected if length == rest else "limit-exceeded")  # fmt: skip
    gap = contents(CHUNK, [large] * 63, gap=MAX_RUN)
    cases.add(
        "gap-over-pack-limit", "With the gap, the size of the pack is above the limit.",
            make(one_pack(gap)), "limit-exceeded"
    )
    many = [descriptor(RAW, 1024 + 16, [1] * 1024, SHORT[5:6] * 1024)] * 1024
    cases.add("too-many-blobs", "The pack has 1,048,577 blobs, one above the limit.",
              make(one_pack(contents(CHUNK, [*many, sand[12:]]))), "limit-exceeded")  # fmt: skip

    end = 92 + len(sand)
    two = contents(CHUNK, [descriptor(RAW, 33, [16, 1], SHORT[5:7])])
    for name, comment, wrong in [
        ("packs-count-more", "The body states two packs, but has one, and ends after it.",
            small[:4] + u(32, 2) + small[8:end]),
        ("packs-count-largest", "The body states 2^32 − 1 packs, but has one, and ends after it.",
            small[:4] + u(32, 2**32 - 1) + small[8:end]),
        ("encapsulations-count-more", "The body states one encapsulation, but has none.",
            u(32, 1) + small[4:]),
        ("encapsulations-count-largest", "The body states 2^32 − 1 encapsulations, but has none.",
            u(32, 2**32 - 1) + small[4:]),
        ("encapsulation-cut", "The body ends in an encapsulation.",
            index_body([], encapsulations=[session])[:500]),
        ("contents-missing", "The body ends before the contents of the pack.", small[:92]),
        ("run-count-less",
            "The contents state one run, but have two. The second is read as superseded segments.",
         one_pack(contents(CHUNK, [sand[12:]] * 2, count=1))),
        ("run-count-most", "The contents state 1,048,576 runs, the most allowed, but have two.",
            small[:96] + u(32, MIB) + u(32, 0) + sand[12:] * 2),
        ("blob-count-more", "The only run states two blobs, but has one.",
         one_pack(contents(CHUNK, [descriptor(RAW, 32, [16], SHORT[5:6], count=2)]))),
        ("run-cut", "The body ends in the id of the second blob of the run.", one_pack(two)[:-9]),
        ("superseded-count-more", "The body states three superseded segments, but has two.",
            small[:end] + u(32, 3) + small[end + 4 :]),
        ("superseded-count-largest", "The body states 2^32 − 1 superseded segments, but has two.",
            small[:end] + u(32, 2**32 - 1) + small[end + 4 :]),
        ("body-empty", "The body has no bytes.", b""),
        ("body-3-bytes", "The body ends in its first number.", bytes(3)),
        ("body-without-superseded", "The body ends before the number of superseded segments.",
            small[:end]),
        ("body-cut", "The last byte of the body is missing.", small[:-1]),
    ]:  # fmt: skip
        cases.add(name, comment, make(wrong), "truncated")
    cases.add("run-count-more",
        "The contents state two runs, but have one. What follows is read as a run of 0 blobs.",
              make(one_pack(contents(CHUNK, [sand[12:]], count=2), SHORT[1:2])),
              "limit-exceeded")  # fmt: skip
    cases.add(
        "superseded-count-less",
        "The body states one superseded segment, but has two.",
        make(small[:end] + u(32, 1) + small[end + 4 :]),
        "trailing-bytes",
    )
    cases.add("body-trailing-byte", "A byte follows the superseded segments.", make(small + b"\0"),
        "trailing-bytes")
    return cases
