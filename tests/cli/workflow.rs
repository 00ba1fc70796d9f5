//! The most important commands in their usual order, with their output for people and as JSON.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use serde_json::Value;

use crate::support::program::{self, CHEAP_KEY, PASSWORD, World, json_lines, same};
use crate::support::{LoopDevice, noise};

const MIB: usize = 1 << 20;

/// Writes an image of a little more than 10 MiB: data, a hole, data, and an incomplete chunk at the
/// end.
fn image(world: &World, name: &str, seed: u64) -> String {
    let path = world.at(name);
    let file = File::create(&path).unwrap();
    let write = |at: usize, bytes: &[u8]| {
        std::os::unix::fs::FileExt::write_all_at(&file, bytes, at as u64).unwrap();
    };
    write(0, &noise(1, 3 * MIB));
    write(3 * MIB, &noise(seed, MIB));
    write(9 * MIB, &noise(2, MIB + 1234));
    path
}

#[track_caller]
fn fields(value: &Value, names: &[&str]) {
    for name in names {
        assert!(value.get(*name).is_some(), "no {name} in {value}");
    }
}

#[test]
fn a_user_can_init_back_up_list_and_restore() {
    let world = World::empty();
    let made = world.ok(&["init"]);
    assert!(
        made.contains(&world.at("repo")) && made.contains("password"),
        "{made}"
    );
    assert_eq!(world.ok(&["list"]), "no backups\n");

    let disk = image(&world, "disk.img", 3);
    let output = world.ok(&["backup", &disk, "--label", "host=web1", "--label", "empty="]);
    assert!(
        output.contains("of disk.img") && output.contains("without a base"),
        "{output}"
    );
    image(&world, "disk.img", 4);
    let output = world.ok(&["backup", &disk, "-v"]);
    assert!(output.contains("new 1.0 MiB (16 chunks)"), "{output}");
    assert!(
        output.contains("Cache ") && output.contains(&world.at("cache")),
        "{output}"
    );
    assert_eq!(world.ok(&["backup", &disk, "-q", "--reread"]), "");

    let listed = world.ok(&["list"]);
    assert_eq!(listed.lines().count(), 4, "{listed}");
    assert_eq!(world.ok(&["list", "disk.img"]), listed);
    let shown = world.ok(&["show", "disk.img~2"]);
    for expected in [
        "empty=, host=web1",
        "10.0 MiB (10486994 bytes)",
        "file /",
        "64.0 KiB",
    ] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    let compared = world.ok(&["compare", "disk.img~2", "disk.img"]);
    assert!(
        compared.contains("differ in 1 extent, 1.0 MiB"),
        "{compared}"
    );
    let compared = world.ok(&["compare", "disk.img~1", "disk.img"]);
    assert!(compared.contains("the same content"), "{compared}");

    let target = world.at("restored");
    let output = world.ok(&["restore", "disk.img", &target]);
    assert!(output.contains(&target), "{output}");
    assert!(same(&target, &disk));
    assert!(world.ok(&["check"]).contains("no damage found (3 backups"));
    assert!(world.ok(&["repo", "stats"]).contains("Backups  3, 30."));
    assert!(world.ok(&["check", "--read-data"]).contains("read 6."));
    assert_eq!(world.ok(&["check", "-q"]), "");
}

