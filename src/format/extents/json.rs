//! Parses the output of `rbd diff --format json`.

use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Unexpected, Visitor};

use super::error::{ExtentsError, printable};
use super::number::extent;
use crate::format::json::Object;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    offset: u64,
    length: u64,
    #[serde(rename = "exists", deserialize_with = "truth")]
    _exists: bool,
}

/// The ranges of a list, in the order of the list.
struct Ranges(Vec<Range<u64>>);

pub(super) fn parse(text: &[u8]) -> Result<Vec<Range<u64>>, ExtentsError> {
    match serde_json::from_slice(text) {
        Ok(Ranges(ranges)) => Ok(ranges),
        Err(error) => {
            let (line, column) = (error.line(), error.column());
            let what = error.to_string();
            let place = format!(" at line {line} column {column}");
            Err(ExtentsError::Json {
                what: printable(what.strip_suffix(&place).unwrap_or(&what)),
                line,
                column,
            })
        }
    }
}

impl<'de> Deserialize<'de> for Ranges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Ranges;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of extents")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut list: A,
            ) -> Result<Ranges, A::Error> {
                let mut ranges = Vec::new();
                while let Some(Object(Entry { offset, length, .. })) = list.next_element()? {
                    ranges.push(extent(offset, length).map_err(A::Error::custom)?);
                }
                Ok(Ranges(ranges))
            }
        }
        deserializer.deserialize_seq(List)
    }
}

/// Reads a boolean. Ceph writes a string; both a string and a JSON boolean are accepted.
fn truth<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    struct Truth;
    impl Visitor<'_> for Truth {
        type Value = bool;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("true or false")
        }

        fn visit_bool<E: Error>(self, value: bool) -> Result<bool, E> {
            Ok(value)
        }

        fn visit_str<E: Error>(self, value: &str) -> Result<bool, E> {
            match value {
                "true" => Ok(true),
                "false" => Ok(false),
                _ => Err(E::invalid_value(Unexpected::Str(value), &self)),
            }
        }
    }
    deserializer.deserialize_any(Truth)
}
