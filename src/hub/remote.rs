//! Models on the hub: first what the local cache has, then the network.

use std::path::{Path, PathBuf};

use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};

use super::files::{Place, pick};
use super::folder::Folder;
use super::{HubSettings, ModelFiles, alias, bundled_list, unknown};
use crate::{Error, Result};

/// Whether a name can be a repository's: `name` or `owner/name` of letters, digits, `.`, `_` and `-`.
pub(super) fn is_repository_name(name: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
            && !part.contains("..")
    };
    name.len() <= 200 && name.split('/').count() <= 2 && name.split('/').all(part)
}

/// The model in the cache or on the hub.
pub(super) fn find(name: &str, revision: &str, settings: &HubSettings) -> Result<ModelFiles> {
    if !is_revision(revision) {
        return Err(Error::msg(format!("'{revision}' can't be a revision: a branch, a tag or a commit was expected")));
    }
    let repository = alias::repository(name);
    let cached = cached(name, repository, revision, settings);
    match cached {
        // Without a tokenizer the cache may just be incomplete: ask, if that is allowed.
        Some(Ok(files)) if settings.offline || files.tokenizer.is_some() => Ok(files),
        None if settings.offline => Err(not_cached(name, repository, revision, settings)),
        Some(Err(error)) if settings.offline => {
            Err(Error::msg(format!("{error}. The network was not asked, because HF_HUB_OFFLINE is set")))
        }
        Some(Ok(files)) => Ok(download(name, repository, revision, settings).unwrap_or(files)),
        _ => download(name, repository, revision, settings),
    }
}

fn is_revision(revision: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '+');
    revision.starts_with(|c: char| c.is_ascii_alphanumeric())
        && revision.chars().all(allowed)
        && !revision.contains("..")
}

/// The model in the cache, if the cache has anything of it.
fn cached(name: &str, repository: &str, revision: &str, settings: &HubSettings) -> Option<Result<ModelFiles>> {
    // Models that came before owners did are cached under the bare name if they were asked for by it.
    let bare = repository
        .rsplit('/')
        .next()
        .filter(|_| ["openai-community/", "distilbert/"].iter().any(|owner| repository.starts_with(owner)));
    let snapshots =
        [Some(repository), bare].into_iter().flatten().filter_map(|r| snapshot(r, revision, &settings.cache));
    let mut found = snapshots.map(|folder| pick(name, &Folder::read(&folder)?));
    let first = found.next()?;
    // The first that is whole, else what is wrong with the first.
    Some(if first.is_ok() { first } else { found.find(Result::is_ok).unwrap_or(first) })
}

/// The cache's folder of a repository at a revision, which is a commit or a name that refers to one.
fn snapshot(repository: &str, revision: &str, cache: &Path) -> Option<PathBuf> {
    let folder = cache.join(Repo::model(repository.to_string()).folder_name());
    let commit = std::fs::read_to_string(folder.join("refs").join(revision)).unwrap_or_else(|_| revision.to_string());
    let snapshot = folder.join("snapshots").join(commit.trim());
    snapshot.is_dir().then_some(snapshot)
}

fn not_cached(name: &str, repository: &str, revision: &str, settings: &HubSettings) -> Error {
    unknown(
        name,
        format!(
            "it is no bundled model ({}), no folder, and {repository} (revision {revision}) is not in the hub's cache {}; \
             the network was not asked, because HF_HUB_OFFLINE is set: unset it, or give a bundled name or a folder",
            bundled_list(),
            settings.cache.display(),
        ),
    )
}

fn download(name: &str, repository: &str, revision: &str, settings: &HubSettings) -> Result<ModelFiles> {
    let mut builder = ApiBuilder::from_cache(Cache::new(settings.cache.clone())).with_token(settings.token.clone());
    if let Some(endpoint) = &settings.endpoint {
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            return Err(Error::msg(format!("HF_ENDPOINT is '{endpoint}', and http://.. or https://.. was expected")));
        }
        builder = builder.with_endpoint(endpoint.clone());
    }
    let failed = |error: ApiError| refused(name, repository, revision, settings, &error);
    let api = builder.build().map_err(failed)?;
    let repo = Repo::with_revision(repository.to_string(), RepoType::Model, revision.to_string());
    let api = api.repo(repo);
    let names = api.info().map_err(failed)?.siblings.into_iter().map(|file| file.rfilename).collect();
    pick(name, &Repository { origin: origin(repository, revision), names, api })
}

/// The hub's refusal, or its silence, as a sentence.
fn refused(name: &str, repository: &str, revision: &str, settings: &HubSettings, error: &ApiError) -> Error {
    let cache = settings.cache.display();
    let not_here =
        format!("it is no bundled model ({}), no folder, and not in the hub's cache {cache}", bundled_list());
    let status = error.to_string();
    if ["401", "403", "404"].iter().any(|code| status.ends_with(code)) {
        return unknown(
            name,
            format!(
                "{not_here}; the hub was asked for {repository} (revision {revision}) and refused ({status}): it does not \
                 exist, or it is private or gated (accept its terms on its page, and set HF_TOKEN)"
            ),
        );
    }
    Error::msg(format!(
        "the model '{name}' can't be loaded: {not_here}; the hub was asked for {repository} (revision {revision}), and that \
         failed: {status}. Without a network use a bundled model, a folder, or a cache that has it (HF_HOME, \
         HF_HUB_OFFLINE=1)"
    ))
}

fn origin(repository: &str, revision: &str) -> String {
    match revision {
        "main" => format!("the hub's {repository}"),
        _ => format!("the hub's {repository} at {revision}"),
    }
}

/// A repository that can be downloaded from.
struct Repository {
    origin: String,
    names: Vec<String>,
    api: ApiRepo,
}

impl Place for Repository {
    fn origin(&self) -> String {
        self.origin.clone()
    }

    fn names(&self) -> &[String] {
        &self.names
    }

    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|there| there == name)
    }

    fn get(&self, name: &str) -> Result<PathBuf> {
        self.api.get(name).map_err(|error| Error::msg(format!("{name} of {} can't be fetched: {error}", self.origin)))
    }
}
