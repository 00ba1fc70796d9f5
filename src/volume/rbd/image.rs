//! One image of a cluster: its state, its snapshots, and its changes.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use super::client::{LIMIT, RbdClient, TrashedImage, option};
use super::error::{RbdError, RbdErrorKind};
use super::export::{ExportEnd, RbdExport};
use super::json::{Ignored, Info, SnapshotItem, feature_bits, feature_names};
use super::run::{ANSWER_MAX, answer};
use super::snapshot::{ExportedSnapshot, Snapshot, check_snapshots, replaced};
use super::spec::RbdSpec;
use crate::base::{Cancel, join, lock};
use crate::format::{ByteString, RbdIdentity, RbdImage};

/// The time that the removal of a snapshot may take if the cluster did not answer such a request
/// for another image.
const LIMIT_OF_OTHERS: Duration = Duration::from_secs(15);

/// An image of a cluster. Its state is not cached: each method that needs it asks the cluster.
#[derive(Debug, Clone)]
pub struct LiveImage<'a> {
    pub(super) client: &'a RbdClient,
    /// The name of the image, without a snapshot.
    pub(super) spec: RbdSpec,
    /// If set, Ceph finds the image by this id, also in the trash, for requests about its state and
    /// its snapshots. All other requests use the name in `spec`.
    id: Option<String>,
}

/// The state of an image.
#[derive(Debug, Clone)]
pub struct ImageState {
    /// Identifies the image, without a snapshot.
    pub identity: RbdIdentity,
    /// The parameters to create it again.
    pub image: RbdImage,
    /// The size of the image itself, not of a snapshot, in bytes.
    pub size: u64,
    /// Problems of its object map, as `rbd info` names them: `object map invalid`, `fast diff
    /// invalid`.
    pub flags: Vec<String>,
    /// Whether the image is a mirror: a copy of an image of another cluster. A mirror cannot be
    /// changed.
    pub is_mirror: bool,
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

    /// Names an image by its id. The id stays the same if the image is renamed or moved to the
    /// trash. `spec` has its pool and namespace, and the name for messages. Use only the methods
    /// that read its state, or that list, make or remove its snapshots. All other methods find the
    /// image by its name.
    #[must_use]
    pub fn with_id(client: &'a RbdClient, spec: &RbdSpec, id: &str) -> Self {
        Self {
            id: Some(id.to_owned()),
            ..Self::new(client, spec)
        }
    }

