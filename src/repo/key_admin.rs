//! Adds, lists, exports and deletes the keys of an open repository.

use jiff::Timestamp;

use super::error::{Damage, ForeignReason, RepoError};
use super::keys::{self, Bundle, FoundSlot, KeyScope, KeySummary, NewKey, Trials};
use super::object_ref::ObjectRef;
use super::project::Project;
use super::repository::{FoundProject, Repository, Unlocked, project_ids};
use crate::base::{Cancel, Notice, ObjectHash, Observer, ParityRate, ProjectId, Role};
use crate::crypto::{RoleError, Secret, SigningKey, object_hash};
use crate::format::{Certificate, KeySlot};

/// The scope of a new key.
#[derive(Clone, Copy)]
pub enum Grant<'a> {
    /// The same scope as that of the key in use: the repository, or one project.
    Everything,
    /// One project.
    Project {
        /// The project.
        project: &'a Project,
        /// The role of the key in this project.
        role: Role,
        /// Shell patterns of the names of volumes that the key may back up. If there are none, it
        /// may back up all volumes.
        volumes: &'a [String],
    },
}

impl Repository {
    /// Adds a key, and returns the hash that names its slot. Fails unless the role of the key in
    /// use is full.
    pub fn add_key(
        &self,
        grant: Grant<'_>,
        key: &NewKey<'_>,
        observer: &dyn Observer,
    ) -> Result<ObjectHash, RepoError> {
        let own;
        let (project, role, volumes) = match (grant, &self.unlocked) {
            (
                Grant::Project {
                    project,
                    role,
                    volumes,
                },
                _,
            ) => (project, role, volumes),
            (Grant::Everything, Unlocked::Repository { secret, keys }) => {
                let scope = KeyScope::Repository;
                let bundle = Bundle::Repository(secret.clone());
                let (id, slot) = keys::make_slot(scope, &bundle, keys.slot_info(), key)?;
                let objects = self.objects.with_parity(self.parity_rate(observer)?);
                objects.put_twice(scope.object(id), &slot)?;
                return Ok(id);
            }
            (Grant::Everything, Unlocked::Project { project, .. }) => {
                own = self.project_with_id(*project, observer)?;
                (&own, Role::Full, &[][..])
            }
        };
        add_to_project(project, role, volumes, key)
    }

    /// Returns the parity of objects that belong to no project: the highest rate of all projects
    /// that can be opened. `None` means no parity.
    fn parity_rate(&self, observer: &dyn Observer) -> Result<Option<ParityRate>, RepoError> {
        let mut highest = None;
        for id in project_ids(&self.objects)? {
            let found = FoundProject::read(&self.objects, id, 1)?;
            if let Ok(Some(project)) = self.open_project(&found, observer) {
                highest = highest.max(project.settings.parity_rate());
            }
        }
        Ok(highest)
    }

    /// Opens a project that must exist.
    fn project_with_id(
        &self,
        id: ProjectId,
        observer: &dyn Observer,
    ) -> Result<Project, RepoError> {
        let found = FoundProject::read(&self.objects, id, 1)?;
        let opened = self.open_project(&found, observer)?;
        opened.ok_or_else(|| RepoError::damaged(ObjectRef::Project(id), Damage::Missing))
    }

    /// Lists the keys in the unlocked scope: those of the repository and its projects, or those of
    /// one project. Leaves out the keys of projects that cannot be opened.
    pub fn list_keys(&self, observer: &dyn Observer) -> Result<Vec<KeySummary>, RepoError> {
        let mut list = Vec::new();
        if let Unlocked::Repository { keys, .. } = &self.unlocked {
            let scope = KeyScope::Repository;
            for found in self.read_slots(scope, observer)? {
                let info = found.info(keys.slot_info());
                list.push(KeySummary {
                    foreign: info.is_none(),
                    info: info.unwrap_or_default(),
                    ..self.summary(&found)
                });
            }
        }
        for id in project_ids(&self.objects)? {
            let found = FoundProject::read(&self.objects, id, 1)?;
            if let Ok(Some(project)) = self.open_project(&found, observer) {
                self.list_keys_of(&project, &mut list, observer)?;
            }
        }
        Ok(list)
    }

