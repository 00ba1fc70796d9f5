"""Values that several files of cases use, and faults that many kinds of objects can have."""

from functools import partial

from cuttlebone_format import H, RAW, ZSTD, ed25519, full_keys, sign
from write_repo import Random, compress, header, log_entry, sealed, to_json

SECRET, OTHER_SECRET = Random("repository secret")(32), Random("another repository secret")(32)
PROJECT_SECRET, OTHER_PROJECT_SECRET = (
    Random("project secret")(32),
    Random("another project secret")(32),
)
PROJECT_ID, OTHER_PROJECT_ID = Random("project id")(16), Random("another project id")(16)
KEYS, OTHER_KEYS = (
    full_keys(PROJECT_ID, PROJECT_SECRET),
    full_keys(OTHER_PROJECT_ID, OTHER_PROJECT_SECRET),
)
WRITER, LIMITED, VERIFIER, STRANGER, REVOKED = (
    Random(f"seed of {name}")(32) for name in ("a write key", "a write key for some volumes",
        "a verify key", "nobody", "a revoked key")
)  # fmt: skip
"""Seeds of signers. LIMITED may only back up volumes `web-*` and `db?`. Its records may require the
feature `magic`."""
PASSWORD = "pass wörd".encode()
TIME = "2026-11-21T10:00:00Z"
IDS = [Random(f"id {i}")(32) for i in range(8)]
SHORT = [bytes([0xA0 + i]) * 32 for i in range(8)]
"""Ids that compress well, which keeps the files small."""
SKIPPABLE = bytes.fromhex("502a4d1801000000") + b"x"
SAND, TEXT = Random("sand")(16), b"cuttlebone " * 20
IDENTITY = bytes([1]) + bytes(31)
"""The encoding of the neutral point of Ed25519."""


def certificate(
    seed: bytes | None, role="write", *, random=None, keys=KEYS, signer=None, **members
) -> bytes:
    body = {"role": role, "slot": H(seed or b"").hex(), "created": TIME}
    if seed is not None:
        body["signer"] = ed25519.public_key(seed).hex()
    return sealed(
        random or Random(f"certificate {body}"),
        keys,
        b"CTLBcert",
        to_json(body | members),
        signer=signer,
    )


CERTIFICATES = [
    certificate(WRITER),
    certificate(LIMITED, volumes=["web-*", "db?"], features=["magic"]),
    certificate(VERIFIER, "verify"),
    certificate(REVOKED),
]


def revocation(accepted=()) -> bytes:
    revoked = {
        "certificate": H(CERTIFICATES[3]).hex(),
        "signer": ed25519.public_key(REVOKED).hex(),
        "accepted": [name.hex() for name in accepted],
    }
    return log_entry(Random("revocation"), KEYS, 1, body={"revoked": [revoked]})


