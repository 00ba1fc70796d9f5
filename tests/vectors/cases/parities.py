"""Makes the cases of `parity.json`."""

from cuttlebone_format import parity
from cuttlebone_format.crypto import H

SIZE, GROUPS, PER_GROUP = 64, 3, 2
CONTENT = b"".join(H(bytes([number])) for number in range(21)) + b"the end"


def header(
    length=len(CONTENT), shard=SIZE, groups=GROUPS, per_group=PER_GROUP, start=None, zeros=bytes(3)
) -> bytes:
    fields = (start or parity.MAGIC + bytes([1]) + bytes(7)) + bytes([3]) + zeros
    fields += shard.to_bytes(4, "little") + length.to_bytes(8, "little") + H(CONTENT)
    fields += groups.to_bytes(4, "little") + per_group.to_bytes(4, "little")
    return fields + H(fields)[:24]


def encode(content: bytes, ends: bytes) -> bytes:
    """Computes each parity shard by the formula in docs/format.md, section 24."""
    count = -(-len(content) // SIZE)
    padded = content.ljust(count * SIZE, b"\0")
    data = [padded[at : at + SIZE] for at in range(0, len(padded), SIZE)]
    f, shards = parity.field(), [b""] * (GROUPS * PER_GROUP)
    for group in range(GROUPS):
        members = data[group::GROUPS]
        m, factors = parity.factors(PER_GROUP, len(members))
        for row in range(PER_GROUP):
            total = [0] * (SIZE // 2)
            for place, shard in enumerate(members):
                factor = f.div(factors[place // m], row ^ m + place)
                for at, value in enumerate(parity.symbols(shard)):
                    total[at] ^= f.mul(factor, value)
            shards[row * GROUPS + group] = parity.joined_symbols(total)
    hashes = b"".join(parity.shard_hash(shard) for shard in data + shards)
    return ends + hashes + b"".join(shards) + hashes + ends


def changed(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def parities():
    good = encode(CONTENT, header())
    bad = b"\xff" * SIZE

    def case(name, left, made=good, error=None, comment=""):
        expect = {"error": error} if error else {"ok": {"restored": CONTENT.hex()}}
        inputs = {"protects": H(CONTENT).hex(), "left": left.hex()}
        said = {"comment": comment} if comment else {}
        return {"name": name, **said, "inputs": inputs, "object": made.hex(), "expect": expect}

    yield case("undamaged", CONTENT)
    yield case("one flipped bit", changed(CONTENT, 100, bytes([CONTENT[100] ^ 1])))
    six = changed(CONTENT, 0, bad * 6)
    yield case("as many lost shards as there are parity shards", six,
        comment="Of each of the three groups, two data shards are lost.")
    yield case("cut short", CONTENT[:330],
        comment="Only the first 330 bytes of the protected object are left.")
    yield case("extended", CONTENT + b"more", comment="Four bytes follow the protected object.")
    yield case("last shard lost", changed(CONTENT, len(CONTENT) - 7, b"THE END"),
        comment="The last shard, which is padded with zeros, is damaged.")
    yield case("one more lost shard", changed(CONTENT, 0, bad * 7), error="missing",
        comment="Of one group, three data shards are lost, but it has two parity shards.")
    three = changed(changed(changed(CONTENT, 0, bad), 192, bad), 384, bad)
    yield case("three lost shards of one group", three, error="missing",
        comment="Of one group, three data shards are lost, and none of the others.")
    yield case("nothing left", b"", error="missing",
        comment="No byte of the protected object is left.")
    one = changed(CONTENT, 0, bad)
    yield case("first header damaged", one, changed(good, 40, b"\0"),
        comment="A data shard is lost, and the parity object has a damaged first header.")
    yield case("second header damaged", one, changed(good, len(good) - 60, b"\0"),
        comment="A data shard is lost, and the parity object has a damaged last header.")
    yield case("a hash in the first list damaged", one, changed(good, 96 + 8, bytes(8)),
        comment="A data shard is lost, and the first list has a wrong hash of another one.")
    last_list = len(good) - 96 - 17 * 8
    yield case("a hash in the second list damaged", one, changed(good, last_list + 8, bytes(8)),
        comment="A data shard is lost, and the second list has a wrong hash of another one.")
    yield case("a parity shard damaged", one, changed(good, 96 + 17 * 8 + 5, b"\0\0"),
        comment="A data shard and a parity shard of its group are damaged.")
    yield case("parity cut short", one, good[: 96 + 17 * 8 + 6 * 64],
        comment="A data shard is lost, and the parity object ends after its parity shards.")
    yield case("cut short in the first list", CONTENT, good[: 96 + 17 * 8 - 1], "truncated",
        comment="The parity object ends in its first list of hashes.")
    both = changed(changed(good, 40, b"\0"), len(good) - 60, b"\0")
    yield case("both headers damaged", CONTENT, both, "bad-hash")
    other = changed(CONTENT, 3, b"\0")
    yield case("parity of other bytes", CONTENT, encode(other, header()), "bad-hash",
        comment="The parity object was made from other bytes than it states.")
    yield case("empty", CONTENT, b"", "truncated")
    magic = b"CTLBpack" + bytes([1]) + bytes(7)
    yield case("wrong magic", CONTENT, encode(CONTENT, header(start=magic)), "bad-magic")
    version = parity.MAGIC + bytes([2]) + bytes(7)
    yield case("version 2", CONTENT, encode(CONTENT, header(start=version)), "bad-version")
    feature = parity.MAGIC + bytes([1]) + bytes(6) + b"\x01"
    yield case("a feature", CONTENT, encode(CONTENT, header(start=feature)), "unknown-feature")
    zeros = header(zeros=b"\0\1\0")
    yield case("reserved bytes", CONTENT, encode(CONTENT, zeros), "nonzero-reserved")
    for name, comment, fields in [
        ("shards of 32 bytes", "", {"shard": 32}),
        ("shards of 96 bytes", "The length of a shard is not a power of two.", {"shard": 96}),
        ("shards of 128 KiB", "", {"shard": 131072}),
        ("no length", "The stated length of the protected object is 0.", {"length": 0}),
        ("more than 256 MiB", "The stated length of the protected object is above 256 MiB.",
            {"length": (256 << 20) + 1, "shard": 65536, "groups": 4096}),
        ("no groups", "The stated number of groups is 0.", {"groups": 0}),
        ("more groups than shards", "The header states 12 groups, but there are 11 data shards.",
            {"groups": 12}),
        ("no parity shards", "Each group has 0 parity shards.", {"per_group": 0}),
        ("too many parity shards", "Each group has 4,097 parity shards.", {"per_group": 4097}),
        ("too many data shards", "With the stated length, a group has more than 4,096 data shards.",
            {"length": 1 << 20}),
    ]:  # fmt: skip
        made = encode(CONTENT, header(**fields))
        yield case(name, CONTENT, made, "bad-value", comment)
