//! The arguments of `drill`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueHint};

use crate::app::DrillRequest;
use crate::base::ByteSize;

#[derive(Debug, Args)]
pub(super) struct DrillArgs {
    /// Restore at most N backups
    #[arg(long, value_name = "N", default_value = "1")]
    sample: NonZeroUsize,
    /// Restore at most SIZE bytes of content, for example 50G
    #[arg(long, value_name = "SIZE")]
    max_bytes: Option<ByteSize>,
    /// Restore to a temporary file, and run CMD, such as “fsck -n”, in a shell with this file as
    /// last argument
    #[arg(long, value_name = "CMD", value_hint = ValueHint::CommandString)]
    command: Option<String>,
    /// With --command: the directory of the temporary file [default: $TMPDIR or /tmp]
    #[arg(long, value_name = "DIR", requires = "command", value_hint = ValueHint::DirPath)]
    scratch: Option<PathBuf>,
}

impl DrillArgs {
    pub(super) fn into_request(self) -> DrillRequest {
        DrillRequest {
            sample: self.sample.get(),
            max_bytes: self.max_bytes.map(|size| size.0),
            command: self.command,
            scratch: self.scratch,
        }
    }
}
