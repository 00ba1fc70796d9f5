//! The source of a diff that this program has exported from a cluster.

use jiff::Timestamp;

use super::listed_changes::ListedChanges;
use crate::format::{ByteString, DiffHeader, ImageMetadata, RbdIdentity, RbdImage, SourceInfo};
use crate::ops::backup::options::ListTest;
use crate::ops::error::OpsError;
use crate::ops::image_backups::{DISTRUSTED, VERIFIED};

/// The value of `source.kind` in the record of a backup of an image in a cluster.
const KIND: &str = "rbd";
/// The value of `consistency` for a snapshot that may lack data that the users of the image had not
/// written yet.
const CRASH: &str = "crash";
/// The value of `consistency` for a snapshot that was made after the users of the image had written
/// all their data.
const QUIESCED: &str = "quiesced";

/// The image and the snapshots of an export, as the cluster described them.
pub(crate) struct ExportInfo {
    /// The identity of the image and of the snapshot to which the diff leads.
    pub(crate) identity: RbdIdentity,
    pub(crate) image: RbdImage,
    pub(crate) metadata: Option<ImageMetadata>,
    /// The snapshot from which the diff starts; `None` for a full diff.
    pub(crate) from: Option<String>,
    /// The snapshot to which the diff leads.
    pub(crate) to: String,
    /// The size of the image in the snapshot `to`, in bytes.
    pub(crate) size: u64,
    /// Whether the snapshot `to` is protected.
    pub(crate) protected: bool,
    /// When this program began to make the snapshot `to`; `None` if another program, or an earlier
    /// run, made it.
    pub(crate) time: Option<Timestamp>,
    /// A random name that all backups of the same point in time share; `None` if the image was
    /// backed up alone.
    pub(crate) group: Option<String>,
    /// Whether the users of the image had written everything when the snapshot was made.
    pub(crate) is_quiesced: bool,
    /// The changes since the snapshot of an earlier backup, as the cluster lists them. `None`
    /// unless all data is read to compare it with this list.
    pub(crate) listed: Option<ListedChanges>,
    /// Whether an earlier backup has found that the cluster's lists of changes of this image are
    /// incomplete, and no later one has verified them.
    pub(crate) is_distrusted: bool,
    /// Whether the new backup may have other content than an earlier backup of the same snapshot.
    /// True if the earlier one relied on lists of changes, and the new one reads all data.
    pub(crate) may_correct: bool,
    /// The number of backups in a row, up to this one, that read only changes.
    pub(crate) changes_in_row: u64,
}

impl ExportInfo {
    /// Fails unless the diff has the snapshots and the size of this export. `name` is the name of
    /// the stream.
    pub(super) fn require(&self, name: &str, header: &DiffHeader) -> Result<(), OpsError> {
        let wrong = |why| {
            let name = name.to_owned();
            Err(OpsError::WrongExport { name, why })
        };
        let shown = |name: Option<&[u8]>| match name {
            Some(name) => format!("snapshot {}", ByteString::from(name)),
            None => "nothing".to_owned(),
        };
        let (from, to) = (header.from.as_deref(), header.to.as_deref());
        if from != self.from.as_deref().map(str::as_bytes) {
            return wrong(format!("it starts from {}", shown(from)));
        }
        if to != Some(self.to.as_bytes()) {
            return wrong(format!("it ends at {}", shown(to)));
        }
        if header.size != self.size {
            let (found, expected) = (header.size, self.size);
            return wrong(format!(
                "it has {found} bytes, but the snapshot has {expected}"
            ));
        }
        Ok(())
    }

    /// Describes the source for the record. `tested` is the result of the comparison with the
    /// cluster's list of changes.
    pub(super) fn source(&self, header: &DiffHeader, tested: Option<&ListTest>) -> SourceInfo {
        let change_list = match tested {
            Some(ListTest::Compared { missed: None, .. }) => Some(VERIFIED),
            Some(ListTest::Compared { .. }) => Some(DISTRUSTED),
            Some(ListTest::Failed(_)) | None => self.is_distrusted.then_some(DISTRUSTED),
        };
        let named = |name: &Option<Vec<u8>>| name.as_deref().map(ByteString::from);
        SourceInfo {
            image_id: Some(self.identity.image_id.clone()),
            snapshot: named(&header.to),
            protected: Some(self.protected),
            from_snapshot: named(&header.from),
            image: Some(self.image.clone()),
            rbd: Some(self.identity.clone()),
            group: self.group.clone(),
            consistency: Some(if self.is_quiesced { QUIESCED } else { CRASH }.to_owned()),
            changes_in_row: Some(self.changes_in_row),
            change_list: change_list.map(str::to_owned),
            ..SourceInfo::of_kind(KIND)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_of_other_snapshots_or_of_another_size_is_refused() {
        let export = ExportInfo {
            identity: RbdIdentity::default(),
            image: RbdImage::default(),
            metadata: None,
            from: Some("a".to_owned()),
            to: "b".to_owned(),
            size: 5,
            protected: false,
            time: None,
            group: None,
            is_quiesced: false,
            listed: None,
            is_distrusted: false,
            may_correct: false,
            changes_in_row: 0,
        };
        let name = |name: &str| Some(name.as_bytes().to_vec());
        let right = DiffHeader {
            from: name("a"),
            to: name("b"),
            size: 5,
            protected: None,
        };
        export.require("vms/a", &right).unwrap();
        for wrong in [
            DiffHeader {
                from: None,
                ..right.clone()
            },
            DiffHeader {
                from: name("b"),
                ..right.clone()
            },
            DiffHeader {
                to: None,
                ..right.clone()
            },
            DiffHeader {
                to: name("a"),
                ..right.clone()
            },
            DiffHeader {
                size: 4,
                ..right.clone()
            },
        ] {
            let error = export.require("vms/a", &wrong).unwrap_err();
            assert!(matches!(error, OpsError::WrongExport { .. }), "{wrong:?}");
        }
    }
}
