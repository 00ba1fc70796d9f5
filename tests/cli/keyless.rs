//! `check --keyless`: a custodian without a key or password notices damage and a rollback.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::failures::assert_error;
use super::matrix::{WAYS, Way, Whole, damage, heal};
use crate::support::program::{World, files, json_lines};
use crate::support::{modes_apply, noise};

/// Returns a world that has no password.
fn without_password(mut world: World) -> World {
    world
        .environment
        .retain(|(name, _)| name != "CUTTLEBONE_PASSWORD");
    world
}

/// The results of a check without a key.
struct Found {
    code: i32,
    /// The items that the reported errors name.
    items: Vec<String>,
    summary: Value,
}

#[track_caller]
fn check(world: &World, statement: Option<&str>) -> Found {
    let mut args = vec!["check", "--keyless", "--json"];
    args.extend(statement.iter().flat_map(|text| ["--statement", text]));
    let ran = world.run(&args);
    let lines = json_lines(&String::from_utf8(ran.stdout).unwrap());
    let of = |kind: &str| {
        let lines = lines.clone().into_iter();
        let kind = kind.to_owned();
        lines.filter(move |line| line["message_type"] == kind.as_str())
    };
    let items = of("error").map(|line| line["item"].as_str().unwrap().to_owned());
    let summary = of("check").next();
    let summary = summary.unwrap_or_else(|| panic!("no summary: {}", ran.stderr));
    let items: Vec<String> = items.collect();
    assert_eq!(summary["errors"], items.len(), "{summary}");
    Found {
        code: ran.code.unwrap(),
        items,
        summary,
    }
}

/// Returns a world with two backups of a volume, and a statement of `head`. The log names all
/// objects of the backups.
fn with_statement() -> (World, String) {
    let world = World::new();
    for seed in [1, 2] {
        let image = world.write("disk.img", &noise(seed, 300_000));
        world.backup(&[&image]);
    }
    let head = world.json_one(&["head"], "head");
    let statement = head["qr_content"].as_str().unwrap().to_owned();
    (world, statement)
}

#[test]
fn an_undamaged_repository_is_verified_without_a_password() {
    let (world, statement) = with_statement();
    let all = files(&world.repository()).len();
    let world = without_password(world);
    let found = check(&world, Some(&statement));
    assert_eq!((found.code, &found.items[..]), (0, &[] as &[String]));
    assert_eq!(found.summary["files"], all);
    assert_eq!(found.summary["statement_holds"], true);
    let bytes: u64 = files(&world.repository())
        .iter()
        .map(|file| file.metadata().unwrap().len())
        .sum();
    assert_eq!(found.summary["bytes_read"], bytes);
    // A statement on paper has fewer digits, and its letters may be of either case.
    let [prefix, digits, rest] = split_entry(&statement);
    let paper = format!("{prefix}{}{rest}", &digits[..40]).to_lowercase();
    let file = world.write("paper.txt", format!("{paper}\n").as_bytes());
    assert_eq!(check(&world, Some(&file)).code, 0);
    assert_eq!(world.ok(&["check", "--keyless", "-q"]), "");
    let text = world.ok(&["check", "--keyless", "--statement", &paper]);
    assert!(text.starts_with("no damage found ("), "{text}");
    assert!(
        text.contains("all objects that the statement covers exist"),
        "{text}"
    );
}

/// Splits a statement into the text before the hash of the entry, this hash, and the rest.
fn split_entry(statement: &str) -> [&str; 3] {
    let from = statement.match_indices(':').nth(4).unwrap().0 + 1;
    let to = from + statement[from..].find(':').unwrap();
    [&statement[..from], &statement[from..to], &statement[to..]]
}

#[test]
fn damage_of_any_kind_to_any_object_is_found_without_a_key_and_no_other_object_is_blamed() {
    if !modes_apply(
        "cli::keyless::damage_of_any_kind_to_any_object_is_found_without_a_key_and_no_other_object_\
         is_blamed",
    ) {
        return;
    }
    let whole = Whole::new();
    for object in whole.objects() {
        if object.components().any(|part| part.as_os_str() == "leases") {
            continue;
        }
        let world = without_password(whole.copy());
        let path = world.repository().join(&object);
        let bytes = fs::read(&path).unwrap();
        for way in WAYS {
            if damage(&path, way) {
                blames_only(&world, &object, way);
            }
            heal(&path, &bytes);
        }
        fs::remove_file(&path).unwrap();
        let is_in = |directory: &str| {
            object
                .components()
                .any(|part| part.as_os_str() == directory)
        };
        // The log names no marks, key slots or entries of the ledger. Only the next entry of the
        // log will name its newest entry, and the void, which was stored after that entry.
        let is_named = !["voids", "marks", "keys", "log", "ledger"]
            .into_iter()
            .any(is_in);
        let is_kept_twice = path.with_extension("copy").exists();
        let found = check(&world, None);
        if is_named || is_kept_twice {
            let codes = [21, 23];
            assert!(codes.contains(&found.code), "{}: missing", object.display());
        }
        heal(&path, &bytes);
        assert_eq!(check(&world, None).code, 0, "{}: healed", object.display());
    }
}

