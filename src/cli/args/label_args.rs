//! The arguments of `label`.

use std::collections::BTreeMap;

use clap::Args;

use crate::app::{Failure, LabelRequest, backup_selector};

use super::backup_args::label;

#[derive(Debug, Args)]
pub(super) struct LabelArgs {
    /// The backups, followed by the labels to add or change. A backup is given as an id or its
    /// beginning, VOLUME, VOLUME@SNAPSHOT or VOLUME~N
    #[arg(value_name = "BACKUP|KEY=VALUE", required = true)]
    words: Vec<String>,
    /// Remove the label of this name; can be repeated
    #[arg(long = "remove", value_name = "KEY")]
    remove: Vec<String>,
}

impl LabelArgs {
    pub(super) fn into_request(self) -> Result<LabelRequest, Failure> {
        let is_label = |word: &&String| word.contains('=');
        let (labels, backups): (Vec<_>, Vec<_>) = self.words.iter().partition(is_label);
        if backups.is_empty() {
            return Err(Failure::usage("no backup is named")
                .hint("name backups before the labels, for example: label web1~1 why=upgrade"));
        }
        if labels.is_empty() && self.remove.is_empty() {
            return Err(Failure::usage("no label is named")
                .hint("give KEY=VALUE to add a label, or --remove KEY"));
        }
        let mut named = BTreeMap::new();
        for word in labels {
            let (key, value) = label(word).map_err(Failure::usage)?;
            if self.remove.contains(&key) || named.insert(key.clone(), value).is_some() {
                return Err(Failure::usage(format!("the label “{key}” is given twice")));
            }
        }
        let backups = backups.into_iter().cloned().map(backup_selector);
        Ok(LabelRequest {
            backups: backups.collect::<Result<_, _>>()?,
            labels: named,
            remove: self.remove,
        })
    }
}
