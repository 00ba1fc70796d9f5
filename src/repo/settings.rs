//! The settings of a project: the highest revision in the store. Section 15 of `docs/format.md`.

use super::error::RepoError;
use super::object_kind::ObjectKind;
use super::object_ref::ObjectRef;
use super::objects::Objects;
use super::parallel::parallel_map;
use super::project::Project;
use crate::base::{Notice, ObjectHash, Observer, ProjectId};
use crate::format::{ProjectSettings, SealedObject};

/// An object with settings: the hash that names it, and the bytes of its first copy if this copy
/// can be read.
pub(super) type FoundSettings = (ObjectHash, Option<Vec<u8>>);

/// The maximum length of an object, in bytes.
const LEN_MAX: u64 = SealedObject::len_max(ProjectSettings::BODY_MAX) as u64;

/// Lists the settings of a project and reads their first copies. Needs no key.
pub(super) fn find(objects: &Objects, project: ProjectId) -> Result<Vec<FoundSettings>, RepoError> {
    let listed = objects.list(&ObjectKind::Settings.directory(project))?;
    let mut hashes: Vec<_> = listed
        .into_iter()
        .filter_map(|(object, ..)| match object {
            ObjectRef::Settings(_, hash) => Some(hash),
            _ => None,
        })
        .collect();
    hashes.sort_unstable();
    hashes.dedup();
    parallel_map(&hashes, |hash| {
        let name = ObjectRef::Settings(project, *hash).name();
        Ok((*hash, objects.get_copy(&name, LEN_MAX)?))
    })
}

/// Reads the second copies of these settings.
pub(super) fn read_copies(
    objects: &Objects,
    project: ProjectId,
    found: &[FoundSettings],
) -> Result<Vec<FoundSettings>, RepoError> {
    parallel_map(found, |(hash, _)| {
        let name = ObjectRef::Settings(project, *hash).copy_name();
        Ok((*hash, objects.get_copy(&name, LEN_MAX)?))
    })
}

/// Returns the settings with the highest revision. If there are several, returns those with the
/// largest hash. Reports unreadable settings as notices, and ignores foreign ones.
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
