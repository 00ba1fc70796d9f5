#!/usr/bin/env python3
"""Runs backup programs side by side on a disk image and prints medians.

  benches/peers.py [IMAGE CHANGED] [--programs cuttlebone,restic,borg,rustic] [--reps 5]
                   [--json FILE]

Each program backs up IMAGE, backs it up again unchanged, and backs it up once more and reads all of
it. Then it backs up CHANGED under the same path. It restores the backup of CHANGED into a new file,
which is compared with CHANGED byte for byte. Then it checks the repository and reads all of its
data. In the step "diff", cuttlebone backs up the change as `rbd export-diff` writes it, into a
second repository. The others must read the image to find the change, so their figures are those of
"changed". Without images, make-image.py makes a pair. install.py installs missing programs below
target/.

The conditions are the same for all programs. Every program does a step before any program starts
the next step. The order of the programs rotates with each repetition. When a step starts, the
image is in the page cache, and no data waits to be written. The image keeps its path, inode and
times between the first three steps.
Repositories are in --work, which needs space for them and one restored image. CPU and peak
memory are the kernel's figures (wait4) for the program and the children that it waited for. All
programs run with the options that their manuals advise for disk images.

  benches/peers.py --before DIR ...   also runs the cuttlebone in DIR, to compare two builds
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

import rbd_diff
from programs import HERE, MIB, PROGRAMS, Cuttlebone, make_programs, run, size, table, warm

STEPS = ("full", "unchanged", "reread", "changed", "diff", "restore", "check")


class Before(Cuttlebone):
    """Another build of cuttlebone."""

    name = "before"
    directory = None

    def find(self):
        return os.path.abspath(self.directory)

    def version(self):
        return "before"


class DiffRepository:
    """A repository that holds the first day, which was backed up as a full diff."""

    def __init__(self, program, diffs):
        self.program = type(program)(f"{program.dir}/diffs")
        self.diffs = diffs

    def start(self):
        self.program.start()
        run(self.program.commands()["init"], self.program)
        run(self.program.ingest(self.diffs[0]), self.program)

    def ingest(self):
        warm(self.diffs[1])
        os.sync()
        result = run(self.program.ingest(self.diffs[1]), self.program)
        return dict(result, repository=size(self.program.repo))


def repetition(programs, number, image, changed, diffs):
    order = programs[number % len(programs) :] + programs[: number % len(programs)]
    commands, repositories, results = {}, {}, {program.name: {} for program in programs}
    for program in order:
        program.start()
        program.place(image)
        commands[program.name] = program.commands()
        run(commands[program.name]["init"], program)
        if isinstance(program, Cuttlebone):
            repositories[program.name] = DiffRepository(program, diffs)
            repositories[program.name].start()
    for step in STEPS:
        for program in order:
            if step == "diff":
                own = repositories.get(program.name)
                results[program.name][step] = (
                    own.ingest() if own else results[program.name]["changed"]
                )
                continue
            if step == "changed":
                program.place(changed)
            if step in ("full", "unchanged", "reread", "changed"):
                warm(program.image)
            os.sync()
            cwd = program.out if step == "restore" else program.dir
            result = run(commands[program.name][step], program, cwd)
            result["repository"] = size(program.repo)
            results[program.name][step] = result
            if step == "restore":
                restored = program.restored()
                if subprocess.run(["cmp", changed, restored], check=False).returncode:
                    sys.exit(
                        f"{program.name}: the restored image is not what was backed up"
                    )
                result["allocated"] = os.stat(restored).st_blocks * 512
                shutil.rmtree(program.out)
        print(
            f"  {step}: " + ", ".join(f"{n} {r[step]['wall']:.2f} s" for n, r in results.items()),
            file=sys.stderr,
            flush=True,
        )
    for program in order:
        shutil.rmtree(program.dir)
    return results


def report(names, versions, repetitions):
    def median(name, step, key):
        return statistics.median(r[name][step][key] for r in repetitions)

    print(f"{', '.join(versions.values())}; median of {len(repetitions)} repetitions\n")
    rows = [["step", "program", "wall s", "CPU s", "peak MiB", "repository MiB"]]
    for step in STEPS:
        for name in names:
            rows.append(
                [
                    step,
                    name,
                    f"{median(name, step, 'wall'):.2f}",
                    f"{median(name, step, 'cpu'):.2f}",
                    f"{median(name, step, 'rss') / MIB:.0f}",
                    f"{median(name, step, 'repository') / MIB:.1f}",
                ]
            )
    table(rows)
    first, others = names[0], names[1:]
    if others:
        print(
            f"Ratios to {first}: median and (minimum) of the ratios within each repetition; "
            f"{', '.join(versions.values())}\n"
        )
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
        return next(
            (line.split(":")[1].strip() for line in file if line.startswith("model name")),
            platform.machine(),
        )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", nargs="*", metavar="IMAGE CHANGED")
    parser.add_argument(
        "--programs", default=",".join(PROGRAMS), help="the others are compared with the first"
    )
    parser.add_argument("--before", metavar="DIR", help="directory of another build of cuttlebone")
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--work", help="directory of the repositories (default: a temporary one)")
    parser.add_argument("--json", help="file to which every single measurement is written")
    options = parser.parse_args()
    if len(options.images) not in (0, 2):
        parser.error("give both images, or none")
    wanted = options.programs.split(",")
    if options.before:
        Before.directory = options.before
        PROGRAMS[Before.name] = Before
        wanted.insert(1, Before.name)
    with tempfile.TemporaryDirectory(
        prefix="peers-", dir=os.path.abspath(options.work or tempfile.gettempdir())
    ) as work:
        if not options.images:
            subprocess.run([f"{HERE}/make-image.py", work], check=True)
        image, changed = map(
            os.path.abspath, options.images or (f"{work}/day0.img", f"{work}/day1.img")
        )
        programs = make_programs(wanted, work)
        versions = {program.name: program.version() for program in programs}
        diffs = [f"{work}/day0.diff", f"{work}/day1.diff"]
        rbd_diff.between(diffs[0], None, image, None, "day0")
        rbd_diff.between(diffs[1], image, changed, "day0", "day1")
        repetitions = []
        for number in range(options.reps):
            print(f"repetition {number + 1} of {options.reps}", file=sys.stderr)
            repetitions.append(repetition(programs, number, image, changed, diffs))
        about = dict(
            versions=versions,
            cpu=cpu_model(),
            cores=os.cpu_count(),
            kernel=platform.release(),
            image=dict(size=os.path.getsize(image), allocated=os.stat(image).st_blocks * 512),
            date=time.strftime("%Y-%m-%d"),
        )
    print(
        f"{about['cpu']}, {about['cores']} cores, Linux {about['kernel']}; "
        f"image {about['image']['size'] / MIB:.0f} MiB, "
        f"{about['image']['allocated'] / MIB:.0f} MiB of it data; {'; '.join(versions.values())}; "
        f"{options.reps} repetitions, {about['date']}\n"
    )
    report(wanted, versions, repetitions)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(dict(about=about, repetitions=repetitions), file, indent=1)


if __name__ == "__main__":
    main()
