//! The part of an image's description that records keep.

use crate::format::{ByteString, ImageDescription, RbdImage};

impl From<&ImageDescription> for RbdImage {
    fn from(image: &ImageDescription) -> Self {
        let text = |bytes: &Vec<u8>| ByteString::from(&bytes[..]);
        Self {
            order: image.order,
            features: image.features,
            stripe_unit: image.stripe_unit,
            stripe_count: image.stripe_count,
            metadata: image
                .metadata
                .iter()
                .map(|(key, value)| (text(key), text(value)))
                .collect(),
        }
    }
}
