//! Backup of one source: an image, an image with a list of extents, or a stream.

use std::io::Read;

use jiff::Timestamp;

use super::base::{choose_base, same_source, unwritten_since};
use super::image::image_into;
use super::listed::{Listed, listed_into};
use super::options::{BackupOptions, BackupReport};
use super::pack::{believe, pack};
use super::protect::Protection;
use super::record::{Entry, load, source_info, volume_id};
use super::stream::stream_into;
use super::task::Stored;
use crate::base::Notice;
use crate::format::{ContentKind, SourceInfo};
use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::repo::{Project, RunLen};
use crate::volume::RawImage;

/// What is backed up.
pub enum Input {
    /// An image file or a block device.
    Image(RawImage),
    /// An image of which a list says what changed.
    Listed(Listed),
    /// Bytes until they end. A read that fails with `WouldBlock` is tried again, unless the backup is to stop.
    Stream(Box<dyn Read + Send>),
}

/// Backs up a source. Nothing is committed unless all of it was read and stored.
pub fn backup(
    project: &Project,
    input: Input,
    options: &BackupOptions,
    context: &Context<'_>,
) -> Result<BackupReport, OpsError> {
    let started = Timestamp::now();
    let mut protection = Protection::begin(project, options, context)?;
    let records = load(project, context)?;
    let (kind, source) = match &input {
        Input::Image(image) => (ContentKind::Image, source_info(image.identity())),
        Input::Listed(listed) => (ContentKind::Image, listed.source_info()),
        Input::Stream(_) => (ContentKind::Stream, SourceInfo::of_kind("stdin")),
    };
    let base = choose_base(&records, options, kind)?;
    let with_list = matches!(input, Input::Listed(_));
    if let Input::Listed(listed) = &input {
        listed.check(project, base)?;
    }
    if !options.volume_chosen {
        same_source(&records, options, &source)?;
    }
    protection.build_on(base);
    let index = protection.index()?;
    believe(&index, options)?;
    let packed = pack(
        project,
        &index,
        &protection,
        options,
        RunLen::Leaf,
        context,
        |task| match (input, base) {
            (Input::Image(image), Some(base)) if unwritten_since(&image, base, options) => {
                context.observer.notice(Notice::SourceUnchanged);
                Ok(Stored {
                    kind: ContentKind::Image,
                    size: base.record.content.size,
                    top: base.top,
                })
            }
            (Input::Image(image), base) => image_into(task, &image, base),
            (Input::Listed(listed), base) => listed_into(task, &listed, base),
            (Input::Stream(source), _) => stream_into(task, source),
        },
    )?;
    context.cancel.check()?;
    let (size, counts) = (packed.stored.size, packed.counts);
    let verified = with_list.then_some(packed.verified);
    let base = base.map(|b| b.id);
    let id = match protection.clear(&index, &[packed.stored])? {
        None => None,
        Some(cleared) => {
            let heads = records.heads();
            let volume = volume_id(&records, &options.volume)?;
            let entry = Entry {
                started,
                packed,
                source,
                base,
                heads,
            };
            let id = entry.commit(project, volume, options, &cleared);
            let stays = protection.committed(&cleared);
            // What failed first is what is told.
            let id = id?;
            stays?;
            Some(id)
        }
    };
    index.close();
    Ok(BackupReport {
        id,
        existing: false,
        snapshot: None,
        size,
        counts,
        base,
        verified,
    })
}
