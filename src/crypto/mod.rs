//! Keys, ids and sealing. All formulas are those of `docs/format.md`, section 2. This folder does
//! not know the encoding of objects, nor where they are stored.

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
