//! Errors of the layers below, as failures with an exit code and the next step to take.

use crate::format::DiffErrorKind;
use crate::ops::OpsError;
use crate::repo::{ObjectRef, RepoError, RepoErrorKind};
use crate::storage::{self, StorageError};
use crate::volume::{self, VolumeError};

use super::failure::{Code, Failure};
use super::human::shortened;

impl From<OpsError> for Failure {
    fn from(error: OpsError) -> Self {
        match error {
            OpsError::Repo(error) => error.into(),
            OpsError::Volume(error) => error.into(),
            OpsError::ReadStream { .. } => Self::from_error(Code::Failed, &error)
                .hint("nothing was committed; see whether the program before the pipe failed"),
            OpsError::SourceChanged { .. } => Self::from_error(Code::Failed, &error)
                .hint("back up a snapshot of it, or stop what writes to it, and run this again"),
            OpsError::BaseKind { .. } => Self::from_error(Code::WrongBase, &error)
                .hint("leave --base out, or name a backup of the same kind"),
            OpsError::OtherSource { .. } => Self::from_error(Code::Usage, &error).hint(
                "name the volume with --volume NAME (the same name if it is the same volume)",
            ),
            OpsError::NoVolume { .. } => Self::from_error(Code::Failed, &error)
                .hint("see what there is with “cuttlebone list”"),
            OpsError::Protected { .. } => Self::from_error(Code::Failed, &error)
                .hint("nothing was removed; --force removes it all the same"),
            OpsError::LastOfVolume { .. } => Self::from_error(Code::Failed, &error)
                .hint("nothing was removed; to remove it, name it by its id"),
            OpsError::LostRace { .. } => Self::from_error(Code::Busy, &error)
                .hint("nothing was removed; wait for the other one to end, and run this again"),
            OpsError::OutrunByPrune { .. } => Self::from_error(Code::Busy, &error)
                .hint("run the backup again: what was stored is used, and earlier backups are whole"),
            OpsError::PruneRuns { .. } => Self::from_error(Code::Busy, &error).hint(
                "wait for it to end, and run this again; one that died is passed over after 10 minutes",
            ),
            OpsError::PausedTooLong => Self::from_error(Code::Busy, &error)
                .hint("run it again: nothing that is used was deleted"),
            OpsError::Unreadable { .. } => Self::from_error(Code::Damage, &error).hint(
                "nothing was deleted; put them back from another copy of the repository, or delete them if these backups are given up",
            ),
            OpsError::ReadDiff { .. } | OpsError::ReadList { .. } => Self::from_error(Code::Failed, &error)
                .hint("see whether the disk is whole, or the program before the pipe failed"),
            OpsError::NotADiff { .. } => Self::from_error(Code::Failed, &error)
                .hint("give what “rbd export-diff” or “rbd export --export-format 2” has written"),
            OpsError::DamagedDiff { ref source, .. } => {
                let hint = match source.kind {
                    DiffErrorKind::Cut(_) => {
                        "nothing of it was used; see whether what wrote it failed, and export it from the cluster again"
                    }
                    _ => "do not apply it; export it from the cluster again",
                };
                Self::from_error(Code::Damage, &error).hint(hint)
            }
            OpsError::NotFollowing { .. } => Self::from_error(Code::WrongBase, &error).hint(
                "give the diffs oldest first, each from the snapshot where the one before ends",
            ),
            OpsError::NotSeekable { .. } => Self::from_error(Code::Failed, &error)
                .hint("store it in a file first, and give that"),
            OpsError::NoBase {
                ref volume,
                ref known,
                empty,
                ..
            } => Self::from_error(Code::WrongBase, &error).hint(no_base_hint(volume, known, empty)),
            OpsError::AmbiguousBase { ref backups, .. } => {
                let hint = format!("say which with --base: {}", backups.join(" or "));
                Self::from_error(Code::WrongBase, &error).hint(hint)
            }
            OpsError::NeedsNoBase { .. } => {
                Self::from_error(Code::WrongBase, &error).hint("leave --base out")
            }
            OpsError::BaseOfOtherVolume { .. } | OpsError::BaseOfOtherSnapshot { .. } => {
                Self::from_error(Code::WrongBase, &error).hint(
                    "leave --base out to have it found; --force-base takes it all the same, and makes a \
                    wrong backup if its content is not what the diff builds on",
                )
            }
            OpsError::SnapshotTaken { .. } => Self::from_error(Code::WrongBase, &error).hint(
                "nothing was committed; if it is of another image, give it another volume with --volume",
            ),
            OpsError::SnapshotTwice { .. } => Self::from_error(Code::Damage, &error)
                .hint("nothing was committed; no image has that: export it from the cluster again"),
            OpsError::OtherImage { .. } => Self::from_error(Code::WrongBase, &error)
                .hint("nothing was stored; give it another volume with --volume"),
            OpsError::DryRunOfChain { .. } => Self::from_error(Code::Failed, &error)
                .hint("look into it with “cuttlebone diff inspect”"),
            OpsError::TooLarge { .. } => Self::from_error(Code::Failed, &error)
                .hint("no Ceph image is that large; export it again"),
            OpsError::NotAList { .. } => Self::from_error(Code::Failed, &error).hint(
                "give what “rbd diff --format json” has written, and see whether that failed; if nothing \
                changed it writes []",
            ),
            OpsError::LongList { .. } => Self::from_error(Code::Failed, &error)
                .hint("make a shorter one with “rbd diff --whole-object”, or back up without --extents"),
            OpsError::ListBeyondEnd { .. } => Self::from_error(Code::WrongBase, &error)
                .hint("give the list of this image, at the snapshot that is mapped"),
            OpsError::BaseCutOtherwise { .. } => Self::from_error(Code::WrongBase, &error)
                .hint("back up without --extents once"),
            OpsError::ListIncomplete { .. } => Self::from_error(Code::WrongBase, &error).hint(
                "nothing was stored; what tracks changes has missed some, or the list does not begin at what \
                this base is of: run this again without --extents, which reads everything",
            ),
            OpsError::NoDiff { .. } => Self::from_error(Code::WrongBase, &error)
                .hint("name two backups of one volume that is an image; “cuttlebone list” shows what there is"),
            OpsError::NoSnapshot { .. } => Self::from_error(Code::WrongBase, &error)
                .hint("name the image's snapshot that has this content with --from-snapshot NAME"),
            OpsError::Threads(_) | OpsError::Internal(_) => Self::from_error(Code::Failed, &error),
        }
    }
}

