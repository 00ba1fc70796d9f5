//! The text of each message.

use jiff::tz::TimeZone;

use crate::app::human::printable;
use crate::app::message::{FindingKind, Message};

use super::detail::detail;
use super::{diff, forget, head, prune, status, summary};

/// Returns the text of a message, with each line ended. Times are shown in `zone`.
pub(crate) fn message(message: &Message, zone: &TimeZone) -> String {
    match message {
        Message::Status(status) => status::status(status) + "\n",
        Message::Init(summary) => summary::init(summary),
        Message::Backup(summary) => summary::backup(summary),
        Message::Restore(summary) => summary::restore(summary),
        Message::Compare(summary) => summary::compare(summary),
        Message::Detail(backup) => detail(backup, zone),
        Message::Error(found) => {
            let kind = match found.kind {
                FindingKind::Damaged => "damaged",
                FindingKind::Foreign => "foreign",
            };
            format!(
                "{kind}: {}: {}\n",
                printable(&found.item),
                printable(&found.message)
            )
        }
        Message::Check(summary) => summary::check(summary),
        Message::Stats(stats) => summary::stats(stats),
        Message::KeyChange(change) => summary::key_change(change),
        Message::Cache(info) => summary::cache(info),
        Message::DiffImage(image) => diff::diff_image(image),
        Message::DiffStream(stream) => diff::diff_stream(stream),
        Message::Merge(summary) => diff::merge(summary),
        Message::Export(summary) => diff::export(summary),
        Message::Forget(summary) => forget::forgotten(summary),
        Message::Prune(summary) => prune::pruned(summary),
        Message::Head(statement) => head::head(statement, zone),
    }
}
