//! The lines that the guard prints. The guard is the process that runs both commands of a freeze.

/// The command before the snapshot runs. The number of its process group follows.
pub(super) const FREEZING: &str = "freezing ";
/// The command before the snapshot has succeeded, or there is none.
pub(super) const FROZEN: &str = "frozen";
/// The command before the snapshot has failed or was not started, for the reason that follows.
pub(super) const NOT_FROZEN: &str = "not-frozen ";
/// The time limit has passed. The thaw begins.
pub(super) const LATE: &str = "late";
/// The command after the snapshot has succeeded, or was not needed.
pub(super) const THAWED: &str = "thawed";
/// The command after the snapshot has failed, for the reason that follows.
pub(super) const NOT_THAWED: &str = "not-thawed ";
