//! One image of a cluster: its state, its snapshots, and its changes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::process::Command;

use super::client::{RbdClient, option};
use super::error::{RbdError, RbdErrorKind};
use super::export::RbdExport;
use super::import::RbdImport;
use super::json::{Ignored, Info, SnapshotItem, Status, feature_bits, feature_names};
use super::spec::RbdSpec;
use crate::base::Cancel;
use crate::format::{ByteString, ImageMetadata, RbdIdentity, RbdImage};

/// An image of a cluster. Nothing about it is cached: each method that needs it asks the
/// cluster.
#[derive(Debug, Clone)]
pub struct LiveImage<'a> {
    client: &'a RbdClient,
    /// Without a snapshot.
    spec: RbdSpec,
    /// If set, Ceph finds the image by this id, also in the trash. The name in `spec` is then only
    /// for messages.
    id: Option<String>,
}

/// The state of an image.
#[derive(Debug, Clone)]
pub struct ImageState {
    /// Identifies the image, without a snapshot.
    pub identity: RbdIdentity,
    /// The parameters to create it again.
    pub image: RbdImage,
    /// The size of its head, in bytes.
    pub size: u64,
    /// Problems of its object map, as `rbd info` names them: `object map invalid`, `fast diff
    /// invalid`.
    pub flags: Vec<String>,
    /// It is the copy of an image of another cluster, and cannot be changed.
    pub is_mirror: bool,
}

/// A snapshot, identified by both its number and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedSnapshot {
    /// Its number.
    pub id: u64,
    /// Its name when the export begins.
    pub name: String,
}

/// A snapshot that a user made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its number. A later snapshot of the image has a larger one.
    pub id: u64,
    /// Its name, which can be used again.
    pub name: String,
    /// The size of the image when the snapshot was made, in bytes.
    pub size: u64,
    /// Whether it is protected from removal.
    pub protected: bool,
}

impl<'a> LiveImage<'a> {
    /// Names an image. Asks the cluster nothing yet. A snapshot in `spec` is ignored.
    #[must_use]
    pub fn new(client: &'a RbdClient, spec: &RbdSpec) -> Self {
        let snapshot = None;
        let spec = RbdSpec {
            snapshot,
            ..spec.clone()
        };
        let id = None;
        Self { client, spec, id }
    }

    /// Names an image by its id, which it keeps if it is renamed or moved to the trash. `spec` has
    /// its pool and namespace, and the name for messages.
    #[must_use]
    pub fn with_id(client: &'a RbdClient, spec: &RbdSpec, id: &str) -> Self {
        Self {
            id: Some(id.to_owned()),
            ..Self::new(client, spec)
        }
    }

    /// Returns a command that runs `rbd` for this image.
    fn rbd(&self, verb: &[&str]) -> Command {
        match &self.id {
            Some(id) => self.client.rbd_on_id(verb, &self.spec, id),
            None => self.client.rbd_on(verb, &self.spec),
        }
    }

    /// Returns `POOL/[NAMESPACE/]IMAGE`.
    #[must_use]
    pub fn name(&self) -> String {
        self.spec.image_path()
    }

    /// Returns the name of the image in its pool.
    #[must_use]
    pub fn image_name(&self) -> &str {
        &self.spec.image
    }

    /// Returns the state of the image.
    pub fn state(&self, cancel: &Cancel) -> Result<ImageState, RbdError> {
        let client = self.client;
        let cluster = client.fsid(cancel)?;
        let pool_id = client.pool_id(&self.spec.pool, cancel)?;
        let info = self.info(None, cancel)?;
        let Some(image_id) = info.id else {
            let request = format!("use the image {}", self.name());
            let why = "it has the old format 1, without an id";
            return Err(RbdError::new(RbdErrorKind::BadAnswer, request, why));
        };
        let text = |name: &String| ByteString::from(name.as_bytes());
        Ok(ImageState {
            identity: RbdIdentity {
                cluster,
                pool_id,
                pool: Some(text(&self.spec.pool)),
                namespace: self.spec.namespace.as_ref().map(text),
                image_id,
                image: Some(match &self.id {
                    Some(_) => text(&info.name),
                    None => text(&self.spec.image),
                }),
                snapshot_id: None,
            },
            image: RbdImage {
                order: Some(info.order),
                features: Some(feature_bits(&info.features)),
                stripe_unit: info.stripe_unit,
                stripe_count: info.stripe_count,
                data_pool: info.data_pool.as_ref().map(text),
            },
            size: info.size,
            flags: info.flags,
            is_mirror: info.mirroring.and_then(|m| m.primary) == Some(false),
        })
    }

    /// Returns the flags of a snapshot, like [`ImageState::flags`].
    pub fn snapshot_flags(&self, snapshot: &str, cancel: &Cancel) -> Result<Vec<String>, RbdError> {
        Ok(self.info(Some(snapshot), cancel)?.flags)
    }

