//! Seeds of audits and of entries of the ledger. Most have a fault, which the seed's name states.

use super::{Named, cut, with};

pub(super) fn audits() -> Named {
    let about = br#"{"time":"2026-11-21T12:00:00Z","result":"whole","tool":"t"}"#;
    let body = |about: &[u8], packs: &[u8]| {
        let mut out = u32::try_from(about.len())
            .expect("short")
            .to_le_bytes()
            .to_vec();
        out.extend_from_slice(about);
        out.extend_from_slice(&u32::try_from(packs.len()).expect("short").to_le_bytes());
        out.extend(packs.iter().flat_map(|byte| [*byte; 32]));
        out
    };
    let whole = body(about, &[1, 2, 9]);
    vec![
        ("none", body(about, &[])),
        ("descending", body(about, &[2, 1])),
        ("twice", body(about, &[1, 1])),
        ("newer", body(br#"{"requires":["x"]}"#, &[1])),
        ("no-time", body(br#"{"result":"x"}"#, &[1])),
        ("length", with(&whole, 3, 0x80)),
        ("short", cut(&whole, 1)),
        ("long", [&whole[..], &[0]].concat()),
        ("whole", whole),
    ]
}

pub(super) fn ledgers() -> Named {
    let about = br#"{"time":"2026-11-21T12:00:00Z"}"#;
    let body = |about: &[u8], groups: &[(u64, u8, &[u8])]| {
        let mut out = u32::try_from(about.len())
            .expect("short")
            .to_le_bytes()
            .to_vec();
        out.extend_from_slice(about);
        out.extend_from_slice(&u32::try_from(groups.len()).expect("short").to_le_bytes());
        for (time, result, packs) in groups {
            out.extend_from_slice(&time.to_le_bytes());
            out.push(*result);
            out.extend_from_slice(&u32::try_from(packs.len()).expect("short").to_le_bytes());
            out.extend(packs.iter().flat_map(|byte| [*byte; 32]));
        }
        out
    };
    let runs = br#"{"time":"2026-11-21T12:00:00Z","runs":[{"time":"2026-11-21T12:00:00Z",
        "level":"opened","seed":"0707070707070707070707070707070707070707070707070707070707070707",
        "packs":1,"bytes":2,"damaged":0,"seconds":3,"complete":true}]}"#;
    let whole = body(
        about,
        &[(1, 0, &[3]), (1, 1, &[1, 2]), (1, 2, &[2]), (2, 1, &[1])],
    );
    vec![
        ("none", body(about, &[])),
        ("runs", body(runs, &[(1, 2, &[1])])),
        ("descending", body(about, &[(2, 1, &[1]), (1, 1, &[1])])),
        ("twice", body(about, &[(1, 1, &[1, 1])])),
        ("result", body(about, &[(1, 3, &[1])])),
        ("newer", body(br#"{"requires":["x"]}"#, &[])),
        ("length", with(&whole, 3, 0x80)),
        ("short", cut(&whole, 1)),
        ("long", [&whole[..], &[0]].concat()),
        ("whole", whole),
    ]
}