PROJECT = {"project_id": PROJECT_ID, "project_secret": PROJECT_SECRET}
SIGNED = PROJECT | {"certificates": CERTIFICATES}


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
        """Adds a case. `expect` is the error's kind, or the decoded fields. Inputs that are equal
        to those of the first case are left out."""
        assert name not in [case["name"] for case in self], name
        inputs = {
            key: value for key, value in as_json(self.inputs | inputs).items() if value is not None
        }
        if self:
            first = self[0].get("inputs", {})
            inputs = {
                key: inputs.get(key)
                for key in [*first, *inputs]
                if inputs.get(key) != first.get(key)
            }
        case = {"name": name, "comment": comment, "inputs": inputs}
        case = {member: value for member, value in case.items() if value}
        if data is not None:
            case["object"] = data.hex()
        case["expect"] = {"error": expect} if isinstance(expect, str) else {"ok": as_json(expect)}
        self.append(case)

    def headers(self, magic: bytes, make, unproven="does-not-open"):
        """Adds every fault of a header. `make(head)` returns an object with this header that is
        valid otherwise. `unproven` is the error of an object whose header was changed after the
        object was sealed."""
        other = b"CTLBrepo" if magic != b"CTLBrepo" else b"CTLBslot"
        self.add(
            "magic-other-object",
            "The magic is that of another kind of object.",
            make(header(other)),
            "bad-magic",
        )
        self.add("magic-case", "The magic is in lower case.", make(header(magic.lower())),
            "bad-magic")
        for version in 0, 2, 256:
            self.add(
                f"version-{version}",
                f"The version is {version}.",
                make(header(magic, version=version)),
                "bad-version",
            )
        for epoch in 1, 0x8000:
            self.add(
                f"epoch-{epoch:04x}",
                "The key epoch is not 0.",
                make(header(magic, epoch=epoch)),
                "unknown-feature",
            )
        for bit in 0, 31:
            head = header(magic, features=1 << bit)
            self.add(
                f"feature-bit-{bit}",
                f"Bit {bit} of the required features is set. No feature is defined yet.",
                make(head),
                "unknown-feature",
            )
        right = make(header(magic))
        for what, field, at in (
            ("version", "The version", 8),
            ("epoch", "The key epoch", 10),
            ("feature", "A bit of the required features", 15),
        ):
            changed = right[:at] + bytes([right[at] ^ 2]) + right[at + 1 :]
            comment = f"{field} was changed without a key, so the object counts as damaged."
            self.add(f"unproven-{what}", comment, changed, unproven)

    def flips(self, data: bytes, places: dict[str, int], expect="does-not-open"):
        for what, at in places.items():
            wrong = bytearray(data)
            wrong[at] ^= 1
            self.add(f"flip-{what}", f"One bit of byte {at} is flipped.", bytes(wrong), expect)

    def truncated(self, data: bytes, lengths, kind="truncated"):
        for length in lengths:
            length %= len(data)
            self.add(
                f"first-{length}-bytes",
                f"The object ends after {length} of its {len(data)} bytes.",
                data[:length],
                kind,
            )


def elsewhere(cases: Cases, right: bytes, *, named=True):
    """Adds a valid object in the wrong place."""
    cases.add(
        "other-project-secret",
        "The reader has the secret of another project.",
        right,
        "does-not-open",
        project_secret=OTHER_PROJECT_SECRET,
    )
    cases.add(
        "other-project",
        "The object is in the directory of another project.",
        right,
        "does-not-open",
        project_id=OTHER_PROJECT_ID,
    )
    if named:
        cases.add(
            "other-name",
            "The name of the file is not the hash of its bytes.",
            right,
            "bad-hash",
            name=H(b""),
        )


