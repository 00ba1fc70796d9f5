//! Seeds of text: lists of extents; names of objects, ids and sizes; and metadata of images.

use cuttlebone::base::ObjectHash;
use cuttlebone::repo::ObjectRef;

use super::Named;
use crate::fixture::PROJECT;

pub(super) fn extent_lists() -> Named {
    let texts = [
        (
            "json",
            concat!(
                r#"[{"offset":0,"length":512,"exists":"true"},"#,
                r#"{"offset":130560,"length":512,"exists":"false"}]"#
            ),
        ),
        ("json-boolean", r#"[{"exists":true,"length":0,"offset":9}]"#),
        (
            "json-overflow",
            r#"[{"offset":1,"length":18446744073709551615,"exists":"true"}]"#,
        ),
        (
            "json-unknown",
            r#"[{"offset":1,"length":1,"exists":"true","\u001b":0}]"#,
        ),
        ("json-empty", "[]"),
        (
            "xml",
            "<extents><extent><offset>0</offset><length>512</length><exists>true</exists>\
             </extent></extents>",
        ),
        (
            "xml-pretty",
            "<?xml version=\"1.0\"?>\n<extents>\n <extent>\n  <offset> 7 </offset>\n  \
             <exists>false</exists><length>1</length>\n </extent>\n</extents>\n",
        ),
        (
            "xml-entity",
            "<extents><extent><offset>&#48;</offset></extent></extents>",
        ),
        ("xml-doctype", "<!DOCTYPE a [<!ENTITY b \"c\">]><extents/>"),
        ("xml-empty", "<extents/>"),
        (
            "plain",
            "Offset   Length  Type\n2662400  4096    data\n2686976  36864   zero\n",
        ),
        ("plain-cut", "Offset   Length  Type\n2662400  4096    data"),
    ];
    texts.map(|(name, text)| (name, text.into())).into()
}

pub(super) fn names() -> Named {
    let hash = ObjectHash::from_bytes([0xcd; 32]);
    let name = |object: ObjectRef| object.name().as_str().as_bytes().to_vec();
    let copy = |object: ObjectRef| object.copy_name().as_str().as_bytes().to_vec();
    vec![
        ("repository", name(ObjectRef::Repository)),
        ("key", name(ObjectRef::Key(None, hash))),
        ("key-copy", copy(ObjectRef::Key(Some(PROJECT), hash))),
        ("project-copy", copy(ObjectRef::Project(PROJECT))),
        ("pack", name(ObjectRef::Pack(PROJECT, hash))),
        ("pack-copy", copy(ObjectRef::Pack(PROJECT, hash))),
        ("index", name(ObjectRef::Index(PROJECT, hash))),
        ("backup", name(ObjectRef::Backup(PROJECT, hash))),
        ("upload", b"keys/.upload-1".to_vec()),
        ("up", b"keys/../a".to_vec()),
        ("id", hash.to_string().into_bytes()),
        ("short-id", PROJECT.to_string().into_bytes()),
        ("size", b"1.5 GiB".to_vec()),
        ("size-large", b"16383P".to_vec()),
        ("size-fraction", b".999999999999999999999T".to_vec()),
        ("size-two-points", b"1.2.3M".to_vec()),
    ]
}

pub(super) fn image_metadata() -> Named {
    vec![
        (
            "whole",
            r#"[["rbd_default_features","61"],["conf_rbd_qos_iops_limit","100"],["","✓"]]"#
                .as_bytes()
                .to_vec(),
        ),
        (
            "bytes",
            br#"[["key",{"hex":"ff00"}],[{"hex":""},"value"],["key","again"]]"#.to_vec(),
        ),
        ("utf8-as-hex", br#"[[{"hex":"6b6579"},"value"]]"#.to_vec()),
        ("none", br"[]".to_vec()),
        ("one", br#"[["key"]]"#.to_vec()),
        ("three", br#"[["key","value","more"]]"#.to_vec()),
        ("upper", br#"[["key",{"hex":"FF"}]]"#.to_vec()),
        ("odd", br#"[["key",{"hex":"f"}]]"#.to_vec()),
        ("member", br#"[["key",{"hex":"ff","more":1}]]"#.to_vec()),
        ("number", br#"[["key",1]]"#.to_vec()),
        ("null", br"null".to_vec()),
        (
            "control",
            br#"[["\u0000\u001b[2J","\u202e\ud83e\udd80"]]"#.to_vec(),
        ),
        ("surrogate", br#"[["\ud800","value"]]"#.to_vec()),
        ("after", br#"[["key","value"]] 1"#.to_vec()),
        ("deep", "[".repeat(200).into_bytes()),
    ]
}
