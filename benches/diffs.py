#!/usr/bin/env python3
"""Measures how long it takes to read, write and merge RBD diffs, and prints medians.

  benches/diffs.py [--sizes 8G,16T] [--used 1000] [--days 3] [--change 400] [--reps 3] [--work DIR]

For each size of the volume, this makes a full diff of USED MiB, and for each of DAYS days a diff of
at most CHANGE MiB. Half of CHANGE is single pages of 4 KiB, the other half is extents of 4 MiB,
like new files. Cuttlebone backs up the full diff and then the diff of each day. It exports the
change of all days as one diff, and merges all diffs into one. Then it backs up the exported and the
merged diff as two other volumes. Their newest backups must have the same content as the newest
backup of the first volume. The diffs of all sizes have the same data. In a larger volume, the data
is only farther apart, so the cost should not depend on the size.

The directory --work needs space for about four times the sum of all diffs (USED + DAYS × CHANGE
MiB). When a step starts, its input is in the page cache, and no data waits to be written. CPU time
and peak memory are the kernel's figures (wait4).
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile

from programs import MIB, Cuttlebone, run, size, table, warm
from rbd_diff import BLOCK as PAGE, Diff

EXTENT = 4 * MIB
SUFFIX = {"M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_size(text):
    return int(text[:-1]) * SUFFIX[text[-1]]


def content(source, length):
    """Returns data whose pages alternately compress well and not at all."""
    page = (b"%08x the quick brown fox jumps over the lazy dog\n" % source.getrandbits(32)) * (
        PAGE // 53
    )
    data = bytearray(source.randbytes(length))
    for at in range(0, length - PAGE + 1, 2 * PAGE):
        data[at : at + len(page)] = page
    return bytes(data)


def make(directory, volume, used, days, change):
    """Makes the diffs, and returns their paths, oldest first.

    Divides a volume of twice USED into places of one extent (4 MiB), and chooses places at random.
    To spread them over the whole volume, multiplies their offsets by a whole number.
    """
    places = 2 * used * MIB // EXTENT
    stretch = max(1, volume // (places * EXTENT))
    source = random.Random(1)
    taken = sorted(source.sample(range(places), used * MIB // EXTENT))
    paths = [f"{directory}/0.diff"]
    diff = Diff(paths[0], None, "day0", volume)
    for place in taken:
        diff.data(place * stretch * EXTENT, content(source, EXTENT))
    diff.close()
    for day in range(1, days + 1):
        paths.append(f"{directory}/{day}.diff")
        diff = Diff(paths[-1], f"day{day - 1}", f"day{day}", volume)
        files = set(source.sample(range(places), change * MIB // 2 // EXTENT))
        # The single pages are those of a database, which is in the first half of the used places.
        database = [place for place in taken[: max(1, len(taken) // 2)] if place not in files]
        count = len(database) * (EXTENT // PAGE)
        pages = {}
        for number in source.sample(range(count), min(count, change * MIB // 2 // PAGE)):
            pages.setdefault(database[number // (EXTENT // PAGE)], []).append(
                number % (EXTENT // PAGE)
            )
        for place in sorted(files | pages.keys()):
            begin = place * stretch * EXTENT
            if place in files:
                diff.data(begin, content(source, EXTENT))
            for page in sorted(pages.get(place, [])):
                diff.data(begin + page * PAGE, source.randbytes(PAGE))
        diff.close()
    return paths


def same(program, one, other):
    """Returns whether two backups have the same content."""
    ran = subprocess.run(
        [f"{program.bin}/cuttlebone", "--json", "-q", "compare", one, other],
        env=program.env,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(ran.stdout.splitlines()[-1])["identical"]


def repetition(work, volume, paths):
    program = Cuttlebone(work)
    program.start()
    run(["cuttlebone", "-q", "init"], program)
    newest = f"day{len(paths) - 1}"
    exported, merged = f"{program.dir}/exported.diff", f"{program.dir}/merged.diff"
    ingest = ["cuttlebone", "-q", "backup", "--volume", "v", "--diff"]
    steps = [
        (f"day {number}" if number else "full", [*ingest, path], path)
        for number, path in enumerate(paths)
    ]
    steps += [
        (
            "export",
            [
                "cuttlebone",
                "-q",
                "diff",
                "export",
                "--from",
                "v@day0",
                f"v@{newest}",
                "-o",
                exported,
            ],
            None,
        ),
        ("merge", ["cuttlebone", "-q", "diff", "merge", *paths, "-o", merged], None),
    ]
    results = {}
    for step, command, read in steps:
        for path in [read] if read else paths:
            warm(path)
        os.sync()
        results[step] = dict(run(command, program), repository=size(program.repo))
    # The exported and the merged diff must give the same content.
    for name, diffs in (("exported", [paths[0], exported]), ("merged", [merged])):
        for path in diffs:
            run(["cuttlebone", "-q", "backup", "--volume", name, "--diff", path], program)
        if not same(program, f"v@{newest}", f"{name}@{newest}"):
            sys.exit(f"the {name} diff gives different content from the backups")
    shutil.rmtree(program.dir)
    print(
        f"  {volume}: " + ", ".join(f"{n} {r['wall']:.2f} s" for n, r in results.items()),
        file=sys.stderr,
        flush=True,
    )
    return results


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="8G,16T")
    parser.add_argument("--used", type=int, default=1000)
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--change", type=int, default=400)
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--work")
    args = parser.parse_args()
    sizes = args.sizes.split(",")
    with tempfile.TemporaryDirectory(dir=args.work) as work:
        all_results = {volume: [] for volume in sizes}
        for volume in sizes:
            directory = f"{work}/diffs"
            os.makedirs(directory)
            paths = make(directory, parse_size(volume), args.used, args.days, args.change)
            lengths = ", ".join(f"{os.path.getsize(path) / 1e6:.0f}" for path in paths)
            print(f"{volume}: diffs of {lengths} MB", file=sys.stderr, flush=True)
            for _ in range(args.reps):
                all_results[volume].append(repetition(work, volume, paths))
            shutil.rmtree(directory)
    rows = [["step", "volume", "wall s", "CPU s", "peak MiB", "repository MiB"]]
    for step in all_results[sizes[0]][0]:
        for volume in sizes:

            def median(key):
                return statistics.median(result[step][key] for result in all_results[volume])

            rows.append(
                [
                    step,
                    volume,
                    f"{median('wall'):.2f}",
                    f"{median('cpu'):.2f}",
                    f"{median('rss') / MIB:.0f}",
                    f"{median('repository') / MIB:.1f}",
                ]
            )
    table(rows)


if __name__ == "__main__":
    main()
