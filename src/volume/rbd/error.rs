//! Errors of requests to a cluster.

use std::fmt;
use std::io;
use std::process::ExitStatus;

/// The class of an error. Numbers in parentheses are exit codes of `rbd` and `ceph`, which exit
/// with the number of the error (errno).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RbdErrorKind {
    /// The program `rbd` or `ceph` cannot be started.
    NotStarted,
    /// There is no such pool, namespace, image or snapshot (exit code 2).
    NotFound,
    /// The user is unknown, its key is wrong, or its capabilities do not suffice (1, 13).
    Denied,
    /// The image or snapshot exists already (17).
    Exists,
    /// The image or snapshot is in use (16), or the image still has snapshots (39).
    Busy,
    /// The cluster refuses the arguments (22).
    BadArgument,
    /// The cluster did not answer in time, or cannot be reached (107, 108, 110).
    Unreachable,
    /// An export gave no data, or an import took none, for too long.
    Stalled,
    /// The answer of the program is not valid, or cannot be used.
    BadAnswer,
    /// An image or snapshot is another one than before, although it has the same name.
    Replaced,
    /// The work was cancelled.
    Cancelled,
    /// Any other failure.
    Failed,
}

/// A request to a cluster failed.
#[derive(Debug, thiserror::Error)]
pub struct RbdError {
    /// The class of the error.
    pub kind: RbdErrorKind,
    /// The request, such as “list the snapshots of vms/web1”.
    request: String,
    /// The reason, as the program or cuttlebone states it.
    detail: String,
    #[source]
    source: Option<io::Error>,
}

impl fmt::Display for RbdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not {}", self.request)?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}

impl RbdError {
    pub(super) fn new(
        kind: RbdErrorKind,
        request: impl fmt::Display,
        detail: impl fmt::Display,
    ) -> Self {
        Self {
            kind,
            request: request.to_string(),
            detail: detail.to_string(),
            source: None,
        }
    }

    pub(super) fn io(kind: RbdErrorKind, request: impl fmt::Display, source: io::Error) -> Self {
        Self {
            source: Some(source),
            ..Self::new(kind, request, "")
        }
    }

    /// Adds a reason.
    pub(super) fn because(mut self, why: &str) -> Self {
        if !self.detail.is_empty() {
            self.detail.push_str("; ");
        }
        self.detail.push_str(why);
        self
    }

    /// Returns whether the pool, namespace, image or snapshot does not exist.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        self.kind == RbdErrorKind::NotFound
    }

    /// Returns the error of a program that ended with this status and printed `printed` on standard
    /// error.
    pub(super) fn exited(request: impl fmt::Display, status: ExitStatus, printed: &str) -> Self {
        let kind = match status.code() {
            Some(2) => RbdErrorKind::NotFound,
            Some(1 | 13) => RbdErrorKind::Denied,
            Some(16 | 39) => RbdErrorKind::Busy,
            Some(17) => RbdErrorKind::Exists,
            Some(22) => RbdErrorKind::BadArgument,
            Some(107 | 108 | 110) => RbdErrorKind::Unreachable,
            _ => RbdErrorKind::Failed,
        };
        let detail = match summary(printed) {
            text if text.is_empty() => status.to_string(),
            text => format!("{text} ({status})"),
        };
        Self::new(kind, request, detail)
    }
}

/// In the log of Ceph, the paths of missing keyring files follow these words.
const NO_KEYRING: &str = "unable to find a keyring on ";

/// Returns the lines that state what failed: all lines that begin with `rbd: `, or the last line if
/// there are none. Lines of the debug log begin with a date. Each report of the progress ends with
/// a carriage return.
fn summary(printed: &str) -> String {
    let lines = || {
        let lines = printed.split(['\n', '\r']).map(str::trim);
        lines.filter(|line| !line.is_empty())
    };
    let own = lines().filter_map(|line| line.strip_prefix("rbd: "));
    let mut parts: Vec<_> = own.map(str::to_owned).collect();
    if parts.is_empty() {
        parts.extend(lines().next_back().map(str::to_owned));
    }
    // Only the log says which file is missing.
    if let Some(paths) = lines().find_map(|line| line.split_once(NO_KEYRING)) {
        parts.push(format!("there is no keyring at {}", paths.1));
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn the_exit_code_of_the_program_gives_the_class_and_its_messages_give_the_reason() {
        let printed = "2026-11-28T22:25:04.427+0000 7f48267fc6c0 -1 librbd::image: failed\n\n\
            \rExporting image: 3% complete...\rrbd: couldn't connect to the cluster!\nrbd: listing \
            images failed: (13) Permission denied\n";
        for (code, kind) in [
            (2, RbdErrorKind::NotFound),
            (1, RbdErrorKind::Denied),
            (13, RbdErrorKind::Denied),
            (16, RbdErrorKind::Busy),
            (17, RbdErrorKind::Exists),
            (22, RbdErrorKind::BadArgument),
            (110, RbdErrorKind::Unreachable),
            (5, RbdErrorKind::Failed),
        ] {
            let status = ExitStatus::from_raw(code << 8);
            let error = RbdError::exited("list", status, printed);
            assert_eq!(error.kind, kind, "{code}");
            assert_eq!(
                error.to_string(),
                format!(
                    "could not list: couldn't connect to the cluster!; listing images failed: (13) \
                     Permission denied (exit status: {code})"
                )
            );
        }
        let keyring = "2026-11-29T05:06:09.812+0000 7f8bbe31b6c0 -1 auth: unable to find a keyring \
            on /nowhere: (2) No such file or directory\n[errno 13] RADOS permission denied\n";
        let denied = RbdError::exited("list", ExitStatus::from_raw(13 << 8), keyring).to_string();
        let expected = "RADOS permission denied; there is no keyring at /nowhere: (2) No such file";
        assert!(denied.contains(expected), "{denied}");
        let killed = RbdError::exited("list", ExitStatus::from_raw(9), "\n");
        assert_eq!(killed.kind, RbdErrorKind::Failed);
        assert!(killed.to_string().contains("signal: 9"), "{killed}");
        let other = RbdError::exited("list", ExitStatus::from_raw(0x100), "a\nlast one\n");
        assert!(other.to_string().contains(": last one (exit"), "{other}");
    }
}
