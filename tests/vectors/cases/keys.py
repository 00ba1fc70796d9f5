"""Makes the cases for the repository file, key slots and project objects."""

from cuttlebone_format import H, MIB
from write_repo import Random, header, project, repository, slot, verify_bundle, write_bundle

from .common import (
    KEYS, OTHER_KEYS, OTHER_PROJECT_ID, OTHER_PROJECT_SECRET, OTHER_SECRET, PASSWORD, PROJECT_ID,
    PROJECT_SECRET, SECRET,
    TIME, VERIFIER, WRITER, Cases,
)  # fmt: skip


def repository_file() -> Cases:
    cases = Cases(repository_secret=SECRET)
    repository_id, created = Random("repository id")(16), 1_795_219_200
    right = repository(SECRET, repository_id, created)
    fields = {"repository_id": repository_id, "created": created}
    cases.add("right", "", right, fields)
    cases.add(
        "created-largest",
        "The time is 2^64 − 1 seconds.",
        repository(SECRET, repository_id, 2**64 - 1),
        fields | {"created": 2**64 - 1},
    )
    foreign = repository(OTHER_SECRET, repository_id, created)
    cases.add("without-secret", "The reader does not know R, so it cannot check the MAC.", foreign,
        fields,
              repository_secret=None)  # fmt: skip
    cases.add("other-secret",
        "The undamaged file of another repository has the MAC of another secret.", foreign,
            "bad-mac")
    cases.headers(
        b"CTLBrepo", lambda head: repository(SECRET, repository_id, created, head=head), "bad-hash"
    )
    places = {"id": 16, "created": 32, "mac": 40, "mac-end": 71, "hash": 72, "hash-end": 103}
    cases.flips(right, places, "bad-hash")
    for what, at in ("id", 16), ("created", 39), ("mac", 40):
        body = bytearray(right[:72])
        body[at] ^= 0x80
        cases.add(
            f"forged-{what}",
            f"One bit of byte {at} is flipped, and the hash was computed again.",
            bytes(body) + H(bytes(body)),
            "bad-mac",
        )
    cases.truncated(right, [0, 7, 8, 15, 16, 39, 72, 103])
    cases.add("trailing-byte", "A byte follows the object.", right + b"\0", "trailing-bytes")
    return cases


