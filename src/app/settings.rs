//! The settings that name a repository and a project, and say how to reach and open them. A setting
//! comes from an option, otherwise from the environment, otherwise it has a default.

use std::ffi::{OsStr, OsString};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::base::ByteSize;
use crate::storage::{Limits, Rate};

use super::environment::Environment;
use super::failure::{Code, Failure};
use super::location::Location;
use super::password::PasswordOptions;
use super::request::{CopyTarget, check_name};

/// The maximum number of threads if the user does not choose one. Each thread takes some 17 MiB,
/// and the host has other work to do.
const THREADS_DEFAULT_MAX: NonZeroUsize = NonZeroUsize::new(4).expect("not zero");
/// The maximum number of threads. With more threads, the memory for packs that are not stored yet
/// would not be enough.
pub(crate) const THREADS_MAX: NonZeroUsize = NonZeroUsize::new(16).expect("not zero");
const CONNECTIONS_DEFAULT: NonZeroUsize = NonZeroUsize::new(2).expect("not zero");
/// The maximum number of connections to a server. By default sshd accepts ten connections that have
/// not logged in yet (`MaxStartups`).
pub(crate) const CONNECTIONS_MAX: NonZeroUsize = NonZeroUsize::new(8).expect("not zero");
/// The default timeout of requests to a server, in seconds.
const TIMEOUT_DEFAULT: NonZeroU64 = NonZeroU64::new(60).expect("not zero");
const DEFAULT_PROJECT: &str = "default";

/// The options that a user gave; `None` means the environment or the default decides.
#[derive(Debug, Default)]
pub(crate) struct RepositoryOptions {
    pub(crate) repository: Option<OsString>,
    pub(crate) project: Option<String>,
    pub(crate) password: PasswordOptions,
    pub(crate) cache_dir: Option<PathBuf>,
    /// The command that connects to a server, quoted as for a shell.
    pub(crate) ssh_command: Option<String>,
    pub(crate) connections: Option<NonZeroUsize>,
    /// Seconds without a byte from or to the server after which a request fails.
    pub(crate) timeout: Option<NonZeroU64>,
    /// Bytes a second.
    pub(crate) limit_upload: Option<ByteSize>,
    /// Bytes a second.
    pub(crate) limit_download: Option<ByteSize>,
}

/// The repository and project to use, and how to open them.
#[derive(Debug)]
pub(crate) struct RepositorySettings {
    pub(crate) location: Location,
    pub(crate) connection: ConnectionSettings,
    pub(crate) project: String,
    pub(crate) password: PasswordOptions,
    pub(crate) cache_dir: PathBuf,
}

/// How to reach a repository.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionSettings {
    /// The command that connects to a server: a program and its arguments.
    pub(crate) ssh: Vec<OsString>,
    /// The number of connections to a server.
    pub(crate) count: NonZeroUsize,
    /// A request to a server fails after this time without a byte in either direction.
    pub(crate) timeout: Duration,
    pub(crate) limits: Limits,
}

/// Returns the number of threads to use, at most [`THREADS_MAX`]. `chosen` is the number that the
/// user gave. If it is `None`, returns one thread for each core, but at most
/// [`THREADS_DEFAULT_MAX`].
pub(crate) fn worker_threads(chosen: Option<NonZeroUsize>) -> NonZeroUsize {
    let available = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    match chosen {
        Some(threads) => threads.min(THREADS_MAX),
        None => available().min(THREADS_DEFAULT_MAX),
    }
}

impl RepositorySettings {
    /// Takes each setting from the options, the environment or its default. Fails if one is
    /// invalid, or if nothing names the repository.
    pub(crate) fn new(
        options: RepositoryOptions,
        environment: &Environment,
    ) -> Result<Self, Failure> {
        let connection = ConnectionSettings::new(&options, environment)?;
        let location = match options.repository {
            Some(location) => location,
            None => location_in(environment)?,
        };
        let project = match (options.project, environment.get("CUTTLEBONE_PROJECT")) {
            (Some(name), _) => name,
            (None, Some(name)) => name.into_string().map_err(|name| {
                Failure::usage(format!(
                    "the project name “{}” is not valid UTF-8",
                    name.display()
                ))
            })?,
            (None, None) => DEFAULT_PROJECT.to_owned(),
        };
        check_name("project", &project)?;
        Ok(Self {
            location: Location::parse(&location)?,
            connection,
            project,
            password: options.password,
            cache_dir: match options.cache_dir {
                Some(directory) => directory,
                None => cache_dir_in(environment)?,
            },
        })
    }
}

