"""The backup programs that the benchmarks run, and functions that measure commands."""

import os
import shutil
import subprocess
import sys
import time

import install

MIB = 1 << 20
HERE = os.path.dirname(os.path.abspath(__file__))
PASSWORD = "correct horse battery"


class Program:
    """Describes where one program keeps its files, and the command line of each step.

    `bin` is the directory that holds the program. `dir` is the directory that holds everything that
    a repetition of a benchmark leaves behind.
    """

    def __init__(self, work):
        self.bin = self.find()
        self.dir = f"{work}/{self.name}"
        self.repo, self.image, self.out = (
            f"{self.dir}/repo",
            f"{self.dir}/vm.img",
            f"{self.dir}/out",
        )
        self.env = dict(os.environ, PATH=f"{self.bin}:{os.environ['PATH']}", **self.environment())

    def find(self):
        return install.directory_of(self.name)

    def start(self):
        shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(self.out)

    def place(self, image):
        """Copies the image to the path that the program backs up. This path stays the same in all
        steps of the benchmark."""
        run(["cp", "--sparse=always", "--reflink=auto", image, self.image], self)

    def version(self):
        return f"{self.name} {install.version(f'{self.bin}/{self.name}')}"

    def restored(self):
        return next(f"{d}/vm.img" for d, _, files in os.walk(self.out) if "vm.img" in files)


class Cuttlebone(Program):
    name = "cuttlebone"

    def find(self):
        return os.path.abspath(f"{HERE}/../target/release")

    def environment(self):
        return dict(
            CUTTLEBONE_PASSWORD=PASSWORD,
            CUTTLEBONE_REPOSITORY=self.repo,
            CUTTLEBONE_CACHE_DIR=f"{self.dir}/cache",
        )

    def commands(self):
        backup = ["cuttlebone", "-q", "backup", self.image, "--volume", "vm"]
        return dict(
            init=["cuttlebone", "-q", "init"],
            full=backup,
            unchanged=backup,
            reread=[*backup, "--reread"],
            changed=backup,
            restore=["cuttlebone", "-q", "restore", "vm", f"{self.out}/vm.img"],
            check=["cuttlebone", "-q", "check", "--read-data"],
        )

    def ingest(self, diff):
        return ["cuttlebone", "-q", "backup", "--diff", diff, "--volume", "vm"]


class Restic(Program):
    name = "restic"

    def environment(self):
        return dict(
            RESTIC_PASSWORD=PASSWORD,
            RESTIC_REPOSITORY=self.repo,
            RESTIC_CACHE_DIR=f"{self.dir}/cache",
        )

    def commands(self):
        backup = ["restic", "backup", "-q", "--no-scan", self.image]
        return dict(
            init=["restic", "init", "-q"],
            full=backup,
            unchanged=backup,
            reread=[*backup, "--force"],
            changed=backup,
            check=["restic", "check", "-q", "--read-data"],
            restore=["restic", "restore", "-q", "--sparse", "latest", "--target", self.out],
        )


class Borg(Program):
    name = "borg"

    def environment(self):
        return dict(BORG_PASSPHRASE=PASSWORD, BORG_BASE_DIR=self.dir)

    def place(self, image):
        super().place(image)
        # Borg does not cache the newest file that it saw. If the image were the newest file, Borg
        # would always read it again.
        time.sleep(0.02)
        open(f"{self.dir}/newest", "w", encoding="utf-8").close()

    def commands(self):
        def create(archive, *more):
            return [
                "borg",
                "create",
                "--sparse",
                "--chunker-params",
                "fixed,4194304",
                *more,
                f"{self.repo}::{archive}",
                "vm.img",
                "newest",
            ]

        return dict(
            init=["borg", "init", "-e", "repokey-blake2", self.repo],
            full=create("full"),
            unchanged=create("unchanged"),
            reread=create("reread", "--files-cache=disabled"),
            changed=create("changed"),
            check=["borg", "check", "--verify-data", self.repo],
            restore=["borg", "extract", "--sparse", f"{self.repo}::changed", "vm.img"],
        )


class Rustic(Program):
    name = "rustic"

    def environment(self):
        return dict(
            RUSTIC_PASSWORD=PASSWORD,
            RUSTIC_REPOSITORY=self.repo,
            RUSTIC_CACHE_DIR=f"{self.dir}/cache",
            RUSTIC_NO_PROGRESS="true",
            RUSTIC_LOG_LEVEL="warn",
        )

    def commands(self):
        backup = ["rustic", "backup", self.image]
        return dict(
            init=["rustic", "init"],
            full=backup,
            unchanged=backup,
            reread=[*backup, "--force"],
            changed=backup,
            check=["rustic", "check", "--read-data"],
            restore=[
                "rustic",
                "restore",
                "--sparse",
                "by-content",
                f"latest:{self.image}",
                f"{self.out}/vm.img",
            ],
        )


PROGRAMS = {program.name: program for program in (Cuttlebone, Restic, Borg, Rustic)}


def warm(path):
    """Reads a file, so that it is in the page cache."""
    with open(path, "rb", buffering=0) as file:
        while file.read(4 * MIB):
            pass


def run(command, program, cwd=None):
    """Runs a command to its end. Returns wall seconds, CPU seconds and peak resident bytes.

    If the command fails, ends this process with the last part of the log.
    """
    log = f"{program.dir}/log"
    with open(log, "ab") as out:
        begin = time.monotonic()
        # Find the program here, since Popen would search the PATH of this process.
        path = shutil.which(command[0], path=program.env["PATH"])
        process = subprocess.Popen(
            [path, *command[1:]],
            env=program.env,
            cwd=cwd or program.dir,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        text = open(log, encoding="utf-8", errors="replace").read()
        sys.exit(f"{command} ended with {process.returncode}:\n{text[-2000:]}")
    return dict(wall=wall, cpu=usage.ru_utime + usage.ru_stime, rss=usage.ru_maxrss * 1024)


def size(directory):
    return sum(
        os.lstat(os.path.join(d, f)).st_size for d, _, files in os.walk(directory) for f in files
    )


def table(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |")
        if row is rows[0]:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    print()


def make_programs(names, work):
    """Returns the programs of these names in this order, and installs the missing ones."""
    unknown = set(names) - set(PROGRAMS)
    if unknown:
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(PROGRAMS)}")
    return [PROGRAMS[name](work) for name in names]
