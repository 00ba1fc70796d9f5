//! Work that a copy of several backups does only once.

use std::collections::BTreeMap;

use cuttlebone::base::Notice;
use cuttlebone::storage::{Backend, FaultBackend, StorageOperation};

use super::copy::{
    all, back_up_states, copy, copy_options, copy_with, has_states, new_repo, states,
};
use super::copy_damage::delete;
use super::prune::is_pack;
use super::{CHUNK, Host, Image, LEAF, TestRepo, noise};

#[test]
fn without_a_cache_each_segment_of_the_target_is_read_once() {
    let (_, source) = new_repo(CHUNK);
    let ids = back_up_states(&source);
    let store = FaultBackend::new();
    let target = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    for number in 0..5 {
        let image = Image::new(LEAF).with(0, &noise(100 + number, CHUNK));
        host.back_up(&target, &format!("own {number}"), &image)
            .unwrap();
    }
    let segments = || {
        let listed = store.list("").unwrap().into_iter();
        let names = listed.map(|info| info.name.as_str().to_owned());
        names.filter(|name| name.contains("/index/")).count()
    };
    // The target already has copies when the second run starts. That run also looks for lost data
    // of these copies.
    for selected in [&ids[..2], &ids] {
        let before = segments();
        assert!(before >= 5, "{before}");
        let _ = store.take_log();
        copy_with(&host, &source, selected, &target, &copy_options()).unwrap();
        let mut reads = BTreeMap::<_, u64>::new();
        for call in store.take_log() {
            if call.operation == StorageOperation::Get && call.name.contains("/index/") {
                *reads.entry(call.name).or_default() += 1;
            }
        }
        assert!(reads.len() >= before, "{reads:?}");
        assert!(reads.values().all(|reads| *reads == 1), "{reads:?}");
    }
    let [a, b, c] = &states();
    has_states(&target, &[a, b, c], "copied");
    host.check_clean(&target, "copied");
}

#[test]
fn a_problem_of_the_target_is_reported_once_and_not_for_each_backup() {
    let (_, source) = new_repo(CHUNK);
    let ids = back_up_states(&source);
    let (store, target) = new_repo(CHUNK);
    copy(&source, &ids[..1], &target).unwrap();
    delete(&store, is_pack);
    let host = Host::without_cache();
    let rest: Vec<_> = all(&source).split_off(1);
    let copied = copy_with(&host, &source, &rest, &target, &copy_options()).unwrap();
    assert!(copied.len() == 2 && copied.iter().all(|(_, c)| c.is_ok()));
    let notices = host.notices.take();
    let missing = |notice: &&Notice| matches!(notice, Notice::PacksMissing { .. });
    assert_eq!(notices.iter().filter(missing).count(), 1, "{notices:?}");
}
