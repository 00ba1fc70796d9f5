//! A check that finds damage says which backups each damaged pack affects, which backups are whole,
//! and which commands come next.

use std::fs;

use serde_json::{Value, json};

use crate::support::noise;
use crate::support::program::{World, damage, files, json_lines};

const MIB: usize = 1 << 20;

/// Runs `check --read-data`, which must find damage. Returns its JSON lines and its text.
#[track_caller]
fn check(world: &World) -> (Vec<Value>, String) {
    let mut output = [&["--json"][..], &[]].map(|options| {
        let ran = world.run(&[&["check", "--read-data"], options].concat());
        assert_eq!(ran.code, Some(21), "{ran:?}");
        String::from_utf8(ran.stdout).unwrap()
    });
    (json_lines(&output[0]), std::mem::take(&mut output[1]))
}

/// Returns the line of an error about the item whose name contains `part`.
#[track_caller]
fn error<'a>(lines: &'a [Value], part: &str) -> &'a Value {
    let mut errors = lines.iter().filter(|line| line["message_type"] == "error");
    let found = errors.find(|line| line["item"].as_str().unwrap().contains(part));
    found.unwrap_or_else(|| panic!("{part}: {lines:?}"))
}

fn name(path: &std::path::Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// Returns the ids of the affected backups and their lost extents, in the order of the JSON line.
fn affects(line: &Value) -> Vec<(String, Value)> {
    let all = line["affects"].as_array().unwrap().iter();
    let each = all.map(|backup| {
        assert!(
            backup["time"].is_string() && backup["volume"] == "a",
            "{backup}"
        );
        let id = backup["backup_id"].as_str().unwrap().to_owned();
        (id, backup["extents"].clone())
    });
    each.collect()
}

#[test]
fn each_damaged_pack_names_the_backups_that_it_affects_and_the_parts_of_them() {
    let world = World::new();
    let mut content = noise(1, 8 * MIB);
    let a = world.write("a", &content);
    let id = |summary: Value| summary["backup_id"].as_str().unwrap().to_owned();
    let first = id(world.backup(&[&a]));
    let old = world.packs().remove(0);
    content[4 * MIB..].copy_from_slice(&noise(2, 4 * MIB));
    fs::write(&a, &content).unwrap();
    let second = id(world.backup(&[&a]));
    let new = world.packs().into_iter().find(|pack| *pack != old).unwrap();
    let other = world.write("other", &noise(3, MIB));
    let whole = id(world.backup(&[&other]));

    // If the packs are missing, all of their data is lost.
    let bytes = [&old, &new].map(|path| fs::read(path).unwrap());
    fs::remove_file(&old).unwrap();
    fs::remove_file(&new).unwrap();
    let (lines, text) = check(&world);
    let extent = |offset: usize, length: usize| json!([{"offset": offset, "length": length}]);
    assert_eq!(
        affects(error(&lines, name(&old))),
        [
            (first.clone(), extent(0, 8 * MIB)),
            (second.clone(), extent(0, 4 * MIB)),
        ]
    );
    assert_eq!(
        affects(error(&lines, name(&new))),
        [(second.clone(), extent(4 * MIB, 4 * MIB))]
    );
    let summary = lines.last().unwrap();
    assert_eq!(summary["backups_whole"], json!([whole]));
    let volume = &summary["volumes"][0];
    assert_eq!(
        (&volume["volume"], &volume["affected"], &volume["whole"]),
        (&json!("a"), &json!(2), &json!(0))
    );
    assert_eq!(volume["newest_whole"], Value::Null);
    assert_eq!(summary["volumes"].as_array().unwrap().len(), 1);
    let next = summary["next"].as_array().unwrap().iter();
    let next: Vec<_> = next.map(|step| step["command"].as_str().unwrap()).collect();
    let again = format!("cuttlebone backup {a} --volume a --reread");
    let rest = format!("cuttlebone restore {} TARGET --keep-going", &second[..8]);
    let from = "cuttlebone repair parity --from REPO --yes";
    assert_eq!(
        next,
        [from, again.as_str(), rest.as_str(), "cuttlebone prune"]
    );
    for part in [
        "a: 2 of 2 backups affected; none is whole",
        "bytes 4 MiB to 8 MiB of 8 MiB cannot be restored",
        &again,
        &rest,
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }

    // Only the second backup needs the new pack.
    fs::write(&old, &bytes[0]).unwrap();
    let (lines, text) = check(&world);
    let summary = lines.last().unwrap();
    assert_eq!(summary["backups_affected"], json!([second]));
    assert_eq!(summary["backups_whole"], json!([first, whole]));
    assert_eq!(summary["volumes"][0]["newest_whole"], json!(first));
    let newest = format!("({})", &first[..8]);
    let named = |line: &str| line.contains("the newest whole one is of") && line.contains(&newest);
    assert!(text.lines().any(named), "{text}");

    // The proposed commands repair the repository.
    for command in next {
        if !command.contains("restore") && command != from {
            let words: Vec<_> = command.split(' ').skip(1).collect();
            let ran = world.run(&words);
            assert!(matches!(ran.code, Some(0 | 21)), "{command}: {ran:?}");
        }
    }
    assert_eq!(world.json_one(&["check"], "check")["errors"], 0);
}

#[test]
fn check_says_if_damage_affects_no_backup() {
    let world = World::new();
    let a = world.write("a", &noise(1, MIB));
    let id = world.backup(&[&a])["backup_id"].clone();
    // Each node is in two packs, so damage to one of them affects no backup.
    let tree = files(&world.project().join("trees")).remove(0);
    damage(&tree);
    let (lines, text) = check(&world);
    assert_eq!(affects(error(&lines, name(&tree))), []);
    let summary = lines.last().unwrap();
    assert_eq!(summary["backups_whole"], json!([id]));
    assert_eq!(summary["volumes"], json!([]));
    assert!(text.contains("no backup is affected"), "{text}");
    world.ok(&["prune", "--grace", "0", "--max-unused", "0"]);

    // The damaged copy of the repository file can be repaired without parity.
    let copy = world.repository().join("cuttlebone.copy");
    damage(&copy);
    let (lines, _) = check(&world);
    let next = &lines.last().unwrap()["next"];
    assert_eq!(next.as_array().unwrap().len(), 1, "{next}");
    assert_eq!(next[0]["command"], "cuttlebone repair parity --yes");
    world.ok(&["repair", "parity", "--yes"]);
    let clean = world.json_one(&["check", "--read-data"], "check");
    assert_eq!(clean["errors"], 0);
    assert!(clean.get("backups_whole").is_none(), "{clean}");
}