impl RepositorySettings {
    /// Returns the same settings for a repository at another location.
    pub(crate) fn at(&self, location: &OsStr) -> Result<Self, Failure> {
        Ok(Self {
            location: Location::parse(location)?,
            connection: self.connection.clone(),
            project: self.project.clone(),
            password: self.password.clone(),
            cache_dir: self.cache_dir.clone(),
        })
    }

    /// Returns the settings for the project that gets copies of backups. If its name is not given,
    /// it has the same name as the project of these settings.
    pub(crate) fn target(&self, target: &CopyTarget) -> Result<Self, Failure> {
        let project = target.project.as_ref().unwrap_or(&self.project);
        check_name("project", project)?;
        Ok(Self {
            project: project.clone(),
            password: target.password.clone(),
            ..self.at(&target.repository)?
        })
    }
}

/// A setting with an option, and with an environment variable that counts if the user does not give
/// the option.
struct Setting {
    option: &'static str,
    variable: &'static str,
    /// Describes the valid values in a hint.
    needed: &'static str,
}

const SSH_COMMAND: Setting = Setting {
    option: "--ssh-command",
    variable: "CUTTLEBONE_SSH_COMMAND",
    needed: "a command",
};
const CONNECTIONS: Setting = Setting {
    option: "--connections",
    variable: "CUTTLEBONE_CONNECTIONS",
    needed: "a number of connections, such as 2",
};
const TIMEOUT: Setting = Setting {
    option: "--timeout",
    variable: "CUTTLEBONE_TIMEOUT",
    needed: "seconds, such as 60",
};
const LIMIT_UPLOAD: Setting = Setting {
    option: "--limit-upload",
    variable: "CUTTLEBONE_LIMIT_UPLOAD",
    needed: "bytes a second, such as 20M",
};
const LIMIT_DOWNLOAD: Setting = Setting {
    option: "--limit-download",
    variable: "CUTTLEBONE_LIMIT_DOWNLOAD",
    needed: "bytes a second, such as 20M",
};

impl Setting {
    /// Returns the value `given` and the name of the option. If `given` is `None`, returns the
    /// value and the name of the variable. If the variable is not set either, returns `None`. Fails
    /// if the value of the variable is invalid.
    fn value<T: FromStr>(
        &self,
        given: Option<T>,
        environment: &Environment,
    ) -> Result<Option<(T, &'static str)>, Failure> {
        if let Some(given) = given {
            return Ok(Some((given, self.option)));
        }
        let Some(value) = environment.get(self.variable) else {
            return Ok(None);
        };
        let parsed = value.to_str().and_then(|text| text.parse().ok());
        let parsed = parsed.map(|parsed| Some((parsed, self.variable)));
        parsed.ok_or_else(|| {
            let (value, name) = (value.display(), self.variable);
            Failure::usage(format!("invalid value “{value}” of {name}"))
                .hint(format!("set it to {}", self.needed))
        })
    }
}

impl ConnectionSettings {
    /// Takes each setting from the options, the environment or its default. Fails if one is
    /// invalid.
    fn new(options: &RepositoryOptions, environment: &Environment) -> Result<Self, Failure> {
        let ssh = match SSH_COMMAND.value(options.ssh_command.clone(), environment)? {
            None => vec!["ssh".into()],
            Some((command, name)) => match shlex::split(&command) {
                Some(words) if !words.is_empty() => words.into_iter().map(Into::into).collect(),
                None => {
                    return Err(Failure::usage(format!(
                        "the value of {name} has an unclosed quote"
                    ))
                    .hint("quote it as in a shell, for example 'ssh -i \"/root/a key\"'"));
                }
                Some(_) => {
                    return Err(Failure::usage(format!("the value of {name} is empty")).hint(
                        "give a program and its options, for example 'ssh -i /root/.ssh/backup'",
                    ));
                }
            },
        };
        let timeout = TIMEOUT.value(options.timeout, environment)?;
        let timeout = timeout.map_or(TIMEOUT_DEFAULT, |(seconds, _)| seconds);
        let count = CONNECTIONS.value(options.connections, environment)?;
        let (count, name) = count.unwrap_or((CONNECTIONS_DEFAULT, CONNECTIONS.variable));
        if count > CONNECTIONS_MAX {
            return Err(
                Failure::usage(format!("{count} connections are too many")).hint(format!(
                    "set {name} to a number from 1 to {CONNECTIONS_MAX}"
                )),
            );
        }
        Ok(Self {
            ssh,
            count,
            timeout: Duration::from_secs(timeout.get()),
            limits: Limits {
                upload: rate(LIMIT_UPLOAD.value(options.limit_upload, environment)?)?,
                download: rate(LIMIT_DOWNLOAD.value(options.limit_download, environment)?)?,
            },
        })
    }
}

