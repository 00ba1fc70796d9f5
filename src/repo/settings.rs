//! The settings of a project. If the store has several revisions, the highest one counts. Section
//! 15 (Settings) of `docs/format.md`.

use std::collections::BTreeMap;

use super::error::RepoError;
use super::object_kind::ObjectKind;
use super::object_ref::ObjectRef;
use super::objects::Objects;
use super::parallel::parallel_map;
use super::project::Project;
use crate::base::{Notice, ObjectHash, Observer, ProjectId, Silent};
use crate::format::{ProjectSettings, SealedObject};

/// An object with settings: the hash that names it, and the bytes of one of its copies. `None` if
/// this copy cannot be read, or has too many bytes to keep them in memory.
pub(super) type FoundSettings = (ObjectHash, Option<Vec<u8>>);

/// The maximum length of an object with settings, in bytes.
const LEN_MAX: u64 = SealedObject::len_max(ProjectSettings::BODY_MAX) as u64;

/// The maximum number of bytes of settings that are kept in memory before a key has opened a
/// project. Anyone who can write to the store can add settings. Genuine settings have less than
/// 1 KiB.
const MEMORY: u64 = 64 << 20;

/// Returns the number of bytes of settings that may be kept for each project if the repository has
/// this many projects.
pub(super) fn memory_of_each(projects: usize) -> u64 {
    MEMORY / (projects as u64).max(1)
}

/// Lists the settings of a project and reads their first copies, the shortest ones first, as long
/// as they have at most `memory` bytes in total. Needs no key.
pub(super) fn find(
    objects: &Objects,
    project: ProjectId,
    memory: u64,
) -> Result<Vec<FoundSettings>, RepoError> {
    let mut sizes: BTreeMap<ObjectHash, Option<u64>> = BTreeMap::new();
    for (object, is_second, info) in objects.list(&ObjectKind::Settings.directory(project))? {
        if let ObjectRef::Settings(_, hash) = object {
            let first = (!is_second).then_some(info.size);
            let size = sizes.entry(hash).or_default();
            *size = size.or(first);
        }
    }
    let mut found: Vec<(ObjectHash, Option<u64>)> = sizes.into_iter().collect();
    found.sort_by_key(|(_, size)| size.unwrap_or_default());
    let mut left = memory;
    for (_, size) in &mut found {
        let rest = size.and_then(|size| left.checked_sub(size));
        *size = size.filter(|_| rest.is_some());
        left = rest.unwrap_or(left);
    }
    parallel_map(&found, |(hash, size)| {
        let name = ObjectRef::Settings(project, *hash).name();
        // The other settings are read after a key has opened the project.
        let bytes = match size {
            Some(size) => objects.get_copy(&name, LEN_MAX.min(*size))?,
            None => None,
        };
        Ok((*hash, bytes))
    })
}

/// Reads the second copies of these settings, as long as they have at most `memory` bytes in total.
pub(super) fn read_copies(
    objects: &Objects,
    project: ProjectId,
    found: &[FoundSettings],
    memory: u64,
) -> Result<Vec<FoundSettings>, RepoError> {
    let mut left = memory;
    let read = |(hash, _): &FoundSettings| {
        let name = ObjectRef::Settings(project, *hash).copy_name();
        let bytes = match left {
            0 => None,
            _ => objects.get_copy(&name, LEN_MAX.min(left))?,
        };
        left -= bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        Ok((*hash, bytes))
    };
    found.iter().map(read).collect()
}

/// Returns the settings with the highest revision. If several settings have this revision, returns
/// those with the largest hash. Reports unreadable settings as notices, and ignores foreign ones.
/// Fails if none are left, or if those with the highest revision need a newer version of this
/// program.
pub(super) fn newest(
    project: &Project,
    found: &[FoundSettings],
    observer: &dyn Observer,
) -> Result<ProjectSettings, RepoError> {
    let mut newest: Option<(u64, ObjectHash, Vec<u8>)> = None;
    for (hash, bytes) in found {
        let object = ObjectRef::Settings(project.id, *hash);
        let open = |bytes: &[u8]| open(project, object, *hash, bytes);
        let opened = match bytes.as_deref().map(open) {
            Some(Ok(opened)) => Ok(opened),
            _ => (project.objects).get_twice(object, LEN_MAX, observer, open),
        };
        match opened {
            Ok((revision, body)) => {
                let later = newest
                    .as_ref()
                    .is_none_or(|(highest, last, _)| (*highest, *last) < (revision, *hash));
                if later {
                    newest = Some((revision, *hash, body));
                }
            }
            Err(RepoError::Foreign { .. }) => {}
            Err(e @ RepoError::Damaged { .. }) => {
                let problem = e.to_string();
                observer.notice(Notice::SettingsDamaged { problem });
            }
            Err(e) => return Err(e),
        }
    }
    let project = project.id;
    let (_, hash, body) = newest.ok_or(RepoError::NoSettings { project })?;
    ProjectSettings::decode(&body)
        .map_err(|e| RepoError::format(ObjectRef::Settings(project, hash), e))
}

/// Reads the newest settings of an open project from the store. Reports no damaged settings.
pub(super) fn read_newest(project: &Project) -> Result<ProjectSettings, RepoError> {
    let found = find(&project.objects, project.id, MEMORY)?;
    newest(project, &found, &Silent)
}

/// Opens settings. Returns their revision and their body. Decodes only the revision, since a newer
/// program may have stored them. Reads nothing from the store.
pub(super) fn open(
    project: &Project,
    object: ObjectRef,
    hash: ObjectHash,
    bytes: &[u8],
) -> Result<(u64, Vec<u8>), RepoError> {
    let opened = project.open_hashed(object, hash, bytes, ProjectSettings::BODY_MAX)?;
    let revision =
        ProjectSettings::revision(&opened.body).map_err(|e| RepoError::format(object, e))?;
    Ok((revision, opened.body))
}
