//! The operation `backup`. Images and streams are backed up here, diffs in the module `diff`.

use jiff::Timestamp;

use super::base::{
    choose_base, list_base, not_of_cluster, same_source, same_stated, unwritten_since,
};
use super::content::content;
use super::diff::backup_diffs;
use super::image::store_image;
use super::listed::{check_list, store_listed};
use super::options::{BackupOptions, BackupReport, not_a_diff, not_empty};
use super::pack::pack;
use super::present::Present;
use super::protect::Protection;
use super::record::{Entry, load, source_info, volume_id};
use super::snapshots::{Taken, notice_labels};
use super::stream::store_stream;
use super::task::{BackupTask, Stored};
use crate::base::{Notice, to_usize};
use crate::format::{ContentKind, SourceInfo};
use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::repo::{Backup, Project, Records, RunLen};
use crate::volume::{Gaps, ImageSource, InputStream, Source, SourceData};

/// Backs up a source. Returns a report for each backup: one for an image or a stream, and one for
/// each diff of a stream of diffs, oldest first.
///
/// A backup is committed only after its whole content is stored.
pub fn backup(
    project: &Project,
    source: &mut dyn Source,
    options: &BackupOptions,
    context: &Context<'_>,
) -> Result<Vec<BackupReport>, OpsError> {
    // Test this before anything is read: if the key may not back up the volume, readers would
    // reject the new record as foreign.
    project
        .may_back_up(&options.volume, &*context.observer)
        .map_err(OpsError::from)?;
    let input = match source.begin()? {
        SourceData::Image(image) => Input::Image(image),
        SourceData::Stream(stream) => Input::Stream(stream),
        SourceData::Diff(stream) => return backup_diffs(project, stream, options, context),
    };
    Ok(vec![backup_input(project, input, options, context)?])
}

/// Fails if the last backups of the volume were made from another source. With a list of extents,
/// the last backups may be of an image in a cluster, since the user states on which backup the list
/// builds.
fn check_source(
    records: &Records,
    options: &BackupOptions,
    source: &SourceInfo,
    name: &str,
    is_listed: bool,
) -> Result<(), OpsError> {
    same_stated(records, options)?;
    if !is_listed {
        not_of_cluster(records, options, name)?;
    }
    if !options.volume_chosen {
        same_source(records, options, source)?;
    }
    Ok(())
}

/// A source with one content.
enum Input<'a> {
    Image(&'a dyn ImageSource),
    Stream(&'a mut dyn InputStream),
}

impl Input<'_> {
    fn kind(&self) -> ContentKind {
        match self {
            Self::Image(_) => ContentKind::Image,
            Self::Stream(_) => ContentKind::Stream,
        }
    }

    /// Returns the image if its changed extents are listed, and `None` otherwise.
    fn listed(&self) -> Option<&dyn ImageSource> {
        match self {
            Self::Image(image) if image.gaps() == Gaps::Unchanged => Some(*image),
            _ => None,
        }
    }

    /// Returns the name that messages use.
    fn name(&self) -> String {
        match self {
            Self::Image(image) => image.name(),
            Self::Stream(stream) => stream.name(),
        }
    }

    fn info(&self, options: &BackupOptions) -> SourceInfo {
        match self {
            Self::Image(image) => match image.identity() {
                Some(identity) => source_info(identity, options.accept.times),
                None => SourceInfo::of_kind("image"),
            },
            Self::Stream(stream) => SourceInfo::of_kind(stream.kind()),
        }
    }

    fn store(
        self,
        task: &BackupTask<'_>,
        base: Option<&Backup>,
        options: &BackupOptions,
    ) -> Result<Stored, OpsError> {
        let image = match self {
            Self::Stream(stream) => return store_stream(task, stream, options),
            Self::Image(image) => image,
        };
        match (image.gaps(), base) {
            (Gaps::Unchanged, base) => store_listed(task, image, base, options.verify_sample),
            (Gaps::Zeros, Some(base)) if unwritten_since(image, base, options) => {
                task.context.observer.notice(Notice::SourceUnchanged);
                Ok(Stored {
                    kind: ContentKind::Image,
                    size: base.record.content.size,
                    top: base.top,
                })
            }
            (Gaps::Zeros, base) => store_image(task, image, base),
        }
    }
}

