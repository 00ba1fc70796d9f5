//! The options that say how to reach a Ceph cluster.

use std::ffi::OsString;

use clap::{Args, ValueHint};

use crate::app::ClusterOptions;

const CEPH: &str = "Options for rbd: images";

#[derive(Debug, Args)]
pub(super) struct CephArgs {
    /// Ceph's configuration file [default: Ceph's own]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = CEPH)]
    ceph_conf: Option<OsString>,
    /// Name of the cluster, with which Ceph finds its files
    #[arg(long, value_name = "NAME", help_heading = CEPH)]
    cluster: Option<OsString>,
    /// Ceph user, without “client.” [default: admin]
    #[arg(long, value_name = "NAME", help_heading = CEPH)]
    id: Option<OsString>,
    /// File with the key of the Ceph user
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = CEPH)]
    keyring: Option<OsString>,
    /// Command that runs “rbd”; it may include arguments
    #[arg(long, value_name = "COMMAND", value_hint = ValueHint::CommandString)]
    #[arg(help_heading = CEPH)]
    rbd_command: Option<OsString>,
    /// Command that runs “ceph”, which gives the id of the cluster and the numbers of pools
    #[arg(long, value_name = "COMMAND", value_hint = ValueHint::CommandString)]
    #[arg(help_heading = CEPH)]
    ceph_command: Option<OsString>,
}

impl CephArgs {
    pub(super) fn into_options(self) -> ClusterOptions {
        ClusterOptions {
            conf: self.ceph_conf,
            cluster: self.cluster,
            id: self.id,
            keyring: self.keyring,
            rbd_command: self.rbd_command,
            ceph_command: self.ceph_command,
        }
    }
}
