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

# Faults of the descriptor of a raw run of one blob of 16 bytes, SAND. It is the first of two runs.
RUN_FAULTS = [
    ("codec-2", "The codec 2 of the first run is not defined.", {"codec": 2}, "bad-codec"),
    ("codec-255", "The codec 255 of the first run is not defined.", {"codec": 255}, "bad-codec"),
    ("suite-1", "The suite 1 of the first run is not defined.", {"suite": 1}, "bad-value"),
    ("suite-255", "The suite 255 of the first run is not defined.", {"suite": 255}, "bad-value"),
    ("blob-count-0", "The first run states 0 blobs.", {"count": 0}, "limit-exceeded"),
    ("blob-count-1025", "The first run states 1,025 blobs.", {"count": 1025}, "limit-exceeded"),
    ("blob-count-65535", "The first run states 65,535 blobs.", {"count": 65_535}, "limit-exceeded"),
    ("plain-length-0", "The plain length of the only blob is 0.", {"lengths": [0]},
        "limit-exceeded"),
    ("plain-length-0-of-two", "The plain length of the first of two blobs is 0.",
        {"lengths": [0, 16], "ids": SHORT[:2]}, "limit-exceeded"),
    ("plain-length-over-limit", "The plain length of a blob is one byte above 4 MiB.",
        {"lengths": [MAX_BLOB + 1], "stored_length": MAX_BLOB + 17}, "limit-exceeded"),
    ("plain-length-largest", "The plain length of a blob is 2^32 − 1.",
        {"lengths": [2**32 - 1], "stored_length": 15}, "limit-exceeded"),
    ("sum-over-limit", "The plain lengths of a run add up to one byte above 4 MiB.",
        {"lengths": [HALF, HALF + 1], "ids": SHORT[:2], "stored_length": MAX_RUN + 17},
        "limit-exceeded"),
    ("sum-over-32-bits", "The plain lengths of a run add up to 2^32.",
        {"lengths": [MAX_BLOB] * 1024, "ids": SHORT[:1] * 1024, "stored_length": 16},
        "limit-exceeded"),
    ("raw-stored-short", "The stored length of a raw run is 15 more than its plain length, not 16.",
        {"lengths": [17]}, "bad-length"),
    ("raw-stored-long", "The stored length of a raw run is 17 more than its plain length, not 16.",
        {"lengths": [15]}, "bad-length"),
    ("raw-stored-of-first-blob", "The stored length of a raw run covers only its first blob.",
        {"lengths": [16, 1], "ids": SHORT[:2]}, "bad-length"),
    ("raw-stored-0", "The stored length of a raw run is 0.", {"stored_length": 0}, "bad-length"),
    ("stored-0", "The stored length of a compressed run is 0.",
        {"codec": ZSTD, "stored_length": 0}, "limit-exceeded"),
    ("stored-16", "The stored length of a compressed run has space only for the tag.",
        {"codec": ZSTD, "stored_length": 16}, "limit-exceeded"),
    ("stored-over-plain",
        "The stored length of a compressed run is 17 more than its plain length.",
        {"codec": ZSTD, "stored_length": 33}, "limit-exceeded"),
    ("stored-largest", "The stored length of a compressed run is 2^32 − 1.",
        {"codec": ZSTD, "stored_length": 2**32 - 1}, "limit-exceeded"),
]  # fmt: skip

