//! Detects whether a list is written as JSON, as XML or as a table.

use super::error::ExtentsError;
use super::list::ExtentList;
use super::{json, plain, xml};

impl ExtentList {
    /// Reads a list that is JSON, XML or a table. The first byte that is not blank decides which
    /// of the three it is. Extents may come in any order and overlap.
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
