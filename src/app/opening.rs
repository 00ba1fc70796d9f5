//! Opens and creates repositories and projects, with the settings and passwords of a session.

use jiff::Timestamp;

use crate::base::{CHUNK_SIZE_DEFAULT, ChunkSize, Notice, ParityRate};
use crate::format::SlotInfo;
use crate::ops;
use crate::repo::{
    Backup, HistoryEnds, InitOptions, KdfParams, LastKey, Locked, NewKey, Objects, Project,
    Records, RepoError, Repository, repository_id,
};
use crate::storage::StorageErrorKind;

use super::backend::{create_backend, open_backend};
use super::client_memory::{ClientMemory, history_lost};
use super::failure::{Code, Failure};
use super::human::short_id;
use super::password::{Origin, Password, Passwords, composed_form};
use super::permission::Attempt;
use super::session::Session;
use super::settings::RepositorySettings;

/// Opens the repository. Asks for a password only if there is a repository. Fails if the role of
/// the key does not permit the attempt.
pub(crate) fn open(
    session: &Session,
    settings: &RepositorySettings,
    attempt: Attempt,
) -> Result<Repository, Failure> {
    let found = find(session, settings)?.ok_or_else(|| no_repository(session, settings))?;
    unlock(session, settings, attempt, found)
}

/// Opens the repository like [`open`], but never asks for a password. A backup calls this while it
/// opens its sources: it must report a wrong name of a source before it asks for a password.
/// Returns `None` if there is no repository, or if the password is not in a regular file or in a
/// variable.
pub(crate) fn open_ahead(
    session: &Session,
    settings: &RepositorySettings,
    attempt: Attempt,
) -> Result<Option<Repository>, Failure> {
    if !Passwords::new(session).is_at_hand(&settings.password) {
        return Ok(None);
    }
    let found = find(session, settings)?;
    found
        .map(|found| unlock(session, settings, attempt, found))
        .transpose()
}

fn no_repository(session: &Session, settings: &RepositorySettings) -> Failure {
    let location = settings.location.to_string();
    let failure = Failure::from(RepoError::NoRepository { location });
    let seen = ClientMemory::new(session, settings).repository();
    failure.hint_if(seen.map(|(_, time)| {
        format!("this host saw one there on {time}: find out whether its disk is mounted")
    }))
}

/// Opens the store of a repository. Needs no key.
pub(crate) fn open_objects(
    session: &Session,
    settings: &RepositorySettings,
) -> Result<Objects, Failure> {
    match open_backend(session, settings) {
        Err(error) if error.kind == StorageErrorKind::NotFound => {
            Err(no_repository(session, settings))
        }
        backend => Ok(Objects::new(backend?)),
    }
}

/// Opens the store of a copy that is made without a key, and creates its directory if needed.
/// Without `init`, fails if this host saw a repository there that no longer exists: its disk may
/// not be mounted.
pub(crate) fn open_target(
    session: &Session,
    settings: &RepositorySettings,
    init: bool,
) -> Result<Objects, Failure> {
    let exists = match open_backend(session, settings) {
        Err(error) if error.kind == StorageErrorKind::NotFound => false,
        backend => {
            let objects = Objects::new(backend?);
            if repository_id(&objects).is_ok() {
                return Ok(objects);
            }
            !objects
                .backend()
                .directories("projects")
                .map_err(RepoError::from)?
                .is_empty()
        }
    };
    if !exists && !init {
        refuse_if_used_before(session, settings).map_err(|failure| {
            failure
                .hint("find out whether its disk is mounted. To begin a new copy there, use --init")
        })?;
    }
    Ok(Objects::new(create_backend(session, settings)?))
}

/// Returns the locked repository. Returns `None` if the directory does not exist or holds no
/// repository.
pub(crate) fn find(
    session: &Session,
    settings: &RepositorySettings,
) -> Result<Option<Locked>, Failure> {
    let backend = match open_backend(session, settings) {
        Err(error) if error.kind == StorageErrorKind::NotFound => return Ok(None),
        backend => backend?,
    };
    let last_key = last_key(settings).get();
    match Repository::find(backend, last_key, session.observer()) {
        Err(RepoError::NoRepository { .. }) => Ok(None),
        found => Ok(Some(found?)),
    }
}

/// How many times a user at a terminal may enter the password.
const ATTEMPTS: usize = 3;

/// Unlocks a repository with the password of the settings, or asks for one.
fn unlock(
    session: &Session,
    settings: &RepositorySettings,
    attempt: Attempt,
    found: Locked,
) -> Result<Repository, Failure> {
    let passwords = Passwords::new(session);
    let mut given = passwords.existing(&settings.password, &settings.location)?;
    for tried in 1.. {
        let composed = composed_form(&given.bytes);
        for password in [Some(&given.bytes), composed.as_ref()]
            .into_iter()
            .flatten()
        {
            let (cancel, observer) = (&session.cancel, session.observer());
            if let Some(key) = found.try_password(password, cancel, observer)? {
                last_key(settings).set(key.id());
                let repository = found.open(key);
                attempt.permit(repository.role())?;
                return Ok(repository);
            }
        }
        if given.origin != Origin::Terminal || tried == ATTEMPTS {
            break;
        }
        given = passwords.again()?;
    }
    Err(wrong_password(settings, &given.origin))
}

