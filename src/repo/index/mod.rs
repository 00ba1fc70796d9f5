//! The index of a project. It finds the packs that hold a blob.
//!
//! The index segments in the store are authoritative. The index is a cache of them in a redb
//! database. New segments are added to the database. The database is rebuilt from the segments, in
//! memory if needed, in these cases:
//!
//! - It is damaged, belongs to another repository, or cannot be written.
//! - It names segments or packs that no longer exist.
//!
//! Only the first rebuild sends a notice to the observer. If segments are damaged or missing, the
//! listings in the packs themselves are read. Then the next backup stores segments that name these
//! packs again.
//!
//! A look-up searches the runs that were found last ([`recent_runs`]), then the filter
//! ([`filter`]), then the database ([`db`]). It ignores packs that must not be used
//! ([`usable_packs`]).

mod damage_notes;
mod damaged;
mod db;
mod db_write;
mod exclude;
mod filter;
mod lookup;
mod lost_chunks;
mod open;
mod panics;
mod recent_runs;
mod resync;
mod rewrite;
mod segments;
mod state;
mod stored_packs;
mod sync;
mod tables;
mod trust;
mod unnamed;
mod usable_packs;
mod vouch;

pub use damaged::KnownDamage;
pub use lookup::CacheState;
pub use lost_chunks::LostChunks;
pub use open::IndexContent;
pub use rewrite::{Rewritten, UnreadableSegments};
pub(super) use segments::SegmentsSeen;
pub use state::Index;
pub use sync::ListedPack;
