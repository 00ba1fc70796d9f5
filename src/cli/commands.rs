//! Each command: calls of operations, and what to tell of their results.

use std::time::Instant;

use jiff::Timestamp;

use super::access::Access;
use super::args::CacheCommand;
use super::failure::{Code, Failure};
use super::human::count;
use super::message::{
    BackupDetail, BackupEntry, CacheInfo, CheckSummary, CompareSummary, Damage, Extent,
    InitSummary, Message, RestoreSummary, Stats,
};
use super::password::Password;
use super::request::{self, Existing, Kdf, Operation, Target};
use super::{Session, backup, export, forget, keys, prune, store};
use crate::base::{CHUNK_SIZE_DEFAULT, ChunkSize, Notice, Observer};
use crate::ops::{self, Context, Restored};
use crate::repo::{
    self, Backup, ContentKind, InitOptions, KdfParams, Locked, NewKey, Project, Records, RepoError,
    Repository, SlotInfo,
};
use crate::storage::ErrorKind;

/// Extents that are shown at once; a comparison can have millions.
const EXTENTS_AT_ONCE: usize = 1024;

/// Does what was asked for.
pub(super) fn perform(
    session: &Session,
    access: &Access,
    operation: Operation,
) -> Result<(), Failure> {
    match operation {
        Operation::Init { chunk_size, kdf } => init(session, access, chunk_size, kdf),
        Operation::Backup(request) => backup::perform(session, access, request),
        Operation::List { volume } => list(session, access, volume.as_deref()),
        Operation::Show { backup } => show(session, access, &backup),
        Operation::Compare { a, b } => compare(session, access, &a, &b),
        Operation::Restore(request) => restore(session, access, &request),
        Operation::ExportDiff(request) => export::export(session, access, request),
        Operation::Forget(request) => forget::perform(session, access, request),
        Operation::Prune { limits, dry_run } => prune::perform(session, access, &limits, dry_run),
        Operation::Check { read_data } => check(session, access, read_data),
        Operation::Stats => stats(session, access),
        Operation::Key(key) => keys::perform(session, access, key),
        Operation::Cache(command) => cache(session, access, command),
    }
}

pub(super) fn observer(session: &Session) -> &dyn Observer {
    &*session.meter
}

pub(super) fn context<'a>(session: &'a Session, access: &'a Access) -> Context<'a> {
    Context {
        observer: session.meter.clone(),
        cancel: &session.cancel,
        threads: session.settings.threads.get(),
        cache: Some(&access.cache_dir),
    }
}

pub(super) fn open(session: &Session, access: &Access) -> Result<Repository, Failure> {
    // Whoever has none should not have to type a password to hear of it.
    let found = find(session, access)?.ok_or_else(|| no_repository(access))?;
    unlock(session, access, found)
}

fn no_repository(access: &Access) -> Failure {
    let location = access.location.to_string();
    RepoError::NoRepository { location }.into()
}

/// The repository, if there is one; a place that does not exist holds none.
fn find(session: &Session, access: &Access) -> Result<Option<Locked>, Failure> {
    let backend = match store::open(session, access)? {
        Err(error) if error.kind == ErrorKind::NotFound => return Ok(None),
        backend => backend?,
    };
    match Repository::find(backend, observer(session)) {
        Err(RepoError::NoRepository { .. }) => Ok(None),
        found => Ok(Some(found?)),
    }
}

fn unlock(session: &Session, access: &Access, found: Locked) -> Result<Repository, Failure> {
    let password = session.password(access)?;
    Ok(found.unlock(&password, observer(session))?)
}

pub(super) fn open_project(
    session: &Session,
    access: &Access,
) -> Result<(Repository, Project), Failure> {
    let repository = open(session, access)?;
    let project = project(session, access, &repository)?;
    Ok((repository, project))
}

pub(super) fn project(
    session: &Session,
    access: &Access,
    repository: &Repository,
) -> Result<Project, Failure> {
    let mut project = repository.project(&access.project, observer(session))?;
    if access.location.is_remote() {
        project.keep_copies(&access.cache_dir);
    }
    Ok(project)
}

pub(super) fn kdf_params(kdf: Kdf) -> Result<KdfParams, Failure> {
    KdfParams::new(kdf.memory_kib, kdf.passes, kdf.lanes)
        .map_err(|error| Failure::usage(error.to_string()))
}

pub(super) fn host() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

pub(super) fn slot_info(session: &Session, label: Option<String>) -> SlotInfo {
    let user = ["SUDO_USER", "USER", "LOGNAME"]
        .iter()
        .find_map(|name| session.environment.get(name));
    SlotInfo {
        label: label.unwrap_or_default(),
        created: Timestamp::now().to_string(),
        host: host(),
        user: user
            .map(|user| user.to_string_lossy().into_owned())
            .unwrap_or_default(),
    }
}

