//! Attachments of a backup: `show --attachments` and `restore --attachments`.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::app::{
    AttachmentEntry, Attachments, Attempt, Code, Failure, Message, RepositorySettings,
    open_records, refuse_if_lost,
};
use crate::base::sync_directory;
use crate::cli::console::Console;
use crate::ops;

/// Lists the files that are attached to a backup.
pub(super) fn show_attachments(
    console: &Console,
    settings: &RepositorySettings,
    selector: &str,
) -> Result<(), Failure> {
    let (_, records) = open_records(&console.session, settings, Attempt::Show)?;
    let backup = records.select(selector)?;
    console.meter.finish();
    let entries = ops::attached_files(backup).map(|attachment| AttachmentEntry {
        name: attachment.name.clone(),
        size: attachment.size,
    });
    console.output.show(&Message::Attachments(Attachments {
        backup_id: backup.id.to_string(),
        attachments: entries.collect(),
    }))
}

/// Writes the attachments of a backup into a directory. Creates the directory if it does not exist.
/// Overwrites no file.
pub(super) fn restore_attachments(
    console: &Console,
    settings: &RepositorySettings,
    selector: &str,
    directory: &Path,
) -> Result<(), Failure> {
    let (project, records) = open_records(&console.session, settings, Attempt::Restore)?;
    let backup = records.select_surely(selector)?;
    refuse_if_lost(&console.session, settings, &project, selector, backup)?;
    let context = console.session.context(Some(&settings.cache_dir));
    // Check the names of all files before the first one is written.
    for attachment in ops::attached_files(backup) {
        let name = &attachment.name;
        if !ops::is_safe_name(name) {
            let message = format!("“{}” is not a safe name for a file", name.escape_debug());
            return Err(Failure::new(Code::Failed, message)
                .hint("another program made this backup; nothing was written"));
        }
        let path = directory.join(name);
        if path.symlink_metadata().is_ok() {
            return Err(exists(&path));
        }
    }
    let mut files = Vec::new();
    for attachment in ops::attached_files(backup) {
        files.push((
            attachment,
            ops::read_attachment(&project, attachment, &context)?,
        ));
    }
    let failed = |path: &Path, error: std::io::Error| {
        let message = format!("could not write {}", path.display());
        Failure::new(Code::Failed, message).caused_by(Some(&error))
    };
    let made = fs::DirBuilder::new().mode(0o700).create(directory);
    if let Err(error) = made
        && error.kind() != ErrorKind::AlreadyExists
    {
        return Err(failed(directory, error));
    }
    let mut entries = Vec::new();
    for (attachment, bytes) in files {
        let path = directory.join(&attachment.name);
        write_new(&path, &bytes).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => exists(&path),
            _ => failed(&path, error),
        })?;
        entries.push(AttachmentEntry {
            name: attachment.name.clone(),
            size: attachment.size,
        });
    }
    let synced = fs::File::open(directory).and_then(sync_directory);
    synced.map_err(|error| failed(directory, error))?;
    console.meter.finish();
    console.output.show(&Message::Attachments(Attachments {
        backup_id: backup.id.to_string(),
        attachments: entries,
    }))
}

fn exists(path: &Path) -> Failure {
    Failure::new(Code::Failed, format!("{} exists", path.display()))
        .hint("name another directory; existing files are not overwritten")
}

/// Makes a new file, and writes and syncs its content. If writing fails, removes the file.
fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        // Ignore an error here: the first error matters more.
        let _ = fs::remove_file(path);
    }
    written
}
