//! Copies of backups in another project, with other keys.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use cuttlebone::base::{ObjectHash, Role, Silent};
use cuttlebone::format::{BackupRecord, Content, Counts, root_description};
use cuttlebone::ops::{self, AttachedFile, BackupOptions, CopyOptions, CopyReport, OpsError};
use cuttlebone::repo::{
    Backup, BlobReader, CommitCheck, ImageReader, Index, PackSizes, Packer, PackerOptions,
    PruneGuard, Records, RepoError, RepoErrorKind, UnindexedPacks, Worker,
};
use cuttlebone::storage::{Backend, FaultBackend, MemoryBackend, Name};

use super::ingest::{diff, ingest};
use super::provenance::{chunks, client, writer};
use super::prune::{forget, is_pack, names, prune};
use super::{CHUNK, Host, Image, KIB, LEAF, TestRepo, noise, options};

/// The result for one backup of the source: its id, and the report of its copy.
pub(super) type Copied = (ObjectHash, Result<CopyReport, OpsError>);

pub(super) fn copy_options() -> CopyOptions {
    CopyOptions {
        pack_sizes: PackSizes::new(100 * KIB, 1, 2),
        ..CopyOptions::default()
    }
}

pub(super) fn copy_with(
    host: &Host,
    source: &TestRepo,
    selected: &[ObjectHash],
    target: &TestRepo,
    options: &CopyOptions,
) -> Result<Vec<Copied>, OpsError> {
    let records = Records::load(&source.project)?;
    let mut copied = Vec::new();
    ops::copy(
        &source.project,
        &records,
        selected,
        &target.project,
        options,
        &host.context(),
        &mut |backup, result| {
            copied.push((backup.id, result));
            ControlFlow::Continue(())
        },
    )?;
    Ok(copied)
}

pub(super) fn copy(
    source: &TestRepo,
    selected: &[ObjectHash],
    target: &TestRepo,
) -> Result<Vec<Copied>, OpsError> {
    let host = Host::without_cache();
    copy_with(&host, source, selected, target, &copy_options())
}

/// Copies all backups of the source, which must succeed. Returns the reports in the order in which
/// the backups were copied.
#[track_caller]
pub(super) fn copy_all(source: &TestRepo, target: &TestRepo) -> Vec<CopyReport> {
    let copied = copy(source, &all(source), target).unwrap();
    copied
        .into_iter()
        .map(|(_, copied)| copied.unwrap())
        .collect()
}

/// Returns the ids of all backups, oldest first.
pub(super) fn all(test_repo: &TestRepo) -> Vec<ObjectHash> {
    let records = Records::load(&test_repo.project).unwrap();
    records.listed().map(|backup| backup.id).collect()
}

pub(super) fn new_repo(chunk_size: usize) -> (MemoryBackend, TestRepo) {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), chunk_size).unwrap();
    (store, test_repo)
}

/// Three states of a disk that grows and shrinks, with a size that is no multiple of a chunk.
pub(super) fn states() -> [Image; 3] {
    let first = Image::new(2 * LEAF + 12_345)
        .with(100, &noise(1, 3 * CHUNK))
        .with(2 * LEAF, &noise(2, 12_345));
    let mut second = first.clone();
    second.resize(3 * LEAF + 77);
    second.write(LEAF + 5, &noise(3, 10));
    second.write(3 * LEAF, &noise(4, 77));
    let mut third = second.clone();
    third.resize(LEAF + 70_001);
    third.write(0, &vec![0; CHUNK]);
    [first, second, third]
}

fn attached(seed: u64) -> Vec<AttachedFile> {
    vec![AttachedFile {
        name: "vm.xml".to_owned(),
        bytes: noise(seed, 3000).into(),
    }]
}

/// Makes a backup of each state, with labels and an attachment.
pub(super) fn back_up_states(test_repo: &TestRepo) -> Vec<ObjectHash> {
    let host = Host::without_cache();
    let made = states().into_iter().zip(1..).map(|(image, number)| {
        let options = BackupOptions {
            labels: BTreeMap::from([("day".to_owned(), format!("{number}"))]),
            attached: attached(number / 2),
            host: Some("the host".to_owned()),
            ..options("disk")
        };
        let input = host.image(&image).unwrap();
        host.run(test_repo, input, &options).unwrap().id
    });
    made.collect()
}

