//! Reads the plain bytes of a blob: finds it by its id, fetches and opens its run, and verifies the
//! id.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::pack_context::{pack_context, run_context};
use super::read_session::ReadSession;
use crate::base::{BlobId, Buffer, Cancel, ObjectHash, TAG_LEN, lock};
use crate::crypto::{PackCipher, PackRandom};
use crate::format::{BlobKind, Codec, Node};
use crate::repo::codec::Decompressor;
use crate::repo::error::{Damage, RepoError};
use crate::repo::index::Index;
use crate::repo::location::BlobLocation;
use crate::repo::object_ref::ObjectRef;
use crate::repo::project::Project;

/// Reads blobs of a project. Clones share a cache of branch nodes.
#[derive(Clone)]
pub struct BlobReader {
    index: Arc<Index>,
    session: Option<Arc<ReadSession>>,
    cancel: Option<Cancel>,
    /// A cache of branch nodes, since a walk reads each of them many times.
    branches: Arc<Mutex<HashMap<BlobId, Arc<Node>>>>,
}

/// Maximum number of branch nodes in the cache. Each takes some 2 KiB. At any time, a walk needs
/// one for each level.
const BRANCHES_MAX: usize = 512;

/// The buffers of one thread that opens blobs, reused from one blob to the next.
#[derive(Default)]
pub struct Opener {
    /// Created when it is first needed. Nodes are not compressed, so no decompressor is needed to
    /// read them.
    decompressor: Option<Decompressor>,
    /// The cipher of the pack that was opened last.
    cipher: Option<(ObjectHash, PackCipher)>,
    plain: Buffer,
}

impl Opener {
    /// Decrypts and decompresses the run of a blob from its stored bytes, which are overwritten.
    /// Returns the plain bytes of the run: its blobs, one after another. [`blob`](Self::blob) then
    /// extracts one blob and verifies its id.
    pub fn open_run<'b>(
        &'b mut self,
        project: &Project,
        location: &BlobLocation,
        stored: &'b mut [u8],
    ) -> Result<&'b [u8], RepoError> {
        let len = location.run().plain_len();
        self.open_front(project, location, stored, len)
    }

    /// Like [`open_run`](Self::open_run), but decompresses only up to the end of this blob, which
    /// saves half of the work on average.
    pub fn open_run_to<'b>(
        &'b mut self,
        project: &Project,
        location: &BlobLocation,
        stored: &'b mut [u8],
    ) -> Result<&'b [u8], RepoError> {
        self.open_front(project, location, stored, location.range().end)
    }

    fn open_front<'b>(
        &'b mut self,
        project: &Project,
        location: &BlobLocation,
        stored: &'b mut [u8],
        front: usize,
    ) -> Result<&'b [u8], RepoError> {
        let run = location.run();
        if run.codec == Codec::Raw && run.plain_len() + TAG_LEN == run.stored_len as usize {
            return self.unseal(project, location, stored);
        }
        let content = self.unseal(project, location, stored)?;
        self.plain.resize(run.plain_len());
        made(&mut self.decompressor)?
            .decode_front(run.codec, content, &mut self.plain, front)
            .map_err(|why| RepoError::damaged(pack_of(project, location), why))?;
        Ok(&self.plain[..front])
    }

    /// Like [`open_run`](Self::open_run), but writes into `out`, which must have the length of the
    /// run. After an error, the content of `out` is undefined.
    pub fn open_run_into(
        &mut self,
        project: &Project,
        location: &BlobLocation,
        stored: &mut [u8],
        out: &mut [u8],
    ) -> Result<(), RepoError> {
        let content = self.unseal(project, location, stored)?;
        made(&mut self.decompressor)?
            .decode(location.run().codec, content, out)
            .map_err(|why| RepoError::damaged(pack_of(project, location), why))
    }

    /// Like [`open_run`](Self::open_run), but returns both the compressed and the plain bytes.
    pub fn open_run_both<'b>(
        &'b mut self,
        project: &Project,
        location: &BlobLocation,
        stored: &'b mut [u8],
    ) -> Result<(&'b [u8], &'b [u8]), RepoError> {
        let run = location.run();
        let content = self.unseal(project, location, stored)?;
        self.plain.resize(run.plain_len());
        made(&mut self.decompressor)?
            .decode(run.codec, content, &mut self.plain)
            .map_err(|why| RepoError::damaged(pack_of(project, location), why))?;
        Ok((content, &self.plain))
    }

    /// Decrypts a run in place and returns its compressed bytes. The tag authenticates them.
    fn unseal<'b>(
        &mut self,
        project: &Project,
        location: &BlobLocation,
        stored: &'b mut [u8],
    ) -> Result<&'b [u8], RepoError> {
        let pack = location.pack();
        let cipher = match &mut self.cipher {
            Some((of, cipher)) if *of == pack => cipher,
            slot => {
                let random = PackRandom::from_bytes(location.random());
                let cipher = project.pack_cipher(location.kind(), location.key(), random)?;
                &mut slot.insert((pack, cipher)).1
            }
        };
        let bound = run_context(&pack_context(project), location.kind());
        let descriptor = location.run().descriptor();
        cipher
            .open_in_place(location.ordinal(), &descriptor, &bound, stored)
            .map_err(|e| RepoError::damaged(pack_of(project, location), Damage::from(e)))
    }

    /// Returns the blob from its opened run. Fails if the content does not have the id of the blob.
    pub fn blob<'b>(
        project: &Project,
        location: &BlobLocation,
        run: &'b [u8],
    ) -> Result<&'b [u8], RepoError> {
        let wanted = location.blob().id;
        let plain = run.get(location.range()).unwrap_or_default();
        let id = match location.kind() {
            BlobKind::Chunk => project.chunk_keys()?.id(plain),
            BlobKind::Node => project.keys.node_id(plain),
        };
        if id == wanted {
            Ok(plain)
        } else {
            Err(RepoError::damaged(
                pack_of(project, location),
                Damage::WrongId(Box::new(wanted)),
            ))
        }
    }
}