fn init(
    session: &Session,
    access: &Access,
    chunk_size: ChunkSize,
    kdf: Kdf,
) -> Result<(), Failure> {
    let kdf = kdf_params(kdf)?;
    if find(session, access)?.is_some() {
        let location = access.location.to_string();
        return Err(RepoError::RepositoryExists { location }.into());
    }
    let password = session.initial_password(access)?;
    let repository = make(session, access, &password, chunk_size, kdf)?;
    session.meter.finish();
    session.output.show(&Message::Init(InitSummary {
        repository: access.location.to_string(),
        repository_id: repository.id().to_string(),
        project: access.project.clone(),
        chunk_size: chunk_size.bytes(),
    }))
}

fn make(
    session: &Session,
    access: &Access,
    password: &Password,
    chunk_size: ChunkSize,
    kdf: KdfParams,
) -> Result<Repository, Failure> {
    let backend = store::create(session, access)??;
    let now = Timestamp::now();
    let options = InitOptions {
        key: NewKey {
            password,
            kdf,
            info: slot_info(session, None),
        },
        project: &access.project,
        chunk_size,
        created: u64::try_from(now.as_second()).unwrap_or(0),
        created_text: now.to_string(),
    };
    Ok(Repository::init(backend, &options)?)
}

/// Opens the repository for a backup; makes it if there is none and the user said so.
pub(super) fn open_or_make(
    session: &Session,
    access: &Access,
    make_it: bool,
) -> Result<Repository, Failure> {
    match find(session, access)? {
        Some(found) => return unlock(session, access, found),
        None if !make_it => return Err(no_repository(access)),
        None => {}
    }
    let password = session.initial_password(access)?;
    make(
        session,
        access,
        &password,
        CHUNK_SIZE_DEFAULT,
        KdfParams::default(),
    )
}

pub(super) fn cache_path(project: &Project, access: &Access) -> String {
    let cache = project.cache_dir(&access.cache_dir);
    cache.path().display().to_string()
}

/// The records, with a word about those that cannot be read.
pub(super) fn records(session: &Session, project: &Project) -> Result<Records, Failure> {
    let records = Records::load(project)?;
    for error in records.damaged() {
        let problem = error.to_string();
        session.meter.notice(Notice::RecordDamaged { problem });
    }
    Ok(records)
}

fn entry(backup: &Backup) -> BackupEntry {
    BackupEntry {
        backup_id: backup.id.to_string(),
        volume: backup.record.volume.name.clone(),
        snapshot: backup.snapshot().cloned(),
        time: backup.time,
        size: backup.record.content.size,
        bytes_stored: Some(backup.record.counts.stored),
        host: backup.record.host.clone(),
        labels: backup.record.labels.clone(),
    }
}

fn list(session: &Session, access: &Access, volume: Option<&str>) -> Result<(), Failure> {
    let (_, project) = open_project(session, access)?;
    let records = records(session, &project)?;
    let wanted = |b: &&Backup| volume.is_none_or(|name| b.record.volume.name == name);
    let entries: Vec<_> = records.all().iter().filter(wanted).map(entry).collect();
    if let (Some(name), true, false) = (volume, entries.is_empty(), records.all().is_empty()) {
        let volume = name.to_owned();
        return Err(ops::OpsError::NoVolume { volume }.into());
    }
    session.meter.finish();
    session.output.backups(&entries)
}

fn show(session: &Session, access: &Access, selector: &str) -> Result<(), Failure> {
    let (_, project) = open_project(session, access)?;
    let records = records(session, &project)?;
    let backup = records.select(selector)?;
    let record = &backup.record;
    let counts = &record.counts;
    session.meter.finish();
    session.output.show(&Message::Detail(Box::new(BackupDetail {
        entry: entry(backup),
        project: project.settings.name.clone(),
        volume_id: record.volume.id.clone(),
        kind: match record.content.kind {
            ContentKind::Image => "image",
            ContentKind::Stream => "stream",
        },
        chunk_size: record.content.chunk_size,
        root: backup.root.to_string(),
        finished: record.finished.parse().unwrap_or(backup.time),
        base: record.base.clone(),
        source: serde_json::to_value(&record.source).unwrap_or_default(),
        bytes_changed: Some(counts.changed),
        bytes_read: Some(counts.read),
        bytes_new: Some(counts.new),
        chunks_new: Some(counts.chunks_new),
        tool: record.tool.clone(),
    })))
}

fn compare(session: &Session, access: &Access, a: &str, b: &str) -> Result<(), Failure> {
    let (_, project) = open_project(session, access)?;
    let records = records(session, &project)?;
    let (a, b) = (records.select(a)?, records.select(b)?);
    let mut extents = Vec::new();
    let mut failure = None;
    let report = ops::compare(&project, a, b, &context(session, access), |extent| {
        extents.push(Extent {
            offset: extent.offset,
            length: extent.len,
        });
        if extents.len() < EXTENTS_AT_ONCE {
            return Ok(());
        }
        session.output.extents(&extents).map_err(|error| {
            failure = Some(error);
            crate::base::Cancelled
        })?;
        extents.clear();
        Ok(())
    });
    if let Some(failure) = failure {
        return Err(failure);
    }
    let report = report?;
    session.meter.finish();
    session.output.extents(&extents)?;
    session.output.show(&Message::Compare(CompareSummary {
        a: a.id.to_string(),
        b: b.id.to_string(),
        identical: report.identical,
        extents: report.extents,
        bytes_different: report.bytes,
    }))
}

