//! Images in the cluster, and the content that they must have. A test can change any byte of them.

use blake3::Hash;
use cuttlebone::format::{DiffHeader, Extent, ExtentKind};

use super::{Cluster, Random, file};
use crate::rbd::{apply, stream};
use crate::support::noise;

/// The maximum size in bytes after a random change: two leaves and a part of a third.
const SIZE_MAX: u64 = 9_000_000;

/// An image, and the content that it must have.
pub(super) struct Image<'a> {
    cluster: &'a Cluster,
    pub(super) name: &'static str,
    content: Vec<u8>,
}

impl<'a> Image<'a> {
    /// Creates an empty image.
    pub(super) fn create(cluster: &'a Cluster, name: &'static str, options: &[&str]) -> Self {
        cluster.rbd(&[&["create", name, "--size", "0"], options].concat());
        Self {
            cluster,
            name,
            content: Vec::new(),
        }
    }

    /// Returns the name of a snapshot for command lines.
    pub(super) fn at(&self, snapshot: &str) -> String {
        format!("{}@{snapshot}", self.name)
    }

    /// Changes size and content by importing a diff without snapshots. So every byte can be changed
    /// without mapping the image.
    pub(super) fn change(&mut self, size: u64, extents: Vec<(Extent, Vec<u8>)>) {
        let header = DiffHeader {
            from: None,
            to: None,
            size,
            protected: None,
        };
        let args = ["import-diff", "--no-progress", "-", self.name];
        let diff = file(&stream(&header, &extents));
        self.cluster.rbd_with_stdin(&args, diff);
        apply(&mut self.content, &(header, extents));
    }

    /// Writes data and zeros at random places, and may resize the image. It may also shrink the
    /// image and enlarge it again: then the added part has zeros.
    pub(super) fn change_at_random(&mut self, random: &mut Random) {
        let mut size = self.content.len() as u64;
        match random.below(5) {
            0 => size = random.below(size + 1),
            1 => size += random.below(SIZE_MAX.saturating_sub(size) + 1),
            2 => {
                self.change(random.below(size + 1), Vec::new());
                size = size.max(random.below(SIZE_MAX));
            }
            _ => {}
        }
        self.change(size, extents(size, random));
    }

    /// Reads the image. From now on, it must have the content that was read.
    pub(super) fn read_again(&mut self) {
        self.content = self
            .cluster
            .rbd(&["export", "--no-progress", self.name, "-"]);
    }

    /// Makes a snapshot, and checks its content. Returns its digest.
    pub(super) fn snapshot(&self, name: &str) -> Hash {
        let digest = blake3::hash(&self.content);
        self.cluster
            .rbd(&["snap", "create", "--no-progress", &self.at(name)]);
        assert_eq!(self.cluster.digest(&self.at(name)), digest, "{name}");
        digest
    }
}

impl Cluster {
    /// Returns the digest of a whole image or snapshot.
    pub(super) fn digest(&self, image: &str) -> Hash {
        blake3::hash(&self.rbd(&["export", "--no-progress", image, "-"]))
    }
}

/// Returns ascending extents in an image of this size: single bytes and long ranges. Some have
/// equal data. Some are zero extents, and some are data extents that hold only zeros.
fn extents(size: u64, random: &mut Random) -> Vec<(Extent, Vec<u8>)> {
    let (mut extents, mut end) = (Vec::new(), 0);
    loop {
        let mut offset = end + random.below(SIZE_MAX / 4);
        if random.below(2) == 0 {
            offset = offset.next_multiple_of(4096);
        }
        let Some(space) = size.checked_sub(offset).filter(|space| *space > 0) else {
            return extents;
        };
        let most = [2, 100, 4096, 200_000, 2_000_000][usize::try_from(random.below(5)).unwrap()];
        let length = (1 + random.below(most)).min(space);
        let bytes = usize::try_from(length).unwrap();
        let (kind, data) = match random.below(6) {
            0 | 1 => (ExtentKind::Zero, Vec::new()),
            2 => (ExtentKind::Data, vec![0; bytes]),
            3 => (ExtentKind::Data, noise(random.below(3), bytes)),
            _ => (ExtentKind::Data, noise(random.below(u64::MAX), bytes)),
        };
        let extent = Extent {
            offset,
            length,
            kind,
        };
        extents.push((extent, data));
        end = extent.end();
    }
}
