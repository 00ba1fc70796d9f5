#!/usr/bin/env python3
"""Compares backup programs on a disk image, and prints medians.

  benches/peers.py [IMAGE CHANGED] [--programs cuttlebone,restic,borg] [--reps 5] [--json FILE]

IMAGE is backed up, then again unchanged, then again with the program forced to read all of it, then
as CHANGED. CHANGED is restored and compared byte for byte. Without images, make-image.py makes a
pair. Programs that are not installed are skipped.

Held the same for all: Every program does a step before any does the next, in an order that rotates
with each repetition. When a step starts, the image is in the page cache, and no data waits to be
written. The image keeps its path, inode and times between the first three steps. Repositories are in
--work, which needs space for them and one restored image. CPU and peak memory are the kernel's
figures (wait4) for the program and the children that it waited for. Restic and borg run with the
options that their manuals advise for disk images.
"""
import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

MIB = 1 << 20
HERE = os.path.dirname(os.path.abspath(__file__))
STEPS = ("full", "unchanged", "reread", "changed", "restore")
PASSWORD = "correct horse battery"


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


class Program:
    """The directories of one program, and its command line for each step."""

    def __init__(self, work):
        self.dir = f"{work}/{self.name}"
        self.repo, self.image, self.out = f"{self.dir}/repo", f"{self.dir}/vm.img", f"{self.dir}/out"
        self.env = dict(os.environ, **self.environment())

    def start(self):
        shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(self.out)

    def restored(self):
        return next(f"{d}/vm.img" for d, _, files in os.walk(self.out) if "vm.img" in files)


class Cuttlebone(Program):
    name = "cuttlebone"

    def environment(self):
        return dict(CUTTLEBONE_PASSWORD=PASSWORD, CUTTLEBONE_REPOSITORY=self.repo,
                    CUTTLEBONE_CACHE_DIR=f"{self.dir}/cache")

    def version(self):
        return output("cuttlebone", "--version")

    def commands(self):
        backup = ["cuttlebone", "-q", "backup", self.image, "--volume", "vm"]
        return dict(init=["cuttlebone", "-q", "init"], full=backup, unchanged=backup, reread=[*backup, "--reread"], changed=backup,
                    restore=["cuttlebone", "-q", "restore", "vm", f"{self.out}/vm.img"])


class Restic(Program):
    name = "restic"

    def environment(self):
        return dict(RESTIC_PASSWORD=PASSWORD, RESTIC_REPOSITORY=self.repo, RESTIC_CACHE_DIR=f"{self.dir}/cache")

    def version(self):
        return output("restic", "version")

    def commands(self):
        # Older versions lack these options. They only make restic faster.
        scan = ["--no-scan"] if "--no-scan" in output("restic", "backup", "--help") else []
        sparse = ["--sparse"] if "--sparse" in output("restic", "restore", "--help") else []
        backup = ["restic", "backup", "-q", *scan, self.image]
        return dict(init=["restic", "init", "-q"], full=backup, unchanged=backup, reread=[*backup, "--force"],
                    changed=backup, restore=["restic", "restore", "-q", *sparse, "latest", "--target", self.out])


class Borg(Program):
    name = "borg"

    def environment(self):
        return dict(BORG_PASSPHRASE=PASSWORD, BORG_BASE_DIR=self.dir)

    def version(self):
        return output("borg", "--version")

    def start(self):
        super().start()
        # Borg does not cache the newest file that it saw. Without another newer file it would always
        # read the image again.
        self.marker = f"{self.dir}/newest"

    def commands(self):
        def create(archive, *more):
            return ["borg", "create", "--sparse", "--chunker-params", "fixed,4194304", *more,
                    f"{self.repo}::{archive}", "vm.img", "newest"]
        return dict(init=["borg", "init", "-e", "repokey-blake2", self.repo], full=create("full"),
                    unchanged=create("unchanged"), reread=create("reread", "--files-cache=disabled"),
                    changed=create("changed"),
                    restore=["borg", "extract", "--sparse", f"{self.repo}::changed", "vm.img"])


PROGRAMS = {program.name: program for program in (Cuttlebone, Restic, Borg)}


def place(program, image):
    """Copies the image to the path that the program backs up, the same path for both days."""
    run(["cp", "--sparse=always", "--reflink=auto", image, program.image], program)
    if isinstance(program, Borg):
        time.sleep(0.02)
        open(program.marker, "w").close()


def warm(path):
    with open(path, "rb", buffering=0) as file:
        while file.read(4 * MIB):
            pass


def run(command, program, cwd=None):
    """Runs a command to its end. Returns wall seconds, CPU seconds and peak resident bytes."""
    log = f"{program.dir}/log"
    with open(log, "ab") as out:
        begin = time.monotonic()
        process = subprocess.Popen(command, env=program.env, cwd=cwd or program.dir, stdin=subprocess.DEVNULL,
                                   stdout=out, stderr=out)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command} ended with {process.returncode}:\n{open(log, errors='replace').read()[-2000:]}")
    return dict(wall=wall, cpu=usage.ru_utime + usage.ru_stime, rss=usage.ru_maxrss * 1024)


