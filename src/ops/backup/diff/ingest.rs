//! Reads a stream of diffs from its beginning to its end, and commits a backup for each.

use std::io::Read;
use std::sync::atomic::AtomicBool;

use super::chain::{DiffChain, DiffInfo, Link};
use crate::format::{ByteString, DiffReader, RbdImage};
use crate::ops::backup::base::{AncestorId, find_base};
use crate::ops::backup::options::{BackupOptions, BackupReport};
use crate::ops::backup::pack::believe;
use crate::ops::backup::protect::Protection;
use crate::ops::backup::record::load;
use crate::ops::cancellable_reader::{CancellableReader, or_cancelled};
use crate::ops::context::Context;
use crate::ops::diff::{DiffSource, reading};
use crate::ops::error::OpsError;
use crate::repo::Project;

/// Backs up every diff of a stream, in turn; reports one each. Those whose snapshot the volume has
/// already, with the same content, are passed over.
///
/// Nothing is stored if the base does not fit, and nothing is committed if the stream is not whole.
pub fn backup_diff(
    project: &Project,
    source: DiffSource<'_>,
    options: &BackupOptions,
    context: &Context<'_>,
) -> Result<Vec<BackupReport>, OpsError> {
    let (name, total) = (source.name(), source.size());
    let origin = source.path();
    let hung_up = AtomicBool::new(false);
    let patient = CancellableReader::new(source, context.cancel).until(&hung_up);
    let told = DiffInfo {
        name: &name,
        total,
        origin,
        hung_up: &hung_up,
    };
    let result = ingest(project, patient, told, options, context);
    or_cancelled(result, context.cancel)
}

fn ingest(
    project: &Project,
    source: impl Read + Send,
    told: DiffInfo<'_>,
    options: &BackupOptions,
    context: &Context<'_>,
) -> Result<Vec<BackupReport>, OpsError> {
    let name = told.name;
    let mut reader = DiffReader::open(source).map_err(reading(name))?;
    let mut protection = Protection::begin(project, options, context)?;
    let records = load(project, context)?;
    let line = DiffChain {
        project,
        options,
        context,
        records: &records,
        image: reader.image().map(RbdImage::from),
        told,
    };
    line.same_image()?;
    if options.dry_run && reader.diffs() > 1 {
        return Err(OpsError::DryRunOfLine {
            name: name.to_owned(),
        });
    }
    let mut index = None;
    let mut members: Vec<Link<'_>> = Vec::new();
    while let Some(header) = reader.next_diff().map_err(reading(name))? {
        let base = match members.last() {
            Some(before) => Some(before.as_ancestor(members.len() - 1)),
            None => find_base(&records, options, &header)?,
        };
        // Only now: what does not fit should cost no time either.
        let index = match &mut index {
            Some(index) => index,
            none => {
                if let Some(AncestorId::Committed(id)) = base.map(|base| base.id) {
                    protection.build_on(records.all().iter().find(|backup| backup.id == id));
                }
                let index = none.insert(protection.index()?);
                believe(index, options)?;
                index
            }
        };
        let named_twice = |member: &Link<'_>| member.header.to == header.to;
        if members.iter().any(named_twice) {
            return Err(OpsError::SnapshotTwice {
                name: name.to_owned(),
                snapshot: ByteString::from(&header.to.unwrap_or_default()[..]).to_string(),
            });
        }
        members.push(line.member(index, &mut protection, &mut reader, header, base)?);
    }
    context.cancel.check()?;
    let Some(index) = index else {
        return Ok(Vec::new());
    };
    let new = members.iter().filter(|member| member.existing.is_none());
    let contents: Vec<_> = new.map(|member| member.packed.stored).collect();
    let cleared = if contents.is_empty() {
        None
    } else {
        protection.clear(&index, &contents)?
    };
    let reports = line.commit(members, cleared.as_ref());
    let stay = cleared.as_ref().map(|c| protection.committed(c));
    let reports = reports?;
    stay.transpose()?;
    index.close();
    Ok(reports)
}
