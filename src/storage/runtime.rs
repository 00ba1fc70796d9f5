//! The tokio runtime that all remote stores of the process share.
//!
//! It has one thread, which moves bytes between requests and sockets or pipes. Operations on a
//! store run on the threads of their callers, which block until the operations are done.

use std::io;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use crate::base::{Cancel, lock};

static RUNTIME: OnceLock<Runtime> = OnceLock::new();
static STARTING: Mutex<()> = Mutex::new(());

/// Returns the runtime; starts it at the first call.
pub(super) fn shared() -> io::Result<&'static Runtime> {
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let _starting = lock(&STARTING);
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("remote stores")
        .enable_all()
        .build()?;
    Ok(RUNTIME.get_or_init(|| runtime))
}

/// Waits this long, or until `cancel` is set.
pub(super) async fn sleep(duration: Duration, cancel: &Cancel) {
    const SLICE: Duration = Duration::from_millis(100);
    let until = Instant::now() + duration;
    while cancel.check().is_ok() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(SLICE)).await;
    }
}
