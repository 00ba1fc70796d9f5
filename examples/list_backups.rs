//! Lists the backups in a repository, oldest first.
//!
//! ```text
//! CUTTLEBONE_PASSWORD=… cargo run --example list_backups -- /srv/backup
//! ```

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program prints its results"
)]

use std::env;
use std::error::Error;
use std::sync::Arc;

use cuttlebone::base::Silent;
use cuttlebone::repo::{Records, Repository};
use cuttlebone::storage::LocalBackend;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = env::args_os()
        .nth(1)
        .ok_or("usage: list_backups REPOSITORY")?;
    let password = env::var("CUTTLEBONE_PASSWORD")?;

    // `Silent` ignores notices, for example about a damaged file that has a whole copy.
    let store = Arc::new(LocalBackend::open(directory)?);
    let repository =
        Repository::find(store, None, &Silent)?.unlock(password.as_bytes(), &Silent)?;
    let project = repository.project("default", &Silent)?;

    let records = Records::load(&project)?;
    for backup in records.all() {
        let (volume, content) = (&backup.record.volume, &backup.record.content);
        println!(
            "{}  {}  {:>14}  {}",
            backup.id, backup.time, content.size, volume.name
        );
    }
    // One damaged record does not hide the others.
    for error in records.damaged() {
        eprintln!("{error}");
    }
    Ok(())
}