#[test]
fn a_script_can_init_back_up_list_and_restore_with_json() {
    let world = World::empty();
    let init = world.json_one(&["init", "--chunk-size", "16K"], "summary");
    fields(
        &init,
        &["repository", "repository_id", "project", "chunk_size"],
    );
    assert_eq!(init["chunk_size"], 16384);

    let disk = image(&world, "disk.img", 3);
    let first = world.backup(&[&disk, "--label", "a=b"]);
    let names = "backup_id volume size bytes_changed bytes_read bytes_new bytes_stored chunks_new \
                 duration base";
    fields(&first, &names.split(' ').collect::<Vec<_>>());
    assert_eq!(
        (&first["volume"], &first["base"]),
        (&"disk.img".into(), &Value::Null)
    );
    let size = 10 * MIB + 1234;
    assert_eq!(first["size"], size);
    assert_eq!(first["bytes_read"], 5 * MIB + 1234);
    assert_eq!(first["chunks_new"], 5 * 64 + 1);
    assert!(first["bytes_stored"].as_u64() >= first["bytes_new"].as_u64());

    image(&world, "disk.img", 4);
    let second = world.backup(&[&disk, "--compression", "off"]);
    assert_eq!(second["base"], first["backup_id"]);
    assert_eq!(
        (&second["bytes_new"], &second["bytes_changed"]),
        (&MIB.into(), &MIB.into())
    );

    let listed = world.json(&["list"]);
    assert_eq!(listed.len(), 2);
    for entry in &listed {
        let names = "backup_id volume time size bytes_stored host labels";
        fields(entry, &names.split(' ').collect::<Vec<_>>());
    }
    assert_eq!(listed[0]["labels"]["a"], "b");
    let shown = world.json_one(&["show", "disk.img"], "backup");
    assert_eq!(
        (&shown["kind"], &shown["chunk_size"]),
        (&"image".into(), &16384.into())
    );
    fields(
        &shown,
        &["root", "volume_id", "finished", "source", "project", "tool"],
    );

    let compared = world.json(&["compare", "disk.img~1", "disk.img"]);
    assert_eq!(compared[0]["message_type"], "extent");
    assert_eq!(
        (&compared[0]["offset"], &compared[0]["length"]),
        (&(3 * MIB).into(), &MIB.into())
    );
    assert_eq!(compared[1]["identical"], false);

    let id = first["backup_id"].as_str().unwrap();
    let target = world.at("restored");
    let restored = world.json_one(&["restore", &id[..12], &target], "summary");
    let names = "backup_id volume target size bytes_written bytes_fetched bytes_missing duration";
    fields(&restored, &names.split(' ').collect::<Vec<_>>());
    assert_eq!(restored["backup_id"], id);

    let check = world.json_one(&["check", "--read-data"], "check");
    let names = "errors packs_damaged backups_affected backups packs bytes_read duration";
    fields(&check, &names.split(' ').collect::<Vec<_>>());
    assert!(check["bytes_read"].as_u64().unwrap() > 6 * MIB as u64);
    let stats = world.json_one(&["stats"], "stats");
    assert_eq!(
        (&stats["backups"], &stats["volumes"]),
        (&2.into(), &1.into())
    );
    assert_eq!(stats["bytes_backed_up"], 2 * size);
}

#[test]
fn progress_is_printed_as_json_while_a_backup_runs() {
    let mut world = World::new();
    world.set("CUTTLEBONE_PROGRESS_FPS", "60");
    let disk = world.write("disk.img", &noise(5, 96 * MIB));
    let restored = world.path("restored").display().to_string();
    // The limits make each command run long enough to report progress.
    let slowly = ["--limit-upload", "96M", "--limit-download", "96M"];
    for (command, phase) in [
        (&["backup", &disk][..], "backup"),
        (&["restore", "disk.img", &restored], "restore"),
        (&["check", "--read-data"], "check_data"),
        (&["parity", "set", "5%"], "store_parity"),
    ] {
        let lines = world.json(&[command, &slowly].concat());
        let is_status = |line: &&serde_json::Value| line["message_type"] == "status";
        let status: Vec<_> = lines.iter().filter(is_status).collect();
        assert!(
            status.iter().any(|line| line["phase"] == phase),
            "{lines:?}"
        );
        for line in status {
            fields(line, &["bytes_done", "seconds_elapsed", "phase"]);
            if let Some(part) = line.get("percent_done") {
                let part = part.as_f64().unwrap();
                assert!((0.0..=1.0).contains(&part), "{line}");
            }
        }
        assert_ne!(lines.last().unwrap()["message_type"], "status");
    }
}

