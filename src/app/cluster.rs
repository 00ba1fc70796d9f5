//! The options that say how to reach a Ceph cluster, and the environment variables that count if an
//! option is not given.

use std::ffi::OsString;
use std::time::Duration;

use super::environment::Environment;
use super::failure::Failure;
use crate::volume::RbdOptions;

/// The environment variable with a time limit, in seconds. A transfer fails if an export gives no
/// data, or an import takes none, for this time.
const STALL: &str = "CUTTLEBONE_CEPH_TIMEOUT";

/// The options that the user gave.
#[derive(Debug, Default)]
pub(crate) struct ClusterOptions {
    pub(crate) conf: Option<OsString>,
    pub(crate) cluster: Option<OsString>,
    pub(crate) id: Option<OsString>,
    pub(crate) keyring: Option<OsString>,
    /// A program and its first arguments, quoted as for a shell.
    pub(crate) rbd_command: Option<OsString>,
    /// A program and its first arguments, quoted as for a shell.
    pub(crate) ceph_command: Option<OsString>,
}

impl ClusterOptions {
    /// Takes from the environment the options that the user did not give.
    pub(crate) fn into_settings(self, environment: &Environment) -> Result<RbdOptions, Failure> {
        let or = |given: Option<OsString>, variable| given.or_else(|| environment.get(variable));
        // Returns the value, and the name of the option or variable that it comes from.
        let text = |given: Option<OsString>, option, variable| {
            let name = if given.is_some() { option } else { variable };
            match or(given, variable).map(OsString::into_string) {
                Some(Ok(text)) => Ok(Some((text, name))),
                Some(Err(_)) => Err(Failure::usage(format!(
                    "the value of {name} is not valid UTF-8"
                ))),
                None => Ok(None),
            }
        };
        let cluster = text(self.cluster, "--cluster", "CUTTLEBONE_CEPH_CLUSTER")?;
        let id = text(self.id, "--id", "CUTTLEBONE_CEPH_ID")?;
        let rbd = text(self.rbd_command, "--rbd-command", "CUTTLEBONE_RBD_COMMAND")?;
        let ceph = text(
            self.ceph_command,
            "--ceph-command",
            "CUTTLEBONE_CEPH_COMMAND",
        )?;
        Ok(RbdOptions {
            conf: or(self.conf, "CUTTLEBONE_CEPH_CONF").map(Into::into),
            cluster: cluster.map(|(cluster, _)| cluster),
            id: id.map(|(id, _)| without_prefix(id)),
            keyring: or(self.keyring, "CUTTLEBONE_CEPH_KEYRING").map(Into::into),
            rbd: words(rbd)?,
            ceph: words(ceph)?,
            stall: environment.get(STALL).as_ref().map(seconds).transpose()?,
        })
    }
}

fn seconds(text: &OsString) -> Result<Duration, Failure> {
    let number = text.to_str().and_then(|text| text.parse().ok());
    match number {
        Some(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
        _ => Err(Failure::usage(format!(
            "{STALL} is not a number of seconds from 1 to 86400"
        ))),
    }
}

/// Removes `client.` from the name of a Ceph user. For the user `client.backup`, the option of Ceph
/// is `--id backup`.
fn without_prefix(id: String) -> String {
    match id.strip_prefix("client.") {
        Some(id) => id.to_owned(),
        None => id,
    }
}

/// Splits a command into words. `command` has the text, and the name of the option or variable that
/// it comes from. Returns no words if there is no command.
fn words(command: Option<(String, &str)>) -> Result<Vec<OsString>, Failure> {
    let Some((command, name)) = command else {
        return Ok(Vec::new());
    };
    match shlex::split(&command) {
        Some(words) if !words.is_empty() => Ok(words.into_iter().map(Into::into).collect()),
        _ => Err(Failure::usage(format!(
            "the value of {name} is empty or has an unclosed quote"
        ))
        .hint("give a program and its first arguments, quoted as in a shell")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::failure::Code;

    #[test]
    fn options_replace_the_environment_and_commands_are_split() {
        let environment = Environment::with(&[
            ("CUTTLEBONE_CEPH_CONF", "/e.conf"),
            ("CUTTLEBONE_CEPH_CLUSTER", "east"),
            ("CUTTLEBONE_CEPH_ID", "client.backup"),
            ("CUTTLEBONE_CEPH_KEYRING", "/e.keyring"),
            ("CUTTLEBONE_RBD_COMMAND", "docker exec 'a b' rbd"),
            ("CUTTLEBONE_CEPH_COMMAND", "/opt/ceph"),
            ("CUTTLEBONE_CEPH_TIMEOUT", "20"),
        ]);
        let found = ClusterOptions::default()
            .into_settings(&environment)
            .unwrap();
        let expected = RbdOptions {
            conf: Some("/e.conf".into()),
            cluster: Some("east".to_owned()),
            id: Some("backup".to_owned()),
            keyring: Some("/e.keyring".into()),
            rbd: ["docker", "exec", "a b", "rbd"]
                .map(OsString::from)
                .to_vec(),
            ceph: vec!["/opt/ceph".into()],
            stall: Some(Duration::from_secs(20)),
        };
        assert_eq!(found, expected);
        let given = ClusterOptions {
            id: Some("other".into()),
            rbd_command: Some("rbd".into()),
            ..ClusterOptions::default()
        };
        let found = given.into_settings(&environment).unwrap();
        assert_eq!((found.id.as_deref(), found.rbd.len()), (Some("other"), 1));
    }

    #[test]
    fn a_command_that_cannot_be_split_is_refused() {
        for wrong in ["", " ", "'rbd"] {
            let given = ClusterOptions {
                rbd_command: Some(wrong.into()),
                ..ClusterOptions::default()
            };
            let failure = given.into_settings(&Environment::with(&[])).unwrap_err();
            assert_eq!(failure.code, Code::Usage, "{wrong:?}");
            assert!(failure.message.contains("--rbd-command"), "{failure:?}");
        }
        let environment = Environment::with(&[("CUTTLEBONE_CEPH_COMMAND", "'ceph")]);
        let failure = ClusterOptions::default().into_settings(&environment);
        let message = failure.unwrap_err().message;
        assert!(message.contains("CUTTLEBONE_CEPH_COMMAND"), "{message}");
    }
}
