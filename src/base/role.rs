//! Roles of keys.

use std::fmt;
use std::str::FromStr;

/// The role of a key: the rights of its holder. A role includes the rights of all roles that are
/// listed after it. There is one exception: a write key may not read packs as
/// `check --read-data` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// May do everything.
    Full,
    /// Backs up, deduplicates and lists. Cannot decrypt stored chunks.
    Write,
    /// Checks that all objects exist and that their bytes have the right hashes. Decrypts only
    /// metadata. Writes nothing but the ledger, the list of packs that later checks may skip.
    Verify,
}

/// A text does not name a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a role is “full”, “write” or “verify”")]
pub struct ParseRoleError;

impl Role {
    /// Returns whether this role includes the rights of `other`.
    #[must_use]
    pub const fn includes(self, other: Self) -> bool {
        matches!(
            (self, other),
            (Self::Full, _) | (Self::Write, Self::Write | Self::Verify) | (_, Self::Verify)
        )
    }

    /// Returns the name of the role in certificates and in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Write => "write",
            Self::Verify => "verify",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = ParseRoleError;

    fn from_str(text: &str) -> Result<Self, ParseRoleError> {
        let mut roles = [Self::Full, Self::Write, Self::Verify].into_iter();
        roles.find(|role| role.name() == text).ok_or(ParseRoleError)
    }
}
