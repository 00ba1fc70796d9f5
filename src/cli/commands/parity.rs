//! The command `parity set`.

use std::time::Instant;

use crate::app::{
    Attempt, Code, Failure, Message, ParitySummary, RepositorySettings, count, open_project,
};
use crate::base::ParityRate;
use crate::cli::console::Console;
use crate::ops;

pub(super) fn set_parity(
    console: &Console,
    settings: &RepositorySettings,
    rate: Option<ParityRate>,
) -> Result<(), Failure> {
    let started = Instant::now();
    let (_, project) = open_project(&console.session, settings, Attempt::SetParity)?;
    let context = console.session.context(Some(&settings.cache_dir));
    let added = ops::add_parity(&project, rate, &context)?;
    console.meter.finish();
    console.output.show(&Message::Parity(ParitySummary {
        rate: rate.map_or(0, ParityRate::percent),
        objects_added: added.added,
        bytes_stored: added.bytes,
        objects_kept: added.kept,
        objects_damaged: added.damaged,
        duration: started.elapsed().as_secs_f64(),
    }))?;
    if added.damaged == 0 {
        return Ok(());
    }
    let objects = count(added.damaged, "object");
    Err(Failure::new(
        Code::Damage,
        format!("could not add parity to {objects} because of damage"),
    )
    .hint("run “cuttlebone check”, and then this command again"))
}
