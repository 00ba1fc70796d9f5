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

    `passed`: removed and voided records, with `follows` and `time`. `full`: the names of records
    whose `replaces` counts. These are the records that full keys signed, and removed records: the
    log repeats `replaces` only if it counts.
    """
    everything = passed | records
    successors = {}
    for name in full & everything.keys():
        if old := everything[name].get("replaces"):
            successors.setdefault(old, set()).add(name)

    def with_successors(names: list[str]) -> set[str]:
        found, todo = set(), list(names)
        while todo:
            if (name := todo.pop()) not in found:
                found.add(name)
                todo += successors.get(name, ())
        return found

    followers = {name: set() for name in everything}
    for name, record in everything.items():
        after = with_successors(record.get("follows") or [])
        if name in full and record.get("replaces"):
            after.add(record["replaces"])
        for old in (after - {name}) & everything.keys():
            followers[old].add(name)
    replaced = {old for old, by in successors.items() if by & records.keys()}
    order, taken = [], set()
    while everything.keys() - taken:
        rest = everything.keys() - taken
        ready = {name for name in rest if followers[name] <= taken} or rest
        gone = {name for name in ready if name in passed}
        chosen = gone or {max(ready, key=lambda name: (timestamp(everything[name]["time"]), name))}
        taken |= chosen
        order += chosen - gone - replaced
    return order
