//! Seeds of parity objects.

use cuttlebone::base::{ObjectHash, ParityRate};
use cuttlebone::repo::{ObjectKind, parity_of};

use super::{Named, cut, with};
use crate::fixture;

pub(super) fn parities() -> Named {
    let content = [3; 500];
    let rate = ParityRate::new(5).expect("a valid rate");
    let of = ObjectHash::from_bytes(fixture::hash(&content));
    let parity = parity_of(ObjectKind::Pack, of, &[&content], rate).expect("packs have parity");
    // The first byte is the length of the remaining bytes of the object. These bytes follow it, and
    // then the parity.
    let input = |left: &[u8], parity: &[u8]| {
        let len = u8::try_from(left.len()).expect("short");
        [&[len], left, parity].concat()
    };
    vec![
        ("whole", input(&[], &parity)),
        ("left", input(&content[..200], &parity)),
        ("changed", input(&[4; 70], &parity)),
        ("header", input(&[], &with(&parity, 40, 1))),
        ("short", input(&[], &cut(&parity, 200))),
        ("empty", Vec::new()),
    ]
}
