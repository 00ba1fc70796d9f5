//! Finds the damaged packs that cause the losses of a backup.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::base::ObjectHash;
use crate::ops::affected::LossCause;
use crate::ops::restore::joined;
use crate::repo::BlobLocation;

/// The losses that each damaged pack causes in one backup.
#[derive(Default)]
pub(super) struct Causes(BTreeMap<ObjectHash, LossCause>);

impl Causes {
    /// Adds a part of the content, or of the attachment of this name, that cannot be restored.
    /// `places` are the damaged places of the data of this part. If several packs have the data,
    /// and all of them are damaged, each of them is a cause. It is enough to repair one of these
    /// packs.
    pub(super) fn add(
        &mut self,
        places: &[BlobLocation],
        attachment: Option<&str>,
        range: &Range<u64>,
    ) {
        for at in places {
            let cause = self.0.entry(at.pack()).or_insert_with(|| LossCause {
                pack: at.pack(),
                holes: Vec::new(),
                attachments: Vec::new(),
            });
            match attachment {
                None => cause.holes.push(range.clone()),
                Some(name) if cause.attachments.iter().any(|known| known == name) => {}
                Some(name) => cause.attachments.push(name.to_owned()),
            }
        }
    }

    /// Returns all causes. Joins adjacent parts of the content.
    pub(super) fn all(self) -> Vec<LossCause> {
        let causes = self.0.into_values();
        let joined = causes.map(|cause| LossCause {
            holes: joined(cause.holes),
            ..cause
        });
        joined.collect()
    }
}
