//! Changes the settings of a project.

use std::sync::Arc;

use super::error::RepoError;
use super::project::Project;
use super::settings;
use crate::base::ParityRate;
use crate::format::ProjectSettings;

/// Maximum number of times that new settings are stored while other processes change them, too.
const ATTEMPTS: usize = 10;

impl Project {
    /// Sets the amount of parity that is stored with new objects; `None`: no parity. Stores new
    /// settings, unless the newest ones already state this amount. Returns the project with the
    /// settings that are valid then. Fails unless the role of the key is full.
    pub fn set_parity(&self, rate: Option<ParityRate>) -> Result<Self, RepoError> {
        self.secret()?;
        let mut changed = self.clone();
        changed.objects = self.objects.with_parity(rate);
        let mut newest = settings::read_newest(self)?;
        for _ in 0..ATTEMPTS {
            if newest.parity_rate() == rate {
                changed.settings = Arc::new(newest);
                return Ok(changed);
            }
            changed.put(&ProjectSettings {
                revision: newest.revision + 1,
                // Store 0 instead of no value. With 0, a prune still deletes the parity of objects
                // that no longer exist.
                parity: Some(rate.map_or(0, |rate| rate.percent().into())),
                ..newest
            })?;
            // Another process may have stored settings with the same revision, and those may be
            // valid instead of these.
            newest = settings::read_newest(self)?;
        }
        let project = self.id;
        Err(RepoError::SettingsNotChanged { project })
    }
}
