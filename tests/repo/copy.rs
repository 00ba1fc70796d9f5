//! Copies of backups in another project, with other keys.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use cuttlebone::base::{ObjectHash, Role, Silent};
use cuttlebone::format::Counts;
use cuttlebone::ops::{self, AttachedFile, BackupOptions, CopyOptions, CopyReport, OpsError};
use cuttlebone::repo::{Backup, PackSizes, Records, RepoErrorKind};
use cuttlebone::storage::{Backend, MemoryBackend, Name};

use super::ingest::{diff, ingest};
use super::provenance::{chunks, client, writer};
use super::prune::{forget, is_pack, names};
use super::{CHUNK, Host, Image, KIB, LEAF, TestRepo, noise, options};

/// The id of a backup of the source, and the result of copying this backup.
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
    let mut copied = Vec::new();
    copy_each(host, (source, selected), target, options, |id, result| {
        copied.push((id, result));
    })?;
    Ok(copied)
}

/// Copies the selected backups of the source. Calls `each` after each backup.
pub(super) fn copy_each(
    host: &Host,
    (source, selected): (&TestRepo, &[ObjectHash]),
    target: &TestRepo,
    options: &CopyOptions,
    mut each: impl FnMut(ObjectHash, Result<CopyReport, OpsError>),
) -> Result<(), OpsError> {
    let records = Records::load(&source.project)?;
    ops::copy(
        &source.project,
        &records,
        selected,
        &target.project,
        options,
        &host.context(),
        &mut |backup, result| {
            each(backup.id, result);
            ControlFlow::Continue(())
        },
    )
}

/// Copies all backups of the source. Calls `each` after each backup. Panics if a copy fails.
#[track_caller]
pub(super) fn copy_all_and(source: &TestRepo, target: &TestRepo, mut each: impl FnMut(CopyReport)) {
    let (host, selected) = (Host::without_cache(), all(source));
    let selected = (source, &selected[..]);
    let each = |_, result: Result<_, _>| each(result.unwrap());
    copy_each(&host, selected, target, &copy_options(), each).unwrap();
}

pub(super) fn copy(
    source: &TestRepo,
    selected: &[ObjectHash],
    target: &TestRepo,
) -> Result<Vec<Copied>, OpsError> {
    let host = Host::without_cache();
    copy_with(&host, source, selected, target, &copy_options())
}

/// Copies all backups of the source. Returns the reports in the order of the copies. Panics if a
/// copy fails.
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

/// Returns three states of a disk that grows and shrinks. No state ends at the end of a chunk.
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

/// Makes a backup of each state, with a label and an attachment. Returns the ids of the backups.
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
pub(super) fn has_states(test_repo: &TestRepo, expected: &[&Image], when: &str) {
    let host = Host::without_cache();
    let backups = of_volume(test_repo, "disk");
    assert_eq!(backups.len(), expected.len(), "{when}");
    for (backup, expected) in backups.iter().zip(expected) {
        let restored = host.restore_image(test_repo, backup).unwrap();
        assert!(restored == **expected, "{when}: {restored:?} {expected:?}");
    }
}

pub(super) fn listed(store: &dyn Backend) -> BTreeSet<Name> {
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
    // Each copy follows the previous copy, and was compared with it.
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
    // No chunk has the same id in the source and in the target.
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
fn a_copy_reads_the_data_that_two_backups_share_only_once() {
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
    // A stream is read only if it differs from the previous backup.
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
fn a_copy_to_a_project_with_another_chunk_size_cuts_all_chunks_again() {
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
        // A backup of the same image in the target has the same tree as the copy.
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
    // The next backup follows the two copies that no other backup follows.
    let host = Host::without_cache();
    let next = host.back_up(&target, "disk", a).unwrap();
    let follows: BTreeSet<_> = target.backup(next.id).record.follows.into_iter().collect();
    assert_eq!(follows, BTreeSet::from([copies[1].id, copies[2].id]));
}

#[test]
fn a_copy_follows_the_copy_of_the_nearest_earlier_backup_that_was_copied() {
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
    // With the option `volume`, the user states that the copies belong to the target's volume.
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
    // The option is not needed again, because the volume already holds copies.
    let more = host.back_up(&source, "disk", &states()[0]).unwrap().id;
    let copied = copy(&source, &[more], &target).unwrap();
    assert!(!copied[0].1.as_ref().unwrap().existing);
    // Under another name, the copies make another volume.
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
