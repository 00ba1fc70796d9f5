//! The environment in which a front end runs operations.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use crate::base::{Cancel, Observer};
use crate::ops::Context;

use super::environment::Environment;
use super::prompt::Prompt;

/// The environment, progress, prompts and cancellation of one run of the program.
pub(crate) struct Session {
    pub(crate) environment: Environment,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) prompt: Box<dyn Prompt + Send + Sync>,
    pub(crate) cancel: Cancel,
    /// The number of threads that compress and encrypt.
    pub(crate) threads: NonZeroUsize,
}

impl Session {
    /// Returns the context of operations. Operations keep the index in `cache_dir`. If this is
    /// `None`, they keep it in memory.
    pub(crate) fn context<'a>(&'a self, cache_dir: Option<&'a Path>) -> Context<'a> {
        Context {
            observer: Arc::clone(&self.observer),
            cancel: &self.cancel,
            threads: self.threads.get(),
            cache: cache_dir,
        }
    }

    pub(crate) fn observer(&self) -> &dyn Observer {
        &*self.observer
    }
}
