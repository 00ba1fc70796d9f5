//! What the tests share: the program in a scratch directory, servers and disks that they start, and
//! the one way to skip a test.

pub(crate) mod program;
mod random;
mod skip;
mod small_disk;
mod sshd;

pub(crate) use random::Random;
pub(crate) use skip::skip;
pub(crate) use small_disk::SmallDisk;
pub(crate) use sshd::Sshd;
