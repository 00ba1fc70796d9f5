//! The metadata of an image: pairs of keys and values that Ceph stores with the image.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::client::RbdClient;
use super::error::{RbdError, RbdErrorKind};
use super::image::LiveImage;
use crate::base::Cancel;
use crate::format::{ByteString, ImageMetadata};

impl LiveImage<'_> {
    /// Returns the metadata of the image; `None` if it has no metadata.
    pub fn metadata(&self, cancel: &Cancel) -> Result<Option<ImageMetadata>, RbdError> {
        let mut rbd = self.client.rbd_on(&["image-meta", "list"], &self.spec);
        rbd.arg("--format=json");
        let request = format!("read the metadata of {}", self.name());
        let printed = RbdClient::ask(rbd, &request[..], cancel)?;
        // Without metadata, `rbd` prints nothing, not even JSON.
        if printed.trim_ascii().is_empty() {
            return Ok(None);
        }
        let bad = |error| RbdError::new(RbdErrorKind::BadAnswer, &request, error);
        let found: BTreeMap<String, String> = serde_json::from_slice(&printed).map_err(bad)?;
        let bytes = |text: String| ByteString::from(text.as_bytes());
        let entries: Vec<_> = found
            .into_iter()
            .map(|(k, v)| (bytes(k), bytes(v)))
            .collect();
        Ok((!entries.is_empty()).then_some(ImageMetadata(entries)))
    }

    /// Sets one value of the metadata of the image.
    pub fn set_metadata(
        &self,
        key: &ByteString,
        value: &ByteString,
        cancel: &Cancel,
    ) -> Result<(), RbdError> {
        let request = format!("set the metadata “{key}” of {}", self.name());
        self.change_metadata("set", &[key, value], request, cancel)
    }

    /// Removes one value of the metadata of the image, if it is there.
    pub fn remove_metadata(&self, key: &ByteString, cancel: &Cancel) -> Result<(), RbdError> {
        let request = format!("remove the metadata “{key}” of {}", self.name());
        match self.change_metadata("remove", &[key], request, cancel) {
            Err(error) if error.kind == RbdErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn change_metadata(
        &self,
        verb: &str,
        words: &[&ByteString],
        request: String,
        cancel: &Cancel,
    ) -> Result<(), RbdError> {
        let mut rbd = self.client.rbd_on(&["image-meta", verb], &self.spec);
        // The key and the value may have any bytes, so they may look like options.
        rbd.arg("--");
        for text in words {
            rbd.arg(OsString::from_vec(text.bytes().unwrap_or_default()));
        }
        RbdClient::ask(rbd, request, cancel).map(drop)
    }
}
