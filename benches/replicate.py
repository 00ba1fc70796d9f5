#!/usr/bin/env python3
"""Times `replicate` from one directory to another, and compares it with cp and b3sum.

    benches/replicate.py [--size 4096] [--reps 3] [--dir DIR]

Backs up --size MiB of incompressible data. Then runs two things in turn: `replicate` into a new
directory; and `cp -r` of the repository, `sync` of the copy, and `b3sum` of the original.
`replicate` does the work of all three commands: it copies each file, makes it durable, and verifies
its hash. Before each run, the bench drops the caches of the system if it runs as root. Prints the
wall and CPU seconds of each run, and the medians of the wall seconds with their ratio. Needs
target/release/cuttlebone, or the program that CUTTLEBONE names, and b3sum.
"""

import argparse
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CUTTLEBONE = os.environ.get("CUTTLEBONE", str(ROOT / "target/release/cuttlebone"))
MIB = 1 << 20


def cold():
    """Writes all cached data to the disk, and drops the caches of the system if this user may.

    Returns whether they were dropped.
    """
    os.sync()
    try:
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3\n", encoding="ascii")
        return True
    except OSError:
        return False


def run(*commands):
    """Runs commands one after the other. Returns the seconds of wall time and of CPU time."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    for command in commands:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=4096, metavar="MIB")
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--dir", help="where the repository and its copies are made")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.dir) as name:
        directory = pathlib.Path(name)
        os.environ |= {
            "CUTTLEBONE_PASSWORD": "benchmark",
            "CUTTLEBONE_REPOSITORY": str(directory / "repo"),
            "CUTTLEBONE_CACHE_DIR": str(directory / "cache"),
            "XDG_STATE_HOME": str(directory / "state"),
        }
        with open(directory / "disk.img", "wb") as image:
            for _ in range(args.size):
                image.write(os.urandom(MIB))
        backup = ["backup", str(directory / "disk.img"), "--init", "-q"]
        subprocess.run([CUTTLEBONE, *backup], check=True)
        (directory / "disk.img").unlink()
        files = [path for path in (directory / "repo").rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
        print(f"{len(files)} files, {size / MIB:.0f} MiB, caches dropped: {cold()}")
        (directory / "names").write_bytes(b"\0".join(str(path).encode() for path in files))
        b3sum = f"xargs -0 b3sum < '{directory / 'names'}'"
        times = {"replicate": [], "cp and b3sum": []}
        for _ in range(args.reps):
            for what, copy, commands in [
                ("replicate", "one", [[CUTTLEBONE, "replicate", "-q", str(directory / "one")]]),
                (
                    "cp and b3sum",
                    "two",
                    [
                        ["cp", "-r", str(directory / "repo"), str(directory / "two")],
                        ["sync", "-f", str(directory / "two")],
                        ["sh", "-c", b3sum],
                    ],
                ),
            ]:
                cold()
                wall, cpu = run(*commands)
                times[what].append(wall)
                print(f"{what}: {wall:.2f} s, {cpu:.2f} s of CPU time")
                shutil.rmtree(directory / copy)
                shutil.rmtree(directory / "state", ignore_errors=True)
        one, two = (statistics.median(of) for of in times.values())
        print(f"medians: {one:.2f} s and {two:.2f} s; speed of replicate: {two / one:.2f}")


if __name__ == "__main__":
    main()
