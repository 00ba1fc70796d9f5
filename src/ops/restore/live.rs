//! Restores a backup to a new or empty image in a cluster.

use super::task::RestoreReport;
use super::write::restore;
use crate::base::{ImageEvent, Notice};
use crate::format::{ByteString, ContentKind, DiffHeader, ImageMetadata, RbdImage};
use crate::ops::attachments::image_metadata;
use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::repo::{Backup, Project};
use crate::volume::{DiffTarget, LiveImage, NamedOutput, OutputStream, RbdErrorKind, RbdImport};

/// The properties of a new image that are to differ from those of the image that was backed up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageTarget {
    /// Parameters in place of those in the record.
    pub parameters: RbdImage,
    /// Leave out the metadata of the backup.
    pub no_metadata: bool,
    /// Metadata in addition to that of the backup, or in its place.
    pub metadata: Vec<(ByteString, ByteString)>,
}

/// Restores a backup to an image in a cluster. If there is no image of that name, it is made as the
/// record and `target` describe it. An existing image must have no data, no snapshots and no users,
/// and `target` must set no parameters. The image keeps its parameters, and gets the size of the
/// backup.
///
/// If this fails after the image was made or changed, the image is incomplete, and stays.
pub fn restore_image(
    project: &Project,
    backup: &Backup,
    image: &LiveImage<'_>,
    target: &ImageTarget,
    context: &Context<'_>,
) -> Result<RestoreReport, OpsError> {
    let metadata = prepare(project, backup, image, target, &[], context)?;
    let header = DiffHeader {
        from: None,
        to: None,
        size: backup.record.content.size,
        protected: None,
    };
    let report = write_diff(image, context, |output| {
        let target = DiffTarget::new(output, image.name(), &header)?;
        restore(project, backup, &target, context)
    })?;
    restore_metadata(image, &metadata, context);
    Ok(report)
}

/// Makes the image, unless there is an empty one. Returns the metadata for it. If an existing image
/// has a snapshot with a name in `snapshots`, the error names it.
pub(super) fn prepare(
    project: &Project,
    backup: &Backup,
    image: &LiveImage<'_>,
    target: &ImageTarget,
    snapshots: &[Vec<u8>],
    context: &Context<'_>,
) -> Result<ImageMetadata, OpsError> {
    if backup.record.content.kind != ContentKind::Image {
        return Err(OpsError::NotAnImage {
            backup: backup.id.to_string(),
        });
    }
    // Read the metadata first: if the key may not read it, no image must be made.
    let recorded = if target.no_metadata {
        None
    } else {
        image_metadata(project, backup, context)?
    };
    let is_chosen = |key: &ByteString| target.metadata.iter().any(|(chosen, _)| chosen == key);
    let mut metadata = recorded.unwrap_or_default();
    metadata.0.retain(|(key, _)| !is_chosen(key));
    metadata.0.extend(target.metadata.iter().cloned());
    match image.require_empty(snapshots, context.cancel) {
        Err(error) if error.kind == RbdErrorKind::NotFound => {
            let source = backup.record.source.as_ref();
            let recorded = source.and_then(|source| source.image.clone());
            let parameters = overridden(recorded.unwrap_or_default(), &target.parameters);
            image.create(backup.record.content.size, &parameters, context.cancel)?;
        }
        other => {
            other?;
            if target.parameters != RbdImage::default() {
                let name = image.name();
                return Err(OpsError::ExistingParameters { name });
            }
        }
    }
    Ok(metadata)
}

/// Returns the recorded parameters. Those that `chosen` sets replace the recorded ones.
fn overridden(recorded: RbdImage, chosen: &RbdImage) -> RbdImage {
    RbdImage {
        order: chosen.order.or(recorded.order),
        features: chosen.features.or(recorded.features),
        stripe_unit: chosen.stripe_unit.or(recorded.stripe_unit),
        stripe_count: chosen.stripe_count.or(recorded.stripe_count),
        data_pool: chosen.data_pool.clone().or(recorded.data_pool),
    }
}

/// Sets the metadata of a restored image. Reports failures as notices, since the content is
/// complete.
pub(super) fn restore_metadata(
    image: &LiveImage<'_>,
    metadata: &ImageMetadata,
    context: &Context<'_>,
) {
    for (key, value) in &metadata.0 {
        if let Err(error) = image.set_metadata(key, value, context.cancel) {
            let problem = error.to_string();
            let image = image.name();
            let event = ImageEvent::MetadataNotRestored { problem };
            context.observer.notice(Notice::Image { image, event });
        }
    }
}

/// Starts `rbd import-diff`, and calls `write` to write a diff for it. Fails unless the program
/// succeeds.
pub(super) fn write_diff<T>(
    image: &LiveImage<'_>,
    context: &Context<'_>,
    write: impl FnOnce(&mut NamedOutput<&mut RbdImport>) -> Result<T, OpsError>,
) -> Result<T, OpsError> {
    let mut import = image.import(context.cancel)?;
    let mut output = NamedOutput::new(&mut import, image.name());
    let written = write(&mut output).and_then(|written| {
        output.finish()?;
        Ok(written)
    });
    match written {
        Ok(written) => {
            import.finish()?;
            Ok(written)
        }
        // The error of the `rbd` program explains why it no longer reads the stream.
        Err(OpsError::Volume(error)) => Err(import.failure().map_or(error.into(), OpsError::from)),
        Err(error) => Err(error),
    }
}
