"""Ed25519 (RFC 8032), verified strictly as section 2 of docs/format.md says.

libsodium multiplies by the cofactor, so it accepts signatures that the format forbids. So libsodium
is used only to sign, and plain Python verifies signatures.
"""

import functools
import hashlib

from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
SQRT_MINUS_ONE = pow(2, (P - 1) // 4, P)
NEUTRAL = 0, 1, 1, 0


def add(a, b):
    """Adds points in extended coordinates (x, y, z, x·y)."""
    m, n = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    c, d = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = n - m, d - c, d + c, n + m
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(number: int, point):
    total = NEUTRAL
    while number:
        if number & 1:
            total = add(total, point)
        point, number = add(point, point), number >> 1
    return total


def times_two(first: int, a, second: int, b):
    """Returns first·a + second·b."""
    table, total = (NEUTRAL, a, b, add(a, b)), NEUTRAL
    for bit in reversed(range(max(first.bit_length(), second.bit_length()))):
        total = add(total, total)
        if place := first >> bit & 1 | (second >> bit & 1) << 1:
            total = add(total, table[place])
    return total


def same(a, b) -> bool:
    return (a[0] * b[2] - b[0] * a[2]) % P == 0 and (a[1] * b[2] - b[1] * a[2]) % P == 0


def negate(point):
    return P - point[0], point[1], point[2], P - point[3]


def decode(data: bytes):
    """Returns the point, or None if the bytes are not the canonical form of one."""
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * SQRT_MINUS_ONE % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


def encode(point) -> bytes:
    scale = pow(point[2], -1, P)
    x, y = point[0] * scale % P, point[1] * scale % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


BASE = decode(bytes([0x58]) + bytes([0x66]) * 31)


def is_small(point) -> bool:
    return same(times(8, point), NEUTRAL)


def challenge(r: bytes, key: bytes, message: bytes) -> int:
    return int.from_bytes(hashlib.sha512(r + key + message).digest(), "little") % ORDER


@functools.lru_cache(maxsize=64)
def decode_key(key: bytes):
    point = decode(key)
    return None if point is None or is_small(point) else point


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    public, commitment = decode_key(key), decode(r)
    if s >= ORDER or public is None or commitment is None or is_small(commitment):
        return False
    return same(times_two(s, BASE, challenge(r, key, message), negate(public)), commitment)


def public_key(seed: bytes) -> bytes:
    return crypto_sign_seed_keypair(seed)[0]


def sign(seed: bytes, message: bytes) -> bytes:
    return crypto_sign(message, crypto_sign_seed_keypair(seed)[1])[:64]


def scalar_of(seed: bytes) -> int:
    return int.from_bytes(hashlib.sha512(seed).digest()[:32], "little") & (1 << 254) - 8 | 1 << 254


def sign_with(scalar: int, nonce: int, key: bytes, message: bytes, torsion=NEUTRAL) -> bytes:
    """Makes a signature for a test vector. It may be invalid: `key` may belong to another scalar,
    and `torsion` is added to the commitment."""
    r = encode(add(times(nonce, BASE), torsion))
    return r + ((nonce + challenge(r, key, message) * scalar) % ORDER).to_bytes(32, "little")
