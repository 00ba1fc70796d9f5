//! Parses the output of `rbd diff --format xml`.

use std::ops::Range;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::error::{ExtentsError, printable};
use super::number::{extent, number};

/// The position of the parser in the document.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Front,
    List,
    Entry,
    Field(Field),
    Back,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Offset,
    Length,
    Exists,
}

/// An extent that may still lack some members.
#[derive(Default)]
struct Entry {
    offset: Option<u64>,
    length: Option<u64>,
    exists: Option<bool>,
}

impl Entry {
    fn set(&mut self, field: Field, text: &str) -> Result<(), &'static str> {
        let again = match field {
            Field::Offset => self.offset.replace(number(text.as_bytes())?).is_some(),
            Field::Length => self.length.replace(number(text.as_bytes())?).is_some(),
            Field::Exists => {
                let exists = match text {
                    "true" => true,
                    "false" => false,
                    _ => return Err("neither true nor false"),
                };
                self.exists.replace(exists).is_some()
            }
        };
        if again {
            return Err("an extent has a member twice");
        }
        Ok(())
    }

    fn range(&self) -> Result<Range<u64>, &'static str> {
        match (self.offset, self.length, self.exists) {
            (Some(offset), Some(length), Some(_)) => extent(offset, length),
            _ => Err("an extent lacks its offset, its length, or whether it exists"),
        }
    }
}

pub(super) fn parse(text: &[u8]) -> Result<Vec<Range<u64>>, ExtentsError> {
    let text = std::str::from_utf8(text).map_err(|error| ExtentsError::Xml {
        what: error.to_string(),
        offset: error.valid_up_to() as u64,
    })?;
    let mut reader = Reader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    let mut ranges = Vec::new();
    let (mut place, mut entry) = (Place::Front, Entry::default());
    loop {
        let offset = reader.buffer_position();
        let wrong = |what: &str| ExtentsError::Xml {
            what: printable(what),
            offset,
        };
        let event = match reader.read_event() {
            Ok(event) => event,
            Err(error) => {
                return Err(ExtentsError::Xml {
                    what: printable(&error.to_string()),
                    offset: reader.error_position(),
                });
            }
        };
        place = match (place, event) {
            (place, Event::Start(tag)) => {
                let below = below(place, &tag).ok_or_else(|| wrong("not an element of a list"))?;
                if below == Place::Entry {
                    entry = Entry::default();
                }
                below
            }
            (Place::Field(field), Event::Text(text)) => {
                entry.set(field, text.trim_ascii()).map_err(wrong)?;
                place
            }
            (Place::Field(_), Event::End(_)) => Place::Entry,
            (Place::Entry, Event::End(_)) => {
                ranges.push(entry.range().map_err(wrong)?);
                Place::List
            }
            (Place::List, Event::End(_)) => Place::Back,
            (Place::Front, Event::Decl(_)) => place,
            (_, Event::Text(text)) if text.trim_ascii().is_empty() => place,
            (Place::Back, Event::Eof) => return Ok(ranges),
            (_, Event::Eof) => return Err(wrong("the list is cut short")),
            _ => return Err(wrong("not a list of extents")),
        };
    }
}

/// Returns the position after the start tag of an element. Returns `None` if a list has no such
/// element at `place`, or if the tag has attributes.
fn below(place: Place, tag: &BytesStart<'_>) -> Option<Place> {
    if !tag.attributes_raw().trim_ascii().is_empty() {
        return None;
    }
    match (place, tag.name().as_ref()) {
        (Place::Front, "extents") => Some(Place::List),
        (Place::List, "extent") => Some(Place::Entry),
        (Place::Entry, "offset") => Some(Place::Field(Field::Offset)),
        (Place::Entry, "length") => Some(Place::Field(Field::Length)),
        (Place::Entry, "exists") => Some(Place::Field(Field::Exists)),
        _ => None,
    }
}
