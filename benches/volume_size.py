#!/usr/bin/env python3
"""Measures the cost of the same change in volumes of different sizes.

  benches/volume_size.py [--sizes 8G,64G,1T,16T] [--peers-up-to 64G] [--used 256]
                         [--change 64] [--reps 3]

A volume has USED MiB of data, spread over its whole size. The change has CHANGE MiB: half of it is
in pages of 4 KiB of this data, half is in new pieces of 4 MiB. Cuttlebone gets the change as
`rbd export-diff` writes it. The other programs read the image, a sparse file, to find the change.
Most of them take longer for a larger volume, so they run only up to --peers-up-to. When a step
starts, its input is in the page cache, and no data waits to be written. Prints medians of wall
seconds, CPU seconds and peak memory.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile

from diffs import make, parse_size
from programs import MIB, PROGRAMS, Cuttlebone, make_programs, run, table, warm


def apply(diff, image):
    """Writes the data of a diff that `make` made into a sparse image of the same size."""
    with open(diff, "rb") as stream, open(
        image, "r+b" if os.path.exists(image) else "w+b"
    ) as target:
        stream.readline()
        while (tag := stream.read(1)) != b"e":
            if tag in (b"f", b"t"):
                stream.read(int.from_bytes(stream.read(4), "little"))
            elif tag == b"s":
                target.truncate(int.from_bytes(stream.read(8), "little"))
            else:
                offset, length = (int.from_bytes(stream.read(8), "little") for _ in range(2))
                target.seek(offset)
                target.write(stream.read(length))


def measure(program, paths, directory):
    """Backs up the first day, then the second, and returns the cost of the second."""
    program.start()
    run(program.commands()["init"], program)
    if isinstance(program, Cuttlebone):
        commands = [program.ingest(path) for path in paths]
    else:
        commands = [program.commands()["full"], program.commands()["changed"]]
        image = f"{directory}/image"
    for number, command in enumerate(commands):
        warm(paths[number])
        if not isinstance(program, Cuttlebone):
            apply(paths[number], image)
            program.place(image)
        os.sync()
        result = run(command, program)
    if not isinstance(program, Cuttlebone):
        os.remove(image)
    shutil.rmtree(program.dir)
    return result


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="8G,64G,1T,16T")
    parser.add_argument("--peers-up-to", default="64G")
    parser.add_argument("--programs", default=",".join(PROGRAMS))
    parser.add_argument("--used", type=int, default=256, help="MiB")
    parser.add_argument("--change", type=int, default=64, help="MiB")
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--work")
    options = parser.parse_args()
    rows = [["volume", "program", "wall s", "CPU s", "peak MiB"]]
    with tempfile.TemporaryDirectory(prefix="volume-size-", dir=options.work) as work:
        programs = make_programs(options.programs.split(","), work)
        print(", ".join(program.version() for program in programs) + "\n")
        for volume in options.sizes.split(","):
            directory = f"{work}/diffs"
            os.makedirs(directory)
            paths = make(directory, parse_size(volume), options.used, 1, options.change)
            small = parse_size(volume) <= parse_size(options.peers_up_to)
            runs = {p.name: [] for p in programs if small or isinstance(p, Cuttlebone)}
            for _ in range(options.reps):
                for program in programs:
                    if program.name in runs:
                        runs[program.name].append(measure(program, paths, directory))
            for name, results in runs.items():

                def median(key):
                    return statistics.median(result[key] for result in results)

                rows.append(
                    [
                        volume,
                        name,
                        f"{median('wall'):.2f}",
                        f"{median('cpu'):.2f}",
                        f"{median('rss') / MIB:.0f}",
                    ]
                )
                print(f"  {volume} {name}: {median('wall'):.2f} s", file=sys.stderr, flush=True)
            shutil.rmtree(directory)
    table(rows)


if __name__ == "__main__":
    main()
