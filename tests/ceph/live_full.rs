//! Full readings of images, which test whether the cluster lists all changes.

use serde_json::Value;

use super::image::Image;
use super::live::{Live, data, image, summary};
use super::{Cluster, Random};
use crate::support::program::{Ran, World};

const MIB: u64 = 1 << 20;

/// Part of a script for [`Live::rbd_script`]: the export of changes names no changes at all.
const NO_CHANGES: &str = r#"
case "$*" in *export-diff*--from-snap*)
    for arg in "$@"; do case "$arg" in
        --snap=*) to=${arg#--snap=};;
        --from-snap=*) from=${arg#--from-snap=};;
    esac; done
    name() { printf "$1\\$(printf %03o ${#2})\0\0\0%s" "$2"; }
    printf 'rbd diff v1\n'; name f "$from"; name t "$to"
    printf 's\0\0\200\0\0\0\0\0e'; exit 0;;
esac"#;

impl Live {
    /// Backs up an image like [`backs_up`](Self::backs_up), but the cluster seems to say that
    /// nothing has changed.
    pub(super) fn backs_up_without_changes(&self, image: &str) -> Value {
        let program = self.rbd_script(NO_CHANGES);
        let source = format!("rbd:{image}");
        let args = ["backup", &source, "--json", "--rbd-command", &program];
        let ran = self.world.run(&args);
        summary(&ran, &args)
    }

    pub(super) fn source_of(&self, backup: &Value) -> Value {
        let id = backup["backup_id"].as_str().unwrap();
        self.world.json_one(&["show", id], "backup")["source"].clone()
    }
}

/// Returns what `status` forecasts for the next backup of the only image: `"changes"` or
/// `"everything"`. The text is the reason to read everything, or empty if there is no reason.
pub(super) fn next(live: &Live) -> (Value, String) {
    let mut lines = live.world.json(&["status"]);
    lines.retain(|line| line["message_type"] == "volume");
    let image = &lines[0]["image"];
    let reason = image["reason"].as_str().unwrap_or_default().to_owned();
    (image["next"].clone(), reason)
}

#[test]
fn a_change_that_was_not_listed_makes_backups_read_all_data_until_a_list_is_complete() {
    let Some(live) = Live::with_pool("full-missed") else {
        return;
    };
    let (cluster, name) = (&live.cluster, "full-missed/img");
    let mut img = image(cluster, name, &[]);
    live.backs_up(name, &[]);
    img.change(8 * MIB, vec![data(MIB, 3)]);
    let wrong = live.backs_up_without_changes(name);
    assert_eq!(wrong["bytes_changed"], 0, "{wrong}");
    let id = wrong["backup_id"].as_str().unwrap();
    assert_ne!(live.restored(id), cluster.digest(name));
    assert_eq!(live.source_of(&wrong)["changes_in_row"], 1);
    // The full reading is right, and finds the difference.
    img.change(8 * MIB, vec![data(2 * MIB, 4)]);
    let (found, notes) = live.backs_up_and_ends_with(21, name, &["--full", "-q"]);
    assert_eq!(found["bytes_missed"], 64 << 10, "{found}");
    assert_eq!(found["bytes_changed"], 128 << 10, "{found}");
    let warning = format!(
        "the cluster did not list all changes of full-missed/img: it did not name 64.0 KiB that \
         differ from backup {}, the first at byte 1048576",
        &id[..8]
    );
    assert!(notes.contains(&warning), "{notes}");
    let command = format!(
        "rbd --conf {} object-map check full-missed/img",
        cluster.conf().display()
    );
    assert!(notes.contains(&command), "{notes}");
    // A restore of the old backup warns that changes may be missing. A restore of the new one does
    // not.
    for (backup, warns) in [(id, true), (found["backup_id"].as_str().unwrap(), false)] {
        let file = live.world.at("restored");
        let args = ["restore", backup, &file, "--force"];
        let ran = live.world.run(&args);
        ran.ok(&args);
        assert_eq!(ran.stderr.contains("may lack changes"), warns, "{ran:?}");
    }
    let source = live.source_of(&found);
    assert_eq!(
        (&source["change_list"], &source["changes_in_row"]),
        (&"distrusted".into(), &0.into())
    );
    let (reads, reason) = next(&live);
    assert_eq!(reads, "everything");
    let by = format!("as backup {}", &found["backup_id"].as_str().unwrap()[..8]);
    assert!(reason.contains(&by), "{reason}");
    // The snapshot is still needed, to compare the next list.
    let mut snapshots = live.world.json(&["snapshots"]);
    snapshots.retain(|line| line["message_type"] == "snapshot");
    assert_eq!(snapshots[0]["need"], "next_backup", "{snapshots:?}");
    // A restore in place does not rely on lists either.
    img.change(8 * MIB, vec![data(4 * MIB, 9)]);
    let target = format!("rbd:{name}");
    let place = ["restore", name, &target, "--in-place", "--json"];
    let ran = live.world.run(&place);
    let restored = summary(&ran, &place);
    assert!(restored["bytes_compared"].as_u64() > Some(0), "{restored}");
    assert!(
        ran.stderr.contains("did not list all its changes before"),
        "{}",
        ran.stderr
    );
    img.read_again();
    // A run that fails changes nothing.
    let program = live.rbd_script("case \"$*\" in *export-diff*) exit 5;; esac");
    live.world
        .fails(&["backup", &target, "--rbd-command", &program], 1);
    // The next backup reads all data without `--full`. The cluster's list of changes is complete.
    img.change(8 * MIB, vec![data(3 * MIB, 5)]);
    let (agreed, notes) = live.backs_up(name, &[]);
    assert!(notes.contains("reading all data of full-missed/img: the cluster did not list"));
    assert!(notes.contains("rely on the lists again"), "{notes}");
    assert_eq!(agreed["bytes_missed"], 0, "{agreed}");
    assert_eq!(live.source_of(&agreed)["change_list"], "verified");
    assert_eq!(next(&live).0, "changes");
    img.change(8 * MIB, vec![data(0, 6)]);
    let (changes, notes) = live.backs_up(name, &[]);
    assert!(!notes.contains("reading all data"), "{notes}");
    assert_eq!(changes["base"], agreed["backup_id"]);
    assert_eq!(changes["bytes_missed"], Value::Null);
    assert_eq!(live.source_of(&changes)["change_list"], Value::Null);
    live.world.is_clean();
}

#[test]
fn lists_are_not_relied_on_as_long_as_nothing_can_be_compared_with_them() {
    let Some(live) = Live::with_pool("full-again") else {
        return;
    };
    let (cluster, name) = (&live.cluster, "full-again/img");
    let mut img = image(cluster, name, &[]);
    // There is nothing to compare the first backup with.
    let (first, notes) = live.backs_up(name, &["--full"]);
    assert_eq!(first["bytes_missed"], Value::Null);
    assert!(!notes.contains("not tested"), "{notes}");
    img.change(8 * MIB, vec![data(MIB, 3)]);
    live.backs_up_without_changes(name);
    let (found, _) = live.backs_up_and_ends_with(21, name, &["--full"]);
    assert_eq!(found["bytes_missed"], 64 << 10);
    // The snapshot of the base is removed.
    let remove = || {
        let snapshot = format!("{name}@{}", live.tracking(name));
        cluster.rbd(&["snap", "rm", "--no-progress", &snapshot]);
    };
    remove();
    let (untested, notes) = live.backs_up(name, &[]);
    assert!(notes.contains("not tested whether the cluster"), "{notes}");
    assert!(notes.contains("no longer exists"), "{notes}");
    assert_eq!(untested["bytes_missed"], Value::Null);
    assert_eq!(live.source_of(&untested)["change_list"], "distrusted");
    // Only the newest record remains. It alone says that the lists are incomplete.
    live.world
        .ok(&["forget", "--volume", name, "--keep-last", "1"]);
    assert_eq!(next(&live).0, "everything");
    // The cluster cannot list the changes.
    let program = live.rbd_script("case \"$*\" in *' diff '*) exit 5;; esac");
    let (unlisted, notes) = live.backs_up(name, &["--rbd-command", &program]);
    assert_eq!(unlisted["bytes_missed"], Value::Null);
    assert!(notes.contains("could not list the changes"), "{notes}");
    assert_eq!(live.source_of(&unlisted)["change_list"], "distrusted");
    // In a group, each image is compared on its own.
    let mut other = image(cluster, "full-again/other", &[]);
    live.backs_up("full-again/other", &[]);
    other.change(8 * MIB, vec![data(MIB, 3)]);
    let args = ["backup", "--together", "--json", "rbd:full-again/*"];
    let ran: Ran = live.world.run(&args);
    ran.ok(&args);
    let notes = &ran.stderr;
    assert!(notes.contains("all changes of full-again/img"), "{notes}");
    assert!(!notes.contains("full-again/other"), "{notes}");
    assert_eq!(
        live.source_of(&last(&live, name))["change_list"],
        "verified"
    );
    live.world.is_clean();
}

/// Returns the newest backup of a volume.
pub(super) fn last(live: &Live, volume: &str) -> Value {
    live.world.json_one(&["show", volume], "backup")
}

#[test]
fn each_nth_backup_reads_all_data_whatever_was_forgotten() {
    let Some(live) = Live::with_pool("full-every") else {
        return;
    };
    let name = "full-every/img";
    let mut img = image(&live.cluster, name, &[]);
    let mut read = String::new();
    for round in 0..8 {
        img.change(8 * MIB, vec![data(round * MIB % (8 * MIB), round)]);
        let (summary, notes) = live.backs_up(name, &["--full-every", "3"]);
        let is_full = notes.contains("reading all data");
        read.push(if is_full { 'F' } else { 'c' });
        if is_full && round > 0 {
            assert!(notes.contains("--full-every 3 asks for it"), "{notes}");
            assert_eq!(summary["bytes_missed"], 0, "{summary}");
        }
        // Each record has the number of backups since the last full reading. So the record of that
        // reading can be forgotten.
        if round > 4 {
            live.world
                .ok(&["forget", "--volume", name, "--keep-last", "1"]);
        }
    }
    assert_eq!(read, "FccFccFc");
    // With 1, each backup reads all data; without the option, none.
    let (_, notes) = live.backs_up(name, &["--full-every", "1"]);
    assert!(notes.contains("--full-every 1"), "{notes}");
    let (_, notes) = live.backs_up(name, &[]);
    assert!(!notes.contains("reading all data"), "{notes}");
    let world: &World = &live.world;
    world.fails(&["backup", "rbd:full-every/img", "--full-every", "0"], 2);
    let file = world.write("disk.img", b"content");
    world.fails(&["backup", &file, "--full-every", "3"], 2);
    world.is_clean();
}

#[test]
fn complete_lists_are_found_complete_through_random_writes_holes_and_resizes() {
    let Some(live) = Live::with_pool("full-random") else {
        return;
    };
    let mut random = Random::new();
    let name = "full-random/img";
    let cluster: &Cluster = &live.cluster;
    let mut img: Image<'_> = image(cluster, name, &["--object-size", "512K"]);
    live.backs_up(name, &[]);
    for round in 0..6 {
        img.change_at_random(&mut random);
        if round % 2 == 1 {
            live.backs_up(name, &["--keep-snapshots", "1"]);
            img.change_at_random(&mut random);
        }
        let (summary, notes) = live.backs_up(name, &["--full"]);
        assert_eq!(summary["bytes_missed"], 0, "{notes}");
        assert!(notes.contains("listed all changes"), "{notes}");
    }
    live.world.is_clean();
}

#[test]
fn a_change_that_a_damaged_object_map_hides_is_found_by_the_next_full_reading() {
    let Some(live) = Live::with_pool("full-map") else {
        return;
    };
    let (cluster, name) = (&live.cluster, "full-map/img");
    let mut img = image(cluster, name, &[]);
    img.change(16 * MIB, vec![data(0, 1)]);
    let (first, _) = live.backs_up(name, &[]);
    let rbd = live.source_of(&first)["rbd"].clone();
    let (id, old) = (rbd["image_id"].as_str().unwrap(), &rbd["snapshot_id"]);
    // The image gets a new object. The new snapshot gets the object map of the old one, which says
    // that this object does not exist.
    img.change(16 * MIB, vec![data(9 * MIB, 2)]);
    let map = live.world.at("map");
    let script = format!(
        "case \"$*\" in *export-diff*)
            new=$(rbd \"$1\" snap ls {name} | awk 'END {{ print $1 }}')
            of() {{ printf rbd_object_map.{id}.%016x $1; }}
            rados \"$1\" -p full-map get $(of {old}) {map}
            rados \"$1\" -p full-map put $(of $new) {map};;
         esac"
    );
    let program = live.rbd_script(&script);
    let source = format!("rbd:{name}");
    let args = ["backup", &source, "--json", "--rbd-command", &program];
    let wrong = summary(&live.world.run(&args), &args);
    assert_eq!(wrong["bytes_changed"], 0, "{wrong}");
    assert_ne!(live.restored(name), cluster.digest(name));
    let (found, notes) = live.backs_up_and_ends_with(21, name, &["--full"]);
    assert_eq!(found["bytes_missed"], 64 << 10, "{notes}");
    assert_eq!(live.restored(name), cluster.digest(name));
    let (found, _) = live.backs_up(name, &[]);
    assert_eq!(found["bytes_missed"], 0, "{found}");
}

#[test]
fn the_reason_to_read_all_data_is_about_the_newest_backup_in_any_volume() {
    let Some(live) = Live::with_pool("full-volumes") else {
        return;
    };
    let (cluster, name) = (&live.cluster, "full-volumes/img");
    let mut img = image(cluster, name, &[]);
    live.backs_up(name, &["--volume", "z"]);
    img.change(8 * MIB, vec![data(MIB, 3)]);
    live.backs_up(name, &["--volume", "a"]);
    let newest = live.tracking(name);
    let snapshot = format!("{name}@{newest}");
    cluster.rbd(&["snap", "rm", "--no-progress", &snapshot]);
    let (_, notes) = live.backs_up(name, &["--volume", "z"]);
    let reason = format!("the snapshot of its newest backup no longer exists: {newest}");
    assert!(notes.contains(&reason), "{notes}");
}
