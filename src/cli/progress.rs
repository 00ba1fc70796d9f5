//! Shows the progress of an operation while it runs.
//!
//! Many threads report often, so a report costs only a few atomic stores. A separate thread reads
//! the latest report at intervals and shows it.

use std::collections::HashSet;
use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::app::{self, Message, Status, duration};
use crate::base::{
    FullRead, ImageEvent, NotCompared, Notice, Observer, Phase, Progress, RebuildReason,
    WholeCompare, lock, recover,
};

use super::output::Output;

/// The form in which progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A bar on the terminal on standard error.
    Bar,
    /// Lines on standard error at long intervals.
    Lines,
    /// `status` lines on standard output.
    Json,
    Nothing,
}

impl Form {
    /// Returns the form that suits the standard streams of this process.
    pub(crate) fn choose(progress: bool, json: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        match (progress, json) {
            (false, _) => Self::Nothing,
            (true, true) => Self::Json,
            (true, false) if io::stderr().is_terminal() && !dumb => Self::Bar,
            (true, false) => Self::Lines,
        }
    }

    /// Returns the time between updates if the user did not set one.
    const fn interval(self) -> Duration {
        match self {
            Self::Bar => Duration::from_millis(100),
            Self::Json => Duration::from_secs(1),
            // Lines usually go to a log file: write few, and none for a short operation.
            Self::Lines | Self::Nothing => Duration::from_secs(30),
        }
    }
}

/// Shows notices, and shows progress until [`finish`](Self::finish) is called.
pub(crate) struct Meter {
    shared: Arc<Shared>,
    ticker: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    output: Arc<Output>,
    form: Form,
    quiet: bool,
    bar: ProgressBar,
    reports: Reports,
    /// The texts of all notices so far. Each text is shown only once.
    noticed: Mutex<HashSet<String>>,
    finished: Mutex<bool>,
    wake: Condvar,
}