#[test]
fn restore_replaces_or_updates_an_existing_target_only_if_asked_to() {
    let world = World::new();
    let disk = image(&world, "disk.img", 3);
    world.backup(&[&disk]);
    let target = world.write("target", b"precious");
    let refused = world.fails(&["restore", "disk.img", &target], 1);
    assert!(
        refused.contains("--in-place") && refused.contains("--force"),
        "{refused}"
    );
    assert_eq!(fs::read(&target).unwrap(), b"precious");
    world.ok(&["restore", "disk.img", &target, "--force"]);
    assert!(same(&target, &disk));
    let blocks = |path: &str| {
        let file = File::open(path).unwrap();
        file.sync_all().unwrap();
        file.metadata().unwrap().blocks()
    };
    assert!(
        blocks(&target) <= blocks(&disk),
        "not as sparse as the source"
    );

    // With --in-place, equal data is not fetched, and holes of the image become zeros.
    let file = File::options().write(true).open(&target).unwrap();
    let write = |at: usize| {
        std::os::unix::fs::FileExt::write_all_at(&file, &noise(9, 1000), at as u64).unwrap();
    };
    write(MIB);
    write(6 * MIB + 17);
    let mended = world.json_one(&["restore", "disk.img", &target, "--in-place"], "summary");
    assert!(same(&target, &disk));
    assert!(
        mended["bytes_written"].as_u64().unwrap() <= 3 * 65536,
        "{mended}"
    );
    let again = world.json_one(&["restore", "disk.img", &target, "--in-place"], "summary");
    assert_eq!(
        (&again["bytes_written"], &again["bytes_fetched"]),
        (&0.into(), &0.into())
    );

    let streamed = world.run(&["restore", "disk.img", "-"]);
    assert_eq!(streamed.code, Some(0));
    assert!(streamed.stdout == fs::read(&disk).unwrap());
    assert!(
        streamed.stderr.contains("to standard output"),
        "{}",
        streamed.stderr
    );
}

#[test]
fn a_device_is_backed_up_and_restored() {
    let content = noise(7, 8 * MIB);
    let Some(device) = LoopDevice::new(&content) else {
        return;
    };
    let world = World::new();
    world.backup(&[&device.device, "--volume", "root"]);
    let changed = image(&world, "changed", 3);
    fs::copy(world.write("zeros", &vec![0; 8 * MIB]), &device.device).unwrap();
    world.ok(&["restore", "root", &device.device]);
    assert!(fs::read(&device.device).unwrap() == content);
    let output = world.fails(&["backup", &changed, "--volume", "x", "--base", "nope"], 24);
    assert!(output.contains("“nope”"), "{output}");
}

#[test]
fn a_stream_is_backed_up_and_restored() {
    let world = World::new();
    let dump = world.write("dump", &noise(8, 5 * MIB + 77));
    let args = ["backup", "-", "--volume", "db", "--json"];
    let ran = world.run_with_stdin(&args, File::open(&dump).unwrap());
    let first = json_lines(&ran.ok(&args)).pop().unwrap();
    assert_eq!(
        (&first["size"], &first["bytes_new"]),
        (&(5 * MIB + 77).into(), &(5 * MIB + 77).into())
    );

    // Insert one byte at the beginning. Only the chunks near it are new.
    let shifted = [b"x".as_slice(), &fs::read(&dump).unwrap()].concat();
    let shifted = world.write("shifted", &shifted);
    let ran = world.run_with_stdin(&args, File::open(&shifted).unwrap());
    let second = json_lines(&ran.ok(&args)).pop().unwrap();
    assert!(
        second["bytes_new"].as_u64().unwrap() < MIB as u64,
        "{second}"
    );
    world.restores("db", &shifted);
    world.restores("db~1", &dump);
    let output = world.ok(&["compare", "db~1", "db"]);
    assert!(output.contains("differ"), "{output}");

    let args = [&args[..], &["--allow-empty"]].concat();
    let ran = world.run_with_stdin(&args, File::open("/dev/null").unwrap());
    assert_eq!(json_lines(&ran.ok(&args)).pop().unwrap()["size"], 0);
    world.restores("db", "/dev/null");
    world.is_clean();
}

#[test]
fn a_dry_run_counts_and_stores_nothing() {
    let world = World::new();
    let disk = image(&world, "disk.img", 3);
    let before = program::files(&world.repository()).len();
    let output = world.ok(&["backup", &disk, "--dry-run"]);
    assert!(
        output.contains("nothing was stored") && output.contains("new 5.1 MiB"),
        "{output}"
    );
    let summary = world.json_one(&["backup", &disk, "--dry-run"], "summary");
    assert_eq!(
        (&summary["backup_id"], &summary["chunks_new"]),
        (&Value::Null, &81.into())
    );
    assert_eq!(program::files(&world.repository()).len(), before);
    assert_eq!(world.ok(&["list"]), "no backups\n");
    world.backup(&[&disk]);
    world.restores("disk.img", &disk);
}

