//! The output of `forget` for people and as JSON. The tests set the time zone as a POSIX rule, so
//! that they need no time zone database.

use std::collections::BTreeMap;
use std::sync::Arc;

use cuttlebone::base::Silent;
use cuttlebone::repo::{ObjectRef, Records, Repository, Voids};
use cuttlebone::storage::LocalBackend;
use serde_json::Value;

use crate::support::noise;
use crate::support::program::{self, PASSWORD, World};

/// Returns a world whose volume has a backup at each of these times, with these labels. Also
/// returns the ids of the backups, oldest first.
fn backups(volume: &str, times: &[(&str, &[(&str, &str)])]) -> (World, Vec<String>) {
    let mut world = World::new();
    world.set("TZ", "CET-1CEST,M3.5.0,M10.5.0/3");
    let disk = world.write("disk.img", &noise(1, 200 << 10));
    world.backup(&[&disk, "--volume", volume]);

    let backend = Arc::new(LocalBackend::open(world.repository()).unwrap());
    let repository = Repository::open(backend, PASSWORD.as_bytes(), &Silent).unwrap();
    let project = repository.project("default", &Silent).unwrap();
    let made = Records::load(&project).unwrap().all()[0].clone();
    let object = ObjectRef::Backup(project.id, made.id);
    project.objects.delete(object).unwrap();
    world.forget_memory();
    let mut ids: Vec<String> = Vec::new();
    for (time, labels) in times {
        let mut record = made.record.clone();
        record.time = time.parse().unwrap();
        record.heads = ids
            .last()
            .map(|id| id.parse().unwrap())
            .into_iter()
            .collect();
        record.follows.clone_from(&record.heads);
        record.labels = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect::<BTreeMap<_, _>>();
        let put = project.put_sealed(ObjectRef::Backup, &record.encode());
        ids.push(put.unwrap().to_string());
    }
    (world, ids)
}

fn listed(world: &World) -> Vec<String> {
    let lines = world.json(&["list"]);
    let id = |line: &Value| line["backup_id"].as_str().unwrap().to_owned();
    lines.iter().map(id).collect()
}

fn seven_backups() -> (World, Vec<String>) {
    backups(
        "web1",
        &[
            ("2025-10-31T22:30:00Z", &[("why", "upgrade")]),
            ("2025-11-14T10:00:00Z", &[]),
            // This is 00:30 on the 20th in local time.
            ("2025-11-19T23:30:00Z", &[]),
            ("2025-11-20T10:00:00Z", &[]),
            ("2025-11-20T22:00:00Z", &[]),
            ("2025-11-21T10:00:00Z", &[]),
            ("2199-01-01T00:00:00Z", &[]),
        ],
    )
}

#[test]
fn forget_prints_a_table_of_kept_backups_with_reasons() {
    let (world, ids) = seven_backups();
    let policy = [
        "forget",
        "--keep-last=1",
        "--keep-daily=2",
        "--keep-monthly=3",
        "--keep-within=12h",
        "--keep-within-hourly=1d",
        "--keep-label=why",
    ];
    let output = world.ok(&[&policy[..], &["--dry-run"]].concat());
    let id = |number: usize| &ids[number][..8];
    let expected = format!(
        "web1: would keep 4 backups\n\
         ID        Time                 Why\n\
         {}  2025-10-31 23:30:00  monthly, label why\n\
         {}  2025-11-20 23:00:00  daily, hourly within 1d\n\
         {}  2025-11-21 11:00:00  last, daily, monthly, within 12h,\n\
         {:31}hourly within 1d\n\
         {}  2199-01-01 01:00:00  from the future\n\
         \n\
         web1: would remove 3 backups\n\
         ID        Time\n\
         {}  2025-11-14 11:00:00\n\
         {}  2025-11-20 00:30:00\n\
         {}  2025-11-20 11:00:00\n\
         \n\
         web1: 1 backup kept and not counted: {}\n\
         Do not rely on the time or the content of these backups. To remove one, run \
         “cuttlebone forget ID”.\n\
         \n\
         dry run: would remove 3 backups; a prune would then free about 0 B\n",
        id(0),
        id(4),
        id(5),
        "",
        id(6),
        id(1),
        id(2),
        id(3),
        id(6),
    );
    assert_eq!(output, expected);
    assert_eq!(listed(&world), ids);
    assert!(
        !world
            .ok(&[&policy[..], &["--dry-run", "-q"]].concat())
            .is_empty()
    );

    let output = world.ok(&policy);
    assert!(
        output.contains("web1: keep 4 backups") && output.contains("web1: remove 3 backups"),
        "{output}"
    );
    assert!(
        output.ends_with("removed 3 backups; run “cuttlebone prune” to free their space\n"),
        "{output}"
    );
    assert_eq!(listed(&world).len(), 4);
    world.is_clean();
    world.restores("web1~1", &world.at("disk.img"));
    assert!(world.ok(&policy).ends_with("nothing to remove\n"));
    assert_eq!(world.ok(&["forget", "--keep-last=1", "-q"]), "");
    assert_eq!(
        listed(&world).len(),
        2,
        "the newest backup and the one from the future stay"
    );
}