/// Returns the backups of a volume, oldest first.
pub(super) fn of_volume(test_repo: &TestRepo, volume: &str) -> Vec<Backup> {
    let records = Records::load(&test_repo.project).unwrap();
    records.of_volume(volume).cloned().collect()
}

/// Asserts that the backups of the volume “disk” are these states, oldest first.
#[track_caller]
fn has_states(test_repo: &TestRepo, expected: &[&Image], when: &str) {
    let host = Host::without_cache();
    let backups = of_volume(test_repo, "disk");
    assert_eq!(backups.len(), expected.len(), "{when}");
    for (backup, expected) in backups.iter().zip(expected) {
        let restored = host.restore_image(test_repo, backup).unwrap();
        assert!(restored == **expected, "{when}: {restored:?} {expected:?}");
    }
}

fn listed(store: &dyn Backend) -> BTreeSet<Name> {
    let objects = store.list("").unwrap();
    objects.into_iter().map(|object| object.name).collect()
}

#[test]
fn copies_have_the_content_properties_and_order_of_the_originals() {
    let (_, source) = new_repo(CHUNK);
    let originals = back_up_states(&source);
    let host = Host::without_cache();
    let dump = noise(7, 9 * CHUNK);
    let of_dump = host.back_up_stream(&source, "dump", &dump).unwrap().id;
    let (store, target) = new_repo(CHUNK);
    let reports = copy_all(&source, &target);
    assert_eq!(reports.len(), 4);
    assert!(reports.iter().all(|report| !report.existing));

    let [a, b, c] = &states();
    has_states(&target, &[a, b, c], "copied");
    host.check_clean(&target, "copied");
    let copies = of_volume(&target, "disk");
    for (copy, original) in copies.iter().zip(&originals) {
        let original = source.backup(*original);
        let (new, old) = (&copy.record, &original.record);
        assert_eq!(new.time, old.time);
        assert_eq!((&new.labels, &new.host), (&old.labels, &old.host));
        assert_eq!((&new.source, &new.volume), (&old.source, &old.volume));
        assert_eq!(new.counts.changed, old.counts.changed);
        assert_eq!(new.original, Some(original.id));
        assert_ne!(copy.top, original.top);
        assert!(copy.is_full && target.project.signers.is_full(&copy.signer));
        let attachments = new.attachments.iter().zip(&old.attachments);
        for (new, old) in attachments {
            let read = |repo: &TestRepo, attachment| {
                ops::read_attachment(&repo.project, attachment, &host.context()).unwrap()
            };
            assert_eq!((&new.name, new.size), (&old.name, old.size));
            assert_eq!(read(&target, new), read(&source, old));
        }
        assert_eq!(new.attachments.len(), 1);
    }
    // Each backup follows the one before, and was compared with it.
    assert_eq!(copies[0].record.follows, []);
    assert_eq!(copies[0].record.base, None);
    for pair in copies.windows(2) {
        assert_eq!(pair[1].record.follows, [pair[0].id]);
        assert_eq!(pair[1].record.base, Some(pair[0].id));
    }
    let records = Records::load(&target.project).unwrap();
    assert_eq!(records.heads().len(), 1);
    let copy = records.newest("dump").unwrap();
    assert_eq!(copy.record.original, Some(of_dump));
    assert!(host.restore(&target, copy).unwrap() == dump);
    // No chunk has the same id in both.
    let ids = |repo: &TestRepo, backup: &Backup| -> BTreeSet<_> {
        chunks(repo, backup.id)
            .into_iter()
            .map(|(id, _)| id)
            .collect()
    };
    let old = ids(&source, &source.backup(originals[1]));
    assert!(ids(&target, &copies[1]).is_disjoint(&old) && old.len() > 4);
    assert_eq!(names(&store, "voids"), Vec::<String>::new());
}

#[test]
fn the_second_copy_reads_no_data_and_stores_nothing() {
    let (_, source) = new_repo(CHUNK);
    back_up_states(&source);
    let (store, target) = new_repo(CHUNK);
    let first = copy_all(&source, &target);
    let before = listed(&store);
    let second = copy_all(&source, &target);
    assert_eq!(listed(&store), before);
    let ids = |reports: &[CopyReport]| reports.iter().map(|r| r.id).collect::<Vec<_>>();
    assert_eq!(ids(&second), ids(&first));
    assert!(
        second
            .iter()
            .all(|report| report.existing && report.counts == Counts::default())
    );
}

