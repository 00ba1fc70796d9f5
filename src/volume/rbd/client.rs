//! Requests to a cluster: the programs, their options, and the cluster's own properties.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::{RbdError, RbdErrorKind};
use super::json::{NamespaceItem, OsdMap};
use super::run::{ANSWER_MAX, answer};
use super::spec::RbdSpec;
use crate::base::{Cancel, child_command};

/// The time that a request may take. A cluster that is healthy answers within seconds.
pub(super) const LIMIT: Duration = Duration::from_mins(2);

/// The time in which an export must give some data, and an import must take some, unless the
/// options set another time.
const STALL: Duration = Duration::from_mins(15);

/// How to reach a cluster. For options that are not set, Ceph uses its files below `/etc/ceph` and
/// its environment variables.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RbdOptions {
    /// The configuration file.
    pub conf: Option<PathBuf>,
    /// The name of the cluster, which Ceph uses to find its files.
    pub cluster: Option<String>,
    /// The user, without `client.`.
    pub id: Option<String>,
    /// The file with the user's key.
    pub keyring: Option<PathBuf>,
    /// The program `rbd` with its first arguments; empty for `rbd`.
    pub rbd: Vec<OsString>,
    /// The program `ceph` with its first arguments; empty for `ceph`.
    pub ceph: Vec<OsString>,
    /// The time in which an export must give some data, and an import must take some. Otherwise,
    /// they fail. `None` means 15 minutes. Ceph may need minutes to find the first change of a
    /// large image without fast-diff.
    pub stall: Option<Duration>,
}

impl RbdOptions {
    /// Returns the names and values of the options of Ceph that find the cluster and the user.
    fn reach(&self) -> impl Iterator<Item = (&'static str, &OsStr)> {
        let all = [
            ("conf", self.conf.as_ref().map(|file| file.as_os_str())),
            ("cluster", self.cluster.as_ref().map(OsStr::new)),
            ("id", self.id.as_ref().map(OsStr::new)),
            (
                "keyring",
                self.keyring.as_ref().map(|file| file.as_os_str()),
            ),
        ];
        all.into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
    }

    /// Returns the beginning of a command that a user can copy: `rbd` with these options.
    #[must_use]
    pub fn shown(&self) -> String {
        self.shown_with("rbd", "conf")
    }

    /// Returns the beginning of a command that a user can copy: `cuttlebone COMMAND` with these
    /// options.
    #[must_use]
    pub fn shown_for(&self, command: &str) -> String {
        self.shown_with(&format!("cuttlebone {command}"), "ceph-conf")
    }

    /// Returns `command` with these options. `conf` is the name of the option for the configuration
    /// file.
    fn shown_with(&self, command: &str, conf: &str) -> String {
        let mut words = vec![command.to_owned()];
        for (name, value) in self.reach() {
            let name = if name == "conf" { conf } else { name };
            let value = value.to_string_lossy();
            // Quoting fails only for a value with a zero byte. Ceph does not accept such a value.
            let quoted = shlex::try_quote(&value).unwrap_or_default();
            words.extend([format!("--{name}"), quoted.into_owned()]);
        }
        words.join(" ")
    }
}

/// An image in the trash of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TrashedImage {
    /// Its id.
    pub id: String,
    /// The name that it had.
    pub name: String,
}

/// A cluster, reached by running `rbd` and `ceph`.
#[derive(Debug)]
pub struct RbdClient {
    options: RbdOptions,
    map: OnceLock<OsdMap>,
    /// Locked while a snapshot is removed, so that only one is removed at a time: the cluster has
    /// to free the data of a snapshot. Has each image for which the cluster did not answer a
    /// request to remove a snapshot, with the time at which that request failed.
    pub(super) removing: Mutex<BTreeMap<RbdSpec, Instant>>,
}

impl RbdClient {
    /// Prepares to reach a cluster. Runs nothing yet.
    #[must_use]
    pub fn new(options: RbdOptions) -> Self {
        Self {
            options,
            map: OnceLock::new(),
            removing: Mutex::default(),
        }
    }

    /// Returns how to reach the cluster.
    #[must_use]
    pub fn options(&self) -> &RbdOptions {
        &self.options
    }

