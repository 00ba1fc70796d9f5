//! The command `init`.

use crate::app::{Failure, InitSummary, Message, RepositorySettings, create};
use crate::base::{ChunkSize, ParityRate};
use crate::cli::console::Console;
use crate::repo::KdfParams;

pub(super) fn init(
    console: &Console,
    settings: &RepositorySettings,
    (chunk_size, parity): (ChunkSize, Option<ParityRate>),
    kdf: KdfParams,
) -> Result<(), Failure> {
    let repository = create(&console.session, settings, chunk_size, kdf, parity)?;
    console.meter.finish();
    console.output.show(&Message::Init(InitSummary {
        repository: settings.location.to_string(),
        repository_id: repository.id().to_string(),
        project: settings.project.clone(),
        chunk_size: chunk_size.bytes(),
    }))
}
