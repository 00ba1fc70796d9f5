//! The command `backup`.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::backup_image::{FoundImage, Images};
use super::backup_jobs::SumOfJobs;
use crate::app::{
    Attempt, BackupRequest, BackupSource, BackupSummary, ClientMemory, Code, Failure, Message,
    MetDamageEntry, ReadFrom, RepositorySettings, RequestedSource, VolumeName, affected_entry,
    count, hole_extents, host_name, lost_parts, open_ahead, open_or_create, printable, project,
    read_attached, short_id,
};
use crate::base::{Notice, child_command, join, lock, map_in_threads, recover};
use crate::cli::console::Console;
use crate::ops::{self, BackupReport, ListTest};
use crate::repo::{self, Project};
use crate::volume::{
    CommandSource, DiffSource, InputFile, InputStream, ListedImage, RawImage, RbdSpec, Source,
    StreamSource,
};

use super::cache::cache_path;
use super::diff_files::{open_diff, stdin};
use super::failed::Failed;
use super::restore::{describe, interrupted_restore};

/// The next step after some sources failed.
const AGAIN: &str = "the reasons are above. All other backups are done. Run the command again for \
    the sources that failed";

pub(super) fn backup(
    console: &Console,
    settings: &RepositorySettings,
    request: BackupRequest,
) -> Result<(), Failure> {
    let mut started = Instant::now();
    let jobs = request.images.jobs;
    let images = Images::new(request.images, request.allow_interrupted_restore);
    let attached = read_attached(&request.attached)?;
    let sources = request.sources;
    let mut failed = Failed::new(AGAIN, sources.len() > 1);
    // Requests to a cluster take about as long as deriving the key. So both run at the same time.
    let in_cluster = |of: &RequestedSource| matches!(of.source, BackupSource::Rbd(_));
    let has_image = sources.iter().any(in_cluster);
    let opening = || {
        if !has_image {
            return Ok(None);
        }
        open_ahead(&console.session, settings, Attempt::Backup)
    };
    let allow = request.allow_interrupted_restore;
    let prepare = || prepare_all(console, &images, sources, allow, &mut failed);
    // Open the sources first: if the name of one is mistyped, the program must neither ask for a
    // password nor create a repository.
    let (repository, items) = join(opening, prepare);
    let items = items?;
    failed.several |= items.len() > 1;
    if items.is_empty() {
        return failed.result(0);
    }
    let create = request.init && !request.dry_run;
    let (repository, is_new) = match repository? {
        Some(repository) => (repository, false),
        None => open_or_create(&console.session, settings, Attempt::Backup, create)?,
    };
    if is_new {
        let (at, project) = (&settings.location, &settings.project);
        console.meter.note(&format!(
            "there was no repository: created {at} with project {project}"
        ));
    }
    let mut project = project(&console.session, settings, Attempt::Backup, &repository)?;
    project.share_pack_memory(jobs.min(NonZeroUsize::new(items.len()).unwrap_or(jobs)));
    let options = ops::BackupOptions {
        volume: String::new(),
        volume_chosen: true,
        base: request.base,
        force_base: request.force_base,
        labels: request.labels,
        attached,
        dry_run: request.dry_run,
        compression: request.compression,
        pack_sizes: repo::PackSizes::default(),
        verify_writes: request.verify_writes,
        reread: request.reread,
        verify_sample: 0,
        accept: request.accept,
        stated: request.stated,
        host: Some(host_name()),
    };
    let run = Run {
        console,
        settings,
        project: &project,
        images: &images,
        options,
        showing: Mutex::default(),
    };
    let mut done = 0;
    if images.are_together() {
        done = run.back_up_together(items, &mut failed)?;
        return failed.result(done);
    }
    let mut items = items.into_iter().peekable();
    while let Some(item) = items.next() {
        let (name, volume) = (item.name, item.volume);
        match item.source {
            ItemSource::Opened(source) => {
                let result = run.back_up(&name, volume, source, started);
                console.meter.finish();
                done += usize::from(failed.note(console, &name, result)?);
            }
            ItemSource::Image(found) => {
                let mut images = vec![(name, volume, found)];
                while let Some(next) = items.next_if(|next| !next.is_opened()) {
                    if let ItemSource::Image(found) = next.source {
                        images.push((next.name, next.volume, found));
                    }
                }
                done += run.back_up_images(&images, jobs.get(), started, &mut failed)?;
            }
        }
        started = Instant::now();
    }
    failed.result(done)
}

