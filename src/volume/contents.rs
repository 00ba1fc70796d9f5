//! Detects the content of a device by the signatures of file systems, partition tables and the
//! like.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::base::{is_zero, to_usize};

/// The number of bytes to examine at the beginning of a device, and at its end.
const END_LEN: u64 = 1 << 20;
/// A read that fails is tried again in pieces of this many bytes.
const PIECE: usize = 4 << 10;
/// Offsets of other places with copies of signatures: of Btrfs, and of ext4 with blocks of 1 KiB
/// and of 4 KiB.
const BETWEEN: [u64; 3] = [64 << 20, 8193 << 10, 32768 << 12];
/// The number of bytes to examine at each offset in [`BETWEEN`].
const BETWEEN_LEN: u64 = 4 << 10;

/// The contents that were found on a device, as a set of the kinds in [`KNOWN`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Contents(u64);

/// A kind of content, and the test for it.
type Kind = (&'static str, fn(&Sample) -> bool);

/// The known kinds, the most specific ones first.
const KNOWN: &[Kind] = &[
    ("a LUKS container", is_luks),
    ("an LVM2 physical volume", is_lvm),
    ("a member of a RAID array (md)", is_md),
    ("a DRBD replica", is_drbd),
    ("a Ceph bluestore", |s| s.has(0, b"bluestore block device")),
    ("a member of a ZFS pool", is_zfs),
    ("a bcache device", |s| s.has(4096 + 24, &BCACHE)),
    ("a Btrfs file system", is_btrfs),
    ("an XFS file system", |s| s.has(0, b"XFSB")),
    ("an ext4 file system", |s| ext(s) == Some(4)),
    ("an ext3 file system", |s| ext(s) == Some(3)),
    ("an ext2 file system", |s| ext(s) == Some(2)),
    ("an F2FS file system", |s| {
        s.has(1024, &[0x10, 0x20, 0xf5, 0xf2])
    }),
    ("an NTFS file system", |s| s.has(3, b"NTFS    ")),
    ("a BitLocker volume", |s| s.has(3, b"-FVE-FS-")),
    ("an exFAT file system", |s| s.has(3, b"EXFAT   ")),
    ("a FAT file system", is_fat),
    ("an ISO 9660 file system", |s| s.has(32769, b"CD001")),
    ("a UDF file system", |s| {
        s.has(34817, b"NSR0") || s.has(36865, b"NSR0")
    }),
    ("swap space", is_swap),
    ("a GPT partition table", is_gpt),
    ("an MBR partition table", is_mbr),
];

/// Stands for data without a known signature.
const UNKNOWN: u64 = 1 << 62;
/// Stands for places that cannot be read.
const UNREADABLE: u64 = 1 << 63;

const BCACHE: [u8; 16] = [
    0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba, 0x6d, 0x81,
];

impl Contents {
    /// Examines a device of `size` bytes: its first and its last MiB, and other places with copies
    /// of signatures.
    pub(super) fn of(device: &File, size: u64) -> Self {
        Self::read(size, |offset, buffer| {
            device.read_exact_at(buffer, offset).is_ok()
        })
    }

    /// Examines a device through `read`, which fills a buffer from an offset on and returns whether
    /// it succeeded.
    fn read(size: u64, read: impl Fn(u64, &mut [u8]) -> bool) -> Self {
        let sample = Sample::take(size, read);
        let known = KNOWN.iter().zip(0..);
        let mut found = known
            .filter(|((_, is_there), _)| is_there(&sample))
            .fold(0, |found, (_, bit)| found | 1 << bit);
        if found == 0 && !sample.ends_are_zero() {
            found |= UNKNOWN;
        }
        if sample.unreadable {
            found |= UNREADABLE;
        }
        Self(found)
    }

    /// Returns whether nothing was found. There may still be data without a known signature between
    /// the places that were examined.
    #[must_use]
    pub fn is_blank(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has = |bit: u64| self.0 & bit != 0;
        let known = KNOWN.iter().zip(0..).filter(|(_, bit)| has(1 << bit));
        let mut names: Vec<_> = known.map(|((name, _), _)| *name).collect();
        if has(UNKNOWN) {
            names.push("data of a kind that cuttlebone does not know");
        }
        if has(UNREADABLE) {
            names.push("sectors that cannot be read");
        }
        if names.is_empty() {
            names.push("nothing");
        }
        f.write_str(&names.join(", "))
    }
}

/// Parts of a device.
struct Sample {
    size: u64,
    /// The offset and the bytes of each part. Bytes that cannot be read are zero here.
    parts: Vec<(u64, Vec<u8>)>,
    unreadable: bool,
}

impl Sample {
    fn take(size: u64, read: impl Fn(u64, &mut [u8]) -> bool) -> Self {
        let len = size.min(END_LEN);
        let mut wanted = vec![(0, len), (size - len, len)];
        let within = |at: &u64| at.saturating_add(BETWEEN_LEN) <= size;
        wanted.extend(
            BETWEEN
                .iter()
                .filter(|at| within(at))
                .map(|at| (*at, BETWEEN_LEN)),
        );
        let mut sample = Self {
            size,
            parts: Vec::new(),
            unreadable: false,
        };
        for (start, len) in wanted {
            let mut bytes = vec![0; to_usize(len)];
            if !read(start, &mut bytes) {
                for (piece, at) in bytes.chunks_mut(PIECE).zip((start..).step_by(PIECE)) {
                    if !read(at, piece) {
                        sample.unreadable = true;
                        piece.fill(0);
                    }
                }
            }
            sample.parts.push((start, bytes));
        }
        sample
    }

    /// Returns whether the parts at the beginning and at the end of the device are zero.
    fn ends_are_zero(&self) -> bool {
        self.parts.iter().take(2).all(|(_, bytes)| is_zero(bytes))
    }

    /// Returns `len` bytes at `offset`, or `None` if no part contains all of them.
    fn get(&self, offset: u64, len: usize) -> Option<&[u8]> {
        self.parts.iter().find_map(|(start, bytes)| {
            let from = to_usize(offset.checked_sub(*start)?);
            bytes.get(from..from.checked_add(len)?)
        })
    }

    fn has(&self, offset: u64, bytes: &[u8]) -> bool {
        self.get(offset, bytes.len()) == Some(bytes)
    }

    /// Returns whether these bytes are at this distance from the end.
    fn has_before_end(&self, distance: u64, bytes: &[u8]) -> bool {
        let at = self.size.checked_sub(distance);
        at.is_some_and(|at| self.has(at, bytes))
    }

    fn word(&self, offset: u64) -> Option<u32> {
        let bytes = self.get(offset, 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }
}

fn is_luks(sample: &Sample) -> bool {
    // LUKS2 has a second header after the first one. The size of a header is a power of two.
    let mut second = (14..=22).map(|bits| 1 << bits);
    sample.has(0, b"LUKS\xba\xbe") || second.any(|at| sample.has(at, b"SKUL\xba\xbe"))
}

fn is_lvm(sample: &Sample) -> bool {
    let mut sectors = (0..4).map(|sector| sector * 512);
    sectors.any(|at| sample.has(at, b"LABELONE") && sample.has(at + 24, b"LVM2 001"))
}

fn is_md(sample: &Sample) -> bool {
    const MAGIC: [u8; 4] = 0xa92b_4efc_u32.to_le_bytes();
    const MAGIC_BIG: [u8; 4] = 0xa92b_4efc_u32.to_be_bytes();
    let sectors = sample.size / 512;
    // The superblock is at the beginning (version 1.1), after 4 KiB (1.2), or at the end (1.0 and
    // 0.90).
    let v1_0 = sectors.checked_sub(16).map(|sector| (sector & !7) * 512);
    let v0_90 = (sample.size & !0xffff).checked_sub(0x10000);
    [Some(0), Some(4096), v1_0]
        .iter()
        .flatten()
        .any(|at| sample.has(*at, &MAGIC))
        || v0_90.is_some_and(|at| sample.has(at, &MAGIC) || sample.has(at, &MAGIC_BIG))
}

fn is_drbd(sample: &Sample) -> bool {
    // Versions 8.4 and 9 have the superblock of their metadata in the last 4 KiB.
    let block = (sample.size & !0xfff).checked_sub(0x1000);
    block.is_some_and(|at| {
        let mut magics = [0x8374_026b_u32, 0x8374_026c, 0x8374_026d].iter();
        magics.any(|magic| sample.has(at + 60, &magic.to_be_bytes()))
    })
}

fn is_zfs(sample: &Sample) -> bool {
    const MAGIC: u64 = 0x00ba_b10c;
    const LABEL: u64 = 256 << 10;
    let end = sample.size & !(LABEL - 1);
    let labels = [
        Some(0),
        Some(LABEL),
        end.checked_sub(2 * LABEL),
        end.checked_sub(LABEL),
    ];
    // Each label has a ring of uberblocks in its second half.
    labels.iter().flatten().any(|label| {
        (label + LABEL / 2..label + LABEL)
            .step_by(1024)
            .any(|at| sample.has(at, &MAGIC.to_le_bytes()) || sample.has(at, &MAGIC.to_be_bytes()))
    })
}

fn is_btrfs(sample: &Sample) -> bool {
    [64 << 10, 64 << 20]
        .iter()
        .any(|at| sample.has(at + 64, b"_BHRfS_M"))
}

/// Returns the version of an ext file system: 2, 3 or 4. Returns `None` for anything else.
fn ext(sample: &Sample) -> Option<u8> {
    const HAS_JOURNAL: u32 = 0x4;
    // Features of ext4: extents, block numbers of 64 bits, and flexible block groups.
    const OF_EXT4: u32 = 0x40 | 0x80 | 0x200;
    // The superblock, and its first copy with blocks of 1 KiB and of 4 KiB.
    let superblocks = [1024, BETWEEN[1], BETWEEN[2]];
    let at = superblocks.into_iter().find(|at| {
        // Also test for a valid state and revision, since the two bytes of the magic number may
        // occur by chance.
        let state = sample.get(at + 0x3a, 2);
        sample.has(at + 0x38, &[0x53, 0xef])
            && state.is_some_and(|state| state[0] < 8 && state[1] == 0)
            && sample.word(at + 0x4c).is_some_and(|revision| revision < 2)
    })?;
    let compatible = sample.word(at + 0x5c).unwrap_or(0);
    let incompatible = sample.word(at + 0x60).unwrap_or(0);
    Some(match (incompatible & OF_EXT4, compatible & HAS_JOURNAL) {
        (0, 0) => 2,
        (0, _) => 3,
        _ => 4,
    })
}

fn is_fat(sample: &Sample) -> bool {
    let named = [(54, &b"FAT1"[..]), (54, b"FAT  "), (82, b"FAT32")];
    named.iter().any(|(at, name)| sample.has(*at, name)) && sample.has(510, &[0x55, 0xaa])
}

fn is_swap(sample: &Sample) -> bool {
    // The signature is at the end of the first page, whose size depends on the machine. While a
    // machine is suspended to disk, the page has another signature.
    let names: [&[u8]; 5] = [
        b"SWAPSPACE2",
        b"SWAP-SPACE",
        b"S1SUSPEND",
        b"S2SUSPEND",
        b"LINHIB0001",
    ];
    let mut ends = (12..=16).map(|bits| (1 << bits) - 10);
    ends.any(|at| names.iter().any(|name| sample.has(at, name)))
}

fn is_gpt(sample: &Sample) -> bool {
    // Sectors have 512 bytes or 4 KiB. The table is at the beginning, and a copy is at the end.
    let mut sectors = [512, 4096].into_iter();
    sectors.any(|len| sample.has(len, b"EFI PART") || sample.has_before_end(len, b"EFI PART"))
}

fn is_mbr(sample: &Sample) -> bool {
    // The boot sector of a file system ends with the same bytes as an MBR. A disk with a GPT also
    // has an MBR, which protects the GPT from old programs.
    let others = [b"NTFS    ", b"EXFAT   ", b"-FVE-FS-"];
    let other = others.iter().any(|name| sample.has(3, &name[..]));
    let Some(sector) = sample.get(0, 512) else {
        return false;
    };
    let mut entries = sector[446..510].chunks_exact(16);
    sector.ends_with(&[0x55, 0xaa])
        && !(other || is_fat(sample) || is_gpt(sample))
        && entries.clone().all(|entry| matches!(entry[0], 0 | 0x80))
        && entries.any(|entry| entry[4] != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 160 << 20;

    /// Returns the contents found on a device of zeros with these bytes in it.
    fn found(written: &[(usize, &[u8])]) -> Contents {
        look(written, |_| true)
    }

    fn look(written: &[(usize, &[u8])], readable: impl Fn(usize) -> bool) -> Contents {
        Contents::read(SIZE as u64, |offset, buffer| {
            buffer.fill(0);
            let from = to_usize(offset);
            for (at, bytes) in written {
                for (byte, at) in bytes.iter().zip(*at..) {
                    if let Some(into) = at.checked_sub(from).and_then(|at| buffer.get_mut(at)) {
                        *into = *byte;
                    }
                }
            }
            (from..from + buffer.len()).step_by(512).all(&readable)
        })
    }

    #[test]
    fn a_device_of_zeros_is_blank_and_one_with_unknown_bytes_at_either_end_is_not() {
        assert!(found(&[]).is_blank());
        assert!(found(&[(to_usize(END_LEN), &[1])]).is_blank());
        for at in [0, (1 << 20) - 1, SIZE - (1 << 20), SIZE - 1] {
            let text = found(&[(at, &[1])]).to_string();
            assert_eq!(text, "data of a kind that cuttlebone does not know");
        }
    }

    #[test]
    fn a_device_that_cannot_be_read_is_not_blank() {
        let contents = look(&[], |at| at != 8192);
        assert_eq!(contents.to_string(), "sectors that cannot be read");
        let contents = look(&[(0, b"XFSB")], |at| at != 8192);
        assert_eq!(
            contents.to_string(),
            "an XFS file system, sectors that cannot be read"
        );
    }

    #[test]
    fn signatures_are_found_at_all_places_of_their_copies() {
        let btrfs: &[u8] = b"_BHRfS_M";
        let gpt: &[u8] = b"EFI PART";
        let zfs = 0x00ba_b10c_u64.to_be_bytes();
        let md = 0xa92b_4efc_u32.to_le_bytes();
        let drbd = 0x8374_026d_u32.to_be_bytes();
        let cases: &[(&str, usize, &[u8])] = &[
            ("a Btrfs file system", (64 << 10) + 64, btrfs),
            ("a Btrfs file system", (64 << 20) + 64, btrfs),
            ("a GPT partition table", 512, gpt),
            ("a GPT partition table", 4096, gpt),
            ("a GPT partition table", SIZE - 512, gpt),
            ("a GPT partition table", SIZE - 4096, gpt),
            ("a member of a ZFS pool", 128 << 10, &zfs),
            ("a member of a ZFS pool", SIZE - (100 << 10), &zfs),
            ("a member of a RAID array (md)", 0, &md),
            ("a member of a RAID array (md)", 4096, &md),
            ("a member of a RAID array (md)", SIZE - (8 << 10), &md),
            ("a member of a RAID array (md)", SIZE - (64 << 10), &md),
            ("a DRBD replica", SIZE - 4096 + 60, &drbd),
            ("a LUKS container", 0, b"LUKS\xba\xbe\0\x01"),
            ("a LUKS container", 16 << 10, b"SKUL\xba\xbe\0\x02"),
            ("swap space", 4086, b"SWAPSPACE2"),
            ("swap space", 65526, b"SWAPSPACE2"),
            ("a Ceph bluestore", 0, b"bluestore block device\n"),
            ("an NTFS file system", 3, b"NTFS    "),
            ("an ISO 9660 file system", 32769, b"CD001"),
        ];
        for (name, at, bytes) in cases {
            assert_eq!(found(&[(*at, bytes)]).to_string(), *name, "at {at}");
        }
        let lvm = found(&[(512, b"LABELONE"), (512 + 24, b"LVM2 001")]);
        assert_eq!(lvm.to_string(), "an LVM2 physical volume");
        let copy = found(&[(to_usize(BETWEEN[2]) + 0x38, &[0x53, 0xef, 1, 0])]);
        assert_eq!(copy.to_string(), "an ext2 file system");
    }

    #[test]
    fn a_partition_table_is_distinguished_from_the_boot_sector_of_a_file_system() {
        let end: (usize, &[u8]) = (510, &[0x55, 0xaa]);
        let entry: (usize, &[u8]) = (446, &[0x80, 0, 2, 0, 0x83]);
        assert_eq!(found(&[end, entry]).to_string(), "an MBR partition table");
        let fat = found(&[end, entry, (54, b"FAT16   ")]);
        assert_eq!(fat.to_string(), "a FAT file system");
        let gpt = found(&[end, entry, (512, b"EFI PART")]);
        assert_eq!(gpt.to_string(), "a GPT partition table");
    }

    #[test]
    fn all_signatures_that_are_found_are_named() {
        let both = found(&[(0, b"XFSB"), (512, b"EFI PART")]);
        assert_eq!(
            both.to_string(),
            "an XFS file system, a GPT partition table"
        );
    }

    #[test]
    fn a_device_smaller_than_a_sector_can_be_examined() {
        assert!(Contents::read(0, |_, _| true).is_blank());
        assert!(Contents::read(100, |_, _| true).is_blank());
    }
}
