//! Makes labels from the metadata and the name of an image. Kubernetes (`ceph-csi`) writes its own
//! names to both, `OpenStack` only to the name of the image.

use std::collections::BTreeMap;

use crate::format::ImageMetadata;

/// The keys of `ceph-csi`, and the labels for their values.
const KUBERNETES: [(&str, &str); 4] = [
    ("csi.storage.k8s.io/pvc/name", "pvc"),
    ("csi.storage.k8s.io/pvc/namespace", "namespace"),
    ("csi.storage.k8s.io/pv/name", "pv"),
    ("csi.ceph.com/cluster/name", "cluster"),
];

/// Returns the labels of an image with this name and metadata.
pub(super) fn labels_of(image: &str, metadata: Option<&ImageMetadata>) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut add = |key: &str, value: &str| {
        if !value.is_empty() {
            labels.insert(key.to_owned(), value.to_owned());
        }
    };
    for (key, value) in metadata.iter().flat_map(|metadata| &metadata.0) {
        let (key, value) = (key.to_string(), value.to_string());
        if let Some((_, label)) = KUBERNETES.iter().find(|(of, _)| *of == key) {
            add(label, &value);
        }
    }
    if image.strip_prefix("csi-vol-").is_some_and(is_uuid) {
        add("csi-volume", image);
    }
    // Cinder names a volume `volume-ID`. Nova names a disk of a server `ID_disk`, with or without
    // a suffix.
    if let Some(id) = image.strip_prefix("volume-").filter(|id| is_uuid(id)) {
        add("cinder-volume", id);
    }
    if let Some((id, disk)) = image.split_once("_disk")
        && is_uuid(id)
    {
        add("nova-server", id);
        add("nova-disk", &format!("disk{disk}"));
    }
    labels
}

/// Returns whether a text has the form 01234567-89ab-cdef-0123-456789abcdef.
fn is_uuid(text: &str) -> bool {
    let parts: Vec<_> = text.split('-').collect();
    let is_hex = |part: &&str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let lengths: Vec<_> = parts.iter().map(|part| part.len()).collect();
    lengths == [8, 4, 4, 4, 12] && parts.iter().all(is_hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0";

    fn shown(image: &str, metadata: &[(&str, &str)]) -> Vec<String> {
        let pairs = metadata
            .iter()
            .map(|(k, v)| (k.as_bytes().to_vec(), v.as_bytes().to_vec()));
        let metadata: ImageMetadata = pairs.collect::<Vec<_>>().iter().collect();
        let labels = labels_of(image, Some(&metadata)).into_iter();
        labels
            .map(|(key, value)| format!("{key}={value}"))
            .collect()
    }

    #[test]
    fn names_of_kubernetes_and_openstack_become_labels() {
        let metadata = [
            ("csi.storage.k8s.io/pvc/name", "data-0"),
            ("csi.storage.k8s.io/pvc/namespace", "shop"),
            ("csi.storage.k8s.io/pv/name", "pvc-77"),
            ("other", "x"),
        ];
        let of_csi = shown(&format!("csi-vol-{ID}"), &metadata);
        let volume = format!("csi-volume=csi-vol-{ID}");
        assert_eq!(
            of_csi,
            [&volume, "namespace=shop", "pv=pvc-77", "pvc=data-0"]
        );
        let cinder = shown(&format!("volume-{ID}"), &[]);
        assert_eq!(cinder, [format!("cinder-volume={ID}")]);
        let nova = shown(&format!("{ID}_disk.config"), &[]);
        assert_eq!(
            nova,
            [
                "nova-disk=disk.config".to_owned(),
                format!("nova-server={ID}")
            ]
        );
    }

    #[test]
    fn other_names_become_no_labels() {
        for image in [
            "volume-1",
            "web_disk",
            "csi-vol-x",
            "volume-",
            "vm-100-disk-0",
        ] {
            assert!(shown(image, &[("csi.storage.k8s.io/pvc/name", "")]).is_empty());
        }
    }
}
