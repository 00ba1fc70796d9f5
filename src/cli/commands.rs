//! Each command: calls of operations, and what to tell of their results.

use super::Session;
use super::access::Access;
use super::failure::{Code, Failure};
use super::request::Operation;

/// Does what was asked for.
pub(super) fn perform(
    session: &Session,
    access: &Access,
    operation: Operation,
) -> Result<(), Failure> {
    let _ = (session, access, operation);
    Err(Failure::new(
        Code::Failed,
        "this command is not part of this build",
    ))
}
