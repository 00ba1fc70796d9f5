//! Reads a stream of diffs from its beginning to its end, and commits a backup for each diff.

use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;

use super::chain::{Base, DiffChain, DiffInfo, Link};
use super::export_info::ExportInfo;
use crate::base::Notice;
use crate::format::{ByteString, DiffReader, ImageDescription, ImageMetadata, RbdImage};
use crate::ops::backup::base::{AncestorId, same_stated};
use crate::ops::backup::content::content;
use crate::ops::backup::options::{BackupOptions, BackupReport};
use crate::ops::backup::present::Present;
use crate::ops::backup::protect::Protection;
use crate::ops::backup::record::load;
use crate::ops::cancellable_reader::CancellableReader;
use crate::ops::context::Context;
use crate::ops::diff_error::reading;
use crate::ops::error::OpsError;
use crate::ops::pipeline::Failed;
use crate::repo::{Project, Records};
use crate::volume::InputStream;

/// Backs up every diff of a stream, oldest first, and returns a report for each. If the volume
/// already has a backup of the diff's snapshot with the same content, does not commit another one.
/// Fails if the volume has backups of this snapshot, but only with other content.
///
/// Nothing is stored if no valid base is found for the first diff. Nothing is committed if the
/// stream is not complete.
pub(crate) fn backup_diffs(
    project: &Project,
    stream: &mut dyn InputStream,
    options: &BackupOptions,
    context: &Context<'_>,
) -> Result<Vec<BackupReport>, OpsError> {
    let (name, total) = (stream.name(), stream.size());
    let origin = stream.path().and_then(|path| path.canonicalize().ok());
    let failed = Failed::default();
    let reader = CancellableReader::new(stream, context.cancel).until(&failed);
    let info = DiffInfo {
        name: &name,
        total,
        origin: origin.map(|path| ByteString::from(path.as_os_str().as_bytes())),
        failed: &failed,
    };
    let mut protection = Protection::begin(project, options, context)?;
    // Load the records before anything of the stream is read, since the new backups follow them.
    let records = load(project, context)?;
    ingest(
        project,
        &mut protection,
        &records,
        reader,
        info,
        None,
        options,
        context,
    )
}

/// Backs up the only diff of a stream that this program has exported from a cluster, like
/// [`backup_diffs`]. The caller must have loaded `records` before it made the snapshot. If the diff
/// is not a full one, `options` must name the base.
pub(crate) fn backup_export(
    project: &Project,
    protection: &mut Protection<'_>,
    records: &Records,
    stream: &mut dyn InputStream,
    export: ExportInfo,
    options: &BackupOptions,
    context: &Context<'_>,
) -> Result<BackupReport, OpsError> {
    let name = stream.name();
    let failed = Failed::default();
    let reader = CancellableReader::new(stream, context.cancel).until(&failed);
    let info = DiffInfo {
        name: &name,
        total: None,
        origin: None,
        failed: &failed,
    };
    let export = Some(export);
    let mut reports = ingest(
        project, protection, records, reader, info, export, options, context,
    )?;
    reports
        .pop()
        .ok_or(OpsError::Internal("an export without a diff"))
}

/// Returns the metadata of an image, or `None` if the image has no metadata.
fn metadata(image: &ImageDescription) -> Option<ImageMetadata> {
    (!image.metadata.is_empty()).then(|| image.metadata.iter().collect())
}

#[expect(
    clippy::too_many_arguments,
    reason = "the parts of one operation, used once each"
)]
fn ingest(
    project: &Project,
    protection: &mut Protection<'_>,
    records: &Records,
    source: impl Read + Send,
    info: DiffInfo<'_>,
    export: Option<ExportInfo>,
    options: &BackupOptions,
    context: &Context<'_>,
) -> Result<Vec<BackupReport>, OpsError> {
    let name = info.name;
    let mut reader = DiffReader::open(source).map_err(reading(name))?;
    let chain = DiffChain {
        project,
        options,
        context,
        records,
        follows: records.unfollowed(&options.volume),
        image: reader.image().map(RbdImage::from),
        metadata: match &export {
            Some(export) => export.metadata.clone(),
            None => reader.image().and_then(metadata),
        },
        info,
        export,
    };
    if chain.export.is_none() {
        chain.require_same_image()?;
        same_stated(records, options)?;
    }
    if options.dry_run && reader.diffs() > 1 {
        return Err(OpsError::DryRunOfChain {
            name: name.to_owned(),
        });
    }
    let mut present: Option<Present<'_>> = None;
    let mut links: Vec<Link<'_>> = Vec::new();
    while let Some(header) = reader.next_diff().map_err(reading(name))? {
        if let Some(export) = &chain.export {
            export.require(name, &header)?;
        }
        let base = match links.last() {
            Some(before) => Base::On(before.as_ancestor(links.len() - 1)),
            None => chain.first_base(&header)?,
        };
        // Open the index only now, so that a stream without a base in the volume fails at once.
        let present = match &mut present {
            Some(present) => present,
            none => {
                let committed = match base.ancestor().map(|base| base.id) {
                    Some(AncestorId::Committed(id)) => records.get(id),
                    _ => None,
                };
                protection.build_on(committed);
                let found = Present::find(protection.index()?, committed, options, context)?;
                none.insert(found)
            }
        };
        let named_twice = |link: &Link<'_>| link.header.to == header.to;
        if links.iter().any(named_twice) {
            return Err(OpsError::SnapshotTwice {
                name: name.to_owned(),
                snapshot: ByteString::from(&header.to.unwrap_or_default()[..]).to_string(),
            });
        }
        let is_head = header.to.is_none();
        let options = present.options(options);
        let (index, reader) = (present.index(), &mut reader);
        let link = chain.store_diff(index, protection, reader, header, base, &options)?;
        match links.last() {
            // The head is the current state of the image. Nothing was written since the last
            // snapshot, so the backup of that snapshot is also a backup of the head.
            Some(before) if is_head && before.same_content(&link) => {}
            Some(_) if is_head && link.existing.is_none() => {
                context.observer.notice(Notice::HeadOfImage);
                links.push(link);
            }
            _ => links.push(link),
        }
    }
    context.cancel.check()?;
    let Some(present) = present else {
        return Ok(Vec::new());
    };
    let new = links.iter().filter(|link| link.existing.is_none());
    let new: Vec<_> = new.map(|link| &link.packed).collect();
    // All of these backups have the same attachments, so collect the tops in a set.
    let tops: BTreeSet<_> = new.iter().flat_map(|packed| packed.tops()).collect();
    let cleared = if new.is_empty() {
        None
    } else {
        protection.clear(present.index(), &Vec::from_iter(tops))?
    };
    let builds_on = |link: &Link<'_>| {
        let builds = matches!(link.base, Base::On(_) | Base::OnByName(_));
        builds.then(|| content(project, &link.packed.stored))
    };
    let contents: Vec<_> = links.iter().map(builds_on).collect();
    let reports = chain.commit(links, cleared.as_ref());
    let stay = cleared.as_ref().map(|c| protection.committed(c));
    let mut reports = reports?;
    stay.transpose()?;
    for (report, content) in reports.iter_mut().zip(&contents) {
        report.damage = present.met(content.as_ref().filter(|_| report.id.is_some()))?;
    }
    present.close();
    Ok(reports)
}
