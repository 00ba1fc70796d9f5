//! The command `audit`.

use crate::app::{Attempt, AuditEntries, Failure, RepositorySettings, open_project};
use crate::cli::console::Console;
use crate::ops;

pub(super) fn list_audits(console: &Console, settings: &RepositorySettings) -> Result<(), Failure> {
    let (_, project) = open_project(&console.session, settings, Attempt::ListAudits)?;
    let context = console.session.context(Some(&settings.cache_dir));
    let list = ops::audit_list(&project, &context)?;
    console.meter.finish();
    console.output.audits(&AuditEntries::of(&list))
}
