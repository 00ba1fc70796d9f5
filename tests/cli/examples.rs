//! The programs in `examples/`, run against a repository.

use std::path::PathBuf;
use std::process::Command;

use crate::support::program::World;
use crate::support::skip;

/// Returns the path of an example that cargo built together with this test program. Skips the test
/// and returns `None` if there is none: `cargo test` builds all examples, but
/// `cargo test --test tests` builds none.
fn example(name: &str) -> Option<PathBuf> {
    let tests = std::env::current_exe().unwrap();
    let path = tests.ancestors().nth(2)?.join("examples").join(name);
    if path.exists() {
        return Some(path);
    }
    skip(&format!(
        "{name} was not built: run cargo test --examples first"
    ));
    None
}

/// Runs an example, which must succeed and print no errors. Returns its standard output, or `None`
/// if it was not built.
fn run(world: &World, name: &str, args: &[&str]) -> Option<Vec<u8>> {
    let output = Command::new(example(name)?)
        .args(args)
        .env_clear()
        .envs(world.environment.iter().map(|(k, v)| (k, v)))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {args:?}: {errors}");
    assert_eq!(errors, "", "{name} {args:?}");
    Some(output.stdout)
}

#[test]
fn the_example_list_backups_lists_all_backups() {
    let world = World::new();
    let image = world.write("disk.img", &vec![7; 100_000]);
    let ids = [(); 2].map(|()| world.backup(&[&image, "--volume", "web1"])["backup_id"].clone());

    let Some(listed) = run(&world, "list_backups", &[&world.at("repo")]) else {
        return;
    };
    let listed = String::from_utf8(listed).unwrap();
    let lines: Vec<Vec<&str>> = listed
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(lines.len(), 2, "{listed}");
    for (line, id) in lines.iter().zip(&ids) {
        assert_eq!(
            [line[0], line[2], line[3]],
            [id.as_str().unwrap(), "100000", "web1"]
        );
    }
}

#[test]
fn the_example_read_range_returns_the_bytes_of_the_range() {
    let world = World::new();
    // A little more than 5 MiB: data, a hole of 3 MiB, and data across the border of two leaves.
    let mut content: Vec<u8> = (0..5_300_000_u32).map(|n| (n / 7 % 251) as u8).collect();
    content[1 << 20..4 << 20].fill(0);
    let image = world.write("disk.img", &content);
    world.backup(&[&image, "--volume", "web1"]);

    let repository = world.at("repo");
    for (offset, length) in [
        (0, 10),
        (1_000_000, 100_000),
        (4_190_000, 70_000),
        (5_299_990, 100),
    ] {
        let (from, count) = (offset.to_string(), length.to_string());
        let args = [&repository, "web1", from.as_str(), count.as_str()];
        let Some(read) = run(&world, "read_range", &args) else {
            return;
        };
        let end = content.len().min(offset + length);
        assert_eq!(read.len(), end - offset, "{length} bytes from {offset}");
        assert!(read == content[offset..end], "{length} bytes from {offset}");
    }
}
