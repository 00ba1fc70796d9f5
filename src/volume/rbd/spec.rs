//! Names of images as users write them.

use std::fmt;

/// An image, and possibly a snapshot of it: `POOL/[NAMESPACE/]IMAGE[@SNAPSHOT]`. Ceph allows
/// neither `/` nor `@` in these names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RbdSpec {
    /// The name of the pool.
    pub pool: String,
    /// The namespace. `None` for the default one.
    pub namespace: Option<String>,
    /// The name of the image.
    pub image: String,
    /// The name of the snapshot. `None` if only an image is named.
    pub snapshot: Option<String>,
}

impl RbdSpec {
    /// Parses `POOL/[NAMESPACE/]IMAGE[@SNAPSHOT]`. Returns `None` if `text` does not have this
    /// form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (path, snapshot) = match text.split_once('@') {
            Some((path, snapshot)) => (path, Some(snapshot)),
            None => (text, None),
        };
        let parts: Vec<_> = path.split('/').collect();
        let (pool, namespace, image) = match parts[..] {
            [pool, image] => (pool, None, image),
            [pool, namespace, image] => (pool, Some(namespace), image),
            _ => return None,
        };
        let bad = |name: &str| name.is_empty() || name.contains(['@', '/', '\0']);
        let optional = [namespace, snapshot].into_iter().flatten();
        if [pool, image].into_iter().chain(optional).any(bad) {
            return None;
        }
        Some(Self {
            pool: pool.to_owned(),
            namespace: namespace.map(str::to_owned),
            image: image.to_owned(),
            snapshot: snapshot.map(str::to_owned),
        })
    }

    /// Returns `POOL/[NAMESPACE/]IMAGE`.
    #[must_use]
    pub fn image_path(&self) -> String {
        let namespace = self.namespace.as_ref();
        let namespace = namespace.map(|name| format!("{name}/")).unwrap_or_default();
        format!("{}/{namespace}{}", self.pool, self.image)
    }
}

impl fmt::Display for RbdSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.image_path())?;
        self.snapshot
            .iter()
            .try_for_each(|name| write!(f, "@{name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_named_by_pool_namespace_name_and_snapshot() {
        for text in [
            "vms/web1",
            "vms/ns/web1",
            "vms/web1@mon",
            " a b/-x%é/y*?@s p",
        ] {
            let spec = RbdSpec::parse(text).unwrap();
            assert_eq!(spec.to_string(), text);
        }
        let spec = RbdSpec::parse("p/n/i@s").unwrap();
        assert_eq!((&spec.pool[..], &spec.image[..]), ("p", "i"));
        assert_eq!(spec.namespace.as_deref(), Some("n"));
        assert_eq!(spec.snapshot.as_deref(), Some("s"));
        assert_eq!(spec.image_path(), "p/n/i");
    }

    #[test]
    fn names_with_missing_parts_or_with_separators_are_refused() {
        for text in [
            "",
            "web1",
            "/web1",
            "vms/",
            "vms//web1",
            "a/b/c/d",
            "vms/web1@",
            "vms/@s",
            "@s",
            "vms/web1@a@b",
            "vms/web1@a/b",
            "vms/a\0b",
        ] {
            assert_eq!(RbdSpec::parse(text), None, "{text}");
        }
    }
}
