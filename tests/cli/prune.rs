//! `prune` with its output for people and as JSON, and concurrently with backups that are killed.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::failures::assert_error;
use crate::support::program::{ALONE, World, damage, files, finish};
use crate::support::{Random, noise};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Returns a repository with three backups; the first two share data that the last does not have.
fn three() -> World {
    let world = World::new();
    let disk = world.at("disk.img");
    for day in 0..3 {
        let content = [noise(1 + day / 2, 2 * MIB), noise(10 + day, MIB)].concat();
        fs::write(&disk, content).unwrap();
        world.backup(&[&disk]);
    }
    world
}

fn summary(lines: &[Value]) -> &Value {
    let of_prune = |line: &&Value| line["message_type"] == "prune";
    lines.iter().find(of_prune).unwrap()
}

#[test]
fn prune_prints_which_data_it_deletes_and_which_waits() {
    let world = three();
    let nothing = world.ok(&["prune", "--grace", "0"]);
    assert!(nothing.starts_with("nothing to prune now\n"), "{nothing}");
    world.ok(&["forget", "disk.img~1", "disk.img~2", "-q"]);
    // The unused packs are younger than the grace period of 20 hours.
    let young = world.ok(&["prune"]);
    assert!(young.contains("unused, but younger than 20 h"), "{young}");
    let packs = world.packs().len();
    let dry = world.ok(&["prune", "--grace", "0", "--dry-run"]);
    assert!(
        dry.starts_with("dry run: nothing was done\n") && dry.contains("would be deleted"),
        "{dry}"
    );
    assert_eq!(world.packs().len(), packs);
    let done = world.ok(&["prune", "--grace", "0"]);
    assert!(
        done.starts_with("pruned in ") && done.contains(": deleted\n"),
        "{done}"
    );
    assert!(
        done.lines()
            .chain(dry.lines())
            .chain(young.lines())
            .all(|line| line.chars().count() <= 80),
        "{done}{dry}{young}"
    );
    assert!(world.packs().len() < packs);
    assert_eq!(world.ok(&["prune", "--grace", "0", "-q"]), "");
    world.is_clean();
    world.restores("disk.img", &world.at("disk.img"));
}

#[test]
fn prune_prints_which_data_it_deletes_and_which_waits_as_json() {
    let world = three();
    let lines = world.json(&[
        "forget",
        "disk.img~1",
        "--prune",
        "--grace",
        "0",
        "--max-unused",
        "0",
    ]);
    let done = summary(&lines);
    assert!(done["deleted"]["packs"].as_u64().unwrap() > 0, "{done}");
    assert!(done["bytes_read"].as_u64().is_some() && done["bytes_written"].as_u64().is_some());
    assert_eq!(done["dry_run"], false);
    assert_eq!(done["plan"]["grace_seconds"], 0);
    let lines = world.json(&["prune", "--dry-run", "--grace=0"]);
    let plan = &summary(&lines)["plan"];
    for nothing in ["mark", "repack", "delete", "waiting", "young"] {
        assert_eq!(plan[nothing]["packs"], 0, "{nothing}: {plan}");
    }
    world.is_clean();
}

#[test]
fn prune_merges_the_packs_of_many_small_backups_and_says_so() {
    let world = World::new();
    for number in 0..30 {
        let page = world.write("page", &noise(100 + number, 4 * KIB));
        world.backup(&[&page, "--volume", &format!("volume{number}")]);
    }
    let before = world.packs();
    assert_eq!(before.len(), 90);
    let dry = world.ok(&["prune", "--grace", "0", "--dry-run"]);
    for part in [
        " in 90 packs: small, would be merged and deleted\n",
        "  would read about ",
        ", and store as much\n",
    ] {
        assert!(dry.contains(part), "{dry}");
    }
    let lines = world.json(&["prune", "--grace", "0", "--dry-run"]);
    let plan = &summary(&lines)["plan"];
    assert_eq!(plan["merge"]["packs"], 90, "{plan}");
    assert_eq!(plan["merge_bytes_used"], plan["merge"]["bytes"], "{plan}");
    assert_eq!(plan["keep"]["packs"], 0, "{plan}");
    for off in [
        &["prune", "--grace", "0", "--no-merge-small"][..],
        &["prune", "--grace", "0", "--merge-small", "--no-merge-small"],
        &[
            "forget",
            "--keep-last",
            "1",
            "--prune",
            "--grace=0",
            "--no-merge-small",
        ],
    ] {
        world.ok(off);
        assert_eq!(world.packs(), before, "{off:?}");
    }
    world.fails(&["forget", "--keep-last", "1", "--no-merge-small"], 2);

    let args = ["prune", "--grace", "0", "--no-merge-small", "--merge-small"];
    let done = world.ok(&args);
    assert!(
        done.contains(" in 90 packs: small, merged into larger packs\n"),
        "{done}"
    );
    for line in done.lines().chain(dry.lines()) {
        assert!(line.chars().count() <= 80, "{line}");
    }
    assert_eq!(
        world.packs().len(),
        3,
        "one pack has chunks, two have nodes"
    );
    let lines = world.json(&["forget", "--keep-last", "1", "--prune", "--grace", "0"]);
    let again = summary(&lines);
    for nothing in ["merged", "repacked", "deleted", "marked"] {
        assert_eq!(again[nothing]["packs"], 0, "{again}");
    }
    assert_eq!(again["bytes_written"], 0);
    world.is_clean();
    world.restores("volume29", &world.at("page"));
}