/// Returns the rate for a limit in bytes a second, with the name of its option or variable. Without
/// a limit, the rate is unlimited. Fails if the limit is 0.
fn rate(limit: Option<(ByteSize, &str)>) -> Result<Rate, Failure> {
    let Some((limit, name)) = limit else {
        return Ok(Rate::default());
    };
    match NonZeroU64::new(limit.0) {
        Some(bytes) => Ok(Rate::new(bytes)),
        None => Err(Failure::usage(format!("{name} must not be 0"))
            .hint("give bytes a second, for example 20M, or leave it out")),
    }
}

fn location_in(environment: &Environment) -> Result<OsString, Failure> {
    if let Some(location) = environment.get("CUTTLEBONE_REPOSITORY") {
        return Ok(location);
    }
    let Some(file) = environment.get("CUTTLEBONE_REPOSITORY_FILE") else {
        return Err(Failure::usage("no repository given")
            .hint("set it with --repo or CUTTLEBONE_REPOSITORY"));
    };
    let text = std::fs::read_to_string(&file).map_err(|error| {
        Failure::new(
            Code::Failed,
            format!(
                "could not read the repository location from {}",
                file.display()
            ),
        )
        .caused_by(Some(&error))
        .hint("CUTTLEBONE_REPOSITORY_FILE must name a file that contains the location")
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).into())
}