    fn list_keys_of(
        &self,
        project: &Project,
        list: &mut Vec<KeySummary>,
        observer: &dyn Observer,
    ) -> Result<(), RepoError> {
        let scope = KeyScope::Project(project.id);
        // Load the certificates after the slots, since a certificate is stored before its slot.
        let slots = self.read_slots(scope, observer)?;
        let certificates = project.certificates(observer)?;
        for found in slots {
            let summary = KeySummary {
                project: Some(project.settings.name.clone()),
                ..self.summary(&found)
            };
            let certified = match &found.slot {
                Ok(slot) => certificates.of_slot(found.id, slot.params.role),
                // The slot has an unknown version or feature, so its role is not known. But a
                // certificate may show that the slot is genuine.
                Err(_) => certificates.naming(found.id),
            };
            let Some(certified) = certified else {
                list.push(KeySummary {
                    foreign: true,
                    ..summary
                });
                continue;
            };
            if let Err(newer) = &found.slot {
                let key = found.id;
                let problem = newer.to_string();
                observer.notice(Notice::KeySlotSkipped { key, problem });
            }
            list.push(KeySummary {
                role: certified.role,
                info: found.info(project.keys.slot_info()).unwrap_or_default(),
                volumes: certified.certificate.volumes.clone(),
                ..summary
            });
        }
        Ok(())
    }

    /// Returns an error for each foreign key slot in the unlocked scope: a slot that was added
    /// without a full key, or whose key was revoked.
    pub fn foreign_slots(&self, observer: &dyn Observer) -> Result<Vec<RepoError>, RepoError> {
        let keys = self.list_keys(observer)?.into_iter();
        let foreign = keys
            .filter(|key| key.foreign)
            .map(|key| RepoError::Foreign {
                object: key.scope.object(key.id),
                reason: match key.scope {
                    KeyScope::Repository => ForeignReason::NotSealed,
                    KeyScope::Project(_) => ForeignReason::NotCertified,
                },
            });
        Ok(foreign.collect())
    }

    fn read_slots(
        &self,
        scope: KeyScope,
        observer: &dyn Observer,
    ) -> Result<Vec<FoundSlot>, RepoError> {
        keys::read_slots(&self.objects, scope, Some(self.key_id), observer)
    }