    fn info(&self, snapshot: Option<&str>, cancel: &Cancel) -> Result<Info, RbdError> {
        let mut rbd = self.rbd(&["info"]);
        rbd.arg("--format=json");
        rbd.args(snapshot.map(|name| option("snap", name)));
        let request = format!("open the image {}", self.name());
        RbdClient::ask_json(rbd, &request, cancel)
    }

    /// Returns the snapshots that users made, oldest first.
    pub fn snapshots(&self, cancel: &Cancel) -> Result<Vec<Snapshot>, RbdError> {
        let mut rbd = self.rbd(&["snap", "ls"]);
        rbd.arg("--format=json");
        let request = format!("list the snapshots of {}", self.name());
        let items: Vec<SnapshotItem> = RbdClient::ask_json(rbd, &request, cancel)?;
        let mut snapshots: Vec<_> = items
            .into_iter()
            .map(|item| Snapshot {
                id: item.id,
                name: item.name,
                size: item.size,
                protected: item.protected == Some(true),
            })
            .collect();
        snapshots.sort_by_key(|snapshot| snapshot.id);
        Ok(snapshots)
    }

    /// The error for a snapshot that the image does not have.
    #[must_use]
    pub fn no_snapshot(&self, name: &str) -> RbdError {
        let request = format!("find the snapshot {}@{name}", self.name());
        RbdError::new(
            RbdErrorKind::NotFound,
            request,
            "the image has no such snapshot",
        )
    }

    /// Makes a snapshot. Even if this fails, the snapshot may exist.
    pub fn create_snapshot(&self, name: &str, cancel: &Cancel) -> Result<(), RbdError> {
        let request = format!("make the snapshot {}@{name}", self.name());
        self.change_snapshot("create", name, request, cancel)
    }

    /// Removes a snapshot. Fails if it is protected.
    pub fn remove_snapshot(&self, name: &str, cancel: &Cancel) -> Result<(), RbdError> {
        let request = format!("remove the snapshot {}@{name}", self.name());
        self.change_snapshot("rm", name, request, cancel)
    }

    fn change_snapshot(
        &self,
        verb: &str,
        name: &str,
        request: String,
        cancel: &Cancel,
    ) -> Result<(), RbdError> {
        let mut rbd = self.rbd(&["snap", verb]);
        rbd.arg(option("snap", name));
        RbdClient::ask(rbd, request, cancel).map(drop)
    }

    /// Returns the metadata of the image; none if it has none.
    pub fn metadata(&self, cancel: &Cancel) -> Result<Option<ImageMetadata>, RbdError> {
        let mut rbd = self.client.rbd_on(&["image-meta", "list"], &self.spec);
        rbd.arg("--format=json");
        let request = format!("read the metadata of {}", self.name());
        let printed = RbdClient::ask(rbd, &request[..], cancel)?;
        // Without metadata, `rbd` prints nothing, not even JSON.
        if printed.trim_ascii().is_empty() {
            return Ok(None);
        }
        let bad = |error| RbdError::new(RbdErrorKind::BadAnswer, &request, error);
        let found: BTreeMap<String, String> = serde_json::from_slice(&printed).map_err(bad)?;
        let bytes = |text: String| ByteString::from(text.as_bytes());
        let entries: Vec<_> = found
            .into_iter()
            .map(|(k, v)| (bytes(k), bytes(v)))
            .collect();
        Ok((!entries.is_empty()).then_some(ImageMetadata(entries)))
    }

    /// Makes the image with this size in bytes. For parameters that are not set, Ceph uses its
    /// defaults.
    pub fn create(
        &self,
        size: u64,
        parameters: &RbdImage,
        cancel: &Cancel,
    ) -> Result<(), RbdError> {
        let mut rbd = self.client.rbd_on(&["create"], &self.spec);
        rbd.arg(format!("--size={size}B"));
        // Ignore an order of 64 or more: no object can have this size, and Ceph would refuse it.
        let object = parameters
            .order
            .and_then(|order| 1_u64.checked_shl(order.into()));
        rbd.args(object.map(|bytes| format!("--object-size={bytes}B")));
        let names = parameters.features.map(feature_names).into_iter().flatten();
        rbd.args(names.map(|name| option("image-feature", name)));
        if let (Some(unit), Some(count)) = (parameters.stripe_unit, parameters.stripe_count) {
            rbd.arg(format!("--stripe-unit={unit}B"));
            rbd.arg(format!("--stripe-count={count}"));
        }
        let request = format!("make the image {}", self.name());
        if let Some(pool) = &parameters.data_pool {
            let unusable = || {
                let why = "the name of its data pool is not valid UTF-8";
                RbdError::new(RbdErrorKind::BadArgument, &request, why)
            };
            let pool = pool.bytes().and_then(|bytes| String::from_utf8(bytes).ok());
            rbd.arg(option("data-pool", pool.ok_or_else(unusable)?));
        }
        RbdClient::ask(rbd, request, cancel).map(drop)
    }

