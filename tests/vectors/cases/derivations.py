"""Makes the cases for keys, ids, seals, sessions, runs and signatures."""

from cuttlebone_format import (
    CHUNK, MIB, NODE, Content, RunKeys, argon2id, derive, derive_repository, ed25519, full_keys,
    report_public, root_of, seal, seal_run,
    session_key, sign, signed, x_wing_encapsulate, x_wing_public,
)  # fmt: skip
from write_repo import Random, Session, describe, header, u

from .common import (
    IDENTITY, IDS, KEYS, OTHER_PROJECT_ID, OTHER_PROJECT_SECRET, PASSWORD, PROJECT_ID,
    PROJECT_SECRET, SAND, SECRET,
    TEXT, WRITER, Cases,
)  # fmt: skip


def keys() -> Cases:
    cases = Cases()
    for name, secret in (
        ("zero-secret", bytes(32)),
        ("repository-secret", SECRET),
        ("project-secret", PROJECT_SECRET),
    ):
        repository = {
            words.replace(" ", "_"): key for words, key in derive_repository(secret).items()
        }
        own = full_keys(PROJECT_ID, secret)
        project = {
            "metadata": own.metadata, "object": own.object, "contents": own.contents,
            "tree": own.tree,
            "node_id": own.blob_keys[NODE], "root": derive("root", own.metadata),
            "slot_info": derive("slot info", own.metadata), "chunks": own.chunks,
            "chunk_id": own.blob_keys[CHUNK],
            "stream_cuts": derive("stream cuts", own.chunks)[:8], "data": own.data,
            "data_private": own.x_wing_seed,
            "data_public": own.data_public, "signing": own.signing,
            "signing_public": own.signing_public, "report_public": report_public(own.signing),
        }  # fmt: skip
        cases.add(name, "The secret serves as R and as P, and all keys of both are expected.", None,
                  {"repository": repository, "project": project}, secret=secret)  # fmt: skip
    for name, comment, password, memory, passes, lanes in [
        ("argon2id", "The parameters are the smallest ones.", PASSWORD, 8, 1, 1),
        ("argon2id-lanes", "Argon2id has four lanes.", PASSWORD, 64, 2, 4),
        ("argon2id-empty-password", "The password has no bytes.", b"", 8, 1, 1),
        ("argon2id-not-utf8", "The password is not UTF-8.", b"\xff\x00\n", 16, 3, 2),
        ("argon2id-odd-memory", "The memory is not a multiple of 4 × lanes.", PASSWORD, 37, 1, 3),
    ]:
        salt = Random(name)(32)
        cases.add(name, comment, None, {"key": argon2id(password, salt, memory, passes, lanes)},
                  password=password, salt=salt, memory_kib=memory, passes=passes,
                  lanes=lanes)  # fmt: skip
    return cases


def ids() -> Cases:
    cases = Cases(project_secret=PROJECT_SECRET)
    for kind, code in ("chunk", CHUNK), ("node", NODE):
        for name, plain in (
            ("byte", b"\0"),
            ("text", b"cuttlebone"),
            ("two-blocks", bytes(range(256)) * 4 + b"!"),
        ):
            cases.add(
                f"{kind}-{name}",
                "",
                None,
                {"id": KEYS.blob_id(code, plain)},
                kind=kind,
                plain=plain,
            )
    cases.add("chunk-other-project", "In another project, the same bytes have another id.", None,
              {"id": full_keys(PROJECT_ID, OTHER_PROJECT_SECRET).blob_id(CHUNK, b"cuttlebone")},
              project_secret=OTHER_PROJECT_SECRET, kind="chunk", plain=b"cuttlebone")  # fmt: skip
    for name, comment, kind, size, chunk_size, top in [
        ("root-image", "", "image", 10_000_000, 65_536, IDS[0]),
        ("root-image-zeros", "The image has no top node.", "image", 10_000_000, 65_536, None),
        ("root-image-empty", "The image has no bytes.", "image", 0, 65_536, None),
        ("root-image-largest", "The size is 2^64 − 1.", "image", 2**64 - 1, 4 * MIB, IDS[0]),
        ("root-image-other-chunk-size", "Only the chunk size differs from that of `root-image`.",
            "image", 10_000_000, 4096, IDS[0]),
        ("root-stream", "", "stream", 10_000_000, 0, IDS[0]),
        ("root-stream-empty", "The stream has no bytes.", "stream", 0, 0, None),
    ]:  # fmt: skip
        root = root_of(Content(kind, size, chunk_size, top, b""), KEYS)
        cases.add(
            name,
            comment,
            None,
            {"root": root},
            kind=kind,
            size=size,
            chunk_size=chunk_size,
            top=top,
        )
    return cases