    /// Returns the key that this password opens, among those that [`list_keys`](Self::list_keys)
    /// lists and that are not foreign. `None` if the password opens none of these keys.
    pub fn key_of_password(
        &self,
        password: &[u8],
        cancel: &Cancel,
        observer: &dyn Observer,
    ) -> Result<Option<KeySummary>, RepoError> {
        let trials = Trials::new(cancel, observer);
        let mut keys = self.list_keys(observer)?;
        keys.retain(|key| !key.foreign);
        let mut scopes: Vec<_> = keys.iter().map(|key| key.scope).collect();
        scopes.dedup();
        for scope in scopes {
            for found in self.read_slots(scope, observer)? {
                let key = keys.iter().find(|key| key.id == found.id);
                let Some(key) = key else {
                    continue;
                };
                match trials.open(&found, password) {
                    Ok(None) => {}
                    // `Unsupported` means that the password opens a slot of a newer version.
                    Ok(Some(_)) | Err(RepoError::Unsupported { .. }) => {
                        return Ok(Some(key.clone()));
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(None)
    }

    /// Describes a key by the fields of its slot.
    fn summary(&self, found: &FoundSlot) -> KeySummary {
        KeySummary {
            current: found.id == self.key_id,
            ..KeySummary::of_slot(found)
        }
    }

    /// Returns the bytes of a key slot, for a copy in another place. They stay sealed under the
    /// password.
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

    /// Deletes a key. Fails unless the role of the key in use is full. Also fails if this would
    /// delete the last full key of its scope. But a key of the repository may delete the last full
    /// key of a project, since it opens the project itself.
    pub fn remove_key(&self, key: &KeySummary, observer: &dyn Observer) -> Result<(), RepoError> {
        self.require_full()?;
        let (what, rest_may_be_empty) = match key.scope {
            KeyScope::Repository => ("the repository", false),
            KeyScope::Project(_) => (
                "the project",
                matches!(self.unlocked, Unlocked::Repository { .. }),
            ),
        };
        let opens_all = |k: &KeySummary| k.scope == key.scope && k.role == Role::Full && !k.foreign;
        if opens_all(key) && !rest_may_be_empty {
            let keys = self.list_keys(observer)?;
            if keys.iter().filter(|k| opens_all(k)).count() <= 1 {
                return Err(RepoError::LastKey {
                    id: key.id.to_string(),
                    what,
                });
            }
        }
        self.objects.delete_twice(key.scope.object(key.id))
    }

    /// Replaces the key that opened this repository. The new one is stored before the old one is
    /// deleted. Returns the hash that names the new slot. Fails unless the role of the key in use
    /// is full.
    pub fn change_password(
        &self,
        key: &NewKey<'_>,
        observer: &dyn Observer,
    ) -> Result<ObjectHash, RepoError> {
        self.require_full()?;
        let id = self.add_key(Grant::Everything, key, observer)?;
        let scope = match &self.unlocked {
            Unlocked::Repository { .. } => KeyScope::Repository,
            Unlocked::Project { project, .. } => KeyScope::Project(*project),
        };
        self.objects.delete_twice(scope.object(self.key_id))?;
        Ok(id)
    }

    /// Returns the role of the key in use.
    #[must_use]
    pub fn role(&self) -> Role {
        match &self.unlocked {
            Unlocked::Repository { .. } => Role::Full,
            Unlocked::Project { keys, .. } => keys.role(),
        }
    }

    fn require_full(&self) -> Result<(), RoleError> {
        match self.role() {
            Role::Full => Ok(()),
            held => Err(RoleError {
                held,
                needed: Role::Full,
            }),
        }
    }

    /// The hash that names the key slot that the password unlocked.
    #[must_use]
    pub fn key_id(&self) -> ObjectHash {
        self.key_id
    }
}

/// Adds a key to a project. First stores its certificate, which the log names from then on. Then
/// stores its slot, since a slot without a certificate would be foreign.
fn add_to_project(
    project: &Project,
    role: Role,
    volumes: &[String],
    key: &NewKey<'_>,
) -> Result<ObjectHash, RepoError> {
    let secret = project.secret()?;
    let keys = &project.keys;
    let seed = Secret::random()?;
    let signer = SigningKey::from_seed(&seed).public();
    let (bundle, signer) = match role {
        Role::Full => (Bundle::Full(secret.clone()), None),
        Role::Write => (
            Bundle::Write(Box::new(keys.write_secrets(seed)?)),
            Some(signer),
        ),
        Role::Verify => (Bundle::Verify(keys.verify_secrets(seed)), Some(signer)),
    };
    let scope = KeyScope::Project(project.id);
    let (id, slot) = keys::make_slot(scope, &bundle, keys.slot_info(), key)?;
    let certificate = Certificate {
        requires: Vec::new(),
        role: role.to_string(),
        slot: id,
        signer,
        volumes: volumes.to_vec(),
        features: Vec::new(),
        created: Timestamp::now().to_string(),
        label: Some(key.info.label.clone()).filter(|label| !label.is_empty()),
    };
    let host = Some(&*key.info.host).filter(|host| !host.is_empty());
    project.certify(&certificate, host)?;
    project.objects.put_twice(scope.object(id), &slot)?;
    Ok(id)
}
