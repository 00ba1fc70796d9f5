//! The JSON in objects. Serde alone would accept more than the format allows, such as an array in
//! place of an object.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::error::FormatError;

/// A value whose JSON form is an object, not an array of its members.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Map<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_map(Map(PhantomData)).map(Self)
    }
}

/// Deserializes a member that is an object.
pub(super) fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Object::deserialize(deserializer).map(|o| o.0)
}

/// Deserializes a member that may be null. Null has the same effect as a missing member.
pub(super) fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Deserializes a member that is an object or null. Null gives `None`.
pub(super) fn nullable_object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Ok(Option::<Object<T>>::deserialize(deserializer)?.map(|o| o.0))
}

#[derive(Deserialize)]
struct Requires {
    #[serde(default, deserialize_with = "nullable")]
    requires: Vec<String>,
}

/// Reads the body of an object that has a list of required features.
///
/// Unknown features are refused before anything else is read: a newer object may have members of
/// other types.
pub(super) fn from_json_with_features<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FormatError> {
    refuse_unknown_features(bytes)?;
    from_json(bytes)
}

/// Fails if the body requires a feature: this version knows none.
fn refuse_unknown_features(bytes: &[u8]) -> Result<(), FormatError> {
    let Requires { requires } = from_json(bytes)?;
    match requires.first() {
        None => Ok(()),
        Some(feature) => Err(FormatError::UnknownFeature(
            feature.chars().take(80).collect(),
        )),
    }
}

/// Checks that every text is an id of the type `Id`, in hexadecimal.
pub(super) fn check_ids<'a, Id: FromStr>(
    field: &'static str,
    texts: impl IntoIterator<Item = &'a String>,
) -> Result<(), FormatError> {
    if texts.into_iter().all(|text| text.parse::<Id>().is_ok()) {
        Ok(())
    } else {
        Err(FormatError::BadValue(field))
    }
}

/// Reads a JSON object.
pub(super) fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FormatError> {
    match serde_json::from_slice(bytes) {
        Ok(Object(value)) => Ok(value),
        Err(e) => Err(FormatError::BadJson(e.to_string())),
    }
}

/// Writes a value as JSON.
#[expect(
    clippy::expect_used,
    reason = "plain data with string keys always has a JSON form"
)]
pub(super) fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data")
}