/// What to do where a diff finds no base.
fn no_base_hint(volume: &str, known: &[String], empty: bool) -> String {
    let Some(newest) = known.last() else {
        let there = if empty {
            "it has none at all"
        } else {
            "none of its backups is of a snapshot"
        };
        return format!(
            "{there}; begin with a full diff: rbd export-diff POOL/IMAGE@SNAP - | cuttlebone backup \
            --diff - --volume {volume}"
        );
    };
    format!(
        "there are: {}; export from one of them: rbd export-diff --from-snap {} POOL/IMAGE@SNAP - | \
        cuttlebone backup --diff - --volume {volume}; or everything, without --from-snap",
        known_names(known),
        word(newest)
    )
}

/// A name as a word of a command line.
fn word(name: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-.,:+@%/".contains(c);
    if !name.is_empty() && name.chars().all(plain) {
        name.to_owned()
    } else {
        format!("'{}'", name.replace('\'', r"'\''"))
    }
}

/// Names of snapshots, but not more than a few.
fn known_names(known: &[String]) -> String {
    const SHOWN: usize = 10;
    let (left_out, shown) = known.split_at(known.len().saturating_sub(SHOWN));
    let shown: Vec<_> = shown.iter().map(|name| shortened(name, 60)).collect();
    let shown = shown.join(", ");
    match left_out.len() {
        0 => shown,
        more => format!("{shown}, and {more} older ones"),
    }
}