fn made(decompressor: &mut Option<Decompressor>) -> Result<&mut Decompressor, RepoError> {
    Ok(match decompressor {
        Some(decompressor) => decompressor,
        none => none.insert(Decompressor::new().map_err(RepoError::Compress)?),
    })
}

fn pack_of(project: &Project, location: &BlobLocation) -> ObjectRef {
    location.object(project.id)
}

impl BlobReader {
    /// Returns a reader of the blobs that this index finds.
    #[must_use]
    pub fn new(index: &Arc<Index>) -> Self {
        Self {
            index: Arc::clone(index),
            session: None,
            cancel: None,
            branches: Arc::default(),
        }
    }

    /// Returns a reader that uses the index and the lease of `session`, and keeps the session open.
    #[must_use]
    pub fn under(session: &Arc<ReadSession>) -> Self {
        Self {
            session: Some(Arc::clone(session)),
            ..Self::new(session.index())
        }
    }

    /// Returns this reader with `cancel`. After `cancel` is set, reading a node fails, so a walk
    /// over nodes stops.
    #[must_use]
    pub fn stopped_by(self, cancel: &Cancel) -> Self {
        Self {
            cancel: Some(cancel.clone()),
            ..self
        }
    }

    /// Returns the index.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Returns the location of a blob. If the blob is only in a pack that is about to be deleted,
    /// returns its location in that pack. If no pack has the blob, fails with
    /// [`RepoError::Missing`].
    pub fn locate(&self, kind: BlobKind, id: &BlobId) -> Result<BlobLocation, RepoError> {
        if let Some(session) = &self.session {
            session.resume()?;
        }
        let find = || match self.index.find_readable(id)? {
            None => Ok(self.index.find_anywhere(id)?.into_iter().next()),
            found => Ok::<_, RepoError>(found),
        };
        let found = match find()? {
            None => {
                // Search again even if this resync found nothing: another thread's resync may have
                // found the blob.
                self.index.resync()?;
                find()?
            }
            found => found,
        };
        found.ok_or_else(|| missing(kind, id))
    }

