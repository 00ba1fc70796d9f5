//! Restores a backup: walks its tree, cuts the content into units, reads ranges of packs, decrypts
//! and verifies the chunks, and writes the units.

mod different;
mod examine;
mod fill;
mod holes;
mod in_place;
mod live;
mod samples;
mod series;
mod task;
mod write;
mod write_units;

pub use holes::OnDamage;
pub use in_place::{InPlaceOptions, InPlaceReport, restore_image_in_place};
pub use live::{ImageTarget, restore_image};
pub use series::{restore_series, series};
pub use task::RestoreReport;
pub use write::{restore, restore_despite};

pub(crate) use holes::joined;
pub(crate) use task::RestoreTask;
pub(crate) use write::{write_all, write_changes};
