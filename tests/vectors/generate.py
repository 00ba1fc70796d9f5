#!/usr/bin/env python3
"""Makes the test vectors, the same in every run: generate.py [DIR]. README.md describes their form.

The expected values come from what was written, never from a decoder. Where possible, a wrong object
has only one fault: its hash, tags, signatures and sums are computed after the fault was added.
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "reader")]

from cases import (  # noqa: E402
    derivations, indexes, keys, markers, packs, parities, records, statements, trees, wholes,
)  # fmt: skip

FILES = {
    "keys": derivations.keys, "ids": derivations.ids, "seal": derivations.seals,
    "session": derivations.sessions,
    "run": derivations.runs, "signature": derivations.signatures,
    "repository": keys.repository_file,
    "slot": keys.slots, "project": keys.projects, "settings": statements.settings,
    "certificate": statements.certificates, "pack": packs.packs, "index": indexes.indexes,
    "record": records.records,
    "log": statements.logs, "void": statements.voids, "audit": statements.audits,
    "ledger": statements.ledgers,
    "batch": statements.batches,
    "lease": markers.leases,
    "mark": markers.marks, "parity": parities.parities,
    "node": trees.nodes, "tree": trees.trees,
    "whole": wholes.wholes,
}  # fmt: skip


def main():
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    for name, make in FILES.items():
        cases = ",\n".join(
            json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in make()
        )
        (directory / f"{name}.json").write_text(f"[\n{cases}\n]\n")


if __name__ == "__main__":
    main()
