"""Makes the cases for packs."""

from functools import partial

from cuttlebone_format import (
    CHUNK, MAX_BLOB, MAX_PACK, MAX_RUN, MIB, NODE, RAW, ZSTD, RunKeys, sign,
)  # fmt: skip
from write_repo import (
    Faulty, Pack, Random, Session, compress, contents, describe, descriptor, grid_node, header,
    stream_node,
)  # fmt: skip

from .common import (
    IDENTITY, IDS, KEYS, OTHER_KEYS, OTHER_PROJECT_ID, PROJECT_ID, SAND, SHORT, SIGNED, SKIPPABLE,
    STRANGER, TEXT, VERIFIER, WRITER, Cases, elsewhere, without,
)  # fmt: skip

SUBKEY = RunKeys(KEYS.data, PROJECT_ID, bytes(16)).subkey
"""For descriptors of runs that no pack holds."""


def listed(kind: int, runs, *, plain=False, subkey=SUBKEY) -> list:
    """Returns the expected runs. If `plain`, each blob has its bytes. `runs`: as in `describe`."""
    shown, offset = [], 32
    for run in runs:
        blobs, (described, content) = (
            run.blobs if isinstance(run, Faulty) else run,
            describe(KEYS, subkey, kind, run),
        )
        shown.append({
            "codec": described[0], "stored_length": len(content) + 16, "check": described[8:24],
            "offset": offset,
            "blobs": [{"plain_length": len(blob), "id": KEYS.blob_id(kind, blob),
                "plain": blob} for blob in blobs],
        })  # fmt: skip
        if not plain:
            shown[-1]["blobs"] = [without(blob, "plain") for blob in shown[-1]["blobs"]]
        offset += len(content) + 16
    return shown


def pack_fields(pack: Pack, kind: int, runs, gap=0) -> dict:
    """Returns the expected fields of a pack."""
    session = pack.session
    key = session.key if session else KEYS.tree if kind == NODE else KEYS.data
    subkey = RunKeys(key, PROJECT_ID, pack.random).subkey
    encapsulation = {"encapsulation": session.encapsulation} if session else {}
    return encapsulation | {
        "kind": kind, "random": pack.random, "signer": pack.signer, "gap": gap,
        "runs": listed(kind, runs, plain=True, subkey=subkey),
    }  # fmt: skip


CHUNKS = [[SAND, SAND[:9]], [TEXT, b"x", TEXT[3:]], [b"x"]]
NODES = [[grid_node(0, 64, {0: IDS[0], 63: IDS[1]})], [stream_node(0, [(5, IDS[2])])]]
SMALL = [[SAND[:9], SAND[9:]], [b"x"]]
HALF = MAX_RUN // 2

