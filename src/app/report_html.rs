//! A report as one page of HTML, which needs no other file.

use std::fmt::Write as _;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::audit_message::CoverageEntry;
use super::human::{count, printable, time};
use super::report::Report;
use crate::base::ByteSize;

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--good:#2a7a3b;--bad:#b3261e;--old:#c98a00}\
@media(prefers-color-scheme:dark){:root{--good:#7bd48f;--bad:#ff8a80;--old:#ffcf66}}\
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;\
background:Canvas;color:CanvasText}h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.25rem .5rem;\
border-bottom:1px solid var(--line);vertical-align:top;overflow-wrap:anywhere}\
th{font-weight:600;white-space:nowrap}code{font:13px ui-monospace,monospace;\
overflow-wrap:anywhere}.good{color:var(--good)}.bad{color:var(--bad)}.result{font-size:1.15rem;\
border-left:.35rem solid;padding:.25rem .75rem}.map{display:flex;height:1.25rem;\
border:1px solid var(--line)}.map span{display:block;min-width:1px}\
@media print{body{max-width:none;margin:0;font-size:10pt}h2{break-after:avoid}\
tr,.result{break-inside:avoid}.map span{print-color-adjust:exact;\
-webkit-print-color-adjust:exact}}";

/// The ages that the bar of verified data distinguishes: the maximum in days, a name, and a color.
/// The last one has no maximum.
const AGES: [(Option<i64>, &str, &str); 5] = [
    (Some(7), "up to 7 days", "#2a7a3b"),
    (Some(30), "up to 30 days", "#6fae45"),
    (Some(90), "up to 90 days", "#c9b400"),
    (Some(365), "up to a year", "#d9822b"),
    (None, "older", "#a8552a"),
];
/// The color of data that was never verified.
const NEVER: &str = "#b3261e";

/// Returns a report as a page of HTML.
pub(crate) fn report_html(report: &Report) -> String {
    let zone = TimeZone::UTC;
    let at = |moment: Timestamp| time(moment, &zone) + " UTC";
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>Audit of {}</title><style>{STYLE}</style></head><body>\n<h1>Audit of {}</h1>\n",
        text(&report.repository),
        text(&report.repository)
    );
    let class = if report.exit_code == 0 { "good" } else { "bad" };
    put(
        &mut page,
        format!("<p class=\"result {class}\">{}</p>\n", text(&report.result)),
    );
    if let Some(next) = &report.next {
        put(&mut page, format!("<p><b>Next:</b> {}</p>\n", text(next)));
    }
    scope(&mut page, report, &at);
    page += "<h2>Coverage</h2>\n";
    for coverage in &report.audits.coverage {
        map(&mut page, coverage, report.time);
    }
    findings(&mut page, report, &at);
    runs(&mut page, report, &at);
    drills(&mut page, report, &at);
    page += "</body></html>\n";
    page
}

/// Describes what was checked, when, and with which key.
fn scope(page: &mut String, report: &Report, at: &dyn Fn(Timestamp) -> String) {
    let check = &report.check;
    let data = check.data.as_ref();
    let rows = [
        ("Time", at(report.time)),
        (
            "Project",
            format!("{} ({})", report.project, report.project_id),
        ),
        ("Repository id", report.repository_id.clone()),
        ("Key", report.role.to_owned()),
        ("Data", report.scope.clone()),
        ("Backups", check.backups.to_string()),
        ("Packs", check.packs.to_string()),
        ("Read", ByteSize(check.bytes_read).to_string()),
        (
            "Verified",
            data.map_or_else(
                || "no data".to_owned(),
                |data| {
                    let packs = count(data.packs_chosen, "pack");
                    format!("{} of {packs}, {}", data.packs_verified, data.level)
                },
            ),
        ),
        (
            "Seed of the order",
            data.map_or_else(String::new, |data| data.seed.clone()),
        ),
        ("Exit code", report.exit_code.to_string()),
        (
            "State of the log",
            report.statement.clone().unwrap_or_default(),
        ),
        ("Host", report.host.clone()),
        ("Program", report.tool.to_owned()),
    ];
    *page += "<h2>Scope</h2>\n<table>\n";
    for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        put(
            page,
            format_args!("<tr><th>{name}</th><td>{}</td></tr>\n", text(value)),
        );
    }
    *page += "</table>\n";
}

/// Lists the checks in the ledger.
fn runs(page: &mut String, report: &Report, at: &dyn Fn(Timestamp) -> String) {
    *page += "<h2>Checks that read data</h2>\n";
    let rows = report.audits.runs.iter().map(|run| {
        let damaged = count(run.packs_damaged, "pack");
        let result = match (run.packs_damaged, run.complete) {
            (0, true) => "no damage".to_owned(),
            (0, false) => "stopped early".to_owned(),
            _ => format!("{damaged} damaged"),
        };
        let host = run.host.clone().unwrap_or_default();
        let read = ByteSize(run.bytes).to_string();
        let seed = run.seed.clone();
        [
            at(run.time),
            host,
            run.role.to_owned(),
            run.level.to_owned(),
            read,
            result,
            seed,
        ]
    });
    table(
        page,
        &["Time", "Host", "Key", "How", "Read", "Result", "Seed"],
        rows,
    );
}

/// Lists the restore drills in the ledger.
fn drills(page: &mut String, report: &Report, at: &dyn Fn(Timestamp) -> String) {
    *page += "<h2>Restore drills</h2>\n";
    let rows = report.audits.drills.iter().map(|drill| {
        let result = drill.problem.clone().unwrap_or_else(|| "good".to_owned());
        let restored = ByteSize(drill.bytes).to_string();
        let took = format!("{:.1} s", drill.duration);
        let backup = drill.backup_id.clone();
        [
            at(drill.time),
            drill.volume.clone(),
            restored,
            took,
            result,
            backup,
        ]
    });
    table(
        page,
        &["Time", "Volume", "Restored", "Took", "Result", "Backup"],
        rows,
    );
}

