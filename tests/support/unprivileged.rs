//! Runs tests of file permissions without root's privileges, since root ignores permissions.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

/// The environment variable that is set in the process that runs a test without root's privileges.
const CHILD: &str = "CUTTLEBONE_TEST_WITHOUT_PRIVILEGES";

/// Returns whether file modes restrict this process, so that the calling test can continue.
///
/// File modes do not restrict root. In this case, runs the test again in a process without the
/// capabilities to bypass file modes, and asserts that it passes there. `test` is the name of the
/// test as the harness prints it.
#[track_caller]
pub(crate) fn modes_apply(test: &str) -> bool {
    if !ignores_modes() {
        return true;
    }
    assert!(
        env::var_os(CHILD).is_none(),
        "the privilege was not dropped"
    );
    let child = Command::new("setpriv")
        .arg("--bounding-set=-dac_override,-dac_read_search")
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&child.stdout);
    let errors = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{test}: {printed}\n{errors}");
    assert!(printed.contains("1 passed"), "{test}: {printed}\n{errors}");
    false
}

fn ignores_modes() -> bool {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::set_permissions(file.path(), Permissions::from_mode(0o000)).unwrap();
    fs::read(file.path()).is_ok()
}
