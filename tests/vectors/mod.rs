//! Runs the test vectors of `tests/vectors/` through the public interface of the format, crypto and
//! repository layers.
//!
//! The program distinguishes fewer errors than the vectors. [`Refused`] lists the kinds that an
//! error of the program may stand for; the kind that a case expects must be among them. JSON is
//! compared without unknown members and without members that have an empty value.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a vector without the form that README.md describes fails the test"
)]

mod fixture;
mod keys;
mod objects;
mod trees;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use cuttlebone::format::FormatError;
use cuttlebone::repo::{Damage, ForeignReason, RepoError};

/// One case of a file.
struct Case {
    name: String,
    inputs: Map<String, Value>,
    object: Vec<u8>,
    expect: Value,
}

/// An object was refused, for one of these reasons.
#[derive(Debug)]
struct Refused {
    kinds: &'static [&'static str],
    text: String,
}

type Outcome = Result<Value, Refused>;

/// A file, the inputs that its cases may have, and the function that runs a case.
type Suite = (&'static str, &'static [&'static str], fn(&Case) -> Outcome);

const SIGNED: &[&str] = &[
    "name",
    "project_id",
    "project_secret",
    "certificates",
    "log",
];

const SUITES: [Suite; 25] = [
    (
        "keys",
        &[
            "secret",
            "password",
            "salt",
            "memory_kib",
            "passes",
            "lanes",
        ],
        |case| Ok(keys::keys(case)),
    ),
    (
        "ids",
        &[
            "project_secret",
            "kind",
            "plain",
            "size",
            "chunk_size",
            "top",
        ],
        |case| Ok(keys::ids(case)),
    ),
    ("seal", &["key", "random", "ad", "plain"], |case| {
        Ok(keys::seal(case))
    }),
    ("session", &["project_id", "seed", "random"], |case| {
        Ok(keys::session(case))
    }),
    (
        "run",
        &[
            "project_id",
            "project_secret",
            "kind",
            "ordinal",
            "random",
            "codec",
            "content",
            "blobs",
            "encapsulation",
        ],
        |case| Ok(keys::run(case)),
    ),
    (
        "signature",
        &["project_id", "header", "data", "signer", "signature"],
        keys::signature,
    ),
    ("repository", &["repository_secret"], objects::repository),
    ("slot", &["name", "password", "project_id"], objects::slot),
    ("project", &["project_id", "bundle"], objects::project),
    ("settings", SIGNED, objects::settings),
    ("certificate", SIGNED, objects::certificate),
    ("pack", SIGNED, objects::pack),
    ("index", SIGNED, objects::index),
    ("record", SIGNED, objects::record),
    ("log", SIGNED, objects::log),
    ("void", SIGNED, objects::void),
    ("audit", SIGNED, objects::audit),
    ("ledger", SIGNED, objects::ledger),
    ("batch", &["name", "project_id"], objects::batch),
    ("lease", SIGNED, objects::lease),
    ("mark", SIGNED, objects::mark),
    ("parity", &["protects", "left"], objects::parity),
    ("node", &[], objects::node),
    ("tree", &["project_secret", "content", "blobs"], trees::tree),
    (
        "whole",
        &["password", "volume", "changes", "files"],
        trees::whole,
    ),
];

#[test]
fn every_file_of_test_vectors_is_run() {
    let found: BTreeSet<String> = directory()
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let known = SUITES.iter().map(|(file, ..)| (*file).to_owned());
    assert_eq!(found, known.collect());
}

#[test]
fn every_test_vector_gives_the_expected_result() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (file, inputs, run) in SUITES {
        let cases = load(file);
        assert!(!cases.is_empty(), "{file}");
        for case in cases {
            let unknown = case.inputs.keys().find(|k| !inputs.contains(&&***k));
            assert_eq!(unknown, None, "{file}: {}", case.name);
            count += 1;
            if let Err(why) = verdict(&case, run(&case)) {
                wrong.push(format!("{file}: {}: {why}", case.name));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {count} cases:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

fn verdict(case: &Case, outcome: Outcome) -> Result<(), String> {
    let expected = case.expect.as_object().unwrap();
    assert_eq!(expected.len(), 1, "{}", case.name);
    match (expected.get("ok"), expected.get("error"), outcome) {
        (Some(expected), None, Ok(got)) if agrees(expected, &got) => Ok(()),
        (Some(expected), None, Ok(got)) => Err(format!("expected {expected}, got {got}")),
        (Some(_), None, Err(refused)) => Err(format!("refused: {}", refused.text)),
        (None, Some(kind), Err(refused)) => {
            let kind = kind.as_str().unwrap();
            if refused.kinds.contains(&kind) {
                Ok(())
            } else {
                Err(format!("is {kind}, but was refused: {}", refused.text))
            }
        }
        (None, Some(kind), Ok(got)) => Err(format!("is {kind}, but was accepted: {got}")),
        _ => panic!("{}: expects neither ok nor error", case.name),
    }
}

/// Members in vectors that the program does not know, and ignores.
const UNKNOWN: [&str; 3] = ["color", "mood", "x"];

/// Returns whether the program ignores a member of a body.
fn is_ignored(name: &str, value: &Value) -> bool {
    let is_rate = || value.as_u64().is_some_and(|percent| percent <= 50);
    UNKNOWN.contains(&name) || (name == "parity" && !is_rate())
}

fn agrees(expected: &Value, got: &Value) -> bool {
    let (Value::Object(expected), Value::Object(got)) = (expected, got) else {
        return expected == got;
    };
    let known = |(name, value): (&String, &Value)| match got.get(name) {
        Some(got) => agrees(value, got) || (is_empty(value) && is_empty(got)),
        None => is_empty(value) || is_ignored(name, value),
    };
    let made_up =
        |(name, value): (&String, &Value)| !expected.contains_key(name) && !is_empty(value);
    expected.iter().all(known) && !got.iter().any(made_up)
}

/// Returns whether a member means the same as a missing one.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(says) => !says,
        Value::Number(number) => number.as_u64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.values().all(is_empty),
    }
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn load(file: &'static str) -> Vec<Case> {
    let path = directory().join(file).with_extension("json");
    let text = std::fs::read_to_string(path).unwrap();
    let cases: Vec<Map<String, Value>> = serde_json::from_str(&text).unwrap();
    let mut names = BTreeSet::new();
    // A case that lacks an input has the input of the first case. A null input means that the
    // reader does not have this input.
    let shared = inputs_of(cases.first().unwrap().get("inputs"));
    cases
        .into_iter()
        .map(|mut case| {
            let mut take = |member| case.remove(member).unwrap_or_default();
            let _ = take("comment");
            let object = take("object");
            let mut inputs = shared.clone();
            inputs.extend(inputs_of(Some(&take("inputs"))));
            inputs.retain(|_, value| !value.is_null());
            let parsed = Case {
                name: take("name").as_str().unwrap().to_owned(),
                inputs,
                object: object.as_str().map(unhex).unwrap_or_default(),
                expect: take("expect"),
            };
            assert!(case.is_empty(), "{file}: {}: {case:?}", parsed.name);
            assert!(names.insert(parsed.name.clone()), "{}", parsed.name);
            parsed
        })
        .collect()
}

fn inputs_of(member: Option<&Value>) -> Map<String, Value> {
    match member {
        Some(Value::Object(inputs)) => inputs.clone(),
        None | Some(Value::Null) => Map::new(),
        Some(other) => panic!("{other}"),
    }
}

impl Case {
    fn bytes(&self, input: &str) -> Option<Vec<u8>> {
        Some(unhex(self.inputs.get(input)?.as_str().unwrap()))
    }

    /// Returns an input of fixed length, such as an id or a secret.
    fn array<const N: usize>(&self, input: &str) -> Option<[u8; N]> {
        Some(self.bytes(input)?.try_into().unwrap())
    }

    /// Returns an input that is an array of byte strings. If it is missing, the result is empty.
    fn list(&self, input: &str) -> Vec<Vec<u8>> {
        let items = self.inputs.get(input).and_then(Value::as_array);
        let items = items.into_iter().flatten();
        items.map(|item| unhex(item.as_str().unwrap())).collect()
    }

    fn number(&self, input: &str) -> u32 {
        let number = self.inputs[input].as_u64().unwrap();
        number.try_into().unwrap()
    }

    fn text(&self, input: &str) -> &str {
        self.inputs[input].as_str().unwrap()
    }

    /// Returns an expected field as bytes, for values that the program does not expose.
    fn expected(&self, field: &str) -> [u8; 32] {
        let text = self.expect["ok"][field].as_str().unwrap();
        unhex(text).try_into().unwrap()
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let bytes = hex::decode(text).unwrap();
    assert_eq!(hex::encode(&bytes), text);
    bytes
}

impl Refused {
    fn new(kinds: &'static [&'static str], text: impl std::fmt::Display) -> Self {
        let text = text.to_string();
        Self { kinds, text }
    }
}

impl From<FormatError> for Refused {
    fn from(error: FormatError) -> Self {
        Self::new(format_kinds(&error), error)
    }
}

impl From<RepoError> for Refused {
    fn from(error: RepoError) -> Self {
        Self::from(&error)
    }
}

impl From<&RepoError> for Refused {
    fn from(error: &RepoError) -> Self {
        let kinds: &[_] = match error {
            RepoError::Unsupported { source, .. } => format_kinds(source),
            RepoError::Damaged { source, .. } => damage_kinds(source),
            RepoError::Foreign { reason, .. } => foreign_kinds(reason),
            RepoError::Role(_) => &["no-key"],
            RepoError::Tree => &["bad-value", "bad-length", "not-canonical"],
            // The program does not report why a slot does not open. One reason is a wrong scope.
            RepoError::WrongPassword { .. } => &["does-not-open", "bad-value"],
            RepoError::NoRepository { .. }
            | RepoError::NoBackup { .. }
            | RepoError::Missing { .. } => &["missing"],
            _ => &[],
        };
        Self::new(kinds, format!("{error:?}"))
    }
}

fn format_kinds(error: &FormatError) -> &'static [&'static str] {
    match error {
        // The program compares a count first with the number of remaining bytes, then with its
        // limit.
        FormatError::Truncated => &["truncated", "bad-length", "limit-exceeded"],
        FormatError::TrailingBytes(_) => &["trailing-bytes", "bad-length"],
        FormatError::BadMagic(_) => &["bad-magic"],
        FormatError::UnknownVersion(_) => &["bad-version"],
        FormatError::UnknownFeature(_) => &["unknown-feature"],
        // The cipher suite of a run must be zero, so the program checks it like reserved bytes.
        FormatError::ReservedNotZero => &["nonzero-reserved", "bad-value"],
        FormatError::BadChecksum => &["bad-hash"],
        // If contents end too early, the decoder reads on into their signer and signature.
        FormatError::BadValue(_) => &[
            "truncated",
            "bad-value",
            "bad-codec",
            "bad-length",
            "limit-exceeded",
            "not-canonical",
            "trailing-bytes",
        ],
        FormatError::LimitExceeded(_) => {
            &["limit-exceeded", "bad-length", "bad-value", "truncated"]
        }
        // Serde refuses wrong members while it reads.
        FormatError::BadJson(_) => &["bad-json", "bad-value", "limit-exceeded"],
    }
}

fn foreign_kinds(reason: &ForeignReason) -> &'static [&'static str] {
    match reason {
        ForeignReason::NotSealed => &["does-not-open", "truncated", "bad-magic", "bad-value"],
        // An object that is too short for a signer and a signature has no valid signature.
        ForeignReason::Signature(_) => &["bad-signature", "truncated"],
        ForeignReason::Malformed(damage) => damage_kinds(damage),
        _ => &["foreign"],
    }
}

fn damage_kinds(damage: &Damage) -> &'static [&'static str] {
    match damage {
        Damage::WrongHash => &["bad-hash"],
        // The same error stands for sealed bytes that are shorter than a tag, and for contents of
        // an impossible length.
        Damage::DoesNotOpen(_) => &["does-not-open", "truncated", "bad-length"],
        Damage::Format(error) => format_kinds(error),
        Damage::DoesNotDecompress => &["bad-codec", "bad-length"],
        Damage::WrongId(_) => &["bad-id"],
        Damage::WrongSize { .. } => &["bad-length"],
        // The program reads at most as many bytes as the longest valid object has.
        Damage::TooLarge => &["bad-length", "trailing-bytes"],
        Damage::Missing => &["missing"],
        // The vectors are read from memory.
        Damage::Unreadable(_) => &[],
        // This covers many kinds: a MAC of another secret, a root of other content, or a chunk in
        // the place of a node. Others are a project object with other keys, and a pack whose bytes
        // are not those that were signed.
        Damage::Impossible(_) => &[
            "bad-mac",
            "bad-root",
            "missing",
            "bad-key",
            "bad-signature",
            "bad-hash",
            "nonzero-reserved",
            "does-not-open",
            "not-canonical",
            "trailing-bytes",
        ],
    }
}