/// A source that is ready to be backed up.
struct Item {
    /// The name of the source in messages.
    name: String,
    volume: VolumeName,
    source: ItemSource,
}

impl Item {
    fn is_opened(&self) -> bool {
        matches!(self.source, ItemSource::Opened(_))
    }
}

enum ItemSource {
    Opened(OpenedSource),
    Image(Box<FoundImage>),
}

struct OpenedSource {
    source: Box<dyn Source>,
    verify_sample: u64,
}

/// Opens all sources. Adds those that cannot be opened to `failed`.
fn prepare_all(
    console: &Console,
    images: &Images,
    sources: Vec<RequestedSource>,
    allow_interrupted_restore: bool,
    failed: &mut Failed,
) -> Result<Vec<Item>, Failure> {
    let mut items = Vec::new();
    for requested in sources {
        let name = requested.source.to_string();
        let mut unlisted = Vec::new();
        let allow = allow_interrupted_restore;
        match prepare(console, images, requested, allow, &mut unlisted) {
            Ok(prepared) => items.extend(prepared),
            Err(failure) => failed.add(console, name, failure)?,
        }
        for (pool, failure) in unlisted {
            failed.several = true;
            failed.add(console, pool, failure)?;
        }
    }
    Ok(items)
}

/// Opens a source. Returns several items if the source is a pattern that matches several images.
/// Adds pools whose images cannot be listed to `unlisted`.
fn prepare(
    console: &Console,
    images: &Images,
    RequestedSource { source, volume }: RequestedSource,
    allow_interrupted_restore: bool,
    unlisted: &mut Vec<(String, Failure)>,
) -> Result<Vec<Item>, Failure> {
    if let BackupSource::Rbd(pattern) = &source {
        let found = images.find(console, pattern)?;
        unlisted.extend(found.failed);
        let item = |found: FoundImage| Item {
            name: format!("rbd:{}", found.spec),
            volume: volume.clone(),
            source: ItemSource::Image(Box::new(found)),
        };
        return Ok(found.images.into_iter().map(item).collect());
    }
    if !allow_interrupted_restore {
        refuse_interrupted_restore(console, &source)?;
    }
    let opened = open_source(console, &source);
    let opened = OpenedSource {
        source: opened.map_err(|failure| failure.hint_if(image_instead(&source)))?,
        verify_sample: match source {
            BackupSource::Listed { verify_sample, .. } => verify_sample,
            _ => 0,
        },
    };
    Ok(vec![Item {
        name: source.to_string(),
        volume,
        source: ItemSource::Opened(opened),
    }])
}

/// Returns a hint if the source is a relative path that does not exist and that could be the name
/// of an image in a cluster. `None` otherwise.
fn image_instead(source: &BackupSource) -> Option<String> {
    let BackupSource::Whole(ReadFrom::Path(path)) = source else {
        return None;
    };
    if path.symlink_metadata().is_ok() || !path.is_relative() {
        return None;
    }
    let spec = RbdSpec::parse(path.to_str()?)?;
    let is_step = |name: &str| matches!(name, "." | "..");
    (!is_step(&spec.pool)).then(|| format!("for an image of a Ceph cluster, write rbd:{spec}"))
}

/// The values that all backups of one run of the command share.
struct Run<'a> {
    console: &'a Console,
    settings: &'a RepositorySettings,
    project: &'a Project,
    images: &'a Images,
    options: ops::BackupOptions,
    /// Locked while a result is shown.
    showing: Mutex<()>,
}

