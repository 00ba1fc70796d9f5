"""Parity (section 24 of docs/format.md): restores a damaged object from its parity object."""

from typing import NamedTuple

import xxhash

from .crypto import H
from .fields import FormatError, check_header, require

MAGIC = b"CTLBpari"
HEADER_LEN = 96
SUM = 8  # the length of the hash of a shard
SIZE_MAX = 256 << 20
GROUP_MAX = 4096

POLYNOMIAL = 0x1002D
BASIS = (
    0x0001, 0xACCA, 0x3C0E, 0x163E, 0xC582, 0xED2E, 0x914C, 0x4012,
    0x6C98, 0x10D8, 0x6A72, 0xB900, 0xFDB8, 0xFB34, 0xFF38, 0x991E,
)  # fmt: skip


class Parity(NamedTuple):
    """The fields of a header."""

    kind: int
    shard_length: int
    length: int
    protects: bytes
    groups: int
    per_group: int

    @property
    def data(self) -> int:
        """The number of data shards."""
        return -(-self.length // self.shard_length)

    @property
    def parity(self) -> int:
        """The number of parity shards."""
        return self.groups * self.per_group

    @property
    def object_length(self) -> int:
        return 2 * (HEADER_LEN + SUM * (self.data + self.parity)) + self.parity * self.shard_length


def shard_hash(shard: bytes) -> bytes:
    """Returns the hash of a shard: XXH3 with 64 bits and the seed 0, little-endian."""
    return xxhash.xxh3_64_intdigest(shard, seed=0).to_bytes(SUM, "little")


class Field:
    """The field of 65,536 elements. The bits of a number name basis elements; their sum is the
    element that the number stands for."""

    def __init__(self) -> None:
        power, value = [], 1
        for _ in range(65535):
            power.append(value)
            value = value << 1 ^ (POLYNOMIAL if value & 0x8000 else 0)
        element = [0] * 65536
        for bits in range(1, 65536):
            low = bits & -bits
            element[bits] = element[bits ^ low] ^ BASIS[low.bit_length() - 1]
        bits_of = [0] * 65536
        for bits, value in enumerate(element):
            bits_of[value] = bits
        self.exp = [bits_of[value] for value in power] * 2
        self.log = [0] * 65536
        for exponent, value in enumerate(power):
            self.log[bits_of[value]] = exponent

    def mul(self, a: int, b: int) -> int:
        return self.exp[self.log[a] + self.log[b]] if a and b else 0

    def div(self, a: int, b: int) -> int:
        return self.exp[self.log[a] - self.log[b] + 65535] if a else 0


_field: list[Field] = []


def field() -> Field:
    """Returns the field. Makes its tables only once."""
    if not _field:
        _field.append(Field())
    return _field[0]


def symbols(shard: bytes) -> list[int]:
    """Returns the symbols of a shard: in each 64 bytes, 32 low bytes, and then 32 high bytes."""
    return [
        shard[block + at] | shard[block + 32 + at] << 8
        for block in range(0, len(shard), 64)
        for at in range(32)
    ]


def joined_symbols(values: list[int]) -> bytes:
    out = bytearray()
    for block in range(0, len(values), 32):
        out += bytes(value & 255 for value in values[block : block + 32])
        out += bytes(value >> 8 for value in values[block : block + 32])
    return bytes(out)


def factors(per_group: int, data: int) -> tuple[int, list[int]]:
    """Returns `m` and the factor `w` of each chunk of `m` data shards."""
    f, m = field(), 1 << (per_group - 1).bit_length()
    below = 1
    for value in range(1, m):
        below = f.mul(below, value)
    result = []
    for chunk in range(-(-data // m)):
        product = 1
        for place in range(m):
            product = f.mul(product, m * (chunk + 1) ^ place)
        result.append(f.div(product, below))
    return m, result


def decode_header(data: bytes) -> Parity:
    require(len(data) == HEADER_LEN, "truncated", "no room for a header")
    require(data[:8] == MAGIC, "bad-magic", "not parity")
    require(H(data[:72])[:24] == data[72:], "bad-hash", "the header is damaged")
    check_header(data[:16])
    require(data[17:20] == bytes(3), "nonzero-reserved", "bytes that should be zero")

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], "little")

    found = Parity(
        data[16], number(20, 4), number(24, 8), data[32:64], number(64, 4), number(68, 4)
    )
    length = found.shard_length
    require(
        64 <= length <= 65536 and length & (length - 1) == 0
        and 0 < found.length <= SIZE_MAX
        and 0 < found.groups <= found.data
        and 0 < found.per_group <= GROUP_MAX
        and -(-found.data // found.groups) <= GROUP_MAX
        and found.parity * length <= SIZE_MAX,
        "bad-value",
        "impossible numbers",
    )  # fmt: skip
    return found


def read_parity(data: bytes) -> Parity:
    """Returns the fields of the first header, or of the second one if the first is damaged."""
    found = read_header(data)
    lists = SUM * (found.data + found.parity)
    require(len(data) >= HEADER_LEN + lists, "truncated", "the list is cut short")
    return found


def read_header(data: bytes) -> Parity:
    try:
        return decode_header(data[:HEADER_LEN])
    except FormatError as error:
        try:
            found = decode_header(data[-HEADER_LEN:])
        except FormatError:
            raise error from None
        if found.object_length != len(data):
            raise
        return found


def restore_with_parity(name: bytes, data: bytes, parity: bytes) -> bytes:
    """Restores the object `name` from its damaged bytes, `data`, and its parity object."""
    head = read_parity(parity)
    require(head.protects == name, "bad-value", "parity of another object")
    size, count = head.shard_length, head.data
    table = SUM * (count + head.parity)
    second = head.object_length - HEADER_LEN - table

    def is_whole(shard: int, content: bytes) -> bool:
        found = shard_hash(content)
        starts = [start + shard * SUM for start in (HEADER_LEN, second)]
        return any(parity[start : start + SUM] == found for start in starts)

    shards: list[bytes | None] = []
    for shard in range(count):
        content = data[shard * size : min((shard + 1) * size, head.length)].ljust(size, b"\0")
        shards.append(content if is_whole(shard, content) else None)
    for group in range(head.groups):
        members = list(range(group, count, head.groups))
        lost = [place for place, shard in enumerate(members) if shards[shard] is None]
        if not lost:
            continue
        found = []
        for place in range(head.per_group):
            number = place * head.groups + group
            start = HEADER_LEN + table + number * size
            content = parity[start : start + size]
            if len(content) == size and is_whole(count + number, content):
                found.append((place, symbols(content)))
        require(len(found) >= len(lost), "missing", "too much is damaged")
        solved = solve(head.per_group, [shards[shard] for shard in members], lost, found)
        for place, content in zip(lost, solved, strict=True):
            shards[members[place]] = content
    whole = b"".join(shard for shard in shards if shard is not None)[: head.length]
    require(H(whole) == name, "bad-hash", "the restored bytes have another hash")
    return whole


def solve(per_group: int, group: list[bytes | None], lost: list[int], found: list) -> list[bytes]:
    """Solves the linear equations of a group for its lost data shards."""
    f = field()
    m, chunk_factors = factors(per_group, len(group))

    def entry(row: int, place: int) -> int:
        return f.div(chunk_factors[place // m], row ^ m + place)

    rows = []
    for row, values in found[: len(lost)]:
        left = list(values)
        for place, shard in enumerate(group):
            if shard is not None:
                factor = entry(row, place)
                for at, value in enumerate(symbols(shard)):
                    left[at] ^= f.mul(factor, value)
        rows.append(([entry(row, place) for place in lost], left))
    for step in range(len(lost)):
        pivot = next(at for at in range(step, len(rows)) if rows[at][0][step])
        rows[step], rows[pivot] = rows[pivot], rows[step]
        scale = rows[step][0][step]
        rows[step] = tuple([f.div(value, scale) for value in part] for part in rows[step])
        for at, (factors_of_row, left) in enumerate(rows):
            factor = factors_of_row[step]
            if at != step and factor:
                own = rows[step]
                rows[at] = (
                    [a ^ f.mul(factor, b) for a, b in zip(factors_of_row, own[0], strict=True)],
                    [a ^ f.mul(factor, b) for a, b in zip(left, own[1], strict=True)],
                )
    return [joined_symbols(left) for _, left in rows]


__all__ = ["read_parity", "restore_with_parity"]
