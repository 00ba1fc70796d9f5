//! The command `label`.

use crate::app::{
    Attempt, Failure, LabelRequest, LabelSummary, Message, RepositorySettings, host_name,
    open_records,
};
use crate::cli::console::Console;
use crate::ops;

pub(super) fn label(
    console: &Console,
    settings: &RepositorySettings,
    request: &LabelRequest,
) -> Result<(), Failure> {
    let (project, records) = open_records(&console.session, settings, Attempt::Label)?;
    // Select all backups first, so that no backup changes if the name of one is mistyped.
    let selected = request.backups.iter().map(|backup| records.select(backup));
    let selected = selected.collect::<Result<Vec<_>, _>>()?;
    let context = console.session.context(Some(&settings.cache_dir));
    let mut messages = Vec::new();
    for backup in selected {
        let mut labels = backup.record.labels.clone();
        for key in &request.remove {
            labels.remove(key);
        }
        labels.extend(request.labels.clone());
        let host = host_name();
        let id = ops::relabel(&project, backup.id, labels.clone(), Some(&host), &context)?;
        messages.push(Message::Label(LabelSummary {
            backup_id: id.to_string(),
            replaces: (id != backup.id).then(|| backup.id.to_string()),
            volume: backup.record.volume.name.clone(),
            labels,
        }));
    }
    console.meter.finish();
    messages
        .iter()
        .try_for_each(|message| console.output.show(message))
}
