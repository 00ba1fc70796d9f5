//! The environment variables of the process, which a test can replace.

use std::ffi::OsString;

type Lookup = dyn Fn(&str) -> Option<OsString> + Send + Sync;

/// Looks up environment variables. Keeps no copy of them, since one may hold a password.
pub(crate) struct Environment(Box<Lookup>);

impl Environment {
    /// Returns the environment of this process.
    pub(crate) fn of_process() -> Self {
        Self(Box::new(|name| std::env::var_os(name)))
    }

    /// Returns a variable's value; `None` if the variable is unset or empty.
    pub(crate) fn get(&self, name: &str) -> Option<OsString> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    /// Returns an environment that holds only these variables.
    #[cfg(test)]
    pub(crate) fn with(variables: &[(&str, &str)]) -> Self {
        let variables: std::collections::BTreeMap<String, OsString> = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).into()))
            .collect();
        Self(Box::new(move |name| variables.get(name).cloned()))
    }
}
