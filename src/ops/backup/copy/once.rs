//! Reports each problem that a copy finds in the target only once. The copy of each backup reads
//! the same objects of the target, and would repeat the same notices.

use std::mem::discriminant;
use std::sync::{Arc, Mutex};

use crate::base::{Notice, Observer, Progress, lock};

/// Passes on each notice once. If several notices of the same kind differ only in their number of
/// packs, passes on the first one. Later numbers are smaller, since the copies store lost data
/// again.
pub(super) struct Once {
    to: Arc<dyn Observer>,
    seen: Mutex<Vec<Notice>>,
}

impl Once {
    pub(super) fn new(to: Arc<dyn Observer>) -> Self {
        Self {
            to,
            seen: Mutex::default(),
        }
    }
}

impl Observer for Once {
    fn progress(&self, progress: Progress) {
        self.to.progress(progress);
    }

    fn notice(&self, notice: Notice) {
        let mut seen = lock(&self.seen);
        if seen.iter().any(|other| is_same(other, &notice)) {
            return;
        }
        seen.push(notice.clone());
        drop(seen);
        self.to.notice(notice);
    }
}

fn is_same(one: &Notice, other: &Notice) -> bool {
    let counts = matches!(
        one,
        Notice::PacksMissing { .. } | Notice::PacksDamaged { .. } | Notice::PacksUnindexed { .. }
    );
    one == other || counts && discriminant(one) == discriminant(other)
}
