//! Repositories written by an attacker.

use cuttlebone::base::ObjectHash;
use cuttlebone::format::{ContentKind, IndexSegment};

use super::{Named, backup, children, frame, segment, stream};
use crate::hostile::{
    BAD_SEGMENT, CHUNK, CHUNK_ZSTD, COMPRESSED, CUT_PACK, DAMAGED_COPY, IMAGE, JOIN, LIE, MARKED,
    NO_SEGMENT, NODE, NODE_ZSTD, RECORD, SEGMENT, STREAM, reference,
};

const LEAF: u64 = 4 << 20;

/// Returns an input of the target `hostile_repository`.
fn repository(flags: u8, items: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut out = vec![flags];
    for (tag, body) in items {
        let len = u16::try_from(body.len()).expect("seeds are small");
        out.push(*tag);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(body);
    }
    out
}

fn image(size: u64, log: u8, top: u8) -> (u8, Vec<u8>) {
    (IMAGE, [&size.to_le_bytes()[..], &[log, top]].concat())
}

fn dump(size: u64, top: u8) -> (u8, Vec<u8>) {
    (STREAM, [&size.to_le_bytes()[..], &[top]].concat())
}

type Item = (u8, Vec<u8>);

pub(super) fn repositories() -> Named {
    let mut all = images();
    all.extend(false_statements());
    all.extend(records());
    all.extend(streams());
    all
}

fn chunk() -> Item {
    (CHUNK, b"data".repeat(1024))
}

fn small(text: &[u8]) -> Item {
    (CHUNK, text.to_vec())
}

fn compressed(len: u16, plain: &[u8]) -> Item {
    (CHUNK_ZSTD, [&len.to_le_bytes()[..], &frame(plain)].concat())
}

/// Returns a leaf node for chunks of 64 KiB. At two of its places is the first blob.
fn leaf() -> Item {
    (NODE, children(0, 64, &[(0, 0), (3, 0)]))
}

fn images() -> Named {
    let plain = |flags, size| repository(flags, &[chunk(), leaf(), image(size, 16, 1)]);
    let two_levels = [
        chunk(),
        compressed(4096, &[0; 4096]),
        (NODE_ZSTD, children(0, 64, &[(0, 0), (1, 1), (63, 1)])),
        (NODE, children(1, 64, &[(0, 2), (1, 2), (63, 2)])),
        image(64 * LEAF, 16, 3),
        image(2 * LEAF, 16, 3),
    ];
    let runs = [
        chunk(),
        (CHUNK | JOIN, b"other".repeat(1000)),
        (CHUNK | JOIN | LIE, b"third".repeat(100)),
        (CHUNK, b"alone".to_vec()),
        (NODE, children(0, 64, &[(0, 0), (1, 1), (2, 2), (3, 3)])),
        (NODE | JOIN, children(1, 64, &[(0, 4)])),
        image(64 * LEAF, 16, 5),
    ];
    let mut tower = vec![small(b"x"), leaf()];
    tower.extend((1..=7).map(|level| (NODE, children(level, 64, &[(0, level), (63, level)]))));
    tower.push(image(u64::MAX - LEAF + 1, 16, 8));
    vec![
        ("image", plain(0, LEAF)),
        ("image-cut", plain(CUT_PACK, LEAF - 5)),
        ("image-beyond-end", plain(0, 65_536)),
        (
            "image-wrong-width",
            repository(0, &[chunk(), leaf(), image(LEAF, 12, 1)]),
        ),
        (
            "image-top-is-chunk",
            repository(0, &[chunk(), leaf(), image(LEAF, 16, 0)]),
        ),
        ("image-zeros", repository(0, &[image(1 << 40, 16, 255)])),
        ("image-two-levels", repository(DAMAGED_COPY, &two_levels)),
        ("image-tower", repository(0, &tower)),
        ("runs", repository(COMPRESSED, &runs)),
        ("packs-asked", plain(NO_SEGMENT | BAD_SEGMENT, LEAF)),
        ("marked", plain(MARKED, LEAF)),
    ]
}

