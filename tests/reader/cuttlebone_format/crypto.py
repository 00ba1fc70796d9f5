"""Cryptography: section 2 of docs/format.md."""

import functools
import hashlib

import zstandard
from argon2.low_level import Type as Argon2Type, hash_secret_raw
from blake3 import blake3
from kyber_py.ml_kem import ML_KEM_768
from nacl.bindings import (
    crypto_aead_chacha20poly1305_ietf_decrypt,
    crypto_aead_chacha20poly1305_ietf_encrypt,
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_scalarmult,
    crypto_scalarmult_base,
)
from nacl.exceptions import CryptoError

from . import ed25519
from .fields import FormatError, require

TAG, NONCE, SIGNATURE = 16, 24, 64
RAW, ZSTD = 0, 1
DATA_PUBLIC_KEY, ENCAPSULATION = 1216, 1120
SIGNED = b"cuttlebone 2026-11-21 signed\0"


def H(data: bytes) -> bytes:
    return blake3(data).digest()


def MAC(key: bytes, data: bytes) -> bytes:
    return blake3(data, key=key).digest()


def derive(words: str, secret: bytes) -> bytes:
    return blake3(secret, derive_key_context="cuttlebone 2026-11-21 " + words).digest()


def seal(key: bytes, random: bytes, ad: bytes, plain: bytes) -> bytes:
    """Returns nonce and ciphertext. `random`: 32 bytes."""
    nonce = MAC(derive("nonce", key), random + ad + plain)[:NONCE]
    return nonce + crypto_aead_xchacha20poly1305_ietf_encrypt(plain, ad, nonce, key)


def seal_signed(key: bytes, random: bytes, ad: bytes, plain: bytes, end) -> bytes:
    """Returns nonce and ciphertext of `end(plain, nonce)`. Usually, `end` appends to `plain` a
    signature of `plain` and the nonce. The nonce depends on `plain`."""
    nonce = MAC(derive("nonce", key), random + ad + plain)[:NONCE]
    plain = end(plain, nonce)
    return nonce + crypto_aead_xchacha20poly1305_ietf_encrypt(plain, ad, nonce, key)


def unseal(key: bytes, nonce: bytes, ad: bytes, sealed: bytes, what: str) -> bytes:
    return opened(crypto_aead_xchacha20poly1305_ietf_decrypt, key, nonce, ad, sealed, what)


def seal_run(key: bytes, ad: bytes, plain: bytes) -> bytes:
    return crypto_aead_chacha20poly1305_ietf_encrypt(plain, ad, bytes(12), key)


def unseal_run(key: bytes, ad: bytes, sealed: bytes, what: str) -> bytes:
    return opened(crypto_aead_chacha20poly1305_ietf_decrypt, key, bytes(12), ad, sealed, what)


def opened(cipher, key, nonce, ad, sealed, what):
    require(len(sealed) >= TAG, "truncated", f"{what} is shorter than a tag")
    try:
        return cipher(sealed, ad, nonce, key)
    except CryptoError:
        raise FormatError("does-not-open", f"{what} does not open") from None


def argon2id(password: bytes, salt: bytes, memory_kib: int, passes: int, lanes: int) -> bytes:
    return hash_secret_raw(
        password, salt, passes, memory_kib, lanes, hash_len=32, type=Argon2Type.ID, version=0x13
    )


def check_name(data: bytes, name: bytes | None):
    """Refuses bytes whose hash is not `name`, which is None if the object has another name."""
    require(
        name is None or H(data) == name, "bad-hash", "the bytes do not hash to the object's name"
    )


# ---- Signatures --------------------------------------------------------------------------------


def signed(project_id: bytes, header: bytes, data: bytes) -> bytes:
    return SIGNED + project_id + header + H(data)


def sign(seed: bytes, project_id: bytes, header: bytes, data: bytes) -> bytes:
    return ed25519.sign(seed, signed(project_id, header, data))


def check_signature(signer: bytes, project_id: bytes, header: bytes, data: bytes, signature: bytes):
    right = ed25519.verify(signer, signed(project_id, header, data), signature)
    require(right, "bad-signature", "the signature is not valid")


# ---- X-Wing ------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=16)
def x_wing_keys(seed: bytes) -> tuple[bytes, bytes, bytes]:
    """Returns the public key, the private key of ML-KEM, and the private key of X25519."""
    expanded = hashlib.shake_256(seed).digest(96)
    public, private = ML_KEM_768.key_derive(expanded[:64])
    return public + crypto_scalarmult_base(expanded[64:]), private, expanded[64:]


def x_wing_public(seed: bytes) -> bytes:
    return x_wing_keys(seed)[0]


def x_wing_secret(first: bytes, second: bytes, ciphertext: bytes, public: bytes) -> bytes:
    return hashlib.sha3_256(first + second + ciphertext[-32:] + public[-32:] + b"\\.//^\\").digest()


def x_wing_decapsulate(seed: bytes, ciphertext: bytes) -> bytes:
    public, private, scalar = x_wing_keys(seed)
    first = ML_KEM_768.decaps(private, ciphertext[:-32])
    return x_wing_secret(first, x25519(scalar, ciphertext[-32:]), ciphertext, public)


def x25519(scalar: bytes, point: bytes) -> bytes:
    """Returns the shared secret, which is zeros for a point of small order."""
    try:
        return crypto_scalarmult(scalar, point)
    except (CryptoError, RuntimeError):
        return bytes(32)


def x_wing_encapsulate(public: bytes, random: bytes) -> tuple[bytes, bytes]:
    """Returns the ciphertext and the shared secret. `random`: 64 bytes."""
    first, ciphertext = ML_KEM_768._encaps_internal(public[:-32], random[:32])
    ciphertext += crypto_scalarmult_base(random[32:])
    return ciphertext, x_wing_secret(
        first, crypto_scalarmult(random[32:], public[-32:]), ciphertext, public
    )


def session_key(shared: bytes, ciphertext: bytes, public: bytes, project_id: bytes) -> bytes:
    return derive("session", shared + H(ciphertext) + H(public) + project_id)


# ---- Compression -------------------------------------------------------------------------------


def decompress(codec: int, stored: bytes, length: int) -> bytes:
    """Decodes one run or body. Fails unless the result has exactly `length` bytes."""
    if codec == ZSTD:
        try:
            require(stored[:4] == b"\x28\xb5\x2f\xfd", "bad-codec", "is no Zstandard frame")
            frame = zstandard.get_frame_parameters(stored)
            stated = frame.content_size
            require(frame.dict_id == 0, "bad-codec", "the frame wants a dictionary")
            require(
                stated in (length, zstandard.CONTENTSIZE_UNKNOWN),
                "bad-length",
                "frame of another length",
            )
            bounded = zstandard.ZstdDecompressor().stream_reader(stored)
            require(
                len(bounded.read(length + 1)) <= length, "bad-length", "decodes to more than stated"
            )
            # The stream reader also accepts an incomplete frame, or several frames. Refuse these.
            frame = zstandard.ZstdDecompressor().decompressobj()
            plain = frame.decompress(stored)
            require(frame.eof and not frame.unused_data, "bad-codec", "is not one whole frame")
            require(len(plain) == length, "bad-length", "decodes to less than stated")
            return plain
        except zstandard.ZstdError as error:
            raise FormatError("bad-codec", f"does not decompress: {error}") from None
    require(len(stored) == length, "bad-length", "a raw body of another length than stated")
    return stored
