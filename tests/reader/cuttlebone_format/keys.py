"""The keys of a project that a role holds, and the project's signers."""

import functools
import re
from dataclasses import dataclass, field

from . import ed25519
from .crypto import H, MAC, derive, session_key, x_wing_decapsulate, x_wing_public
from .fields import FormatError, require

FULL, WRITE, VERIFY = "full", "write", "verify"
ROLES = FULL, WRITE, VERIFY
CHUNK, NODE = 1, 2
FROM_R = "repository file", "project wrap", "slot info"
FROM_M = "object", "contents", "tree", "node id", "root", "slot info"


@dataclass(frozen=True)
class ProjectKeys:
    """Keys that a role does not hold are None."""

    id: bytes
    metadata: bytes
    signing_public: bytes
    chunks: bytes | None = None
    data: bytes | None = None
    data_public: bytes | None = None
    signing: bytes | None = None
    """The seed that the role signs with."""

    @functools.cached_property
    def object(self):
        return derive("object", self.metadata)

    @functools.cached_property
    def contents(self):
        return derive("contents", self.metadata)

    @functools.cached_property
    def tree(self):
        return derive("tree", self.metadata)

    @functools.cached_property
    def blob_keys(self):
        return {
            CHUNK: self.chunks and derive("chunk id", self.chunks),
            NODE: derive("node id", self.metadata),
        }

    @functools.cached_property
    def x_wing_seed(self):
        return derive("x-wing", self.data)

    def blob_id(self, kind: int, plain: bytes) -> bytes:
        key = self.blob_keys[kind]
        require(key is not None, "no-key", "this role does not hold the key of chunk ids")
        return MAC(key, plain)

    def pack_key(self, kind: int, encapsulation: bytes | None) -> bytes:
        """Returns the key `k` of section 8 of docs/format.md. `encapsulation` is None if the pack
        has no session."""
        if kind == NODE:
            return self.tree
        require(self.data is not None, "no-key", "this role cannot open chunks")
        return self.data if encapsulation is None else self.session_key(encapsulation)

    @functools.lru_cache(maxsize=64)  # noqa: B019
    def session_key(self, encapsulation: bytes) -> bytes:
        shared = x_wing_decapsulate(self.x_wing_seed, encapsulation)
        return session_key(shared, encapsulation, self.data_public, self.id)


def report_public(seed: bytes) -> bytes:
    """Returns the public key, in minisign's form, of reports that the holder of `seed` signs."""
    key = ed25519.public_key(derive("reports", seed))
    return b"Ed" + H(key)[:8] + key


def derive_repository(secret: bytes) -> dict[str, bytes]:
    return {words: derive(words, secret) for words in FROM_R}


@functools.lru_cache(maxsize=16)
def full_keys(project_id: bytes, secret: bytes) -> ProjectKeys:
    data, signing = derive("data", secret), derive("signing", secret)
    return ProjectKeys(
        project_id, derive("metadata", secret), ed25519.public_key(signing),
        derive("chunk ids", secret), data,
        x_wing_public(derive("x-wing", data)), signing,
    )  # fmt: skip


# ---- Section 7: who may sign what --------------------------------------------------------------


def fits_pattern(pattern: str, name: str) -> bool:
    parts = {"*": ".*", "?": "."}
    return bool(
        re.fullmatch("".join(parts.get(c) or re.escape(c) for c in pattern), name, re.DOTALL)
    )


@dataclass
class Signers:
    """The signers of a project. `certificates`: name → decoded certificate, all of them valid."""

    authority: bytes
    certificates: dict[bytes, dict] = field(default_factory=dict)
    revoked: dict[bytes, list[bytes]] = field(default_factory=dict)
    """Maps a revoked signer to its records that still count."""

    def of(self, signer: bytes, role=WRITE) -> list[bytes]:
        """Returns the names of the signer's certificates of this role."""
        return [
            name
            for name, certificate in self.certificates.items()
            if certificate["role"] == role and certificate["signer"] == signer.hex()
        ]

    def may_sign(self, signer: bytes, roles) -> str:
        """Returns the signer's role. Fails if it is not one of `roles`."""
        held = [FULL] if signer == self.authority else []
        held += [role for role in (WRITE, VERIFY) if self.of(signer, role)]
        role = held[0] if held else None
        require(role in roles, "foreign", f"the signer {signer.hex()[:16]} may not sign this")
        return role

    def is_revoked(self, signer: bytes) -> bool:
        return signer != self.authority and signer in self.revoked

    def accepted(self, signer: bytes) -> set[bytes]:
        """Returns the records that the revocations of this signer name as accepted."""
        return set(self.revoked.get(signer, []))

    def check_features(self, signer: bytes, names: list[str]):
        """Fails for any feature, since this reader knows none."""
        for name in names:
            listed = signer == self.authority or any(
                name in (self.certificates[certificate].get("features") or [])
                for certificate in self.of(signer)
            )
            require(listed, "foreign", f"its signer may not require {name}")
            raise FormatError("unknown-feature", f"requires {name}")

    def check_volume(self, signer: bytes, volume: str):
        patterns = [self.certificates[name].get("volumes") for name in self.of(signer)]
        fits = signer == self.authority or any(
            not some or any(fits_pattern(pattern, volume) for pattern in some) for some in patterns
        )
        require(fits, "foreign", f"its signer may not back up {volume}")
