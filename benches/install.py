"""Finds the programs that cuttlebone is compared with, or installs them below target/peers/.

The versions are fixed, so that figures of different machines can be compared:

  restic 0.18   the package of Debian 13, downloaded from the Debian mirror that apt uses here, and
                unpacked but not installed. On an older Debian, the package debian-archive-keyring
                must contain the keys of Debian 13.
  borg 1.4      from PyPI, built in a virtual environment
  rustic 0.11   from crates.io
"""

import glob
import os
import re
import shutil
import subprocess
import sys

PEERS = os.path.abspath(f"{os.path.dirname(os.path.abspath(__file__))}/../target/peers")
VERSIONS = {"restic": "0.18", "borg": "1.4", "rustic": "0.11"}
BORG_PACKAGES = (
    "gcc",
    "pkg-config",
    "python3-dev",
    "python3-venv",
    "libacl1-dev",
    "liblz4-dev",
    "libssl-dev",
    "libxxhash-dev",
    "libzstd-dev",
)


def version(path):
    """Returns the version that a program reports, or an empty string if it reports none."""
    for argument in ("version", "--version"):
        try:
            ran = subprocess.run([path, argument], capture_output=True, text=True, check=False)
        except OSError:
            return ""
        found = re.search(r"\d+(\.\d+)+", ran.stdout)
        if ran.returncode == 0 and found:
            return found.group()
    return ""


def right(name, path):
    return bool(path) and version(path).startswith(VERSIONS[name] + ".")


def mirror():
    """Returns the address of the Debian archive that apt uses here."""
    # glob returns only files that exist.
    for pattern in ("sources.list", "sources.list.d/*.list", "sources.list.d/*.sources"):
        for path in sorted(glob.glob(f"/etc/apt/{pattern}")):
            text = open(path, encoding="utf-8").read()
            # Only HOST/debian is the Debian archive. Other paths belong to other archives.
            for found in re.finditer(
                r"^(?:URIs:|deb(?: \[.*?\])?) *([a-z+]+://[^/\s]+/debian/?)(?:\s|$)",
                text,
                re.MULTILINE,
            ):
                return found.group(1)
    sys.exit("restic: found no Debian mirror in /etc/apt; install restic 0.18 by hand")


def install_restic(directory):
    lists, cache = f"{directory}/apt/lists", f"{directory}/apt/cache"
    os.makedirs(f"{lists}/partial")
    os.makedirs(f"{cache}/archives/partial")
    sources = f"{directory}/apt/sources.list"
    with open(sources, "w", encoding="utf-8") as file:
        file.write(
            "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
            f" {mirror()} trixie main\n"
        )
    apt = [
        "apt-get",
        "-qq",
        "-o",
        f"Dir::Etc::sourcelist={sources}",
        "-o",
        "Dir::Etc::sourceparts=/dev/null",
        "-o",
        f"Dir::State::lists={lists}",
        "-o",
        f"Dir::Cache={cache}",
    ]
    subprocess.run([*apt, "update"], check=True)
    subprocess.run([*apt, "download", "restic"], check=True, cwd=directory)
    subprocess.run(
        ["dpkg-deb", "-x", *glob.glob(f"{directory}/restic_*.deb"), directory], check=True
    )
    os.makedirs(f"{directory}/bin")
    shutil.move(f"{directory}/usr/bin/restic", f"{directory}/bin/restic")


def install_borg(directory):
    subprocess.run([sys.executable, "-m", "venv", directory], check=True)
    ran = subprocess.run(
        [f"{directory}/bin/pip", "install", "-q", f"borgbackup=={VERSIONS['borg']}.*"], check=False
    )
    if ran.returncode:
        sys.exit(
            "borg: pip could not install it. To build borg, install these Debian packages:"
            f" {' '.join(BORG_PACKAGES)}"
        )


def install_rustic(directory):
    subprocess.run(
        [
            "cargo",
            "install",
            "-q",
            "--locked",
            "--no-default-features",
            "--root",
            directory,
            f"rustic-rs@~{VERSIONS['rustic']}",
        ],
        check=True,
        env=dict(os.environ, CARGO_TARGET_DIR=f"{directory}/build"),
    )
    shutil.rmtree(f"{directory}/build")


INSTALL = {"restic": install_restic, "borg": install_borg, "rustic": install_rustic}


def directory_of(name):
    """Returns the directory of a program in the wanted version; installs it if necessary."""
    own = f"{PEERS}/{name}"
    for path in (f"{own}/bin/{name}", shutil.which(name)):
        if right(name, path):
            return os.path.dirname(os.path.abspath(path))
    print(f"installing {name} {VERSIONS[name]} below {PEERS}", file=sys.stderr, flush=True)
    shutil.rmtree(own, ignore_errors=True)
    os.makedirs(own)
    INSTALL[name](own)
    if not right(name, f"{own}/bin/{name}"):
        sys.exit(f"{name}: the installed program is not version {VERSIONS[name]}")
    return f"{own}/bin"
