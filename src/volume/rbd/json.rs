//! The JSON that `rbd` and `ceph` print.

use serde::{Deserialize, Deserializer};

/// The answer of `rbd info`.
#[derive(Debug, Deserialize)]
pub(super) struct Info {
    #[serde(default)]
    pub(super) name: String,
    /// Missing for images of format 1.
    #[serde(default)]
    pub(super) id: Option<String>,
    pub(super) size: u64,
    pub(super) order: u8,
    #[serde(default)]
    pub(super) features: Vec<String>,
    /// Problems, for example `object map invalid` or `fast diff invalid`.
    #[serde(default)]
    pub(super) flags: Vec<String>,
    #[serde(default)]
    pub(super) data_pool: Option<String>,
    #[serde(default)]
    pub(super) stripe_unit: Option<u64>,
    #[serde(default)]
    pub(super) stripe_count: Option<u64>,
    #[serde(default)]
    pub(super) mirroring: Option<Mirroring>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Mirroring {
    /// Missing while mirroring is disabled.
    #[serde(default, deserialize_with = "truth")]
    pub(super) primary: Option<bool>,
}

/// The answer of `rbd status`.
#[derive(Debug, Deserialize)]
pub(super) struct Status {
    #[serde(default)]
    pub(super) watchers: Vec<Ignored>,
}

/// An item whose members do not matter.
#[derive(Debug, Deserialize)]
pub(super) struct Ignored {}

/// An item of `rbd snap ls`.
#[derive(Debug, Deserialize)]
pub(super) struct SnapshotItem {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) size: u64,
    /// Missing in old versions of Ceph.
    #[serde(default, deserialize_with = "truth")]
    pub(super) protected: Option<bool>,
}

/// An item of `rbd namespace ls`.
#[derive(Debug, Deserialize)]
pub(super) struct NamespaceItem {
    pub(super) name: String,
}

/// The part of `ceph osd dump` that is used.
#[derive(Debug, Deserialize)]
pub(super) struct OsdMap {
    /// The cluster's id.
    pub(super) fsid: String,
    pub(super) pools: Vec<Pool>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Pool {
    #[serde(rename = "pool")]
    pub(super) number: u64,
    #[serde(rename = "pool_name")]
    pub(super) name: String,
}

/// Decodes a truth value. Some versions of Ceph print truth values as strings. Returns `None` for
/// null, and for a string that is neither `true` nor `false`.
fn truth<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Truth {
        Bool(bool),
        Text(String),
    }
    Ok(match Option::deserialize(deserializer)? {
        None => None,
        Some(Truth::Bool(truth)) => Some(truth),
        Some(Truth::Text(text)) => match &text[..] {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        },
    })
}

/// One setting of an image, from its own settings, those of its pool, or the defaults.
#[derive(Debug, Deserialize)]
pub(super) struct ConfigItem {
    pub(super) name: String,
    pub(super) value: String,
}

/// The name and the bit of each feature.
const FEATURES: [(&str, u64); 12] = [
    ("layering", 1),
    ("striping", 1 << 1),
    ("exclusive-lock", 1 << 2),
    ("object-map", 1 << 3),
    ("fast-diff", 1 << 4),
    ("deep-flatten", 1 << 5),
    ("journaling", 1 << 6),
    ("data-pool", 1 << 7),
    ("operations", 1 << 8),
    ("migrating", 1 << 9),
    ("non-primary", 1 << 10),
    ("dirty-cache", 1 << 11),
];

/// The names of the features that can be chosen when an image is made.
pub const CHOSEN_FEATURES: [&str; 6] = [
    "layering",
    "exclusive-lock",
    "object-map",
    "fast-diff",
    "deep-flatten",
    "journaling",
];

/// Returns the bits of these features. Names of later versions are ignored.
#[must_use]
pub fn feature_bits(names: &[String]) -> u64 {
    let known = FEATURES
        .iter()
        .filter(|(name, _)| names.iter().any(|n| n == name));
    known.map(|(_, bit)| bit).sum()
}

/// Returns the names of the features in `bits` that can be chosen when an image is made.
pub(super) fn feature_names(bits: u64) -> impl Iterator<Item = &'static str> {
    let set = FEATURES.iter().filter(move |(_, bit)| bits & bit != 0);
    set.map(|(name, _)| *name)
        .filter(|name| CHOSEN_FEATURES.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_ceph_16_is_understood() {
        let info: Info = serde_json::from_str(
            r#"{"name":"a","id":"1021af26ba07","size":67108864,"objects":16,"order":22,
            "object_size":4194304,"snapshot_count":0,"data_pool":"data","format":2,
            "features":["layering","exclusive-lock","object-map","fast-diff","new"],
            "op_features":[],"flags":["object map invalid"],
            "mirroring":{"mode":"snapshot","state":"enabled","primary":"false"}}"#,
        )
        .unwrap();
        assert_eq!(info.id.as_deref(), Some("1021af26ba07"));
        assert_eq!(feature_bits(&info.features), 1 + 4 + 8 + 16);
        let names: Vec<_> = feature_names(u64::MAX).collect();
        assert_eq!(
            (names.len(), names[0], names[5]),
            (6, "layering", "journaling")
        );
        assert_eq!(info.mirroring.unwrap().primary, Some(false));
        let snapshots: Vec<SnapshotItem> = serde_json::from_str(
            r#"[{"id":4,"name":"s","size":1,"protected":"true","timestamp":"Sat"},
            {"id":5,"name":"t","size":2,"protected":false},{"id":6,"name":"u","size":2}]"#,
        )
        .unwrap();
        let protected: Vec<_> = snapshots.iter().map(|s| s.protected).collect();
        assert_eq!(protected, [Some(true), Some(false), None]);
    }
}