def slots() -> Cases:
    cases = Cases(password=PASSWORD)
    info = {"label": "safe", "created": TIME, "host": "büro", "user": "ada"}
    random = Random("slots")
    bundles = {
        "repository": {"repository_secret": SECRET}, "full": {"project_secret": PROJECT_SECRET},
        "write": write_bundle(KEYS, WRITER), "verify": verify_bundle(KEYS, VERIFIER),
    }  # fmt: skip

    def make(kind="repository", password=PASSWORD, info=info, **fields):
        """`kind`: the role of a slot of the project, or `repository`."""
        if kind != "repository":
            fields = {"project_id": PROJECT_ID, "role": kind} | fields
        return slot(random, bundles[kind], password, info, **fields)

    def fields(role="repository", info=info, memory=8, passes=1, lanes=1):
        scope, bundle = int(role != "repository"), bundles[role]
        return {
            "scope": scope, "role": role if scope else "full", "memory_kib": memory,
            "passes": passes, "lanes": lanes,
            "bundle": bundle, "info": info,
        }  # fmt: skip

    right, owner = make(), {"project_id": PROJECT_ID}
    cases.add("right", "The slot opens the whole repository.", right, fields())
    for role in "full", "write", "verify":
        cases.add(f"right-project-{role}", f"The slot opens one project with the role {role}.",
            make(role), fields(role), **owner)
    odd = {"memory": 99, "passes": 3, "lanes": 4}
    cases.add("other-parameters", "Argon2id has 99 KiB, three passes and four lanes.", make(**odd),
        fields(**odd))
    cases.add("info-empty", "The info has no members: all of them may be missing.", make(info={}),
        fields(info={}))
    extra = {"label": "x", "color": ["blue", 1, None]}
    cases.add("info-unknown-member", "The info has an unknown member, which a reader ignores.",
        make(info=extra), fields(info=extra))
    cases.add("password-empty", "The password has no bytes.", make(password=b""), fields(),
        password=b"")

    cases.add("wrong-password", "The reader's password has one more byte than the right one.",
        right, "does-not-open", password=PASSWORD + b"\n")
    for role in "full", "write", "verify":
        made = make(role)
        cases.add(
            f"other-project-{role}",
            "The slot is in another project, so the owner in the associated data is wrong.",
            made,
            "does-not-open",
            project_id=OTHER_PROJECT_ID,
        )
        cases.add(f"project-{role}-slot-in-keys",
            "A slot of a project (scope 1) is in the `keys` of the repository.", made, "bad-value")
    cases.add(
        "repository-slot-in-project",
            "A slot of the repository (scope 0) is in the `keys` of a project.", right,
                "bad-value", **owner
    )
    cases.headers(b"CTLBslot", lambda head: make(info={}, head=head))
    for name, comment, wrong, kind in [
        ("scope-2", "The scope 2 is not defined.", {"scope": 2}, "bad-value"),
        ("repository-write", "A slot of the repository has the role write.",
            {"role": 1}, "bad-value"),
        ("repository-verify", "A slot of the repository has the role verify.",
            {"role": 2}, "bad-value"),
        ("derivation-0", "The key derivation 0 is not defined.", {"kdf": 0}, "bad-value"),
        ("derivation-2", "The key derivation 2 is not defined.", {"kdf": 2}, "bad-value"),
        ("zero-field", "The field at offset 19 is not zero.", {"zero": 1}, "nonzero-reserved"),
        ("memory-0", "", {"memory": 0}, "limit-exceeded"),
        ("memory-below-8-lanes", "The memory is 31 KiB, with four lanes.",
            {"memory": 31, "lanes": 4}, "limit-exceeded"),
        ("memory-over-limit", "The memory is 4,194,305 KiB.",
            {"memory": 4 * MIB + 1}, "limit-exceeded"),
        ("memory-largest", "The memory is 2^32 − 1 KiB.",
            {"memory": 2**32 - 1}, "limit-exceeded"),
        ("passes-0", "", {"passes": 0}, "limit-exceeded"),
        ("passes-over-limit", "There are 1,025 passes.", {"passes": 1025}, "limit-exceeded"),
        ("lanes-0", "", {"lanes": 0}, "limit-exceeded"),
        ("lanes-over-limit", "There are 65 lanes.",
            {"lanes": 65, "memory": 8 * 65}, "limit-exceeded"),
        ("lanes-overflow", "8 × lanes is 2^32 + 8, which 32 bits cannot hold.",
            {"lanes": 0x2000_0001}, "limit-exceeded"),
        ("bundle-length-0", "The length n is 0.", {"bundle_length": 0}, "bad-value"),
        ("bundle-length-47", "The length n is 47, not 48.", {"bundle_length": 47}, "bad-value"),
        ("bundle-length-49", "The length n is 49, not 48.", {"bundle_length": 49}, "bad-value"),
        ("bundle-length-largest", "The length n is 2^32 − 1.",
            {"bundle_length": 2**32 - 1}, "bad-value"),
        ("bundle-shorter", "The bundle has 31 bytes, not 32, and n is 47.",
            {"change": lambda plain: plain[:-1]}, "bad-value"),
        ("bundle-longer", "The bundle has 33 bytes, not 32, and n is 49.",
            {"change": lambda plain: plain + b"\0"}, "bad-value"),
        ("info-length-15", "The length m is 15, less than a tag.",
            {"length": 15}, "limit-exceeded"),
        ("info-length-0", "The length m is 0.", {"length": 0}, "limit-exceeded"),
        ("info-length-over-limit", "The length m is 65,537.",
            {"length": 65_537}, "limit-exceeded"),
    ]:  # fmt: skip
        cases.add(name, comment, make(info={}, **wrong, cost=(8, 1, 1)), kind)
    cases.add("role-3", "The role 3 is not defined.", make("full", role=3), "bad-value", **owner)
    for role, other in ("full", 1), ("write", 0), ("verify", 1), ("write", 2):
        comment = f"The bundle has the length of the role {role}, but the slot states another role."
        cases.add(f"{role}-as-role-{other}", comment, make(role, role=other), "bad-value", **owner)
    made = make("write")
    cases.add(
        "bundle-of-another-slot", "The bytes from the bundle on are those of another slot.",
            made[:136] + make("write")[136:], "does-not-open", **owner
    )
    for name, wrong in [
        ("not-json", b"{"), ("array", b"[]"), ("array-of-strings", b'["safe"]'), ("nothing", b""),
        ("not-utf8", b'{"label": "\xff"}'), ("two-values", b"{}{}"),
        ("number", b'{"label": 1, "host": "h"}'),
        ("null", b'{"label": null, "host": "h"}'),
        ("member-twice", b'{"label": "a", "label": "a"}'),
    ]:  # fmt: skip
        cases.add(f"info-{name}", "The info is not an object of strings, so it counts as empty.",
            make(info=wrong), fields(info={}))
    end, sealed_length = 164 + 48, len(right) - 164 - 48 - 28
    cases.add(
        "info-length-short",
        "The stated m is one byte less than the length of the info.",
        make(length=sealed_length - 1),
        "trailing-bytes",
    )
    cases.add(
        "info-length-long",
        "The stated m is one byte more than the length of the info.",
        make(length=sealed_length + 1),
        "truncated",
    )
    cases.truncated(right, [0, 15, 16, 63, 87, 88, 135, 163, 164, end - 1, end, end + 27, -1])
    cases.add("trailing-byte", "A byte follows the object.", right + b"\0", "trailing-bytes")
    cases.flips(right, {"salt": 32, "nonce": 64, "slot-key": 88, "slot-key-tag": 135,
        "bundle-nonce": 136,
                        "bundle": 164, "bundle-tag": end - 1})  # fmt: skip
    places = {"info-nonce": end, "info": end + 28, "info-tag": len(right) - 1}
    cases.flips(right, places, fields(info={}))
    changed = bytearray(right)
    changed[24] = 2
    cases.add("changed-passes", "The number of passes was changed after the slot key was sealed.",
        bytes(changed), "does-not-open")
    other = make()
    cases.add(
        "info-of-another-slot",
        "The info is that of another slot, so it does not open and counts as empty.",
        right[:end] + other[end:],
        fields(info={}),
    )
    cases.add("other-name", "The name of the file is not the hash of its bytes.", right,
        "bad-hash", name=H(b""))
    return cases