/// Returns the file that names the key that opened this repository last on this host.
fn last_key(settings: &RepositorySettings) -> LastKey {
    LastKey::new(&settings.cache_dir, &settings.location.to_string())
}

fn wrong_password(settings: &RepositorySettings, origin: &Origin) -> Failure {
    let message = format!(
        "no key in {} opens with {}",
        settings.location,
        origin.password()
    );
    Failure::new(Code::WrongPassword, message).hint(match origin {
        Origin::Terminal => "try again; check the keyboard layout and the Caps Lock key",
        Origin::File(_) => {
            "check that this is the right file for this repository, and that it has nothing but \
             the password; “cuttlebone key test --password-file FILE” checks another one"
        }
        Origin::Variable(_) => {
            "set it to the password of this repository, or unset it to be asked on a terminal"
        }
        Origin::Stdin | Origin::Descriptor(_) | Origin::Command => {
            "check that it gives the password of this repository; “cuttlebone key test” checks a \
             password"
        }
    })
}

/// Opens the repository and the project that the settings name. Fails if the role of the key does
/// not permit the attempt.
pub(crate) fn open_project(
    session: &Session,
    settings: &RepositorySettings,
    attempt: Attempt,
) -> Result<(Repository, Project), Failure> {
    let repository = open(session, settings, attempt)?;
    let project = project(session, settings, attempt, &repository)?;
    Ok((repository, project))
}

/// Opens the project that the settings name. Caches objects of a remote repository on this host.
/// Then compares the project with the client memory: the history that this host saw at this
/// location. For a check, leaves out this comparison: the check makes it later. If history is lost,
/// an attempt that needs all of it fails. For any other attempt, sends a notice for each loss.
pub(crate) fn project(
    session: &Session,
    settings: &RepositorySettings,
    attempt: Attempt,
    repository: &Repository,
) -> Result<Project, Failure> {
    let mut project = repository.project(&settings.project, session.observer())?;
    if settings.location.is_remote() {
        project.keep_copies(&settings.cache_dir);
    }
    project.remember_seen(&settings.cache_dir);
    compare_history(session, settings, attempt, &project)?;
    Ok(project)
}

fn compare_history(
    session: &Session,
    settings: &RepositorySettings,
    attempt: Attempt,
    project: &Project,
) -> Result<(), Failure> {
    if let Attempt::Check | Attempt::CheckData = attempt {
        // `check` reports losses as findings.
        return Ok(());
    }
    let lost = ClientMemory::new(session, settings).compare(project)?;
    if lost.is_empty() {
        return Ok(());
    }
    if attempt.needs_history() {
        return Err(history_lost(&settings.location, &lost));
    }
    for lost in lost {
        let problem = lost.to_string();
        session.observer.notice(Notice::HistoryLost { problem });
    }
    Ok(())
}

/// Creates a repository and the project that the settings name. Fails if there is a repository.
/// Sends a notice if this host saw another one at this location.
pub(crate) fn create(
    session: &Session,
    settings: &RepositorySettings,
    chunk_size: ChunkSize,
    kdf: KdfParams,
    parity: Option<ParityRate>,
) -> Result<Repository, Failure> {
    if find(session, settings)?.is_some() {
        let location = settings.location.to_string();
        return Err(RepoError::RepositoryExists { location }.into());
    }
    if let Some((repository, time)) = ClientMemory::new(session, settings).repository() {
        let notice = Notice::SeenBefore { repository, time };
        session.observer.notice(notice);
    }
    create_where_none_is(session, settings, chunk_size, kdf, parity)
}

fn create_where_none_is(
    session: &Session,
    settings: &RepositorySettings,
    chunk_size: ChunkSize,
    kdf: KdfParams,
    parity: Option<ParityRate>,
) -> Result<Repository, Failure> {
    let password: Password =
        Passwords::new(session).initial(&settings.password, &settings.location)?;
    let backend = create_backend(session, settings)?;
    let now = Timestamp::now();
    let options = InitOptions {
        key: NewKey {
            password: &password,
            kdf,
            info: slot_info(session, None),
        },
        project: &settings.project,
        chunk_size,
        parity,
        created: u64::try_from(now.as_second()).unwrap_or(0),
        created_text: now.to_string(),
    };
    let repository = Repository::init(backend, &options)?;
    ClientMemory::new(session, settings).begin(repository.id());
    Ok(repository)
}

/// Opens the repository. With `create`, creates one with default options if there is none. Returns
/// the repository, and whether it is new. Fails if the role of the key does not permit the attempt.
/// Also fails if there is no repository although this host saw one there.
pub(crate) fn open_or_create(
    session: &Session,
    settings: &RepositorySettings,
    attempt: Attempt,
    create: bool,
) -> Result<(Repository, bool), Failure> {
    match find(session, settings)? {
        Some(found) => Ok((unlock(session, settings, attempt, found)?, false)),
        None if create => {
            refuse_if_used_before(session, settings)?;
            let (chunk_size, kdf) = (CHUNK_SIZE_DEFAULT, KdfParams::default());
            let created = create_where_none_is(session, settings, chunk_size, kdf, None)?;
            Ok((created, true))
        }
        None => Err(no_repository(session, settings)),
    }
}