    /// Reads `buf.len()` bytes of the pack that holds the blob, from `offset` on.
    pub fn fetch(
        &self,
        location: &BlobLocation,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<(), RepoError> {
        let project = self.index.project();
        if location.kind() == BlobKind::Node {
            let pack = location.pack();
            return project
                .objects
                .read_node_pack(project.id, pack, offset, buf);
        }
        let object = pack_of(project, location);
        let backend = project.objects.backend();
        backend
            .get_range(&object.name(), offset, buf)
            .map_err(|e| RepoError::reading(object, e))
    }

    /// Returns a chunk's plain bytes, from any pack in which it is undamaged.
    pub fn chunk(&self, id: &BlobId) -> Result<Vec<u8>, RepoError> {
        self.first_whole(BlobKind::Chunk, id, |place| self.read(place))
    }

    /// Returns a blob's plain bytes, from any pack in which it is undamaged. Packs that are about
    /// to be deleted are tried after all others. Unlike [`chunk`](Self::chunk), does not bring the
    /// index up to date.
    pub fn rescue(&self, kind: BlobKind, id: &BlobId) -> Result<Vec<u8>, RepoError> {
        let mut failure = None;
        let mut places = self.index.find_all_readable(id)?;
        places.extend(self.index.find_anywhere(id)?);
        for place in places.iter().filter(|place| place.kind() == kind) {
            match self.read(place) {
                Err(error @ RepoError::Damaged { .. }) => {
                    self.note(place, &error);
                    failure = failure.or(Some(error));
                }
                other => return other,
            }
        }
        Err(failure.unwrap_or_else(|| missing(kind, id)))
    }

    /// Reads a blob from the first place in which it is undamaged. Packs that are about to be
    /// deleted are tried after all others. If the blob is damaged in all places, returns the error
    /// of the first one.
    fn first_whole<T>(
        &self,
        kind: BlobKind,
        id: &BlobId,
        read: impl Fn(&BlobLocation) -> Result<T, RepoError>,
    ) -> Result<T, RepoError> {
        let mut failure = None;
        let (mut tried, mut gone) = (0, Vec::new());
        for round in 0..3 {
            let places = match round {
                0 => self.index.find_all_readable(id)?,
                1 => {
                    let found = self.index.resync_after_loss(&gone)?;
                    let places = self.index.find_all_readable(id)?;
                    // Compare the number of places, too, since another thread's resync may have
                    // found more.
                    if !found && places.len() == tried {
                        continue;
                    }
                    places
                }
                _ => self.index.find_anywhere(id)?,
            };
            tried = places.len();
            for place in places {
                match read(&place) {
                    Err(error @ RepoError::Damaged { .. }) => {
                        gone.extend(error.is_missing().then(|| place.pack()));
                        self.note(&place, &error);
                        failure = failure.or(Some(error));
                    }
                    other => return other,
                }
            }
        }
        Err(failure.unwrap_or_else(|| missing(kind, id)))
    }

    /// Remembers that a place is damaged, so that the next backup of the same data stores this data
    /// again. A pack that does not exist needs no note.
    fn note(&self, place: &BlobLocation, error: &RepoError) {
        if !error.is_missing() {
            self.index.note_damaged(place);
        }
    }

    /// Returns a blob's plain bytes, from this place.
    fn read(&self, location: &BlobLocation) -> Result<Vec<u8>, RepoError> {
        let project = self.index.project();
        let mut stored = vec![0; location.run().stored_len as usize];
        self.fetch(location, location.run_range().start, &mut stored)?;
        let mut opener = Opener::default();
        let run = opener.open_run_to(project, location, &mut stored)?;
        Opener::blob(project, location, run).map(<[u8]>::to_vec)
    }

    /// Returns a tree node, from any pack in which it is undamaged.
    pub fn node(&self, id: &BlobId) -> Result<Arc<Node>, RepoError> {
        // Check `cancel` for each node: a walk over a forged tree may never end and never find a
        // chunk.
        self.cancel.as_ref().map_or(Ok(()), Cancel::check)?;
        let branches = || lock(&self.branches);
        if let Some(node) = branches().get(id) {
            return Ok(Arc::clone(node));
        }
        let node = Arc::new(match self.read_node(&self.locate(BlobKind::Node, id)?) {
            Ok(node) => node,
            Err(RepoError::Damaged { .. }) => {
                self.first_whole(BlobKind::Node, id, |place| self.read_node(place))?
            }
            Err(error) => return Err(error),
        });
        if node.level() > 0 {
            let mut branches = branches();
            if branches.len() >= BRANCHES_MAX {
                branches.clear();
            }
            branches.insert(*id, Arc::clone(&node));
        }
        Ok(node)
    }

    /// Reads a node from this place.
    pub fn read_node(&self, location: &BlobLocation) -> Result<Node, RepoError> {
        self.expect_node(location)?;
        self.decode_node(location, &self.read(location)?)
    }

    /// Opens a node from the stored bytes of its run, which are overwritten.
    pub(crate) fn open_node(
        &self,
        opener: &mut Opener,
        location: &BlobLocation,
        stored: &mut [u8],
    ) -> Result<Arc<Node>, RepoError> {
        self.expect_node(location)?;
        let project = self.index.project();
        let run = opener.open_run(project, location, stored)?;
        let plain = Opener::blob(project, location, run)?;
        self.decode_node(location, plain).map(Arc::new)
    }

    fn expect_node(&self, location: &BlobLocation) -> Result<(), RepoError> {
        if location.kind() == BlobKind::Node {
            return Ok(());
        }
        let object = pack_of(self.index.project(), location);
        let why = Damage::Impossible("it has a chunk in the place of a tree node");
        Err(RepoError::damaged(object, why))
    }

    fn decode_node(&self, location: &BlobLocation, plain: &[u8]) -> Result<Node, RepoError> {
        let object = pack_of(self.index.project(), location);
        Node::decode(plain).map_err(|e| RepoError::format(object, e))
    }
}

fn missing(kind: BlobKind, id: &BlobId) -> RepoError {
    let kind = match kind {
        BlobKind::Chunk => "chunk",
        BlobKind::Node => "tree node",
    };
    RepoError::Missing { kind, id: *id }
}
