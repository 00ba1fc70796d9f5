//! The command `cache`.

use std::sync::Arc;

use crate::app::{
    Attempt, CacheInfo, CacheRequest, Code, Failure, Message, RepositorySettings, open_project,
};
use crate::cli::console::Console;
use crate::repo::{Index, Project};

/// Returns the path of the cache of a project as text for people.
pub(super) fn cache_path(project: &Project, settings: &RepositorySettings) -> String {
    let cache = project.cache_dir(&settings.cache_dir);
    cache.path().display().to_string()
}

pub(super) fn cache(
    console: &Console,
    settings: &RepositorySettings,
    request: CacheRequest,
) -> Result<(), Failure> {
    let (_, project) = open_project(&console.session, settings, Attempt::Cache)?;
    let cache = project.cache_dir(&settings.cache_dir);
    let failed = |what: &str, error: &std::io::Error| {
        Failure::new(
            Code::Failed,
            format!("could not {what} the cache in {}", cache.path().display()),
        )
        .caused_by(Some(error))
    };
    if matches!(request, CacheRequest::Clear | CacheRequest::Rebuild) {
        cache.clear().map_err(|error| failed("clear", &error))?;
    }
    if matches!(request, CacheRequest::Rebuild) {
        // Fail if the directory cannot be created. Otherwise, the index would be built in memory
        // and be lost.
        cache.create().map_err(|error| failed("rebuild", &error))?;
    }
    let places = if matches!(request, CacheRequest::Clear) {
        None
    } else {
        let index = Index::open(
            &project,
            &settings.cache_dir,
            Arc::clone(&console.session.observer),
        )?;
        let blobs = index.state()?.blobs;
        index.close();
        Some(blobs)
    };
    console.meter.finish();
    console.output.show(&Message::Cache(CacheInfo {
        path: cache.path().display().to_string(),
        bytes: cache
            .size()
            .map_err(|error| failed("read the size of", &error))?,
        chunks: places,
    }))
}
