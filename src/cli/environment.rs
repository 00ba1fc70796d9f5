//! The environment as a value, so that what depends on it can be tested without changing it.

use std::ffi::OsString;

type Lookup = dyn Fn(&str) -> Option<OsString> + Send + Sync;

/// Looks up environment variables. Holds no copy of them: one may be a password.
pub(crate) struct Environment(Box<Lookup>);

impl Environment {
    /// That of this process.
    pub(crate) fn of_process() -> Self {
        Self(Box::new(|name| std::env::var_os(name)))
    }

    /// The variable's value; one that is set to nothing is not set.
    pub(crate) fn get(&self, name: &str) -> Option<OsString> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    /// One that holds only these.
    #[cfg(test)]
    pub(crate) fn with(variables: &[(&str, &str)]) -> Self {
        let variables: std::collections::BTreeMap<String, OsString> = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).into()))
            .collect();
        Self(Box::new(move |name| variables.get(name).cloned()))
    }
}
