//! The names of the snapshots that backups make of images in a cluster.

use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};

use crate::base::ProjectId;

const PREFIX: &str = "cuttlebone-";
/// The number of digits of the project's id at the end of a name.
const PROJECT_DIGITS: usize = 8;

/// Returns the end of the names of a project's snapshots. Several projects can back up one image,
/// and no project may remove the snapshots of another project.
fn suffix(project: ProjectId) -> String {
    let id = project.to_string();
    format!("-{}", id.get(..PROJECT_DIGITS).unwrap_or(&id))
}

/// Returns names for a snapshot of this time that are not in `taken`. The time in a name has whole
/// seconds: the first name has this time, and the others have the seconds after it.
pub(super) fn free_names(
    time: Timestamp,
    project: ProjectId,
    taken: &HashSet<String>,
) -> impl Iterator<Item = String> {
    let later = (0..).map_while(move |seconds| {
        let time = time.checked_add(SignedDuration::from_secs(seconds)).ok()?;
        Some(name_at(time, project))
    });
    later.filter(|name| !taken.contains(name))
}

/// Returns the name of a snapshot of this time.
fn name_at(time: Timestamp, project: ProjectId) -> String {
    format!(
        "{PREFIX}{}{}",
        time.strftime("%Y%m%dT%H%M%SZ"),
        suffix(project)
    )
}

/// Returns whether this name has the form that this program gives to the snapshots of this project.
pub(super) fn is_own(name: &str, project: ProjectId) -> bool {
    is_tracking(name) && name.ends_with(&suffix(project))
}

/// Returns whether this name has the form that this program gives to the snapshots of any project.
pub(super) fn is_tracking(name: &str) -> bool {
    let rest = name.strip_prefix(PREFIX).map(str::as_bytes);
    let Some(rest) = rest.filter(|rest| rest.len() == 16 + 1 + PROJECT_DIGITS) else {
        return false;
    };
    let shape = |(place, byte): (usize, &u8)| match place {
        8 => *byte == b'T',
        15 => *byte == b'Z',
        16 => *byte == b'-',
        17.. => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        _ => byte.is_ascii_digit(),
    };
    rest.iter().enumerate().all(shape)
}

/// Returns the time in a name that this program gave to a snapshot; `None` for other names.
pub(super) fn tracking_time(name: &str) -> Option<&str> {
    let rest = name.strip_prefix(PREFIX).filter(|_| is_tracking(name))?;
    Some(rest.split_once('-')?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_taken_gets_the_next_free_second() {
        let project = ProjectId::from_bytes([0x12; 16]);
        let time: Timestamp = "2026-11-28T22:59:58.7Z".parse().unwrap();
        let name = |time| format!("cuttlebone-20261128T{time}Z-12121212");
        let of_other_project = "cuttlebone-20261128T225959Z-12121213".to_owned();
        let taken = HashSet::from([name("225958"), name("230000"), of_other_project]);
        let free: Vec<_> = free_names(time, project, &taken).take(3).collect();
        assert_eq!(free, ["225959", "230001", "230002"].map(name));
    }

    #[test]
    fn only_the_snapshots_of_this_project_are_its_own() {
        let project = ProjectId::from_bytes([0x12; 16]);
        let time: Timestamp = "2026-11-28T22:15:00Z".parse().unwrap();
        let name = name_at(time, project);
        assert_eq!(name, "cuttlebone-20261128T221500Z-12121212");
        assert!(is_own(&name, project));
        for other in [
            "cuttlebone-20261128T221500Z-12121213",
            "cuttlebone-20261128T221500Z",
            "cuttlebone--12121212",
            "cuttlebone-before-upgrade-12121212",
            "cuttlebone-20261128T22150éZ-12121212",
            "xcuttlebone-20261128T221500Z-12121212",
            "cuttlebone-20261128T221500Z-12121212x",
            "mon",
        ] {
            assert!(!is_own(other, project), "{other}");
            let of_other_project = other == "cuttlebone-20261128T221500Z-12121213";
            assert_eq!(is_tracking(other), of_other_project, "{other}");
        }
        assert_eq!(tracking_time(&name), Some("20261128T221500Z"));
        assert_eq!(tracking_time("cuttlebone-before-upgrade-12121212"), None);
    }
}
