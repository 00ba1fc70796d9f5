//! Names of temporary files.
//!
//! These names begin with `.`, and a [`Name`](super::Name) never does. So files that a crash leaves
//! behind are never listed.

use std::io;

const PREFIX: &str = ".tmp-";
const DIGITS: usize = 16;

/// Returns a random name.
pub(super) fn new_name() -> io::Result<String> {
    let random = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?;
    Ok(format!("{PREFIX}{random:0DIGITS$x}"))
}

/// Reports whether a name has the form that [`new_name`] gives.
pub(super) fn is_name(name: &[u8]) -> bool {
    name.strip_prefix(PREFIX.as_bytes()).is_some_and(|digits| {
        digits.len() == DIGITS
            && digits
                .iter()
                .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_made_by_new_name_are_recognised() {
        for _ in 0..20 {
            assert!(is_name(new_name().unwrap().as_bytes()));
        }
        assert!(is_name(b".tmp-0123456789abcdef"));
        for other in [
            "",
            ".tmp-",
            ".tmp-0123456789abcde",
            ".tmp-0123456789abcdef0",
            ".tmp-0123456789ABCDEF",
            ".tmp-0123456789abcdeg",
            "tmp-0123456789abcdef",
            ".tmp.0123456789abcdef",
        ] {
            assert!(!is_name(other.as_bytes()), "{other}");
        }
    }
}