# Faults of contents whose runs are valid.
CONTENTS_FAULTS = [
    ("kind-0", "The kind 0 of the blobs is not defined.", {"kind": 0}, "bad-value"),
    ("kind-3", "The kind 3 of the blobs is not defined.", {"kind": 3}, "bad-value"),
    ("contents-zero-0001", "The zero field of the contents is 1.", {"zero": 1}, "nonzero-reserved"),
    ("contents-zero-8000", "The zero field of the contents is 2^15.",
        {"zero": 1 << 15}, "nonzero-reserved"),
    ("run-count-0", "The contents state 0 runs.", {"count": 0}, "limit-exceeded"),
    ("run-count-over-limit", "The contents state 1,048,577 runs, one above the limit.",
        {"count": MIB + 1}, "limit-exceeded"),
    ("run-count-largest", "The contents state 2^32 − 1 runs.",
        {"count": 2**32 - 1}, "limit-exceeded"),
]  # fmt: skip


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

    add("right-chunks", "One run is raw, one is compressed, and one has a single blob.", CHUNKS)
    add("right-nodes", "The pack holds nodes.", NODES, NODE)
    add("right-session", "A write key sealed the chunks under a session's key.", CHUNKS,
        session=session, signer=WRITER)
    add("nodes-of-write-key", "A write key stored nodes, under the tree key.", NODES, NODE,
        signer=WRITER)
    add("one-byte", "The pack holds one blob of one byte, the smallest length.", [[b"x"]])
    add("gap", "Seven zero bytes are between the runs and the contents.", SMALL, gap=7)
    add("check-wrong", "The check is wrong. Readers need not verify it.",
        [Faulty([TEXT], check=IDS[0][:16])])
    add("check-of-raw", "The check of a raw run is not zero. Readers need not verify it.",
        [Faulty([SAND], check=IDS[0][:16])])
    for name, comment, kind, runs in [
        ("nodes-in-one-run",
            "Two nodes share a run, which the writer of this project does not do.", NODE,
            [[NODES[0][0], NODES[1][0]]]),
        ("blob-twice", "The pack holds a blob twice in one run, and once more in another.", CHUNK,
            [[SAND, SAND], [SAND]]),
        ("frame-without-size", "The frame does not state the size of its content.", CHUNK,
         [Faulty([TEXT, b"x"], compress(TEXT + b"x", write_content_size=False))]),
        ("frame-with-checksum", "The frame has a checksum.", CHUNK,
            [Faulty([TEXT], compress(TEXT, write_checksum=True))]),
    ]:  # fmt: skip
        add(name, comment, runs, kind)
    right = make(SMALL)
    elsewhere(cases, right)
    cases.headers(b"CTLBpack", lambda head: make([[b"x"]], head=head))
    for name, comment, wrong, kind in RUN_FAULTS:
        if len(wrong.get("ids", [])) < 1024:
            ids = {"ids": IDS[:1]} | wrong
            cases.add(
                name, comment, make([Faulty([SAND], SAND, **ids), [b"x"]]), kind
            )
    for name, comment, wrong, kind in CONTENTS_FAULTS:
        if "kind" in wrong:
            byte = bytes([wrong["kind"]])
            wrong = {"change": lambda c: byte + c[1:]}  # noqa: B023
        cases.add(name, comment, make([[SAND]], **wrong), kind)
    cases.add("kind-changed",
        "The contents state nodes, but the run was sealed as one of chunks.",
        make([[SAND]], change=lambda c: bytes([NODE]) + c[1:]),
              "does-not-open")  # fmt: skip
    cases.add("empty", "The pack has no run.", make([]), "truncated")
    for name, comment, count, kind in [
        ("run-count-more", "The contents state three runs, but have two.", 3, "truncated"),
        ("run-count-most", "The contents state 1,048,576 runs, the most allowed, but have two.",
            MIB, "truncated"),
        ("run-count-less", "The contents state one run, but have two.", 1, "trailing-bytes"),
    ]:
        cases.add(name, comment, make(count=count), kind)
    two = [Faulty([TEXT, b"x"], compress(TEXT + b"x"), count=1)]
    cases.add(
        "blob-count-more",
        "The only run states two blobs, but has one.",
        make([Faulty([SAND], count=2)]),
        "truncated",
    )
    cases.add("blob-count-less", "The only run states one blob, but has two.", make(two),
        "trailing-bytes")
    cases.add("contents-trailing-byte", "A byte follows the descriptors of the contents.",
        make(change=lambda c: c + b"\0"), "trailing-bytes")
    for cut in 1, 32, 36, 60:
        cases.add(
            f"contents-cut-{cut}",
            f"The last {cut} bytes of the descriptors are missing.",
            make(change=lambda c: c[:-cut]),
            "truncated",
        )  # noqa: B023
    other = Session(random, OTHER_KEYS)
    for name, comment, fields, kind in [
        ("key-2", "The key 2 of the runs is not defined.", {"wrong": 2}, "bad-value"),
        ("session-of-nodes", "The key of a pack of nodes is 1, a session's.",
            {"kind": NODE, "wrong": 1},
            "bad-value"),
        ("session-missing", "The key is 1, a session's, but the X-Wing ciphertext is missing.",
            {"wrong": 1}, "truncated"),
        ("encapsulation-of-project-key",
            "The key is 0, the project's, but an X-Wing ciphertext follows the descriptors.",
            {"ending": session.encapsulation},
         "trailing-bytes"),
        ("session-cut", "The last byte of the X-Wing ciphertext is missing.",
            {"session": session, "ending": session.encapsulation[:-1]},
            "truncated"),
        ("session-long", "A byte follows the X-Wing ciphertext.",
            {"session": session, "ending": session.encapsulation + b"\0"},
            "trailing-bytes"),
        ("session-replaced", "The X-Wing ciphertext is that of another session of this project.",
         {"session": session, "ending": Session(random, KEYS).encapsulation}, "does-not-open"),
        ("session-of-another-project",
            "The X-Wing ciphertext was made for the data public key of another project.",
                {"session": other}, "does-not-open"),
        ("session-flipped",
            "One bit of the X-Wing ciphertext is flipped, so another session's key results.",
         {"session": session,
             "ending": bytes([session.encapsulation[0] ^ 1]) + session.encapsulation[1:]},
         "does-not-open"),
        ("gap-not-zero", "A byte of the gap is not zero.", {"gap": 3, "gap_bytes": b"\0\1\0"},
            "nonzero-reserved"),
        ("gap-missing", "The contents state a gap of three bytes, but the pack has none.",
            {"gap": 3, "gap_bytes": b""}, "bad-length"),
        ("gap-longer", "The contents state a gap of three bytes, but it has four.",
            {"gap": 3, "gap_bytes": bytes(4)}, "bad-length"),
        ("gap-over-limit", "The stated gap is longer than a pack may be.",
            {"gap": MAX_PACK + 1, "gap_bytes": b""},
            "limit-exceeded"),
        ("gap-largest", "The stated gap is 2^32 − 1 bytes.", {"gap": 2**32 - 1, "gap_bytes": b""},
            "limit-exceeded"),
        ("gap-over-pack-limit", "With the stated gap, the size of the pack is above the limit.",
            {"gap": MAX_PACK, "gap_bytes": b""},
            "limit-exceeded"),
        ("stated-hash-wrong", "The contents state a wrong hash of the bytes before them.",
            {"stated": IDS[0]}, "bad-hash"),
        ("signer-unknown", "No certificate names the signer.", {"signer": STRANGER}, "foreign"),
        ("signer-verify", "A verify signer may not sign the contents of a pack.",
            {"signer": VERIFIER}, "foreign"),
        ("signer-claimed", "A write key signed, but the stated signer is the full signer.",
            {"claim": KEYS.signing_public, "signer": WRITER},
         "bad-signature"),
        ("signer-of-small-order",
            "The signer is the neutral point, with which this signature would fit any message.",
         {"after": lambda c, n: c[:-96] + IDENTITY + IDENTITY + bytes(32)}, "bad-signature"),
        ("signature-flip", "One bit of the last byte of the signature is flipped.",
            {"after": lambda c, n: c[:-1] + bytes([c[-1] ^ 1])},
         "bad-signature"),
        ("signature-without-nonce", "The signature does not cover the nonce.",
         {"after": lambda c, n: c[:-64] + sign(KEYS.signing, PROJECT_ID, header(b"CTLBpack"),
             c[:-64])}, "bad-signature"),
        ("sealed-again", "The signed contents were sealed again with another nonce.",
            {"resealed": True}, "bad-signature"),
        ("contents-changed", "The contents were changed after they were signed.",
            {"after": lambda c, n: c[:20] + bytes([c[20] ^ 1]) + c[21:]},
         "bad-signature"),
        ("signature-of-another-header",
            "The signature was made for the header of an index segment.",
         {"after": lambda c, n: c[:-64] + sign(KEYS.signing, PROJECT_ID, header(b"CTLBindx"),
             n + c[:-64])}, "bad-signature"),
        ("signature-of-another-project", "The signature was made for another project id.",
         {"after": lambda c, n: c[:-64] + sign(KEYS.signing, OTHER_PROJECT_ID, header(b"CTLBpack"),
             n + c[:-64])},
         "bad-signature"),
        ("version-of-write-signer",
            "A write signer signed another version, so the pack is foreign, not newer.",
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
    wrong_ids("wrong-id", "The contents state a wrong id for the only chunk.", [SAND], IDS[0])
    wrong_ids(
        "wrong-id-in-run",
        "The contents state a wrong id for the second of three chunks of a run.",
        [SAND, TEXT, b"x"],
        id_of(SAND),
        IDS[0],
        id_of(b"x"),
    )
    wrong_ids(
        "ids-swapped", "The ids of two chunks of a run are swapped.", [SAND, SAND[::-1]],
            id_of(SAND[::-1]), id_of(SAND)
    )
    wrong_ids("id-of-run", "The id of the first chunk is that of the joined chunks of the run.",
        [SAND, b"x"], id_of(SAND + b"x"), id_of(b"x"))
    wrong_ids("id-of-other-kind", "The id of a chunk was computed as that of a node.", [SAND],
        KEYS.blob_id(NODE, SAND))
    cases.add("blob-border",
        "The lengths count the last byte of the first chunk to the second one.",
              make([Faulty([SAND, b"xy"], lengths=[15, 3])]), "bad-id")  # fmt: skip

    joined, lengths = TEXT + b"x", [len(TEXT), 1]
    frame, silent = compress(joined), compress(joined, write_content_size=False)
    checked, bomb = compress(joined, write_checksum=True), compress(bytes(MIB))
    less, more = [len(TEXT) - 1, 1], [len(TEXT), 2]
    for name, comment, said, content, kind in [
        ("frame-longer", "The frame decodes to one byte more than the sum of the plain lengths.",
            less, frame, "bad-length"),
        ("frame-shorter", "The frame decodes to one byte less than the sum of the plain lengths.",
            more, frame, "bad-length"),
        ("silent-frame-longer",
            "The frame states no size, and decodes to one byte more than the plain lengths.",
            less, silent, "bad-length"),
        ("silent-frame-shorter",
            "The frame states no size, and decodes to one byte less than the plain lengths.",
            more, silent, "bad-length"),
        ("frame-of-first-blob", "The frame holds only the first of two chunks.", lengths,
            compress(TEXT), "bad-length"),
        ("bomb", "The frame decodes to 1 MiB, but the plain lengths add up to 221 bytes.", lengths,
            bomb, "bad-length"),
        ("frame-cut", "The last byte of the frame is missing.", lengths, checked[:-1], "bad-codec"),
        ("frame-and-byte", "A byte follows the frame.", lengths, frame + b"\0", "bad-codec"),
        ("two-frames", "A second frame, with no content, follows the first one.", lengths,
            frame + compress(b""), "bad-codec"),
        ("frame-for-each-blob",
            "Each chunk has a frame of its own. The run should have one.", lengths,
                compress(TEXT) + compress(b"x"),
            "bad-length"),
        ("silent-frame-for-each-blob",
            "Each chunk has a frame of its own, without its size. The run should have one.",
                lengths,
         compress(TEXT, write_content_size=False) + compress(b"x", write_content_size=False),
         "bad-codec"),
        ("skippable-frame", "A skippable frame is before the frame of the run.", lengths,
            SKIPPABLE + frame, "bad-codec"),
        ("frame-checksum", "The checksum of the frame is wrong.", lengths,
            checked[:-1] + bytes([checked[-1] ^ 1]),
            "bad-codec"),
        ("no-frame", "The codec is 1, but the run is not compressed.", lengths, SAND, "bad-codec"),
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
    for name, comment, size, kind in [
        ("contents-length-0", "The stated `t` is 0.", 0, "bad-length"),
        ("contents-length-16", "The stated `t` is 16.", 16, "bad-length"),
        ("contents-length-239", "The stated `t` is 239, one below the limit.", 239, "bad-length"),
        ("contents-length-240", "The stated `t` is 240, but wrong.", 240, "does-not-open"),
        ("contents-length-plus-1", "The stated `t` is one byte too large.",
            length + 1, "does-not-open"),
        ("contents-length-minus-1", "The stated `t` is one byte too small.",
            length - 1, "does-not-open"),
        ("contents-length-all", "The stated `t` also covers all runs.",
            len(right) - 36, "does-not-open"),
        ("contents-length-beyond-pack", "The pack has one byte less than the stated `t` needs.",
            len(right) - 35, "bad-length"),
        ("contents-length-largest", "The stated `t` is 2^32 − 1.", 2**32 - 1, "bad-length"),
    ]:  # fmt: skip
        cases.add(name, comment, make(size=size), kind)
    y = describe(KEYS, SUBKEY, CHUNK, [b"y"])[0]
    cases.add(
        "descriptor-without-run",
            "The contents have three descriptors, but the pack has two runs.",
                make(relist=lambda d: d + [y]), "bad-length"
    )
    cases.add(
        "run-without-descriptor",
        "The pack has two runs, but the contents have one descriptor.",
        make(relist=lambda d: d[:-1]),
        "bad-length",
    )
    cases.add("stored-less",
        "The stored length of the run is one byte too small, so the size of the pack is wrong.",
              make([Faulty([TEXT], codec=ZSTD, stored_length=len(compress(TEXT)) + 15)]),
              "bad-length")  # fmt: skip
    cases.add("byte-before-contents", "A byte between the runs and the contents belongs to no run.",
        right[: -4 - length] + b"\0" + right[-4 - length :],
              "bad-length")  # fmt: skip
    cases.add("descriptors-swapped", "The descriptors of the two runs are swapped.",
        make(relist=lambda d: d[::-1]),
              "does-not-open")  # fmt: skip
    halves = [SAND[:9], SAND[9:]]
    ids = [KEYS.blob_id(CHUNK, half) for half in halves]
    for name, comment, fields_then in [
        ("id", "The id of the second chunk", (RAW, 32, [9, 7], [ids[0], IDS[0]])),
        ("order", "The order of the two chunks", (RAW, 32, [7, 9], ids[::-1])),
        ("lengths", "The length of each chunk, but not their sum,", (RAW, 32, [8, 8], ids)),
        ("codec", "The codec, from raw to compressed,", (ZSTD, 32, [9, 7], ids)),
    ]:
        swap = [descriptor(*fields_then)]
        cases.add(f"changed-{name}", f"{comment} was changed after the run was sealed.",
                  make([halves], relist=lambda _: swap), "does-not-open")  # noqa: B023  # fmt: skip
    for name, comment, before in [
        ("runs-swapped", "Two runs of the same length are swapped.",
            lambda d: d[:32] + d[64:96] + d[32:64]),
        ("run-twice", "The first run is also in place of the second one.",
            lambda d: d[:64] + d[32:64]),
        (
            "run-changed",
            "One bit of a run is flipped. All hashes were computed after that.",
            lambda d: d[:40] + bytes([d[40] ^ 1]) + d[41:],
        ),
        (
            "run-tag-changed",
            "One bit of the tag of a run is flipped. All hashes were computed after that.",
            lambda d: d[:63] + bytes([d[63] ^ 1]) + d[64:],
        ),
        (
            "run-of-another-pack",
            "The first run is that of another pack, which has another pack random.",
            lambda d: d[:32] + make([[SAND], [SAND]])[32:64] + d[64:],
        ),
    ]:
        cases.add(name, comment, make([[SAND], [SAND[::-1]]], before=before), "does-not-open")
    as_node = Pack(Random("as node"), KEYS, NODE, [[SAND]]).data
    cases.add(
        "run-of-a-node",
        "The run in a pack of chunks is that of a node.",
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
        "trailing-zero-bytes", "Four zero bytes follow the pack, so `t` seems to be 0.",
            right + bytes(4), "bad-length"
    )
    return cases
