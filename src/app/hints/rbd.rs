//! Converts the errors of requests to a cluster into failures.

use crate::app::failure::{Code, Failure};
use crate::volume::{RbdError, RbdErrorKind};

impl From<RbdError> for Failure {
    fn from(error: RbdError) -> Self {
        let code = match error.kind {
            RbdErrorKind::Cancelled => Code::Interrupted,
            RbdErrorKind::Busy => Code::Busy,
            _ => Code::Failed,
        };
        let hint = match error.kind {
            RbdErrorKind::NotStarted => Some(
                "install Ceph's client programs (Debian: ceph-common), or name them with \
                 --rbd-command and --ceph-command",
            ),
            RbdErrorKind::NotFound => Some(
                "“rbd ls POOL” and “rbd snap ls POOL/IMAGE” show what there is; give them the \
                     same --id, --keyring, --cluster and --conf",
            ),
            RbdErrorKind::Denied => Some(
                "check the user (--id), its key (--keyring), the configuration (--ceph-conf) and \
                 the capabilities of the user: “ceph auth get client.NAME”",
            ),
            RbdErrorKind::Busy => Some("wait until the image is no longer in use"),
            RbdErrorKind::Unreachable | RbdErrorKind::Stalled => Some(
                "check the cluster (“ceph -s”, with the same --id, --keyring, --cluster and \
                     --conf), and the configuration (--ceph-conf)",
            ),
            RbdErrorKind::Replaced => Some("nothing was changed; run it again"),
            RbdErrorKind::Exists => Some(
                "choose another name for a new image, or give --in-place to write what differs to \
                 this one",
            ),
            RbdErrorKind::BadArgument
            | RbdErrorKind::BadAnswer
            | RbdErrorKind::Cancelled
            | RbdErrorKind::Failed => None,
        };
        Self::from_error(code, &error).hint_if(hint)
    }
}
