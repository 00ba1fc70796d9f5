//! Images in the cluster that do not keep to blocks and objects, and what they must hold.

use blake3::Hash;
use cuttlebone::format::{DiffHeader, Extent, ExtentKind};

use super::{Cluster, Random, file};
use crate::rbd::{apply, stream};
use crate::support::noise;

/// No image is larger, in bytes: two leaves and a bit of another.
const SIZE_MAX: u64 = 9_000_000;

/// An image, and the bytes that it must have.
pub(super) struct Image<'a> {
    cluster: &'a Cluster,
    pub(super) name: &'static str,
    content: Vec<u8>,
}

impl<'a> Image<'a> {
    /// Without a byte.
    pub(super) fn create(cluster: &'a Cluster, name: &'static str, options: &[&str]) -> Self {
        cluster.rbd(&[&["create", name, "--size", "0"], options].concat());
        Self {
            cluster,
            name,
            content: Vec::new(),
        }
    }

    /// What a snapshot of it is called on command lines.
    pub(super) fn at(&self, snapshot: &str) -> String {
        format!("{}@{snapshot}", self.name)
    }

    /// Changes size and content by a diff that knows no snapshots: so every byte can be reached
    /// without mapping the image.
    pub(super) fn change(&mut self, size: u64, extents: Vec<(Extent, Vec<u8>)>) {
        let header = DiffHeader {
            from: None,
            to: None,
            size,
            protected: None,
        };
        let words = ["import-diff", "--no-progress", "-", self.name];
        let diff = file(&stream(&header, &extents));
        self.cluster.rbd_with_stdin(&words, diff);
        apply(&mut self.content, &(header, extents));
    }

    /// Writes data and zeros here and there, and may resize it. What is cut off and comes back in the same
    /// change has become zeros.
    pub(super) fn change_at_random(&mut self, random: &mut Random) {
        let mut size = self.content.len() as u64;
        match random.below(5) {
            0 => size = random.below(size + 1),
            1 => size += random.below(SIZE_MAX - size + 1),
            2 => {
                self.change(random.below(size + 1), Vec::new());
                size = size.max(random.below(SIZE_MAX));
            }
            _ => {}
        }
        self.change(size, extents(size, random));
    }

    /// Makes a snapshot; the digest of the image, which is what it must be.
    pub(super) fn snapshot(&self, name: &str) -> Hash {
        let digest = blake3::hash(&self.content);
        self.cluster
            .rbd(&["snap", "create", "--no-progress", &self.at(name)]);
        assert_eq!(self.cluster.digest(&self.at(name)), digest, "{name}");
        digest
    }
}

impl Cluster {
    /// The digest of a whole image or snapshot.
    pub(super) fn digest(&self, image: &str) -> Hash {
        blake3::hash(&self.rbd(&["export", "--no-progress", image, "-"]))
    }
}

/// Ascending extents within an image of that size: single bytes and long runs, data that occurs again,
/// and zeros as such or as data.
fn extents(size: u64, random: &mut Random) -> Vec<(Extent, Vec<u8>)> {
    let (mut extents, mut end) = (Vec::new(), 0);
    loop {
        let mut offset = end + random.below(SIZE_MAX / 4);
        if random.below(2) == 0 {
            offset = offset.next_multiple_of(4096);
        }
        let Some(room) = size.checked_sub(offset).filter(|room| *room > 0) else {
            return extents;
        };
        let most = [2, 100, 4096, 200_000, 2_000_000][usize::try_from(random.below(5)).unwrap()];
        let length = (1 + random.below(most)).min(room);
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
