//! Names of objects.

use std::fmt;

/// The name of an object: a relative path of one to five parts joined by `/`. Each part has 1 to
/// 200 characters out of `a`–`z`, `0`–`9`, `-`, `_` and `.`, and does not begin with `.`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// The error for a string that is not a valid name of an object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("“{0}” is not a valid name of an object in a repository")]
pub struct InvalidName(String);

const PARTS_MAX: usize = 5;
const PART_LEN_MAX: usize = 200;

impl Name {
    /// Returns the name with this path.
    pub fn new(path: impl Into<String>) -> Result<Self, InvalidName> {
        let path = path.into();
        let fits = |part: &str| {
            !part.is_empty()
                && part.len() <= PART_LEN_MAX
                && !part.starts_with('.')
                && part
                    .bytes()
                    .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'))
        };
        if path.split('/').count() <= PARTS_MAX && path.split('/').all(fits) {
            Ok(Self(path))
        } else {
            Err(InvalidName(path.chars().take(200).collect()))
        }
    }

    /// Returns the whole path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the part after the last `/`.
    #[must_use]
    pub fn last(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// Reports whether only an object can have this name, and no directory of a store. This is the
    /// case if the last part of the name is at least as long as a hash.
    #[must_use]
    pub fn is_of_object(&self) -> bool {
        const HASH_LEN: usize = 64;
        self.last().len() >= HASH_LEN
    }

    /// Reports whether this is the name of a lease. Only leases are replaced by new versions under
    /// the same name. The content of any other object stays the same until the object is deleted.
    #[must_use]
    pub fn is_replaced(&self) -> bool {
        self.directory().ends_with("/leases")
    }

    /// Returns everything before the last `/`, or an empty string if the name has only one part.
    #[must_use]
    pub fn directory(&self) -> &str {
        self.0
            .rsplit_once('/')
            .map_or("", |(directory, _)| directory)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
