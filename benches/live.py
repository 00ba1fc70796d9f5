#!/usr/bin/env python3
"""Measures nightly backups of live images against `rbd export-diff > file` of the same change.

  benches/live.py [--sizes 8G,128G,1T,16T] [--change MIB] [--reps 5] [--kinds new,known]
                  [--work DIR]

It starts a Ceph cluster on this machine. Each image is sparse and has 256 MiB of data. In each
repetition, extents of 1 MiB in random places are written for each kind of data. Then `rbd
export-diff` writes the change to a file, and `cuttlebone backup` backs it up. The order of these
two alternates. In the rows "new", the written data is random. In the rows "known", the repository
already has all chunks of the written data.

The time of `rbd export-diff` is in both columns, "export s" and "backup s": cuttlebone starts the
same command. `rbd export-diff` asks for each object of the image, even if fast-diff is enabled. For
an image of 16 TiB, this takes minutes. Each repetition makes two exports for each kind, and the
first backup of the image makes one more. So measure large images with `--reps 1 --kinds new`. CPU
time is that of the clients. The daemons of the cluster run on the same cores.

"steps s" is the time of the other commands of `rbd` and `ceph` that a backup needs, without a
backup. Commands that a backup runs at the same time run at the same time here, too.
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
import time

import rbd_diff
from programs import HERE, MIB, Cuttlebone, run, size, table

UNITS = {"G": 1 << 30, "T": 1 << 40}
BASE_MIB = 256
EXTENT = MIB


def bytes_of(text):
    return int(text[:-1]) * UNITS[text[-1]]


class Ceph:
    """A cluster in a directory, and its command `rbd`."""

    def __init__(self, directory):
        self.dir = directory
        self.script = os.path.join(HERE, "..", "tests", "ceph", "ceph-dev")

    def __enter__(self):
        subprocess.run([self.script, "up", self.dir], check=True, stdout=subprocess.DEVNULL)
        return self

    def __exit__(self, *_):
        subprocess.run([self.script, "down", self.dir, "--purge"], stdout=subprocess.DEVNULL)

    @property
    def conf(self):
        return os.path.join(self.dir, "ceph.conf")

    def rbd(self, *args):
        command = ["rbd", "--conf", self.conf, *args]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def write(self, image, total, extents, work):
        """Writes extents, which are pairs of offset and data, into the image."""
        path = os.path.join(work, "change")
        diff = rbd_diff.Diff(path, None, None, total)
        for offset, data in sorted(extents):
            diff.data(offset, data)
        diff.close()
        self.rbd("import-diff", "--no-progress", path, image)

    def steps(self, image):
        """Runs the commands of a backup, apart from the export. Returns their time in seconds."""
        new, json_ = f"{image}@steps", ["--format", "json"]
        begin = time.perf_counter()
        self.together(["rbd", "info", *json_, image], ["ceph", "osd", "dump", *json_])
        self.together(["rbd", "snap", "create", "--no-progress", new])
        metadata = ["rbd", "image-meta", "ls", *json_, image]
        self.together(["rbd", "snap", "ls", *json_, image], metadata)
        self.together(["rbd", "info", *json_, new], ["rbd", "snap", "ls", *json_, image])
        self.together(["rbd", "snap", "rm", "--no-progress", new])
        return time.perf_counter() - begin

    def together(self, *commands):
        started = [
            subprocess.Popen([name, "--conf", self.conf, *args], stdout=subprocess.DEVNULL)
            for name, *args in commands
        ]
        for command in started:
            if command.wait() != 0:
                raise subprocess.CalledProcessError(command.returncode, command.args)

    def tracking(self, image):
        listed = json.loads(self.rbd("snap", "ls", "--format", "json", image))
        names = [snapshot["name"] for snapshot in listed]
        return [name for name in names if name.startswith("cuttlebone-")][-1]


def extents(generator, total, pieces):
    places = generator.sample(range(total // EXTENT), len(pieces))
    return [(place * EXTENT, piece) for place, piece in zip(places, pieces)]


def measure(ceph, program, text, options, work):
    """Returns the results of all repetitions for an image of this size, by kind of change."""
    total, image = bytes_of(text), f"rbd/bench{text}"
    generator = random.Random(text)
    ceph.rbd("create", "--size", f"{total >> 20}M", image)
    base = [generator.randbytes(EXTENT) for _ in range(BASE_MIB)]
    ceph.write(image, total, extents(generator, total, base), work)
    program.start()
    program.env["CUTTLEBONE_CEPH_CONF"] = ceph.conf
    run(program.commands()["init"], program)
    backup = ["cuttlebone", "-q", "backup", f"rbd:{image}", "--keep-snapshots", "2"]
    run(backup, program)
    results = {kind: [] for kind in options.kinds.split(",")}
    for repetition in range(options.reps):
        for kind, found in results.items():
            pieces = [
                generator.randbytes(EXTENT) if kind == "new" else generator.choice(base)
                for _ in range(options.change)
            ]
            ceph.write(image, total, extents(generator, total, pieces), work)
            ceph.rbd("snap", "create", "--no-progress", f"{image}@bench")
            path = os.path.join(work, "export")
            export = ["rbd", "--conf", ceph.conf, "export-diff", "--no-progress"]
            export += ["--from-snap", ceph.tracking(image), f"{image}@bench", path]
            before, both = size(program.repo), {}
            for name, command in sorted(
                [("export", export), ("backup", backup)], reverse=repetition % 2 == 0
            ):
                both[name] = run(command, program)
            stored = size(program.repo) - before
            both["steps"] = ceph.steps(image)
            found.append(dict(both, stored=stored, exported=os.path.getsize(path)))
            os.remove(path)
            ceph.rbd("snap", "rm", "--no-progress", f"{image}@bench")
    return results


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="8G,128G,1T,16T")
    parser.add_argument("--change", type=int, default=64, help="MiB that are written each time")
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--kinds", default="new,known", help="kinds of chunks that are written")
    parser.add_argument("--work", help="directory of cluster and repository")
    options = parser.parse_args()
    if not shutil.which("rbd"):
        sys.exit("Ceph is not installed")
    header = "image, chunks, export s, steps s, backup s, ratio (min), CPU ratio, diff MiB, "
    rows = [(header + "stored MiB").split(", ")]
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        with Ceph(os.path.join(work, "ceph")) as ceph:
            for text in options.sizes.split(","):
                program = Cuttlebone(os.path.join(work, text))
                for kind, found in measure(ceph, program, text, options, work).items():
                    middle = lambda each: statistics.median(map(each, found))
                    ratios = [one["backup"]["wall"] / one["export"]["wall"] for one in found]
                    cpu = middle(lambda one: one["backup"]["cpu"] / one["export"]["cpu"])
                    rows.append(
                        [
                            text,
                            kind,
                            f"{middle(lambda one: one['export']['wall']):.2f}",
                            f"{middle(lambda one: one['steps']):.2f}",
                            f"{middle(lambda one: one['backup']['wall']):.2f}",
                            f"{statistics.median(ratios):.2f} ({min(ratios):.2f})",
                            f"{cpu:.2f}",
                            f"{middle(lambda one: one['exported']) / MIB:.1f}",
                            f"{middle(lambda one: one['stored']) / MIB:.1f}",
                        ]
                    )
                shutil.rmtree(program.dir)
    table(rows)


if __name__ == "__main__":
    main()
