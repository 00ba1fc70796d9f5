//! Reads single objects in the same way as the program.

use std::sync::Arc;

use serde_json::{Value, json};

use super::fixture::{self, WORD, hash, project_id};
use super::{Case, Outcome, Refused};
use cuttlebone::base::{LeaseId, ObjectHash, ProjectId, Role, SignerId, Silent};
use cuttlebone::crypto::{self, KdfParams, ProjectKeys, RepositoryKeys, Secret};
use cuttlebone::format::{
    AuditBody, Batch, Certificate, Codec, FormatError, IndexSegment, KeySlot, LeaseBody,
    LedgerBody, MarkBody, Node, PACK_SIZE_MAX, PackKey, PackListing, ParityObject, ProjectSettings,
    ReadPacks, RepositoryFile, VoidBody,
};
use cuttlebone::repo::{
    BlobLocation, BlobReader, Index, KeyScope, Leases, Log, Marks, ObjectRef, Opener, PlacedRun,
    Project, Records, RepoError, Repository, listing_of, read_listing,
};
use cuttlebone::storage::MemoryBackend;

pub(super) fn repository(case: &Case) -> Outcome {
    let (file, mac) = RepositoryFile::decode(&case.object, |b| crypto::hash(&[b]))?;
    if let Some(secret) = case.array("repository_secret") {
        let keys = RepositoryKeys::new(&Secret::new(secret));
        if !crypto::same(&keys.file_mac(&file.fields()), &mac) {
            return Err(Refused::new(&["bad-mac"], "another secret"));
        }
    }
    Ok(json!({ "repository_id": file.id.to_string(), "created": file.created }))
}

fn name(case: &Case) -> ObjectHash {
    let named = case.array("name").map(ObjectHash::from_bytes);
    named.unwrap_or_else(|| hash(&case.object))
}