impl Meter {
    pub(crate) fn start(
        output: Arc<Output>,
        form: Form,
        interval: Option<Duration>,
        quiet: bool,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            output,
            form,
            quiet,
            bar: ProgressBar::hidden(),
            reports: Reports::default(),
            noticed: Mutex::default(),
            finished: Mutex::new(false),
            wake: Condvar::new(),
        });
        let ticker = if form == Form::Nothing {
            None
        } else {
            let interval = interval.unwrap_or(form.interval());
            let shared = Arc::clone(&shared);
            let ticker = std::thread::Builder::new().name("progress".to_owned());
            Some(ticker.spawn(move || shared.run(interval))?)
        };
        Ok(Self {
            shared,
            ticker: Mutex::new(ticker),
        })
    }

    /// Removes the bar and stops showing progress. Call this before you show results. Further calls
    /// have no effect.
    pub(crate) fn finish(&self) {
        *lock(&self.shared.finished) = true;
        self.shared.wake.notify_all();
        if let Some(ticker) = lock(&self.ticker).take() {
            // The thread returns nothing, and a panic has already been reported.
            let _ = ticker.join();
        }
        self.shared.bar.finish_and_clear();
    }

    /// Shows results while the bar continues: hides the bar, calls `show`, and draws the bar again.
    pub(crate) fn suspended<T>(&self, show: impl FnOnce() -> T) -> T {
        self.shared.bar.suspend(show)
    }

    /// Prints a notice on standard error above the bar. With `--quiet`, prints it only if messages
    /// are in JSON.
    pub(crate) fn note(&self, text: &str) {
        if self.shows_notes() {
            self.shared.bar.suspend(|| self.shared.output.notice(text));
        }
    }

    /// Returns whether to show notices that report no problem.
    fn shows_notes(&self) -> bool {
        !self.shared.quiet || self.shared.output.is_json()
    }

    /// Prints a line on standard error above the bar.
    pub(crate) fn print(&self, line: &str) {
        self.shared.bar.suspend(|| self.shared.output.print(line));
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Observer for Meter {
    fn progress(&self, progress: Progress) {
        self.shared.reports.take(progress);
    }

    fn notice(&self, notice: Notice) {
        let text = app::notice(&notice);
        let is_new = lock(&self.shared.noticed).insert(text.clone());
        if is_new && (self.shows_notes() || is_problem(&notice)) {
            self.shared.bar.suspend(|| self.shared.output.notice(&text));
        }
    }
}

/// Returns whether a notice reports a problem that the user should solve. All other notices explain
/// how the command worked. With `--quiet`, they are printed only if messages are in JSON.
fn is_problem(notice: &Notice) -> bool {
    match notice {
        Notice::Image {
            event: ImageEvent::ReadCompletely(why),
            ..
        } => matches!(why, FullRead::Distrusted { .. }),
        Notice::Image { event, .. } => !matches!(
            event,
            ImageEvent::Continues { .. }
                | ImageEvent::ChangesComplete { .. }
                | ImageEvent::ChangesNotCompared(NotCompared::NoBase(_))
                | ImageEvent::Encrypted
                | ImageEvent::RestoresSince { .. }
                | ImageEvent::ComparesAll(WholeCompare::NoSnapshot)
        ),
        Notice::IndexRebuilt(reason) => matches!(reason, RebuildReason::Directory { .. }),
        Notice::CopyDamaged { .. }
        | Notice::SegmentDamaged { .. }
        | Notice::ListingDamaged { .. }
        | Notice::PackStays { .. }
        | Notice::NoRestoreMark { .. }
        | Notice::KeySlotDamaged { .. }
        | Notice::KeySlotSkipped { .. }
        | Notice::KeySlotsIgnored { .. }
        | Notice::SettingsDamaged { .. }
        | Notice::CertificateDamaged { .. }
        | Notice::RecordDamaged { .. }
        | Notice::RecordMissing { .. }
        | Notice::PacksMissing { .. }
        | Notice::PacksDamaged { .. }
        | Notice::NoBackupOfHost { .. }
        | Notice::SeenBefore { .. }
        | Notice::MemoryDamaged { .. }
        | Notice::SeveralNewest { .. }
        | Notice::Withdrawn { .. }
        | Notice::MayLackChanges { .. }
        | Notice::Forgotten { .. }
        | Notice::SourceInUse { .. }
        | Notice::NamedByWriteKeysOnly { .. }
        | Notice::HistoryLost { .. }
        | Notice::LedgerNotStored { .. }
        | Notice::GoodWhenReadAgain { .. }
        | Notice::PartsUnknown
        | Notice::CopyInUse { .. }
        | Notice::PasswordFileReadable { .. }
        | Notice::NotAttached { .. } => true,
        Notice::Resumed { .. }
        | Notice::DamageAccepted { .. }
        | Notice::PacksNotNeeded { .. }
        | Notice::PacksUnindexed { .. }
        | Notice::SourceUnchanged
        | Notice::NoBaseForExtents
        | Notice::BaseByName { .. }
        | Notice::HeadOfImage
        | Notice::ReadWithoutLease { .. }
        | Notice::ConcurrentPrune
        | Notice::Behind { .. }
        | Notice::MemoryUnusable { .. }
        | Notice::TargetLarger { .. }
        | Notice::LabelsKept { .. } => false,
    }
}

impl Shared {
    fn run(&self, interval: Duration) {
        let mut shown = None;
        loop {
            let guard = lock(&self.finished);
            let waited = self
                .wake
                .wait_timeout_while(guard, interval, |finished| !*finished);
            if *recover(waited).0 {
                return;
            }
            let Some(seen) = self.reports.seen() else {
                continue;
            };
            match self.form {
                Form::Bar => {
                    if shown != Some(seen.phase) {
                        self.begin_bar(&seen, interval);
                    }
                    self.bar.set_position(seen.done);
                }
                Form::Lines => {
                    let line = app::status(&seen.status(Instant::now()));
                    self.output.print(&line);
                }
                Form::Json => {
                    // The operation continues even if progress cannot be written.
                    let _ = self
                        .output
                        .show(&Message::Status(seen.status(Instant::now())));
                }
                Form::Nothing => {}
            }
            shown = Some(seen.phase);
        }
    }

    /// Sets up the bar for a phase. Meanwhile, the bar is hidden, so that it is never half drawn.
    fn begin_bar(&self, seen: &Seen, interval: Duration) {
        let bar = &self.bar;
        bar.finish_and_clear();
        bar.set_draw_target(ProgressDrawTarget::hidden());
        bar.reset();
        let style = ProgressStyle::with_template(match seen.total {
            Some(_) if !app::counts_bytes(name(seen.phase)) => {
                "{prefix:.bold} {percent:>3}% [{wide_bar}] {pos}/{len} {left}"
            }
            Some(_) => {
                "{prefix:.bold} {percent:>3}% [{wide_bar}] {binary_bytes}/{binary_total_bytes} \
                 {binary_bytes_per_sec} {left}"
            }
            None => "{prefix:.bold} {spinner} {binary_bytes} {binary_bytes_per_sec} {elapsed}",
        });
        // If the template does not parse, the default style is used.
        if let Ok(style) = style {
            let left = |state: &ProgressState, text: &mut dyn fmt::Write| {
                // The remaining time is unknown until the first progress.
                if state.per_sec() > 0.0 {
                    let _ = write!(text, "{} left", duration(state.eta()));
                }
            };
            bar.set_style(style.with_key("left", left).progress_chars("=> "));
        }
        bar.set_prefix(app::phase(name(seen.phase)));
        match seen.total {
            Some(total) => bar.set_length(total),
            None => bar.unset_length(),
        }
        // Compute the rate only from the progress after this, since it is unknown how long the
        // progress so far has taken.
        bar.set_position(seen.done);
        bar.reset_eta();
        let hertz = (1.0 / interval.as_secs_f64()).ceil().clamp(1.0, 60.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to 1 to 60"
        )]
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(hertz as u8));
    }
}

