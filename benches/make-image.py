#!/usr/bin/env python3
"""Makes two images of a machine's disk, one day apart: DIR/day0.img and DIR/day1.img.

  benches/make-image.py DIR

day0 is a Debian system with compilers, logs and a database. day1 is the same disk after a working
day: packages were installed, logs grew and were rotated, and random pages of the database were
written. Incompressible files were added, and old ones deleted. debootstrap needs root. The Debian
packages debootstrap, e2fsprogs, apt and dpkg must be installed.

Nothing is mounted. debugfs changes the file system, so libext2fs chooses the blocks of new data.
This script writes pages of the database in place, as a kernel would. Images that already exist are
not made again.
"""

import argparse
import os
import random
import shutil
import subprocess
import tempfile

MIB = 1 << 20
BLOCK = 4096
DATABASE = "/var/lib/app/data.db"
INCLUDE = "build-essential,python3,git,openssh-server,rsyslog,logrotate,ca-certificates"
INSTALL = ("nginx", "nginx-common", "jq", "libjq1", "vim-runtime", "sqlite3", "python3-pip")
WORDS = (
    b"accepted session opened closed user request GET POST index api orders timeout retry backend "
    b"healthy status code cache worker started finished queue sync replication lag bytes sent"
).split()


def run(*command, **options):
    return subprocess.run(command, check=True, **options)


def log_text(rng, size):
    lines, length = [], 0
    while length < size:
        line = b"Nov %02d 10:%02d:%02d vm daemon[%d]: %s id=%08x dur=%.3fms\n" % (
            rng.randrange(1, 30),
            rng.randrange(60),
            rng.randrange(60),
            rng.randrange(32000),
            b" ".join(rng.choices(WORDS, k=rng.randrange(3, 12))),
            rng.getrandbits(32),
            rng.random() * 900,
        )
        lines.append(line)
        length += len(line)
    return b"".join(lines)


def database_page(rng):
    """Returns a page of records and free space. It compresses to about half."""
    page = rng.randbytes(16)
    while len(page) < BLOCK * rng.uniform(0.7, 0.98):
        page += (
            b"|".join(rng.choices(WORDS, k=5)) + b"|%d|" % rng.randrange(10**7) + rng.randbytes(30)
        )
    return page[:BLOCK].ljust(BLOCK, b"\0")


def first_log():
    """Returns the log of day0."""
    return log_text(random.Random("day0 log"), 24 * MIB)


def put(path, content):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)


def make_day0(image, root, mirror):
    if not os.path.isdir(root):
        run(
            "debootstrap",
            "--variant=minbase",
            f"--include={INCLUDE}",
            "bookworm",
            root + ".part",
            mirror,
            stdout=subprocess.DEVNULL,
        )
        os.rename(root + ".part", root)
    rng = random.Random("day0")
    put(root + DATABASE, b"".join(database_page(rng) for _ in range(192 * MIB // BLOCK)))
    put(f"{root}/var/log/syslog", first_log())
    for n in range(24):
        put(f"{root}/srv/media/{n:03}.bin", rng.randbytes(rng.randrange(1, 8 * MIB)))
    run("mke2fs", "-q", "-t", "ext4", "-d", root, image + ".part", "4G")
    os.rename(image + ".part", image)


def extents(image, path):
    """Returns the block numbers of a file, in the file's order."""
    text = run(
        "debugfs", "-R", f"dump_extents -l {path}", image, capture_output=True, text=True
    ).stdout
    blocks = []
    for line in text.splitlines()[1:]:
        numbers = [
            int(word) for word in line.replace("/", " ").replace("-", " ").split() if word.isdigit()
        ]
        _, _, _, _, _, _, first, last, _ = numbers[:9]
        blocks += range(first, last + 1)
    return blocks


def tree_commands(tree):
    """Yields debugfs commands that put a directory tree into the image."""
    for directory, _, files in os.walk(tree):
        inside = "/" + os.path.relpath(directory, tree)
        yield f"mkdir {inside}"
        yield f"cd {inside}"
        for name in files:
            path = os.path.join(directory, name)
            if os.path.isfile(path) and not os.path.islink(path):
                yield f"rm {name}"
                yield f"write {path} {name}"


def make_day1(image, before, database):
    run("cp", "--sparse=always", before, image + ".part")
    rng = random.Random("day1")
    with tempfile.TemporaryDirectory() as scratch:
        tree, debs = f"{scratch}/tree", f"{scratch}/debs"
        os.mkdir(debs)
        os.chmod(scratch, 0o755)
        run("apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *INSTALL, cwd=debs)
        for deb in os.listdir(debs):
            run("dpkg-deb", "-x", f"{debs}/{deb}", tree)
        # Rotate the log: the text of day0 moves to the new file syslog.1.
        put(f"{tree}/var/log/syslog.1", first_log())
        put(f"{tree}/var/log/syslog", log_text(rng, 12 * MIB))
        for n in range(12):
            put(f"{tree}/srv/media/new{n:03}.bin", rng.randbytes(rng.randrange(1, 6 * MIB)))
        commands = list(tree_commands(tree)) + [
            f"rm /srv/media/{n:03}.bin" for n in range(0, 24, 5)
        ]
        put(f"{scratch}/commands", "\n".join(commands).encode())
        # debugfs reports an error for each `mkdir` of a directory that exists, and for each `rm`
        # of a file that does not exist yet. These errors are harmless.
        run(
            "debugfs",
            "-w",
            "-f",
            f"{scratch}/commands",
            image + ".part",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    pages = extents(image + ".part", database)
    with open(image + ".part", "r+b") as file:
        # Four of five writes go to the first fifth of the database, the others to any page.
        for _ in range(2500):
            page = rng.choice(pages[: len(pages) // 5] if rng.random() < 0.8 else pages)
            file.seek(page * BLOCK)
            file.write(database_page(rng))
    run("e2fsck", "-fn", image + ".part", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.rename(image + ".part", image)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dir", help="directory for the images")
    parser.add_argument("--mirror", default="http://deb.debian.org/debian")
    parser.add_argument(
        "--database", default=DATABASE, help="the file in the image whose pages are written"
    )
    options = parser.parse_args()
    os.makedirs(options.dir, exist_ok=True)
    day0, day1 = f"{options.dir}/day0.img", f"{options.dir}/day1.img"
    if not os.path.exists(day0):
        make_day0(day0, f"{options.dir}/root", options.mirror)
        shutil.rmtree(f"{options.dir}/root")
    if not os.path.exists(day1):
        make_day1(day1, day0, options.database)
    print(day0, day1, sep="\n")


if __name__ == "__main__":
    main()