#[test]
fn parts_that_two_backups_have_in_common_are_read_once() {
    let (_, source) = new_repo(CHUNK);
    let host = Host::without_cache();
    let mut image = Image::new(3 * LEAF).with(0, &noise(1, 40 * CHUNK));
    host.back_up(&source, "disk", &image).unwrap();
    let (_, target) = new_repo(CHUNK);
    let first = copy_all(&source, &target).remove(0);
    assert_eq!(first.counts.read, 40 * CHUNK as u64);
    assert_eq!(first.base, None);
    image.write(2 * LEAF + 5, &noise(2, 10));
    image.write(7 * CHUNK as u64, &vec![0; CHUNK]);
    host.back_up(&source, "disk", &image).unwrap();
    let second = copy_all(&source, &target).remove(1);
    assert_eq!(second.counts.read, CHUNK as u64);
    assert_eq!((second.base, second.counts.chunks_new), (first.id, 1));
    // A stream is read again only if it differs.
    let dump = noise(3, 4 * CHUNK);
    for _ in 0..2 {
        host.back_up_stream(&source, "dump", &dump).unwrap();
    }
    let of_dump: Vec<_> = of_volume(&source, "dump").iter().map(|b| b.id).collect();
    let copied = copy(&source, &of_dump, &target).unwrap();
    let read: Vec<_> = copied
        .iter()
        .map(|(_, c)| c.as_ref().unwrap().counts.read)
        .collect();
    assert_eq!(read, [4 * CHUNK as u64, 0]);
    host.check_clean(&target, "copied");
}

#[test]
fn chunks_of_other_sizes_are_cut_again() {
    let small = 4 * KIB;
    for (of_source, of_target) in [(small, CHUNK), (CHUNK, small), (CHUNK, 4 << 20)] {
        let (_, source) = new_repo(of_source);
        back_up_states(&source);
        let (_, target) = new_repo(of_target);
        copy_all(&source, &target);
        let [a, b, c] = &states();
        let when = format!("{of_source} to {of_target}");
        has_states(&target, &[a, b, c], &when);
        Host::without_cache().check_clean(&target, &when);
        // The same image in the target has the same tree.
        let again = Host::without_cache().back_up(&target, "again", c).unwrap();
        let newest = of_volume(&target, "disk").pop().unwrap();
        assert_eq!(target.backup(again.id).root, newest.root, "{when}");
    }
}

#[test]
fn random_histories_are_copied_in_random_parts() {
    for seed in 0..12_u64 {
        let mut state = 0x9e37_79b9_7f4a_7c15 ^ seed;
        let mut below = |limit: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % limit
        };
        let (_, source) = new_repo(CHUNK);
        let (_, target) = new_repo(if seed % 3 == 0 { 16 * KIB } else { CHUNK });
        let host = Host::without_cache();
        let mut image = Image::new(LEAF + 1);
        let mut expected = BTreeMap::new();
        let mut wanted = BTreeSet::new();
        for step in 0..6 {
            image.resize(below(3 * LEAF) + 1);
            for part in 0..below(4) {
                let len = usize::try_from(below(3 * CHUNK as u64)).unwrap();
                let bytes = match below(3) {
                    0 => vec![0; len],
                    _ => noise(100 * step + part, len),
                };
                image.write(below(3 * LEAF), &bytes);
            }
            let made = host.back_up(&source, "disk", &image).unwrap();
            expected.insert(made.id, image.clone());
            let ids = all(&source);
            let some: Vec<_> = ids.into_iter().filter(|_| below(2) == 0).collect();
            wanted.extend(some.iter().copied());
            copy(&source, &some, &target).unwrap();
        }
        let when = format!("seed {seed}");
        let copies = of_volume(&target, "disk");
        let original = |copy: &Backup| copy.record.original.unwrap();
        assert_eq!(
            copies.iter().map(original).collect::<BTreeSet<_>>(),
            wanted,
            "{when}"
        );
        for copy in &copies {
            let restored = host.restore_image(&target, copy).unwrap();
            assert!(restored == expected[&original(copy)], "{when}");
        }
        let times: Vec<_> = copies.iter().map(|copy| copy.time).collect();
        assert!(times.is_sorted(), "{when}");
        host.check_clean(&target, &when);
    }
}

