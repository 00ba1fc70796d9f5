//! A model of the packs that clients rely on, depending on who made the packs. A client with a full
//! key and one with a write key back up the same chunk. A thief with another write key stores wrong
//! data under the id of this chunk. Meanwhile, full keys audit, repack and rebuild the index. The
//! backups of the two clients must be complete, and a restore must return the data that they
//! stored.
//!
//! In this model, a prune is one step. The races of backups with prunes are in the main model.

use super::search::{self, breaks, holds};

/// The rules that protect the clients. A scenario can break each of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    /// A client does not rely on a pack of another write key, unless an audit names it.
    PacksOfOthersDoNotCount,
    /// A segment of another write key does not count, even if it lists a pack that counts.
    SegmentsOfOthersDoNotCount,
    /// A full key that lists a pack of another key copies the signer from the pack.
    SignerIsCopied,
    /// A full key that lists a pack of another key copies the contents from the pack, not from
    /// other segments.
    ListsContents,
    /// An audit names a pack only if the data of each of its chunks has the id that its contents
    /// state.
    AuditReadsAll,
    /// Repacking computes each id, and leaves out wrong chunks.
    RepackingComputesIds,
    /// Some packs are trusted: full keys rely on them. A prune that does not repack keeps every
    /// other pack that has a used chunk which no trusted pack has.
    AllOthersKeep,
    /// A restore computes the id of each chunk.
    RestoreComputesIds,
    /// A restore tries all packs that list a chunk.
    RestoreTriesAll,
}

/// Chunks, one bit each.
type Chunks = u8;

/// The chunk that the clients back up.
const X: Chunks = 1;
/// Another chunk, which the honest client stored before.
const Y: Chunks = 1 << 1;

/// The signers of packs and segments.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Signer {
    Full,
    Honest,
    Thief,
}

/// Signers, one bit each.
type Signers = u8;