def body_faults(cases: Cases, make, body: bytes, dense: bytes, limit: int):
    """Adds the faults of a body. `body` gets shorter when compressed, `dense` does not."""
    make = partial(make, codec=RAW)
    right = make(body)
    for codec in 2, 255:
        cases.add(
            f"body-codec-{codec}",
            f"The codec {codec} is not defined.",
            make(body, codec=codec),
            "bad-codec",
        )
    for zero in 1, 1 << 23:
        cases.add(
            f"body-zero-{zero:06x}",
            "The field after the codec is not zero.",
            make(body, zero=zero),
            "nonzero-reserved",
        )
    frame, length = compress(body), len(body)
    silent = compress(body, write_content_size=False)
    assert len(silent) < length - 20 and len(compress(dense)) > len(dense)
    cases.add(
        "body-frame-does-not-pay",
        "The frame is longer than the plain body.",
        make(dense, codec=ZSTD),
        "bad-length",
    )
    for name, comment, fields, kind in [
        ("body-length-less",
            "The stated length is one byte less than that of the raw body.",
                {"length": length - 1}, "bad-length"),
        ("body-length-more",
            "The stated length is one byte more than that of the raw body.",
                {"length": length + 1}, "bad-length"),
        ("body-length-over-limit", "The stated length of the raw body is above the limit.",
            {"length": limit + 1}, "limit-exceeded"),
        ("body-frame-longer", "The frame decodes to one byte more than the stated length.",
            {"codec": ZSTD, "length": length - 1}, "bad-length"),
        ("body-frame-shorter", "The frame decodes to one byte less than the stated length.",
            {"codec": ZSTD, "length": length + 1}, "bad-length"),
        (
            "body-silent-frame-longer",
            "The frame states no size, and decodes to one byte more than the stated length.",
            {"codec": ZSTD, "length": length - 1, "stored": silent},
            "bad-length",
        ),
        (
            "body-silent-frame-shorter",
            "The frame states no size, and decodes to one byte less than the stated length.",
            {"codec": ZSTD, "length": length + 1, "stored": silent},
            "bad-length",
        ),
        ("body-frame-over-limit", "The stated length of the compressed body is above the limit.",
            {"codec": ZSTD, "length": limit + 1}, "limit-exceeded"),
        (
            "body-skippable-frame",
            "A skippable frame is before the frame of the body.",
            {"codec": ZSTD, "stored": SKIPPABLE + frame},
            "bad-codec",
        ),
        ("body-frame-cut", "The last byte of the frame is missing.",
            {"codec": ZSTD, "stored": frame[:-1]}, "bad-codec"),
        ("body-frame-and-byte", "A byte follows the frame.",
            {"codec": ZSTD, "stored": frame + b"\0"}, "bad-codec"),
        (
            "body-two-frames",
            "A second frame, with no content, follows the first one.",
            {"codec": ZSTD, "stored": frame + compress(b"")},
            "bad-codec",
        ),
        ("body-no-frame", "The codec is 1, but the body is not compressed.",
            {"codec": ZSTD, "stored": body}, "bad-codec"),
        ("padding-not-zero", "A byte of the padding is not zero.",
            {"padding": 3, "pad": b"\0\0\1"}, "nonzero-reserved"),
        (
            "padding-less",
            "The stated length of the padding is one byte too small, so the body seems longer.",
            {"padding": 3, "pad": bytes(4)},
            "bad-length",
        ),
        ("padding-longer-than-payload",
            "The stated padding is longer than the rest of the payload.",
            {"padding": length + 1, "pad": b""}, "truncated"),
        (
            "padding-over-limit",
            "The stated length of the padding is one byte above 64 MiB.",
            {"padding": (64 << 20) + 1, "pad": b""},
            "limit-exceeded",
        ),
        ("padding-largest", "The stated length of the padding is 2^32 − 1.",
            {"padding": 2**32 - 1, "pad": b""}, "limit-exceeded"),
    ]:
        cases.add(name, comment, make(body, **fields), kind)
    cases.flips(right, {"nonce": 16, "payload": 40, "tag": len(right) - 1})
    cases.truncated(right, [0, 15, 39, 55])
    cases.truncated(right, [56, -1], "does-not-open")
    cases.add("trailing-byte", "A byte follows the object, so its last 16 bytes are not the tag.",
        right + b"\0", "does-not-open")