#[test]
fn the_base_of_a_backup_can_be_given() {
    let world = World::new();
    let (a, b) = (image(&world, "a", 3), image(&world, "b", 4));
    let first = world.backup(&[&a]);
    let clone = world.backup(&[&b, "--base", "a"]);
    assert_eq!(clone["base"], first["backup_id"]);
    assert_eq!(clone["bytes_changed"], MIB);
    let args = ["backup", "-", "--volume", "s", "--base", "a"];
    let ran = world.run_with_stdin(&args, File::open(&b).unwrap());
    assert_eq!(ran.code, Some(20), "{ran:?}");
    assert!(
        ran.stderr.contains("an image") && ran.stderr.contains("next: "),
        "{}",
        ran.stderr
    );
}

#[test]
fn backup_creates_the_repository_if_asked_to() {
    let world = World::empty();
    let disk = image(&world, "disk.img", 3);
    let refused = world.fails(&["backup", &disk], 10);
    assert!(refused.contains("cuttlebone init"), "{refused}");
    world.fails(&["backup", &world.at("missing"), "--init"], 1);
    assert!(!world.repository().exists(), "a typo makes no repository");
    world.backup(&[&disk, "--init"]);
    world.backup(&[&disk, "--init"]);
    assert_eq!(world.json(&["list"]).len(), 2);
    let refused = world.fails(&["init"], 1);
    assert!(
        refused.contains("already") && refused.contains("next: "),
        "{refused}"
    );
}

#[test]
fn a_different_source_with_the_name_of_a_volume_is_refused() {
    let world = World::new();
    fs::create_dir(world.path("elsewhere")).unwrap();
    let disk = image(&world, "disk.img", 3);
    let other = image(&world, "elsewhere/disk.img", 4);
    world.backup(&[&disk]);
    let refused = world.fails(&["backup", &other], 2);
    assert!(
        refused.contains(&disk) && refused.contains("--volume"),
        "{refused}"
    );
    world.backup(&[&other, "--volume", "disk.img"]);
}

#[test]
fn keys_can_be_added_listed_changed_and_removed() {
    let mut world = World::new();
    let second = world.write("second", b"battery staple\n");
    let args = [
        "key",
        "add",
        "--label",
        "sealed envelope",
        "--new-password-file",
        &second,
    ];
    let added = world.json_one(&[&args[..], &CHEAP_KEY].concat(), "key_change");
    assert_eq!(added["action"], "added");
    let id = added["key_id"].as_str().unwrap().to_owned();
    let keys = world.json(&["key", "list"]);
    assert_eq!(keys.len(), 2);
    for key in &keys {
        fields(
            key,
            &[
                "key_id", "scope", "project", "role", "volumes", "label", "created", "user",
                "host", "current", "foreign",
            ],
        );
        assert_eq!(key["current"] == true, key["key_id"] != id.as_str());
    }
    let listed = world.ok(&["key", "list"]);
    assert!(listed.contains("sealed envelope"), "{listed}");

    let tested = world.ok(&["key", "test", "--password-file", &second]);
    assert!(tested.contains(&id[..8]), "{tested}");
    let third = world.write("third", b"tr0ub4dor\r\n");
    let args = [
        "key",
        "passwd",
        "--password-file",
        &second,
        "--new-password-file",
        &third,
    ];
    world.ok(&[&args[..], &CHEAP_KEY].concat());
    world.fails(&["key", "test", "--password-file", &second], 12);
    world.set("CUTTLEBONE_PASSWORD", "tr0ub4dor");
    let listed = world.json(&["key", "list"]);
    let current = listed.iter().find(|key| key["current"] == true).unwrap();
    assert_eq!(current["label"], "sealed envelope", "the label stays");

    let id = current["key_id"].as_str().unwrap();
    let other = listed.iter().find(|key| key["current"] == false).unwrap();
    world.ok(&["key", "remove", &other["key_id"].as_str().unwrap()[..10]]);
    world.set("CUTTLEBONE_PASSWORD", PASSWORD);
    world.fails(&["key", "test"], 12);
    world.set("CUTTLEBONE_PASSWORD", "tr0ub4dor");
    let refused = world.fails(&["key", "remove", id], 1);
    assert!(
        refused.contains("last") && refused.contains("key add"),
        "{refused}"
    );
    let refused = world.fails(&["key", "remove", "ffffffffffff"], 1);
    assert!(refused.contains("key list"), "{refused}");
}

