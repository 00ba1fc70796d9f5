//! Verifies packs that no segment names.

use super::state::Index;
use crate::base::ObjectHash;
use crate::repo::error::RepoError;
use crate::repo::object_ref::ObjectRef;
use crate::repo::pack_listing::read_whole;

impl Index {
    /// Reads all bytes of the packs that no segment names, except excluded ones and those that were
    /// read before. If the signer of a pack signed these bytes, the pack may count for
    /// deduplication from now on, and a segment may name it. The bytes are verified because anyone
    /// who can write to the store can add a copy of a pack with other bytes.
    pub fn verify_unnamed(&self) -> Result<(), RepoError> {
        for pack in self.unnamed()? {
            if self.is_excluded(&pack) || self.is_whole(&pack)? {
                continue;
            }
            let Some(listing) = self.listing(&pack)? else {
                continue;
            };
            let object = ObjectRef::of_pack(self.project.id, listing.contents.kind, pack);
            match read_whole(&self.project, object) {
                Ok(listing) => {
                    let authority = self.project.keys.authority();
                    self.query(|db| db.set_whole(&listing, authority))?;
                    self.clear_recent_runs();
                }
                Err(
                    RepoError::Damaged { .. }
                    | RepoError::Foreign { .. }
                    | RepoError::Unsupported { .. },
                ) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether all bytes of this pack were read, and are those that its signer signed.
    pub(crate) fn is_whole(&self, pack: &ObjectHash) -> Result<bool, RepoError> {
        let named = self.query(|db| db.named(pack))?;
        Ok(named.is_some_and(|named| named.whole))
    }
}
