"""Writes streams as `rbd export-diff` does, and makes them from images."""

import struct

BLOCK = 4096


class Diff:
    """A stream in the format v1: header, extents in ascending order, end.

    `start` and `end` are the names of snapshots, or None. `volume` is the size in bytes.
    """

    def __init__(self, path, start, end, volume):
        self.file = open(path, "wb")
        self.file.write(b"rbd diff v1\n")
        for tag, name in ((b"f", start), (b"t", end)):
            if name:
                self.file.write(tag + struct.pack("<I", len(name)) + name.encode())
        self.file.write(b"s" + struct.pack("<Q", volume))

    def data(self, offset, data):
        self.file.write(b"w" + struct.pack("<QQ", offset, len(data)) + data)

    def zero(self, offset, length):
        self.file.write(b"z" + struct.pack("<QQ", offset, length))

    def close(self):
        self.file.write(b"e")
        self.file.close()


def between(path, before, after, start, end):
    """Writes the blocks of 4 KiB that differ between two images of the same size.

    Without `before`, writes all blocks that are not zeros.
    """
    length = 4 << 20
    with open(after, "rb") as new, open(before or "/dev/zero", "rb") as old:
        new.seek(0, 2)
        volume = new.tell()
        new.seek(0)
        diff = Diff(path, start, end, volume)
        for offset in range(0, volume, length):
            here, there = new.read(length), old.read(min(length, volume - offset))
            if here == there:
                continue
            changed = [
                at
                for at in range(0, len(here), BLOCK)
                if here[at : at + BLOCK] != there[at : at + BLOCK]
            ]
            first = None
            for number, at in enumerate(changed):
                first = at if first is None else first
                last = number + 1 == len(changed) or changed[number + 1] != at + BLOCK
                if last:
                    data = here[first : at + BLOCK]
                    if any(data):
                        diff.data(offset + first, data)
                    else:
                        diff.zero(offset + first, len(data))
                    first = None
        diff.close()
