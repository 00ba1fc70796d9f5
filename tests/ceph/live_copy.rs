//! Images in the cluster whose backups were copied to another repository.

use serde_json::Value;

use super::live::{Live, data, image, summary};
use crate::support::program::World;

const MIB: u64 = 1 << 20;

#[test]
fn after_a_copy_the_next_backup_to_the_other_repository_reads_only_changes() {
    let Some(live) = Live::with_pool("live-copy") else {
        return;
    };
    let mut image = image(&live.cluster, "live-copy/img", &[]);
    live.backs_up("live-copy/img", &[]);
    image.change(8 * MIB, vec![data(2 * MIB, 3)]);
    live.backs_up("live-copy/img", &[]);
    let snapshot = live.tracking("live-copy/img");

    let mut there = World::new();
    there.set("CUTTLEBONE_CEPH_CONF", live.cluster.conf());
    let target = there.repository().to_str().unwrap().to_owned();
    let password = live.world.write("password", b"correct horse");
    let args = [
        "copy",
        "--all",
        "--to",
        &target,
        "--to-password-file",
        &password,
    ];
    live.world.ok(&args);
    let copies = there.json(&["list"]);
    assert_eq!(copies.len(), 2);
    assert_eq!(copies[1]["snapshot"], snapshot.as_str());

    image.change(8 * MIB, vec![data(4 * MIB, 4)]);
    let args = ["backup", "rbd:live-copy/img", "--json"];
    let ran = there.run(&args);
    let made: Value = summary(&ran, &args);
    assert_eq!(made["base"], copies[1]["backup_id"], "{made}");
    assert!(!ran.stderr.contains("reading all data"), "{}", ran.stderr);
    assert_eq!(made["volume"], "live-copy/img");
    assert!(made["bytes_read"].as_u64() < Some(128 << 10), "{made}");
    let restored = there.at("restored");
    let new = made["backup_id"].as_str().unwrap();
    there.ok(&["restore", new, &restored, "-q"]);
    let digest = blake3::hash(&std::fs::read(&restored).unwrap());
    let new_snapshot = made["snapshot"].as_str().unwrap();
    assert_eq!(
        digest,
        live.cluster
            .digest(&format!("live-copy/img@{new_snapshot}"))
    );
    // The snapshot of the old repository stays until a command on that repository removes it.
    assert_eq!(live.snapshots("live-copy/img"), [&snapshot, new_snapshot]);
    live.world
        .ok(&["snapshots", "live-copy/img", "--remove-all"]);
    assert_eq!(live.snapshots("live-copy/img"), [new_snapshot]);
}
