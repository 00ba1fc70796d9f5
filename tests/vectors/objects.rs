//! Single objects, each read the way that the program reads it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::fixture::{self, WORD};
use super::{Case, Outcome, Refused, load};
use cuttlebone::base::{LeaseId, ObjectHash, ProjectId, Silent};
use cuttlebone::crypto::{self, KdfParams, ProjectKeys, RepositoryKeys, Secret};
use cuttlebone::format::{
    BlobKind, Codec, IndexSegment, KeySlot, LeaseBody, Magic, MarkBody, Node, PACK_SIZE_MAX,
    PackListing, RepositoryFile, Tombstone,
};
use cuttlebone::repo::{
    BlobLocation, BlobReader, Index, KeyScope, Leases, Marks, ObjectRef, Opener, PlacedRun,
    Project, Records, RepoError, Repository, Tombstones, listing_of, read_listing,
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

fn project_id(case: &Case) -> Option<ProjectId> {
    case.array("project_id").map(ProjectId::from_bytes)
}

fn name(case: &Case) -> ObjectHash {
    let right = || crypto::hash(&[&case.object]);
    ObjectHash::from_bytes(case.array("name").unwrap_or_else(right))
}

/// Returns why these bytes are not a key slot, as far as that shows without the password. A
/// repository ignores such a slot.
fn slot_fault(case: &Case) -> Result<(), Refused> {
    if crypto::hash(&[&case.object]) != *name(case).as_bytes() {
        return Err(Refused::new(&["bad-hash"], "another name"));
    }
    let params = KeySlot::decode(&case.object)?.params;
    KdfParams::new(params.memory_kib, params.passes, params.lanes)
        .map(|_| ())
        .map_err(|e| Refused::new(&["limit-exceeded"], e))
}

pub(super) fn slot(case: &Case) -> Outcome {
    let right = load("slot").swap_remove(0);
    let secret = Secret::new(right.expected("secret"));
    let store = fixture::store(&secret);
    let id = project_id(case);
    fixture::put(&store, ObjectRef::Key(id, name(case)), &case.object);
    let expected = case.expect.get("ok").map(|_| case.expected("secret"));
    if let (Some(id), Some(expected)) = (id, expected) {
        fixture::add_project(&store, &secret, id, &Secret::new(expected));
    }
    let password = case.bytes("password").unwrap();
    let opened = Repository::open(Arc::new(store), &password, &Silent);
    if let Err(fault) = slot_fault(case) {
        assert!(opened.is_err(), "{}: {}", case.name, fault.text);
        return Err(fault);
    }
    let opened = opened?;
    // With another secret, neither of these would succeed.
    match id {
        None => assert_eq!(Some(*secret.expose()), expected),
        Some(_) => drop(opened.project(WORD, &Silent)?),
    }
    let keys = opened.list_keys(&Silent)?;
    let key = keys.iter().find(|key| key.current).unwrap();
    Ok(json!({
        "scope": match key.scope {
            KeyScope::Repository => 0,
            KeyScope::Project(_) => 1,
        },
        "memory_kib": key.kdf.memory_kib(),
        "passes": key.kdf.passes(),
        "lanes": key.kdf.lanes(),
        "secret": hex::encode(expected.unwrap()),
        "info": serde_json::to_value(&key.info).unwrap(),
    }))
}

pub(super) fn project(case: &Case) -> Outcome {
    let id = project_id(case).unwrap();
    let repository = Secret::new(case.array("repository_secret").unwrap_or([7; 32]));
    let store = fixture::store(&repository);
    match case.array("project_secret") {
        None => fixture::add_slot(&store, &repository, None),
        Some(secret) => fixture::add_slot(&store, &Secret::new(secret), Some(id)),
    }
    fixture::put(&store, ObjectRef::Project(id), &case.object);
    let name = case.expect["ok"]["settings"]["name"].as_str();
    let project = fixture::open(&store)?.project(name.unwrap_or("any"), &Silent)?;
    let secret = Secret::new(case.expected("project_secret"));
    let same = project.keys.chunk_id(b"x") == ProjectKeys::new(&secret).chunk_id(b"x");
    Ok(json!({
        "project_secret": same.then(|| hex::encode(secret.expose())),
        "settings": serde_json::to_value(&*project.settings).unwrap(),
    }))
}

/// Returns the project of a case. Its store contains the object under the right name.
fn in_project(
    case: &Case,
    object: fn(ProjectId, ObjectHash) -> ObjectRef,
) -> (MemoryBackend, Project) {
    let secret = case.array("project_secret").unwrap();
    let (store, project) = fixture::project(project_id(case).unwrap(), secret);
    fixture::put(&store, object(project.id, name(case)), &case.object);
    (store, project)
}

/// Returns the contents of a pack. `plain` returns a blob's bytes; none if they are not compared.
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
    let kind = match listing.contents.kind {
        BlobKind::Chunk => 1,
        BlobKind::Node => 2,
    };
    Ok(json!({ "kind": kind, "runs": runs }))
}

