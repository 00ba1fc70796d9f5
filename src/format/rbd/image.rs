//! The header of a v2 stream (the output of `rbd export --export-format 2`), which describes the
//! image.

use std::io::Read;

use super::error::{CutIn, DiffError, DiffErrorKind, DiffField};
use super::input::Input;

pub(super) const BANNER_IMAGE: &[u8; 13] = b"rbd image v2\n";
const BANNER_DIFFS: &[u8; 19] = b"rbd image diffs v2\n";

/// The orders that Ceph allows: objects of 4 KiB to 32 MiB.
const ORDERS: std::ops::RangeInclusive<u8> = 12..=25;

/// The maximum size of all metadata together, in bytes. Ceph has no limit; images usually have a
/// few hundred bytes.
const METADATA_MAX: u64 = 16 << 20;

/// Each entry counts as this number of bytes, in addition to its texts. So the maximum also limits
/// the number of empty entries.
const ENTRY_COST: u64 = 64;

/// The properties of an image, as the header of a v2 stream describes them. A property that the
/// header does not state is `None`. Then Ceph used its default for the image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageDescription {
    /// The binary logarithm of the size of objects in bytes, 12 to 25.
    pub order: Option<u8>,
    /// Ceph's feature bits.
    pub features: Option<u64>,
    /// The stripe unit in bytes.
    pub stripe_unit: Option<u64>,
    /// The number of objects in a stripe.
    pub stripe_count: Option<u64>,
    /// Keys and values, in the order of the stream. They need not be UTF-8.
    pub metadata: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Ceph's names of feature bits, from the lowest bit on.
const FEATURES: [&str; 11] = [
    "layering",
    "striping",
    "exclusive-lock",
    "object-map",
    "fast-diff",
    "deep-flatten",
    "journaling",
    "data-pool",
    "operations",
    "migrating",
    "non-primary",
];

impl ImageDescription {
    /// Returns the features as `rbd info` names them; a bit without a name is `bit N`.
    #[must_use]
    pub fn feature_names(&self) -> Vec<String> {
        let features = self.features.unwrap_or(0);
        let set = (0..u64::BITS).filter(|bit| features & (1 << bit) != 0);
        set.map(|bit| match FEATURES.get(bit as usize) {
            Some(&name) => name.to_owned(),
            None => format!("bit {bit}"),
        })
        .collect()
    }

    /// Reads the rest of the header, from the end of its banner to the first diff. Returns the
    /// properties and the number of diffs.
    pub(super) fn read<R: Read>(input: &mut Input<R>) -> Result<(Self, u64), DiffError> {
        let mut image = Self::default();
        let mut room = METADATA_MAX;
        loop {
            let (at, tag) = input.tag(CutIn::ImageHeader)?;
            if tag == b'E' {
                break;
            }
            let length = input.u64(CutIn::ImageHeader)?;
            match tag {
                b'O' => {
                    let value = number(input, at, tag, length)?;
                    let order = u8::try_from(value).ok().filter(|o| ORDERS.contains(o));
                    let bad = || DiffErrorKind::BadValue(DiffField::Order, value).at(at);
                    let order = order.ok_or_else(bad)?;
                    once(&mut image.order, order, DiffField::Order, at)?;
                }
                b'T' => {
                    let value = number(input, at, tag, length)?;
                    once(&mut image.features, value, DiffField::Features, at)?;
                }
                b'U' => {
                    let value = number(input, at, tag, length)?;
                    once(&mut image.stripe_unit, value, DiffField::StripeUnit, at)?;
                }
                b'C' => {
                    let value = number(input, at, tag, length)?;
                    once(&mut image.stripe_count, value, DiffField::StripeCount, at)?;
                }
                b'M' => {
                    room = length
                        .checked_add(ENTRY_COST)
                        .and_then(|cost| room.checked_sub(cost))
                        .ok_or_else(|| DiffErrorKind::MetadataTooLong.at(at))?;
                    image.metadata.push(entry(input, at, length)?);
                }
                // Ignore unknown fields, as `rbd import` does.
                _ => input.skip(length, CutIn::ImageHeader)?,
            }
        }
        let at = input.offset();
        if input.array(CutIn::Banner)? != *BANNER_DIFFS {
            return Err(DiffErrorKind::WrongBanner.at(at));
        }
        let at = input.offset();
        match input.u64(CutIn::Count)? {
            0 => Err(DiffErrorKind::NoDiffs.at(at)),
            diffs => Ok((image, diffs)),
        }
    }
}

/// Sets a field. Fails if the field already has a value.
pub(super) fn once<T>(
    field: &mut Option<T>,
    value: T,
    name: DiffField,
    at: u64,
) -> Result<(), DiffError> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(DiffErrorKind::Repeated(name).at(at)),
    }
}

/// Reads the content of a record, which must be one number of 8 bytes. `at` is the offset of the
/// record, `length` the length that it states.
fn number<R: Read>(input: &mut Input<R>, at: u64, tag: u8, length: u64) -> Result<u64, DiffError> {
    if length != 8 {
        return Err(DiffErrorKind::WrongLength { tag, length }.at(at));
    }
    input.u64(CutIn::ImageHeader)
}

/// Reads the key and the value that fill a record of `length` bytes. The caller must have limited
/// `length`, since the function allocates as much memory.
fn entry<R: Read>(
    input: &mut Input<R>,
    at: u64,
    length: u64,
) -> Result<(Vec<u8>, Vec<u8>), DiffError> {
    let wrong = || DiffErrorKind::WrongLength { tag: b'M', length }.at(at);
    let texts = length.checked_sub(8).ok_or_else(wrong)?;
    let key = text(input, at, |stated| stated <= texts)?;
    let rest = texts - key.len() as u64;
    let value = text(input, at, |stated| stated == rest)?;
    Ok((key, value))
}

/// Reads a length, and then a text of that length if `fits` accepts it.
fn text<R: Read>(
    input: &mut Input<R>,
    at: u64,
    fits: impl Fn(u64) -> bool,
) -> Result<Vec<u8>, DiffError> {
    let length = input.u32(CutIn::ImageHeader)?;
    if !fits(length.into()) {
        let (tag, length) = (b'M', length.into());
        return Err(DiffErrorKind::InnerLength { tag, length }.at(at));
    }
    let mut text = vec![0; length as usize];
    input.exact(&mut text, CutIn::ImageHeader)?;
    Ok(text)
}