def seals() -> Cases:
    """Makes cases for `seal` (docs/format.md, section 2) with given random bytes."""
    cases = Cases(key=SECRET)
    for name, comment, ad, plain in [
        ("empty", "Associated data and plaintext have no bytes.", b"", b""),
        ("text", "", b"context", b"cuttlebone"),
        ("long", "", bytes(100), SAND * 20),
        ("other-context", "Only one bit of the associated data differs from that of `text-1`.",
            b"contexT", b"cuttlebone"),
    ]:  # fmt: skip
        for number in 1, 2:
            random = Random(f"seal {number}")(32)
            made = seal(SECRET, random, ad, plain)
            if number == 2:
                comment = f"Only the random bytes differ from those of `{name}-1`."
            cases.add(f"{name}-{number}", comment, None, {"nonce": made[:24], "sealed": made[24:]},
                random=random, ad=ad,
                      plain=plain)  # fmt: skip
    return cases


DRAFT_SEED = "7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26"
DRAFT_RANDOM = (
    "3cb1eea988004b93103cfb0aeefd2a686e01fa4a58e8a3639ca8a1e3f9ae57e2"
    "35b8cc873c23dc62b8d260169afa2f75ab916a58d974918835d25e6a435085b2"
)
DRAFT_SHARED = "d2df0522128f09dd8e2c92b1e905c793d8f57a54c3da25861f10bf4ca613e384"


def sessions() -> Cases:
    """Makes cases for X-Wing, and for the keys of sessions."""
    cases = Cases(project_id=PROJECT_ID)
    for name, seed, random in [
        ("draft", bytes.fromhex(DRAFT_SEED), bytes.fromhex(DRAFT_RANDOM)),
        ("project", KEYS.x_wing_seed, Random("session")(64)),
        ("zeros", bytes(32), bytes(64)),
    ]:
        public = x_wing_public(seed)
        encapsulation, shared = x_wing_encapsulate(public, random)
        assert name != "draft" or shared.hex() == DRAFT_SHARED
        expect = {
            "public": public, "encapsulation": encapsulation,
            "key": session_key(shared, encapsulation, public, PROJECT_ID),
        }  # fmt: skip
        comment = {
            "draft": "Seed and random bytes are those of the first vector of the X-Wing draft.",
            "project": "The seed is that of the project's data private key.",
            "zeros": "Seed and random bytes are zero.",
        }[name]
        cases.add(name, comment, None, expect, seed=seed, random=random)
        if name == "project":
            other = expect | {"key": session_key(shared, encapsulation, public, OTHER_PROJECT_ID)}
            cases.add("other-project", "With another project id, the session has another key.",
                None, other, seed=seed, random=random,
                      project_id=OTHER_PROJECT_ID)  # fmt: skip
    return cases


def runs() -> Cases:
    """Makes cases with the descriptor and the sealed bytes of a single run."""
    cases = Cases(project_id=PROJECT_ID, project_secret=PROJECT_SECRET)
    random = Random("pack random")(16)
    session = Session(Random("run session"), KEYS)

    def add(name, comment, kind, blobs, ordinal=0, key=None, random=random, **inputs):
        k = key or (KEYS.data if kind == CHUNK else KEYS.tree)
        run_keys = RunKeys(k, PROJECT_ID, random)
        described, content = describe(KEYS, run_keys.subkey, kind, blobs)
        run_key = run_keys.key(ordinal, described)
        sealed = seal_run(run_key, PROJECT_ID + header(b"CTLBpack") + bytes([kind]), content)
        expect = {"descriptor": described, "sealed": sealed, "check": described[8:24]}
        cases.add(name, comment, None, expect, kind={CHUNK: "chunk", NODE: "node"}[kind],
            ordinal=ordinal, random=random,
                  codec=described[0], content=content, blobs=[{"plain": blob} for blob in blobs],
                  encapsulation=session.encapsulation if key else None)  # fmt: skip

    add("raw", "The check of a raw run is zero.", CHUNK, [SAND])
    add("compressed", "The run has the codec 1.", CHUNK, [TEXT])
    add("node", "The key of the run comes from the tree key.", NODE, [SAND])
    add("ordinal", "Only the ordinal differs from that of `raw`, so the key does, too.", CHUNK,
        [SAND], ordinal=2**32 + 1)
    add("several-blobs", "The run has three blobs.", CHUNK, [SAND, b"x", TEXT])
    add("other-random", "Only the pack random differs from that of `raw`, so the key does, too.",
        CHUNK, [SAND], random=Random("another pack")(16))
    add("session", "The key of the run comes from the session's key.", CHUNK, [TEXT],
        key=session.key)
    return cases


