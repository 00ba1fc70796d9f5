//! Runs `keys.json`, `ids.json`, `seal.json`, `session.json`, `run.json` and `signature.json`.

use serde_json::{Value, json};

use super::{Case, Outcome, Refused, unhex};
use cuttlebone::base::{BlobId, ProjectId, SignerId};
use cuttlebone::crypto::{
    DataPrivateKey, KdfParams, PackCipher, PackRandom, ProjectKeys, RepositoryKeys, SealKey,
    Secret, SigningKey, verify_signature,
};
use cuttlebone::format::{Blob, BlobKind, Codec, ContentKind, Magic, Run, root_description};

const MESSAGE: &[u8] = b"message";

/// Returns the expected value of each field, or false if the program's key differs. `found` says
/// for each key whether it gives the same results as the expected key. Results are compared, since
/// the program does not expose all keys.
fn shown(expected: &Value, found: &[(&str, bool)]) -> Value {
    let field = |(name, same): &(&str, bool)| {
        let value = if *same {
            expected[*name].clone()
        } else {
            Value::Bool(false)
        };
        ((*name).to_owned(), value)
    };
    Value::Object(found.iter().map(field).collect())
}

pub(super) fn keys(case: &Case) -> Value {
    let Some(secret) = case.array("secret") else {
        let [memory, passes, lanes] = ["memory_kib", "passes", "lanes"].map(|n| case.number(n));
        let params = KdfParams::new(memory, passes, lanes).unwrap();
        let (password, salt) = (case.bytes("password").unwrap(), case.array("salt").unwrap());
        let key = params.derive(&password, &salt).unwrap();
        return json!({ "key": hex::encode(key.expose()) });
    };
    let secret = Secret::new(secret);
    let expected = &case.expect["ok"];
    json!({
        "repository": repository_keys(&RepositoryKeys::new(&secret), &expected["repository"]),
        "project": project_keys(&ProjectKeys::full(&secret), &expected["project"]),
    })
}

fn array(value: &Value) -> [u8; 32] {
    unhex(value.as_str().unwrap()).try_into().unwrap()
}

fn mac(key: &Value) -> [u8; 32] {
    *blake3::keyed_hash(&array(key), MESSAGE).as_bytes()
}

/// Returns whether both keys seal a message to the same bytes.
fn seals_like(expected: &Value, key: &SealKey) -> bool {
    let expected = SealKey::new(&Secret::new(array(expected)));
    let seal = |key: &SealKey| key.seal_with(&[1; 32], b"context", MESSAGE);
    seal(&expected) == seal(key)
}

fn repository_keys(keys: &RepositoryKeys, expected: &Value) -> Value {
    let file = keys.file_mac(MESSAGE) == mac(&expected["repository_file"]);
    let found = [
        ("repository_file", file),
        (
            "project_wrap",
            seals_like(&expected["project_wrap"], keys.project_wrap()),
        ),
        (
            "slot_info",
            seals_like(&expected["slot_info"], keys.slot_info()),
        ),
    ];
    shown(expected, &found)
}

fn project_keys(keys: &ProjectKeys, expected: &Value) -> Value {
    let seals = |name: &str, key| seals_like(&expected[name], key);
    let is = |name: &str, bytes: &[u8]| expected[name].as_str() == Some(&hex::encode(bytes));
    let secret = |name: &str| Secret::new(array(&expected[name]));
    let held = keys.write_secrets(Secret::new([0; 32])).unwrap();
    let chunks = keys.chunk_keys().unwrap();
    let public = keys.data_public_key().unwrap();
    let found = [
        ("metadata", is("metadata", held.metadata.expose())),
        ("object", seals("object", keys.object())),
        ("contents", seals("contents", keys.contents())),
        ("tree", is("tree", keys.tree().expose())),
        (
            "node_id",
            *keys.node_id(MESSAGE).as_bytes() == mac(&expected["node_id"]),
        ),
        (
            "root",
            *keys.root(MESSAGE).as_bytes() == mac(&expected["root"]),
        ),
        ("slot_info", seals("slot_info", keys.slot_info())),
        ("chunks", is("chunks", held.chunks.expose())),
        (
            "chunk_id",
            *chunks.id(MESSAGE).as_bytes() == mac(&expected["chunk_id"]),
        ),
        (
            "stream_cuts",
            is("stream_cuts", &chunks.cut_seed().to_le_bytes()),
        ),
        ("data", is("data", keys.data().unwrap().expose())),
        (
            "data_private",
            DataPrivateKey::from_seed(&secret("data_private")).public() == *public,
        ),
        ("data_public", is("data_public", public.as_bytes())),
        (
            "signing",
            SigningKey::from_seed(&secret("signing")).public() == keys.signing().public(),
        ),
        (
            "signing_public",
            is("signing_public", keys.authority().as_bytes()),
        ),
        (
            "report_public",
            is("report_public", &keys.signing().reports().public_bytes()),
        ),
    ];
    shown(expected, &found)
}

