//! What is going to be deleted: section 14 of `docs/format.md`.

use std::collections::HashSet;
use std::time::SystemTime;

use jiff::Timestamp;

use super::error::RepoError;
use super::lease::Worker;
use super::object_ref::ObjectRef;
use super::project::Project;
use crate::base::ObjectHash;
use crate::format::MarkBody;

/// A mark.
#[derive(Debug, Clone)]
pub struct Mark {
    /// Its name.
    pub name: ObjectHash,
    /// When it was put, by the store's clock.
    pub since: SystemTime,
    /// Packs that nothing used. None if it cannot be read.
    pub packs: Vec<ObjectHash>,
    /// Index segments that others stand for.
    pub segments: Vec<ObjectHash>,
    /// Records that use none of these packs: all that there were before it was put.
    pub records: HashSet<ObjectHash>,
    /// What is wrong with it, if it cannot be read.
    pub damaged: bool,
}

/// The marks of a project, as of one moment.
#[derive(Debug, Clone, Default)]
pub struct Marks(Vec<Mark>);

impl Marks {
    /// Reads all marks. One that needs a newer program fails.
    pub fn load(project: &Project) -> Result<Self, RepoError> {
        let mut marks = Vec::new();
        for loaded in project.load_all::<MarkBody>()? {
            let ObjectRef::Mark(_, name) = loaded.object else {
                continue;
            };
            let damaged = loaded.body.is_err();
            let body = loaded.body.ok();
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
                damaged,
            });
        }
        Ok(Self(marks))
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[Mark] {
        &self.0
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = ObjectHash> {
        self.0.iter().map(|mark| mark.name)
    }

    /// All packs that they name.
    #[must_use]
    pub fn packs(&self) -> HashSet<ObjectHash> {
        self.0
            .iter()
            .flat_map(|mark| &mark.packs)
            .copied()
            .collect()
    }

    /// All segments that they name.
    #[must_use]
    pub fn segments(&self) -> HashSet<ObjectHash> {
        let segments = self.0.iter().flat_map(|mark| &mark.segments);
        segments.copied().collect()
    }

    /// Whether any cannot be read, so that nobody knows what it names.
    #[must_use]
    pub fn any_damaged(&self) -> bool {
        self.0.iter().any(|mark| mark.damaged)
    }

    /// Marks packs, of which these records use none, and segments. Durable when it returns; the marks that were made.
    pub fn put(
        project: &Project,
        packs: &[ObjectHash],
        segments: &[ObjectHash],
        records: &[ObjectHash],
        worker: Worker<'_>,
    ) -> Result<Vec<ObjectHash>, RepoError> {
        // Whoever builds on one that is left out looks for himself.
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

    /// Removes a mark, unless that was done already. All that it names is deleted or in use again.
    pub fn remove(project: &Project, mark: ObjectHash) -> Result<(), RepoError> {
        project.objects.delete(ObjectRef::Mark(project.id, mark))
    }
}

/// Parses hashes. The decoder has verified that they are hashes.
fn hashes(texts: &[String]) -> Vec<ObjectHash> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}
