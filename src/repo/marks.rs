//! What is going to be deleted: section 14 of `docs/format.md`.

use std::collections::HashSet;
use std::time::SystemTime;

use jiff::Timestamp;

use super::error::RepoError;
use super::layout::ObjectRef;
use super::lease::Worker;
use super::parallel::parallel_map;
use super::project::Project;
use crate::base::ObjectHash;
use crate::format::{Magic, MarkBody};

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
        let any = ObjectRef::Mark(project.id, ObjectHash::from_bytes([0; 32]));
        let listed = project.objects.list(&any.directory())?;
        let marks = parallel_map(&listed, |(object, _, listed)| {
            let ObjectRef::Mark(_, name) = *object else {
                return Ok(None);
            };
            let mut mark = Mark {
                name,
                since: listed.modified,
                packs: Vec::new(),
                segments: Vec::new(),
                records: HashSet::new(),
                damaged: false,
            };
            match read(project, name) {
                Ok(body) => {
                    mark.packs = hashes(&body.packs);
                    mark.segments = hashes(&body.segments);
                    mark.records = hashes(&body.records).into_iter().collect();
                }
                Err(e) if e.is_missing() => return Ok(None), // done with since it was listed
                Err(RepoError::Damaged { .. }) => mark.damaged = true,
                Err(e) => return Err(e),
            }
            Ok(Some(mark))
        })?;
        Ok(Self(marks.into_iter().flatten().collect()))
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
        let object = |hash| ObjectRef::Mark(project.id, hash);
        let key = (project.id, project.keys.object());
        let stored = bodies.iter().map(|body| {
            let body = body.encode();
            project.objects.put_sealed(object, Magic::Mark, key, &body)
        });
        stored.collect()
    }

    /// Removes a mark, unless that was done already. All that it names is deleted or in use again.
    pub fn remove(project: &Project, mark: ObjectHash) -> Result<(), RepoError> {
        project.objects.delete(ObjectRef::Mark(project.id, mark))
    }
}

fn read(project: &Project, name: ObjectHash) -> Result<MarkBody, RepoError> {
    let object = ObjectRef::Mark(project.id, name);
    let key = (project.id, project.keys.object());
    let limit = MarkBody::BODY_MAX;
    let body = project
        .objects
        .get_sealed(object, name, Magic::Mark, key, limit)?;
    MarkBody::decode(&body).map_err(|e| RepoError::format(object, e))
}

/// The decoder has seen that they are hashes.
fn hashes(texts: &[String]) -> Vec<ObjectHash> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}