#[test]
fn a_backup_that_is_copied_later_than_a_newer_one_does_not_become_the_newest() {
    let (_, source) = new_repo(CHUNK);
    let ids = back_up_states(&source);
    let (_, target) = new_repo(CHUNK);
    copy(&source, &ids[2..], &target).unwrap();
    copy(&source, &ids[..1], &target).unwrap();
    let [a, b, c] = &states();
    has_states(&target, &[a, c], "two of three");
    copy(&source, &ids, &target).unwrap();
    has_states(&target, &[a, b, c], "all");
    // The copy of the last backup was made first, so it follows none.
    let copies = of_volume(&target, "disk");
    assert_eq!(copies[1].record.follows, [copies[0].id]);
    assert_eq!(copies[2].record.follows, []);
    // The next backup follows both lines.
    let host = Host::without_cache();
    let next = host.back_up(&target, "disk", a).unwrap();
    let follows: BTreeSet<_> = target.backup(next.id).record.follows.into_iter().collect();
    assert_eq!(follows, BTreeSet::from([copies[1].id, copies[2].id]));
}

#[test]
fn a_copy_follows_the_copies_that_exist_if_backups_between_were_left_out_or_forgotten() {
    let (_, source) = new_repo(CHUNK);
    let ids = back_up_states(&source);
    let (_, target) = new_repo(CHUNK);
    copy(&source, &[ids[0], ids[2]], &target).unwrap();
    let copies = of_volume(&target, "disk");
    assert_eq!(copies[1].record.follows, [copies[0].id]);
    let (_, second) = new_repo(CHUNK);
    forget(&source, &ids[1..2]);
    copy_all(&source, &second);
    let copies = of_volume(&second, "disk");
    assert_eq!(copies[1].record.follows, [copies[0].id]);
}

#[test]
fn copies_of_copies_and_backups_with_other_labels_are_recognized() {
    let (_, first) = new_repo(CHUNK);
    let ids = back_up_states(&first);
    let [(_, second), (_, third)] = [new_repo(CHUNK), new_repo(CHUNK)];
    copy_all(&first, &second);
    copy_all(&second, &third);
    let is_there = |source: &TestRepo, target: &TestRepo| {
        copy_all(source, target)
            .iter()
            .all(|report| report.existing)
    };
    assert!(is_there(&first, &third));
    assert!(is_there(&third, &first));
    assert!(is_there(&third, &second));
    let host = Host::without_cache();
    let labels = BTreeMap::from([("other".to_owned(), "label".to_owned())]);
    for (repo, id) in [(&first, ids[1]), (&third, all(&third)[1])] {
        let context = host.context();
        ops::relabel(&repo.project, id, labels.clone(), None, &context).unwrap();
    }
    assert!(is_there(&first, &second));
    assert!(is_there(&first, &third));
    assert!(is_there(&third, &first));
    assert_eq!(third.backups().len(), 3);
}

#[test]
fn the_next_diff_builds_on_a_copy() {
    let (_, source) = new_repo(CHUNK);
    let host = Host::without_cache();
    let extents = |seed| vec![(CHUNK as u64 / 2, 2 * CHUNK, Some(seed))];
    let full = diff(None, Some("mon"), 2 * LEAF, &extents(1));
    ingest(&host, &source, &full, &options("disk")).unwrap();
    let (_, target) = new_repo(CHUNK);
    copy_all(&source, &target);
    let next = diff(Some("mon"), Some("tue"), 2 * LEAF, &vec![(5, 10, Some(2))]);
    let made = ingest(&host, &target, &next, &options("disk"))
        .unwrap()
        .remove(0);
    let copies = of_volume(&target, "disk");
    assert_eq!((copies.len(), made.base), (2, Some(copies[0].id)));
    assert_eq!(copies[1].record.follows, [copies[0].id]);
    assert_eq!(copies[1].volume, source.backup(all(&source)[0]).volume);
    host.check_clean(&target, "the next diff");
}

