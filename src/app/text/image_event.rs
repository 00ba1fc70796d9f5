//! The text of events of backups and restores of images in a cluster.

use crate::app::human::{printable, short_id};
use crate::base::{ByteSize, FullRead, ImageEvent, NotCompared, ObjectHash, WholeCompare};

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
        ImageEvent::SnapshotsStay { problem } => {
            format!("older snapshots of {image} stay until the next backup: {problem}")
        }
        ImageEvent::NoMetadata { problem } => {
            format!("the metadata of {image} is not in the backup: {problem}")
        }
        ImageEvent::MetadataNotRestored { problem } => {
            format!("{image} is restored, but not all of its metadata: {problem}")
        }
        ImageEvent::SnapshotTwice {
            snapshot,
            left_out,
            restored,
        } => snapshot_twice(image, snapshot, *left_out, *restored),
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
        ImageEvent::ComparesAll(why) => {
            let why = match why {
                WholeCompare::NoSnapshot => {
                    ": the repository has no backup of its snapshots".to_owned()
                }
                WholeCompare::Damaged(problem) => {
                    format!(", since the backup of its snapshot is damaged: {problem}")
                }
                WholeCompare::Distrusted => {
                    ", since the cluster did not list all its changes before".to_owned()
                }
            };
            format!("reading all data of {image}{why}")
        }
        ImageEvent::ChangesMissed {
            base,
            bytes,
            first,
            command,
        } => {
            let (base, missed) = (base.to_string(), ByteSize(*bytes));
            let id = short_id(&base);
            format!(
                "the cluster did not list all changes of {image}: it did not name {missed} that \
                 differ from backup {id}, the first at byte {first}. The new backup is right, but \
                 backup {id} and those before it may lack changes, back to the last one that read \
                 all data. All backups of {image} now read all data until a list is complete \
                 again. “{command}” tests the object map"
            )
        }
        ImageEvent::ChangesComplete { base, distrusted } => {
            let base = base.to_string();
            let again = if *distrusted {
                ". The next backups rely on the lists again"
            } else {
                ""
            };
            format!(
                "the cluster listed all changes of {image} since backup {}{again}",
                short_id(&base)
            )
        }
        ImageEvent::ChangesNotCompared(why) => {
            let why = match why {
                NotCompared::NoBase(why) => full_read(why),
                NotCompared::Problem(problem) => printable(problem),
            };
            format!("not tested whether the cluster lists all changes of {image}: {why}")
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

fn snapshot_twice(
    image: &str,
    snapshot: &str,
    left_out: ObjectHash,
    restored: ObjectHash,
) -> String {
    let (left_out, restored) = (left_out.to_string(), restored.to_string());
    format!(
        "there are two backups of the snapshot {}: {} is restored to {image}, and the older one, \
         {}, is left out",
        printable(snapshot),
        short_id(&restored),
        short_id(&left_out)
    )
}

pub(crate) fn full_read(why: &FullRead) -> String {
    match why {
        FullRead::First => "this is its first backup".to_owned(),
        FullRead::Asked => "you asked for it".to_owned(),
        FullRead::Due { every } => {
            format!("--full-every {every} asks for it now")
        }
        FullRead::Distrusted { backup } => {
            let backup = backup.to_string();
            format!(
                "the cluster did not list all its changes, as backup {} found, and no backup has \
                 found a complete list since",
                short_id(&backup)
            )
        }
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
            "none of its older snapshots that still exist has a backup".to_owned()
        }
        FullRead::OtherChunkSize => "its backups have chunks of another size".to_owned(),
    }
}
