//! Keys, ids, sealing and signatures. This folder handles neither the encoding of objects nor the
//! places where they are stored. `docs/format.md` has all formulas:
//!
//! - runs and ids in section 8 (Pack);
//! - roots in section 10 (Trees);
//! - reports in section 25 (Signatures of reports);
//! - most others in section 2 (Cryptography).

mod aead;
mod hash;
mod kdf;
mod kem;
mod project_keys;
mod random;
mod report_key;
mod repository_keys;
mod secret;
mod sign;

pub use aead::{OpenError, PackCipher, PackRandom, SealKey, SealNonce};
pub use hash::{ObjectHasher, hash, object_hash, same};
pub use kdf::{KdfError, KdfParams, KdfParamsError};
pub use kem::{DATA_PUBLIC_KEY_LEN, DataPrivateKey, DataPublicKey, Encapsulation};
pub use project_keys::{ChunkKeys, ProjectKeys, RoleError, VerifySecrets, WriteSecrets};
pub use random::{RandomError, random};
pub use report_key::{ReportError, ReportKey, verify_report};
pub use repository_keys::RepositoryKeys;
pub use secret::Secret;
pub use sign::{SignatureError, SigningKey, verify_signature};