#[test]
fn a_write_key_of_the_target_can_store_copies_and_only_a_full_key_of_the_source_can_read() {
    let (source_store, source) = new_repo(CHUNK);
    back_up_states(&source);
    let (store, target) = new_repo(16 * KIB);
    let to = writer(&store, 1);
    let reports = copy_all(&source, &to);
    assert!(reports.iter().all(|report| !report.existing));
    assert!(copy_all(&source, &to).iter().all(|report| report.existing));
    let [a, b, c] = &states();
    has_states(&target, &[a, b, c], "by a write key");
    Host::without_cache().check_clean(&target, "by a write key");
    for role in [Role::Write, Role::Verify] {
        let from = client(&source_store, role, 1);
        let refused = copy(&from, &all(&from), &target).unwrap_err();
        let is_role =
            |e: &OpsError| matches!(e, OpsError::Repo(e) if e.kind() == RepoErrorKind::Role);
        assert!(is_role(&refused), "{role}: {refused:?}");
        let before = listed(&store);
        let to = client(&store, Role::Verify, 2);
        let refused = copy(&source, &all(&source), &to).unwrap_err();
        assert!(is_role(&refused), "{refused:?}");
        assert_eq!(
            listed(&store)
                .difference(&before)
                .filter(|name| is_pack(name))
                .count(),
            0
        );
    }
}

#[test]
fn the_same_project_and_another_volume_of_the_same_name_are_refused_before_anything_is_stored() {
    let (store, source) = new_repo(CHUNK);
    let ids = back_up_states(&source);
    let replica = TestRepo::open(store.copy(), &Silent).unwrap();
    for same in [&source, &replica] {
        let refused = copy(&source, &ids, same);
        assert!(matches!(refused, Err(OpsError::SameProject)), "{refused:?}");
    }
    let (store, target) = new_repo(CHUNK);
    let host = Host::without_cache();
    host.back_up(&source, "a volume", &states()[0]).unwrap();
    let own = host.back_up(&target, "disk", &states()[2]).unwrap().id;
    let before = listed(&store);
    let refused = copy(&source, &all(&source), &target);
    assert!(matches!(refused, Err(OpsError::OtherVolume { volume }) if volume == "disk"));
    assert_eq!(listed(&store), before);
    // A user who names the volume says that it is the same.
    let options = CopyOptions {
        volume: Some("disk".to_owned()),
        ..copy_options()
    };
    copy_with(&host, &source, &ids, &target, &options).unwrap();
    let [a, b, c] = &states();
    has_states(&target, &[a, b, c, c], "joined");
    let joined = of_volume(&target, "disk");
    assert_eq!(joined[3].id, own);
    assert!(
        joined
            .iter()
            .all(|backup| backup.volume == joined[3].volume)
    );
    // From now on, the volume is known to hold copies.
    let more = host.back_up(&source, "disk", &states()[0]).unwrap().id;
    let copied = copy(&source, &[more], &target).unwrap();
    assert!(!copied[0].1.as_ref().unwrap().existing);
    // Under another name, it is another volume.
    let options = CopyOptions {
        volume: Some("old disk".to_owned()),
        ..copy_options()
    };
    copy_with(&host, &source, &ids, &target, &options).unwrap();
    assert_eq!(of_volume(&target, "old disk").len(), 3);
}

#[test]
fn a_dry_run_says_what_the_target_lacks_and_stores_nothing() {
    let (_, source) = new_repo(CHUNK);
    let ids = back_up_states(&source);
    let (store, target) = new_repo(CHUNK);
    copy(&source, &ids[..1], &target).unwrap();
    let before = listed(&store);
    let options = CopyOptions {
        dry_run: true,
        ..copy_options()
    };
    let host = Host::without_cache();
    let copied = copy_with(&host, &source, &ids, &target, &options).unwrap();
    let lacks: Vec<_> = copied
        .iter()
        .map(|(_, c)| c.as_ref().unwrap().id.is_none())
        .collect();
    assert_eq!(lacks, [false, true, true]);
    assert_eq!(listed(&store), before);
}

/// Zeroes most bytes of each object that `wanted` accepts.
fn damage(store: &MemoryBackend, wanted: impl Fn(&Name) -> bool) {
    for name in listed(store).into_iter().filter(wanted) {
        let mut bytes = store.get(&name, u64::MAX).unwrap();
        let end = bytes.len() - 100;
        bytes[100..end].fill(0);
        store.delete(&name).unwrap();
        store.put(&name, &[&bytes]).unwrap();
    }
}