pub(super) fn ids(case: &Case) -> Value {
    let keys = ProjectKeys::full(&Secret::new(case.array("project_secret").unwrap()));
    let kind = case.text("kind");
    if let Some(plain) = case.bytes("plain") {
        let id = match kind {
            "chunk" => keys.chunk_keys().unwrap().id(&plain),
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

pub(super) fn seal(case: &Case) -> Value {
    let key = SealKey::new(&Secret::new(case.array("key").unwrap()));
    let (ad, plain) = (case.bytes("ad").unwrap(), case.bytes("plain").unwrap());
    let (nonce, sealed) = key.seal_with(&case.array("random").unwrap(), &ad, &plain);
    assert_eq!(key.open(&nonce, &ad, &sealed), Ok(plain), "{}", case.name);
    json!({ "nonce": hex::encode(nonce.as_bytes()), "sealed": hex::encode(sealed) })
}

fn project_id(case: &Case) -> ProjectId {
    ProjectId::from_bytes(case.array("project_id").unwrap())
}

pub(super) fn session(case: &Case) -> Value {
    let private = DataPrivateKey::from_seed(&Secret::new(case.array("seed").unwrap()));
    let public = private.public();
    let random = case.array("random").unwrap();
    let (encapsulation, key) = public.encapsulate_with(project_id(case), &random);
    let recovered = private.decapsulate(&encapsulation, project_id(case));
    assert_eq!(recovered, key, "{}", case.name);
    json!({
        "public": hex::encode(public.as_bytes()),
        "encapsulation": hex::encode(encapsulation),
        "key": hex::encode(key.expose()),
    })
}

pub(super) fn run(case: &Case) -> Value {
    let keys = ProjectKeys::full(&Secret::new(case.array("project_secret").unwrap()));
    let (project, kind) = (project_id(case), case.text("kind"));
    let kind = match kind {
        "chunk" => BlobKind::Chunk,
        "node" => BlobKind::Node,
        other => panic!("{other}"),
    };
    let key = match (kind, case.array("encapsulation")) {
        (BlobKind::Node, _) => keys.tree().clone(),
        (BlobKind::Chunk, None) => keys.data().unwrap().clone(),
        (BlobKind::Chunk, Some(encapsulation)) => keys
            .data_private_key()
            .unwrap()
            .decapsulate(&encapsulation, project),
    };
    let random = PackRandom::from_bytes(case.array("random").unwrap());
    let cipher = PackCipher::new(&key, project, random);
    let mut content = case.bytes("content").unwrap();
    let (codec, check) = match case.number("codec") {
        0 => (Codec::Raw, [0; 16]),
        _ => (Codec::Zstd, cipher.check(&content)),
    };
    let blobs = case.inputs["blobs"].as_array().unwrap().iter().map(|blob| {
        let plain = unhex(blob["plain"].as_str().unwrap());
        let id = match kind {
            BlobKind::Chunk => keys.chunk_keys().unwrap().id(&plain),
            BlobKind::Node => keys.node_id(&plain),
        };
        let plain_len = u32::try_from(plain.len()).unwrap();
        Blob { plain_len, id }
    });
    let run = Run {
        codec,
        stored_len: u32::try_from(content.len()).unwrap() + 16,
        check,
        blobs: blobs.collect(),
    };
    let descriptor = run.descriptor();
    let aad = [
        &project.as_bytes()[..],
        &Magic::Pack.header(),
        &[kind.byte()],
    ]
    .concat();
    let ordinal = case.inputs["ordinal"].as_u64().unwrap();
    let tag = cipher.seal_in_place(ordinal, &descriptor, &aad, &mut content);
    content.extend_from_slice(&tag);
    json!({
        "descriptor": hex::encode(descriptor),
        "check": hex::encode(check),
        "sealed": hex::encode(content),
    })
}

pub(super) fn signature(case: &Case) -> Outcome {
    let signer = SignerId::from_bytes(case.array("signer").unwrap());
    let (project, header) = (project_id(case), case.array("header").unwrap());
    let (data, signature) = (
        case.bytes("data").unwrap(),
        case.array("signature").unwrap(),
    );
    verify_signature(&signer, project, &header, &[&data], &signature)
        .map_err(|error| Refused::new(&["bad-signature"], error))?;
    let Some(seed) = case.expect["ok"].get("seed") else {
        return Ok(json!({}));
    };
    let key = SigningKey::from_seed(&Secret::new(array(seed)));
    assert_eq!(key.public(), signer, "{}", case.name);
    assert_eq!(key.sign(project, &header, &[&data]), signature);
    Ok(json!({ "seed": seed }))
}
