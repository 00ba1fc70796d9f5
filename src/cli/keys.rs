//! The commands below `key`.

use super::Session;
use super::access::Access;
use super::commands::{kdf_params, observer, open, slot_info};
use super::failure::{Code, Failure};
use super::human::short_id;
use super::message::{KeyChange, KeyEntry, Message};
use super::request::{Key, KeyScope};
use crate::repo::{self, KeySummary, NewKey, RepoError};

pub(super) fn perform(session: &Session, access: &Access, key: Key) -> Result<(), Failure> {
    let repository = open(session, access)?;
    let project = |scope| match scope {
        KeyScope::Repository => Ok(None),
        KeyScope::Project => repository
            .project(&access.project, observer(session))
            .map(Some),
    };
    let changed = |action, id: &dyn std::fmt::Display| {
        session.meter.finish();
        session.output.show(&Message::KeyChange(KeyChange {
            action,
            key_id: id.to_string(),
        }))
    };
    match key {
        Key::Add {
            password_file,
            kdf,
            label,
            scope,
        } => {
            let kdf = kdf_params(kdf)?;
            let project = project(scope)?;
            let password = session.additional_password(password_file.as_deref())?;
            let new = NewKey {
                password: &password,
                kdf,
                info: slot_info(session, label),
            };
            changed("added", &repository.add_key(project.as_ref(), &new)?)
        }
        Key::Passwd {
            password_file,
            kdf,
            label,
        } => {
            let kdf = kdf_params(kdf)?;
            let keys = repository.list_keys(observer(session))?;
            let before = keys.iter().find(|key| key.current);
            let label = label.or_else(|| before.map(|key| key.info.label.clone()));
            let password = session.additional_password(password_file.as_deref())?;
            let new = NewKey {
                password: &password,
                kdf,
                info: slot_info(session, label),
            };
            let before = before.map(|key| key.id.to_string());
            let id = repository.change_password(&new)?;
            if let Some(before) = before {
                let text = format!(
                    "it takes the place of the key {}; other keys keep their passwords",
                    short_id(&before)
                );
                session.meter.note(&text);
            }
            changed("changed", &id)
        }
        Key::List => {
            let keys = repository.list_keys(observer(session))?;
            session.meter.finish();
            session
                .output
                .keys(&keys.iter().map(key_entry).collect::<Vec<_>>())
        }
        Key::Remove { id } => {
            let keys = repository.list_keys(observer(session))?;
            let key = select_key(&keys, &id)?;
            repository.remove_key(key, observer(session))?;
            if key.current {
                let text =
                    "it was the key of the password that was given, which opens nothing any more";
                session.meter.note(text);
            }
            changed("removed", &key.id)
        }
        Key::Test => changed("opens", &repository.key_id()),
        Key::Export { file } => {
            let keys = repository.list_keys(observer(session))?;
            let current = select_key(&keys, &repository.key_id().to_string())?;
            let bytes = repository.export_key(current, observer(session))?;
            match file {
                None => session.output.raw(&bytes),
                Some(file) => {
                    write_new(&file, &bytes)?;
                    changed("exported", &current.id)
                }
            }
        }
    }
}

fn key_entry(key: &KeySummary) -> KeyEntry {
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    KeyEntry {
        key_id: key.id.to_string(),
        scope: match key.scope {
            repo::KeyScope::Repository => "repository",
            repo::KeyScope::Project(_) => "project",
        },
        label: text(&key.info.label),
        created: key.info.created.parse().ok(),
        user: text(&key.info.user),
        host: text(&key.info.host),
        current: key.current,
    }
}

fn select_key<'a>(keys: &'a [KeySummary], id: &str) -> Result<&'a KeySummary, Failure> {
    let mut matches = keys.iter().filter(|key| key.id.to_string().starts_with(id));
    match (matches.next(), matches.next()) {
        (Some(key), None) => Ok(key),
        (None, _) => Err(RepoError::NoKey { id: id.to_owned() }.into()),
        (Some(_), Some(_)) => Err(Failure::usage(format!("“{id}” fits more than one key"))
            .hint("write more digits of its id")),
    }
}

/// Writes a file that only its owner can read and that was not there.
fn write_new(file: &std::path::Path, bytes: &[u8]) -> Result<(), Failure> {
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