fn findings(page: &mut String, report: &Report, at: &dyn Fn(Timestamp) -> String) {
    *page += "<h2>Findings</h2>\n";
    let rows = report.findings.iter().map(|finding| {
        let affected = finding.backup.as_ref();
        let of = affected.map(|backup| format!(" of {}, {}", backup.volume, at(backup.time)));
        [
            finding.item.clone() + &of.unwrap_or_default(),
            finding.message.clone(),
        ]
    });
    table(page, &["Object or backup", "Finding"], rows);
    if let Some(damage) = &report.check.damage {
        *page += "<h2>What to do</h2>\n";
        let next = damage.next.iter();
        let rows = next.map(|step| [step.command.clone(), step.purpose.to_owned()]);
        table(page, &["Command", "Purpose"], rows);
        *page += "<h2>Volumes with damage</h2>\n";
        let volumes = damage.volumes.iter();
        let rows = volumes.map(|of| {
            let newest = of.newest_whole_time.map(at);
            [
                of.volume.clone(),
                of.affected.to_string(),
                of.whole.to_string(),
                newest.unwrap_or_else(|| "none".to_owned()),
            ]
        });
        table(
            page,
            &["Volume", "Damaged", "Whole", "Newest whole backup"],
            rows,
        );
    }
    *page += "<h2>Backups without damage</h2>\n";
    if !report.all_data_read {
        *page +=
            "<p>This check did not decrypt all data, so there may be damage in the rest.</p>\n";
    }
    let whole = report.whole.iter();
    let rows = whole.map(|backup| {
        [
            backup.volume.clone(),
            at(backup.time),
            backup.backup_id.clone(),
        ]
    });
    table(page, &["Volume", "Time", "Backup"], rows);
}

/// Draws a bar that divides the data by the age of its last verification, and lists the amounts
/// below it.
fn map(page: &mut String, coverage: &CoverageEntry, now: Timestamp) {
    let mut ages = [0; AGES.len()];
    for verified in &coverage.verified {
        // The ledger leaves out times in the future.
        ages[class(now.duration_since(verified.time))] += verified.bytes;
    }
    let parts = AGES
        .iter()
        .zip(ages)
        .map(|((_, name, color), bytes)| (*name, *color, bytes));
    let parts = parts.chain([("never", NEVER, coverage.bytes_never)]);
    let parts: Vec<_> = parts.filter(|(.., bytes)| *bytes > 0).collect();
    let how = match coverage.level {
        "opened" => "Decrypted",
        _ => "Compared with hashes, or decrypted",
    };
    put(page, format!("<h3>{how}</h3>\n<div class=\"map\">"));
    for (name, color, bytes) in &parts {
        let title = format!("{name}: {}", ByteSize(*bytes));
        put(
            page,
            format!("<span title=\"{title}\" style=\"flex:{bytes};background:{color}\"></span>"),
        );
    }
    *page += "</div>\n<p>";
    for (name, color, bytes) in &parts {
        put(
            page,
            format!(
                "<b style=\"color:{color}\">■</b> {name}: {} &nbsp; ",
                ByteSize(*bytes)
            ),
        );
    }
    if let Some(oldest) = coverage.oldest {
        put(
            page,
            format!(
                "The oldest verification: {} UTC",
                time(oldest, &TimeZone::UTC)
            ),
        );
    }
    *page += "</p>\n";
}

/// Returns the position of an age in [`AGES`].
fn class(age: SignedDuration) -> usize {
    let fits =
        |most: &Option<i64>| most.is_none_or(|days| age <= SignedDuration::from_hours(24 * days));
    let found = AGES.iter().position(|(most, ..)| fits(most));
    found.unwrap_or(AGES.len() - 1)
}

fn table<const N: usize>(
    page: &mut String,
    header: &[&str; N],
    rows: impl Iterator<Item = [String; N]>,
) {
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        *page += "<p>None.</p>\n";
        return;
    }
    *page += "<table>\n<tr>";
    for name in header {
        put(page, format_args!("<th>{name}</th>"));
    }
    *page += "</tr>\n";
    for row in rows {
        *page += "<tr>";
        for cell in &row {
            put(page, format_args!("<td>{}</td>", text(cell)));
        }
        *page += "</tr>\n";
    }
    *page += "</table>\n";
}

fn put(page: &mut String, part: impl std::fmt::Display) {
    // Writing into a string does not fail.
    let _ = write!(page, "{part}");
}

/// Escapes a text for HTML: names come from the writers of backups.
fn text(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in printable(text).chars() {
        match c {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            _ => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_that_is_longer_than_a_maximum_by_any_time_belongs_to_the_next_one() {
        for (position, days) in [7, 30, 90, 365].into_iter().enumerate() {
            let most = SignedDuration::from_hours(24 * days);
            assert_eq!(class(most), position, "{days} days");
            let more = most + SignedDuration::from_nanos(1);
            assert_eq!(class(more), position + 1, "more than {days} days");
        }
        assert_eq!(class(SignedDuration::ZERO), 0);
        assert_eq!(class(SignedDuration::MAX), AGES.len() - 1);
    }

    #[test]
    fn names_cannot_add_elements_to_a_page() {
        assert_eq!(
            text("<img src=\"x\" onerror='a()'>&\u{202e}"),
            "&lt;img src=&quot;x&quot; onerror=&#39;a()&#39;&gt;&amp;\\u{202e}"
        );
    }
}
