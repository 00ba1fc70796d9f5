"""Section 19: the order of backups, and which records a revocation leaves."""

from .bodies import Object, timestamp
from .keys import Signers


def references(record: Object) -> set[str]:
    return {*(record.get("follows") or []), *(record.get("heads") or [])}


def without_revoked(
    records: dict[str, Object], signed: dict[str, bytes], signers: Signers
) -> dict[str, Object]:
    """Leaves out the records that a revocation makes foreign. `signed`: each record's signer."""
    accepted = {name.hex() for signer in set(signed.values()) for name in signers.accepted(signer)}
    todo = list(accepted)
    while todo:
        new = references(records.get(todo.pop(), Object([]))) - accepted
        accepted |= new
        todo += new
    return {
        name: record
        for name, record in records.items()
        if name in accepted or not signers.is_revoked(signed[name])
    }


def newest_first(
    records: dict[str, Object], passed: dict[str, Object], full: set[str]
) -> list[str]:
    """Returns the backups of one volume, the newest first.

    `passed`: removed and voided records, with `follows` and `time`. `full`: records that full keys
    signed.
    """
    everything = passed | records
    replaced = {}
    for name in sorted(full & records.keys()):
        if (old := records[name].get("replaces")) in everything:
            replaced[old] = name

    def place(name: str) -> str:
        seen = set()
        while name in replaced and name not in seen:
            seen.add(name)
            name = replaced[name]
        return name

    members = {name for name in everything if name not in replaced}
    followers = {name: set() for name in members}
    for name in everything:
        for old in everything[name].get("follows") or []:
            if old in everything and place(old) != place(name):
                followers[place(old)].add(place(name))
    order, taken = [], set()
    while members - taken:
        ready = {name for name in members - taken if followers[name] <= taken} or members - taken
        gone = {name for name in ready if name in passed}
        chosen = gone or {max(ready, key=lambda name: (timestamp(everything[name]["time"]), name))}
        taken |= chosen
        order += chosen - gone
    return order
