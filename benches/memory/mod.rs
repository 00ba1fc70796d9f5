//! The memory of the process that runs a benchmark.

use cuttlebone::base::ByteSize;

/// Returns the peak resident memory of this process so far, or 0 if the kernel does not state it.
pub(crate) fn peak_memory() -> ByteSize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    ByteSize(kib.unwrap_or(0) * 1024)
}
