//! Child processes, which must not see passwords.

use std::ffi::OsStr;
use std::process::Command;

/// The environment variables that hold a password, or that lead to one.
const SECRET_VARIABLES: [&str; 4] = [
    "CUTTLEBONE_PASSWORD",
    "CUTTLEBONE_PASSWORD_FD",
    "CUTTLEBONE_PASSWORD_FILE",
    "CUTTLEBONE_PASSWORD_COMMAND",
];

/// Returns a command to start this program without our [`SECRET_VARIABLES`]. All child processes
/// are made here: `ssh` passes variables on to other programs, and with `SendEnv` to the server.
pub(crate) fn child_command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for variable in SECRET_VARIABLES {
        command.env_remove(variable);
    }
    command
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