pub(super) fn pack(case: &Case) -> Outcome {
    let (_store, project) = in_project(case, ObjectRef::Pack);
    let object = ObjectRef::Pack(project.id, name(case));
    let bytes = project
        .objects
        .get_hashed(object, name(case), PACK_SIZE_MAX)?;
    let listing = listing_of(&project, name(case), &bytes);
    // Reading only the pack's head and contents must give the same.
    let glance = read_listing(&project, name(case), None);
    assert_eq!(glance.ok(), listing.as_ref().ok().cloned(), "{}", case.name);
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
    let (_store, project) = in_project(case, ObjectRef::Index);
    let body = project.objects.get_sealed(
        ObjectRef::Index(project.id, name(case)),
        name(case),
        Magic::Index,
        (project.id, project.keys.object()),
        IndexSegment::BODY_MAX,
    )?;
    let segment = IndexSegment::decode(&body)?;
    assert_eq!(segment.encode(), body, "{}", case.name);
    let mut packs = Vec::new();
    for pack in &segment.packs {
        let mut fields = listing_fields(pack, |_| Ok(None))?;
        fields["pack"] = pack.pack.to_string().into();
        fields["nonce"] = hex::encode(pack.nonce).into();
        packs.push(fields);
    }
    let superseded = segment.superseded.iter().map(ToString::to_string);
    Ok(json!({
        "packs": packs,
        "superseded": superseded.collect::<Vec<_>>(),
    }))
}

pub(super) fn record(case: &Case) -> Outcome {
    let (_store, project) = in_project(case, ObjectRef::Backup);
    let records = Records::load(&project)?;
    match (records.all(), records.damaged()) {
        ([backup], []) => Ok(json!({ "record": serde_json::to_value(&backup.record).unwrap() })),
        ([], [damage]) => Err(damage.into()),
        other => panic!("{}: {other:?}", case.name),
    }
}

pub(super) fn tombstone(case: &Case) -> Outcome {
    let (_store, project) = in_project(case, ObjectRef::Tombstone);
    let loaded = Tombstones::load(&project)?;
    if let [damage] = loaded.damaged() {
        return Err(damage.into());
    }
    let body = project.objects.get_sealed(
        ObjectRef::Tombstone(project.id, name(case)),
        name(case),
        Magic::Tombstone,
        (project.id, project.keys.object()),
        Tombstone::BODY_MAX,
    )?;
    let tombstone = Tombstone::decode(&body)?;
    for record in &tombstone.records {
        assert!(loaded.names(record.parse().unwrap()), "{}", case.name);
    }
    Ok(json!({ "tombstone": serde_json::to_value(&tombstone).unwrap() }))
}

pub(super) fn lease(case: &Case) -> Outcome {
    // A lease may have any id: it is not named by its hash.
    let object = |project, _| ObjectRef::Lease(project, LeaseId::from_bytes([9; 16]));
    let (_store, project) = in_project(case, object);
    let loaded = Leases::load(&project, None)?;
    let body = project.objects.get_marker(
        object(project.id, name(case)),
        Magic::Lease,
        (project.id, project.keys.object()),
        LeaseBody::BODY_MAX,
    )?;
    let lease = LeaseBody::decode(&body)?;
    let [other] = &loaded.others[..] else {
        panic!("{}: {loaded:?}", case.name);
    };
    assert_eq!((&other.work, &other.host), (&lease.work, &lease.host));
    assert!(
        other
            .packs
            .iter()
            .map(ToString::to_string)
            .eq(lease.packs.iter().cloned())
    );
    assert!(
        other
            .tops
            .iter()
            .map(ToString::to_string)
            .eq(lease.tops.iter().cloned())
    );
    Ok(json!({ "lease": serde_json::to_value(&lease).unwrap() }))
}

pub(super) fn mark(case: &Case) -> Outcome {
    let (_store, project) = in_project(case, ObjectRef::Mark);
    let loaded = Marks::load(&project)?;
    let body = project.objects.get_sealed(
        ObjectRef::Mark(project.id, name(case)),
        name(case),
        Magic::Mark,
        (project.id, project.keys.object()),
        MarkBody::BODY_MAX,
    );
    // A damaged mark counts as missing: the packs that it names must be marked again.
    assert_eq!(loaded.any_damaged(), case.expect["error"].is_string());
    let mark = MarkBody::decode(&body?)?;
    let hashes = |texts: &[String]| texts.iter().map(|text| text.parse().unwrap()).collect();
    assert_eq!(loaded.packs(), hashes(&mark.packs), "{}", case.name);
    assert_eq!(loaded.segments(), hashes(&mark.segments), "{}", case.name);
    Ok(json!({ "mark": serde_json::to_value(&mark).unwrap() }))
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