#[test]
fn a_damaged_backup_is_named_and_not_copied_and_all_others_are() {
    for part in ["/packs/", "/trees/"] {
        let (store, source) = new_repo(CHUNK);
        let host = Host::without_cache();
        let first = host.back_up(&source, "disk", &states()[0]).unwrap().id;
        let before = listed(&store);
        let mut worse = states()[0].clone();
        worse.write(CHUNK as u64, &noise(50, CHUNK));
        let second = host.back_up(&source, "disk", &worse).unwrap().id;
        let is_new = |name: &Name| !before.contains(name) && name.as_str().contains(part);
        damage(&store, is_new);
        let third = host.back_up(&source, "other", &states()[1]).unwrap().id;
        // The last backup of the damaged volume does not need the damaged data.
        let fourth = host
            .back_up_again(&source, "disk", &states()[0])
            .unwrap()
            .id;
        let (_, target) = new_repo(CHUNK);
        let copied = copy(&source, &all(&source), &target).unwrap();
        assert_eq!(copied.len(), 4);
        for (id, copied) in &copied {
            match copied {
                Err(OpsError::NotCopied {
                    backup,
                    volume,
                    part: named,
                    ..
                }) => {
                    assert_eq!((*id, *backup, &volume[..]), (second, second, "disk"));
                    let bytes = format!("bytes {} to {}", CHUNK, 2 * CHUNK - 1);
                    let expected = if part == "/packs/" {
                        bytes
                    } else {
                        "its content".into()
                    };
                    assert_eq!(*named, expected);
                }
                copied => assert!(copied.is_ok() && *id != second, "{copied:?}"),
            }
        }
        let copies: BTreeSet<_> = target
            .backups()
            .iter()
            .map(|b| b.record.original.unwrap())
            .collect();
        assert_eq!(copies, BTreeSet::from([first, third, fourth]), "{part}");
        host.check_clean(&target, part);
        let fourth_copy = of_volume(&target, "disk").pop().unwrap();
        assert!(host.restore_image(&target, &fourth_copy).unwrap() == states()[0]);
    }
}

#[test]
fn a_backup_is_copied_even_if_the_tree_of_an_earlier_one_is_damaged() {
    let (store, source) = new_repo(CHUNK);
    let host = Host::without_cache();
    let ids = back_up_states(&source);
    let (_, target) = new_repo(CHUNK);
    copy(&source, &ids[..2], &target).unwrap();
    // Only the trees of the third backup stay whole.
    let is_tree = |name: &Name| name.as_str().contains("/trees/");
    for name in listed(&store).into_iter().filter(is_tree) {
        store.delete(&name).unwrap();
    }
    let source = TestRepo::open(store.clone(), &Silent).unwrap();
    host.back_up_again(&source, "disk", &states()[2]).unwrap();
    let newest = of_volume(&source, "disk").pop().unwrap().id;
    let copied = copy(&source, &[newest], &target).unwrap();
    let report = copied[0].1.as_ref().unwrap();
    assert_eq!(report.base, None);
    let [a, b, c] = &states();
    has_states(&target, &[a, b, c], "without a base");
}

#[test]
fn data_that_the_target_has_lost_is_stored_again() {
    let (_, source) = new_repo(CHUNK);
    let ids = back_up_states(&source);
    let (store, target) = new_repo(CHUNK);
    copy(&source, &ids[..1], &target).unwrap();
    for name in listed(&store).into_iter().filter(is_pack) {
        store.delete(&name).unwrap();
    }
    let copied = copy(&source, &ids[1..], &target).unwrap();
    assert!(
        copied.iter().all(|(_, copied)| copied.is_ok()),
        "{copied:?}"
    );
    let host = Host::without_cache();
    for (copy, state) in of_volume(&target, "disk").iter().zip(&states()).skip(1) {
        assert!(host.restore_image(&target, copy).unwrap() == *state);
    }
}

#[test]
fn a_prune_of_the_source_keeps_what_a_copy_is_going_to_read() {
    let (store, source) = new_repo(CHUNK);
    let host = Host::without_cache();
    host.back_up(&source, "a", &states()[0]).unwrap();
    let image = Image::new(LEAF).with(0, &noise(60, 5 * CHUNK));
    let last = host.back_up(&source, "b", &image).unwrap().id;
    let (_, target) = new_repo(CHUNK);
    let records = Records::load(&source.project).unwrap();
    let packs = || listed(&store).into_iter().filter(is_pack).count();
    let before = packs();
    let mut copied = 0;
    ops::copy(
        &source.project,
        &records,
        &all(&source),
        &target.project,
        &copy_options(),
        &host.context(),
        &mut |_, result| {
            result.unwrap();
            if copied == 0 {
                let other = TestRepo::open(store.clone(), &Silent).unwrap();
                forget(&other, &[last]);
                prune(&other, &Host::without_cache(), Duration::ZERO).unwrap();
                prune(&other, &Host::without_cache(), Duration::ZERO).unwrap();
                assert_eq!(packs(), before);
            }
            copied += 1;
            ControlFlow::Continue(())
        },
    )
    .unwrap();
    assert_eq!(copied, 2);
    let copy = of_volume(&target, "b").pop().unwrap();
    assert!(host.restore_image(&target, &copy).unwrap() == image);
    for _ in 0..2 {
        prune(&source, &host, Duration::ZERO).unwrap();
    }
    assert!(
        packs() < before,
        "without a reader, the prune deletes these packs"
    );
}

