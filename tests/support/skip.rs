//! Skips a test. All tests use these functions.

use std::io::Write;

/// Prints why a test cannot run on this machine. The text is visible even though the test harness
/// captures the output of tests that pass. In CI (`CI=true`), this fails instead, since all tests
/// must run there.
#[track_caller]
pub(crate) fn skip(why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{why}");
    print(why);
}

/// Prints why a test cannot run with the kernel of this machine. Unlike [`skip`], this does not
/// fail in CI, since CI cannot install another kernel. The test may skip only the parts that need
/// the missing feature of the kernel.
pub(crate) fn skip_for_kernel(why: &str) {
    print(why);
}

fn print(why: &str) {
    // Standard error may be closed.
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}