/// Reads the first bytes of an image, to detect an RBD diff.
fn first_bytes(image: &dyn ImageSource) -> Result<Vec<u8>, OpsError> {
    let mut first = vec![0; to_usize(image.size().min(16))];
    image.read_at(0, &mut first)?;
    Ok(first)
}

fn backup_input(
    project: &Project,
    input: Input<'_>,
    options: &BackupOptions,
    context: &Context<'_>,
) -> Result<BackupReport, OpsError> {
    let started = Timestamp::now();
    let mut protection = Protection::begin(project, options, context)?;
    // Load the records before anything of the source is read, since the new backup follows them.
    let records = load(project, context)?;
    let follows = records.unfollowed(&options.volume);
    let listed = input.listed().is_some();
    let base = match input.listed() {
        Some(image) => {
            let base = list_base(project, &records, options)?;
            check_list(project, image, base)?;
            base
        }
        None => choose_base(project, &records, options, input.kind())?,
    };
    let snapshot = options.stated.to_snapshot.clone();
    let source = SourceInfo {
        snapshot: snapshot.clone(),
        name: options.stated.name.clone(),
        image_id: options.stated.image_id.clone(),
        from_snapshot: base.filter(|_| listed).and_then(Backup::snapshot).cloned(),
        ..input.info(options)
    };
    let name = input.name();
    check_source(&records, options, &source, &name, listed)?;
    let taken = Taken::find(project, &records, options, snapshot.clone());
    if let Input::Image(image) = input {
        not_empty(options, &name, image.size())?;
        if !listed {
            not_a_diff(options, &name, &first_bytes(image)?)?;
        }
        taken.check_size(image.size())?;
    }
    protection.build_on(base);
    let present = Present::find(protection.index()?, base, options, context)?;
    let options = &present.options(options);
    let index = present.index();
    let packed = pack(
        project,
        index,
        &protection,
        &taken.compare_only(options),
        RunLen::Leaf,
        context,
        |task| Ok((input.store(task, base, options)?, Vec::new())),
    )?;
    context.cancel.check()?;
    let (size, counts) = (packed.stored.size, packed.counts);
    not_empty(options, &name, size)?;
    let verified = listed.then_some(packed.verified);
    let base = base.map(|b| b.id);
    let stored = content(project, &packed.stored);
    let existing = taken.same_content(stored.root)?;
    let cleared = if existing.is_some() {
        None
    } else {
        let tops: Vec<_> = packed.tops().collect();
        protection.clear(index, &tops)?
    };
    let time = existing.map_or(started, |existing| existing.time);
    let id = match (existing, cleared) {
        (Some(existing), _) => {
            notice_labels(existing, options, context);
            Some(existing.id)
        }
        (None, None) => None,
        (None, Some(cleared)) => {
            let heads = records.heads();
            let volume = volume_id(&records, &options.volume)?;
            let entry = Entry {
                started,
                packed,
                source,
                base,
                follows,
                heads,
            };
            let id = entry.commit(project, volume, options, &cleared);
            let stays = protection.committed(&cleared);
            // If both failed, report why the commit failed.
            let id = id?;
            stays?;
            Some(id)
        }
    };
    let builds_on = (listed && id.is_some()).then_some(&stored);
    let damage = present.met(builds_on)?;
    present.close();
    Ok(BackupReport {
        list_test: None,
        id,
        existing: existing.is_some(),
        time,
        snapshot,
        size,
        counts,
        base,
        base_by_name: false,
        verified,
        damage,
    })
}
