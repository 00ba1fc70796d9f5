#!/usr/bin/env python3
"""Times backups to a repository on a server, and restores, over links with long round trips.

    benches/sftp.py [--size 2048] [--rtt 20,100] [--reps 1] [--connections 2] [--no-restic]
                    [--dir DIR]

Starts an OpenSSH server on loopback, and a proxy that delays each direction by half of the round
trip. The proxy does not limit how many bytes are in transit. Then this script runs `put` and `get`
of sftp with one file of incompressible data. With cuttlebone, it makes a full backup of this file,
restores it, and backs up the unchanged file again. It does the same with restic, if restic is
installed. For each step it prints seconds, MB/s, CPU seconds of the client, and the speed relative
to sftp. --connections applies only to cuttlebone. Needs target/release/cuttlebone and OpenSSH.
"""

import argparse
import os
import pathlib
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CUTTLEBONE = ROOT / "target/release/cuttlebone"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Delay:
    """Accepts connections, and forwards each piece of data half a round trip after its arrival."""

    def __init__(self, target, rtt):
        self.target, self.half = target, rtt / 2
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            near, _ = self.listener.accept()
            far = socket.create_connection(("127.0.0.1", self.target))
            for s in (near, far):
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for a, b in ((near, far), (far, near)):
                self.way(a, b)

    def way(self, source, sink):
        pieces, some = [], threading.Condition()

        def read():
            while True:
                try:
                    data = source.recv(1 << 18)
                except OSError:
                    data = b""
                with some:
                    pieces.append((time.monotonic() + self.half, data))
                    some.notify()
                if not data:
                    return

        def write():
            at = 0
            while True:
                with some:
                    while at >= len(pieces):
                        some.wait()
                    due, data = pieces[at]
                    at += 1
                    if at > 256:
                        del pieces[:at]
                        at = 0
                pause = due - time.monotonic()
                if pause > 0:
                    time.sleep(pause)
                try:
                    if not data:
                        sink.shutdown(socket.SHUT_WR)
                        return
                    sink.sendall(data)
                except OSError:
                    return

        for task in (read, write):
            threading.Thread(target=task, daemon=True).start()


class Server:
    def __init__(self, place):
        self.place, self.port = place, free_port()
        for key in ("host", "user"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place / key], check=True
            )
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)
        (place / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {place}/host\n"
            f"AuthorizedKeysFile {place}/user.pub\nPidFile none\nUsePAM no\nStrictModes no\n"
            "PermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            "MaxStartups 100\nSubsystem sftp internal-sftp\n"
        )
        sshd = shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
        self.process = subprocess.Popen(
            [sshd, "-D", "-e", "-f", place / "sshd_config"], stderr=subprocess.DEVNULL
        )
        (place / "config").write_text(
            f"Host *\n  IdentityFile {place}/user\n  IdentitiesOnly yes\n  IdentityAgent none\n"
            "  UserKnownHostsFile /dev/null\n  StrictHostKeyChecking no\n  LogLevel ERROR\n"
            "  Ciphers aes128-gcm@openssh.com\n"
        )
        time.sleep(1)

    def stop(self):
        self.process.terminate()


def timed(command, **options):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.monotonic()
    ran = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    took = time.monotonic() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if ran.returncode != 0:
        sys.exit(f"{command}: {ran.returncode}\n{ran.stdout}\n{ran.stderr}")
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=2048, help="MiB")
    parser.add_argument("--rtt", default="20,100", help="milliseconds")
    parser.add_argument("--reps", type=int, default=1)
    parser.add_argument("--connections", default="2")
    parser.add_argument("--no-restic", action="store_true")
    parser.add_argument("--dir", default=None)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.dir) as place:
        place = pathlib.Path(place)
        server = Server(place)
        try:
            measure(args, place, server)
        finally:
            server.stop()


def measure(args, place, server):
    image, back, store = place / "image", place / "back", place / "store"
    with open(image, "wb") as file:
        for _ in range(args.size):
            file.write(os.urandom(1 << 20))
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    restic = None if args.no_restic else shutil.which("restic")
    for rtt in map(float, args.rtt.split(",")):
        proxy = Delay(server.port, rtt / 1000)
        ssh = ["-F", place / "config", "-P", proxy.port]
        figures = {}

        def note(what, ran):
            figures.setdefault(what, []).append(ran)

        for _ in range(args.reps):
            shutil.rmtree(store, ignore_errors=True)
            store.mkdir()
            host = f"{user}@127.0.0.1"
            note(
                "sftp put",
                timed(["sftp", *ssh, "-b", "-", host], input=f"put {image} {store}/file\n"),
            )
            note(
                "sftp get",
                timed(["sftp", *ssh, "-b", "-", host], input=f"get {store}/file {back}\n"),
            )
            back.unlink()
            (store / "file").unlink()

            environment = {
                "PATH": os.environ["PATH"],
                "HOME": str(place),
                "CUTTLEBONE_PASSWORD": "x",
                "CUTTLEBONE_REPOSITORY": f"sftp://{host}:{proxy.port}/{store}/repo",
                "CUTTLEBONE_CACHE_DIR": str(place / "cache"),
            }
            far = [
                "--ssh-command",
                f"ssh -F {place}/config",
                "--connections",
                args.connections,
                "-q",
            ]
            run = lambda *words: timed([CUTTLEBONE, *words, *far], env=environment)
            run("init", "--kdf-memory", "8M", "--kdf-passes", "5")
            note("cuttlebone backup", run("backup", image))
            note("cuttlebone restore", run("restore", "image", back))
            if subprocess.run(["cmp", image, back]).returncode:
                sys.exit("the restored file differs from the original")
            back.unlink()
            note("cuttlebone again", run("backup", image))
            shutil.rmtree(store / "repo")
            shutil.rmtree(place / "cache")

            if restic:
                command = f"ssh -F {place}/config -p {proxy.port} {host} -s sftp"
                environment = {
                    "PATH": os.environ["PATH"],
                    "HOME": str(place),
                    "RESTIC_PASSWORD": "x",
                    "RESTIC_CACHE_DIR": str(place / "rc"),
                }
                far = ["-r", f"sftp:{host}:{store}/restic", "-o", f"sftp.command={command}", "-q"]
                run = lambda *words: timed([restic, *far, *words], env=environment)
                run("init")
                note("restic backup", run("backup", image))
                note("restic restore", run("restore", "latest", "--target", place / "rr"))
                note("restic again", run("backup", image))
                shutil.rmtree(place / "rr")
                shutil.rmtree(store / "restic")
                shutil.rmtree(place / "rc", ignore_errors=True)
        print(f"\nround trip {rtt:g} ms, {args.size} MiB, {args.connections} connections")
        base = {
            kind: statistics.median(t for t, _ in figures[f"sftp {kind}"])
            for kind in ("put", "get")
        }
        for what, runs in figures.items():
            took = statistics.median(t for t, _ in runs)
            cpu = statistics.median(c for _, c in runs)
            like = "get" if what.split()[1] in ("get", "restore") else "put"
            speed = args.size * 1.048576 / took
            print(
                f"{what:20} {took:7.2f} s {speed:7.1f} MB/s  CPU {cpu:6.2f} s  "
                    f"{base[like] / took:5.2f} x sftp {like}"
            )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