impl From<RepoError> for Failure {
    fn from(error: RepoError) -> Self {
        let code = match error.kind() {
            RepoErrorKind::NoRepository => Code::NoRepository,
            RepoErrorKind::WrongPassword => Code::WrongPassword,
            RepoErrorKind::Damaged => Code::Damage,
            RepoErrorKind::Cancelled => Code::Interrupted,
            RepoErrorKind::LostRace => Code::Busy,
            RepoErrorKind::Storage(_)
            | RepoErrorKind::Unsupported
            | RepoErrorKind::NotFound
            | RepoErrorKind::Other => Code::Failed,
        };
        let hint = match &error {
            RepoError::Storage(error) => storage_hint(error).map(str::to_owned),
            RepoError::NoRepository { .. } => {
                Some("check the path, or make a repository there with “cuttlebone init”".into())
            }
            RepoError::RepositoryExists { .. } => Some("use it, or choose another place".into()),
            RepoError::Unsupported { .. } => Some("use a newer version of cuttlebone".into()),
            RepoError::Damaged {
                object: ObjectRef::Repository | ObjectRef::Key(..) | ObjectRef::Project(_),
                ..
            } => Some(
                "both copies of it are unusable: put one back from another copy of the repository, if there is one".into(),
            ),
            RepoError::Damaged { .. } | RepoError::Missing { .. } | RepoError::Tree | RepoError::WrongLength { .. } => Some(
                "run “cuttlebone check --read-data” to see which backups are affected; others are whole".into(),
            ),
            RepoError::WrongPassword { .. } => {
                Some("try again; “cuttlebone key test” tells whether a password fits".into())
            }
            RepoError::NoKeys { .. } => Some(
                "put back a key that “cuttlebone key export” saved, as keys/ID in the repository".into(),
            ),
            RepoError::NoProject { known, .. } if known.is_empty() => {
                Some("this key opens no project".into())
            }
            RepoError::NoProject { known, .. } => Some(format!("there are: {}", known.join(", "))),
            RepoError::NoKey { .. } => Some("see what there is with “cuttlebone key list”".into()),
            RepoError::LastKey { .. } => {
                Some("add another with “cuttlebone key add”, then remove this one".into())
            }
            RepoError::NoBackup { .. } => Some(
                "see what there is with “cuttlebone list”; an id needs 4 digits or more".into(),
            ),
            RepoError::AmbiguousBackup { matches, .. } => {
                Some(format!("write more digits of one of them: {}", matches.join(", ")))
            }
            RepoError::Cache { .. } => {
                Some("name a directory that can be written with --cache-dir; the cache can be deleted at any time".into())
            }
            RepoError::LostRace => Some("run it again: nothing is lost".into()),
            RepoError::LeaseLost => Some("run it again; somebody deleted an object below leases/".into()),
            RepoError::Kdf(_) => Some("the key needs more memory than there is".into()),
            RepoError::Cancelled(_) | RepoError::Random(_) | RepoError::Compress(_) => None,
        };
        let failure = match &error {
            RepoError::Storage(error) => Self::from_error(code, error),
            error => Self::from_error(code, error),
        };
        with_hint(failure, hint)
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        let hint = storage_hint(&error).map(str::to_owned);
        with_hint(Self::from_error(Code::Failed, &error), hint)
    }
}

impl From<VolumeError> for Failure {
    fn from(error: VolumeError) -> Self {
        use volume::VolumeErrorKind as Kind;
        let code = match error.kind {
            Kind::Busy => Code::Busy,
            _ => Code::Failed,
        };
        let hint = match error.kind {
            Kind::NotFound => Some("check the path"),
            Kind::Exists => Some(
                "choose another name; or --in-place to write only what differs, or --force to replace it",
            ),
            Kind::Denied => Some("run this as a user who may do that"),
            Kind::ReadOnly => Some("choose a target that can be written"),
            Kind::Unsuitable(volume::Unsuitable::Fifo) => {
                Some("back it up as a stream: “cuttlebone backup - --volume NAME < PIPE”")
            }
            Kind::Unsuitable(volume::Unsuitable::Unsized) => {
                Some("back it up as a stream: “cuttlebone backup - --volume NAME < FILE”")
            }
            Kind::Unsuitable(_) => Some("give a regular file or a block device"),
            Kind::Busy => Some("unmount it, or stop what uses it"),
            Kind::TooSmall { .. } => Some("use a device that is at least as large as the backup"),
            Kind::Full { .. } => Some("make room, or choose another place, and run this again"),
            Kind::Shrunk { .. } => {
                Some("nothing was committed; back up a snapshot, or stop what writes to it")
            }
            Kind::Misnamed => {
                Some("give a name of 1 to 4096 bytes with --from-snapshot or --to-snapshot")
            }
            Kind::Io => Some("see the system's log for errors of the disk"),
            _ => None,
        };
        with_hint(Self::from_error(code, &error), hint.map(str::to_owned))
    }
}

fn with_hint(failure: Failure, hint: Option<String>) -> Failure {
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn storage_hint(error: &StorageError) -> Option<&'static str> {
    use storage::StorageErrorKind as Kind;
    match error.kind {
        Kind::NotFound => Some("check the path"),
        Kind::Full => Some("make room and run this again; what was stored is used"),
        Kind::ReadOnly => Some("mount it writable and run this again"),
        Kind::Denied if error.is_remote => Some(
            "see that the user of the login may do that there, and that the server lets it write",
        ),
        Kind::Denied => Some("run this as a user who may do that"),
        Kind::Io | Kind::Unreadable if error.is_remote => {
            Some("see the log of the server for errors of its disk")
        }
        Kind::Io | Kind::Unreadable => Some("see the system's log for errors of the disk"),
        Kind::ClosedAfterLogin => Some(
            "run this again; if it ends like that each time, the server's log says why (a chroot must belong to root)",
        ),
        Kind::Unavailable => Some("see that the store can be reached and run this again"),
        Kind::HostKeyChanged => Some(
            "find out why the server has another key than before: an attacker may be in between",
        ),
        Kind::LoginRefused => Some(
            "log in once with sftp by hand: it tells more, and asks whether to trust the server",
        ),
        Kind::NoProgram => {
            Some("install OpenSSH's client, or say what connects with --ssh-command")
        }
        Kind::Exists | Kind::Truncated | Kind::TooLarge => None,
    }
}