impl Signer {
    const fn bit(self) -> Signers {
        1 << self as u8
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Pack {
    signer: Signer,
    /// The ids in its contents, and those of them whose chunks are right.
    contents: Chunks,
    right: Chunks,
    /// The signers of the segments that list it.
    listed_by: Signers,
    /// The signers of the segments that list X in it although its contents do not.
    x_added_by: Signers,
    /// Whether a segment of a full key states that a full key signed this pack.
    counts_as_full: bool,
    is_audited: bool,
}

const PACKS: usize = 7;
/// The clients that back up X. Client `n` commits the record of bit `n`.
const CLIENTS: [Signer; 2] = [Signer::Full, Signer::Honest];

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Client {
    Look,
    PutPack,
    /// Stores a segment that lists this pack.
    PutSegment(usize),
    Commit,
    Ended,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    packs: [Option<Pack>; PACKS],
    clients: [Client; 2],
    records: u8,
    /// The attacks that the thief can still make, one bit each: store wrong data, list this data,
    /// list X in a pack of another key.
    attacks: u8,
}

struct Scenario {
    broken: Option<Rule>,
}

const fn pack(signer: Signer, contents: Chunks, right: Chunks) -> Pack {
    Pack {
        signer,
        contents,
        right,
        listed_by: 0,
        x_added_by: 0,
        counts_as_full: false,
        is_audited: false,
    }
}

impl Pack {
    /// Returns the ids that segments of these signers list in this pack.
    fn listed(self, by: Signers) -> Chunks {
        let from_contents = if self.listed_by & by == 0 {
            0
        } else {
            self.contents
        };
        let added = if self.x_added_by & by == 0 { 0 } else { X };
        from_contents | added
    }
}

impl State {
    fn put(&mut self, pack: Pack) -> Option<usize> {
        let free = self.packs.iter().position(Option::is_none)?;
        self.packs[free] = Some(pack);
        Some(free)
    }

    fn packs(&self) -> impl Iterator<Item = (usize, Pack)> {
        let packs = self.packs.iter().enumerate();
        packs.filter_map(|(n, pack)| Some((n, (*pack)?)))
    }
}

impl Scenario {
    fn holds(&self, rule: Rule) -> bool {
        self.broken != Some(rule)
    }

    /// Returns the chunks that a client need not store, because it relies on this pack.
    fn present(&self, pack: Pack, client: Signer) -> Chunks {
        let trusted = client.bit() | Signer::Full.bit();
        let by = if self.holds(Rule::SegmentsOfOthersDoNotCount) {
            trusted
        } else {
            Signers::MAX
        };
        let is_trusted = pack.signer.bit() & trusted != 0 || pack.counts_as_full;
        let counts = is_trusted || pack.is_audited || !self.holds(Rule::PacksOfOthersDoNotCount);
        // If only `PacksOfOthersDoNotCount` is broken, `SegmentsOfOthersDoNotCount` still holds.
        // Then a pack of another write key counts only after a full key has listed it.
        if counts { pack.listed(by) } else { 0 }
    }

    fn client(&self, state: &State, n: usize, to: &mut Vec<State>) {
        let mut next = *state;
        let client = CLIENTS[n];
        next.clients[n] = match state.clients[n] {
            Client::Look => {
                let mut packs = state.packs();
                if packs.any(|(_, pack)| self.present(pack, client) & X != 0) {
                    Client::Commit
                } else {
                    Client::PutPack
                }
            }
            Client::PutPack => match next.put(pack(client, X, X)) {
                Some(pack) => Client::PutSegment(pack),
                None => return,
            },
            Client::PutSegment(pack) => {
                if let Some(pack) = &mut next.packs[pack] {
                    pack.listed_by |= client.bit();
                }
                Client::Commit
            }
            Client::Commit => {
                next.records |= 1 << n;
                Client::Ended
            }
            Client::Ended => return,
        };
        to.push(next);
    }

    fn thief(state: &State, to: &mut Vec<State>) {
        for attack in (0..3).filter(|n| state.attacks >> n & 1 != 0) {
            let mut next = *state;
            next.attacks &= !(1 << attack);
            match attack {
                0 => {
                    if next.put(pack(Signer::Thief, X, 0)).is_none() {
                        continue;
                    }
                }
                1 => {
                    let mut packs = next.packs.iter_mut().flatten();
                    let Some(wrong) = packs.find(|pack| pack.signer == Signer::Thief) else {
                        continue;
                    };
                    wrong.listed_by |= Signer::Thief.bit();
                }
                _ => {
                    let mut packs = next.packs.iter_mut().flatten();
                    let Some(of_other) = packs.find(|pack| pack.contents == Y) else {
                        continue;
                    };
                    of_other.x_added_by |= Signer::Thief.bit();
                }
            }
            to.push(next);
        }
    }

    /// A full key reads the whole pack, or only its contents to rebuild the index.
    fn read_pack(&self, state: &State, n: usize, pack: Pack, to: &mut Vec<State>) {
        let listed = Pack {
            listed_by: pack.listed_by | Signer::Full.bit(),
            counts_as_full: pack.counts_as_full
                || pack.signer != Signer::Full && !self.holds(Rule::SignerIsCopied),
            x_added_by: match pack.x_added_by {
                by if by != 0 && !self.holds(Rule::ListsContents) => by | Signer::Full.bit(),
                by => by,
            },
            ..pack
        };
        let mut next = *state;
        next.packs[n] = Some(listed);
        to.push(next);
        let is_whole = pack.contents == pack.right || !self.holds(Rule::AuditReadsAll);
        if pack.signer != Signer::Full && is_whole {
            next.packs[n] = Some(Pack {
                is_audited: true,
                ..listed
            });
            to.push(next);
        }
    }

    /// A prune. It repacks all packs on which full keys do not rely, or no pack.
    fn prune(&self, state: &State, repacks: bool, to: &mut Vec<State>) {
        let mut next = *state;
        // Leases keep the packs of running clients.
        let is_at_work = |client: &Client| !matches!(client, Client::Look | Client::Ended);
        let used = state.records != 0 || state.clients.iter().any(is_at_work);
        let used = if used { X } else { 0 };
        let mut kept = 0;
        let trusted = |pack: &Pack| self.present(*pack, Signer::Full) != 0;
        for (n, pack) in state.packs().filter(|(_, pack)| trusted(pack)) {
            let keeps = self.present(pack, Signer::Full) & used & !kept;
            if keeps == 0 && pack.contents & Y == 0 {
                next.packs[n] = None;
            }
            kept |= keeps;
        }
        let others = || {
            state
                .packs()
                .filter(|(_, pack)| !trusted(pack) && pack.listed_by != 0)
        };
        let mut copied = 0;
        let mut is_right = 0;
        for (n, pack) in others() {
            let keeps = pack.contents & used & !kept & !copied;
            let is_wrong = keeps & !pack.right;
            if repacks && keeps != 0 {
                let taken = if self.holds(Rule::RepackingComputesIds) {
                    keeps & pack.right
                } else {
                    keeps
                };
                copied |= taken;
                is_right |= taken & pack.right;
                // If a used chunk is wrong here, and no other pack has it, the pack stays.
                if is_wrong & !taken == 0 && pack.contents & Y == 0 {
                    next.packs[n] = None;
                }
                continue;
            }
            if keeps == 0 && pack.contents & Y == 0 {
                next.packs[n] = None;
            }
            if !self.holds(Rule::AllOthersKeep) {
                kept |= keeps;
            }
        }
        if copied != 0 {
            let new = Pack {
                listed_by: Signer::Full.bit(),
                ..pack(Signer::Full, copied, is_right)
            };
            if next.put(new).is_none() {
                return;
            }
        }
        to.push(next);
    }
}

impl search::Model for Scenario {
    type State = State;

    fn initial(&self) -> State {
        let mut state = State {
            packs: [None; PACKS],
            clients: [Client::Look; 2],
            records: 0,
            attacks: 0b111,
        };
        // The honest client has already stored another chunk.
        state.packs[0] = Some(Pack {
            listed_by: Signer::Honest.bit(),
            ..pack(Signer::Honest, Y, Y)
        });
        state
    }

    fn next(&self, state: &State, to: &mut Vec<State>) {
        for n in 0..CLIENTS.len() {
            self.client(state, n, to);
        }
        Self::thief(state, to);
        for (n, pack) in state.packs() {
            self.read_pack(state, n, pack, to);
        }
        self.prune(state, false, to);
        self.prune(state, true, to);
    }

    fn fault(&self, state: &State) -> Option<String> {
        if state.records == 0 {
            return None;
        }
        let has = |pack: &Pack| pack.listed(Signers::MAX) & X != 0;
        let places: Vec<Pack> = state.packs().map(|(_, p)| p).filter(has).collect();
        let is_right = |pack: &Pack| pack.right & X != 0;
        let is_wrong = |pack: &&Pack| pack.contents & X != 0 && !is_right(pack);
        let first = places.first().map(is_right);
        let finds = places.iter().any(is_right);
        match () {
            () if !finds => Some("a chunk that a record needs is lost".to_owned()),
            () if !self.holds(Rule::RestoreTriesAll) && first == Some(false) => {
                Some("a restore fails".to_owned())
            }
            () if !self.holds(Rule::RestoreComputesIds) => {
                let wrong = places.iter().find(is_wrong)?;
                Some(format!(
                    "a restore gives data that {:?} stored",
                    wrong.signer
                ))
            }
            () => None,
        }
    }

    fn rest(&self, state: &State) -> State {
        *state
    }

    fn fault_at_rest(&self, _: &State) -> Option<String> {
        None
    }

    fn describe(&self, before: &State, after: &State) -> String {
        let client = (0..CLIENTS.len()).find(|n| before.clients[*n] != after.clients[*n]);
        let count = |state: &State| state.packs().count();
        match client {
            Some(n) => format!("{:?}: {:?}", CLIENTS[n], before.clients[n]),
            None if before.attacks != after.attacks => {
                format!("Thief: {:#b}", before.attacks & !after.attacks)
            }
            None if (0..PACKS).all(|n| before.packs[n].is_some() == after.packs[n].is_some()) => {
                "a full key reads or repacks packs".to_owned()
            }
            None => format!("a prune: {} packs, then {}", count(before), count(after)),
        }
    }
}

#[test]
fn a_thief_of_a_write_key_cannot_damage_the_backups_of_others() {
    holds("provenance", &Scenario { broken: None });
}

/// If any one of the rules is broken, a thief succeeds, and the search finds the steps that lead to
/// this.
#[test]
fn no_rule_of_provenance_can_be_omitted() {
    for rule in [
        Rule::PacksOfOthersDoNotCount,
        Rule::SegmentsOfOthersDoNotCount,
        Rule::SignerIsCopied,
        Rule::ListsContents,
        Rule::AuditReadsAll,
        Rule::RepackingComputesIds,
        Rule::AllOthersKeep,
        Rule::RestoreComputesIds,
        Rule::RestoreTriesAll,
    ] {
        breaks(rule, &Scenario { broken: Some(rule) });
    }
}
