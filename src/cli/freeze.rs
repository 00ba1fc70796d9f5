//! The process that freezes and thaws file systems for `backup --together`. To start this process,
//! the program runs itself again.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use crate::volume::guard_freeze;

/// The first argument of this process. Users do not see it.
pub(super) const GUARD: &str = "__guard-freeze";

/// Does the work of this process if `words` are its arguments: the program, [`GUARD`], the time
/// limit of the freeze in milliseconds, the freeze command and the thaw command. An empty command
/// is not run. Returns the exit code. Returns `None` if `words` are other arguments.
pub(super) fn guard(words: &[OsString]) -> Option<ExitCode> {
    let [_, mark, limit, before, after] = words else {
        return None;
    };
    if mark != GUARD {
        return None;
    }
    let limit = Duration::from_millis(limit.to_str()?.parse().ok()?);
    let given = |command: &&OsString| !command.is_empty();
    let before = Some(before).filter(given).map(OsString::as_os_str);
    let after = Some(after).filter(given).map(OsString::as_os_str);
    Some(ExitCode::from(u8::from(!guard_freeze(
        before, after, limit,
    ))))
}
