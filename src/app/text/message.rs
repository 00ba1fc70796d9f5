//! The text of each message.

use jiff::tz::TimeZone;

use crate::app::check_message::FindingKind;
use crate::app::human::{printable, short_id};
use crate::app::message::Message;

use super::detail::detail;
use super::{
    consequences, copy, diff, forget, head, prune, repair, status, summary, tables, volume_status,
};

/// Returns a sentence that says what a command has done; `None` if it changed nothing, or if the
/// message has no such sentence. If the message cannot be written, the error contains this
/// sentence.
pub(crate) fn done(message: &Message) -> Option<String> {
    let done = match message {
        Message::Init(_) => "the repository was created".to_owned(),
        Message::Backup(summary) => {
            let id = summary.backup_id.as_ref()?;
            let volume = printable(&summary.volume);
            format!("the backup {} of {volume} was made", short_id(id))
        }
        Message::Restore(summary) => {
            format!("{} was restored", printable(&summary.target))
        }
        Message::KeyChange(change) if change.action == "opens" => return None,
        Message::KeyChange(change) => {
            format!("the key {} was {}", short_id(&change.key_id), change.action)
        }
        Message::Merge(_) | Message::Export(_) => "the diff was written".to_owned(),
        Message::Label(_) => "the labels were changed".to_owned(),
        Message::Copied(copied) if copied.existing => return None,
        Message::Copied(copied) => {
            let id = copied.backup_id.as_ref()?;
            format!("the copy {} was made", short_id(id))
        }
        Message::Forget(summary) if summary.dry_run => return None,
        Message::Forget(_) => "the backups were removed".to_owned(),
        Message::Prune(summary) if summary.dry_run => return None,
        Message::Prune(_) => "the prune was completed".to_owned(),
        _ => return None,
    };
    Some(done)
}

/// Returns the text of a message. Each line has a line feed at its end. Times are shown in `zone`.
pub(crate) fn message(message: &Message, zone: &TimeZone) -> String {
    match message {
        Message::Status(status) => status::status(status) + "\n",
        Message::Init(summary) => summary::init(summary),
        Message::Backup(summary) => summary::backup(summary),
        Message::Restore(summary) => summary::restore(summary),
        Message::Compare(summary) => summary::compare(summary),
        Message::Detail(backup) => detail(backup, zone),
        Message::Attachments(all) => tables::attachments(&all.attachments),
        Message::Error(found) => {
            let kind = match found.kind {
                FindingKind::Damaged => "damaged",
                FindingKind::Foreign => "foreign",
            };
            let item = match &found.backup {
                Some(backup) => consequences::backup_name(backup, zone),
                None => found.item.clone(),
            };
            let affects = found.affects.as_ref();
            let affects = affects.map(|backups| consequences::affects(backups, zone));
            format!(
                "{kind}: {}: {}\n{}",
                printable(&item),
                printable(&found.message),
                affects.unwrap_or_default()
            )
        }
        Message::Check(summary) => summary::check(summary, zone),
        Message::Keyless(summary) => summary::keyless(summary),
        Message::ReportKey(key) => format!("{}\n", key.public_key),
        Message::ReportVerified(verified) => {
            format!("{} is genuine ({})\n", verified.report, verified.comment)
        }
        Message::Stats(stats) => summary::stats(stats),
        Message::VolumeStats(stats) => summary::volume_stats(stats),
        Message::KeyChange(change) => summary::key_change(change),
        Message::Cache(info) => summary::cache(info),
        Message::DiffImage(image) => diff::diff_image(image),
        Message::DiffStream(stream) => diff::diff_stream(stream),
        Message::Merge(summary) => diff::merge(summary),
        Message::Export(summary) => diff::export(summary),
        Message::Forget(summary) => forget::forgotten(summary),
        Message::Prune(summary) => prune::pruned(summary),
        Message::Label(summary) => summary::label(summary),
        Message::Copied(copied) => copy::copied(copied, zone),
        Message::Copy(summary) => copy::summary(summary),
        Message::Replicate(summary) => summary::replicate(summary),
        Message::RepairStep(step) => repair::step(step),
        Message::Repair(summary) => repair::summary(summary),
        Message::Parity(summary) => repair::parity(summary),
        Message::Head(statement) => head::head(statement, zone),
        Message::VolumeStatus(summary) => volume_status::status_summary(summary),
        Message::Snapshots(summary) => volume_status::snapshots_summary(summary),
    }
}