fn restore(session: &Session, access: &Access, request: &request::Restore) -> Result<(), Failure> {
    let started = Instant::now();
    let (_, project) = open_project(session, access)?;
    let records = records(session, &project)?;
    let backup = records.select(&request.backup)?;
    let mut stdout = std::io::stdout();
    let (to, name) = match (&request.target, request.existing) {
        (Target::Stdout, _) => (
            Restored::Stream(&mut stdout, "standard output"),
            "standard output".to_owned(),
        ),
        (Target::Path(path), existing) => {
            let to = match existing {
                Existing::Refuse => Restored::New(path),
                Existing::Overwrite => Restored::Replace(path),
                Existing::Update => Restored::InPlace(path),
            };
            (to, path.display().to_string())
        }
    };
    let report = ops::restore(&project, backup, to, &context(session, access))?;
    session.meter.finish();
    session.output.show(&Message::Restore(RestoreSummary {
        backup_id: backup.id.to_string(),
        volume: backup.record.volume.name.clone(),
        target: name,
        size: backup.record.content.size,
        bytes_written: report.written,
        bytes_fetched: report.fetched,
        duration: started.elapsed().as_secs_f64(),
    }))?;
    session.output.detail(&[
        ("Backup", Some(backup.id.to_string())),
        ("Root", Some(backup.root.to_string())),
        ("Repository", Some(access.location.to_string())),
        ("Cache", Some(cache_path(&project, access))),
        ("Threads", Some(session.settings.threads.to_string())),
    ])
}

fn check(session: &Session, access: &Access, read_data: bool) -> Result<(), Failure> {
    let started = Instant::now();
    let (repository, project) = open_project(session, access)?;
    let mut findings = Vec::new();
    let report = ops::check(
        &repository,
        &project,
        read_data,
        &context(session, access),
        &mut |finding| {
            let ops::Finding { item, message } = finding.clone();
            findings.push(Damage { item, message });
        },
    )?;
    session.meter.finish();
    for finding in findings {
        session.output.show(&Message::Error(finding))?;
    }
    let affected = report.backups_affected.len();
    session.output.show(&Message::Check(CheckSummary {
        errors: report.errors,
        packs_damaged: report.packs_damaged,
        backups_affected: report
            .backups_affected
            .iter()
            .map(ToString::to_string)
            .collect(),
        backups: report.backups,
        packs: report.packs,
        bytes_read: report.bytes_read,
        duration: started.elapsed().as_secs_f64(),
    }))?;
    if report.errors == 0 {
        return Ok(());
    }
    let only_history = report.errors == report.vanished.len() as u64;
    Err(if only_history {
        Failure::new(
            Code::HistoryLost,
            "backups have vanished from the repository",
        )
        .hint("see who can delete there; what is left is whole")
    } else {
        let text = format!(
            "damage found in {}; {} affected",
            access.location,
            count(affected as u64, "backup")
        );
        Failure::new(Code::Damage, text).hint(match affected {
            0 => "all backups can be restored; mend what is named above before more is lost. Of packs that are missing and not needed any more a prune forgets the names",
            _ => "delete the damaged packs (projects/*/packs/*/NAME) and back up the affected volumes again with --reread: what is still in them is stored again, for older backups too. Then prune",
        })
    })
}

fn stats(session: &Session, access: &Access) -> Result<(), Failure> {
    let (_, project) = open_project(session, access)?;
    let report = ops::stats(&project, &context(session, access))?;
    session.meter.finish();
    session.output.show(&Message::Stats(Stats {
        volumes: report.volumes,
        backups: report.backups,
        bytes_backed_up: report.backed_up,
        chunks: report.chunks,
        bytes_unique: report.unique,
        bytes_stored: report.stored,
        packs: report.packs,
    }))
}

fn cache(session: &Session, access: &Access, command: CacheCommand) -> Result<(), Failure> {
    let (_, project) = open_project(session, access)?;
    let cache = project.cache_dir(&access.cache_dir);
    let failed = |what: &str, error: &std::io::Error| {
        Failure::new(
            Code::Failed,
            format!("could not {what} the cache in {}", cache.path().display()),
        )
        .caused_by(Some(error))
    };
    if matches!(command, CacheCommand::Clear | CacheCommand::Rebuild) {
        cache.clear().map_err(|error| failed("clear", &error))?;
    }
    let chunks = if matches!(command, CacheCommand::Clear) {
        None
    } else {
        let index = repo::Index::open(&project, &access.cache_dir, session.meter.clone())?;
        let blobs = index.state()?.blobs;
        index.close();
        Some(blobs)
    };
    session.meter.finish();
    session.output.show(&Message::Cache(CacheInfo {
        path: cache.path().display().to_string(),
        bytes: cache.size().map_err(|error| failed("look at", &error))?,
        chunks,
    }))
}
