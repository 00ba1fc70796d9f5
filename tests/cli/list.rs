//! `list` shows the backups that a user asks for.

use std::process::Command;

use crate::support::noise;
use crate::support::program::World;

/// Returns one text for each backup that `list` shows with these options: the name of its volume,
/// followed by the value of its label `n`.
fn listed(world: &World, options: &[&str]) -> Vec<String> {
    let lines = world.json(&[&["list"], options].concat());
    let name = |line: &serde_json::Value| {
        let label = line["labels"]["n"].as_str().unwrap();
        format!("{}{label}", line["volume"].as_str().unwrap())
    };
    lines.iter().map(name).collect()
}

fn world() -> World {
    let world = World::new();
    let disk = world.write("disk", &noise(1, 10_000));
    for (volume, number, why) in [
        ("a", "1", "x"),
        ("a", "2", "y"),
        ("b", "1", "x"),
        ("a", "3", "x"),
        ("b", "2", "x"),
    ] {
        let labels = [format!("n={number}"), format!("why={why}")];
        world.backup(&[
            &disk, "--volume", volume, "--label", &labels[0], "--label", &labels[1],
        ]);
    }
    world
}

#[test]
fn a_list_can_be_limited_to_a_volume_a_label_and_the_newest() {
    let world = world();
    for (options, expected) in [
        (&[][..], "a1 a2 b1 a3 b2"),
        (&["a"], "a1 a2 a3"),
        (&["--volume", "a"], "a1 a2 a3"),
        (&["--latest", "1"], "a3 b2"),
        (&["--latest", "2"], "a2 b1 a3 b2"),
        (&["a", "--latest", "2"], "a2 a3"),
        (&["--label", "why=x"], "a1 b1 a3 b2"),
        (&["--label", "why"], "a1 a2 b1 a3 b2"),
        (&["--label", "why=x", "--label", "n=2"], "b2"),
        (&["--label", "why=y", "--latest", "1"], "a2"),
        (&["--label", "other"], ""),
        (&["--latest", "0"], ""),
    ] {
        assert_eq!(listed(&world, options).join(" "), expected, "{options:?}");
    }
    world.fails(&["list", "a", "--volume", "a"], 2);
    world.fails(&["list", "c"], 24);
    assert!(world.fails(&["list", "--volme"], 2).contains("'--volume'"));
    assert_eq!(world.ok(&["list", "a", "--label", "n=9"]), "no backups\n");
}

#[test]
fn a_list_can_be_limited_to_a_host_and_a_time() {
    let world = world();
    let host = Command::new("uname").arg("-n").output().unwrap().stdout;
    let host = String::from_utf8(host).unwrap();
    assert_eq!(listed(&world, &["--host", host.trim()]).len(), 5);
    assert_eq!(listed(&world, &["--host", "another host"]).len(), 0);
    let named = world.run(&["list", "--host", "anothr"]).stderr;
    for part in ["no backup was made by host “anothr”", host.trim()] {
        assert!(named.contains(part), "{named}");
    }
    let known = world.run(&["list", "--host", host.trim()]).stderr;
    assert_eq!(known, "");
    for since in ["1h", "7d", "2020-01-01", "2020-01-01T00:00:00Z"] {
        assert_eq!(listed(&world, &["--since", since]).len(), 5, "{since}");
    }
    for since in ["0h", "2199-01-01", "2199-01-01T00:00:00+01:00"] {
        assert_eq!(listed(&world, &["--since", since]).len(), 0, "{since}");
    }
    assert!(
        world
            .fails(&["list", "--since", "yesterday"], 2)
            .contains("2026-11-28")
    );
}

#[test]
fn forget_can_be_limited_to_backups_with_a_label() {
    let world = world();
    let policy = ["forget", "--keep-last", "1", "--label", "why=x"];
    let json = world.json(&[&policy[..], &["--dry-run"]].concat());
    let removed = |volume: &str| {
        let plan = json.iter().find(|line| line["volume"] == volume).unwrap();
        plan["remove"].as_array().unwrap().len()
    };
    assert_eq!((removed("a"), removed("b")), (1, 1));
    world.ok(&policy);
    assert_eq!(
        listed(&world, &[]),
        ["a2", "a3", "b2"],
        "a2 has another label"
    );
    world.ok(&["forget", "--keep-last", "1", "--label", "why=z"]);
    assert_eq!(listed(&world, &[]).len(), 3, "no backup has that label");
    world.ok(&["forget", "--keep-last", "1"]);
    assert_eq!(listed(&world, &[]), ["a3", "b2"]);
    world.fails(&["forget", "a", "--label", "why=x"], 2);
    world.is_clean();
}
