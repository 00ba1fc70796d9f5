//! The text of `audit list`.

use std::time::Duration;

use jiff::tz::TimeZone;

use crate::app::audit_message::{AuditEntries, CoverageEntry, DrillEntry, RunEntry};
use crate::app::human::{count, duration, short_id, time};
use crate::app::table::{Column, table};
use crate::base::ByteSize;

pub(crate) fn audits(list: &AuditEntries, zone: &TimeZone, columns: Option<usize>) -> String {
    let mut text: String = list.coverage.iter().map(|c| coverage(c, zone)).collect();
    if !list.runs.is_empty() {
        text += "\n";
        text += &runs(&list.runs, zone, columns);
    }
    if !list.drills.is_empty() {
        text += "\n";
        text += &drills(&list.drills, zone, columns);
    }
    text
}

fn coverage(coverage: &CoverageEntry, zone: &TimeZone) -> String {
    let how = match coverage.level {
        "opened" => "decrypted",
        _ => "compared with hashes, or decrypted",
    };
    let bytes = ByteSize(coverage.bytes);
    let Some(oldest) = coverage.oldest else {
        return format!("{how}: nothing of {bytes}\n");
    };
    let verified = coverage.bytes - coverage.bytes_never;
    let amount = match coverage.bytes_never {
        0 => format!("all {bytes}"),
        _ => format!("{} of {bytes}", ByteSize(verified)),
    };
    let oldest = time(oldest, zone);
    format!("{how}: {amount}, the oldest part at {oldest}\n")
}

fn runs(runs: &[RunEntry], zone: &TimeZone, columns: Option<usize>) -> String {
    let header = [
        Column::left("Check"),
        Column::name("Host"),
        Column::left("Key"),
        Column::left("How"),
        Column::right("Packs"),
        Column::right("Read"),
        Column::right("Took"),
        Column::left("Result"),
    ];
    let row = |run: &RunEntry| {
        let result = match (run.packs_damaged, run.complete) {
            (0, true) => "no damage".to_owned(),
            (0, false) => "stopped early".to_owned(),
            (damaged, _) => format!("{} damaged", count(damaged, "pack")),
        };
        vec![
            time(run.time, zone),
            run.host.clone().unwrap_or_default(),
            run.role.to_owned(),
            run.level.to_owned(),
            run.packs.to_string(),
            ByteSize(run.bytes).to_string(),
            duration(Duration::from_secs(run.duration)),
            result,
        ]
    };
    table(&header, &runs.iter().map(row).collect::<Vec<_>>(), columns)
}

/// Describes the outcome of one restore of a drill.
pub(crate) fn drill(drill: &DrillEntry) -> String {
    let backup = short_id(&drill.backup_id);
    let took = duration(Duration::from_secs_f64(drill.duration));
    let outcome = match &drill.problem {
        None => format!("good: {} in {took}", ByteSize(drill.bytes)),
        Some(problem) => format!("failed: {problem}"),
    };
    format!("backup {backup} of {}: {outcome}\n", drill.volume)
}

fn drills(drills: &[DrillEntry], zone: &TimeZone, columns: Option<usize>) -> String {
    let header = [
        Column::left("Drill"),
        Column::name("Host"),
        Column::left("Backup"),
        Column::name("Volume"),
        Column::right("Restored"),
        Column::right("Took"),
        Column::left("Result"),
    ];
    let row = |drill: &DrillEntry| {
        vec![
            time(drill.time, zone),
            drill.host.clone().unwrap_or_default(),
            short_id(&drill.backup_id).to_owned(),
            drill.volume.clone(),
            ByteSize(drill.bytes).to_string(),
            duration(Duration::from_secs_f64(drill.duration)),
            if drill.success { "good" } else { "failed" }.to_owned(),
        ]
    };
    table(
        &header,
        &drills.iter().map(row).collect::<Vec<_>>(),
        columns,
    )
}
