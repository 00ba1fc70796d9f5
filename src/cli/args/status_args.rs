//! The arguments of `status` and `snapshots`.

use clap::Args;

use super::ceph_args::CephArgs;
use crate::app::{Environment, Failure, SnapshotsRequest, StatusRequest};
use crate::ops::{RemovedSnapshots, Span};

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Show only these volumes; patterns such as “web-*” match several
    #[arg(value_name = "VOLUME")]
    volumes: Vec<String>,
    /// Fail with exit code 25 if the newest backup of a volume is older than SPAN, for example 26h
    /// or 2d
    ///
    /// Volumes that are no longer backed up do not count if their newest backup has the label
    /// status=retired: “cuttlebone label VOLUME status=retired”.
    #[arg(long, value_name = "SPAN")]
    max_age: Option<Span>,
    /// Do not ask a cluster
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    ceph: CephArgs,
}

impl StatusArgs {
    pub(super) fn into_request(self, environment: &Environment) -> Result<StatusRequest, Failure> {
        Ok(StatusRequest {
            volumes: self.volumes,
            max_age: self.max_age,
            offline: self.offline,
            cluster: self.ceph.into_options().into_settings(environment)?,
        })
    }
}

#[derive(Debug, Args)]
pub(super) struct SnapshotsArgs {
    /// Show only these images: POOL/[NAMESPACE/]IMAGE. In POOL and IMAGE, “*” and “?” are
    /// wildcards
    #[arg(value_name = "IMAGE")]
    image: Option<String>,
    /// Remove snapshots that cuttlebone made for this project and that nothing needs
    ///
    /// Snapshots stay if they are protected, and while a backup runs that may use them.
    #[arg(long)]
    remove_unneeded: bool,
    /// Remove all snapshots that cuttlebone made for this project on IMAGE, so that “rbd rm” can
    /// remove the image
    ///
    /// Protected snapshots stay. The next backup of the image reads all of its data.
    #[arg(long, requires = "image", conflicts_with = "remove_unneeded")]
    remove_all: bool,
    #[command(flatten)]
    ceph: CephArgs,
}

impl SnapshotsArgs {
    pub(super) fn into_request(
        self,
        environment: &Environment,
    ) -> Result<SnapshotsRequest, Failure> {
        let images = self.image.as_deref().map(SnapshotsRequest::images);
        Ok(SnapshotsRequest {
            images: images.transpose()?,
            remove: match (self.remove_all, self.remove_unneeded) {
                (true, _) => Some(RemovedSnapshots::All),
                (false, true) => Some(RemovedSnapshots::Unneeded),
                (false, false) => None,
            },
            cluster: self.ceph.into_options().into_settings(environment)?,
        })
    }
}
