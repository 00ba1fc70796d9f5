//! Detects in which of the three forms a list is written.

use super::error::ExtentsError;
use super::list::ExtentList;
use super::{json, plain, xml};

impl ExtentList {
    /// Reads a list in any of the three forms. The first byte that is not blank decides which form
    /// it is. Extents may come in any order and overlap.
    pub fn parse(text: &[u8]) -> Result<Self, ExtentsError> {
        let blank = |byte: &u8| byte.is_ascii_whitespace();
        let Some(offset) = text.iter().position(|byte| !blank(byte)) else {
            return Err(ExtentsError::Empty);
        };
        let extents = match text.get(offset) {
            Some(b'[') => json::parse(text)?,
            Some(b'<') => xml::parse(text)?,
            Some(b'O') => plain::parse(text)?,
            _ => return Err(ExtentsError::Unknown { offset }),
        };
        Ok(extents.into_iter().collect())
    }
}