#[test]
fn prune_and_forget_exit_with_23_until_the_loss_of_a_missing_backup_is_accepted() {
    let world = three();
    let lines = world.json(&["list"]);
    let ids: Vec<String> = lines
        .iter()
        .filter_map(|line| line["backup_id"].as_str().map(str::to_owned))
        .collect();
    fs::remove_file(world.project().join("backups").join(&ids[1])).unwrap();
    let packs = world.packs();
    for args in [
        &["prune", "--grace", "0"][..],
        &["forget", "--keep-last", "1"],
        &["forget", "--keep-last", "1", "--prune", "--grace", "0"],
    ] {
        let refused = world.fails(args, 23);
        let named = format!("backup {} of volume “disk.img” from before 20", ids[1]);
        assert_error(&refused, &[&named, "--accept-loss"]);
        assert_eq!(world.packs(), packs);
    }
    let longer = format!("{}0", ids[1]);
    for wrong in ["ab", &ids[1][..7], &longer, "xyzxyzxyz", ids[0].as_str()] {
        world.fails(&["prune", "--accept-loss", wrong], 2);
    }
    let forget = ["forget", "--keep-last", "1", "--accept-loss", &ids[1][..8]];
    world.ok(&[&forget[..], &["--prune", "--grace", "0"]].concat());
    world.is_clean();
    assert!(world.packs().len() < packs.len());
    world.restores("disk.img", &world.at("disk.img"));
}

#[test]
fn a_prune_that_accepts_every_loss_continues() {
    let world = three();
    let lines = world.json(&["list"]);
    let id = lines[1]["backup_id"].as_str().unwrap();
    fs::remove_file(world.project().join("backups").join(id)).unwrap();
    world.fails(&["check"], 23);
    world.fails(&["prune", "--grace", "0"], 23);
    world.ok(&["prune", "--grace", "0", "--accept-loss", "all"]);
    world.is_clean();
    world.restores("disk.img", &world.at("disk.img"));
}

#[test]
fn prune_exits_with_23_if_all_records_were_deleted() {
    let world = three();
    fs::remove_dir_all(world.project().join("backups")).unwrap();
    // If the host remembered the repository, the error would name the backups that the host saw.
    world.forget_memory();
    let packs = world.packs();
    let refused = world.fails(&["prune", "--grace", "0"], 23);
    assert_error(&refused, &["no backup", "--accept-loss all"]);
    assert_eq!(world.packs(), packs);
    world.ok(&["prune", "--grace", "0", "--accept-loss", "all"]);
    assert!(world.packs().is_empty());
}

#[test]
fn prune_refuses_impossible_options() {
    let world = World::new();
    for args in [
        &["prune", "--max-unused", "120%"][..],
        &["prune", "--grace", "soon"],
        &["forget", "--keep-last", "1", "--grace", "1h"],
        &["prune", "--max-repack", "much"],
    ] {
        assert_eq!(world.run(args).code, Some(2), "{args:?}");
    }
}

/// Returns how long the test kills processes. For a thorough run by hand, set `KILL_SECONDS` to 60
/// or more.
fn killing() -> Duration {
    let seconds = std::env::var("KILL_SECONDS")
        .ok()
        .and_then(|s| s.parse().ok());
    Duration::from_secs(seconds.unwrap_or(12))
}

/// For each volume, the hashes of all contents that its backups may have.
type Contents = Mutex<HashMap<String, HashSet<blake3::Hash>>>;