#[track_caller]
fn blames_only(world: &World, object: &Path, way: Way) {
    let found = check(world, None);
    let when = format!("{}, {way:?}: {:?}", object.display(), found.items);
    let name = object.file_name().unwrap().to_str().unwrap();
    let shown = name.trim_end_matches(".copy");
    // If a directory or a dangling link is in the place of an object, the object is missing. Only
    // the log shows the loss of an object. It never names marks, and does not name the void yet.
    let may_miss = matches!(way, Way::Directory | Way::Dangling)
        && ["voids", "marks"]
            .iter()
            .any(|kind| object.to_string_lossy().contains(kind));
    if may_miss && found.code == 0 {
        return;
    }
    assert!([21, 23].contains(&found.code), "{}: {when}", found.code);
    let is_about = |item: &String| match shown {
        "project" => item.starts_with("project object"),
        "cuttlebone" => item.contains("repository file"),
        hash => item.contains(hash),
    };
    assert!(
        !found.items.is_empty() && found.items.iter().all(is_about),
        "{when}"
    );
}

#[test]
fn a_repository_that_was_rolled_back_does_not_fit_a_later_statement() {
    let (world, early) = with_statement();
    let old = world.at("old");
    copy(&world.at("repo"), &old);
    let image = world.write("disk.img", &noise(3, 300_000));
    world.backup(&[&image]);
    let late = world.json_one(&["head"], "head")["qr_content"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut world = without_password(world);
    for statement in [&early, &late] {
        assert_eq!(check(&world, Some(statement)).code, 0);
    }
    world.set("CUTTLEBONE_REPOSITORY", &old);
    assert_eq!(check(&world, Some(&early)).code, 0);
    assert_eq!(
        check(&world, None).code,
        0,
        "only a later statement shows the rollback"
    );
    let found = check(&world, Some(&late));
    assert_eq!(found.code, 23);
    assert_eq!(found.items, ["the statement"]);
    assert_eq!(found.summary["statement_holds"], false);
    let text = world.fails(&["check", "--keyless", "--statement", &late], 23);
    assert_error(&text, &["history has vanished from"]);
}

fn copy(from: &str, to: &str) {
    let copied = std::process::Command::new("cp")
        .args(["-a", from, to])
        .status();
    assert!(copied.unwrap().success());
}

#[test]
fn objects_that_forget_and_prune_removed_do_not_count_as_missing() {
    let (world, statement) = with_statement();
    let first = world.json(&["list"])[0]["backup_id"]
        .as_str()
        .unwrap()
        .to_owned();
    world.ok(&["forget", &first, "--force", "--prune", "--grace", "0"]);
    let found = check(&world, Some(&statement));
    assert_eq!((found.code, found.items), (0, Vec::new()));
}

#[test]
fn the_theft_of_a_backup_that_the_log_names_is_found() {
    let (world, statement) = with_statement();
    let records = files(&world.project().join("backups"));
    let stolen = records[0].file_name().unwrap().to_str().unwrap();
    fs::remove_file(&records[0]).unwrap();
    for statement in [None, Some(&statement[..])] {
        let found = check(&world, statement);
        assert_eq!(found.code, 23);
        assert_eq!(found.items.len(), 1);
        assert!(found.items[0].contains(stolen), "{:?}", found.items);
    }
}

#[test]
fn damage_does_not_hide_vanished_history_and_a_damaged_entry_does_not_count_as_vanished() {
    let (world, _) = with_statement();
    let image = world.write("disk.img", &noise(3, 300_000));
    world.backup(&[&image]);
    let head = world.json_one(&["head"], "head");
    let statement = head["qr_content"].as_str().unwrap().to_owned();
    // Damage all packs: a check with a key reports only those that a backup needs.
    let packs = world.packs();
    for pack in &packs {
        crate::support::program::damage(pack);
    }
    for statement in [None, Some(&statement[..])] {
        assert_eq!(check(&world, statement).code, 21);
    }
    let record = files(&world.project().join("backups")).remove(0);
    let bytes = fs::read(&record).unwrap();
    fs::remove_file(&record).unwrap();
    for args in [&["check", "--keyless"][..], &["check", "--read-data"]] {
        let text = world.fails(args, 23);
        let both = "and other files are missing or damaged";
        assert_error(&text, &["history has vanished from", both]);
    }
    fs::write(&record, bytes).unwrap();
    for entry in files(&world.project().join("log")) {
        let bytes = fs::read(&entry).unwrap();
        fs::remove_file(&entry).unwrap();
        fs::write(&entry, b"damaged").unwrap();
        let found = check(&world, None);
        assert_eq!(
            (found.code, found.items.len()),
            (21, packs.len() + 1),
            "{:?}",
            found.items
        );
        fs::remove_file(&entry).unwrap();
        fs::write(&entry, bytes).unwrap();
    }
    // The check cannot verify the statement without the public key of the log, which is in the
    // project object.
    for name in ["project", "project.copy"] {
        let path = world.project().join(name);
        fs::remove_file(&path).unwrap();
        fs::write(&path, b"damaged").unwrap();
    }
    let found = check(&world, Some(&statement));
    assert_eq!(found.code, 21, "{:?}", found.items);
    assert_eq!(found.summary["statement_holds"], false);
}

#[test]
fn a_backup_that_a_damaged_entry_of_the_log_may_have_removed_has_not_vanished() {
    let (world, _) = with_statement();
    let image = world.write("disk.img", &noise(3, 300_000));
    let backup = world.backup(&[&image])["backup_id"].clone();
    world.ok(&["head"]);
    let log = || files(&world.project().join("log"));
    let before = log();
    world.ok(&["forget", backup.as_str().unwrap(), "--force"]);
    let mut entries = log();
    entries.retain(|entry| !before.contains(entry));
    let [entry] = &entries[..] else {
        panic!("{entries:?}")
    };
    for args in [&["check"][..], &["check", "--keyless"]] {
        world.ok(args);
    }
    let bytes = fs::read(entry).unwrap();
    fs::remove_file(entry).unwrap();
    fs::write(entry, b"damaged").unwrap();
    for args in [&["check"][..], &["check", "--keyless"]] {
        world.fails(args, 21);
    }
    // Without the entry, nothing explains that the backup is missing.
    fs::remove_file(entry).unwrap();
    for args in [&["check"][..], &["check", "--keyless"]] {
        world.fails(args, 23);
    }
    fs::write(entry, bytes).unwrap();
    world.ok(&["check", "--keyless"]);
}

#[test]
fn a_statement_of_another_repository_does_not_fit() {
    let (_, other) = with_statement();
    let (world, _) = with_statement();
    let found = check(&world, Some(&other));
    assert_eq!(
        (found.code, &found.items[..]),
        (23, &["the statement".to_owned()][..])
    );
}

#[test]
fn a_text_that_is_no_statement_is_a_wrong_usage() {
    let (world, statement) = with_statement();
    let mut wrong = statement.clone();
    wrong.replace_range(25..26, if &wrong[25..26] == "0" { "1" } else { "0" });
    let text = world.fails(&["check", "--keyless", "--statement", &wrong], 2);
    assert_error(
        &text,
        &["is not valid", "copied wrongly", "copy the line again"],
    );
    let text = world.fails(&["check", "--keyless", "--statement", "cuttlebone:head"], 2);
    assert_error(&text, &["does not have the form"]);
    let text = world.fails(&["check", "--keyless", "--statement", &world.at("none")], 1);
    assert_error(&text, &["none", "No such file"]);
    world.fails(&["check", "--statement", &statement], 2);
    world.fails(&["check", "--keyless", "--read-data"], 2);
}

#[test]
fn without_a_repository_there_is_nothing_to_check() {
    let world = without_password(World::empty());
    world.fails(&["check", "--keyless"], 10);
    fs::create_dir(world.repository()).unwrap();
    world.fails(&["check", "--keyless"], 10);
}

/// The loser of a race of two `init` deletes its project, but its directories stay.
#[test]
fn a_project_directory_that_never_had_a_backup_is_no_damage() {
    let world = without_password(with_statement().0);
    let empty = world.path("repo").join("projects").join("0".repeat(32));
    fs::create_dir_all(empty.join("settings")).unwrap();
    let found = check(&world, None);
    assert_eq!((found.code, found.items), (0, vec![]));
    fs::create_dir(empty.join("backups")).unwrap();
    assert_eq!(check(&world, None).code, 21);
    fs::remove_dir(empty.join("backups")).unwrap();
    let unknown = empty.join("settings").join("0".repeat(64));
    fs::write(unknown, "not an object").unwrap();
    assert_eq!(check(&world, None).code, 21);
}
