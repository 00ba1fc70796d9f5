//! Writes a backup to a target: many threads fetch and verify chunks, and one or two write them.

use std::sync::atomic::Ordering;

use super::examine::examine;
use super::fill::Tools;
use super::holes::OnDamage;
use super::samples::Samples;
use super::task::{RestoreReport, RestoreTask};
use super::write_units::{UnitProducer, WriteUnit};
use crate::base::{Buffer, Phase, Progress};
use crate::format::ExtentList;
use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::ops::pipeline::{Failed, Pipeline, StageError, Stages};
use crate::repo::{Backup, Project};
use crate::volume::{Target, WriteOrder};

/// The number of units in the pipeline for each thread that fills units.
const IN_FLIGHT: usize = 2;
/// The number of threads that write to a target that accepts any order. They wait for the disk
/// while other threads compute.
const WRITERS: usize = 2;

/// Writes a backup to a target, and finishes the target. The target must be opened for an image of
/// the backup's size. A target that held content before is read, and only different chunks are
/// fetched and written.
///
/// If the restore fails or is cancelled, the target is not finished. Damage that can be found
/// without reading the data is reported before anything is written.
pub fn restore(
    project: &Project,
    backup: &Backup,
    target: &dyn Target,
    context: &Context<'_>,
) -> Result<RestoreReport, OpsError> {
    restore_despite(OnDamage::Stop, project, backup, target, context)
}

/// Like [`restore`], but reacts to damage according to `on_damage`. The report names the parts that
/// could not be restored. The target is finished even if there are such parts.
pub fn restore_despite(
    on_damage: OnDamage,
    project: &Project,
    backup: &Backup,
    target: &dyn Target,
    context: &Context<'_>,
) -> Result<RestoreReport, OpsError> {
    let phase = Phase::Restore;
    RestoreTask::with(project, backup, context, phase, on_damage, |task| {
        if on_damage == OnDamage::Stop {
            examine(task)?;
        }
        write_all(task, target)
    })
}

/// Writes all of the backup, and finishes the target.
pub(crate) fn write_all(task: &RestoreTask<'_>, target: &dyn Target) -> Result<(), OpsError> {
    if target.size() != task.image.size() {
        return Err(OpsError::Internal("the target has another size"));
    }
    if let Some(present) = target.as_read_target() {
        let samples = Samples::new();
        let source = |units: &mut UnitProducer<'_, '_>| {
            units.chunks_and_data(task, present.data_extents(), &samples)
        };
        let fill = |tools: &mut Tools<'_>, unit: &mut WriteUnit| tools.update(unit, present);
        run(task, target, source, fill)?;
        samples.check(task, present)?;
    } else {
        let source = |units: &mut UnitProducer<'_, '_>| units.chunks(task);
        let fill = |tools: &mut Tools<'_>, unit: &mut WriteUnit| tools.fill(unit);
        run(task, target, source, fill)?;
    }
    Ok(target.finish()?)
}

/// Writes the parts of the backup that differ from `base`, and finishes the target. Both backups
/// are images with chunks of `chunk_size` bytes.
pub(crate) fn write_changes(
    task: &RestoreTask<'_>,
    base: &Backup,
    chunk_size: u32,
    target: &dyn Target,
) -> Result<(), OpsError> {
    let source = |units: &mut UnitProducer<'_, '_>| units.differences(base, task.image, chunk_size);
    let fill = |tools: &mut Tools<'_>, unit: &mut WriteUnit| tools.change(unit);
    run(task, target, source, fill)?;
    Ok(target.finish()?)
}

/// Writes these parts of the backup to a target that holds `present` bytes of other content. The
/// parts begin and end at the boundaries of chunks. Where a part has no chunk, writes zeros over
/// the other content, which ends at the offset `present`. Finishes the target.
pub(super) fn write_ranges(
    task: &RestoreTask<'_>,
    ranges: &ExtentList,
    present: u64,
    target: &dyn Target,
) -> Result<(), OpsError> {
    let source = |units: &mut UnitProducer<'_, '_>| units.ranges(task.image, ranges, present);
    let fill = |tools: &mut Tools<'_>, unit: &mut WriteUnit| tools.change(unit);
    run(task, target, source, fill)?;
    Ok(target.finish()?)
}

