//! The text of events of the backup of an image in a cluster.

use crate::app::human::{printable, short_id};
use crate::base::{FullRead, ImageEvent};

pub(super) fn image_event(image: &str, event: &ImageEvent) -> String {
    match event {
        ImageEvent::ReadCompletely(why) => {
            format!("reading all data of {image}: {}", full_read(why))
        }
        ImageEvent::InvalidFlags { of, flags, command } => format!(
            "{of} is flagged “{}”: reading it takes longer. Repair it with “{command}”",
            flags.join(", ")
        ),
        ImageEvent::SnapshotStays { snapshot, problem } => {
            format!("the snapshot {image}@{snapshot} is no longer needed, but stays: {problem}")
        }
        ImageEvent::SnapshotVanished { snapshot } => format!(
            "the new snapshot {image}@{snapshot} has vanished, so the older snapshots stay. This \
             backup is complete, but the next backup may read all data"
        ),
        ImageEvent::NoMetadata { problem } => {
            format!("the metadata of {image} is not in the backup: {problem}")
        }
        ImageEvent::MetadataNotRestored { problem } => {
            format!("{image} is restored, but not all of its metadata: {problem}")
        }
        ImageEvent::InterruptedRestore {
            backup,
            volume,
            time,
        } => {
            let (id, volume, time) = (short_id(backup), printable(volume), printable(time));
            format!(
                "{image} holds an interrupted restore of backup {id} of volume “{volume}”, begun \
                 at {time}"
            )
        }
        ImageEvent::RestoresSince { snapshot } => format!(
            "writing only what differs: the cluster lists the changes of {image} since {snapshot}"
        ),
        ImageEvent::ComparesAll { problem: None } => {
            format!("reading all data of {image}: the repository has no backup of its snapshots")
        }
        ImageEvent::ComparesAll {
            problem: Some(problem),
        } => {
            format!(
                "reading all data of {image}, since the backup of its snapshot is damaged: \
                 {problem}"
            )
        }
        ImageEvent::Encrypted => format!(
            "{image} is encrypted, and so is its data in the backup: after a restore, the image \
             opens with the same passphrase or key, which is not in the backup"
        ),
        ImageEvent::Continues { volume } => {
            format!("{image} has earlier backups in volume “{volume}”: the new backup joins them")
        }
    }
}

pub(crate) fn full_read(why: &FullRead) -> String {
    match why {
        FullRead::First => "this is its first backup".to_owned(),
        FullRead::Asked => "you asked for it".to_owned(),
        FullRead::WriteKey => {
            "a key with the role “write” cannot merge changes with stored data".to_owned()
        }
        FullRead::OtherImage => {
            "the earlier backups of the volume are of another image of that name".to_owned()
        }
        FullRead::UnknownImage => {
            "the earlier backups of the volume do not say of which image they are".to_owned()
        }
        FullRead::SnapshotGone { snapshot } => {
            format!("the snapshot of its newest backup no longer exists: {snapshot}")
        }
        FullRead::SnapshotReplaced { snapshot } => format!(
            "the snapshot of its newest backup was removed, and another has its name: {snapshot}"
        ),
        FullRead::NoOlderSnapshot => {
            "no backup is of an older snapshot that still exists".to_owned()
        }
        FullRead::OtherChunkSize => "its backups have chunks of another size".to_owned(),
    }
}
