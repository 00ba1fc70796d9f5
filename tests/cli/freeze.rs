//! The process that freezes and thaws for `backup --together`.

use std::io;
use std::process::{Command, Stdio};

#[test]
fn a_thaw_that_prints_succeeds_although_nobody_reads_its_output() {
    let directory = tempfile::tempdir().unwrap();
    let thawed = directory.path().join("thawed");
    let after = format!("echo thawing; touch '{}'", thawed.display());
    let (unread, output) = io::pipe().unwrap();
    drop(unread);
    let status = Command::new(env!("CARGO_BIN_EXE_cuttlebone"))
        .args(["__guard-freeze", "10000", "true", &after])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(output)
        .status()
        .unwrap();
    assert!(thawed.exists(), "{status}");
    assert!(status.success(), "{status}");
}