fn false_statements() -> Named {
    let mut lie = segment();
    lie.packs.truncate(1);
    lie.packs[0].contents.runs.truncate(2);
    let lie = (SEGMENT, lie.encode());
    let superseding = |number: u8| {
        let segment = IndexSegment {
            packs: Vec::new(),
            superseded: vec![ObjectHash::from_bytes(*reference(number).as_bytes())],
        };
        (SEGMENT, segment.encode())
    };
    let superseded = [
        chunk(),
        leaf(),
        superseding(0),
        superseding(1),
        image(LEAF, 16, 1),
    ];
    let bomb = compressed(10, &vec![0; 60_000]);
    let one = (NODE, children(0, 1, &[(0, 0)]));
    let no_node = (NODE, b"not a node".to_vec());
    let wrong_id = (CHUNK | LIE, b"x".to_vec());
    vec![
        (
            "segment-lies",
            repository(0, &[chunk(), leaf(), lie, image(LEAF, 16, 1)]),
        ),
        ("superseded", repository(0, &superseded)),
        (
            "id-lies",
            repository(0, &[wrong_id, leaf(), image(LEAF, 16, 1)]),
        ),
        ("bomb", repository(0, &[bomb, one, image(1, 22, 1)])),
        ("not-a-node", repository(0, &[no_node, image(LEAF, 16, 0)])),
    ]
}

fn records() -> Named {
    let record = backup(ContentKind::Image, 8192, 4096, Some(1)).encode();
    let node = children(0, 1024, &[(0, 0), (1, 0)]);
    let garbage = b"{\"requires\":[]}".to_vec();
    vec![
        (
            "record",
            repository(0, &[chunk(), (NODE, node), (RECORD, record)]),
        ),
        ("record-garbage", repository(0, &[(RECORD, garbage)])),
    ]
}

fn streams() -> Named {
    let two_levels = [
        small(b"one"),
        small(b"three"),
        (NODE, stream(0, &[(3, Some(0)), (100, None), (5, Some(1))])),
        (NODE, stream(1, &[(108, Some(2)), (108, Some(2))])),
        dump(216, 3),
        dump(108, 2),
        dump(107, 2),
    ];
    // A few nodes that describe 2^30 runs of one zero each.
    let mut pyramid = vec![(NODE, stream(0, &[(1, None)]))];
    pyramid.extend((1..=15).map(|level| {
        let child = (1 << (2 * (level - 1)), Some(level - 1));
        (NODE, stream(level, &[child; 4]))
    }));
    pyramid.push(dump(1 << 30, 15));
    vec![
        ("stream", repository(0, &two_levels)),
        ("stream-pyramid", repository(0, &pyramid)),
    ]
}

#[cfg(test)]
mod tests {
    use crate::hostile::run;

    /// Fails if a change of the format makes seeds useless, so that the target reads less of them.
    #[test]
    fn seeds_reach_the_code_that_they_are_for() {
        for (name, chunks, opened, whole, damaged) in [
            ("image", 2, 2, 1, 0),
            ("image-cut", 2, 2, 1, 0),
            ("image-beyond-end", 1, 1, 0, 0),
            ("image-wrong-width", 0, 0, 0, 0),
            ("image-top-is-chunk", 0, 0, 0, 0),
            ("image-zeros", 0, 0, 1, 0),
            // The shorter image ends before the third child, so its whole tree is refused.
            ("image-two-levels", 9, 9, 1, 0),
            ("packs-asked", 2, 2, 1, 0),
            ("marked", 2, 2, 1, 0),
            ("id-lies", 2, 0, 1, 0),
            ("bomb", 1, 0, 1, 0),
            ("not-a-node", 0, 0, 0, 0),
            ("record", 2, 2, 1, 0),
            ("record-garbage", 0, 0, 0, 1),
            // A leaf that is longer than its stream is refused completely, too.
            ("stream", 6, 6, 2, 0),
            ("stream-pyramid", 0, 0, 0, 0),
        ] {
            let seeds = super::repositories();
            let (_, bytes) = seeds.iter().find(|(n, _)| *n == name).expect(name);
            let reach = run(bytes);
            let reached = (reach.chunks, reach.opened, reach.whole, reach.damaged);
            assert_eq!(reached, (chunks, opened, whole, damaged), "{name}");
        }
    }
}