    /// Returns the cluster's id, which never changes. Asks the cluster, and keeps its answer. Does
    /// not use the id in the configuration file, which may differ.
    pub fn fsid(&self, cancel: &Cancel) -> Result<String, RbdError> {
        self.fsid_within(LIMIT, cancel)
    }

    /// Returns the cluster's id like [`fsid`](Self::fsid), but waits for the answer at most for
    /// `limit`.
    pub fn fsid_within(&self, limit: Duration, cancel: &Cancel) -> Result<String, RbdError> {
        Ok(self.map(limit, cancel)?.fsid.clone())
    }

    /// Returns the cluster's id and its pools. Asks for both at once, and keeps the answer, since
    /// each start of `ceph` takes more time than any other request.
    fn map(&self, limit: Duration, cancel: &Cancel) -> Result<&OsdMap, RbdError> {
        if let Some(map) = self.map.get() {
            return Ok(map);
        }
        let request = "ask the cluster for its id and its pools";
        let ceph = self.ceph(&["osd", "dump", "--format=json"]);
        let map: Result<OsdMap, _> = Self::ask_json_within(ceph, request, limit, cancel);
        let map = map.map_err(|error| match self.missing_configuration() {
            Some(why) if error.kind != RbdErrorKind::Cancelled => error.because(&why),
            _ => error,
        })?;
        let fsid = &map.fsid;
        if fsid.is_empty() || !fsid.chars().all(|c| c.is_ascii_hexdigit() || c == '-') {
            let why = format!("“{fsid}” is not an id");
            return Err(RbdError::new(RbdErrorKind::BadAnswer, request, why));
        }
        Ok(self.map.get_or_init(|| map))
    }

    /// Returns a sentence that names the configuration files of the options, if none of them exists
    /// on this host. Returns `None` if one exists, or if the options name no file.
    fn missing_configuration(&self) -> Option<String> {
        let conf = self.options.conf.as_ref()?;
        // Ceph takes a list of files.
        let mut files = conf.as_os_str().as_bytes().split(|byte| *byte == b',');
        let exists = files.any(|file| Path::new(OsStr::from_bytes(file.trim_ascii())).exists());
        (!exists).then(|| format!("there is no configuration file {}", conf.display()))
    }

    /// Returns the number of a pool.
    pub fn pool_id(&self, pool: &str, cancel: &Cancel) -> Result<u64, RbdError> {
        let missing = || {
            let request = format!("find the pool {pool}");
            RbdError::new(RbdErrorKind::NotFound, request, "there is no such pool")
        };
        let mut pools = self.map(LIMIT, cancel)?.pools.iter();
        let found = pools.find(|found| found.name == pool);
        Ok(found.ok_or_else(missing)?.number)
    }

    /// Returns the name of the pool with this number; `None` if there is no such pool.
    pub fn pool_name(&self, number: u64, cancel: &Cancel) -> Result<Option<String>, RbdError> {
        let mut pools = self.map(LIMIT, cancel)?.pools.iter();
        let found = pools.find(|pool| pool.number == number);
        Ok(found.map(|pool| pool.name.clone()))
    }

    /// Returns the names of all pools, sorted.
    pub fn pool_names(&self, cancel: &Cancel) -> Result<Vec<String>, RbdError> {
        let pools = self.map(LIMIT, cancel)?.pools.iter();
        let mut names: Vec<_> = pools.map(|pool| pool.name.clone()).collect();
        names.sort();
        Ok(names)
    }

    /// Returns the names of all images of a pool or namespace, sorted.
    pub fn images(
        &self,
        pool: &str,
        namespace: Option<&str>,
        cancel: &Cancel,
    ) -> Result<Vec<String>, RbdError> {
        let rbd = self.in_pool(&["ls", "--format=json"], pool, namespace);
        let request = format!("list the images of {pool}");
        let mut names: Vec<String> = Self::ask_json(rbd, &request, cancel)?;
        names.sort();
        Ok(names)
    }

