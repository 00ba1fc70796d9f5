//! The consequences of damage: the volumes and backups that it affects, and the next steps.

use std::collections::HashMap;

use super::check_message::{AffectedEntry, FindingText};
use super::damage_message::{Consequences, NextStep, VolumeDamage};
use super::human::{shell_word, short_id};
use super::text::{affected_entry, finding};
use crate::base::ObjectHash;
use crate::format::{ByteString, SourceInfo};
use crate::ops::{AffectedBackup, AffectedVolume, CheckReport, Finding};

/// What a repair could do about the damage that a check found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Repairable {
    /// Whether a damaged object has parity, or a second copy that is whole.
    pub(crate) here: bool,
    /// Whether this repository has lost an object that another copy of the repository may have.
    pub(crate) elsewhere: bool,
    /// Whether index segments are damaged, or backups need packs that no segment names.
    pub(crate) index: bool,
    /// Whether a pack of chunks is damaged, and a segment names this pack.
    pub(crate) packs: bool,
}

/// Describes the result of a check that found damage.
pub(crate) fn consequences(report: &CheckReport, repairable: Repairable) -> Consequences {
    let volumes = report.volumes_affected.iter();
    Consequences {
        backups_whole: report
            .backups_whole
            .iter()
            .map(ToString::to_string)
            .collect(),
        volumes: volumes.map(volume_damage).collect(),
        next: next_steps(
            &report.volumes_affected,
            repairable,
            report.packs_damaged > 0,
        ),
    }
}

fn volume_damage(volume: &AffectedVolume) -> VolumeDamage {
    VolumeDamage {
        volume: volume.name.clone(),
        affected: volume.affected.len() as u64,
        whole: volume.whole,
        newest_whole: volume.newest_whole.map(|(id, _)| id.to_string()),
        newest_whole_time: volume.newest_whole.map(|(_, time)| time),
    }
}

fn next_steps(
    volumes: &[AffectedVolume],
    repairable: Repairable,
    has_damaged_packs: bool,
) -> Vec<NextStep> {
    let step = |command: String, purpose| NextStep { command, purpose };
    let mut steps = Vec::new();
    if repairable.here {
        let command = "cuttlebone repair parity --yes".to_owned();
        steps.push(step(
            command,
            "restores damaged files from their parity or second copy",
        ));
    }
    if repairable.elsewhere {
        steps.push(step(
            "cuttlebone repair parity --from REPO --yes".to_owned(),
            "takes undamaged files from another copy of the repository, if there is one",
        ));
    }
    if repairable.index {
        steps.push(step(
            "cuttlebone repair index --yes".to_owned(),
            "completes the index from the packs, which list their own content",
        ));
    }
    if repairable.packs {
        steps.push(step(
            "cuttlebone repair packs --yes".to_owned(),
            "stores all undamaged data of damaged packs again, and moves these packs away",
        ));
    }
    for volume in volumes {
        let source = volume.source.as_ref().and_then(source_argument);
        let source = source.unwrap_or_else(|| "SOURCE".to_owned());
        let name = shell_word(&volume.name);
        steps.push(step(
            format!("cuttlebone backup {source} --volume {name} --reread"),
            "stores the lost data again, if the source still has it",
        ));
    }
    for volume in volumes {
        let Some(newest) = volume.affected.last() else {
            continue;
        };
        let id = newest.to_string();
        steps.push(step(
            format!("cuttlebone restore {} TARGET --keep-going", short_id(&id)),
            "restores all other parts of this backup",
        ));
    }
    if has_damaged_packs {
        steps.push(step(
            "cuttlebone prune".to_owned(),
            "replaces damaged packs if all of their data can be read here or in other packs",
        ));
    }
    steps
}

/// Returns the argument with which `backup` reads this source again. Only a file, a device and an
/// image in a cluster have one. `None` for other sources, and if the name is unknown or not UTF-8.
fn source_argument(source: &SourceInfo) -> Option<String> {
    let text = |name: &ByteString| match name {
        ByteString::Text(name) => Some(name.clone()),
        ByteString::Hex { .. } => None,
    };
    if let Some(image) = &source.rbd {
        let mut parts = vec![text(image.pool.as_ref()?)?];
        if let Some(namespace) = &image.namespace {
            parts.push(text(namespace)?);
        }
        parts.push(text(image.image.as_ref()?)?);
        return Some(shell_word(&format!("rbd:{}", parts.join("/"))));
    }
    let has_path = matches!(source.kind.as_str(), "file" | "device");
    let path = source.path.as_ref().filter(|_| has_path)?;
    Some(shell_word(&text(path)?))
}

/// Describes findings. For each damaged pack, adds the backups that have lost a part because of it.
pub(crate) fn findings(found: &[Finding]) -> Vec<FindingText> {
    let mut costs: HashMap<ObjectHash, Vec<AffectedEntry>> = HashMap::new();
    for found in found {
        let Finding::BackupAffected(backup) = found else {
            continue;
        };
        for cause in &backup.causes {
            let entry = affected_entry(&AffectedBackup {
                holes: cause.holes.clone(),
                attachments: cause.attachments.clone(),
                causes: Vec::new(),
                ..backup.clone()
            });
            costs.entry(cause.pack).or_default().push(entry);
        }
    }
    let texts = found.iter().map(|found| {
        let pack = found.damaged_object().filter(|o| o.blob_kind().is_some());
        let affects = pack.and_then(|pack| pack.hash());
        FindingText {
            affects: affects.map(|pack| costs.remove(&pack).unwrap_or_default()),
            ..finding(found)
        }
    });
    texts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(name: &str, source: Option<SourceInfo>) -> AffectedVolume {
        AffectedVolume {
            name: name.to_owned(),
            affected: vec![ObjectHash::from_bytes([0xab; 32])],
            whole: 0,
            newest_whole: None,
            source,
        }
    }

    fn commands(volumes: &[AffectedVolume], here: bool, packs: bool) -> Vec<String> {
        let repairable = Repairable {
            here,
            elsewhere: packs,
            index: false,
            packs,
        };
        let steps = next_steps(volumes, repairable, packs).into_iter();
        steps.map(|step| step.command).collect()
    }

    #[test]
    fn the_next_steps_are_commands_for_the_volumes_that_are_affected() {
        let file = SourceInfo {
            path: Some(b"/srv/it's a disk"[..].into()),
            ..SourceInfo::of_kind("file")
        };
        let stream = SourceInfo {
            path: Some(b"/usr/bin/pg_dump"[..].into()),
            ..SourceInfo::of_kind("command")
        };
        let volumes = [volume("web 1", Some(file)), volume("db", Some(stream))];
        assert_eq!(
            commands(&volumes, true, true),
            [
                "cuttlebone repair parity --yes",
                "cuttlebone repair parity --from REPO --yes",
                "cuttlebone repair packs --yes",
                r"cuttlebone backup '/srv/it'\''s a disk' --volume 'web 1' --reread",
                "cuttlebone backup SOURCE --volume db --reread",
                "cuttlebone restore abababab TARGET --keep-going",
                "cuttlebone restore abababab TARGET --keep-going",
                "cuttlebone prune",
            ]
        );
        assert_eq!(
            commands(&[], false, true),
            [
                "cuttlebone repair parity --from REPO --yes",
                "cuttlebone repair packs --yes",
                "cuttlebone prune"
            ]
        );
        assert_eq!(
            commands(&[], true, false),
            ["cuttlebone repair parity --yes"]
        );
        assert_eq!(commands(&[], false, false), [""; 0]);
    }
}