#[test]
fn forget_prints_kept_backups_with_reasons_as_json() {
    let (world, ids) = seven_backups();
    let lines = world.json(&["forget", "--keep-daily", "2", "--keep-monthly", "unlimited"]);
    let [volume, summary] = &lines[..] else {
        unreachable!("{lines:?}")
    };
    assert_eq!(
        (&volume["message_type"], &volume["volume"]),
        (&"forget".into(), &"web1".into())
    );
    let keep = volume["keep"].as_array().unwrap();
    let reasons: Vec<_> = keep
        .iter()
        .map(|kept| (kept["backup_id"].as_str().unwrap(), kept["reasons"].clone()))
        .collect();
    let why = |args: &[&str]| Value::from(args.to_vec());
    assert_eq!(
        reasons,
        [
            (&ids[0][..], why(&["monthly"])),
            (&ids[4], why(&["daily"])),
            (&ids[5], why(&["daily", "monthly"])),
            (&ids[6], why(&["from the future"])),
        ]
    );
    assert_eq!(keep[0]["time"], "2025-10-31T22:30:00Z");
    let removed = volume["remove"].as_array().unwrap();
    let removed: Vec<_> = removed
        .iter()
        .map(|r| r["backup_id"].as_str().unwrap())
        .collect();
    assert_eq!(removed, &ids[1..4]);
    assert_eq!(
        (&volume["dry_run"], &summary["dry_run"]),
        (&false.into(), &false.into())
    );
    assert_eq!(
        (&summary["message_type"], &summary["backups_removed"]),
        (&"summary".into(), &3.into())
    );
    let kept: Vec<_> = reasons.iter().map(|(id, _)| (*id).to_owned()).collect();
    assert_eq!(listed(&world), kept);
    world.is_clean();
}

#[test]
fn forget_counts_days_in_local_time_as_list_shows_them() {
    let (world, ids) = seven_backups();
    let kept = |args: &[&str]| {
        let lines = world.json(&[&["forget", "--dry-run"], args].concat());
        let keep = lines[0]["keep"].as_array().unwrap().clone();
        let place = |kept: &Value| ids.iter().position(|id| kept["backup_id"] == **id).unwrap();
        keep.iter().map(place).collect::<Vec<_>>()
    };
    // The third backup is from the 20th in local time, and from the 19th in UTC.
    assert_eq!(kept(&["--keep-daily", "3"]), [1, 4, 5, 6]);
    assert_eq!(kept(&["--keep-daily", "3", "--utc"]), [2, 4, 5, 6]);
    let output = world.ok(&["forget", "--dry-run", "--keep-last", "1", "--utc"]);
    assert!(output.contains("2025-11-21 10:00:00  last"), "{output}");
    assert_eq!(kept(&["--keep-last", "-1"]).len(), 7);
}

#[test]
fn forget_removes_a_named_backup_unless_it_is_protected_or_the_last() {
    let (world, ids) = backups(
        "web1",
        &[
            ("2025-11-14T10:00:00Z", &[("protected", "yes")]),
            ("2025-11-15T10:00:00Z", &[("protected", "false")]),
            ("2025-11-16T10:00:00Z", &[]),
        ],
    );
    let refused = world.fails(&["forget", "web1", &ids[0]], 1);
    assert!(
        refused.contains("protected") && refused.contains("--force"),
        "{refused}"
    );
    assert_eq!(listed(&world), ids);
    world.ok(&["forget", "--keep-last", "1"]);
    assert_eq!(listed(&world), [&*ids[0], &*ids[2]]);
    let output = world.ok(&["forget", "web1"]);
    assert!(output.starts_with("web1: remove 1 backup\n"), "{output}");
    let refused = world.fails(&["forget", "web1", "--force"], 1);
    assert!(
        refused.contains("last one") && refused.contains("give its id"),
        "{refused}"
    );
    world.ok(&["forget", &ids[0][..10], "--force"]);
    assert_eq!(world.ok(&["list"]), "no backups\n");
    world.is_clean();
    // The next backup creates a volume of the same name again.
    world.backup(&[&world.at("disk.img"), "--volume", "web1"]);
    world.is_clean();
}

