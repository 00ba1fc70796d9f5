//! How to behave and which repository to use: what all commands have in common.

use std::ffi::{OsStr, OsString};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use super::environment::Environment;
use super::failure::{Code, Failure};
use super::globals::Globals;
use super::location::Location;
use super::output::Amount;
use super::password::PasswordOptions;
use super::request::plain_name;
use super::words;
use crate::base::ByteSize;
use crate::storage::{Limits, Rate};

const THREADS_DEFAULT_MAX: NonZeroUsize = NonZeroUsize::new(4).expect("not zero");
/// With more of them the budget for bytes under way would not reach.
const THREADS_MAX: NonZeroUsize = NonZeroUsize::new(16).expect("not zero");
const CONNECTIONS_DEFAULT: NonZeroUsize = NonZeroUsize::new(2).expect("not zero");
/// A server takes some ten at a time from those who are not logged in yet (`MaxStartups`).
const CONNECTIONS_MAX: NonZeroUsize = NonZeroUsize::new(8).expect("not zero");
const PATIENCE_DEFAULT: NonZeroU64 = NonZeroU64::new(60).expect("not zero");
const DEFAULT_PROJECT: &str = "default";

/// How the program behaves, whatever it does.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) json: bool,
    pub(crate) amount: Amount,
    pub(crate) progress: bool,
    /// Time between updates of the progress, where the user chose one.
    pub(crate) progress_interval: Option<Duration>,
    pub(crate) threads: NonZeroUsize,
}

/// Which repository and project, and how to get in.
#[derive(Debug)]
pub(crate) struct Access {
    pub(crate) location: Location,
    pub(crate) transport: Transport,
    pub(crate) project: String,
    pub(crate) password: PasswordOptions,
    pub(crate) cache_dir: PathBuf,
}

/// How to get to a repository.
#[derive(Debug)]
pub(crate) struct Transport {
    /// What connects to a server, as words of a command.
    pub(crate) ssh: Vec<OsString>,
    pub(crate) connections: NonZeroUsize,
    /// For how long a server may be silent.
    pub(crate) patience: Duration,
    pub(crate) limits: Limits,
}

impl Transport {
    fn new(globals: &Globals) -> Result<Self, Failure> {
        let ssh = match globals.ssh_command.as_deref().map(words::split) {
            None => vec!["ssh".into()],
            Some(Some(words)) if !words.is_empty() => words.into_iter().map(Into::into).collect(),
            Some(None) => {
                return Err(
                    Failure::usage("--ssh-command has a quote that does not end")
                        .hint("quote its words as in a shell, such as 'ssh -i \"/root/a key\"'"),
                );
            }
            Some(_) => {
                return Err(Failure::usage("--ssh-command is no command")
                    .hint("give the program and its options, such as 'ssh -i /root/.ssh/backup'"));
            }
        };
        let patience = globals.timeout.unwrap_or(PATIENCE_DEFAULT);
        Ok(Self {
            ssh,
            connections: globals
                .connections
                .unwrap_or(CONNECTIONS_DEFAULT)
                .min(CONNECTIONS_MAX),
            patience: Duration::from_secs(patience.get()),
            limits: Limits {
                upload: rate("--limit-upload", globals.limit_upload)?,
                download: rate("--limit-download", globals.limit_download)?,
            },
        })
    }
}

fn rate(option: &str, limit: Option<ByteSize>) -> Result<Rate, Failure> {
    match limit.map(|limit| NonZeroU64::new(limit.0)) {
        None => Ok(Rate::default()),
        Some(Some(bytes)) => Ok(Rate::new(bytes)),
        Some(None) => Err(Failure::usage(format!("{option} is 0"))
            .hint("give a number of bytes a second, such as 20M, or leave it out")),
    }
}

impl Settings {
    pub(super) fn new(globals: &Globals, environment: &Environment) -> Result<Self, Failure> {
        let progress_interval = match environment.get("CUTTLEBONE_PROGRESS_FPS") {
            Some(value) => Some(interval(&value)?),
            None => None,
        };
        // Each thread takes some 15 MiB, and the host has other things to do, too.
        let available = || {
            let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
            cores.min(THREADS_DEFAULT_MAX)
        };
        Ok(Self {
            json: globals.json,
            amount: match (globals.quiet, globals.verbose) {
                (true, _) => Amount::Little,
                (false, 0) => Amount::Usual,
                (false, _) => Amount::More,
            },
            progress: !globals.quiet && !globals.no_progress,
            progress_interval,
            threads: globals
                .threads
                .map_or_else(available, |threads| threads.min(THREADS_MAX)),
        })
    }
}

fn interval(fps: &OsStr) -> Result<Duration, Failure> {
    let refuse = || {
        Failure::usage(format!("CUTTLEBONE_PROGRESS_FPS is “{}”", fps.display()))
            .hint("set it to a number of updates a second, above 0 and up to 60, such as 4 or 0.1")
    };
    let rate: f64 = fps
        .to_str()
        .and_then(|text| text.parse().ok())
        .ok_or_else(refuse)?;
    if !(rate > 0.0 && rate <= 60.0) {
        return Err(refuse());
    }
    Duration::try_from_secs_f64(1.0 / rate).map_err(|_| refuse())
}

impl Access {
    pub(super) fn new(globals: Globals, environment: &Environment) -> Result<Self, Failure> {
        let transport = Transport::new(&globals)?;
        let location = match globals.repo {
            Some(repo) => repo,
            None => repository_of(environment)?,
        };
        let project = match (globals.project, environment.get("CUTTLEBONE_PROJECT")) {
            (Some(name), _) => name,
            (None, Some(name)) => name.into_string().map_err(|name| {
                Failure::usage(format!(
                    "the project's name “{}” is not UTF-8",
                    name.display()
                ))
            })?,
            (None, None) => DEFAULT_PROJECT.to_owned(),
        };
        plain_name("project", &project)?;
        Ok(Self {
            location: Location::parse(&location)?,
            transport,
            project,
            password: PasswordOptions {
                file: globals.password_file,
                command: globals.password_command,
            },
            cache_dir: match globals.cache_dir {
                Some(directory) => directory,
                None => cache_dir_of(environment)?,
            },
        })
    }
}

fn repository_of(environment: &Environment) -> Result<OsString, Failure> {
    if let Some(location) = environment.get("CUTTLEBONE_REPOSITORY") {
        return Ok(location);
    }
    let Some(file) = environment.get("CUTTLEBONE_REPOSITORY_FILE") else {
        return Err(Failure::usage("no repository given")
            .hint("say where it is with --repo or in CUTTLEBONE_REPOSITORY"));
    };
    let text = std::fs::read_to_string(&file).map_err(|error| {
        Failure::new(
            Code::Failed,
            format!(
                "could not read the repository's location from {}",
                file.display()
            ),
        )
        .caused_by(Some(&error))
        .hint("CUTTLEBONE_REPOSITORY_FILE must name a file that holds it")
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).into())
}

fn cache_dir_of(environment: &Environment) -> Result<PathBuf, Failure> {
    if let Some(directory) = environment.get("CUTTLEBONE_CACHE_DIR") {
        return Ok(directory.into());
    }
    // The XDG base directory specification: a relative path is to be ignored.
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
            Failure::usage("there is no home directory to keep the cache in")
                .hint("name a directory with --cache-dir or in CUTTLEBONE_CACHE_DIR")
        })
}