/// Sends units from `source`, lets many threads fill them, and writes them in the order that the
/// target asks for.
fn run<F>(
    task: &RestoreTask<'_>,
    target: &dyn Target,
    source: impl FnOnce(&mut UnitProducer<'_, '_>) -> Result<(), StageError> + Send,
    fill: F,
) -> Result<(), OpsError>
where
    F: Fn(&mut Tools<'_>, &mut WriteUnit) -> Result<(), OpsError> + Sync,
{
    let threads = task.context.threads;
    let in_flight = threads * IN_FLIGHT + WRITERS;
    let pipeline = Pipeline {
        workers: threads,
        queue: in_flight,
        in_flight,
        cancel: task.context.cancel,
        failed: &Failed::default(),
    };
    let ascending = target.order() == WriteOrder::Ascending;
    let stages = RestoreStages {
        task,
        fill,
        // If the target needs ascending order, the closure that receives the units in this order
        // writes them.
        unordered: (!ascending).then_some(target),
    };
    let size = task.image.size();
    let progress = |done| {
        task.context.observer.progress(Progress {
            phase: task.phase,
            done,
            total: Some(size),
        });
    };
    pipeline.run(
        &stages,
        |producer| {
            let mut units = UnitProducer::new(producer);
            source(&mut units)?;
            units.finish()
        },
        |unit: WriteUnit| {
            if ascending {
                write_unit(task, target, &unit)?;
            }
            progress(unit.range.end);
            Ok(unit.buf)
        },
    )?;
    progress(size);
    Ok(())
}

struct RestoreStages<'a, F> {
    task: &'a RestoreTask<'a>,
    fill: F,
    unordered: Option<&'a dyn Target>,
}

impl<'a, F> Stages for RestoreStages<'a, F>
where
    F: Fn(&mut Tools<'_>, &mut WriteUnit) -> Result<(), OpsError> + Sync,
{
    type Spare = Buffer;
    type Job = WriteUnit;
    type Done = WriteUnit;
    type Worker = Tools<'a>;

    fn start(&self) -> Result<Tools<'a>, OpsError> {
        Ok(Tools::new(self.task))
    }

    fn work(&self, tools: &mut Tools<'a>, mut unit: WriteUnit) -> Result<WriteUnit, OpsError> {
        (self.fill)(tools, &mut unit)?;
        Ok(unit)
    }

    fn finishers(&self) -> usize {
        if self.unordered.is_some() { WRITERS } else { 0 }
    }

    fn finish(&self, unit: &WriteUnit) -> Result<(), OpsError> {
        match self.unordered {
            Some(target) => write_unit(self.task, target, unit),
            None => Ok(()),
        }
    }
}

/// Writes the parts of a unit that must be written, in ascending order.
fn write_unit(
    task: &RestoreTask<'_>,
    target: &dyn Target,
    unit: &WriteUnit,
) -> Result<(), OpsError> {
    let mut zeros = unit.zeros.iter().peekable();
    let mut zeros_up_to = |end: u64| -> Result<(), OpsError> {
        while let Some(range) = zeros.next_if(|range| range.start < end) {
            target.zero_range(range.start, range.end - range.start)?;
        }
        Ok(())
    };
    for range in &unit.data {
        zeros_up_to(range.start)?;
        target.write_at(range.start, &unit.buf[unit.place(range)])?;
    }
    zeros_up_to(u64::MAX)?;
    let ranges = unit.data.iter().chain(&unit.zeros);
    let written: u64 = ranges.map(|range| range.end - range.start).sum();
    task.written.fetch_add(written, Ordering::Relaxed);
    Ok(())
}
