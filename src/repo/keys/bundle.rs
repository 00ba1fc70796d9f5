//! Bundles: the secrets that the key slots of each role hold. See section 5 (Key slot) of
//! `docs/format.md`.

use zeroize::Zeroizing;

use crate::base::{Role, SignerId};
use crate::crypto::{DATA_PUBLIC_KEY_LEN, DataPublicKey, Secret, VerifySecrets, WriteSecrets};
use crate::format::Scope;

/// The secrets that a key slot holds.
pub(crate) enum Bundle {
    /// The repository secret, R.
    Repository(Secret),
    /// The project secret, P.
    Full(Secret),
    Write(Box<WriteSecrets>),
    Verify(VerifySecrets),
}

const WRITE_LEN: usize = 32 + 32 + DATA_PUBLIC_KEY_LEN + 32 + 32;
const VERIFY_LEN: usize = 32 + 32 + 32;

impl Bundle {
    /// Returns the scope and the role of its key.
    pub(crate) fn kind(&self) -> (Scope, Role) {
        match self {
            Self::Repository(_) => (Scope::Repository, Role::Full),
            Self::Full(_) => (Scope::Project, Role::Full),
            Self::Write(_) => (Scope::Project, Role::Write),
            Self::Verify(_) => (Scope::Project, Role::Verify),
        }
    }

    /// Returns its bytes, to be sealed.
    pub(crate) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let parts: &[&[u8]] = match self {
            Self::Repository(secret) | Self::Full(secret) => &[secret.expose()],
            Self::Write(secrets) => &[
                secrets.metadata.expose(),
                secrets.chunks.expose(),
                secrets.data.as_bytes(),
                secrets.authority.as_bytes(),
                secrets.seed.expose(),
            ],
            Self::Verify(secrets) => &[
                secrets.metadata.expose(),
                secrets.authority.as_bytes(),
                secrets.seed.expose(),
            ],
        };
        // Allocate the whole length at once: a vector that grows leaves copies of its bytes in
        // memory.
        let mut out = Zeroizing::new(Vec::with_capacity(WRITE_LEN));
        for part in parts {
            out.extend_from_slice(part);
        }
        out
    }

    /// Decodes the opened bundle of a slot of this scope and role. Returns `None` if the bytes are
    /// not such a bundle.
    pub(crate) fn decode(scope: Scope, role: Role, bytes: &[u8]) -> Option<Self> {
        let mut left = bytes;
        let bundle = match (scope, role) {
            (Scope::Repository, Role::Full) => Self::Repository(secret(&mut left)?),
            (Scope::Project, Role::Full) => Self::Full(secret(&mut left)?),
            (Scope::Project, Role::Write) if bytes.len() == WRITE_LEN => {
                Self::Write(Box::new(WriteSecrets {
                    metadata: secret(&mut left)?,
                    chunks: secret(&mut left)?,
                    data: DataPublicKey::from_bytes(take(&mut left)?).ok()?,
                    authority: SignerId::from_bytes(*take(&mut left)?),
                    seed: secret(&mut left)?,
                }))
            }
            (Scope::Project, Role::Verify) if bytes.len() == VERIFY_LEN => {
                Self::Verify(VerifySecrets {
                    metadata: secret(&mut left)?,
                    authority: SignerId::from_bytes(*take(&mut left)?),
                    seed: secret(&mut left)?,
                })
            }
            _ => return None,
        };
        left.is_empty().then_some(bundle)
    }
}

fn take<'a, const N: usize>(left: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (taken, rest) = left.split_first_chunk()?;
    *left = rest;
    Some(taken)
}

fn secret(left: &mut &[u8]) -> Option<Secret> {
    take(left).map(|bytes| Secret::new(*bytes))
}