impl Run<'_> {
    /// Backs up images as of one point in time and shows the results. Returns how many succeeded.
    /// Fails if one of the images could not be opened.
    fn back_up_together(&self, items: Vec<Item>, failed: &mut Failed) -> Result<usize, Failure> {
        let (console, project) = (self.console, self.project);
        if !failed.names.is_empty() {
            // Without one of the images, there is no common point in time.
            let message = "some images cannot be opened, so none was backed up";
            return Err(Failure::new(Code::Failed, message).hint("the reasons are above"));
        }
        let context = console.session.context(Some(&self.settings.cache_dir));
        let (mut names, mut found) = (Vec::new(), Vec::new());
        for item in items {
            if let ItemSource::Image(image) = item.source {
                names.push(item.name);
                found.push((*image, item.volume));
            }
        }
        let (mut done, mut started) = (0, Instant::now());
        let each = |number: usize, volume: &str, result: Result<BackupReport, Failure>| {
            console.meter.finish();
            let shown = result.and_then(|report| {
                self.remember(volume, std::slice::from_ref(&report));
                self.show(volume, &[report], started)
            });
            started = Instant::now();
            done += usize::from(failed.note(console, &names[number], shown)?);
            Ok(())
        };
        let (images, options) = (self.images, &self.options);
        images.back_up_together(console, project, &found, options, &context, each)?;
        Ok(done)
    }

    /// Backs up images, `jobs` of them at the same time, and shows each result as soon as it is
    /// known. Returns how many succeeded. `started` is when the work on the first image began.
    fn back_up_images(
        &self,
        images: &[(String, VolumeName, Box<FoundImage>)],
        jobs: usize,
        started: Instant,
        failed: &mut Failed,
    ) -> Result<usize, Failure> {
        let (console, project) = (self.console, self.project);
        let jobs = jobs.min(images.len());
        let mut context = console.session.context(Some(&self.settings.cache_dir));
        // All jobs together use about as many threads as one backup.
        context.threads = context.threads.div_ceil(jobs);
        let sum = SumOfJobs::new(Arc::clone(&context.observer));
        let first = Mutex::new(Some(started));
        let failed = Mutex::new(failed);
        let each = |(name, volume, found): &(String, VolumeName, Box<FoundImage>)| {
            let started = lock(&first).take().unwrap_or_else(Instant::now);
            let mut context = context.clone();
            if jobs > 1 {
                context.observer = sum.job();
            }
            let (images, options) = (self.images, &self.options);
            let result = images.back_up(console, project, found, volume, options, &context);
            if let Ok((volume, report)) = &result {
                // This can print a notice, which is not possible while the progress bar is
                // suspended.
                self.remember(volume, std::slice::from_ref(report));
            }
            let show = || {
                let shown = result.and_then(|(volume, report)| {
                    self.show(&volume, std::slice::from_ref(&report), started)
                });
                let mut failed = lock(&failed);
                let shown = shown.map_err(|mut failure| {
                    // If several images are backed up at the same time, the order of the messages
                    // does not show which image this failure is of.
                    let image = printable(name.trim_start_matches("rbd:"));
                    if jobs > 1 && failed.several && !failure.message.contains(&image) {
                        failure.message = format!("{image}: {}", failure.message);
                    }
                    failure
                });
                failed.note(console, name, shown)
            };
            if jobs == 1 {
                console.meter.finish();
                return show();
            }
            let _one_at_a_time = lock(&self.showing);
            console.meter.suspended(show)
        };
        let results = map_in_threads(images, jobs, each, Result::is_err);
        let failed = recover(failed.into_inner());
        failed.sort_as(images.iter().map(|(name, ..)| name));
        let mut done = 0;
        for result in results {
            done += usize::from(result?);
        }
        Ok(done)
    }

    /// Backs up one source and shows the new backups. If that succeeds, returns what
    /// [`show`](Self::show) returns.
    fn back_up(
        &self,
        name: &str,
        volume: VolumeName,
        mut opened: OpenedSource,
        started: Instant,
    ) -> Result<Option<Failure>, Failure> {
        let (console, project) = (self.console, self.project);
        let context = console.session.context(Some(&self.settings.cache_dir));
        let (volume, volume_chosen) = match volume {
            VolumeName::Chosen(name) => (name, true),
            VolumeName::OfFile(name) => (name, false),
            // This does not occur: only an image in a cluster has this kind of name.
            VolumeName::OfImage => (name.to_owned(), false),
        };
        let options = ops::BackupOptions {
            volume,
            volume_chosen,
            verify_sample: opened.verify_sample,
            ..self.options.clone()
        };
        let reports = ops::backup(project, &mut *opened.source, &options, &context)?;
        self.remember(&options.volume, &reports);
        console.meter.finish();
        self.show(&options.volume, &reports, started)
    }

    /// Adds the new backups to the client memory, the file that shows this host which backups it
    /// has seen.
    fn remember(&self, volume: &str, reports: &[BackupReport]) {
        let memory = ClientMemory::new(&self.console.session, self.settings);
        let new = reports.iter().filter(|report| !report.existing);
        for report in new {
            if let Some(id) = report.id {
                memory.remember_backup(self.project, id, volume, report.time);
            }
        }
    }

    /// Shows the new backups of one source. Fails if one of them is incomplete because of damage in
    /// the repository. Otherwise, returns the failure to report for a backup which found that
    /// earlier ones are damaged or may lack changes. `None` if there is nothing to report.
    fn show(
        &self,
        volume: &str,
        reports: &[BackupReport],
        started: Instant,
    ) -> Result<Option<Failure>, Failure> {
        let Self {
            console,
            settings,
            project,
            ..
        } = *self;
        for report in reports {
            let summary = summary(report, volume, started.elapsed().as_secs_f64());
            console.output.show(&Message::Backup(summary))?;
        }
        let Some(newest) = reports.last() else {
            return Ok(None);
        };
        console.output.detail(&[
            ("Backup", newest.id.map(|id| id.to_string())),
            ("Base", newest.base.map(|id| id.to_string())),
            ("Repository", Some(settings.location.to_string())),
            ("Project", Some(settings.project.clone())),
            ("Cache", Some(cache_path(project, settings))),
            ("Threads", Some(console.session.threads.to_string())),
        ])?;
        let lacks = |report: &&BackupReport| {
            let damage = report.damage.as_ref();
            damage.is_some_and(|damage| !damage.holes.is_empty())
        };
        let incomplete = reports.iter().find(lacks);
        if let Some(failure) = incomplete.and_then(|report| damaged(report, volume)) {
            return Err(failure);
        }
        let found = |report| damaged(report, volume).or_else(|| changes_missed(report, volume));
        Ok(reports.iter().find_map(found))
    }
}

