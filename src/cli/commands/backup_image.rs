//! Backups of images in a Ceph cluster, for the command `backup`.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::backup_jobs::VolumesInUse;
use crate::app::{Code, Failure, ImageRequest, RbdPattern, VolumeName, volume_name};
use crate::base::{ImageEvent, Notice};
use crate::cli::console::Console;
use crate::format::matches_pattern;
use crate::ops::{self, BackupOptions, BackupReport, Context, ImageOfGroup, LiveOptions, OpsError};
use crate::repo::Project;
use crate::volume::{
    FreezeOptions, ImageState, LiveImage, RbdClient, RbdError, RbdErrorKind, RbdOptions, RbdSpec,
};

/// The maximum age of the state of an image when its backup begins. An older state is read again.
/// If the image is replaced after the last reading, the backup fails.
const FRESH: Duration = Duration::from_secs(30);

/// Finds and backs up the images of one cluster.
pub(super) struct Images {
    client: RbdClient,
    keep_snapshots: usize,
    full: bool,
    full_every: Option<NonZeroU64>,
    together: Option<FreezeOptions>,
    allow_mixture: bool,
    /// Set when a request got no answer. No request is made after that, since each would take
    /// minutes.
    is_unreachable: AtomicBool,
    volumes: VolumesInUse,
}

/// An image that a pattern matches.
pub(super) struct FoundImage {
    pub(super) spec: RbdSpec,
    /// The state of the image, and the time at which the state was read. `None` if it was not read.
    state: Option<(ImageState, Instant)>,
}

/// The images that a pattern matches.
pub(super) struct FoundImages {
    pub(super) images: Vec<FoundImage>,
    /// For each pool whose images cannot be listed: the pattern with the pool's name, and why.
    pub(super) failed: Vec<(String, Failure)>,
}

impl Images {
    pub(super) fn new(request: ImageRequest, allow_mixture: bool) -> Self {
        Self {
            client: RbdClient::new(request.cluster),
            keep_snapshots: request.keep_snapshots,
            full: request.full,
            full_every: request.full_every,
            together: request.together,
            allow_mixture,
            is_unreachable: AtomicBool::new(false),
            volumes: VolumesInUse::default(),
        }
    }

    /// Fails if the cluster did not answer an earlier request.
    fn require_reachable(&self, source: impl fmt::Display) -> Result<(), Failure> {
        if !self.is_unreachable.load(Ordering::Relaxed) {
            return Ok(());
        }
        let message = format!("{source} was not tried, since the cluster does not answer");
        Err(Failure::new(Code::Failed, message))
    }

    /// If the error shows that the cluster does not answer, remembers that.
    fn note(&self, error: &RbdError) {
        if error.kind == RbdErrorKind::Unreachable {
            self.is_unreachable.store(true, Ordering::Relaxed);
        }
    }

    /// Returns whether all images are backed up as of one point in time.
    pub(super) fn are_together(&self) -> bool {
        self.together.is_some()
    }

    /// Returns the images that a pattern matches. A pattern without `*` and `?` is the name of one
    /// image, which must exist.
    ///
    /// If the Ceph user may not list the images of one of the pools, the other pools are still
    /// searched. Fails if all pools could be searched and no image was found: then the user has
    /// made a mistake.
    pub(super) fn find(
        &self,
        console: &Console,
        pattern: &RbdPattern,
    ) -> Result<FoundImages, Failure> {
        self.require_reachable(pattern)?;
        let cancel = &console.session.cancel;
        let RbdPattern(spec) = pattern;
        let mut found = FoundImages {
            images: Vec::new(),
            failed: Vec::new(),
        };
        if !pattern.matches_many() {
            let state = self.state(console, spec)?;
            found.images.push(FoundImage {
                spec: spec.clone(),
                state: Some((state, Instant::now())),
            });
            return Ok(found);
        }
        let pools = self.client.pool_names(cancel);
        let pools = pools.inspect_err(|error| self.note(error))?;
        let pools = pools
            .iter()
            .filter(|pool| matches_pattern(&spec.pool, pool));
        for pool in pools {
            let names = self.client.images(pool, spec.namespace.as_deref(), cancel);
            let names = match names {
                // A pool that the pattern matches may lack this namespace, or hold no images.
                Err(error) if spec.pool != *pool && error.is_absent() => continue,
                Err(error) if spec.pool != *pool && error.kind == RbdErrorKind::Denied => {
                    let of = RbdSpec {
                        pool: pool.clone(),
                        ..spec.clone()
                    };
                    found.failed.push((format!("rbd:{of}"), error.into()));
                    continue;
                }
                names => names.inspect_err(|error| self.note(error))?,
            };
            let names = names
                .into_iter()
                .filter(|name| matches_pattern(&spec.image, name));
            found.images.extend(names.map(|image| FoundImage {
                spec: RbdSpec {
                    pool: pool.clone(),
                    image,
                    ..spec.clone()
                },
                state: None,
            }));
        }
        if found.images.is_empty() && found.failed.is_empty() {
            return Err(no_match(pattern, self.client.options()));
        }
        Ok(found)
    }