    /// Returns the images in the trash of a pool or namespace.
    pub fn trash(
        &self,
        pool: &str,
        namespace: Option<&str>,
        cancel: &Cancel,
    ) -> Result<Vec<TrashedImage>, RbdError> {
        let rbd = self.in_pool(&["trash", "ls", "--all", "--format=json"], pool, namespace);
        let request = format!("list the trash of {pool}");
        Self::ask_json(rbd, &request, cancel)
    }

    /// Returns the names of the namespaces of a pool, without the default one.
    pub fn namespaces(&self, pool: &str, cancel: &Cancel) -> Result<Vec<String>, RbdError> {
        let rbd = self.in_pool(&["namespace", "ls", "--format=json"], pool, None);
        let request = format!("list the namespaces of {pool}");
        let found: Vec<NamespaceItem> = Self::ask_json(rbd, &request, cancel)?;
        Ok(found.into_iter().map(|found| found.name).collect())
    }

    /// Returns the time in which an export must give some data, and an import must take some.
    pub(super) fn stall(&self) -> Duration {
        self.options.stall.unwrap_or(STALL)
    }

    /// Returns a command that runs `rbd` for one image.
    pub(super) fn rbd_on(&self, verb: &[&str], spec: &RbdSpec) -> Command {
        let mut rbd = self.in_pool(verb, &spec.pool, spec.namespace.as_deref());
        rbd.arg(option("image", &spec.image));
        rbd
    }

    /// Returns a command that runs `rbd` for the image with this id, in the pool and namespace of
    /// `spec` or in their trash.
    pub(super) fn rbd_on_id(&self, verb: &[&str], spec: &RbdSpec, id: &str) -> Command {
        let mut rbd = self.in_pool(verb, &spec.pool, spec.namespace.as_deref());
        rbd.arg(option("image-id", id));
        rbd
    }

    fn in_pool(&self, words: &[&str], pool: &str, namespace: Option<&str>) -> Command {
        let mut rbd = self.program(&self.options.rbd, "rbd");
        rbd.args(words);
        rbd.arg(option("pool", pool));
        rbd.args(namespace.map(|name| option("namespace", name)));
        rbd
    }

    fn ceph(&self, args: &[&str]) -> Command {
        let mut ceph = self.program(&self.options.ceph, "ceph");
        ceph.args(args);
        ceph
    }

    fn program(&self, words: &[OsString], default: &str) -> Command {
        let default = [OsString::from(default)];
        let words = if words.is_empty() { &default } else { words };
        let mut command = child_command(&words[0]);
        command.args(&words[1..]);
        let options = self.options.reach();
        command.args(options.map(|(name, value)| option(name, value)));
        command
    }

    /// Runs a command to its end and returns its output.
    pub(super) fn ask(
        command: Command,
        request: impl Into<String>,
        cancel: &Cancel,
    ) -> Result<Vec<u8>, RbdError> {
        answer(command, request.into(), ANSWER_MAX, LIMIT, cancel)
    }

    /// Like [`ask`](Self::ask), for an answer in JSON. In names, bytes that are not UTF-8 are
    /// replaced: such names are listed, but cannot be used.
    pub(super) fn ask_json<T: DeserializeOwned>(
        command: Command,
        request: &str,
        cancel: &Cancel,
    ) -> Result<T, RbdError> {
        Self::ask_json_within(command, request, LIMIT, cancel)
    }

    /// Like [`ask_json`](Self::ask_json), but waits for the answer at most for `limit`.
    fn ask_json_within<T: DeserializeOwned>(
        command: Command,
        request: &str,
        limit: Duration,
        cancel: &Cancel,
    ) -> Result<T, RbdError> {
        let printed = answer(command, request.to_owned(), ANSWER_MAX, limit, cancel)?;
        let text = String::from_utf8_lossy(&printed);
        serde_json::from_str(&text)
            .map_err(|error| RbdError::new(RbdErrorKind::BadAnswer, request, error))
    }
}

/// Returns `--NAME=VALUE`. In this form, a value that begins with a dash is not read as an option.
pub(super) fn option(name: &str, value: impl AsRef<OsStr>) -> OsString {
    let mut option = OsString::from(format!("--{name}="));
    option.push(value);
    option
}