/// The latest report.
struct Reports {
    /// One more than the index of the phase in [`PHASES`]; 0 before the first report.
    phase: AtomicU8,
    done: AtomicU64,
    /// [`UNKNOWN`] if the total is not known.
    total: AtomicU64,
    /// When this phase began. Locked while the phase changes.
    begun: Mutex<Instant>,
}

const PHASES: [Phase; 14] = [
    Phase::Index,
    Phase::Backup,
    Phase::VerifySample,
    Phase::CompareTarget,
    Phase::Restore,
    Phase::CheckStructure,
    Phase::CheckData,
    Phase::Mark,
    Phase::Repack,
    Phase::InspectDiff,
    Phase::MergeDiffs,
    Phase::ExportDiff,
    Phase::Replicate,
    Phase::StoreParity,
];
const UNKNOWN: u64 = u64::MAX;

impl Default for Reports {
    fn default() -> Self {
        Self {
            phase: AtomicU8::new(0),
            done: AtomicU64::new(0),
            total: AtomicU64::new(UNKNOWN),
            begun: Mutex::new(Instant::now()),
        }
    }
}

impl Reports {
    fn take(&self, progress: Progress) {
        let phase = progress.phase as u8 + 1;
        if self.phase.load(Ordering::Acquire) != phase {
            let mut begun = lock(&self.begun);
            if self.phase.load(Ordering::Acquire) != phase {
                *begun = Instant::now();
                self.done.store(0, Ordering::Relaxed);
                self.phase.store(phase, Ordering::Release);
            }
        }
        self.total
            .store(progress.total.unwrap_or(UNKNOWN), Ordering::Relaxed);
        // Threads may report out of order, but a count must never shrink within a phase.
        self.done.fetch_max(progress.done, Ordering::Relaxed);
    }

    fn seen(&self) -> Option<Seen> {
        let begun = lock(&self.begun);
        let phase = usize::from(self.phase.load(Ordering::Acquire)).checked_sub(1)?;
        let total = self.total.load(Ordering::Relaxed);
        Some(Seen {
            phase: *PHASES.get(phase)?,
            done: self.done.load(Ordering::Relaxed),
            total: (total != UNKNOWN).then_some(total),
            begun: *begun,
        })
    }
}

/// A copy of the latest report.
#[derive(Debug, Clone, Copy)]
struct Seen {
    phase: Phase,
    done: u64,
    total: Option<u64>,
    begun: Instant,
}

