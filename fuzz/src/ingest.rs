//! Backs up diff streams. If a backup succeeds, its stream is complete, and a restore gives the
//! same bytes as a plain model of the image. If a backup fails, it commits nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use cuttlebone::base::{Cancel, Silent};
use cuttlebone::format::ExtentKind;
use cuttlebone::ops::{self, Accept, BackupOptions, Context, Stated};
use cuttlebone::repo::{Compression, PackSizes, Records, VerifyWrites};
use cuttlebone::volume::{DiffSource, NamedInput, StreamTarget};

use crate::fixture::{Fixture, fixture};
use crate::rbd::{Diff, read};

/// The maximum size of an image that is compared, in bytes. A stream may state any size.
const COMPARED_MAX: u64 = 1 << 20;
/// Maximum number of streams. Further streams are ignored.
const STREAMS_MAX: usize = 6;

/// Backs up streams one after the other to one volume. In the input, each stream is a length
/// (`u16`) and that number of bytes.
pub fn ingest(data: &[u8]) {
    fixture(|f| {
        f.fresh_store();
        // Images by snapshot; `None` for an image that is too large to compare.
        let mut images: HashMap<Vec<u8>, Option<Vec<u8>>> = HashMap::new();
        let mut rest = data;
        for _ in 0..STREAMS_MAX {
            let Some((len, behind)) = rest.split_first_chunk() else {
                break;
            };
            let len = usize::from(u16::from_le_bytes(*len)).min(behind.len());
            let (stream, behind) = behind.split_at(len);
            rest = behind;
            one(f, stream, &mut images);
        }
    });
}

fn one(f: &Fixture, stream: &[u8], images: &mut HashMap<Vec<u8>, Option<Vec<u8>>>) {
    let cancel = Cancel::default();
    let context = Context {
        observer: Arc::new(Silent),
        cancel: &cancel,
        threads: 1,
        cache: None,
    };
    let options = BackupOptions {
        volume: "v".to_owned(),
        volume_chosen: true,
        base: None,
        force_base: false,
        labels: BTreeMap::new(),
        attached: Vec::new(),
        dry_run: false,
        compression: Compression::default(),
        pack_sizes: PackSizes::new(1 << 20, 1, 1),
        reread: false,
        verify_sample: 0,
        verify_writes: VerifyWrites::default(),
        accept: Accept {
            empty: true,
            new_content: true,
            times: false,
            ..Accept::default()
        },
        stated: Stated::default(),
        host: None,
    };
    let committed = || {
        let records = Records::load(&f.project).expect("the records are undamaged");
        records.all().len()
    };
    let before = committed();
    let mut source = DiffSource::new(NamedInput::new(stream, "a stream"));
    let diffs = read(stream);
    let Ok(reports) = ops::backup(&f.project, &mut source, &options, &context) else {
        assert_eq!(committed(), before, "a failure commits nothing");
        return;
    };
    let diffs = diffs.expect("a stream that was backed up is complete");
    // The last of several diffs may lead to the current content of the image. It becomes a backup
    // only if this content differs from the last snapshot.
    let has_head = diffs.len() > 1 && diffs.last().is_some_and(|diff| diff.0.to.is_none());
    let left_out = usize::from(has_head && reports.len() < diffs.len());
    assert_eq!(reports.len() + left_out, diffs.len());
    let records = Records::load(&f.project).expect("the records are undamaged");
    for (report, diff) in reports.iter().zip(&diffs) {
        let base = match &diff.0.from {
            Some(from) => images.get(from).expect("the base has a backup").clone(),
            None => Some(Vec::new()),
        };
        let image = base.and_then(|base| applied(base, diff));
        let id = report.id.expect("this is not a dry run");
        let backup = records.all().iter().find(|backup| backup.id == id);
        let backup = backup.expect("the backup was committed");
        if let Some(image) = &image {
            let mut restored = Vec::new();
            let size = backup.record.content.size;
            let target = StreamTarget::new(&mut restored, "memory", size);
            ops::restore(&f.project, backup, &target, &context).expect("a backup can be restored");
            drop(target);
            assert!(restored == *image, "the restored content differs");
        }
        if let Some(to) = &diff.0.to {
            images.insert(to.clone(), image);
        }
    }
}

/// Applies a diff to an image as `rbd import-diff` does. Returns `None` if the result is larger
/// than [`COMPARED_MAX`].
fn applied(mut image: Vec<u8>, (header, extents): &Diff) -> Option<Vec<u8>> {
    let at = |offset: u64| usize::try_from(offset).ok();
    if header.size > COMPARED_MAX {
        return None;
    }
    image.resize(at(header.size)?, 0);
    for (extent, data) in extents {
        let range = &mut image[at(extent.offset)?..at(extent.end())?];
        match extent.kind {
            ExtentKind::Data => range.copy_from_slice(data),
            ExtentKind::Zero => range.fill(0),
        }
    }
    Some(image)
}
