//! The history of a project: records, their order, gaps in it, and the selection of backups.

mod forgotten_record;
mod gaps;
mod history_ends;
mod lost_records;
mod order;
mod records;
mod revocation;
mod select_surely;

pub use forgotten_record::ForgottenRecord;
pub use history_ends::HistoryEnds;
pub use order::{History, HistoryEntry, OrderedRecord};
pub use records::Records;
