//! Examines an existing image to which a backup is restored: whether it is in use, and where its
//! content differs from a snapshot of it.

use std::time::{Duration, Instant};

use super::client::{RbdClient, option};
use super::error::{RbdError, RbdErrorKind};
use super::export::{ExportEnd, RbdExport};
use super::image::LiveImage;
use super::json::Status;
use super::run::answer;
use super::snapshot::ExportedSnapshot;
use crate::base::Cancel;
use crate::format::{ExtentList, RbdIdentity};

/// The time that `rbd diff` may take: for an exact list, Ceph looks at every object.
const DIFF_LIMIT: Duration = Duration::from_hours(6);
/// The time between two requests that ask whether an image is still in use.
const PAUSE: Duration = Duration::from_secs(1);

impl<'a> LiveImage<'a> {
    /// Fails with [`RbdErrorKind::Busy`] if the image is still in use after `patience`. If a client
    /// was killed, the cluster counts it as a user for half a minute.
    pub fn require_unused(&self, patience: Duration, cancel: &Cancel) -> Result<(), RbdError> {
        let begun = Instant::now();
        while self.is_in_use(cancel)? {
            let request = format!("restore to the image {}", self.name());
            if begun.elapsed() >= patience {
                let why = "it is in use";
                return Err(RbdError::new(RbdErrorKind::Busy, request, why));
            }
            let cancelled = |_| RbdError::new(RbdErrorKind::Cancelled, request, "interrupted");
            cancel.sleep(PAUSE).map_err(cancelled)?;
        }
        Ok(())
    }

    /// Returns whether another program has opened the image for writing.
    pub(super) fn is_in_use(&self, cancel: &Cancel) -> Result<bool, RbdError> {
        let request = format!("see whether {} is in use", self.name());
        let mut rbd = self.client.rbd_on(&["status"], &self.spec);
        rbd.arg("--format=json");
        let status: Status = RbdClient::ask_json(rbd, &request, cancel)?;
        Ok(!status.watchers.is_empty())
    }

    /// Returns the extents in which the image differs from this snapshot of it.
    pub fn diverged(&self, from: &str, cancel: &Cancel) -> Result<ExtentList, RbdError> {
        self.list_changes(from, None, cancel)
    }

    /// Returns the extents that changed from one snapshot to another one. Fails with
    /// [`RbdErrorKind::Replaced`] unless the image and both snapshots are still the given ones
    /// after the cluster has answered.
    pub fn changes(
        &self,
        identity: &RbdIdentity,
        from: &ExportedSnapshot,
        to: &ExportedSnapshot,
        cancel: &Cancel,
    ) -> Result<ExtentList, RbdError> {
        let changes = self.list_changes(&from.name, Some(&to.name), cancel)?;
        let request = format!("list the changes of {}", self.name());
        let used = [from.clone(), to.clone()];
        self.require_same(identity, &used, &request, cancel)?;
        Ok(changes)
    }

    fn list_changes(
        &self,
        from: &str,
        to: Option<&str>,
        cancel: &Cancel,
    ) -> Result<ExtentList, RbdError> {
        let mut rbd = self.client.rbd_on(&["diff"], &self.spec);
        rbd.args(to.map(|to| option("snap", to)));
        rbd.arg(option("from-snap", from)).arg("--format=json");
        let request = format!(
            "list the changes of {} since its snapshot {from}",
            self.name()
        );
        let limit = ExtentList::TEXT_MAX as u64;
        let printed = answer(rbd, request.clone(), limit, DIFF_LIMIT, cancel)?;
        ExtentList::parse(&printed)
            .map_err(|error| RbdError::new(RbdErrorKind::BadAnswer, request, error))
    }

    /// Starts to export all data of the image itself, not of a snapshot. The stream ends only after
    /// `rbd` has succeeded and the image was found to be the given one.
    pub fn export_head(
        &self,
        identity: &RbdIdentity,
        cancel: &Cancel,
    ) -> Result<RbdExport<'a>, RbdError> {
        let mut rbd = self.client.rbd_on(&["export-diff"], &self.spec);
        rbd.args(["--no-progress", "--path=-"]);
        let request = format!("read the image {}", self.name());
        let (image, identity) = (self.clone(), identity.clone());
        let (asked, cancel) = (request.clone(), cancel.clone());
        let verify = move || {
            image.require_same(&identity, &[], &asked, &cancel)?;
            Ok(ExportEnd::default())
        };
        RbdExport::start(rbd, self.name(), request, self.client.stall(), verify)
    }

    /// Fails with [`RbdErrorKind::Replaced`] unless the image is still the given one, and has
    /// snapshots with these names and ids. `request` is for the error.
    pub fn require_same(
        &self,
        identity: &RbdIdentity,
        snapshots: &[ExportedSnapshot],
        request: &str,
        cancel: &Cancel,
    ) -> Result<(), RbdError> {
        self.require(&identity.image_id, snapshots, request, cancel)
    }
}