# Faults of the descriptor of a raw run of one blob of 16 bytes, SAND.
RUN_FAULTS = [
    ("codec-2", {"codec": 2}, "bad-codec"),
    ("codec-255", {"codec": 255}, "bad-codec"),
    ("suite-1", {"suite": 1}, "bad-value"),
    ("suite-255", {"suite": 255}, "bad-value"),
    ("blob-count-0", {"count": 0}, "limit-exceeded"),
    ("blob-count-1025", {"count": 1025}, "limit-exceeded"),
    ("blob-count-65535", {"count": 65_535}, "limit-exceeded"),
    ("plain-length-0", {"lengths": [0]}, "limit-exceeded"),
    ("plain-length-0-of-two", {"lengths": [0, 16], "ids": SHORT[:2]}, "limit-exceeded"),
    (
        "plain-length-over-limit",
        {"lengths": [MAX_BLOB + 1], "stored_length": MAX_BLOB + 17},
        "limit-exceeded",
    ),
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

# Faults of contents whose runs are valid.
CONTENTS_FAULTS = [
    ("kind-0", {"kind": 0}, "bad-value"),
    ("kind-3", {"kind": 3}, "bad-value"),
    ("contents-zero-0001", {"zero": 1}, "nonzero-reserved"),
    ("contents-zero-8000", {"zero": 1 << 15}, "nonzero-reserved"),
    ("run-count-0", {"count": 0}, "limit-exceeded"),
    ("run-count-over-limit", {"count": MIB + 1}, "limit-exceeded"),
    ("run-count-largest", {"count": 2**32 - 1}, "limit-exceeded"),
]


def packs() -> Cases:
    cases = Cases(**SIGNED)
    random = Random("packs")
    session = Session(Random("session of packs"), KEYS)

    def build(runs=SMALL, kind=CHUNK, **fields):
        return Pack(random, KEYS, kind, runs, **fields)

    def make(*args, **fields):
        return build(*args, **fields).data

    def add(name, comment, runs, kind=CHUNK, **fields):
        pack = build(runs, kind, **fields)
        cases.add(name, comment, pack.data, pack_fields(pack, kind, runs, fields.get("gap", 0)))

    add("right-chunks", "a raw run, a compressed one, one of one blob", CHUNKS)
    add("right-nodes", "", NODES, NODE)
    add("right-session", "written with a write key", CHUNKS, session=session, signer=WRITER)
    add("nodes-of-write-key", "", NODES, NODE, signer=WRITER)
    add("one-byte", "the smallest blob", [[b"x"]])
    add("gap", "zeros before the contents", SMALL, gap=7)
    add("check-wrong", "readers need not verify the check", [Faulty([TEXT], check=IDS[0][:16])])
    add("check-of-raw", "readers need not verify the check", [Faulty([SAND], check=IDS[0][:16])])
    for name, comment, kind, runs in [
        ("nodes-in-one-run", "the program does not write this, but reads it", NODE,
            [[NODES[0][0], NODES[1][0]]]),
        ("blob-twice", "in one run, and in another", CHUNK, [[SAND, SAND], [SAND]]),
        ("frame-without-size", "a frame need not state its content's size", CHUNK,
         [Faulty([TEXT, b"x"], compress(TEXT + b"x", write_content_size=False))]),
        ("frame-with-checksum", "", CHUNK, [Faulty([TEXT], compress(TEXT, write_checksum=True))]),
    ]:  # fmt: skip
        add(name, comment, runs, kind)
    right = make(SMALL)
    elsewhere(cases, right)
    cases.headers(b"CTLBpack", lambda head: make([[b"x"]], head=head))
    for name, wrong, kind in RUN_FAULTS:
        if len(wrong.get("ids", [])) < 1024:
            ids = {"ids": IDS[:1]} | wrong
            cases.add(
                name, "in the first of two runs", make([Faulty([SAND], SAND, **ids), [b"x"]]), kind
            )
    for name, wrong, kind in CONTENTS_FAULTS:
        if "kind" in wrong:
            byte = bytes([wrong["kind"]])
            wrong = {"change": lambda c: byte + c[1:]}  # noqa: B023
        cases.add(name, "", make([[SAND]], **wrong), kind)
    cases.add("kind-changed", "after the runs were sealed",
        make([[SAND]], change=lambda c: bytes([NODE]) + c[1:]),
              "does-not-open")  # fmt: skip
    cases.add("empty", "no run", make([]), "truncated")
    for name, comment, count, kind in [
        ("run-count-more", "the count is one too many", 3, "truncated"),
        ("run-count-most", "the count is the largest", MIB, "truncated"),
        ("run-count-less", "the count is one too few", 1, "trailing-bytes"),
    ]:
        cases.add(name, comment, make(count=count), kind)
    two = [Faulty([TEXT, b"x"], compress(TEXT + b"x"), count=1)]
    cases.add(
        "blob-count-more",
        "the only run has one blob less",
        make([Faulty([SAND], count=2)]),
        "truncated",
    )
    cases.add("blob-count-less", "the only run has one blob more", make(two), "trailing-bytes")
    cases.add("contents-trailing-byte", "", make(change=lambda c: c + b"\0"), "trailing-bytes")
    for cut in 1, 32, 36, 60:
        cases.add(
            f"contents-cut-{cut}",
            f"without the last {cut} bytes",
            make(change=lambda c: c[:-cut]),
            "truncated",
        )  # noqa: B023
    other = Session(random, OTHER_KEYS)
    for name, comment, fields, kind in [
        ("key-2", "", {"wrong": 2}, "bad-value"),
        ("session-of-nodes", "nodes have the project's key", {"kind": NODE, "wrong": 1},
            "bad-value"),
        ("session-missing", "key 1, but no encapsulation", {"wrong": 1}, "truncated"),
        ("encapsulation-of-project-key", "key 0, but an encapsulation",
            {"ending": session.encapsulation},
         "trailing-bytes"),
        ("session-cut", "", {"session": session, "ending": session.encapsulation[:-1]},
            "truncated"),
        ("session-long", "", {"session": session, "ending": session.encapsulation + b"\0"},
            "trailing-bytes"),
        ("session-replaced", "by another of this project",
         {"session": session, "ending": Session(random, KEYS).encapsulation}, "does-not-open"),
        ("session-of-another-project", "", {"session": other}, "does-not-open"),
        ("session-flipped", "implicit rejection gives another key",
         {"session": session,
             "ending": bytes([session.encapsulation[0] ^ 1]) + session.encapsulation[1:]},
         "does-not-open"),
        ("gap-not-zero", "", {"gap": 3, "gap_bytes": b"\0\1\0"}, "nonzero-reserved"),
        ("gap-missing", "", {"gap": 3, "gap_bytes": b""}, "bad-length"),
        ("gap-longer", "", {"gap": 3, "gap_bytes": bytes(4)}, "bad-length"),
        ("gap-over-limit", "longer than a pack", {"gap": MAX_PACK + 1, "gap_bytes": b""},
            "limit-exceeded"),
        ("gap-largest", "", {"gap": 2**32 - 1, "gap_bytes": b""}, "limit-exceeded"),
        ("gap-over-pack-limit", "the pack would be too large", {"gap": MAX_PACK, "gap_bytes": b""},
            "limit-exceeded"),
        ("stated-hash-wrong", "of the bytes before the contents", {"stated": IDS[0]}, "bad-hash"),
        ("signer-unknown", "no certificate", {"signer": STRANGER}, "foreign"),
        ("signer-verify", "", {"signer": VERIFIER}, "foreign"),
        ("signer-claimed", "another key than that of the signature",
            {"claim": KEYS.signing_public, "signer": WRITER},
         "bad-signature"),
        ("signer-of-small-order", "",
         {"after": lambda c, n: c[:-96] + IDENTITY + IDENTITY + bytes(32)}, "bad-signature"),
        ("signature-flip", "", {"after": lambda c, n: c[:-1] + bytes([c[-1] ^ 1])},
         "bad-signature"),
        ("signature-without-nonce", "the nonce is not covered",
         {"after": lambda c, n: c[:-64] + sign(KEYS.signing, PROJECT_ID, header(b"CTLBpack"),
             c[:-64])}, "bad-signature"),
        ("sealed-again", "with another nonce", {"resealed": True}, "bad-signature"),
        ("contents-changed", "after they were signed",
            {"after": lambda c, n: c[:20] + bytes([c[20] ^ 1]) + c[21:]},
         "bad-signature"),
        ("signature-of-another-header", "",
         {"after": lambda c, n: c[:-64] + sign(KEYS.signing, PROJECT_ID, header(b"CTLBindx"),
             n + c[:-64])}, "bad-signature"),
        ("signature-of-another-project", "",
         {"after": lambda c, n: c[:-64] + sign(KEYS.signing, OTHER_PROJECT_ID, header(b"CTLBpack"),
             n + c[:-64])},
         "bad-signature"),
        ("version-of-write-signer", "a write key must not stop others",
         {"signer": WRITER, "head": header(b"CTLBpack", version=2)}, "foreign"),
    ]:  # fmt: skip
        what, wrong = fields.pop("kind", CHUNK), fields.pop("wrong", None)
        change = lambda c: c[:1] + bytes([wrong]) + c[2:]  # noqa: B023, E731
        relabel = {} if wrong is None else {"change": change}
        cases.add(
            name, comment, make(NODES if what == NODE else SMALL, what, **fields, **relabel), kind
        )

    def wrong_ids(name, comment, blobs, *ids):
        cases.add(name, comment, make([Faulty(blobs, ids=list(ids))]), "bad-id")

    id_of = partial(KEYS.blob_id, CHUNK)
    wrong_ids("wrong-id", "", [SAND], IDS[0])
    wrong_ids(
        "wrong-id-in-run",
        "of the second of three blobs",
        [SAND, TEXT, b"x"],
        id_of(SAND),
        IDS[0],
        id_of(b"x"),
    )
    wrong_ids(
        "ids-swapped", "of two blobs of a run", [SAND, SAND[::-1]], id_of(SAND[::-1]), id_of(SAND)
    )
    wrong_ids("id-of-run", "of the joined blobs", [SAND, b"x"], id_of(SAND + b"x"), id_of(b"x"))
    wrong_ids("id-of-other-kind", "a chunk under a node's id", [SAND], KEYS.blob_id(NODE, SAND))
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
        ("frame-for-each-blob", "not one for the run", lengths, compress(TEXT) + compress(b"x"),
            "bad-length"),
        ("silent-frame-for-each-blob", "not one for the run", lengths,
         compress(TEXT, write_content_size=False) + compress(b"x", write_content_size=False),
         "bad-codec"),
        ("skippable-frame", "before the frame", lengths, SKIPPABLE + frame, "bad-codec"),
        ("frame-checksum", "is wrong", lengths, checked[:-1] + bytes([checked[-1] ^ 1]),
            "bad-codec"),
        ("no-frame", "codec 1, but raw bytes", lengths, SAND, "bad-codec"),
    ]:  # fmt: skip
        cases.add(
            name, comment, make([Faulty([TEXT, b"x"], content, codec=ZSTD, lengths=said)]), kind
        )

    length = (
        len(contents(CHUNK, [describe(KEYS, SUBKEY, CHUNK, run)[0] for run in SMALL]))
        + 24
        + 128
        + 16
    )
    for name, size, kind in [
        ("contents-length-0", 0, "bad-length"),
        ("contents-length-16", 16, "bad-length"),
        ("contents-length-239", 239, "bad-length"),
        ("contents-length-240", 240, "does-not-open"),
        ("contents-length-plus-1", length + 1, "does-not-open"),
        ("contents-length-minus-1", length - 1, "does-not-open"),
        ("contents-length-all", len(right) - 36, "does-not-open"),
        ("contents-length-beyond-pack", len(right) - 35, "bad-length"),
        ("contents-length-largest", 2**32 - 1, "bad-length"),
    ]:
        cases.add(name, "", make(size=size), kind)
    y = describe(KEYS, SUBKEY, CHUNK, [b"y"])[0]
    cases.add(
        "descriptor-without-run", "one more than runs", make(relist=lambda d: d + [y]), "bad-length"
    )
    cases.add(
        "run-without-descriptor",
        "one more than descriptors",
        make(relist=lambda d: d[:-1]),
        "bad-length",
    )
    cases.add("stored-less", "than there is, so the sum is not the pack's size",
              make([Faulty([TEXT], codec=ZSTD, stored_length=len(compress(TEXT)) + 15)]),
              "bad-length")  # fmt: skip
    cases.add("byte-before-contents", "belongs to no run",
        right[: -4 - length] + b"\0" + right[-4 - length :],
              "bad-length")  # fmt: skip
    cases.add("descriptors-swapped", "the sum is right, the order is not",
        make(relist=lambda d: d[::-1]),
              "does-not-open")  # fmt: skip
    halves = [SAND[:9], SAND[9:]]
    ids = [KEYS.blob_id(CHUNK, half) for half in halves]
    for name, comment, fields_then in [
        ("id", "another id", (RAW, 32, [9, 7], [ids[0], IDS[0]])),
        ("order", "blobs swapped", (RAW, 32, [7, 9], ids[::-1])),
        ("lengths", "of the same sum", (RAW, 32, [8, 8], ids)),
        ("codec", "compressed instead of raw", (ZSTD, 32, [9, 7], ids)),
    ]:
        swap = [descriptor(*fields_then)]
        cases.add(f"changed-{name}", f"{comment}; changed after the run was sealed",
                  make([halves], relist=lambda _: swap), "does-not-open")  # noqa: B023  # fmt: skip
    for name, comment, before in [
        ("runs-swapped", "two runs of one length", lambda d: d[:32] + d[64:96] + d[32:64]),
        ("run-twice", "in place of the second", lambda d: d[:64] + d[32:64]),
        (
            "run-changed",
            "one bit, under the right hash",
            lambda d: d[:40] + bytes([d[40] ^ 1]) + d[41:],
        ),
        (
            "run-tag-changed",
            "one bit, under the right hash",
            lambda d: d[:63] + bytes([d[63] ^ 1]) + d[64:],
        ),
        (
            "run-of-another-pack",
            "with other random bytes",
            lambda d: d[:32] + make([[SAND], [SAND]])[32:64] + d[64:],
        ),
    ]:
        cases.add(name, comment, make([[SAND], [SAND[::-1]]], before=before), "does-not-open")
    as_node = Pack(Random("as node"), KEYS, NODE, [[SAND]]).data
    cases.add(
        "run-of-a-node",
        "as a chunk",
        make([[SAND]], before=lambda d: d[:32] + as_node[32:64]),
        "does-not-open",
    )
    size = len(right)
    cases.flips(right, {"random": 16, "contents-nonce": size - 4 - length,
        "contents": size - 5 - 20,
                        "contents-tag": size - 5})  # fmt: skip
    cases.flips(right, {"first-run": 32, "first-tag": 63, "second-run": 64}, "bad-hash")
    cases.truncated(right, [0, 15, 31, 32, 36, 275])
    cases.truncated(right, [276, -1], "bad-length")
    cases.add(
        "trailing-zero-bytes", "then the contents' length is 0", right + bytes(4), "bad-length"
    )
    return cases
