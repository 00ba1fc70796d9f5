//! Restores a backup to an image in a cluster.

use super::task::RestoreReport;
use super::write::restore;
use crate::base::{ImageEvent, Notice};
use crate::format::{ContentKind, DiffHeader};
use crate::ops::attachments::image_metadata;
use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::repo::{Backup, Project};
use crate::volume::{DiffTarget, LiveImage, NamedOutput, OutputStream, RbdErrorKind, RbdImport};

/// Restores a backup to an image in a cluster. If there is no image of that name, it is made as the
/// record describes it. An existing image must have no data, no snapshots and no users; it keeps
/// its parameters, and gets the size of the backup.
///
/// If this fails after the image was made, the image is incomplete, and stays.
pub fn restore_image(
    project: &Project,
    backup: &Backup,
    image: &LiveImage<'_>,
    context: &Context<'_>,
) -> Result<RestoreReport, OpsError> {
    if backup.record.content.kind != ContentKind::Image {
        return Err(OpsError::NotAnImage {
            backup: backup.id.to_string(),
        });
    }
    let size = backup.record.content.size;
    // Read the metadata first: if the key may not read it, no image must be made.
    let metadata = image_metadata(project, backup, context)?;
    match image.require_empty(context.cancel) {
        Err(error) if error.kind == RbdErrorKind::NotFound => {
            let source = backup.record.source.as_ref();
            let parameters = source.and_then(|source| source.image.clone());
            image.create(size, &parameters.unwrap_or_default(), context.cancel)?;
        }
        other => other?,
    }
    let mut import = image.import(context.cancel)?;
    let report = match write(project, backup, image, &mut import, context) {
        Ok(report) => {
            import.finish()?;
            report
        }
        // The error of the `rbd` program explains why it no longer reads the stream.
        Err(OpsError::Volume(error)) => {
            return Err(import.failure().map_or(error.into(), OpsError::from));
        }
        Err(error) => return Err(error),
    };
    for (key, value) in metadata.iter().flat_map(|metadata| &metadata.0) {
        if let Err(error) = image.set_metadata(key, value, context.cancel) {
            let problem = error.to_string();
            let image = image.name();
            let event = ImageEvent::MetadataNotRestored { problem };
            context.observer.notice(Notice::Image { image, event });
        }
    }
    Ok(report)
}

/// Writes all data of the backup as a diff without snapshots.
fn write(
    project: &Project,
    backup: &Backup,
    image: &LiveImage<'_>,
    import: &mut RbdImport,
    context: &Context<'_>,
) -> Result<RestoreReport, OpsError> {
    let header = DiffHeader {
        from: None,
        to: None,
        size: backup.record.content.size,
        protected: None,
    };
    let mut output = NamedOutput::new(import, image.name());
    let target = DiffTarget::new(&mut output, image.name(), &header)?;
    let report = restore(project, backup, &target, context)?;
    drop(target);
    output.finish()?;
    Ok(report)
}
