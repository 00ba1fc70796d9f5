//! The part of an image's description that records keep.

use crate::format::{ImageDescription, RbdImage};

impl From<&ImageDescription> for RbdImage {
    fn from(image: &ImageDescription) -> Self {
        Self {
            order: image.order,
            features: image.features,
            stripe_unit: image.stripe_unit,
            stripe_count: image.stripe_count,
            data_pool: None,
        }
    }
}
