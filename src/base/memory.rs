//! The memory that this process may use.

use std::fs;

/// The memory of this machine, in bytes. If a control group limits this process to less, neither
/// number is larger than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// All memory.
    pub total: u64,
    /// The part that programs can allocate now without swapping.
    pub available: u64,
}

impl Memory {
    /// Returns the memory that this process may use; `None` if `/proc/meminfo` does not state it.
    #[must_use]
    pub fn of_this_machine() -> Option<Self> {
        let memory = Self::from_meminfo(&fs::read_to_string("/proc/meminfo").ok()?)?;
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let limit = group_directories(&groups)
            .filter_map(|group| fs::read_to_string(group + "/memory.max").ok())
            .filter_map(|limit| limit.trim().parse().ok())
            .min();
        Some(memory.limited_to(limit.unwrap_or(u64::MAX)))
    }

    fn from_meminfo(text: &str) -> Option<Self> {
        let field = |name: &str| -> Option<u64> {
            let value = text.lines().find_map(|line| line.strip_prefix(name))?;
            let kib: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
            kib.checked_mul(1024)
        };
        Some(Self {
            total: field("MemTotal:")?,
            available: field("MemAvailable:")?,
        })
    }

    fn limited_to(self, limit: u64) -> Self {
        Self {
            total: self.total.min(limit),
            available: self.available.min(limit),
        }
    }
}

/// Returns the directories of a process's control group (version 2) and of all groups above it.
/// `groups` is the content of the process's `/proc/PID/cgroup`.
fn group_directories(groups: &str) -> impl Iterator<Item = String> {
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    let path = own.unwrap_or_default().trim_end_matches('/');
    let ends = path.match_indices('/').map(|(at, _)| at);
    ends.chain([path.len()])
        .map(|end| format!("/sys/fs/cgroup/{}", &path[..end]))
        .chain(["/sys/fs/cgroup".to_owned()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_this_machine_is_known() {
        let memory = Memory::of_this_machine().unwrap();
        assert!(memory.available <= memory.total && memory.total > 64 << 20);
    }

    #[test]
    fn memory_is_read_from_the_fields_of_meminfo() {
        let text = "MemTotal:        1000 kB\nMemFree:  1 kB\nMemAvailable:     600 kB\n";
        let memory = Memory::from_meminfo(text).unwrap();
        assert_eq!((memory.total, memory.available), (1_024_000, 614_400));
        let limited = memory.limited_to(700_000);
        assert_eq!((limited.total, limited.available), (700_000, 614_400));
        for odd in ["", "MemTotal: 5 kB", "MemTotal: x kB\nMemAvailable: 1 kB\n"] {
            assert_eq!(Memory::from_meminfo(odd), None, "{odd}");
        }
    }

    #[test]
    fn the_limits_of_a_control_group_and_of_all_groups_above_it_count() {
        let directories: Vec<_> = group_directories("1:x:/y\n0::/a/b.service\n").collect();
        let at = |name: &str| format!("/sys/fs/cgroup{name}");
        assert_eq!(directories, [at("/a"), at("/a/b.service"), at("")]);
        assert!(group_directories("").all(|directory| directory.starts_with("/sys/fs/cgroup")));
    }
}