/// Repeatedly backs up one volume, sometimes forgets, and sometimes kills the program. Returns the
/// number of backups that succeeded.
fn writer(world: &World, number: u64, until: Instant, contents: &Contents) -> u64 {
    let mut random = Random::new();
    let volume = format!("disk{number}");
    let path = world.at(&volume);
    let mut image = vec![0; 3 * MIB];
    let mut ended = 0;
    while Instant::now() < until {
        // The image has 24 blocks. All volumes take the contents of their blocks from the same 40.
        for _ in 0..6 {
            let block = noise(random.below(40), 128 * KIB);
            let at = usize::try_from(random.below(24)).unwrap() * block.len();
            image[at..at + block.len()].copy_from_slice(&block);
        }
        fs::write(&path, &image).unwrap();
        let hash = blake3::hash(&image);
        contents
            .lock()
            .unwrap()
            .entry(volume.clone())
            .or_default()
            .insert(hash);
        ended += u64::from(killed(world, &["backup", &path, "-q"], &mut random));
        // Forget fails for a volume without backups.
        if ended > 0 && random.below(3) == 0 {
            killed(
                world,
                &["forget", "--volume", &volume, "--keep-last=2", "-q"],
                &mut random,
            );
        }
    }
    ended
}

/// Runs the program, and kills it with a probability of 1/3. Returns whether it succeeded.
fn killed(world: &World, args: &[&str], random: &mut Random) -> bool {
    let mut child = world.start(args);
    if random.below(3) == 0 {
        thread::sleep(Duration::from_millis(random.below(300)));
        child.kill().unwrap();
        return child.wait().unwrap().success();
    }
    let ran = finish(child, args);
    // Exit code 11 means that a prune, or a forget of the same backups, runs at the same time.
    assert!(matches!(ran.code, Some(0 | 11)), "{args:?}: {ran:?}");
    ran.code == Some(0)
}

#[test]
fn concurrent_backups_and_prunes_survive_kills() {
    let _alone = ALONE.lock();
    let world = World::new();
    let contents = Contents::default();
    let until = Instant::now() + killing();
    let (ended, pruned) = thread::scope(|scope| {
        let (world, contents) = (&world, &contents);
        let writers: Vec<_> = (0..4)
            .map(|number| scope.spawn(move || writer(world, number, until, contents)))
            .collect();
        let pruner = scope.spawn(move || {
            let mut random = Random::new();
            let mut pruned = 0;
            while Instant::now() < until {
                let grace = ["--grace=0", "--grace=1s"][usize::try_from(random.below(2)).unwrap()];
                let args = ["prune", grace, "--max-unused=0", "-q"];
                pruned += u64::from(killed(world, &args, &mut random));
            }
            pruned
        });
        let ended: u64 = writers.into_iter().map(|w| w.join().unwrap()).sum();
        (ended, pruner.join().unwrap())
    });
    eprintln!("{ended} backups and {pruned} prunes ended before they were killed");
    assert!(
        ended > 4 && pruned > 1,
        "{ended} backups, {pruned} prunes are too few for a meaningful test"
    );
    world.is_clean();
    let contents = contents.into_inner().unwrap();
    let target = world.at("restored");
    let listed = world.json(&["list"]);
    assert!(listed.len() >= 4);
    for backup in listed {
        let id = backup["backup_id"].as_str().unwrap();
        world.ok(&["restore", id, &target, "--force", "-q"]);
        let hash = blake3::hash(&fs::read(&target).unwrap());
        assert!(
            contents[backup["volume"].as_str().unwrap()].contains(&hash),
            "{backup}"
        );
    }
    // Two more prunes delete all unused packs.
    thread::sleep(Duration::from_secs(1));
    for _ in 0..2 {
        world.ok(&["prune", "--grace=0", "--max-unused=0", "-q"]);
    }
    let lines = world.json(&["prune", "--dry-run", "--grace=0", "--max-unused=0"]);
    let plan = &summary(&lines)["plan"];
    for nothing in ["mark", "repack", "delete", "waiting", "young"] {
        assert_eq!(plan[nothing]["packs"], 0, "{nothing}: {plan}");
    }
    world.is_clean();
}