/// Fails if this host saw a repository at this location: its disk may not be mounted.
fn refuse_if_used_before(session: &Session, settings: &RepositorySettings) -> Result<(), Failure> {
    let Some((repository, time)) = ClientMemory::new(session, settings).repository() else {
        return Ok(());
    };
    let message = format!(
        "there is no repository at {}, although this host saw one there ({repository}, on {time})",
        settings.location
    );
    Err(Failure::new(Code::HistoryLost, message).hint(
        "find out whether its disk is mounted. If the repository is lost, create another one with \
         “cuttlebone init”",
    ))
}

/// Loads the backup records, and notes the newest ones in the client memory. Sends a notice for
/// each damaged or missing record.
pub(crate) fn load_records(
    session: &Session,
    settings: &RepositorySettings,
    project: &Project,
) -> Result<Records, Failure> {
    let records = Records::load(project)?;
    ClientMemory::new(session, settings).remember(project, &HistoryEnds::of(&records));
    notice_damaged(session, records.damaged());
    for lost in records.lost().iter().filter(|lost| lost.missing) {
        let record = lost.id;
        session.observer.notice(Notice::RecordMissing { record });
    }
    Ok(records)
}

/// Opens the project that the settings name, and loads its backup records.
pub(crate) fn open_records(
    session: &Session,
    settings: &RepositorySettings,
    attempt: Attempt,
) -> Result<(Project, Records), Failure> {
    let (_, project) = open_project(session, settings, attempt)?;
    let records = load_records(session, settings, &project)?;
    Ok((project, records))
}

/// Sends a notice for each object that is damaged or cannot be read.
pub(crate) fn notice_damaged(session: &Session, errors: &[RepoError]) {
    for error in errors {
        let problem = error.to_string();
        session.observer.notice(Notice::RecordDamaged { problem });
    }
}

/// Sends a notice if a volume has several newest backups.
pub(crate) fn notice_several_newest(session: &Session, records: &Records, volume: &str) {
    let newest: Vec<_> = records.tips(volume).iter().map(|tip| tip.id).collect();
    if newest.len() > 1 {
        let volume = volume.to_owned();
        let notice = Notice::SeveralNewest { volume, newest };
        session.observer.notice(notice);
    }
}

/// Fails if it is not certain that `selector` means `backup`, because a backup of this volume that
/// this host saw is missing. The selectors VOLUME and VOLUME~N are then uncertain: they count from
/// the newest backup of the volume.
pub(crate) fn refuse_if_lost(
    session: &Session,
    settings: &RepositorySettings,
    project: &Project,
    selector: &str,
    backup: &Backup,
) -> Result<(), Failure> {
    let id = backup.id.to_string();
    if id.starts_with(selector) || selector.contains('@') {
        return Ok(());
    }
    let memory = ClientMemory::new(session, settings);
    let Some(lost) = memory.lost_of_volume(project, &backup.record.volume.name) else {
        return Ok(());
    };
    let message = format!(
        "it is not certain which backup “{selector}” selects: this host saw backup {} of {}, which \
         is missing",
        lost.id, lost.time
    );
    Err(Failure::new(Code::HistoryLost, message).hint(format!(
        "copy the missing record from another copy of the repository, or name a backup by its id, \
         for example {}",
        short_id(&id)
    )))
}

/// Sends a notice for each of these facts about the backup: its writer withdrew it; the log says
/// that it was removed; a later backup showed that it may lack changes.
pub(crate) fn notice_state(
    session: &Session,
    project: &Project,
    records: &Records,
    backup: &Backup,
) {
    let backup_id = backup.id;
    if records.is_voided(backup) {
        let notice = Notice::Withdrawn { backup: backup_id };
        session.observer.notice(notice);
    }
    if records.is_removed(backup) {
        let notice = Notice::Forgotten { backup: backup_id };
        session.observer.notice(notice);
    }
    if let Some(later) = ops::found_incomplete_by(project, records, backup) {
        session.observer.notice(Notice::MayLackChanges {
            backup: backup_id,
            found_by: later.id,
        });
    }
}

/// Returns the name of this host.
pub(crate) fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// Returns the description of a new key slot: label, time, host, and user.
pub(crate) fn slot_info(session: &Session, label: Option<String>) -> SlotInfo {
    let user = ["SUDO_USER", "USER", "LOGNAME"]
        .iter()
        .find_map(|name| session.environment.get(name));
    SlotInfo {
        label: label.unwrap_or_default(),
        created: Timestamp::now().to_string(),
        host: host_name(),
        user: user
            .map(|user| user.to_string_lossy().into_owned())
            .unwrap_or_default(),
    }
}