#[test]
fn a_prune_of_the_target_between_two_backups_harms_no_copy() {
    let (_, source) = new_repo(CHUNK);
    back_up_states(&source);
    let (store, target) = new_repo(CHUNK);
    let records = Records::load(&source.project).unwrap();
    let host = Host::without_cache();
    ops::copy(
        &source.project,
        &records,
        &all(&source),
        &target.project,
        &copy_options(),
        &host.context(),
        &mut |_, result| {
            let copy = result.unwrap().id.unwrap();
            let other = TestRepo::open(store.clone(), &Silent).unwrap();
            if of_volume(&other, "disk").len() > 1 {
                // Forget the one before, on which this copy was built.
                let older = of_volume(&other, "disk").into_iter().find(|b| b.id != copy);
                forget(&other, &[older.unwrap().id]);
            }
            prune(&other, &Host::without_cache(), Duration::ZERO).unwrap();
            ControlFlow::Continue(())
        },
    )
    .unwrap();
    has_states(&target, &[&states()[2]], "pruned");
    host.check_clean(&target, "pruned");
}

#[test]
fn a_copy_that_is_cancelled_stores_no_further_backup() {
    let (_, source) = new_repo(CHUNK);
    back_up_states(&source);
    let (_, target) = new_repo(CHUNK);
    let records = Records::load(&source.project).unwrap();
    let host = Host::without_cache();
    let cancelled = ops::copy(
        &source.project,
        &records,
        &all(&source),
        &target.project,
        &copy_options(),
        &host.context(),
        &mut |_, _| {
            host.cancel.cancel();
            ControlFlow::Continue(())
        },
    );
    let is_cancelled =
        |e: &OpsError| matches!(e, OpsError::Repo(e) if e.kind() == RepoErrorKind::Cancelled);
    assert!(is_cancelled(&cancelled.unwrap_err()));
    has_states(&target, &[&states()[0]], "cancelled");
}

/// Commits a record whose data is in the project already.
fn commit(test_repo: &TestRepo, record: &BackupRecord) -> ObjectHash {
    let project = &test_repo.project;
    let index = Index::in_memory(project, Arc::new(Silent)).unwrap();
    let nothing = |_: &Packer<'_>| Ok::<_, RepoError>(());
    let (unindexed, options) = (UnindexedPacks::none().0, PackerOptions::default());
    let ((), receipt, _) = Packer::scope(&index, unindexed, options, nothing).unwrap();
    let worker = Worker {
        host: None,
        tool: "test",
    };
    let mut guard = PruneGuard::begin(project, worker).unwrap();
    let CommitCheck::Permitted(cleared) = guard.clear(&index, &[]).unwrap() else {
        panic!("no other process is running");
    };
    Records::commit(project, record, &receipt, &cleared).unwrap()
}

/// Commits a record of another image as the holder of a write key. The record claims to be a copy
/// of `original`, or that record with other labels, and has the same time and size.
fn claim(thief: &TestRepo, original: &Backup) -> ObjectHash {
    let host = Host::without_cache();
    let size = original.record.content.size;
    let image = Image::new(size).with(0, &noise(77, CHUNK));
    let made = host
        .back_up(thief, &original.record.volume.name, &image)
        .unwrap();
    let own = thief.backup(made.id);
    let record = BackupRecord {
        original: Some(original.id),
        time: original.record.time.clone(),
        ..own.record
    };
    commit(thief, &record)
}