def size(directory):
    return sum(os.lstat(os.path.join(d, f)).st_size for d, _, files in os.walk(directory) for f in files)


def repetition(programs, number, image, changed):
    order = programs[number % len(programs):] + programs[:number % len(programs)]
    commands, results = {}, {program.name: {} for program in programs}
    for program in order:
        program.start()
        place(program, image)
        commands[program.name] = program.commands()
        run(commands[program.name]["init"], program)
    for step in STEPS:
        for program in order:
            if step == "changed":
                place(program, changed)
            if step != "restore":
                warm(program.image)
            os.sync()
            cwd = program.out if step == "restore" else program.dir
            result = run(commands[program.name][step], program, cwd)
            result["repository"] = size(program.repo)
            results[program.name][step] = result
            if step == "restore":
                restored = program.restored()
                if subprocess.run(["cmp", changed, restored], check=False).returncode:
                    sys.exit(f"{program.name} restored other content than it backed up")
                result["allocated"] = os.stat(restored).st_blocks * 512
                shutil.rmtree(program.out)
        print(f"  {step}: " + ", ".join(f"{n} {r[step]['wall']:.2f} s" for n, r in results.items()),
              file=sys.stderr, flush=True)
    for program in order:
        shutil.rmtree(program.dir)
    return results


def table(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |")
        if row is rows[0]:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    print()


def report(names, repetitions):
    def median(name, step, key):
        return statistics.median(r[name][step][key] for r in repetitions)

    rows = [["step", "program", "wall s", "CPU s", "peak MiB", "repository MiB"]]
    for step in STEPS:
        for name in names:
            rows.append([step, name, f"{median(name, step, 'wall'):.2f}", f"{median(name, step, 'cpu'):.2f}",
                         f"{median(name, step, 'rss') / MIB:.0f}", f"{median(name, step, 'repository') / MIB:.1f}"])
    table(rows)
    first, others = names[0], names[1:]
    if others:
        print(f"How many times as much as {first} the others need: the median, and the least in brackets, "
              "of the ratios within each repetition.\n")
        rows = [["step", "program", "wall", "CPU", "repository"]]
        for step in STEPS:
            for name in others:
                row = [step, name]
                for key in ("wall", "cpu", "repository"):
                    ratios = [r[name][step][key] / r[first][step][key] for r in repetitions]
                    row.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f})")
                rows.append(row)
        table(rows)


def cpu_model():
    with open("/proc/cpuinfo") as file:
        return next((line.split(":")[1].strip() for line in file if line.startswith("model name")), platform.machine())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", metavar="IMAGE CHANGED")
    parser.add_argument("--programs", default=",".join(PROGRAMS), help="the first is the one that the others are compared with")
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--work", help="directory for repositories (default: a temporary directory)")
    parser.add_argument("--json", help="file for all single measurements")
    options = parser.parse_args()
    if len(options.images) not in (0, 2):
        parser.error("give both images, or none")
    os.environ["PATH"] = f"{HERE}/../target/release:" + os.environ["PATH"]
    wanted = options.programs.split(",")
    if unknown := set(wanted) - set(PROGRAMS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(PROGRAMS)}")
    names = [name for name in wanted if shutil.which(name)]
    if missing := set(wanted) - set(names):
        print(f"not installed, skipped: {', '.join(sorted(missing))}", file=sys.stderr)
    if not names:
        parser.error("none of the programs is installed")
    with tempfile.TemporaryDirectory(prefix="peers-", dir=os.path.abspath(options.work or tempfile.gettempdir())) as work:
        if not options.images:
            subprocess.run([f"{HERE}/make-image.py", work], check=True)
        image, changed = map(os.path.abspath, options.images or (f"{work}/day0.img", f"{work}/day1.img"))
        programs = [PROGRAMS[name](work) for name in names]
        versions = {program.name: program.version().strip() for program in programs}
        repetitions = []
        for number in range(options.reps):
            print(f"repetition {number + 1} of {options.reps}", file=sys.stderr)
            repetitions.append(repetition(programs, number, image, changed))
        about = dict(versions=versions, cpu=cpu_model(), cores=os.cpu_count(), kernel=platform.release(),
                     image=dict(size=os.path.getsize(image), allocated=os.stat(image).st_blocks * 512),
                     date=time.strftime("%Y-%m-%d"))
    print(f"{about['cpu']}, {about['cores']} cores, Linux {about['kernel']}; image {about['image']['size'] / MIB:.0f} MiB, "
          f"{about['image']['allocated'] / MIB:.0f} MiB of it data; {'; '.join(versions.values())}; "
          f"{options.reps} repetitions, {about['date']}\n")
    report(names, repetitions)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(dict(about=about, repetitions=repetitions), file, indent=1)


if __name__ == "__main__":
    main()