/// Returns the failure to report if the backup or its base cannot be restored completely, because
/// of damage in the repository. `None` if both can be restored.
fn damaged(report: &BackupReport, volume: &str) -> Option<Failure> {
    let damage = report.damage.as_ref()?;
    let backup = match report.id {
        Some(id) => format!(
            "backup {} of {}",
            short_id(&id.to_string()),
            printable(volume)
        ),
        None => format!("the dry run of {}", printable(volume)),
    };
    let missing = match (damage.packs, damage.packs_damaged) {
        (missing, 0) => format!(
            "the repository lacks {} that its index names",
            count(missing, "pack")
        ),
        (0, damaged) => format!("{} damaged in the repository", are(damaged)),
        (missing, damaged) => format!(
            "the repository lacks {} that its index names, and {} damaged",
            count(missing, "pack"),
            are(damaged)
        ),
    };
    if !damage.holes.is_empty() {
        let lost = lost_parts(&damage.holes, report.size, &[]);
        let message = format!("{backup} is stored, but {missing}: {lost}");
        return Some(Failure::new(Code::Damage, message).hint(
            "it builds on a damaged backup, and the source did not have these parts: back up the \
             whole image once. “cuttlebone check” shows which other backups are damaged",
        ));
    }
    let base = damage.base.as_ref()?;
    let lost = lost_parts(&base.holes, base.size, &base.attachments);
    let base = short_id(&base.id.to_string()).to_owned();
    let message = format!(
        "{backup} is complete, but its base, backup {base}, is damaged: {lost}, since {missing}"
    );
    let again = if report.id.is_some() {
        "this backup has stored missing data again, as far as the source still has it. “cuttlebone \
         check” shows which data is still missing, and which other backups are damaged. Find out \
         why files are missing"
    } else {
        "a backup stores missing data again, as far as the source still has it. After that, \
         “cuttlebone check” shows which data is still missing. Find out why files are missing"
    };
    Some(Failure::new(Code::Damage, message).hint(again))
}

