//! Changes the settings of a project.

use super::error::RepoError;
use super::project::Project;
use crate::base::ParityRate;
use crate::format::ProjectSettings;

impl Project {
    /// Sets the parity that is stored with new objects; `None`: no parity. Stores new settings if
    /// that changes anything. Returns the project with these settings. Fails unless the role of the
    /// key is full.
    pub fn set_parity(&self, rate: Option<ParityRate>) -> Result<Self, RepoError> {
        self.secret()?;
        if self.settings.parity_rate() == rate {
            return Ok(self.clone());
        }
        let settings = ProjectSettings {
            revision: self.settings.revision + 1,
            // Store 0 instead of no value. With 0, a prune still deletes the parity of objects that
            // no longer exist.
            parity: Some(rate.map_or(0, |rate| rate.percent().into())),
            ..(*self.settings).clone()
        };
        let mut changed = self.clone();
        changed.objects = self.objects.with_parity(rate);
        changed.put(&settings)?;
        changed.settings = settings.into();
        Ok(changed)
    }
}
