//! Commits the diffs of one stream, oldest first.

use super::chain::{Base, DiffChain, KIND, Link};
use crate::format::{ByteString, SourceInfo};
use crate::ops::backup::base::AncestorId;
use crate::ops::backup::options::BackupReport;
use crate::ops::backup::record::{Entry, volume_id};
use crate::ops::backup::snapshots::notice_labels;
use crate::ops::error::OpsError;
use crate::repo::CommitPermit;

impl DiffChain<'_> {
    /// Commits a backup for each diff, oldest first, unless the volume has such a backup already.
    /// Commits nothing if `cleared` is `None`: then this is a dry run, or the volume has all
    /// backups. Returns a report for each diff.
    pub(super) fn commit(
        &self,
        links: Vec<Link<'_>>,
        cleared: Option<&CommitPermit>,
    ) -> Result<Vec<BackupReport>, OpsError> {
        let volume = volume_id(self.records, &self.options.volume)?;
        let mut heads = self.records.heads();
        let mut follows = self.follows.clone();
        let mut reports: Vec<BackupReport> = Vec::new();
        for link in links {
            let base_by_name = matches!(link.base, Base::OnByName(_));
            let base = link.base.ancestor().and_then(|base| match base.id {
                AncestorId::Committed(id) => Some(id),
                AncestorId::Link(number) => reports.get(number).and_then(|report| report.id),
            });
            let named = |name: &Option<Vec<u8>>| name.as_deref().map(ByteString::from);
            let snapshot = named(&link.header.to);
            let (size, counts) = (link.packed.stored.size, link.packed.counts);
            let time = link.existing.map_or(link.started, |existing| existing.time);
            let id = match (link.existing, cleared) {
                (Some(existing), _) => {
                    notice_labels(existing, self.options, self.context);
                    Some(existing.id)
                }
                (None, None) => None,
                (None, Some(cleared)) => {
                    let entry = Entry {
                        started: link.started,
                        packed: link.packed,
                        source: match &self.export {
                            Some(export) => export.source(&link.header, link.list_test.as_ref()),
                            None => SourceInfo {
                                name: self.options.stated.name.clone(),
                                image_id: self.options.stated.image_id.clone(),
                                path: self.info.origin.clone(),
                                snapshot: snapshot.clone(),
                                protected: link.header.protected,
                                from_snapshot: named(&link.header.from),
                                image: self.image.clone(),
                                ..SourceInfo::of_kind(KIND)
                            },
                        },
                        base,
                        follows: std::mem::take(&mut follows),
                        heads: std::mem::take(&mut heads),
                    };
                    let id = entry.commit(self.project, volume, self.options, cleared)?;
                    follows.push(id);
                    heads.push(id);
                    Some(id)
                }
            };
            reports.push(BackupReport {
                id,
                existing: link.existing.is_some(),
                time,
                snapshot,
                size,
                counts,
                base,
                base_by_name,
                verified: None,
                damage: None,
                list_test: link.list_test,
            });
        }
        Ok(reports)
    }
}