def signatures() -> Cases:
    """Makes cases for the strict verification of `sign(seed, header, data)`."""
    head, data = header(b"CTLBbkup"), b"cuttlebone"
    public, message = ed25519.public_key(WRITER), signed(PROJECT_ID, head, data)
    right = sign(WRITER, PROJECT_ID, head, data)
    cases = Cases(project_id=PROJECT_ID, header=head, data=data, signer=public)

    def add(name, comment, signature, expect="bad-signature", **inputs):
        cases.add(name, comment, None, expect, signature=signature, **inputs)

    add("right", "", right, {"seed": WRITER})
    add("empty-data", "The signed data has no bytes.", sign(WRITER, PROJECT_ID, head, b""),
        {"seed": WRITER}, data=b"")
    add("other-data", "The signature was made for other data.", right, data=b"cuttlebonE")
    add("other-project", "The signature was made for another project id.", right,
        project_id=OTHER_PROJECT_ID)
    add("other-header", "The signature was made for another header.", right,
        header=header(b"CTLBvoid"))
    add("other-signer", "The signature was made with another key than that of the signer.", right,
        signer=KEYS.signing_public)
    for at in 0, 31, 32, 62, 63:
        add(f"flip-{at}", f"One bit of byte {at} is flipped.",
            right[:at] + bytes([right[at] ^ 1]) + right[at + 1 :])
    s, base = int.from_bytes(right[32:], "little"), ed25519.ORDER
    add("s-plus-order", "The order of the base point was added to S.",
        right[:32] + u(256, s + base))
    add("s-of-order", "S is the order of the base point.", right[:32] + u(256, base))
    add("s-largest", "S is 2^256 − 1.", right[:32] + b"\xff" * 32)
    small = [ed25519.encode(ed25519.times(i, EIGHT)) for i in range(8)]
    for number, point in enumerate(small):
        # With R = −k·A, S = 0 verifies if the order of A is not checked.
        for r in small:
            k = ed25519.challenge(r, point, message)
            if ed25519.same(
                ed25519.decode(r), ed25519.negate(ed25519.times(k, ed25519.decode(point)))
            ):
                add(
                    f"small-order-key-{number}",
                    "The order of the signer's point is 8 or less. The equation holds.",
                    r + bytes(32),
                    signer=point,
                )
                break
        else:
            add(f"small-order-key-{number}", "The order of the signer's point is 8 or less.",
                IDENTITY + bytes(32), signer=point)
    scalar = ed25519.scalar_of(WRITER)
    add("small-order-r", "R is the neutral point. The equation holds.",
        IDENTITY + u(256, ed25519.challenge(IDENTITY, public,
            message) * scalar % base))  # fmt: skip
    for name, encoding in ("p", ed25519.P), ("p-plus-1", ed25519.P + 1), ("largest", 2**255 - 1):
        add(f"key-y-{name}", "The signer's y is not below 2^255 − 19.", right,
            signer=u(256, encoding))
        add(f"r-y-{name}", "The y of R is not below 2^255 − 19.", u(256, encoding) + right[32:])
    minus_zero = bytes([1]) + bytes(30) + b"\x80"
    add("key-minus-zero", "The signer has a sign bit although x is 0.", IDENTITY + bytes(32),
        signer=minus_zero)
    add("r-minus-zero", "R has a sign bit although x is 0.", minus_zero + right[32:])
    add("key-off-curve", "The signer is not a point of the curve.", right, signer=u(256, 2))
    add("r-off-curve", "R is not a point of the curve.", u(256, 2) + right[32:])
    torsion = ed25519.sign_with(scalar, 7, public, message, torsion=EIGHT)
    add("r-with-torsion", "A point of order 8 was added to R. The equation holds only times 8.",
        torsion)
    mixed = ed25519.encode(ed25519.add(ed25519.decode(public), EIGHT))
    nonces = {
        ed25519.challenge(ed25519.encode(ed25519.times(n, ed25519.BASE)), mixed, message) % 8: n
        for n in range(1, 99)
    }
    add("key-with-torsion",
        "A point of order 8 was added to the signer. The equation holds only times 8.",
        ed25519.sign_with(scalar, nonces[1], mixed, message), signer=mixed)  # fmt: skip
    add("key-with-torsion-but-right",
        "A point of order 8 was added to the signer, but the equation holds as it stands.",
        ed25519.sign_with(scalar, nonces[0], mixed, message), {}, signer=mixed)  # fmt: skip
    return cases


def point_of_order_8():
    """Returns a point of order 8: some point times the order of the base point."""
    for y in range(2, 99):
        point = ed25519.decode(u(256, y))
        if point is not None:
            torsion = ed25519.times(ed25519.ORDER, point)
            if not ed25519.same(ed25519.times(4, torsion), ed25519.NEUTRAL):
                return torsion
    raise ValueError("no point")


EIGHT = point_of_order_8()
