//! Marks: the packs and segments that are going to be deleted. Section 14 (Mark) of
//! `docs/format.md`.

use std::collections::HashSet;
use std::time::SystemTime;

use jiff::Timestamp;

use super::work::Worker;
use crate::base::ObjectHash;
use crate::format::MarkBody;
use crate::repo::error::{Damage, RepoError};
use crate::repo::object_ref::ObjectRef;
use crate::repo::project::Project;
use crate::storage::StorageErrorKind;

/// A mark.
#[derive(Debug, Clone)]
pub struct Mark {
    /// The hash that names it.
    pub name: ObjectHash,
    /// The time when the mark was stored, by the store's clock. This time may be in the future: see
    /// [`Marks::settle_times`].
    pub since: SystemTime,
    /// The packs that no backup used when the mark was stored. Empty if the mark cannot be read.
    pub packs: Vec<ObjectHash>,
    /// The index segments that other segments supersede. Empty if the mark cannot be read.
    pub segments: Vec<ObjectHash>,
    /// Records that existed before the mark was stored. None of them uses the packs of the mark. If
    /// there were too many records, some are left out.
    pub records: HashSet<ObjectHash>,
    /// Whether the mark cannot be read.
    pub damaged: bool,
}

/// The marks of a project at one point in time.
#[derive(Debug, Clone, Default)]
pub struct Marks(Vec<Mark>);

impl Marks {
    /// Reads all marks. Fails if one needs a newer version of this program, or if the store cannot
    /// deliver one.
    ///
    /// A damaged mark is not an error: no process can read it, so none deletes the packs that it
    /// names. But a lack of permission and a disk error are errors, since the prune that stored the
    /// mark may be able to read it.
    pub fn load(project: &Project) -> Result<Self, RepoError> {
        Self::load_if(project, |error| match error {
            RepoError::Damaged {
                source: Damage::Unreadable(error),
                ..
            } if error.kind != StorageErrorKind::NotAFile => Err((*error).into()),
            _ => Ok(()),
        })
    }

    /// Like [`load`](Self::load), for a caller that neither commits nor deletes anything. Any mark
    /// that cannot be read counts as damaged.
    pub fn load_readable(project: &Project) -> Result<Self, RepoError> {
        Self::load_if(project, |_| Ok(()))
    }

    /// Reads all marks. For each mark that cannot be read, `accept` gets the error. If `accept`
    /// returns `Ok`, the mark counts as damaged. Otherwise this function fails.
    fn load_if(
        project: &Project,
        accept: impl Fn(RepoError) -> Result<(), RepoError>,
    ) -> Result<Self, RepoError> {
        let mut marks = Vec::new();
        for loaded in project.load_all::<MarkBody>()? {
            let ObjectRef::Mark(_, name) = loaded.object else {
                continue;
            };
            let body = match loaded.body {
                Ok(signed) => Some(signed.body),
                Err(error) => {
                    accept(error)?;
                    None
                }
            };
            let ids = |of: fn(&MarkBody) -> &[String]| body.as_ref().map(of).map(hashes);
            marks.push(Mark {
                name,
                since: loaded.listed.modified,
                packs: ids(|body| &body.packs).unwrap_or_default(),
                segments: ids(|body| &body.segments).unwrap_or_default(),
                records: ids(|body| &body.records)
                    .unwrap_or_default()
                    .into_iter()
                    .collect(),
                damaged: body.is_none(),
            });
        }
        Ok(Self(marks))
    }

    /// If the time of a mark is later than `now`, replaces it with the time when this host first
    /// saw the mark. A time in the future does not show how old a mark is. `now` is the time by the
    /// store's clock.
    pub fn settle_times(&mut self, project: &Project, now: SystemTime) {
        let later = || |mark: &&mut Mark| mark.since > now;
        let marks = self.0.iter_mut().filter(later());
        let marks: Vec<_> = marks.map(|mark| (mark.name, !mark.damaged)).collect();
        let first_seen = project.watch.first_seen(&marks, now);
        for (mark, since) in self.0.iter_mut().filter(later()).zip(first_seen) {
            mark.since = since;
        }
    }

    /// Returns the marks.
    #[must_use]
    pub fn all(&self) -> &[Mark] {
        &self.0
    }

    /// Returns the names of the marks.
    pub fn names(&self) -> impl Iterator<Item = ObjectHash> {
        self.0.iter().map(|mark| mark.name)
    }

    /// Returns all packs that the marks name.
    #[must_use]
    pub fn packs(&self) -> HashSet<ObjectHash> {
        self.0
            .iter()
            .flat_map(|mark| &mark.packs)
            .copied()
            .collect()
    }

    /// Returns all segments that the marks name.
    #[must_use]
    pub fn segments(&self) -> HashSet<ObjectHash> {
        let segments = self.0.iter().flat_map(|mark| &mark.segments);
        segments.copied().collect()
    }

    /// Returns whether a mark cannot be read, so that the packs that it names are unknown.
    #[must_use]
    pub fn any_damaged(&self) -> bool {
        self.0.iter().any(|mark| mark.damaged)
    }

    /// Stores marks for segments, and for packs that none of these records uses. Returns the names
    /// of the marks, which are durable then.
    pub fn put(
        project: &Project,
        packs: &[ObjectHash],
        segments: &[ObjectHash],
        records: &[ObjectHash],
        worker: Worker<'_>,
    ) -> Result<Vec<ObjectHash>, RepoError> {
        // If there are too many records, some are left out. This is safe: if neither the mark nor
        // the base of a backup names the other, the backup reads its whole tree before it commits.
        let records = &records[..records.len().min(MarkBody::IDS_MAX)];
        let body = |packs: &[ObjectHash], segments: &[ObjectHash]| MarkBody {
            requires: Vec::new(),
            packs: packs.iter().map(ToString::to_string).collect(),
            segments: segments.iter().map(ToString::to_string).collect(),
            records: records.iter().map(ToString::to_string).collect(),
            time: Timestamp::now().to_string(),
            host: worker.host.map(str::to_owned),
            tool: Some(worker.tool.to_owned()),
        };
        let packs = packs
            .chunks(MarkBody::IDS_MAX)
            .map(|packs| body(packs, &[]));
        let segments = segments.chunks(MarkBody::IDS_MAX);
        let mut bodies: Vec<_> = packs.collect();
        for segments in segments {
            match bodies.last_mut() {
                Some(last) if last.segments.is_empty() => {
                    last.segments = segments.iter().map(ToString::to_string).collect();
                }
                _ => bodies.push(body(&[], segments)),
            }
        }
        bodies.iter().map(|body| project.put(body)).collect()
    }

    /// Removes a mark, if it still exists. The packs and segments that it names must be deleted or
    /// in use again.
    pub fn remove(project: &Project, mark: ObjectHash) -> Result<(), RepoError> {
        project.objects.delete(ObjectRef::Mark(project.id, mark))
    }
}

/// Parses hashes. The decoder has verified that they are hashes.
fn hashes(texts: &[String]) -> Vec<ObjectHash> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}