    /// Fails unless the image has no data, no snapshots and no users. If it has one of `snapshots`,
    /// the error names it. Fails with [`RbdErrorKind::NotFound`] if there is no such image.
    pub fn require_empty(&self, snapshots: &[Vec<u8>], cancel: &Cancel) -> Result<(), RbdError> {
        self.info(None, cancel)?;
        let refuse = |why: &str| {
            let request = format!("restore to the image {}", self.name());
            Err(RbdError::new(RbdErrorKind::Exists, request, why))
        };
        let found = self.snapshots(cancel)?;
        let is_taken = |name: &str| snapshots.iter().any(|taken| *taken == name.as_bytes());
        if let Some(taken) = found.iter().find(|snapshot| is_taken(&snapshot.name)) {
            return refuse(&format!("it has a snapshot {} already", taken.name));
        }
        if !found.is_empty() {
            return refuse("it exists and has snapshots");
        }
        let request = format!("see whether {} is in use", self.name());
        let mut rbd = self.client.rbd_on(&["status"], &self.spec);
        rbd.arg("--format=json");
        let status: Status = RbdClient::ask_json(rbd, &request, cancel)?;
        if !status.watchers.is_empty() {
            return refuse("it exists and is in use");
        }
        let request = format!("find the data of {}", self.name());
        let mut rbd = self.client.rbd_on(&["diff"], &self.spec);
        rbd.arg("--format=json");
        let extents: Vec<Ignored> = RbdClient::ask_json(rbd, &request, cancel)?;
        if extents.is_empty() {
            Ok(())
        } else {
            refuse("it exists and has data")
        }
    }

    /// Starts to write a diff into the image.
    pub fn import(&self, cancel: &Cancel) -> Result<RbdImport, RbdError> {
        let mut rbd = self.client.rbd_on(&["import-diff"], &self.spec);
        // With its cache, `rbd` reports success even if a write is refused or fails later.
        rbd.args(["--no-progress", "--path=-", "--rbd_cache=false"]);
        let request = format!("write to the image {}", self.name());
        RbdImport::start(rbd, request, cancel)
    }

    /// Sets one value of the metadata of the image.
    pub fn set_metadata(
        &self,
        key: &ByteString,
        value: &ByteString,
        cancel: &Cancel,
    ) -> Result<(), RbdError> {
        let mut rbd = self.client.rbd_on(&["image-meta", "set"], &self.spec);
        // The key and the value may have any bytes, so they may look like options.
        rbd.arg("--");
        for text in [key, value] {
            rbd.arg(OsString::from_vec(text.bytes().unwrap_or_default()));
        }
        let request = format!("set the metadata “{key}” of {}", self.name());
        RbdClient::ask(rbd, request, cancel).map(drop)
    }

    /// Starts to export the changes from one snapshot, or from nothing, to another one.
    ///
    /// The stream ends only once `rbd` has succeeded, and the image and both snapshots are known to
    /// be the given ones: `rbd` finds them by name, and a name can be used again at any time.
    pub fn export(
        &self,
        identity: &RbdIdentity,
        from: Option<&ExportedSnapshot>,
        to: &ExportedSnapshot,
        cancel: &Cancel,
    ) -> Result<RbdExport<'a>, RbdError> {
        let mut rbd = self.client.rbd_on(&["export-diff"], &self.spec);
        rbd.arg(option("snap", &to.name));
        rbd.args(from.map(|from| option("from-snap", &from.name)));
        rbd.args(["--no-progress", "--path=-"]);
        let request = format!("export the changes of {}", self.name());
        let expected: Vec<_> = from.into_iter().chain([to]).cloned().collect();
        let (image, id, cancel) = (self.clone(), identity.image_id.clone(), cancel.clone());
        let verify = move || image.require(&id, &expected, &cancel);
        RbdExport::start(rbd, self.name(), request, self.client.stall(), verify)
    }

    /// Fails unless the image has this id, and snapshots with these names and numbers.
    fn require(
        &self,
        id: &str,
        expected: &[ExportedSnapshot],
        cancel: &Cancel,
    ) -> Result<(), RbdError> {
        let replaced = |what: String| {
            let request = format!("export the changes of {}", self.name());
            let why = format!("{what} was removed or made again meanwhile");
            RbdError::new(RbdErrorKind::Replaced, request, why)
        };
        if self.info(None, cancel)?.id.as_deref() != Some(id) {
            return Err(replaced("the image".to_owned()));
        }
        let found = self.snapshots(cancel)?;
        let is = |wanted: &ExportedSnapshot, found: &Snapshot| {
            (found.id, &found.name) == (wanted.id, &wanted.name)
        };
        let missing = |wanted: &&ExportedSnapshot| !found.iter().any(|found| is(wanted, found));
        match expected.iter().find(missing) {
            None => Ok(()),
            Some(wanted) => Err(replaced(format!("the snapshot {}", wanted.name))),
        }
    }
}
