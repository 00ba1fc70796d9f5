//! Adds, lists, exports and deletes the keys of an open repository.

use super::error::{Damage, RepoError};
use super::keys::{self, KeyScope, KeySummary, NewKey};
use super::project::Project;
use super::repository::{Repository, Unlocked, project_ids};
use crate::base::{ObjectHash, Observer};
use crate::crypto::{KdfParams, object_hash};
use crate::format::KeySlot;

impl Repository {
    /// Adds a key to the repository, or to one project.
    pub fn add_key(
        &self,
        project: Option<&Project>,
        key: &NewKey<'_>,
    ) -> Result<ObjectHash, RepoError> {
        match (project, &self.unlocked) {
            (Some(project), _) => keys::store_slot(
                &self.objects,
                KeyScope::Project(project.id),
                &project.secret,
                key,
            ),
            (None, Unlocked::Repository { secret, .. }) => {
                keys::store_slot(&self.objects, KeyScope::Repository, secret, key)
            }
            (None, Unlocked::Project { project, secret }) => {
                keys::store_slot(&self.objects, KeyScope::Project(*project), secret, key)
            }
        }
    }

    /// Lists the keys in the unlocked scope: those of the repository and its projects, or those of
    /// one project.
    pub fn list_keys(&self, observer: &dyn Observer) -> Result<Vec<KeySummary>, RepoError> {
        let mut scopes = Vec::new();
        if let Unlocked::Repository { secret, .. } = &self.unlocked {
            scopes.push((KeyScope::Repository, secret.clone()));
        }
        for id in project_ids(&self.objects)? {
            if let Ok(Some(project)) = self.open_project(id, None, observer) {
                scopes.push((KeyScope::Project(id), project.secret));
            }
        }
        let mut list = Vec::new();
        for (scope, secret) in scopes {
            for (id, slot) in keys::read_slots(&self.objects, scope, observer)? {
                let p = &slot.params;
                let kdf = KdfParams::new(p.memory_kib, p.passes, p.lanes).unwrap_or_default();
                let info = keys::slot_info(scope, &slot, &secret);
                list.push(KeySummary {
                    id,
                    scope,
                    info,
                    kdf,
                    current: id == self.key_id,
                });
            }
        }
        Ok(list)
    }

    /// Returns the bytes of a key slot for a backup elsewhere. They stay sealed under its password.
    pub fn export_key(
        &self,
        key: &KeySummary,
        observer: &dyn Observer,
    ) -> Result<Vec<u8>, RepoError> {
        let object = key.scope.object(key.id);
        self.objects
            .get_twice(object, KeySlot::LEN_MAX, observer, |bytes| {
                if object_hash(&[bytes]) == key.id {
                    Ok(bytes.to_vec())
                } else {
                    Err(RepoError::damaged(object, Damage::WrongHash))
                }
            })
    }

    /// Deletes a key. Fails if it is the last one of its scope.
    pub fn remove_key(&self, key: &KeySummary, observer: &dyn Observer) -> Result<(), RepoError> {
        let (what, rest_may_be_empty) = match key.scope {
            KeyScope::Repository => ("the repository", false),
            KeyScope::Project(_) => (
                "the project",
                matches!(self.unlocked, Unlocked::Repository { .. }),
            ),
        };
        let (Unlocked::Repository { secret, .. } | Unlocked::Project { secret, .. }) =
            &self.unlocked;
        let mut ours = keys::read_slots(&self.objects, key.scope, observer)?;
        ours.retain(|(_, slot)| keys::belongs(key.scope, slot, secret));
        let is_ours = ours.iter().any(|(id, _)| *id == key.id);
        if is_ours && ours.len() <= 1 && !rest_may_be_empty {
            return Err(RepoError::LastKey {
                id: key.id.to_string(),
                what,
            });
        }
        self.objects.delete_twice(key.scope.object(key.id))
    }

    /// Replaces the key that this repository was opened with. The new one is stored before the old
    /// one is deleted.
    pub fn change_password(&self, key: &NewKey<'_>) -> Result<ObjectHash, RepoError> {
        let id = self.add_key(None, key)?;
        let scope = match &self.unlocked {
            Unlocked::Repository { .. } => KeyScope::Repository,
            Unlocked::Project { project, .. } => KeyScope::Project(*project),
        };
        self.objects.delete_twice(scope.object(self.key_id))?;
        Ok(id)
    }

    /// The key slot that the password unlocked.
    #[must_use]
    pub fn key_id(&self) -> ObjectHash {
        self.key_id
    }
}