#[test]
fn a_key_of_a_project_opens_only_that_project() {
    let mut world = World::new();
    let disk = image(&world, "disk.img", 3);
    world.backup(&[&disk]);
    let team = world.write("team", b"of the team");
    let args = ["key", "add", "--this-project", "--new-password-file", &team];
    world.ok(&[&args[..], &CHEAP_KEY].concat());
    world.set("CUTTLEBONE_PASSWORD", "of the team");
    world.restores("disk.img", &disk);
    let keys = world.json(&["key", "list"]);
    assert_eq!(keys.len(), 1, "{keys:?}");
    assert_eq!(keys[0]["scope"], "project");
}

#[test]
fn an_exported_key_slot_makes_a_repository_without_keys_usable() {
    let world = World::new();
    let disk = image(&world, "disk.img", 3);
    world.backup(&[&disk]);
    let saved = world.at("slot");
    let output = world.ok(&["key", "export", &saved]);
    let name = output.split_whitespace().last().unwrap().to_owned();
    assert_eq!(name.len(), 64, "{output}");
    let raw = world.run(&["key", "export"]);
    assert!(raw.stdout == fs::read(&saved).unwrap());
    let refused = world.fails(&["key", "export", &saved], 1);
    assert!(refused.contains(&saved), "{refused}");

    fs::remove_dir_all(world.repository().join("keys")).unwrap();
    let lost = world.fails(&["list"], 21);
    assert!(
        lost.contains("no readable key slot") && lost.contains("key export"),
        "{lost}"
    );
    fs::create_dir(world.repository().join("keys")).unwrap();
    fs::copy(&saved, world.repository().join("keys").join(name)).unwrap();
    world.restores("disk.img", &disk);
}

#[test]
fn the_cache_can_be_shown_cleared_and_rebuilt() {
    let world = World::new();
    let disk = image(&world, "disk.img", 3);
    world.backup(&[&disk]);
    let show = |args: &[&str]| world.json_one(args, "cache");
    let full = show(&["cache"]);
    assert!(full["bytes"].as_u64().unwrap() > 0 && full["chunks"].as_u64().unwrap() >= 81);
    assert!(
        full["path"]
            .as_str()
            .unwrap()
            .starts_with(&world.at("cache")),
        "{full}"
    );
    let cleared = show(&["cache", "clear"]);
    assert_eq!(
        (&cleared["bytes"], &cleared["chunks"]),
        (&0.into(), &Value::Null)
    );
    assert!(world.ok(&["cache", "clear"]).contains(": empty"));
    world.restores("disk.img", &disk);
    world.ok(&["cache", "rebuild"]);
    assert_eq!(show(&["cache", "show"])["chunks"], full["chunks"]);

    // A damaged cache is noticed, reported and rebuilt.
    for file in program::files(&world.path("cache")) {
        if file
            .extension()
            .is_some_and(|extension| extension == "redb")
        {
            fs::write(file, b"not a database at all").unwrap();
        }
    }
    let ran = world.run(&["check"]);
    assert_eq!(ran.code, Some(0));
    assert!(
        ran.stderr.contains("rebuilding the local index"),
        "{}",
        ran.stderr
    );
    assert!(
        !world
            .run(&["check"])
            .stderr
            .contains("rebuilding the local index")
    );
}

#[test]
fn a_comparison_of_backups_of_different_sizes_says_so() {
    let world = World::new();
    let short = world.write("short", &noise(1, 100_000));
    world.backup(&[&short, "--volume", "v"]);
    // The longer file has only additional zeros, so no chunk differs.
    let longer = [noise(1, 100_000), vec![0; 100_000]].concat();
    let longer = world.write("longer", &longer);
    world.backup(&[&longer, "--volume", "v"]);
    let text = world.ok(&["compare", "v~1", "v"]);
    assert!(
        text.contains("sizes differ: 97.7 KiB (100000 bytes), "),
        "{text}"
    );
    let summary = world.json_one(&["compare", "v~1", "v"], "summary");
    assert_eq!(
        (&summary["size_a"], &summary["size_b"]),
        (&100_000.into(), &200_000.into())
    );
    let text = world.ok(&["compare", "v", "v"]);
    assert!(!text.contains("sizes"), "{text}");
}