#[test]
fn forget_and_prune_print_how_much_space_is_freed_and_when() {
    let world = three();
    // The first two backups have one MiB each that no other backup uses. They share two MiB that
    // the last backup does not have.
    let forget = ["forget", "disk.img~1", "disk.img~2", "--dry-run"];
    let dry = world.json_one(&forget, "summary");
    let freed = dry["bytes_freed"].as_u64().unwrap();
    let mib = 1 << 20;
    assert!((4 * mib..4 * mib + mib / 8).contains(&freed), "{dry}");
    let text = world.ok(&forget);
    assert!(
        text.contains("; a prune would then free about 4.0 MiB\n"),
        "{text}"
    );
    let other = world.json_one(&["forget", "disk.img~1", "--dry-run"], "summary");
    let other = other["bytes_freed"].as_u64().unwrap();
    assert!((mib..mib + mib / 8).contains(&other), "{other}");
    world.ok(&["forget", "disk.img~1", "disk.img~2", "-q"]);

    let before = world.json_one(&["stats"], "stats");
    let number = |stats: &Value, name: &str| stats[name].as_u64().unwrap();
    let unused = number(&before, "bytes_stored") - number(&before, "bytes_used");
    assert!(unused >= freed, "{before}");
    let dry = world.ok(&["prune", "--grace", "0", "--dry-run"]);
    assert!(dry.contains("  space: 4."), "{dry}");
    let done = world.ok(&["prune", "--grace", "0"]);
    assert!(
        done.contains("  space: ") && done.contains(" free now\n"),
        "{done}"
    );
    let after = world.json_one(&["stats"], "stats");
    let left = number(&after, "bytes_stored");
    assert!(
        left < number(&before, "bytes_stored") - freed / 2,
        "{before} {after}"
    );
    world.is_clean();
}

#[test]
fn stats_of_a_volume_show_its_shared_and_its_exclusive_space() {
    let world = World::new();
    let (common, own) = (noise(1, 3 * MIB), noise(2, MIB));
    let shared = world.write("a", &common);
    let both = world.write("b", &[common, own].concat());
    world.backup(&[&shared, "--volume", "a"]);
    world.backup(&[&both, "--volume", "b"]);
    let stats = |volume: &str| world.json_one(&["stats", volume], "stats");
    let about = |stats: &Value, name: &str, mib: u64| {
        let bytes = stats[name].as_u64().unwrap();
        let expected = mib << 20;
        assert!(
            (expected..expected + (1 << 18)).contains(&bytes),
            "{name}: {stats}"
        );
    };
    let (a, b) = (stats("a"), stats("b"));
    about(&a, "bytes_exclusive", 0);
    about(&a, "bytes_shared", 3);
    about(&b, "bytes_exclusive", 1);
    about(&b, "bytes_shared", 3);
    assert_eq!(
        (&a["backups"], &b["bytes_backed_up"]),
        (&1.into(), &(4 << 20).into())
    );
    let text = world.ok(&["stats", "b"]);
    assert!(
        text.contains("Exclusive  1.0 MiB") && text.contains("Shared     3.0 MiB"),
        "{text}"
    );
    world.fails(&["stats", "c"], 24);
    let all = world.json_one(&["stats"], "stats");
    about(&all, "bytes_used", 4);
}

/// A repair of packs would leave a pack that no segment names to the prune.
#[test]
fn the_next_step_after_damage_depends_on_whether_the_index_names_the_pack() {
    let reread = "back up the volumes that “cuttlebone check” names with --reread";
    for is_named in [true, false] {
        let world = World::new();
        let disk = world.write("disk", &noise(1, MIB));
        world.backup(&[&disk, "--volume", "v"]);
        if !is_named {
            for segment in files(&world.project().join("index")) {
                fs::remove_file(segment).unwrap();
            }
            // This host reads the packs, and knows from then on that they are whole.
            world.ok(&["prune", "--dry-run"]);
        }
        damage(&files(&world.project().join("packs"))[0]);
        world.fails(&["check", "--read-data"], 21);
        for args in [&["prune", "--dry-run"][..], &["prune"]] {
            let error = world.fails(args, 21);
            assert_eq!(
                error.contains("“cuttlebone repair packs”"),
                is_named,
                "{error}"
            );
            assert_eq!(error.contains(reread), !is_named, "{error}");
        }
        let repair = world.run(&["repair", "packs"]);
        let out = String::from_utf8(repair.stdout).unwrap();
        assert_eq!(out.contains("would be repaired: pack"), is_named, "{out}");
        world.run(&["backup", &disk, "--volume", "v", "--reread"]);
        world.ok(&["prune", "--grace", "0", "-q"]);
        world.restores("v", &disk);
    }
}
