//! Head: adds all new objects to the signed log of a project, and states the newest entry. The user
//! keeps this statement on paper. Later, the statement shows whether a store was rolled back: the
//! stated entry must still exist. Every object that this entry covers must exist, too, unless a log
//! entry removed the object.

use std::collections::BTreeSet;

use super::context::{Context, TOOL};
use super::error::OpsError;
use super::statement::Statement;
use crate::base::{ObjectHash, ProjectId, Role, SignerId};
use crate::format::{BlobKind, LogEntry, LogItem, LogKind};
use crate::repo::{Index, Log, NewEntry, ObjectKind, Project, Records, RepoError, Worker};

/// After this many entries without a summary, the next entry is a summary if all objects fit into
/// one entry. A summary lists all objects again, so that a reader of the log need not read earlier
/// entries to know them.
const SUMMARY_AFTER: usize = 1000;

/// The state of a project's log.
#[derive(Debug, Clone)]
pub struct Head {
    /// The project.
    pub project: ProjectId,
    /// The name of the project.
    pub name: String,
    /// The number of the newest entry of the log.
    pub number: u64,
    /// The hash of that entry.
    pub entry: ObjectHash,
    /// When the entry was written, in seconds since 1970.
    pub time: u64,
    /// The public key that signs the log.
    pub signer: SignerId,
    /// Whether this run wrote the entry.
    pub written: bool,
    /// The number of objects that this run put into the log.
    pub added: u64,
    /// The number of objects that this entry and the entries before it cover.
    pub objects: u64,
}

impl Head {
    /// Returns the statement for paper.
    #[must_use]
    pub fn statement(&self) -> Statement {
        Statement::new(self.project, self.number, self.entry, &self.signer)
    }
}

/// Adds an entry for everything that the project has and the log does not name yet. Adds no entry
/// if three conditions hold: there is nothing new, a single entry already covers everything, and no
/// summary is due. Needs a full key.
pub fn head(
    project: &Project,
    host: Option<&str>,
    context: &Context<'_>,
) -> Result<Head, OpsError> {
    project.keys.require(Role::Full).map_err(RepoError::from)?;
    let index = context.index(project)?;
    let there = objects(project, &index, context)?;
    index.close();
    context.cancel.check()?;
    // Load the log after the objects were listed. Then it names all objects that were deleted
    // meanwhile.
    let mut log = Log::load(project)?;
    let before = log.newest();
    let mut set: BTreeSet<LogItem> = log.set().into_iter().collect();
    let is_new = |item: &LogItem| !set.contains(item) && !log.removed(item.kind, item.hash);
    let new: Vec<LogItem> = there.into_iter().filter(is_new).collect();
    let added = new.len() as u64;
    set.extend(&new);
    let objects = set.len() as u64;
    let summary = log.since_summary() >= SUMMARY_AFTER && set.len() <= LogEntry::ITEMS_MAX;
    let entry = NewEntry {
        added: if summary {
            set.into_iter().collect()
        } else {
            new
        },
        summary,
        // The statement needs a single entry that covers everything.
        always: log.tips().len() != 1,
        ..NewEntry::default()
    };
    log.append(project, entry, Worker { host, tool: TOOL })?;
    let newest = log.newest().ok_or(OpsError::Internal("the log is empty"))?;
    Ok(Head {
        project: project.id,
        name: project.settings.name.clone(),
        number: newest.number,
        entry: newest.hash,
        time: newest.time,
        signer: *project.keys.authority(),
        written: before.is_none_or(|before| before.hash != newest.hash),
        added,
        objects,
    })
}

/// Returns the valid objects that the log should name: settings, certificates, audits, records and
/// segments. Also returns the packs that exist and that a segment names.
fn objects(
    project: &Project,
    index: &Index,
    context: &Context<'_>,
) -> Result<BTreeSet<LogItem>, OpsError> {
    let mut items = BTreeSet::new();
    let mut add = |kind, hash| {
        items.insert(LogItem { kind, hash });
    };
    for (kind, object) in [
        (LogKind::Settings, ObjectKind::Settings),
        (LogKind::Certificate, ObjectKind::Certificate),
        (LogKind::Audit, ObjectKind::Audit),
    ] {
        for hash in project.intact(object)? {
            add(kind, hash);
        }
    }
    let records = Records::load(project)?;
    for backup in records.all() {
        add(LogKind::Record, backup.id);
    }
    for segment in index.segments()? {
        add(LogKind::Segment, segment);
    }
    let packs: BTreeSet<ObjectHash> = index.list_packs()?.iter().map(|p| p.hash).collect();
    let unnamed: BTreeSet<ObjectHash> = index.unnamed()?.into_iter().collect();
    index.each_pack(|listing| {
        context.cancel.check()?;
        // Leave out packs that no segment names: their backup may never be committed.
        if packs.contains(&listing.pack) && !unnamed.contains(&listing.pack) {
            let kind = match listing.contents.kind {
                BlobKind::Chunk => LogKind::ChunkPack,
                BlobKind::Node => LogKind::TreePack,
            };
            add(kind, listing.pack);
        }
        Ok(())
    })?;
    Ok(items)
}
