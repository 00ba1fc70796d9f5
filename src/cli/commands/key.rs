//! The command `key`.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::Path;

use crate::app::{
    AcceptedBackups, Attempt, Code, Failure, KeyChange, KeyEntry, KeyRequest, Message,
    NewKeyAccess, NewKeyRequest, Passwords, RepositorySettings, RevokedVolume, count, host_name,
    load_records, open, project, short_id, slot_info,
};
use crate::base::{ObjectHash, Role};
use crate::cli::console::Console;
use crate::ops;
use crate::repo::{Grant, KeyScope, KeySummary, NewKey, Project, RepoError, Repository};

pub(super) fn key(
    console: &Console,
    settings: &RepositorySettings,
    request: KeyRequest,
) -> Result<(), Failure> {
    let repository = open(&console.session, settings, attempt(&request))?;
    match request {
        KeyRequest::Add { new, access } => match access {
            NewKeyAccess::SameAsOwn => add(console, &repository, Grant::Everything, new),
            NewKeyAccess::Project { role, volumes } => {
                let observer = console.session.observer();
                let project = &repository.project(&settings.project, observer)?;
                let grant = Grant::Project {
                    project,
                    role,
                    volumes: &volumes,
                };
                add(console, &repository, grant, new)
            }
        },
        KeyRequest::Passwd(new) => change_password(console, &repository, new),
        KeyRequest::List => {
            let keys = repository.list_keys(console.session.observer())?;
            console.meter.finish();
            let entries: Vec<_> = keys.iter().map(key_entry).collect();
            console.output.keys(&entries)
        }
        KeyRequest::Remove { id } => remove(console, &repository, &id),
        KeyRequest::Revoke { id, accept } => {
            let project = project(&console.session, settings, Attempt::RevokeKey, &repository)?;
            revoke(console, settings, &repository, &project, &id, accept)
        }
        KeyRequest::Test => show_change(console, "opens", &repository.key_id()),
        KeyRequest::Export { file } => export(console, &repository, file.as_deref()),
    }
}

/// Returns the attempt that the request makes, to test whether the role of the key allows it.
fn attempt(request: &KeyRequest) -> Attempt {
    match request {
        KeyRequest::Add { .. } => Attempt::AddKey,
        KeyRequest::List => Attempt::ListKeys,
        KeyRequest::Remove { .. } => Attempt::RemoveKey,
        KeyRequest::Revoke { .. } => Attempt::RevokeKey,
        KeyRequest::Passwd(_) => Attempt::ChangePassword,
        KeyRequest::Test => Attempt::TestKey,
        KeyRequest::Export { .. } => Attempt::ExportKey,
    }
}

fn add(
    console: &Console,
    repository: &Repository,
    grant: Grant<'_>,
    new: NewKeyRequest,
) -> Result<(), Failure> {
    let password = Passwords::new(&console.session).additional(new.password_file.as_deref())?;
    refuse_used(console, repository, &password, None)?;
    let key = NewKey {
        password: &password,
        kdf: new.kdf,
        info: slot_info(&console.session, new.label),
    };
    let id = repository.add_key(grant, &key, console.session.observer())?;
    show_change(console, "added", &id)
}

/// Fails if the password already opens a key, unless this key is `replaced`. If two keys had the
/// same password, the password would still open the repository after one of the keys was removed.
fn refuse_used(
    console: &Console,
    repository: &Repository,
    password: &[u8],
    replaced: Option<ObjectHash>,
) -> Result<(), Failure> {
    let Console { session, .. } = console;
    let used = repository.key_of_password(password, &session.cancel, session.observer())?;
    let Some(key) = used.filter(|key| Some(key.id) != replaced) else {
        return Ok(());
    };
    let id = key.id.to_string();
    let label = match &*key.info.label {
        "" => String::new(),
        label => format!(" “{label}”"),
    };
    let message = format!("this password opens key {}{label} already", short_id(&id));
    Err(Failure::new(Code::Failed, message).hint("choose another password for each key"))
}

fn change_password(
    console: &Console,
    repository: &Repository,
    new: NewKeyRequest,
) -> Result<(), Failure> {
    let keys = repository.list_keys(console.session.observer())?;
    let before = keys.iter().find(|key| key.current);
    let label = new
        .label
        .or_else(|| before.map(|key| key.info.label.clone()));
    let password = Passwords::new(&console.session).additional(new.password_file.as_deref())?;
    refuse_used(console, repository, &password, Some(repository.key_id()))?;
    let key = NewKey {
        password: &password,
        kdf: new.kdf,
        info: slot_info(&console.session, label),
    };
    let id = repository.change_password(&key, console.session.observer())?;
    if let Some(before) = before {
        console.meter.note(&format!(
            "the new key replaces key {}; other keys keep their passwords",
            short_id(&before.id.to_string())
        ));
    }
    show_change(console, "changed", &id)
}

fn remove(console: &Console, repository: &Repository, id: &str) -> Result<(), Failure> {
    let keys = repository.list_keys(console.session.observer())?;
    let key = select_key(&keys, id)?;
    repository.remove_key(key, console.session.observer())?;
    if key.current {
        console
            .meter
            .note("that was the key you used; its password no longer works");
    }
    show_change(console, "removed", &key.id)
}