/// Returns the failure to report if the backup showed that Ceph had not listed all changes. Then
/// earlier backups may be incomplete. `None` if the backup did not show this.
fn changes_missed(report: &BackupReport, volume: &str) -> Option<Failure> {
    let Some(ListTest::Compared { missed, .. }) = &report.list_test else {
        return None;
    };
    missed.as_ref()?;
    let message = format!("earlier backups of {} may lack changes", printable(volume));
    Some(Failure::new(Code::Damage, message).hint(
        "this backup is complete; the warning above says which earlier ones may lack changes. Find \
         out why Ceph did not list all changes, for instance with “rbd object-map check”",
    ))
}

/// Returns the subject and the verb of a sentence about this many packs.
fn are(packs: u64) -> String {
    let verb = if packs == 1 { "is" } else { "are" };
    format!("{} {verb}", count(packs, "pack"))
}

/// Fails if the source is the target of an incomplete restore, since its content is a mixture of
/// old and restored data.
fn refuse_interrupted_restore(console: &Console, source: &BackupSource) -> Result<(), Failure> {
    let (BackupSource::Whole(ReadFrom::Path(image)) | BackupSource::Listed { image, .. }) = source
    else {
        return Ok(());
    };
    let Some(mark) = interrupted_restore(console, image) else {
        return Ok(());
    };
    let message = format!("{} holds {}", image.display(), describe(&mark));
    Err(Failure::new(Code::Failed, message).hint(
        "no backup was created; complete the restore with --in-place, or back up what is there \
         with --allow-interrupted-restore",
    ))
}

fn open_source(console: &Console, source: &BackupSource) -> Result<Box<dyn Source>, Failure> {
    Ok(match source {
        BackupSource::Whole(ReadFrom::Stdin) => Box::new(StreamSource::new(stdin()?)),
        BackupSource::Whole(ReadFrom::Path(path)) => Box::new(open_image(console, path)?),
        BackupSource::Command(command) => {
            let mut shell = child_command("sh");
            shell.arg("-c").arg(command);
            Box::new(CommandSource::new(shell))
        }
        BackupSource::Diff(source) => {
            let stream: Box<dyn InputStream> = match source {
                // If standard input is a file, it can be read twice: first to examine the diff, and
                // then to back it up.
                ReadFrom::Stdin => match InputFile::stdin() {
                    Some(file) => Box::new(file),
                    None => open_diff(source)?,
                },
                ReadFrom::Path(_) => open_diff(source)?,
            };
            ops::examine_diff(&*stream, &console.session.context(None))?;
            Box::new(DiffSource::new(stream))
        }
        BackupSource::Listed { image, extents, .. } => {
            let image = open_image(console, image)?;
            let extents = ops::read_extents(&mut *open_diff(extents)?, &console.session.cancel)?;
            Box::new(ListedImage::new(image, extents))
        }
        BackupSource::Rbd(pattern) => {
            return Err(Failure::usage(format!("{pattern} is not a file")));
        }
    })
}

/// Opens an image. If it is a device that others may write to, sends a notice.
fn open_image(console: &Console, path: &Path) -> Result<RawImage, Failure> {
    let image = RawImage::open(path)?;
    if let Some(user) = image.writer() {
        let device = path.display().to_string();
        let notice = Notice::SourceInUse { device, user };
        console.session.observer.notice(notice);
    }
    Ok(image)
}

fn summary(report: &BackupReport, volume: &str, duration: f64) -> BackupSummary {
    BackupSummary {
        backup_id: report.id.map(|id| id.to_string()),
        volume: volume.to_owned(),
        snapshot: report.snapshot.clone(),
        existing: report.existing,
        size: report.size,
        bytes_changed: report.counts.changed,
        bytes_read: report.counts.read,
        bytes_new: report.counts.new,
        bytes_stored: report.counts.stored,
        chunks_new: report.counts.chunks_new,
        chunks_verified: report.verified,
        duration,
        base: report.base.map(|id| id.to_string()),
        base_by_name: report.base_by_name,
        bytes_missed: match &report.list_test {
            Some(ListTest::Compared { missed, .. }) => Some(missed.map_or(0, |m| m.bytes)),
            Some(ListTest::Failed(_)) | None => None,
        },
        damage: report.damage.as_ref().map(|damage| MetDamageEntry {
            packs_missing: damage.packs,
            packs_damaged: damage.packs_damaged,
            base: damage.base.as_ref().map(affected_entry),
            extents: hole_extents(&damage.holes),
        }),
    }
}