#[test]
fn forget_refuses_ambiguous_or_empty_selections() {
    let (world, ids) = seven_backups();
    for args in [
        &["forget"][..],
        &["forget", "--volume", "web1"],
        &["forget", "--keep-last", "0"],
        &["forget", "--keep-within", "0d", "--dry-run"],
        &["forget", "web1", "--keep-last", "1"],
        &["forget", "--keep-within", "1w"],
        &["forget", ""],
    ] {
        world.fails(args, 2);
    }
    let output = world.fails(&["forget"], 2);
    assert!(
        output.contains("nothing selects the backups to keep") && output.contains("next: "),
        "{output}"
    );
    for zero in [["--keep-last", "0"], ["--keep-within", "0d"]] {
        let output = world.fails(&[&["forget"][..], &zero].concat(), 2);
        assert!(output.contains("this policy keeps no backup"), "{output}");
    }
    let output = world.fails(&["forget", "--keep-last", "1", "--volume", "web2"], 24);
    assert!(
        output.contains("web2") && output.contains("cuttlebone list"),
        "{output}"
    );
    world.fails(&["forget", "nope"], 24);
    assert_eq!(listed(&world), ids);
    let output = world.ok(&["forget", "--keep-label", "nope"]);
    assert!(output.contains("from the future"), "{output}");
    assert_eq!(listed(&world), [&*ids[6]]);
}

#[test]
fn forget_reports_a_damaged_record_and_does_not_remove_it() {
    let (world, ids) = seven_backups();
    program::damage(&world.project().join("backups").join(&ids[1]));
    let ran = world.run(&["forget", "--keep-last", "1"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains(&ids[1]), "{ran:?}");
    assert!(world.project().join("backups").join(&ids[1]).exists());
}

#[test]
fn list_show_and_restore_say_if_a_backup_was_withdrawn_or_forgotten() {
    let times: [(&str, &[(&str, &str)]); 3] = [
        ("2026-11-20T10:00:00Z", &[]),
        ("2026-11-21T10:00:00Z", &[]),
        ("2026-11-22T10:00:00Z", &[]),
    ];
    let (world, ids) = backups("disk", &times);
    let plain = world.ok(&["list"]);
    assert!(!plain.contains("State"), "{plain}");
    let file = |id: &str| world.project().join("backups").join(id);
    let record = std::fs::read(file(&ids[0])).unwrap();
    world.ok(&["forget", &ids[0]]);
    std::fs::write(file(&ids[0]), record).unwrap();
    let backend = Arc::new(LocalBackend::open(world.repository()).unwrap());
    let repository = Repository::open(backend, PASSWORD.as_bytes(), &Silent).unwrap();
    let project = repository.project("default", &Silent).unwrap();
    Voids::put(&project, ids[2].parse().unwrap(), "test").unwrap();

    let text = world.ok(&["list"]);
    let line = |id: &str| {
        text.lines()
            .find(|line| line.starts_with(&id[..8]))
            .unwrap()
    };
    assert!(line(&ids[0]).ends_with("  forgotten"), "{text}");
    assert!(!line(&ids[1]).contains("forgotten") && !line(&ids[1]).contains("withdrawn"));
    assert!(line(&ids[2]).ends_with("  withdrawn"), "{text}");
    let flags = |entry: &Value| ["withdrawn", "forgotten"].map(|flag| entry[flag] == true);
    for entry in world.json(&["list"]) {
        let id = entry["backup_id"].as_str().unwrap();
        assert_eq!(flags(&entry), [id == ids[2], id == ids[0]], "{entry}");
    }
    assert_eq!(flags(&world.json(&["show", &ids[2]])[0]), [true, false]);
    assert!(world.ok(&["show", &ids[0]]).contains("forgotten"));
    for (id, notice) in [(&ids[0], "was forgotten"), (&ids[2], "withdrew it")] {
        let target = world.at(&format!("restored-{}", &id[..8]));
        let ran = world.run(&["restore", id, &target]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.stderr.contains(notice), "{}", ran.stderr);
    }
    let target = world.at("restored");
    let stderr = world.run(&["restore", "disk", &target]).stderr;
    assert!(
        !stderr.contains("forgotten") && !stderr.contains("withdrew it"),
        "{stderr}"
    );
}