/// Fails if the object is not a valid key slot, as far as this can be found without the password. A
/// repository ignores an invalid slot.
fn slot_fault(case: &Case) -> Result<(), Refused> {
    if hash(&case.object) != name(case) {
        return Err(Refused::new(&["bad-hash"], "another name"));
    }
    let params = match KeySlot::decode(&case.object) {
        Ok(slot) => slot.params,
        // These errors count only if the password opens the slot.
        Err(FormatError::UnknownVersion(_) | FormatError::UnknownFeature(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    KdfParams::new(params.memory_kib, params.passes, params.lanes)
        .map(|_| ())
        .map_err(|e| Refused::new(&["limit-exceeded"], e))
}

pub(super) fn slot(case: &Case) -> Outcome {
    // The repository and the project have the secrets of the vectors, so a slot with other secrets
    // does not open them.
    let right = super::load("slot");
    let secret = |name: &str, member: &str| {
        let case = right.iter().find(|case| case.name == name).unwrap();
        let text = case.expect["ok"]["bundle"][member].as_str().unwrap();
        Secret::new(super::unhex(text).try_into().unwrap())
    };
    let repository = secret("right", "repository_secret");
    let store = fixture::store(&repository);
    let id = project_id(case);
    fixture::put(&store, ObjectRef::Key(id, name(case)), &case.object);
    let password = case.bytes("password").unwrap();
    if let Some(id) = id {
        let project = secret("right-project-full", "project_secret");
        fixture::add_project(&store, &repository, id, &project);
        fixture::certify(&store, id, &ProjectKeys::full(&project), &case.object);
    }
    let opened = Repository::open(Arc::new(store), &password, &Silent);
    if let Err(fault) = slot_fault(case) {
        assert!(opened.is_err(), "{}: {}", case.name, fault.text);
        return Err(fault);
    }
    let opened = opened?;
    // This would fail if the slot held other secrets than the expected ones.
    let role = match id {
        None => Role::Full,
        Some(_) => opened.project(WORD, &Silent)?.role(),
    };
    let keys = opened.list_keys(&Silent)?;
    let key = keys.iter().find(|key| key.current).unwrap();
    assert_eq!(key.role, role, "{}", case.name);
    Ok(json!({
        "scope": match key.scope {
            KeyScope::Repository => 0,
            KeyScope::Project(_) => 1,
        },
        "role": role.to_string(),
        "memory_kib": key.kdf.memory_kib(),
        "passes": key.kdf.passes(),
        "lanes": key.kdf.lanes(),
        "bundle": case.expect["ok"]["bundle"],
        "info": serde_json::to_value(&key.info).unwrap(),
    }))
}

pub(super) fn project(case: &Case) -> Outcome {
    let id = project_id(case).unwrap();
    let bundle = &case.inputs["bundle"];
    let repository = bundle.get("repository_secret").and_then(Value::as_str);
    let repository = repository.map_or([7; 32], |text| super::unhex(text).try_into().unwrap());
    let store = fixture::store(&Secret::new(repository));
    fixture::add_slot(&store, id, bundle);
    fixture::put(&store, ObjectRef::Project(id), &case.object);
    let right = super::load("project").swap_remove(0);
    let secret = Secret::new(right.expected("project_secret"));
    // The settings open only if the project object gives the expected secret.
    fixture::add_settings(&store, id, &ProjectKeys::full(&secret));
    let project = fixture::open(&store)?.project(WORD, &Silent)?;
    let keys = ProjectKeys::full(&secret);
    assert_eq!(
        project.keys.node_id(b"x"),
        keys.node_id(b"x"),
        "{}",
        case.name
    );
    let mut fields = json!({
        "signing_public": hex::encode(project.keys.authority().as_bytes()),
        "data_public": hex::encode(keys.data_public_key().unwrap().as_bytes()),
    });
    if project.role() == Role::Full {
        fields["project_secret"] = hex::encode(secret.expose()).into();
    }
    Ok(fields)
}

/// A body of a sealed object.
trait Body: Sized + serde::Serialize {
    const MAX: usize;
    fn decode(bytes: &[u8]) -> Result<Self, cuttlebone::format::FormatError>;
}

macro_rules! body {
    ($($type:ident),*) => {
        $(impl Body for $type {
            const MAX: usize = Self::BODY_MAX;
            fn decode(bytes: &[u8]) -> Result<Self, cuttlebone::format::FormatError> {
                $type::decode(bytes)
            }
        })*
    };
}

body!(ProjectSettings, Certificate, VoidBody, LeaseBody, MarkBody);

/// Returns the project of a case, and its store. The store has the object under the case's name.
fn in_project(
    case: &Case,
    object: fn(ProjectId, ObjectHash) -> ObjectRef,
) -> (MemoryBackend, Project, ObjectRef) {
    let (store, project) = fixture::project(case);
    let object = object(project.id, name(case));
    fixture::put(&store, object, &case.object);
    (store, project, object)
}

/// Opens a sealed object, and decodes its body.
fn open<T: Body>(case: &Case, project: &Project, object: ObjectRef) -> Result<T, Refused> {
    let opened = match object.hash() {
        Some(hash) => project.open_hashed(object, hash, &case.object, T::MAX)?,
        None => project.open(object, &case.object, T::MAX)?,
    };
    T::decode(&opened.body).map_err(|e| refused(project, &opened.signer, e))
}

/// Returns the reason why a body is refused. If the body requires an unknown feature that its
/// signer may not require, the object is foreign.
fn refused(project: &Project, signer: &SignerId, error: FormatError) -> Refused {
    match error.missing_feature() {
        Some(feature) if !project.signers.may_require(signer, &feature) => {
            Refused::new(&["foreign"], error)
        }
        _ => error.into(),
    }
}

fn shown<T: Body>(name: &str, body: &T) -> Value {
    json!({ name: serde_json::to_value(body).unwrap() })
}

pub(super) fn settings(case: &Case) -> Outcome {
    let (_store, project, object) = in_project(case, ObjectRef::Settings);
    let settings = open::<ProjectSettings>(case, &project, object)?;
    let Some(_) = cuttlebone::base::ChunkSize::new(settings.chunk_size) else {
        return Err(Refused::new(&["bad-value", "limit-exceeded"], "chunk size"));
    };
    Ok(shown("settings", &settings))
}

pub(super) fn certificate(case: &Case) -> Outcome {
    let (_store, project, object) = in_project(case, ObjectRef::Certificate);
    Ok(shown(
        "certificate",
        &open::<Certificate>(case, &project, object)?,
    ))
}

pub(super) fn void(case: &Case) -> Outcome {
    let (_store, project, object) = in_project(case, ObjectRef::Void);
    Ok(shown("void", &open::<VoidBody>(case, &project, object)?))
}

pub(super) fn audit(case: &Case) -> Outcome {
    let (_store, project, object) = in_project(case, ObjectRef::Audit);
    let opened = project.open_hashed(object, name(case), &case.object, AuditBody::BODY_MAX)?;
    let audit =
        AuditBody::decode(&opened.body).map_err(|e| refused(&project, &opened.signer, e))?;
    Ok(json!({
        "body": serde_json::to_value(&audit.about).unwrap(),
        "packs": audit.packs.iter().map(ToString::to_string).collect::<Vec<_>>(),
    }))
}

pub(super) fn ledger(case: &Case) -> Outcome {
    let (_store, project, object) = in_project(case, ObjectRef::Ledger);
    let opened = project.open_hashed(object, name(case), &case.object, LedgerBody::BODY_MAX)?;
    let entry =
        LedgerBody::decode(&opened.body).map_err(|e| refused(&project, &opened.signer, e))?;
    let group = |group: &ReadPacks| {
        let packs = group.packs.iter().map(ToString::to_string);
        json!({
            "time": group.time,
            "result": group.result.byte(),
            "packs": packs.collect::<Vec<_>>(),
        })
    };
    Ok(json!({
        "body": serde_json::to_value(&entry.about).unwrap(),
        "groups": entry.groups.iter().map(group).collect::<Vec<_>>(),
    }))
}

pub(super) fn batch(case: &Case) -> Outcome {
    if hash(&case.object) != name(case) {
        return Err(Refused::new(&["bad-hash"], "another hash"));
    }
    let len = case.object.len();
    let end = Batch::table_end(&case.object[..len.min(Batch::START_LEN)], len as u64)?;
    let batch = Batch::decode(&case.object[..end], len as u64)?;
    if Some(batch.project) != project_id(case) {
        return Err(Refused::new(&["does-not-open"], "another project"));
    }
    let shown = batch.objects.iter().map(|item| {
        let bytes = &case.object[usize::try_from(item.offset).unwrap()..][..item.len as usize];
        if hash(bytes) != item.hash {
            return Err(Refused::new(&["bad-hash"], "an object with another hash"));
        }
        let (kind, hash) = (item.kind as u8, item.hash.to_string());
        Ok(json!({ "kind": kind, "hash": hash, "bytes": hex::encode(bytes) }))
    });
    Ok(json!({ "objects": shown.collect::<Result<Vec<_>, _>>()? }))
}

pub(super) fn parity(case: &Case) -> Outcome {
    ParityObject::read(&case.object, |bytes| crypto::hash(&[bytes]))?;
    let of: ObjectHash = case.inputs["protects"].as_str().unwrap().parse().unwrap();
    let left = hex::decode(case.inputs["left"].as_str().unwrap()).unwrap();
    let restored = cuttlebone::repo::restore(&[&left], &case.object, of)?;
    let restored = restored.ok_or(Refused::new(&["missing", "bad-hash"], "too much is lost"))?;
    Ok(json!({ "restored": hex::encode(restored.bytes) }))
}

pub(super) fn log(case: &Case) -> Outcome {
    let (_store, project, _) = in_project(case, ObjectRef::Log);
    let mut log = Log::load(&project)?;
    if let Some(foreign) = log.take_foreign().pop() {
        return Err(foreign.into());
    }
    if let Some(damage) = log.take_damaged().pop() {
        return Err(damage.into());
    }
    let stored = cuttlebone::format::StoredEntry::split(&case.object)?;
    let entry = stored.decode()?.entry;
    let newest = log.newest().map(|head| (head.number, head.hash));
    assert_eq!(newest, Some((entry.number, name(case))));
    let items = |items: &[cuttlebone::format::LogItem]| {
        let shown = |item: &cuttlebone::format::LogItem| {
            let hash = item.hash.to_string();
            json!({ "kind": item.kind as u8, "hash": hash })
        };
        items.iter().map(shown).collect::<Vec<_>>()
    };
    let mut fields = json!({
        "number": entry.number,
        "time": entry.time,
        "summary": entry.summary,
        "previous": entry.previous.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "added": items(&entry.added),
        "removed": items(&entry.removed),
    });
    // The program exposes only the fields of the sealed part that it uses.
    if let Some(body) = case.expect["ok"].get("body") {
        let count = |member: &str| body[member].as_array().map_or(0, Vec::len);
        assert_eq!(log.removed_records().count(), count("removed_records"));
        assert_eq!(log.revocations().count(), count("revoked"));
        fields["body"] = body.clone();
    }
    Ok(fields)
}

/// Returns the fields of a pack. `plain` returns a blob's bytes, or `None` if they are not
/// compared.
fn listing_fields(
    listing: &PackListing,
    mut plain: impl FnMut(&BlobLocation) -> Result<Option<Vec<u8>>, RepoError>,
) -> Outcome {
    let mut runs: Vec<Value> = Vec::new();
    for location in
        PlacedRun::all_of(listing.clone()).flat_map(|run| run.locations().collect::<Vec<_>>())
    {
        let run = location.run();
        let ordinal = usize::try_from(location.ordinal()).unwrap();
        if ordinal == runs.len() {
            runs.push(json!({
                "codec": match run.codec {
                    Codec::Raw => 0,
                    Codec::Zstd => 1,
                },
                "stored_length": run.stored_len,
                "check": hex::encode(run.check),
                "offset": location.run_range().start,
                "blobs": [],
            }));
        }
        let blob = location.blob();
        let mut fields = json!({ "plain_length": blob.plain_len, "id": blob.id.to_string() });
        if let Some(plain) = plain(&location)? {
            fields["plain"] = hex::encode(&plain).into();
        }
        let blobs = runs[ordinal]["blobs"].as_array_mut();
        blobs.unwrap().push(fields);
    }
    let mut fields = json!({
        "kind": listing.contents.kind.byte(),
        "random": hex::encode(listing.random),
        "signer": hex::encode(listing.signer.as_bytes()),
        "gap": listing.contents.gap,
        "runs": runs,
    });
    if let PackKey::Session(encapsulation) = &listing.contents.key {
        fields["encapsulation"] = hex::encode(&encapsulation[..]).into();
    }
    Ok(fields)
}

pub(super) fn pack(case: &Case) -> Outcome {
    let is_node = case.expect["ok"]["kind"].as_u64() == Some(2);
    let kind: fn(ProjectId, ObjectHash) -> ObjectRef = if is_node {
        ObjectRef::Tree
    } else {
        ObjectRef::Pack
    };
    let (_store, project, object) = in_project(case, kind);
    let bytes = project
        .objects
        .get_hashed(object, name(case), PACK_SIZE_MAX)?;
    let listing = listing_of(&project, object, &bytes);
    // If the whole pack is valid, reading only its head and contents must give the same listing.
    if let Ok(listing) = &listing {
        let glance = read_listing(&project, object, None);
        assert_eq!(glance.ok().as_ref(), Some(listing), "{}", case.name);
    }
    let index = Index::in_memory(&project, Arc::new(Silent))?;
    let reader = BlobReader::new(&index);
    let mut opener = Opener::default();
    listing_fields(&listing?, |location| {
        let mut stored = vec![0; location.run().stored_len as usize];
        reader.fetch(location, location.run_range().start, &mut stored)?;
        let run = opener.open_run(&project, location, &mut stored)?;
        Opener::blob(&project, location, run).map(|plain| Some(plain.to_vec()))
    })
}

pub(super) fn index(case: &Case) -> Outcome {
    let (_store, project, object) = in_project(case, ObjectRef::Index);
    let opened = project.open_hashed(object, name(case), &case.object, IndexSegment::BODY_MAX)?;
    let segment =
        IndexSegment::decode(&opened.body).map_err(|e| refused(&project, &opened.signer, e))?;
    let mut packs = Vec::new();
    for pack in &segment.packs {
        let mut fields = listing_fields(pack, |_| Ok(None))?;
        fields["pack"] = pack.pack.to_string().into();
        packs.push(fields);
    }
    let superseded = segment.superseded.iter().map(ToString::to_string);
    Ok(json!({
        "packs": packs,
        "superseded": superseded.collect::<Vec<_>>(),
    }))
}

pub(super) fn record(case: &Case) -> Outcome {
    let (_store, project, _) = in_project(case, ObjectRef::Backup);
    let mut records = Records::load(&project)?;
    let foreign = records.take_foreign();
    match (records.all(), records.damaged(), &foreign[..]) {
        ([backup], [], []) => {
            Ok(json!({ "record": serde_json::to_value(&backup.record).unwrap() }))
        }
        ([], [damage], []) => Err(damage.into()),
        ([], [], [foreign]) => Err(foreign.into()),
        other => panic!("{}: {other:?}", case.name),
    }
}

pub(super) fn lease(case: &Case) -> Outcome {
    // A lease may have any id: it is not named by its hash.
    let object = |project, _| ObjectRef::Lease(project, LeaseId::from_bytes([9; 16]));
    let (_store, project, object) = in_project(case, object);
    let loaded = Leases::load(&project, None)?;
    let lease = open::<LeaseBody>(case, &project, object)?;
    let [other] = &loaded.others[..] else {
        return Err(Refused::new(&["foreign"], "the lease does not count"));
    };
    assert_eq!((&other.work, &other.host), (&lease.work, &lease.host));
    let packs = other.packs.iter().map(ToString::to_string);
    assert!(packs.eq(lease.packs.iter().cloned()));
    let tops = other.tops.iter().map(ToString::to_string);
    assert!(tops.eq(lease.tops.iter().cloned()));
    Ok(shown("lease", &lease))
}

pub(super) fn mark(case: &Case) -> Outcome {
    let (_store, project, object) = in_project(case, ObjectRef::Mark);
    let loaded = Marks::load(&project)?;
    let opened = open::<MarkBody>(case, &project, object);
    // A damaged mark counts as missing: the packs that it names must be marked again. A foreign one
    // is no mark at all.
    assert_eq!(
        loaded.any_damaged() || loaded.all().is_empty(),
        opened.is_err(),
        "{}",
        case.name
    );
    let mark = opened?;
    let hashes = |texts: &[String]| texts.iter().map(|text| text.parse().unwrap()).collect();
    assert_eq!(loaded.packs(), hashes(&mark.packs), "{}", case.name);
    assert_eq!(loaded.segments(), hashes(&mark.segments), "{}", case.name);
    Ok(shown("mark", &mark))
}

pub(super) fn node(case: &Case) -> Outcome {
    let node = Node::decode(&case.object)?;
    let mut again = Vec::new();
    let fields = match &node {
        Node::Children(node) => {
            node.encode_into(&mut again);
            let children = node.ids.iter().enumerate().filter_map(|(position, id)| {
                Some(json!({ "position": position, "id": (*id)?.to_string() }))
            });
            json!({
                "type": if node.level == 0 { 1 } else { 2 },
                "level": node.level,
                "width": node.ids.len(),
                "children": children.collect::<Vec<_>>(),
            })
        }
        Node::Stream(node) => {
            node.encode_into(&mut again);
            let entries = node.entries.iter().map(|entry| {
                let id = entry.id.map_or([0; 32], |id| *id.as_bytes());
                json!({ "length": entry.len, "id": hex::encode(id) })
            });
            json!({
                "type": if node.level == 0 { 3 } else { 4 },
                "level": node.level,
                "entries": entries.collect::<Vec<_>>(),
            })
        }
    };
    assert_eq!(again, case.object, "{}", case.name);
    Ok(fields)
}
