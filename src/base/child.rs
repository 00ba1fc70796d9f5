//! Child processes. They must not get the passwords of this program. Process groups of children
//! must end before this process.

use std::ffi::OsStr;
use std::process::Command;
use std::sync::Mutex;

use rustix::process::{Pid, Signal, kill_process_group};

use super::sync::lock;

/// The environment variables that hold a password, or that name a file, a descriptor or a command
/// from which a password is read.
const SECRET_VARIABLES: [&str; 8] = [
    "CUTTLEBONE_PASSWORD",
    "CUTTLEBONE_PASSWORD_FD",
    "CUTTLEBONE_PASSWORD_FILE",
    "CUTTLEBONE_PASSWORD_COMMAND",
    "CUTTLEBONE_TO_PASSWORD",
    "CUTTLEBONE_TO_PASSWORD_FD",
    "CUTTLEBONE_TO_PASSWORD_FILE",
    "CUTTLEBONE_TO_PASSWORD_COMMAND",
];

/// Returns a command that starts `program` without the [`SECRET_VARIABLES`]. All child processes
/// must be started with this function: `ssh`, for example, passes variables on to other programs,
/// and with `SendEnv` also to the server.
pub(crate) fn child_command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for variable in SECRET_VARIABLES {
        command.env_remove(variable);
    }
    command
}

/// The groups that [`kill_child_groups`] kills.
static GROUPS: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// A process group of children. [`kill_child_groups`] kills the group as long as this value exists.
/// Drop this value before you wait for the first process of the group: after the wait, another
/// group may have the same number.
#[derive(Debug)]
pub(crate) struct ChildGroup(Pid);

impl ChildGroup {
    pub(crate) fn new(group: Pid) -> Self {
        lock(&GROUPS).push(group);
        Self(group)
    }
}

impl Drop for ChildGroup {
    fn drop(&mut self) {
        lock(&GROUPS).retain(|group| *group != self.0);
    }
}

/// Kills all [groups](ChildGroup). Call this only if the user asks this process to exit at once. In
/// all other cases, the owner of a group ends the group.
pub(crate) fn kill_child_groups() {
    for group in lock(&GROUPS).iter() {
        // The call fails if all processes of the group have ended.
        let _ = kill_process_group(*group, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn child_processes_do_not_inherit_variables_with_secrets() {
        let command = child_command("true");
        let removed: Vec<_> = command
            .get_envs()
            .filter(|(_, value)| value.is_none())
            .map(|(name, _)| name.to_owned())
            .collect();
        let mut secret = SECRET_VARIABLES.to_vec();
        secret.sort_unstable();
        assert_eq!(removed, secret);
    }
}
