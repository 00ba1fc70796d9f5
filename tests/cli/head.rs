//! `head`: a statement of the state of the log, to keep on paper.

use std::fs;

use serde_json::Value;

use super::failures::assert_error;
use crate::support::noise;
use crate::support::program::World;

fn head(world: &World) -> Value {
    world.json_one(&["head"], "head")
}

/// Returns the sorted names in the directory of the log, or no names if there is no directory.
fn entries(world: &World) -> Vec<String> {
    let Ok(listed) = fs::read_dir(world.project().join("log")) else {
        return Vec::new();
    };
    let names = listed.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    names
}

#[test]
fn head_puts_everything_new_into_the_log_once() {
    let world = World::new();
    let image = world.write("disk.img", &noise(1, 300_000));
    world.backup(&[&image]);
    let first = head(&world);
    assert_eq!(
        (&first["number"], &first["written"]),
        (&1.into(), &true.into())
    );
    assert_eq!(first["project"], "default");
    // At least a record, a segment, a pack of chunks and two packs of nodes are new.
    assert!(first["objects_added"].as_u64().unwrap() >= 5, "{first}");
    assert_eq!(entries(&world), [first["entry"].as_str().unwrap()]);

    let again = head(&world);
    assert_eq!(
        (&again["written"], &again["objects_added"]),
        (&false.into(), &0.into())
    );
    for same in [
        "number",
        "entry",
        "checksum",
        "time",
        "objects",
        "qr_content",
    ] {
        assert_eq!(again[same], first[same], "{same}");
    }
    assert_eq!(entries(&world).len(), 1, "nothing was new");

    fs::write(world.path("disk.img"), noise(2, 300_000)).unwrap();
    world.backup(&[&image]);
    let second = head(&world);
    assert_eq!(
        (&second["number"], &second["written"]),
        (&2.into(), &true.into())
    );
    assert_ne!(second["checksum"], first["checksum"]);
    assert!(second["objects"].as_u64() > first["objects"].as_u64());
    world.ok(&["check"]);
}

#[test]
fn the_statement_identifies_its_entry_and_does_not_name_the_location() {
    let world = World::new();
    let image = world.write("disk.img", &noise(1, 100_000));
    world.backup(&[&image]);
    let stated = head(&world);
    let text = world.ok(&["head"]);
    let digits = |text: &str| text.replace(' ', "");
    let plain = digits(&text);
    let of = |member: &str| stated[member].as_str().unwrap().to_owned();
    for expected in [
        of("project_id"),
        of("entry")[..40].to_owned(),
        of("fingerprint"),
        of("checksum"),
    ] {
        assert!(plain.contains(&expected), "{expected}: {text}");
    }
    assert!(!text.contains(&world.at("repo")), "{text}");
    assert!(!text.contains('█'), "no QR code: {text}");
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    let with_code = world.ok(&["head", "--qr"]);
    assert!(with_code.contains('█'), "{with_code}");
    assert!(
        with_code.lines().all(|line| line.chars().count() <= 80),
        "{with_code}"
    );
    let content = of("qr_content");
    assert!(content.contains(&of("entry").to_uppercase()), "{content}");
    assert_eq!(of("fingerprint").len(), 40);
    assert_eq!(of("signing_key").len(), 64);
}

#[test]
fn the_log_removes_objects_that_forget_and_prune_delete_and_shows_a_rollback() {
    let world = World::new();
    let image = world.write("disk.img", &noise(1, 300_000));
    let old = world.backup(&[&image])["backup_id"].clone();
    fs::write(world.path("disk.img"), noise(2, 300_000)).unwrap();
    world.backup(&[&image]);
    let before = head(&world);
    world.ok(&["forget", old.as_str().unwrap(), "--prune", "--grace", "0"]);
    world.ok(&["check"]);
    let after = head(&world);
    assert!(after["number"].as_u64() > before["number"].as_u64());
    assert!(
        after["objects"].as_u64() < before["objects"].as_u64(),
        "{after}"
    );

    // The loss of an entry that later entries name is a rollback.
    let gone = before["entry"].as_str().unwrap();
    fs::remove_file(world.project().join("log").join(gone)).unwrap();
    let output = world.fails(&["check"], 23);
    assert_error(&output, &["vanished"]);
}