    /// Returns a command that runs `rbd` for this image.
    pub(super) fn rbd(&self, verb: &[&str]) -> Command {
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

    /// Returns the beginning of a command that a user can copy: `rbd` with the options that find
    /// the cluster and the user.
    #[must_use]
    pub fn shown_rbd(&self) -> String {
        self.client.options().shown()
    }

    /// Returns the state of the image. Asks for the ids of the cluster and of the pool, and for the
    /// state, at the same time.
    pub fn state(&self, cancel: &Cancel) -> Result<ImageState, RbdError> {
        let (pool_id, info) = join(
            || self.client.pool_id(&self.spec.pool, cancel),
            || self.info(None, cancel),
        );
        let pool_id = pool_id?;
        let cluster = self.client.fsid(cancel)?;
        let info = info.map_err(|error| self.find_in_trash(error, cancel))?;
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

    /// If the image was not found but is in the trash, adds this to the error.
    fn find_in_trash(&self, error: RbdError, cancel: &Cancel) -> RbdError {
        if !error.is_absent() || self.id.is_some() {
            return error;
        }
        let spec = &self.spec;
        let trash = self
            .client
            .trash(&spec.pool, spec.namespace.as_deref(), cancel);
        let trash = trash.unwrap_or_default();
        match trash.iter().find(|image| image.name == spec.image) {
            Some(TrashedImage { id, .. }) => error.because(&format!(
                "an image of this name is in the trash, with the id {id}: “{} trash restore” \
                 brings it back",
                self.shown_rbd()
            )),
            None => error,
        }
    }

    fn info(&self, snapshot: Option<&str>, cancel: &Cancel) -> Result<Info, RbdError> {
        let mut rbd = self.rbd(&["info"]);
        rbd.arg("--format=json");
        rbd.args(snapshot.map(|name| option("snap", name)));
        let request = format!("open the image {}", self.name());
        RbdClient::ask_json(rbd, &request, cancel)
    }

    /// Returns the snapshots that users and programs made, oldest first. Leaves out those that Ceph
    /// made for itself.
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

    /// Returns the error for a snapshot that the image does not have.
    #[must_use]
    pub fn no_snapshot(&self, name: &str) -> RbdError {
        let request = format!("find the snapshot {}@{name}", self.name());
        RbdError::new(
            RbdErrorKind::NotFound,
            request,
            "the image has no such snapshot",
        )
    }

    /// Makes a snapshot. Even if the call fails, the snapshot may exist.
    pub fn create_snapshot(&self, name: &str, cancel: &Cancel) -> Result<(), RbdError> {
        let request = format!("make the snapshot {}@{name}", self.name());
        self.change_snapshot("create", name, request, LIMIT, cancel)
    }

    /// Removes a snapshot. Fails if it is protected. If several threads call this method, they
    /// remove one snapshot at a time. After a removal that the cluster did not answer, removals for
    /// the same image fail immediately for two minutes. In that time, removals for other images
    /// wait at most 15 seconds for an answer. Otherwise, each removal could wait for two minutes.
    pub fn remove_snapshot(&self, name: &str, cancel: &Cancel) -> Result<(), RbdError> {
        self.remove_unless(name, cancel, |unanswered| {
            unanswered.contains_key(&self.spec)
        })
    }

    /// Removes a snapshot like [`remove_snapshot`](Self::remove_snapshot), even if the work was
    /// cancelled. The user of a cancelled program waits for its end. So after a cancellation, this
    /// fails immediately if a removal for any image got no answer in the last two minutes.
    pub fn remove_snapshot_anyway(&self, name: &str, cancelled: &Cancel) -> Result<(), RbdError> {
        self.remove_unless(name, &Cancel::default(), |unanswered| {
            let waits = cancelled.check().is_err() && !unanswered.is_empty();
            waits || unanswered.contains_key(&self.spec)
        })
    }

    /// Removes a snapshot, unless `is_useless` returns true for the images for which the cluster
    /// did not answer.
    fn remove_unless(
        &self,
        name: &str,
        cancel: &Cancel,
        is_useless: impl FnOnce(&BTreeMap<RbdSpec, Instant>) -> bool,
    ) -> Result<(), RbdError> {
        let mut unanswered = lock(&self.client.removing);
        let request = format!("remove the snapshot {}@{name}", self.name());
        unanswered.retain(|_, time| time.elapsed() < LIMIT);
        if is_useless(&unanswered) {
            let why = "not tried, since the cluster did not answer the request before";
            return Err(RbdError::new(RbdErrorKind::Unreachable, request, why));
        }
        let limit = if unanswered.is_empty() {
            LIMIT
        } else {
            LIMIT_OF_OTHERS
        };
        let removed = self.change_snapshot("rm", name, request, limit, cancel);
        match &removed {
            Err(error) if error.kind == RbdErrorKind::Unreachable => {
                unanswered.insert(self.spec.clone(), Instant::now());
            }
            _ => {}
        }
        removed
    }

    fn change_snapshot(
        &self,
        verb: &str,
        name: &str,
        request: String,
        limit: Duration,
        cancel: &Cancel,
    ) -> Result<(), RbdError> {
        let mut rbd = self.rbd(&["snap", verb]);
        rbd.arg(option("snap", name));
        answer(rbd, request, ANSWER_MAX, limit, cancel).map(drop)
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
        if self.is_in_use(cancel)? {
            return refuse("it exists and is in use");
        }
        let request = format!("find out whether {} has data", self.name());
        let mut rbd = self.client.rbd_on(&["diff"], &self.spec);
        rbd.arg("--format=json");
        let extents: Vec<Ignored> = RbdClient::ask_json(rbd, &request, cancel)?;
        if extents.is_empty() {
            Ok(())
        } else {
            refuse("it exists and has data")
        }
    }

    /// Starts to export the changes from one snapshot, or from nothing, to another one.
    ///
    /// The stream ends only after `rbd` has succeeded, and the image and both snapshots were found
    /// to be the given ones. `rbd` finds them by name, and a name can be used again at any time.
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
        let asked = request.clone();
        let verify = move || image.export_end(&id, &expected, &asked, &cancel);
        RbdExport::start(rbd, self.name(), request, self.client.stall(), verify)
    }

    /// Returns the state of the image and of the last of these snapshots. Fails like
    /// [`require`](Self::require).
    fn export_end(
        &self,
        id: &str,
        expected: &[ExportedSnapshot],
        request: &str,
        cancel: &Cancel,
    ) -> Result<ExportEnd, RbdError> {
        let to = expected.last().map(|to| &to.name[..]);
        let (snapshots, info) = join(|| self.snapshots(cancel), || self.info(to, cancel));
        let info = match info {
            Err(error) if error.is_absent() => {
                // Find out whether the image or the snapshot is missing.
                self.require(id, expected, request, cancel)?;
                return Err(error);
            }
            info => info?,
        };
        let snapshots = snapshots?;
        check_same(&info, id, request)?;
        check_snapshots(&snapshots, expected, request)?;
        let flags = info.flags;
        Ok(ExportEnd { snapshots, flags })
    }

    /// Fails unless the image has this id, and snapshots with these names and numbers.
    pub(super) fn require(
        &self,
        id: &str,
        expected: &[ExportedSnapshot],
        request: &str,
        cancel: &Cancel,
    ) -> Result<(), RbdError> {
        let list = || match expected {
            [] => Ok(Vec::new()),
            _ => self.snapshots(cancel),
        };
        let (found, info) = join(list, || self.info(None, cancel));
        check_same(&info?, id, request)?;
        check_snapshots(&found?, expected, request)
    }
}

/// Fails unless the image has this id.
fn check_same(info: &Info, id: &str, request: &str) -> Result<(), RbdError> {
    if info.id.as_deref() == Some(id) {
        return Ok(());
    }
    Err(replaced("the image", request))
}
