//! The command `drill`.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::app::{
    Attempt, Code, DrillEntry, DrillRequest, Failure, RepositorySettings, count, host_name,
    open_records,
};
use crate::base::{Cancelled, Notice, child_command, create_private_dir};
use crate::cli::console::Console;
use crate::format::{DrillRun, RecordTime};
use crate::ops::{self, OpsError};
use crate::repo::{Backup, Project, RepoErrorKind};
use crate::volume::{
    CommandSource, Existing, Source, SourceData, StreamTarget, Target, open_target,
};

/// The number of bytes at the end of a command's output that are searched for its last line.
const TAIL: usize = 4096;
/// The time between two attempts to read the output of a command that prints nothing.
const STEP: Duration = Duration::from_millis(20);

pub(super) fn drill(
    console: &Console,
    settings: &RepositorySettings,
    request: &DrillRequest,
) -> Result<(), Failure> {
    let (project, records) = open_records(&console.session, settings, Attempt::Drill)?;
    let max_bytes = request.max_bytes;
    let chosen = ops::choose_drill(&project, &records, request.sample, max_bytes)?;
    if chosen.is_empty() {
        let failure = Failure::new(Code::NotFound, "there is no backup to restore");
        return Err(match max_bytes {
            Some(_) if records.listed().any(|backup| !records.is_voided(backup)) => {
                failure.hint("every backup is larger than --max-bytes")
            }
            _ => failure,
        });
    }
    let host = host_name();
    let (mut failed, mut damaged) = (0, 0);
    for backup in &chosen {
        let (run, kind) = restore(console, settings, request, &project, backup)?;
        failed += u64::from(kind == Outcome::Failed);
        damaged += u64::from(kind == Outcome::Damaged);
        console.meter.finish();
        console.output.drill(&DrillEntry::of(&run))?;
        // Note each outcome at once: the next restore may take hours.
        if let Err(error) = ops::note_drills(&project, vec![run], Some(&host)) {
            let problem = error.to_string();
            console
                .session
                .observer
                .notice(Notice::LedgerNotStored { problem });
        }
    }
    let of = count(chosen.len() as u64, "backup");
    if damaged > 0 {
        return Err(Failure::new(
            Code::Damage,
            format!("{damaged} of {of} could not be restored"),
        )
        .hint("run “cuttlebone check --read-data”, which names all that is lost"));
    }
    if failed > 0 {
        let text = format!("the command failed for {failed} of {of}");
        return Err(Failure::new(Code::Failed, text)
            .hint("restore the backup to a file and examine it with the command"));
    }
    Ok(())
}

/// The outcome of one restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Good,
    /// The command failed.
    Failed,
    /// The backup could not be restored.
    Damaged,
}

/// Restores a backup. With a command, restores to a temporary file and runs the command on this
/// file. Without a command, discards the restored data.
fn restore(
    console: &Console,
    settings: &RepositorySettings,
    request: &DrillRequest,
    project: &Project,
    backup: &Backup,
) -> Result<(DrillRun, Outcome), Failure> {
    let (time, begun) = (Timestamp::now(), Instant::now());
    let size = backup.record.content.size;
    let context = console.session.context(Some(&settings.cache_dir));
    let scratch = request
        .command
        .as_ref()
        .map(|_| Scratch::new(console, request));
    let scratch = scratch.transpose()?;
    let file = scratch.as_ref().map(|scratch| scratch.0.join("restored"));
    let target: Box<dyn Target> = match &file {
        Some(file) => open_target(file, size, Existing::Refuse).map_err(OpsError::from)?,
        None => Box::new(StreamTarget::new(io::sink(), "nowhere", size)),
    };
    let restored = ops::restore(project, backup, &*target, &context);
    drop(target);
    let mut outcome = Outcome::Good;
    let problem = match (restored, &request.command, &file) {
        (Err(error), ..) if is_damage(&error) => {
            outcome = Outcome::Damaged;
            Some(Failure::from(error).message)
        }
        (Err(error), ..) => return Err(error.into()),
        (Ok(_), Some(command), Some(file)) => {
            let problem = examine(console, command, file)?;
            if problem.is_some() {
                outcome = Outcome::Failed;
            }
            problem
        }
        (Ok(_), ..) => None,
    };
    let run = DrillRun {
        time: RecordTime::from(time),
        host: Some(host_name()),
        backup: backup.id,
        volume: backup.record.volume.name.clone(),
        bytes: if outcome == Outcome::Damaged { 0 } else { size },
        milliseconds: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        command: request.command.clone(),
        success: outcome == Outcome::Good,
        problem,
    };
    Ok((run, outcome))
}

fn is_damage(error: &OpsError) -> bool {
    match error {
        OpsError::Repo(error) => error.kind() == RepoErrorKind::Damaged,
        OpsError::Hole { .. } | OpsError::Holes { .. } => true,
        _ => false,
    }
}

/// Runs the command on the restored file. If the command fails, returns the reason and the last
/// line of its output. Returns `None` if it succeeds.
fn examine(console: &Console, command: &str, file: &Path) -> Result<Option<String>, Failure> {
    let mut shell = child_command("sh");
    shell
        .arg("-c")
        .arg(format!("exec 2>&1\n{command} \"$1\""))
        .arg("sh")
        .arg(file);
    let mut source = CommandSource::new(shell);
    let SourceData::Stream(output) = source.begin().map_err(OpsError::from)? else {
        return Ok(None);
    };
    let (mut tail, mut buffer) = (Vec::new(), vec![0; TAIL]);
    loop {
        console.session.cancel.check().map_err(interrupted)?;
        match output.read(&mut buffer) {
            Ok(0) => return Ok(None),
            Ok(read) => {
                tail.extend_from_slice(&buffer[..read]);
                let excess = tail.len().saturating_sub(TAIL);
                tail.drain(..excess);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(STEP),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                let text = String::from_utf8_lossy(&tail);
                let last = text.lines().rfind(|line| !line.trim().is_empty());
                return Ok(Some(match last {
                    Some(line) => format!("{error}: {}", line.trim()),
                    None => error.to_string(),
                }));
            }
        }
    }
}

fn interrupted(cancelled: Cancelled) -> Failure {
    OpsError::from(cancelled).into()
}

/// A private directory for the restored file. Dropping this value deletes the directory.
struct Scratch(PathBuf);

impl Scratch {
    fn new(console: &Console, request: &DrillRequest) -> Result<Self, Failure> {
        let temporary = || {
            let set = console.session.environment.get("TMPDIR");
            PathBuf::from(set.unwrap_or_else(|| "/tmp".into()))
        };
        let base = request.scratch.clone().unwrap_or_else(temporary);
        let name = format!("cuttlebone-drill-{}", std::process::id());
        let directory = base.join(name);
        let made = if base.is_dir() {
            create_private_dir(&base, &directory)
        } else {
            Err(ErrorKind::NotFound.into())
        };
        made.map(|()| Self(directory)).map_err(|error| {
            let text = format!("could not make a directory in {}", base.display());
            Failure::new(Code::Failed, text)
                .caused_by(Some(&error))
                .hint("name another directory with --scratch")
        })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // If the deletion fails, the file stays in a directory that only this user can read.
        let _ = fs::remove_dir_all(&self.0);
    }
}
