//! Reads from the ledger (the project's list of checks and drills) which part of the data was
//! verified, and when.

use std::collections::{BTreeMap, HashSet};
use std::time::SystemTime;

use jiff::Timestamp;

use super::context::Context;
use super::error::OpsError;
use crate::base::Role;
use crate::format::{AuditRun, DrillRun, VerifiedLevel};
use crate::repo::{Ledger, Project, since_1970};

/// How much of the data was verified at a level. Counts only verifications by full keys and by the
/// key in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    /// The level.
    pub level: VerifiedLevel,
    /// The number of packs in the store.
    pub packs: u64,
    /// Their total size in bytes.
    pub bytes: u64,
    /// The total size in bytes of the packs that count as never verified. Such a pack was not
    /// verified since it was stored here, or was found damaged after its last verification.
    pub bytes_never: u64,
    /// The number of packs that `bytes_never` counts.
    pub packs_never: u64,
    /// The oldest time in `days`; `None` if `days` is empty.
    pub oldest: Option<Timestamp>,
    /// Ascending times, each with the total size in bytes of the packs whose last verification was
    /// at that time. Leaves out the packs that `bytes_never` counts.
    pub days: Vec<(Timestamp, u64)>,
}

/// The content of the ledger.
#[derive(Debug, Clone)]
pub struct AuditList {
    /// The coverage at each level.
    pub coverage: Vec<Coverage>,
    /// Runs that read packs, oldest first, with the roles of their keys.
    pub runs: Vec<(Role, AuditRun)>,
    /// Restore drills with full keys, oldest first.
    pub drills: Vec<DrillRun>,
}

/// Reads the ledger, and compares it with the packs that exist.
pub fn audit_list(project: &Project, context: &Context<'_>) -> Result<AuditList, OpsError> {
    let index = context.index(project)?;
    let packs = index.list_packs()?;
    let existing: HashSet<_> = packs.iter().map(|pack| pack.hash).collect();
    let now = since_1970(SystemTime::now());
    let ledger = Ledger::load(project, now, |pack| existing.contains(pack))?;
    let coverage = [VerifiedLevel::Opened, VerifiedLevel::Hashed].map(|level| {
        let verified = ledger.verified(level);
        let mut covered = Coverage {
            level,
            packs: packs.len() as u64,
            bytes: packs.iter().map(|pack| pack.info.size).sum(),
            bytes_never: 0,
            packs_never: 0,
            oldest: None,
            days: Vec::new(),
        };
        let mut days = BTreeMap::<u64, u64>::new();
        for pack in &packs {
            let time = verified.get(&pack.hash).copied();
            if let Some(time) = time.filter(|time| since_1970(pack.info.modified) <= *time) {
                *days.entry(time).or_default() += pack.info.size;
            } else {
                covered.packs_never += 1;
                covered.bytes_never += pack.info.size;
            }
        }
        let days = days
            .into_iter()
            .map(|(time, bytes)| (timestamp(time), bytes));
        covered.days = days.collect();
        covered.oldest = covered.days.first().map(|(time, _)| *time);
        covered
    });
    index.close();
    Ok(AuditList {
        coverage: coverage.into(),
        runs: ledger.runs(),
        drills: ledger.drills(),
    })
}

/// Returns the time at this number of milliseconds since 1970, or 1970-01-01 UTC if it is too
/// large.
fn timestamp(milliseconds: u64) -> Timestamp {
    let milliseconds = i64::try_from(milliseconds).ok();
    let time = milliseconds.and_then(|time| Timestamp::from_millisecond(time).ok());
    time.unwrap_or_default()
}
