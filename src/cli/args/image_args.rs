//! The options of `restore` for an image of a Ceph cluster. The options for the parameters of a new
//! image have the same names as in `rbd create`.

use clap::Args;
use clap::builder::PossibleValuesParser;

use crate::app::{Failure, ImageMode, backup_selector};
use crate::base::ByteSize;
use crate::format::{ByteString, RbdImage};
use crate::ops::{ImageTarget, InPlaceOptions};
use crate::volume::{CHOSEN_FEATURES, feature_bits};

const HEADING: &str = "Options for rbd: images";
/// The sizes that Ceph allows for objects, in bytes.
const OBJECT_SIZES: std::ops::RangeInclusive<u64> = 4 << 10..=32 << 20;

#[derive(Debug, Args)]
pub(super) struct ImageArgs {
    /// With --in-place: make no snapshot of the image before it is changed
    #[arg(long, requires = "in_place", help_heading = HEADING)]
    no_safety_snapshot: bool,
    /// With --in-place: give the image the size of the backup
    #[arg(long, requires = "in_place", help_heading = HEADING)]
    resize: bool,
    /// Restore all backups up to BACKUP to a new image, as snapshots of it
    #[arg(long, conflicts_with = "in_place", help_heading = HEADING)]
    series: bool,
    /// With --series: the first of these backups [default: the volume's oldest one]
    #[arg(long, value_name = "BACKUP", requires = "series", help_heading = HEADING)]
    from: Option<String>,
    /// Size of the new image's objects, such as 4M
    #[arg(long, value_name = "SIZE", value_parser = object_order, help_heading = HEADING)]
    object_size: Option<u8>,
    /// Features of the new image; can be repeated
    #[arg(long, value_name = "FEATURE", value_delimiter = ',', help_heading = HEADING)]
    #[arg(value_parser = PossibleValuesParser::new(CHOSEN_FEATURES))]
    image_feature: Vec<String>,
    /// Stripe unit of the new image
    #[arg(long, value_name = "SIZE", requires = "stripe_count", help_heading = HEADING)]
    stripe_unit: Option<ByteSize>,
    /// Stripe count of the new image
    #[arg(long, value_name = "N", requires = "stripe_unit", help_heading = HEADING)]
    stripe_count: Option<u64>,
    /// Pool for the data of the new image; give the image's own pool for no separate data pool
    #[arg(long, value_name = "POOL", help_heading = HEADING)]
    data_pool: Option<String>,
    /// Metadata of the new image, in addition to that in the backup; replaces a value of the same
    /// KEY; can be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair, help_heading = HEADING)]
    image_meta: Vec<(String, String)>,
    /// Do not give the metadata in the backup to the new image
    #[arg(long, help_heading = HEADING)]
    no_image_meta: bool,
}

impl ImageArgs {
    /// Fails if one of the options is given.
    pub(super) fn require_unused(&self) -> Result<(), Failure> {
        if self.no_safety_snapshot || self.resize || self.series || self.chooses() {
            return Err(
                Failure::usage("options for rbd: images do not apply to this target")
                    .hint("leave them out, or name an image: rbd:POOL/IMAGE"),
            );
        }
        Ok(())
    }

    /// Returns whether any option that describes a new image is given.
    fn chooses(&self) -> bool {
        self.object_size.is_some()
            || !self.image_feature.is_empty()
            || self.stripe_unit.is_some()
            || self.data_pool.is_some()
            || !self.image_meta.is_empty()
            || self.no_image_meta
    }

    pub(super) fn into_mode(self, in_place: bool) -> Result<ImageMode, Failure> {
        if in_place {
            if self.chooses() {
                return Err(Failure::usage(
                    "an image that exists keeps its parameters and metadata",
                )
                .hint("leave --in-place out to make a new image"));
            }
            return Ok(ImageMode::InPlace(InPlaceOptions {
                safety_snapshot: !self.no_safety_snapshot,
                resize: self.resize,
            }));
        }
        let features = feature_bits(&self.image_feature);
        let text = |text: String| ByteString::from(text.as_bytes());
        let pairs = self.image_meta.into_iter();
        let target = ImageTarget {
            parameters: RbdImage {
                order: self.object_size,
                features: (!self.image_feature.is_empty()).then_some(features),
                stripe_unit: self.stripe_unit.map(|ByteSize(bytes)| bytes),
                stripe_count: self.stripe_count,
                data_pool: self.data_pool.map(text),
            },
            no_metadata: self.no_image_meta,
            metadata: pairs.map(|(key, value)| (text(key), text(value))).collect(),
        };
        if !self.series {
            return Ok(ImageMode::New(target));
        }
        Ok(ImageMode::Series {
            from: self.from.map(backup_selector).transpose()?,
            target,
        })
    }
}

/// Parses the size of objects. Returns its binary logarithm.
fn object_order(text: &str) -> Result<u8, String> {
    let ByteSize(size) = text.parse().map_err(|error| format!("{error}"))?;
    let order = size
        .checked_ilog2()
        .and_then(|order| u8::try_from(order).ok());
    let fits = size.is_power_of_two() && OBJECT_SIZES.contains(&size);
    order
        .filter(|_| fits)
        .ok_or_else(|| "not a power of two from 4K to 32M".to_owned())
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("not of the form KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_size_is_a_power_of_two_that_ceph_allows() {
        assert_eq!(object_order("4K"), Ok(12));
        assert_eq!(object_order("4M"), Ok(22));
        assert_eq!(object_order("32M"), Ok(25));
        for wrong in ["0", "2K", "64M", "5M", "x"] {
            assert!(object_order(wrong).is_err(), "{wrong}");
        }
    }
}