impl Seen {
    #[expect(clippy::cast_precision_loss, reason = "an approximate share is enough")]
    fn status(&self, now: Instant) -> Status {
        let elapsed = now.saturating_duration_since(self.begun);
        let done = self.total.map_or(self.done, |total| self.done.min(total));
        let part = |total: u64| {
            if total == 0 {
                1.0
            } else {
                done as f64 / total as f64
            }
        };
        let percent_done = self.total.map(part);
        let remaining = percent_done.filter(|&part| part > 0.0).and_then(|part| {
            let seconds = elapsed.as_secs_f64() * (1.0 - part) / part;
            Duration::try_from_secs_f64(seconds).ok()
        });
        Status {
            percent_done,
            bytes_done: done,
            total_bytes: self.total,
            seconds_elapsed: elapsed.as_secs(),
            seconds_remaining: remaining.map(|left| left.as_secs()),
            phase: name(self.phase),
        }
    }
}

/// Returns the name of a phase in JSON. Names never change.
const fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Index => "index",
        Phase::Backup => "backup",
        Phase::VerifySample => "verify_sample",
        Phase::CompareTarget => "compare_target",
        Phase::Restore => "restore",
        Phase::CheckStructure => "check_structure",
        Phase::CheckData => "check_data",
        Phase::Mark => "mark",
        Phase::Repack => "repack",
        Phase::InspectDiff => "inspect_diff",
        Phase::MergeDiffs => "merge_diffs",
        Phase::ExportDiff => "export_diff",
        Phase::Replicate => "replicate",
        Phase::StoreParity => "store_parity",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(phase: Phase, done: u64, total: Option<u64>) -> Progress {
        Progress { phase, done, total }
    }

    #[test]
    fn phases_match_their_indices() {
        for (i, phase) in PHASES.into_iter().enumerate() {
            assert_eq!(phase as usize, i);
        }
    }

    #[test]
    fn counts_only_grow_within_a_phase() {
        let reports = Reports::default();
        assert!(reports.seen().is_none());
        reports.take(report(Phase::Backup, 20, Some(100)));
        reports.take(report(Phase::Backup, 10, Some(100)));
        assert_eq!(reports.seen().map(|seen| seen.done), Some(20));
        reports.take(report(Phase::CheckData, 5, None));
        let seen = reports.seen().unwrap();
        assert_eq!(
            (seen.phase, seen.done, seen.total),
            (Phase::CheckData, 5, None)
        );
    }

    #[test]
    fn remaining_time_is_extrapolated_from_the_part_done() {
        let begun = Instant::now();
        let at = |done, total, seconds| {
            let seen = Seen {
                phase: Phase::Backup,
                done,
                total,
                begun,
            };
            seen.status(begun + Duration::from_secs(seconds))
        };
        let status = at(25, Some(100), 10);
        assert_eq!(
            (status.percent_done, status.seconds_remaining),
            (Some(0.25), Some(30))
        );
        assert_eq!(at(0, Some(100), 10).seconds_remaining, None);
        assert_eq!(at(0, Some(0), 10).percent_done, Some(1.0));
        assert_eq!(at(200, Some(100), 10).percent_done, Some(1.0));
        let unknown = at(25, None, 10);
        assert_eq!(
            (unknown.percent_done, unknown.seconds_remaining),
            (None, None)
        );
    }

    #[test]
    fn many_threads_can_report_while_progress_is_shown() {
        let (output, captured) = Output::captured(true);
        let interval = Some(Duration::from_millis(5));
        let meter = Meter::start(Arc::new(output), Form::Json, interval, false).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let meter = &meter;
                scope.spawn(move || {
                    for done in 0..50 {
                        meter.progress(report(Phase::Backup, done * 4 + thread, Some(1000)));
                        std::thread::sleep(Duration::from_millis(1));
                    }
                });
            }
        });
        std::thread::sleep(Duration::from_millis(20));
        meter.note("hello");
        meter.finish();
        meter.finish();
        let stdout = captured.stdout();
        let last: serde_json::Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
        assert_eq!(
            (&last["message_type"], &last["bytes_done"]),
            (&"status".into(), &199.into())
        );
        assert_eq!(
            captured.stderr(),
            "{\"message_type\":\"notice\",\"message\":\"hello\"}\n"
        );
    }
}
