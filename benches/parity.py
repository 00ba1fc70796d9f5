#!/usr/bin/env python3
"""Measures the cost of parity: the CPU time of a full backup with and without it.

  benches/parity.py [--size 2048] [--rate 5%] [--reps 7] [--work DIR] [--json FILE]

Makes an image of --size MiB: half of it is text that compresses, half is random. Each repetition
backs up the image into a new repository without parity and into a new one with parity. Every second
repetition backs up with parity first. The image is in the page cache. Prints the median ratios of
CPU time, wall time, peak memory and size of the repository. CPU time is user and system time of the
program and its children. Then takes the last repository with parity. In each of its packs of 30 MiB
or more, flips 100 bits and zeroes 64 KiB. Repairs this repository, and checks it. Needs
target/release/cuttlebone.
"""

import argparse
import json
import os
import pathlib
import random
import statistics
import sys
import tempfile
import time

from programs import MIB, Cuttlebone, run, size, table, warm

# Each figure: its title, its key, and the number by which its value is divided.
KEYS = (
    ("CPU s", "cpu", 1),
    ("wall s", "wall", 1),
    ("peak MiB", "rss", MIB),
    ("repository MiB", "repository", MIB),
)


class WithParity(Cuttlebone):
    """The same program, with a repository that has parity."""

    name = "parity"
    rate = "5%"

    def commands(self):
        commands = super().commands()
        return dict(commands, init=[*commands["init"], "--parity", self.rate])


def make_image(path, mib):
    seed = random.Random(1)
    letters = b"abcdefghijklmnopqrstuvwxyz"
    words = [bytes(seed.choices(letters, k=seed.randint(2, 9))) for _ in range(4000)]
    with open(path, "wb") as file:
        for number in range(mib):
            if number % 2:
                file.write(seed.randbytes(MIB))
            else:
                file.write(b" ".join(seed.choices(words, k=MIB // 5)).ljust(MIB)[:MIB])


def back_up(program, image):
    program.start()
    program.place(image)
    commands = program.commands()
    run(commands["init"], program)
    warm(program.image)
    os.sync()
    result = run(commands["full"], program, program.dir)
    return dict(result, repository=size(program.repo))


def damage(repository):
    seed = random.Random(2)
    packs = pathlib.Path(repository).glob("projects/*/packs/*/*")
    packs = [p for p in packs if p.stat().st_size >= 30 * MIB]
    for pack in packs:
        length = pack.stat().st_size
        with open(pack, "r+b") as file:
            for _ in range(100):
                at = seed.randrange(length)
                file.seek(at)
                byte = file.read(1)[0] ^ (1 << seed.randrange(8))
                file.seek(at)
                file.write(bytes([byte]))
            file.seek(seed.randrange(length - (64 << 10)))
            file.write(bytes(64 << 10))
    return len(packs)


def heal(program):
    packs = damage(program.repo)
    begin = time.monotonic()
    run(["cuttlebone", "-q", "repair", "parity", "--yes"], program)
    took = time.monotonic() - begin
    run(["cuttlebone", "-q", "check", "--read-data"], program)
    print(f"repaired {packs} packs in {took:.1f} s; the check then found no damage")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=2048, help="MiB of the image")
    parser.add_argument("--rate", default="5%")
    parser.add_argument("--reps", type=int, default=7)
    parser.add_argument("--work", help="directory of the repositories (default: a temporary one)")
    parser.add_argument("--json", help="file to which every single measurement is written")
    options = parser.parse_args()
    WithParity.rate = options.rate
    with tempfile.TemporaryDirectory(prefix="parity-", dir=options.work) as work:
        image = f"{work}/image"
        make_image(image, options.size)
        programs = [Cuttlebone(work), WithParity(work)]
        results = []
        for number in range(options.reps):
            order = programs if number % 2 == 0 else programs[::-1]
            results.append({program.name: back_up(program, image) for program in order})
            first, second = (results[-1][program.name]["cpu"] for program in programs)
            print(f"  {first:.2f} s without, {second:.2f} s with parity", file=sys.stderr)
        rows = [["", "without", "with", "ratio", "lowest", "highest"]]
        for title, key, unit in KEYS:
            pairs = [(r["cuttlebone"][key] / unit, r["parity"][key] / unit) for r in results]
            ratios = [after / before for before, after in pairs]
            rows.append(
                [
                    title,
                    *(f"{statistics.median(column):.2f}" for column in zip(*pairs)),
                    *(f"{of(ratios):.3f}" for of in (statistics.median, min, max)),
                ]
            )
        print(f"{programs[0].version()}; {options.size} MiB; {options.reps} repetitions\n")
        table(rows)
        heal(programs[1])
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