fn revoke(
    console: &Console,
    settings: &RepositorySettings,
    repository: &Repository,
    project: &Project,
    id: &str,
    accept: AcceptedBackups,
) -> Result<(), Failure> {
    let certificates = project.certificates(console.session.observer())?;
    let key = match select(certificates.all(), id, |key| key.certificate.slot) {
        Ok(key) if key.role == Role::Full => return Err(not_revocable()),
        Ok(key) => key,
        // The full keys of a repository have no certificate.
        Err(failure) => {
            let keys = repository.list_keys(console.session.observer())?;
            let is_full = select_key(&keys, id).is_ok_and(|key| key.role == Role::Full);
            return Err(if is_full { not_revocable() } else { failure });
        }
    };
    let records = load_records(&console.session, settings, project)?;
    let backups = ops::backups_of_key(&records, key);
    let accepted = match accept {
        AcceptedBackups::Unspecified if !backups.is_empty() => {
            let backups = count(backups.len() as u64, "backup");
            return Err(Failure::usage(format!(
                "say which backups of this key still count: there are {backups}"
            ))
            .hint("give --accept BACKUP for the last good one, --accept-all, or --accept-none"));
        }
        AcceptedBackups::Unspecified => Vec::new(),
        AcceptedBackups::All => backups.iter().map(|backup| backup.id).collect(),
        AcceptedBackups::Only(selectors) => {
            let made = |text: &String| {
                let id = records.select(text)?.id;
                if backups.iter().any(|backup| backup.id == id) {
                    return Ok(id);
                }
                let refused = format!("the key did not make the backup “{text}”");
                Err(Failure::new(Code::Failed, refused)
                    .hint("accept only backups of this key; backups of other keys still count"))
            };
            selectors.iter().map(made).collect::<Result<_, Failure>>()?
        }
    };
    let left = ops::that_count(&records, &backups, &accepted);
    let left: HashSet<ObjectHash> = left.iter().map(|backup| backup.id).collect();
    let mut volumes: BTreeMap<&str, RevokedVolume> = BTreeMap::new();
    for backup in &backups {
        let name = &backup.record.volume.name;
        let volume = volumes.entry(name).or_insert_with(|| RevokedVolume {
            volume: name.clone(),
            backups_accepted: 0,
            backups_dropped: 0,
        });
        if left.contains(&backup.id) {
            volume.backups_accepted += 1;
        } else {
            volume.backups_dropped += 1;
        }
    }
    let accepted = left.into_iter().collect();
    ops::revoke_key(project, key, accepted, Some(&host_name()))?;
    show(
        console,
        KeyChange {
            action: "revoked",
            key_id: key.certificate.slot.to_string(),
            volumes: volumes.into_values().collect(),
        },
    )
}

fn not_revocable() -> Failure {
    let refused = "a full key cannot be revoked: its holder knows the secret of the project";
    Failure::new(Code::Failed, refused)
        .hint("“cuttlebone key remove” removes it; its password then no longer works")
}

fn export(console: &Console, repository: &Repository, file: Option<&Path>) -> Result<(), Failure> {
    let keys = repository.list_keys(console.session.observer())?;
    let current = select_key(&keys, &repository.key_id().to_string())?;
    let bytes = repository.export_key(current, console.session.observer())?;
    match file {
        None => console.output.raw(&bytes),
        Some(file) => {
            write_new(file, &bytes)?;
            show_change(console, "exported", &current.id)
        }
    }
}

fn show_change(
    console: &Console,
    action: &'static str,
    id: &dyn fmt::Display,
) -> Result<(), Failure> {
    show(
        console,
        KeyChange {
            action,
            key_id: id.to_string(),
            volumes: Vec::new(),
        },
    )
}

fn show(console: &Console, change: KeyChange) -> Result<(), Failure> {
    console.meter.finish();
    console.output.show(&Message::KeyChange(change))
}

fn key_entry(key: &KeySummary) -> KeyEntry {
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    KeyEntry {
        key_id: key.id.to_string(),
        scope: match key.scope {
            KeyScope::Repository => "repository",
            KeyScope::Project(_) => "project",
        },
        project: key.project.clone(),
        role: key.role.name(),
        volumes: key.volumes.clone(),
        label: text(&key.info.label),
        created: key.info.created.parse().ok(),
        user: text(&key.info.user),
        host: text(&key.info.host),
        current: key.current,
        foreign: key.foreign,
    }
}

fn select_key<'a>(keys: &'a [KeySummary], id: &str) -> Result<&'a KeySummary, Failure> {
    select(keys, id, |key| key.id)
}

/// Returns the only one of `keys` whose id begins with `id`. Fails if there is none, or more than
/// one.
fn select<'a, T>(
    keys: &'a [T],
    id: &str,
    id_of: impl Fn(&T) -> ObjectHash,
) -> Result<&'a T, Failure> {
    let mut matches = keys
        .iter()
        .filter(|key| id_of(key).to_string().starts_with(id));
    match (matches.next(), matches.next()) {
        (Some(key), None) => Ok(key),
        (None, _) => Err(RepoError::NoKey { id: id.to_owned() }.into()),
        (Some(_), Some(_)) => Err(Failure::usage(format!("“{id}” matches more than one key"))
            .hint("give more digits of the id")),
    }
}

/// Creates a file that only its owner can read. Fails if the file exists.
fn write_new(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut opened| opened.write_all(bytes).and_then(|()| opened.sync_all()))
        .map_err(|error| {
            Failure::new(Code::Failed, format!("could not write {}", file.display()))
                .caused_by(Some(&error))
        })
}
