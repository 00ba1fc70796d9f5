//! `keys.json` and `ids.json`.

use serde_json::{Value, json};

use super::Case;
use cuttlebone::base::BlobId;
use cuttlebone::crypto::{
    KdfParams, PackNonce, ProjectKeys, RepositoryKeys, SealKey, SealNonce, Secret,
};
use cuttlebone::format::{ContentKind, root_description};

const MESSAGE: &[u8] = b"message";

pub(super) fn keys(case: &Case) -> Value {
    let Some(secret) = case.array("secret") else {
        let [memory, passes, lanes] = ["memory_kib", "passes", "lanes"].map(|n| case.number(n));
        let params = KdfParams::new(memory, passes, lanes).unwrap();
        let (password, salt) = (case.bytes("password").unwrap(), case.array("salt").unwrap());
        let key = params.derive(&password, &salt).unwrap();
        return json!({ "key": hex::encode(key.expose()) });
    };
    let secret = Secret::new(secret);
    let repository = RepositoryKeys::new(&secret);
    let project = ProjectKeys::new(&secret);

    // The program does not expose the keys. Compare their results with those of the expected keys.
    let mac = |name| *blake3::keyed_hash(&case.expected(name), MESSAGE).as_bytes();
    let opens = |name, key: &SealKey| {
        let nonce = SealNonce::from_bytes([1; 24]);
        let sealed = key.seal(&nonce, b"", MESSAGE);
        let expected = Secret::new(case.expected(name)).seal_key();
        expected.open(&nonce, b"", &sealed).is_ok()
    };
    let mut pack_nonce = [2; 24];
    pack_nonce[16..].copy_from_slice(&5u64.to_le_bytes());
    let mut blob = MESSAGE.to_vec();
    let cipher = project.pack_cipher(PackNonce::from_bytes([2; 16]));
    let tag = cipher.seal_in_place(5, b"", &mut blob);
    blob.extend_from_slice(&tag);
    let pack = Secret::new(case.expected("pack")).seal_key();
    let pack = pack.open(&SealNonce::from_bytes(pack_nonce), b"", &blob);

    let found = [
        (
            "repository_file",
            repository.file_mac(MESSAGE) == mac("repository_file"),
        ),
        (
            "project_wrap",
            opens("project_wrap", repository.project_wrap()),
        ),
        ("slot_info", opens("slot_info", &secret.slot_info_key())),
        (
            "chunk_id",
            *project.chunk_id(MESSAGE).as_bytes() == mac("chunk_id"),
        ),
        (
            "node_id",
            *project.node_id(MESSAGE).as_bytes() == mac("node_id"),
        ),
        ("root", *project.root(MESSAGE).as_bytes() == mac("root")),
        ("pack", pack.is_ok()),
        ("object", opens("object", project.object())),
        (
            "stream_cuts",
            project.cut_seed().to_le_bytes() == case.expected("stream_cuts")[..8],
        ),
    ];
    let expected = &case.expect["ok"];
    let shown = found.map(|(name, same)| {
        let key = if same {
            expected[name].clone()
        } else {
            Value::Bool(false)
        };
        (name.to_owned(), key)
    });
    Value::Object(shown.into_iter().collect())
}

pub(super) fn ids(case: &Case) -> Value {
    let keys = ProjectKeys::new(&Secret::new(case.array("project_secret").unwrap()));
    let kind = case.text("kind");
    if let Some(plain) = case.bytes("plain") {
        let id = match kind {
            "chunk" => keys.chunk_id(&plain),
            "node" => keys.node_id(&plain),
            other => panic!("{other}"),
        };
        return json!({ "id": id.to_string() });
    }
    let kind = match kind {
        "image" => ContentKind::Image,
        "stream" => ContentKind::Stream,
        other => panic!("{other}"),
    };
    let size = case.inputs["size"].as_u64().unwrap();
    let top = case.array("top").map(BlobId::from_bytes);
    let described = root_description(kind, size, case.number("chunk_size"), top.as_ref());
    json!({ "root": keys.root(&described).to_string() })
}
