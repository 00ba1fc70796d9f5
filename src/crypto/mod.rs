//! Keys, ids and sealing. Knows no path and no format; `docs/format.md` section 2 is the source of every formula here.

mod aead;
mod hash;
mod kdf;
mod keys;
mod random;

pub use aead::{OpenError, PackCipher, PackNonce, SealKey, SealNonce};
pub use hash::{hash, object_hash, same};
pub use kdf::{KdfError, KdfParams, KdfParamsError};
pub use keys::{ProjectKeys, RepositoryKeys, Secret};
pub use random::{RandomError, random};
