"""Errors, and fields of fixed width."""

KIB, MIB = 1 << 10, 1 << 20
VERSION = 1


class FormatError(Exception):
    def __init__(self, kind: str, text: str):
        super().__init__(f"{text} ({kind})")
        self.kind = kind


def require(condition, kind: str, text: str):
    if not condition:
        raise FormatError(kind, text)


class Fields:
    """Takes fields from the beginning of `data`, in order."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def take(self, size: int) -> bytes:
        require(self.at + size <= len(self.data), "truncated", f"ends before byte {self.at + size}")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def bounded(self, size: int, low: int, high: int, what: str) -> int:
        number = self.number(size)
        require(low <= number <= high, "limit-exceeded", f"{what} is {number}, not {low} to {high}")
        return number

    def one_of(self, size: int, allowed, what: str, kind="bad-value") -> int:
        number = self.number(size)
        require(number in allowed, kind, f"{what} is {number}")
        return number

    def zeros(self, size: int):
        require(not any(self.take(size)), "nonzero-reserved", "a zero field is not zero")

    def left(self) -> int:
        return len(self.data) - self.at

    def rest(self) -> bytes:
        return self.take(self.left())

    def end(self):
        require(self.at == len(self.data), "trailing-bytes", "bytes follow the end of the object")


# ---- Section 3: object header ------------------------------------------------------------------


def take_magic(fields: Fields, magic: bytes) -> bytes:
    """Takes a header and returns it. Checks only its magic, since the rest is not verified yet."""
    start = fields.at
    require(fields.take(8) == magic, "bad-magic", f"is no {magic.decode()} object")
    fields.take(8)
    return fields.data[start : fields.at]


def check_header(header: bytes):
    """Refuses a header of a later version. Call this only for verified bytes."""
    fields = Fields(header[8:])
    version = fields.number(2)
    require(version == VERSION, "bad-version", f"has version {version}")
    require(fields.number(2) == 0, "unknown-feature", "has another key epoch")
    require(fields.number(4) == 0, "unknown-feature", "requires a feature that this reader lacks")
