//! Chooses the command to run.

use crate::app::{Failure, RepositorySettings};
use crate::cli::args::RepositoryAction;
use crate::cli::console::Console;

use super::attachments::{restore_attachments, show_attachments};
use super::audit::{list_audits, report_key};
use super::backup::backup;
use super::cache::cache;
use super::check::check;
use super::check_keyless::check_keyless;
use super::compare::compare;
use super::copy::copy;
use super::diff_export::export_diff;
use super::drill::drill;
use super::forget::forget;
use super::head::head;
use super::init::init;
use super::key::key;
use super::label::label;
use super::list::list;
use super::parity::set_parity;
use super::prune::prune;
use super::repair::repair;
use super::repair_index::repair_index;
use super::repair_packs::repair_packs;
use super::replicate::replicate;
use super::restore::restore;
use super::restore_image::restore_image;
use super::show::show;
use super::snapshots::snapshots;
use super::stats::stats;
use super::status::status;

pub(crate) fn run_in_repository(
    console: &Console,
    settings: &RepositorySettings,
    action: RepositoryAction,
) -> Result<(), Failure> {
    match action {
        RepositoryAction::Init {
            chunk_size,
            parity,
            kdf,
        } => init(console, settings, (chunk_size, parity), kdf),
        RepositoryAction::Backup(request) => backup(console, settings, *request),
        RepositoryAction::List(request) => list(console, settings, &request),
        RepositoryAction::Show {
            backup,
            attachments: false,
        } => show(console, settings, &backup),
        RepositoryAction::Show {
            backup,
            attachments: true,
        } => show_attachments(console, settings, &backup),
        RepositoryAction::Compare { a, b } => compare(console, settings, &a, &b),
        RepositoryAction::Restore(request) => restore(console, settings, &request),
        RepositoryAction::RestoreImage(request) => restore_image(console, settings, *request),
        RepositoryAction::RestoreAttachments { backup, directory } => {
            restore_attachments(console, settings, &backup, &directory)
        }
        RepositoryAction::ExportDiff(request) => export_diff(console, settings, request),
        RepositoryAction::Forget(request) => forget(console, settings, request),
        RepositoryAction::Prune { request, dry_run } => prune(console, settings, request, dry_run),
        RepositoryAction::Check(request) => check(console, settings, request),
        RepositoryAction::ListAudits => list_audits(console, settings),
        RepositoryAction::ReportKey => report_key(console, settings),
        RepositoryAction::Drill(request) => drill(console, settings, &request),
        RepositoryAction::CheckKeyless { statement } => {
            check_keyless(console, settings, statement.as_deref())
        }
        RepositoryAction::Repair(request) => repair(console, settings, &request),
        RepositoryAction::RepairPacks { yes } => repair_packs(console, settings, yes),
        RepositoryAction::RepairIndex { yes } => repair_index(console, settings, yes),
        RepositoryAction::SetParity { rate } => set_parity(console, settings, rate),
        RepositoryAction::Head { qr } => head(console, settings, qr),
        RepositoryAction::Replicate(request) => replicate(console, settings, request),
        RepositoryAction::Copy(request) => copy(console, settings, &request),
        RepositoryAction::Label(request) => label(console, settings, &request),
        RepositoryAction::Stats { volume } => stats(console, settings, volume),
        RepositoryAction::Status(request) => status(console, settings, &request),
        RepositoryAction::Snapshots(request) => snapshots(console, settings, &request),
        RepositoryAction::Key(request) => key(console, settings, request),
        RepositoryAction::Cache(request) => cache(console, settings, request),
    }
}