def signature_faults(
    cases: Cases, magic: bytes, make, body, shown, writers=True, verifiers=False
):
    """Adds wrong signatures, and signers that may not sign an object of this kind. `make(body, …)`
    returns a sealed object. `shown` has the fields of a valid object. `writers` and `verifiers` say
    whether a write key and a verify key may sign."""
    head = header(magic)

    def after(change):
        return make(body, change=change)

    elsewhere = sign(KEYS.signing, PROJECT_ID, head, b"another object")
    for name, comment, change in [
        ("signature-flip-r", "One bit of R, the first half of the signature, is flipped.",
            lambda p, n: p[:-64] + bytes([p[-64] ^ 1]) + p[-63:]),
        ("signature-flip-s", "One bit of S, the second half of the signature, is flipped.",
            lambda p, n: p[:-32] + bytes([p[-32] ^ 1]) + p[-31:]),
        ("signature-zeros", "All bytes of the signature are zero.",
            lambda p, n: p[:-64] + bytes(64)),
        ("signature-of-another-key",
            "The signature was made with another key than that of the signer.",
            lambda p, n: p[:-64] + sign(STRANGER, PROJECT_ID, head, n + p[:-64])),
        ("signature-of-another-project", "The signature was made for another project id.",
            lambda p, n: p[:-64] + sign(KEYS.signing, OTHER_PROJECT_ID, head, n + p[:-64])),
        ("signature-of-another-object", "The signature is that of another object.",
            lambda p, n: p[:-64] + elsewhere),
        ("signature-of-another-header", "The signature was made for the header of a pack.",
         lambda p, n: p[:-64] + sign(KEYS.signing, PROJECT_ID, header(b"CTLBpack"), n + p[:-64])),
        ("signature-without-nonce", "The signature does not cover the nonce.",
         lambda p, n: p[:-64] + sign(KEYS.signing, PROJECT_ID, head, p[:-64])),
        ("signature-without-signer", "The signature does not cover the signer.",
         lambda p, n: p[:-64] + sign(KEYS.signing, PROJECT_ID, head, n + p[:-96])),
        ("signature-before-signer", "The signature is before the signer.",
            lambda p, n: p[:-96] + p[-64:] + p[-96:-64]),
        ("signer-replaced", "The signer was replaced by a write signer, who did not sign.",
         lambda p, n: p[:-96] + ed25519.public_key(WRITER) + p[-64:]),
        ("body-changed", "The body was changed after it was signed.",
            lambda p, n: p[:12] + bytes([p[12] ^ 1]) + p[13:]),
        ("signer-of-small-order",
            "The signer is the neutral point, with which this signature would fit any message.",
         lambda p, n: p[:-96] + IDENTITY + IDENTITY + bytes(32)),
    ]:  # fmt: skip
        cases.add(name, comment, after(change), "bad-signature")
    cases.add(
        "sealed-again",
        "The signed payload was sealed again with another nonce.",
        make(body, resealed=True),
        "bad-signature",
    )
    cases.add(
        "payload-too-short",
        "The payload is one byte too short for its fields, the signer and the signature.",
        after(lambda p, n: p[-107:]),
        "truncated",
    )
    cases.add("payload-empty", "The payload has no bytes.", after(lambda p, n: b""), "truncated")
    cases.add(
        "signer-unknown",
        "No certificate names the signer.",
        make(body, signer=STRANGER),
        "foreign",
    )
    cases.add(
        "signer-verify",
        f"A verify signer {'may' if verifiers else 'may not'} sign this kind of object.",
        make(body, signer=VERIFIER),
        shown if verifiers else "foreign",
    )
    cases.add(
        "signer-of-another-project",
        "The signer is the full signer of another project.",
        make(body, signer=OTHER_KEYS.signing),
        "foreign",
    )
    cases.add(
        "signer-write",
        f"A write signer {'may' if writers else 'may not'} sign this kind of object.",
        make(body, signer=WRITER),
        shown if writers else "foreign",
    )
    cases.add(
        "signer-write-without-certificate",
        "The certificate of the write key that signed this is missing.",
        make(body, signer=WRITER),
        "foreign",
        certificates=[],
    )
    forged = [certificate(STRANGER, signer=WRITER), *CERTIFICATES]
    cases.add("signer-certified-by-writer",
        "The certificate that names the signer is foreign: a write signer signed it.",
        make(body, signer=STRANGER), "foreign",
              certificates=forged)  # fmt: skip
    for what, field, head in [
        ("version", "another version", header(magic, version=2)),
        ("feature", "an unknown feature bit", header(magic, features=2)),
    ]:
        cases.add(
            f"{what}-of-write-signer",
            f"A write signer signed a header with {field}, so the object is foreign, not newer.",
            make(body, signer=LIMITED, head=head),
            "foreign",
        )
    cases.add("padded", "The padding has five bytes.", make(body, codec=RAW, padding=5), shown)


def feature_faults(cases: Cases, make, body: dict, writers=True):
    """Adds bodies that require a feature."""
    required = body | {"requires": ["magic"]}
    kept = {"revision": 1} if "revision" in body else {}
    cases.add(
        "requires-unknown",
        "`requires` names an unknown feature.",
        make(required),
        "unknown-feature",
    )
    cases.add("requires-unknown-first",
        "`requires` is checked before the other members, which have wrong types here.",
              make({"requires": ["magic"]} | {name: {} for name in body} | kept),
              "unknown-feature")  # fmt: skip
    cases.add(
        "requires-string",
        "`requires` is a string, not an array.",
        make(body | {"requires": "magic"}),
        "bad-value",
    )
    cases.add(
        "requires-numbers",
        "`requires` is an array of numbers, not of strings.",
        make(body | {"requires": [1]}),
        "bad-value",
    )
    if writers:
        cases.add(
            "requires-of-write-signer",
            "The signer's certificate does not list the required feature.",
            make(required, signer=WRITER),
            "foreign",
        )
        cases.add("requires-listed-of-write-signer",
            "The signer's certificate lists the required feature, which the reader does not know.",
            make(required, signer=LIMITED),
                  "unknown-feature")  # fmt: skip
