//! Reads a range of a backup, without restoring the rest of it.
//!
//! ```text
//! export CUTTLEBONE_PASSWORD=…
//! cargo run --example read_range -- /srv/backup web1 1048576 4096 > range
//! ```

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::sync::Arc;

use cuttlebone::base::{Observer, Silent};
use cuttlebone::repo::{BlobReader, ImageReader, ReadSession, Records, Repository, Worker};
use cuttlebone::storage::LocalBackend;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [directory, backup, offset, length] = arguments.as_slice() else {
        return Err("usage: read_range REPOSITORY BACKUP OFFSET LENGTH".into());
    };
    let (mut offset, length): (u64, u64) = (offset.parse()?, length.parse()?);
    let end = offset.saturating_add(length);
    let password = env::var("CUTTLEBONE_PASSWORD")?;

    let store = Arc::new(LocalBackend::open(directory)?);
    let repository =
        Repository::find(store, None, &Silent)?.unlock(password.as_bytes(), &Silent)?;
    let project = repository.project("default", &Silent)?;

    // The argument is an id or its beginning, VOLUME, VOLUME@SNAPSHOT or VOLUME~N.
    let records = Records::load(&project)?;
    let backup = records.select(backup)?;

    // The session holds a lease, so that no prune deletes the data that we read. It takes the index
    // from a cache directory, or, as here, builds it in memory.
    let trees: Vec<_> = backup.top.into_iter().collect();
    let worker = Worker {
        host: None,
        tool: "read_range example",
    };
    let observer: Arc<dyn Observer> = Arc::new(Silent);
    let session = ReadSession::open(&project, &trees, worker, None, &observer)?;
    let image = ImageReader::new(&BlobReader::under(&session), backup);

    let mut output = io::stdout().lock();
    let mut buffer = vec![0; 1 << 20];
    while offset < end {
        let wanted = usize::try_from(end - offset).unwrap_or(usize::MAX);
        let wanted = wanted.min(buffer.len());
        let read = image.read_at(offset, &mut buffer[..wanted])?;
        if read == 0 {
            break; // The end of the backup.
        }
        output.write_all(&buffer[..read])?;
        offset += read as u64;
    }
    Ok(())
}