def projects() -> Cases:
    everything = {"repository_secret": SECRET}
    cases = Cases(project_id=PROJECT_ID, bundle=everything)
    random = Random("projects")

    def make(keys=KEYS, **fields):
        return project(random, SECRET, keys, PROJECT_SECRET, **fields)

    public = {"signing_public": KEYS.signing_public, "data_public": KEYS.data_public}
    right, full = make(), public | {"project_secret": PROJECT_SECRET}
    assert len(right) == 1400
    cases.add("right", "", right, full)
    own = {"project_secret": PROJECT_SECRET}
    cases.add("with-project-secret", "The reader has P from a slot of the project.", right, full,
        bundle=own)
    write, verify = write_bundle(KEYS, WRITER), verify_bundle(KEYS, VERIFIER)
    cases.add("with-write-key", "The reader has the bundle of a write key.", right, public,
        bundle=write)
    cases.add("with-verify-key", "The reader has the bundle of a verify key.", right, public,
        bundle=verify)

    cases.add(
        "other-secret",
        "The reader has the secret of another repository.",
        right,
        "does-not-open",
        bundle={"repository_secret": OTHER_SECRET},
    )
    cases.add(
        "other-id",
        "The object is in the directory of another project.",
        right,
        "does-not-open",
        project_id=OTHER_PROJECT_ID,
    )
    for name, bundle in ("full", own), ("write", write), ("verify", verify):
        cases.add(f"other-id-{name}",
            "The object is in the directory of another project. Its signature covers the id.",
                right,
                "bad-signature",
            project_id=OTHER_PROJECT_ID,
                  bundle=bundle)  # fmt: skip
    cases.add(
        "other-project-secret",
        "The reader has the secret of another project.",
        right,
        "bad-key",
        bundle={"project_secret": OTHER_PROJECT_SECRET},
    )
    for role, key, bundle in [
        ("write", "signing", write | {"signing_public": OTHER_KEYS.signing_public}),
        ("write", "data", write | {"data_public": OTHER_KEYS.data_public}),
        ("verify", "signing", verify | {"signing_public": OTHER_KEYS.signing_public}),
    ]:
        comment = f"The bundle of the {role} key has another {key} public key than the object."
        cases.add(f"{role}-other-{key}-key", comment, right, "bad-key", bundle=bundle)
    cases.headers(b"CTLBproj", lambda head: make(head=head))
    for name, comment, wrong in [
        (
            "signing-key-replaced",
            "The object has another signing public key, and was signed with that key.",
            {"signing": OTHER_KEYS.signing_public, "signer": OTHER_KEYS.signing},
        ),
        (
            "data-key-replaced",
            "The object has another data public key. The signature is right.",
            {"public": OTHER_KEYS.data_public},
        ),
    ]:
        cases.add(name, comment, make(**wrong), "bad-key")
    cases.add(
        "signed-by-another",
        "The full key of another project signed the object.",
        make(signer=OTHER_KEYS.signing),
        "bad-signature",
    )
    cases.add(
        "signed-by-writer",
        "A write key signed the object.",
        make(signer=WRITER),
        "bad-signature",
    )
    replaced = make(public=OTHER_KEYS.data_public, signer=WRITER)
    cases.add(
        "data-key-replaced-verify",
        "A verify key does not have the data public key, so only the signature shows the change.",
        replaced,
        "bad-signature",
        bundle=verify,
    )
    cases.flips(right, {"nonce": 16, "secret": 40, "secret-tag": 87})
    cases.flips(right, {"signing-key": 88, "data-key": 120, "data-key-end": 1335}, "bad-key")
    cases.flips(right, {"signature": 1336, "signature-end": 1399}, "bad-signature")
    for what, at in ("nonce", 16), ("secret", 40):
        wrong = right[:at] + bytes([right[at] ^ 1]) + right[at + 1 :]
        comment = f"One bit of byte {at} is flipped. A write key sees it by the signature."
        cases.add(f"flip-{what}-write", comment, wrong, "bad-signature", bundle=write)
    cases.truncated(right, [0, 15, 39, 87, 119, 1335, -1])
    cases.add("trailing-byte", "A byte follows the object.", right + b"\0", "trailing-bytes")
    cases.add("signature-of-another", "The signature is that of another project object.",
        right[:-64] + make()[-64:], "bad-signature")
    return cases