fn cache_dir_in(environment: &Environment) -> Result<PathBuf, Failure> {
    if let Some(directory) = environment.get("CUTTLEBONE_CACHE_DIR") {
        return Ok(directory.into());
    }
    // The XDG base directory specification: ignore relative paths.
    let xdg = environment
        .get("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let home = || {
        environment
            .get("HOME")
            .map(PathBuf::from)
            .or_else(std::env::home_dir)
    };
    xdg.or_else(|| home().map(|home| home.join(".cache")))
        .map(|cache| cache.join("cuttlebone"))
        .ok_or_else(|| {
            Failure::usage("no directory for the cache: there is no home directory")
                .hint("name one with --cache-dir or CUTTLEBONE_CACHE_DIR")
        })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn resolve(
        variables: &[(&str, &str)],
        options: RepositoryOptions,
    ) -> Result<RepositorySettings, Failure> {
        RepositorySettings::new(options, &Environment::with(variables))
    }

    fn local(path: &str) -> Location {
        Location::Local(path.into())
    }

    #[test]
    fn options_override_the_environment() {
        let variables = [
            ("CUTTLEBONE_REPOSITORY", "/env"),
            ("CUTTLEBONE_PROJECT", "p"),
            ("CUTTLEBONE_CACHE_DIR", "/c"),
        ];
        let settings = resolve(&variables, RepositoryOptions::default()).unwrap();
        assert_eq!(settings.location, local("/env"));
        assert_eq!(
            (settings.project.as_str(), settings.cache_dir.to_str()),
            ("p", Some("/c"))
        );
        let options = RepositoryOptions {
            repository: Some("/x".into()),
            project: Some("q".into()),
            cache_dir: Some("/d".into()),
            ..RepositoryOptions::default()
        };
        let settings = resolve(&variables, options).unwrap();
        assert_eq!(settings.location, local("/x"));
        assert_eq!(
            (settings.project.as_str(), settings.cache_dir.to_str()),
            ("q", Some("/d"))
        );
    }

    #[test]
    fn the_environment_sets_the_connection_unless_options_do() {
        let variables = [
            ("CUTTLEBONE_REPOSITORY", "/env"),
            ("HOME", "/h"),
            ("CUTTLEBONE_SSH_COMMAND", "ssh -p 22"),
            ("CUTTLEBONE_CONNECTIONS", "3"),
            ("CUTTLEBONE_TIMEOUT", "5"),
            ("CUTTLEBONE_LIMIT_UPLOAD", "20M"),
            ("CUTTLEBONE_LIMIT_DOWNLOAD", "1M"),
        ];
        let set = |options| resolve(&variables, options).unwrap().connection;
        let of_environment = set(RepositoryOptions::default());
        assert_eq!(of_environment.ssh, ["ssh", "-p", "22"]);
        assert_eq!(of_environment.count.get(), 3);
        assert_eq!(of_environment.timeout, Duration::from_secs(5));
        let given = set(RepositoryOptions {
            ssh_command: Some("rsh".to_owned()),
            timeout: NonZeroU64::new(9),
            ..RepositoryOptions::default()
        });
        assert_eq!(given.ssh, ["rsh"]);
        assert_eq!((given.count.get(), given.timeout.as_secs()), (3, 9));
        for (at, name) in variables.iter().enumerate().skip(3) {
            for wrong in ["x", "-1", "0"] {
                let mut variables = variables;
                variables[at].1 = wrong;
                let failure = resolve(&variables, RepositoryOptions::default()).unwrap_err();
                assert_eq!(failure.code, Code::Usage, "{name:?}={wrong}");
                assert!(failure.message.contains(name.0), "{failure:?}");
            }
        }
        let mut many = variables;
        many[3].1 = "9";
        let failure = resolve(&many, RepositoryOptions::default()).unwrap_err();
        assert_eq!(failure.code, Code::Usage);
        assert!(failure.hint.unwrap().contains("1 to 8"));
    }

    #[test]
    fn an_error_names_the_option_or_the_variable_that_has_the_wrong_value() {
        for wrong in ["'ssh", " "] {
            let of_variable = [
                ("CUTTLEBONE_REPOSITORY", "/r"),
                ("HOME", "/h"),
                ("CUTTLEBONE_SSH_COMMAND", wrong),
            ];
            let of_option = RepositoryOptions {
                ssh_command: Some(wrong.to_owned()),
                ..RepositoryOptions::default()
            };
            for (variables, options, name) in [
                (
                    &of_variable[..],
                    RepositoryOptions::default(),
                    "CUTTLEBONE_SSH_COMMAND",
                ),
                (&of_variable[..2], of_option, "--ssh-command"),
            ] {
                let failure = resolve(variables, options).unwrap_err();
                assert_eq!(failure.code, Code::Usage);
                assert!(failure.message.contains(name), "{failure:?}");
            }
        }
    }

    #[test]
    fn a_file_can_contain_the_location() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("location");
        std::fs::write(&file, "/from/file\n").unwrap();
        let variables = [
            ("HOME", "/h"),
            ("CUTTLEBONE_REPOSITORY_FILE", file.to_str().unwrap()),
        ];
        let settings = resolve(&variables, RepositoryOptions::default()).unwrap();
        assert_eq!(settings.location, local("/from/file"));
        let both = [
            variables[0],
            variables[1],
            ("CUTTLEBONE_REPOSITORY", "/direct"),
        ];
        let settings = resolve(&both, RepositoryOptions::default()).unwrap();
        assert_eq!(settings.location, local("/direct"));
        let missing = [
            ("HOME", "/h"),
            ("CUTTLEBONE_REPOSITORY_FILE", "/nowhere/at/all"),
        ];
        let failure = resolve(&missing, RepositoryOptions::default()).unwrap_err();
        assert_eq!(failure.code, Code::Failed);
    }

    #[test]
    fn the_cache_directory_follows_xdg() {
        for (variables, directory) in [
            ([("HOME", "/h"), ("XDG_CACHE_HOME", "/x")], "/x/cuttlebone"),
            (
                [("HOME", "/h"), ("XDG_CACHE_HOME", "relative")],
                "/h/.cache/cuttlebone",
            ),
            (
                [("HOME", "/h"), ("XDG_CACHE_HOME", "")],
                "/h/.cache/cuttlebone",
            ),
        ] {
            let options = RepositoryOptions {
                repository: Some("/r".into()),
                ..RepositoryOptions::default()
            };
            let settings = resolve(&variables, options).unwrap();
            assert_eq!(settings.cache_dir, Path::new(directory));
        }
    }

    #[test]
    fn without_a_location_the_failure_says_how_to_give_one() {
        let none = resolve(&[("HOME", "/h")], RepositoryOptions::default()).unwrap_err();
        assert_eq!(
            (none.code, none.message.as_str()),
            (Code::Usage, "no repository given")
        );
    }

    #[test]
    fn the_ssh_command_is_split_as_a_shell_splits_it() {
        let ssh = |command: &str| {
            let options = RepositoryOptions {
                ssh_command: Some(command.to_owned()),
                ..RepositoryOptions::default()
            };
            ConnectionSettings::new(&options, &Environment::with(&[]))
                .map(|connection| connection.ssh)
        };
        for (command, words) in [
            ("  ssh  -p 22 ", &["ssh", "-p", "22"][..]),
            ("'a b' \"c d\"e f\\ g", &["a b", "c de", "f g"]),
            ("'' \"\"", &["", ""]),
            (r#""\"\\\$\a" '\'"#, &[r#""\$\a"#, "\\"]),
        ] {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            assert_eq!(ssh(command).unwrap(), words, "{command}");
        }
        for refused in ["", "  ", "'a", "\"a", "a\\", "\"a\\\""] {
            assert_eq!(ssh(refused).unwrap_err().code, Code::Usage, "{refused}");
        }
    }
}