    fn state(&self, console: &Console, spec: &RbdSpec) -> Result<ImageState, Failure> {
        let image = LiveImage::new(&self.client, spec);
        let state = image.state(&console.session.cancel);
        Ok(state.inspect_err(|error| self.note(error))?)
    }

    /// Returns the state of an image that was found. Asks the cluster again if the state is older
    /// than [`FRESH`], for example because the user typed a password meanwhile.
    fn state_of(&self, console: &Console, found: &FoundImage) -> Result<ImageState, Failure> {
        match &found.state {
            Some((state, read)) if read.elapsed() < FRESH => Ok(state.clone()),
            _ => self.state(console, &found.spec),
        }
    }

    /// Backs up one image. Waits while another thread backs up to the same volume. Returns the name
    /// of the volume, and the report.
    pub(super) fn back_up(
        &self,
        console: &Console,
        project: &Project,
        found: &FoundImage,
        volume: &VolumeName,
        options: &BackupOptions,
        context: &Context<'_>,
    ) -> Result<(String, BackupReport), Failure> {
        let spec = &found.spec;
        self.require_reachable(format!("rbd:{spec}"))?;
        let image = LiveImage::new(&self.client, spec);
        let state = self.state_of(console, found)?;
        let options = options_of(project, &image, &state, volume, options, context)?;
        let live = self.live_options(spec);
        let claimed = self.volumes.claim(&options.volume, context.cancel);
        let _in_use = claimed.map_err(OpsError::from)?;
        let report = ops::backup_image(project, &image, &state, &live, &options, context);
        let report = report.inspect_err(|error| {
            if let OpsError::Rbd(error) = error {
                self.note(error);
            }
        })?;
        Ok((options.volume, report))
    }

    fn live_options(&self, spec: &RbdSpec) -> LiveOptions {
        LiveOptions {
            snapshot: spec.snapshot.clone(),
            keep_snapshots: self.keep_snapshots,
            full: self.full,
            full_every: self.full_every,
            allow_mixture: self.allow_mixture,
            point: None,
        }
    }

    /// Backs up images as of one point in time. Calls `each` for every image with its number, its
    /// volume and the result. Fails if an image cannot be opened, or if not all snapshots can be
    /// made. In these cases, no snapshot stays, and no image is backed up. Also fails at the first
    /// error of `each`.
    pub(super) fn back_up_together(
        &self,
        console: &Console,
        project: &Project,
        found: &[(FoundImage, VolumeName)],
        options: &BackupOptions,
        context: &Context<'_>,
        mut each: impl FnMut(usize, &str, Result<BackupReport, Failure>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let Some(freeze) = &self.together else {
            return Ok(());
        };
        let mut opened = Vec::new();
        for (found, _) in found {
            opened.push((
                LiveImage::new(&self.client, &found.spec),
                self.state_of(console, found)?,
            ));
        }
        let mut images: Vec<ImageOfGroup<'_>> = Vec::new();
        for ((image, state), (FoundImage { spec, .. }, volume)) in opened.iter().zip(found) {
            let same = |of: &ImageOfGroup<'_>| of.state.identity.same_image(&state.identity);
            if images.iter().any(same) {
                return Err(Failure::usage(format!("rbd:{spec} is named twice"))
                    .hint("name each image once"));
            }
            images.push(ImageOfGroup {
                image,
                state,
                live: self.live_options(spec),
                options: options_of(project, image, state, volume, options, context)?,
            });
        }
        let volumes: Vec<_> = images.iter().map(|of| of.options.volume.clone()).collect();
        ops::backup_together(project, &mut images, freeze, context, |number, result| {
            each(number, &volumes[number], result.map_err(Failure::from))
        })
    }
}

/// Returns the options for one image, with the name of its volume.
fn options_of(
    project: &Project,
    image: &LiveImage<'_>,
    state: &ImageState,
    volume: &VolumeName,
    options: &BackupOptions,
    context: &Context<'_>,
) -> Result<BackupOptions, Failure> {
    let volume = match volume {
        VolumeName::Chosen(name) | VolumeName::OfFile(name) => name.clone(),
        VolumeName::OfImage => volume_of(project, image, state, context)?,
    };
    Ok(BackupOptions {
        volume,
        ..options.clone()
    })
}

/// Returns the name of the volume with the earlier backups of an image. If there are none, returns
/// the name of the image.
fn volume_of(
    project: &Project,
    image: &LiveImage<'_>,
    state: &ImageState,
    context: &Context<'_>,
) -> Result<String, Failure> {
    let name = image.name();
    let Some(volume) = ops::volume_of_image(project, &state.identity, context)? else {
        return volume_name(name);
    };
    if volume != name {
        let volume = volume.clone();
        let event = ImageEvent::Continues { volume };
        context
            .observer
            .notice(Notice::Image { image: name, event });
    }
    Ok(volume)
}

/// Returns the failure to report if no image matches a pattern.
pub(super) fn no_match(pattern: &RbdPattern, options: &RbdOptions) -> Failure {
    Failure::new(Code::Failed, format!("no image matches “{pattern}”")).hint(format!(
        "“{} ls POOL” shows the images of a pool",
        options.shown()
    ))
}