#[test]
fn the_holder_of_a_write_key_cannot_keep_a_backup_from_being_copied() {
    for in_target in [false, true] {
        let (source_store, source) = new_repo(CHUNK);
        let id = back_up_states(&source)[0];
        let (target_store, target) = new_repo(CHUNK);
        let store = if in_target {
            &target_store
        } else {
            &source_store
        };
        let original = source.backup(id);
        claim(&writer(store, 1), &original);
        let host = Host::without_cache();
        // Copy the false one first.
        let mut ids = all(&source);
        ids.retain(|other| *other != id);
        let options = CopyOptions {
            volume: Some("disk".to_owned()),
            ..copy_options()
        };
        copy_with(&host, &source, &ids, &target, &options).unwrap();
        let copied = copy_with(&host, &source, &[id], &target, &options).unwrap();
        let report = copied[0].1.as_ref().unwrap();
        assert!(!report.existing, "{in_target}");
        let copy = target.backup(report.id.unwrap());
        assert!(host.restore_image(&target, &copy).unwrap() == states()[0]);
        assert!(
            copy_with(&host, &source, &[id], &target, &options).unwrap()[0]
                .1
                .as_ref()
                .unwrap()
                .existing
        );
    }
}

#[test]
fn a_withdrawn_backup_is_not_copied() {
    let (store, source) = new_repo(CHUNK);
    let thief = writer(&store, 1);
    let host = Host::without_cache();
    let made = host.back_up(&thief, "disk", &states()[0]).unwrap().id;
    cuttlebone::repo::Voids::put(&thief.project, made, "test").unwrap();
    let kept = host.back_up(&source, "disk", &states()[1]).unwrap().id;
    let (_, target) = new_repo(CHUNK);
    let copied = copy(&source, &[made, kept], &target).unwrap();
    assert_eq!(copied.len(), 2);
    for (id, copied) in copied {
        match copied {
            Err(OpsError::CopyWithdrawn { backup }) => assert_eq!([id, backup], [made; 2]),
            copied => assert!(copied.is_ok() && id == kept),
        }
    }
}

#[test]
fn a_chunk_with_bytes_after_the_end_of_the_image_is_copied_without_them() {
    let (_, source) = new_repo(CHUNK);
    let host = Host::without_cache();
    let whole = Image::new(LEAF).with(0, &noise(1, CHUNK));
    let id = host.back_up(&source, "disk", &whole).unwrap().id;
    let (_, target) = new_repo(CHUNK);
    // A faulty writer states a size in the middle of a chunk that has bytes after this size.
    let made = source.backup(id);
    let size = CHUNK as u64 / 2;
    let top = made.top;
    let described = root_description(
        made.record.content.kind,
        size,
        made.record.content.chunk_size,
        top.as_ref(),
    );
    let content = Content {
        size,
        root: source.project.keys.root(&described),
        ..made.record.content.clone()
    };
    let record = BackupRecord {
        content,
        ..made.record
    };
    let cut = commit(&source, &record);
    let copied = copy(&source, &[cut], &target).unwrap();
    let copy = target.backup(copied[0].1.as_ref().unwrap().id.unwrap());
    let index = Index::in_memory(&target.project, Arc::new(Silent)).unwrap();
    let blobs = BlobReader::new(&index);
    let mut plain = Vec::new();
    ImageReader::new(&blobs, &copy)
        .each_chunk(|chunk| {
            plain.push(blobs.chunk(&chunk.id)?);
            Ok::<_, RepoError>(())
        })
        .unwrap();
    let mut expected = noise(1, CHUNK);
    expected[CHUNK / 2..].fill(0);
    assert!(plain == [expected]);
}

#[test]
fn requests_to_the_source_grow_with_what_differs_and_not_with_the_image() {
    let requests = |leaves: u64| {
        let store = FaultBackend::new();
        let source = TestRepo::init(store.clone(), CHUNK).unwrap();
        let host = Host::without_cache();
        let mut image = Image::new(leaves * LEAF);
        for leaf in 0..leaves {
            image.write(leaf * LEAF, &noise(leaf, CHUNK));
        }
        host.back_up(&source, "disk", &image).unwrap();
        let (_, target) = new_repo(CHUNK);
        copy_all(&source, &target);
        image.write(5, b"changed");
        let made = host.back_up(&source, "disk", &image).unwrap().id;
        let cached = Host::with_cache();
        // Fill the cache of the index, so that only the copy itself counts.
        cached.back_up(&source, "other", &Image::new(1)).unwrap();
        let _ = store.take_log();
        copy_with(&cached, &source, &[made], &target, &copy_options()).unwrap();
        let log = store.take_log();
        log.iter()
            .filter(|call| call.name.contains("/packs/") || call.name.contains("/trees/"))
            .count()
    };
    let (few, many) = (requests(2), requests(60));
    assert!(many <= few + 4, "{few} {many}");
}
