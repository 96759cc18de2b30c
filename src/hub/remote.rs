//! Models on the hub: first what the local cache has, then the network.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, CacheRepo, Repo, RepoType};

use super::checkpoints::{Located, locate, pick_checkpoint};
use super::download::{download, waiting};
use super::files::{CONFIG, Place, add_tokenizer, pick, pick_tokenizer};
use super::folder::{Folder, pick_version};
use super::{Checkpoint, FileData, HubSettings, ModelFiles, Version, bundled_list, registry, unknown};
use crate::{Error, Progress, Result};

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
pub(super) fn find(name: &str, version: &Version, settings: &HubSettings) -> Result<ModelFiles> {
    let wanted = Wanted::of(name, version)?;
    let mut files = match wanted.cached(settings) {
        // Without a tokenizer the cache may just be incomplete: ask, if that is allowed.
        Some(Ok(files)) if settings.offline || files.tokenizer.is_some() => files,
        None if settings.offline => return Err(wanted.not_cached(settings)),
        Some(Err(error)) if settings.offline => {
            return Err(Error::msg(format!("{error}. The network was not asked, because HF_HUB_OFFLINE is set")));
        }
        Some(Ok(files)) => wanted.download(settings).unwrap_or(files),
        _ => wanted.download(settings)?,
    };
    files.checkpoint = files.checkpoint.or(wanted.checkpoint);
    // Where that tokenizer can't be had either, the model still loads, and says whose tokenizer it lacks when asked.
    if files.tokenizer.is_none()
        && let Some(other) = tokenizer_name(&files.config)
        && let Ok((tokenizer, config)) = find_tokenizer(&other, &Version::default(), settings)
    {
        (files.tokenizer, files.tokenizer_config) = (Some(tokenizer), config);
    }
    Ok(files)
}

/// The repository whose tokenizer a model uses, where config.json names one, as that of a toy model does. A name
/// without an owner is GPT-2's, which is part of the program.
fn tokenizer_name(config: &FileData) -> Option<String> {
    let json: serde_json::Value = serde_json::from_slice(&config.read().ok()?).ok()?;
    json.get("tokenizer_name")?
        .as_str()
        .filter(|name| name.contains('/') && is_repository_name(name))
        .map(str::to_string)
}

/// The tokenizer of a repository, in the cache or on the hub. Where it has none, that of the one that config.json names.
pub(super) fn find_tokenizer(
    name: &str,
    version: &Version,
    settings: &HubSettings,
) -> Result<(FileData, Option<FileData>)> {
    let wanted = Wanted::of(name, version)?;
    // A revision that is asked for is where the search ends, so that no names lead round for ever.
    let follows = version.revision.is_none();
    if let Some(folder) = snapshot(wanted.repository, &wanted.revision, &settings.cache)
        && let Some(found) = tokenizer_by(&Folder::read(&folder)?, follows, settings)?
    {
        return Ok(found);
    }
    if settings.offline {
        return Err(wanted.not_cached(settings));
    }
    let place = Repository::open(name, wanted.repository, &wanted.revision, settings)?;
    let none = || Error::NoTokenizer { why: format!("there is no tokenizer.json in {}", place.origin) };
    tokenizer_by(&place, follows, settings)?.ok_or_else(none)
}

/// The tokenizer in a place, or, if it is to be followed, that of the repository which the place's config.json names.
fn tokenizer_by(
    place: &impl Place,
    follows: bool,
    settings: &HubSettings,
) -> Result<Option<(FileData, Option<FileData>)>> {
    if let (Some(tokenizer), config) = pick_tokenizer(place)? {
        return Ok(Some((tokenizer, config)));
    }
    if !follows || !place.has(CONFIG) {
        return Ok(None);
    }
    let main = Version { revision: Some("main".to_string()), ..Version::default() };
    let other = tokenizer_name(&FileData::Path(place.get(CONFIG)?));
    other.map(|other| find_tokenizer(&other, &main, settings)).transpose()
}

/// The names of everything that a repository has.
pub(super) fn names(name: &str, repository: &str, revision: &str, settings: &HubSettings) -> Result<Vec<String>> {
    Ok(Repository::open(name, repository, revision, settings)?.names)
}

/// Some files of a repository that holds no model, each by its name there and where it is now: those that `choose` picks
/// from the names, from the cache if it has them, else downloaded. `what` says for messages what they are of.
pub(super) fn some_files(
    what: &str,
    repository: &str,
    revision: &str,
    choose: impl Fn(&[String]) -> Result<Vec<String>>,
    settings: &HubSettings,
) -> Result<Vec<(String, PathBuf)>> {
    if !is_revision(revision) {
        return Err(Error::msg(format!("'{revision}' can't be a revision: a branch, a tag or a commit was expected")));
    }
    if let Some(folder) = snapshot(repository, revision, &settings.cache)
        && let Ok(chosen) = choose(&names_below(&folder))
    {
        return Ok(chosen.into_iter().map(|name| (name.clone(), folder.join(name))).collect());
    }
    let cache = settings.cache.display();
    if settings.offline {
        return Err(Error::msg(format!(
            "{what} is not in the hub's cache {cache} ({repository}, revision {revision}), and the network was not asked, \
             because HF_HUB_OFFLINE is set: unset it, or give a folder with the files"
        )));
    }
    let failed = |error: ApiError| {
        Error::msg(format!(
            "{what} can't be loaded: it is not in the hub's cache {cache}, and the hub, asked for {repository} (revision \
             {revision}), did not give it ({error}): check the name; without a network give a folder with the files"
        ))
    };
    let place = Repository::connect(repository, revision, settings)?.map_err(failed)?;
    choose(&place.names)?.into_iter().map(|name| Ok((name.clone(), place.get(&name)?))).collect()
}

/// The names of the files below a folder, with `/` between folders; what can't be listed is left out.
fn names_below(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut waiting = vec![(folder.to_path_buf(), String::new())];
    while let Some((folder, prefix)) = waiting.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            // A hub cache's files are links, its folders are folders.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => waiting.push((entry.path(), format!("{name}/"))),
                _ if entry.path().is_file() => names.push(name),
                _ => {}
            }
        }
    }
    names
}

/// A repository and what is wanted of it.
struct Wanted<'a> {
    name: &'a str,
    repository: &'a str,
    revision: String,
    /// The checkpoint that the revision is.
    checkpoint: Option<Checkpoint>,
    /// The version, without what the revision says already.
    version: Version,
}

impl<'a> Wanted<'a> {
    fn of(name: &'a str, version: &Version) -> Result<Self> {
        let repository = registry::repository(name);
        let mut wanted = Self {
            name,
            repository,
            revision: version.revision.clone().unwrap_or_else(|| "main".to_string()),
            checkpoint: None,
            version: Version { revision: None, ..version.clone() },
        };
        if let Some(choice) = version.checkpoint
            && let Located::Revision(revision, checkpoint) = locate(name, repository, choice)?
        {
            if let Some(other) = &version.revision {
                return Err(Error::msg(format!(
                    "the checkpoint is the revision '{revision}' of {repository}, and the revision '{other}' is asked for \
                     too; leave one of the two out"
                )));
            }
            (wanted.revision, wanted.checkpoint, wanted.version.checkpoint) = (revision, Some(checkpoint), None);
        }
        if !is_revision(&wanted.revision) {
            return Err(Error::msg(format!(
                "'{}' can't be a revision: a branch, a tag or a commit was expected",
                wanted.revision
            )));
        }
        Ok(wanted)
    }

    /// The model in the cache, if the cache has anything of it.
    fn cached(&self, settings: &HubSettings) -> Option<Result<ModelFiles>> {
        // Models that came before owners did are cached under the bare name if they were asked for by it.
        let bare =
            self.repository.rsplit('/').next().filter(|_| {
                ["openai-community/", "distilbert/"].iter().any(|owner| self.repository.starts_with(owner))
            });
        let repositories = [Some(self.repository), bare].into_iter().flatten();
        let snapshots = repositories.filter_map(|repository| snapshot(repository, &self.revision, &settings.cache));
        let mut found = snapshots.map(|folder| pick_version(self.name, &folder, &self.version, false));
        let first = found.next()?;
        // The first that is whole, else what is wrong with the first.
        Some(if first.is_ok() { first } else { found.find(Result::is_ok).unwrap_or(first) })
    }

    fn not_cached(&self, settings: &HubSettings) -> Error {
        unknown(
            self.name,
            format!(
                "it is no bundled model ({}), no folder, and {} (revision {}) is not in the hub's cache {}; the network was \
                 not asked, because HF_HUB_OFFLINE is set: unset it, or give a bundled name or a folder",
                bundled_list(),
                self.repository,
                self.revision,
                settings.cache.display(),
            ),
        )
    }

    fn download(&self, settings: &HubSettings) -> Result<ModelFiles> {
        let top = Repository::open(self.name, self.repository, &self.revision, settings)?;
        let place = top.inside(&self.version.prefix());
        let mut files = match self.version.checkpoint {
            Some(choice) => pick_checkpoint(self.name, &place, &place.names, true, choice)?,
            None => pick(self.name, &place)?,
        };
        if files.tokenizer.is_none() && self.version.subfolder.is_some() {
            add_tokenizer(&mut files, &top)?;
        }
        Ok(files)
    }
}

fn is_revision(revision: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '+');
    revision.starts_with(|c: char| c.is_ascii_alphanumeric())
        && revision.chars().all(allowed)
        && !revision.contains("..")
}

/// The cache's folder of a repository at a revision, which is a commit or a name that refers to one.
fn snapshot(repository: &str, revision: &str, cache: &Path) -> Option<PathBuf> {
    let folder = cache.join(Repo::model(repository.to_string()).folder_name());
    let commit = std::fs::read_to_string(folder.join("refs").join(revision)).unwrap_or_else(|_| revision.to_string());
    let snapshot = folder.join("snapshots").join(commit.trim());
    snapshot.is_dir().then_some(snapshot)
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

/// A repository, or a folder in one, that can be downloaded from.
struct Repository {
    origin: String,
    /// What comes before every name: `""`, or `folder/`.
    prefix: String,
    names: Vec<String>,
    api: Arc<ApiRepo>,
    cache: Arc<CacheRepo>,
    progress: Progress,
}

impl Repository {
    /// Asks the hub what a model's repository has.
    fn open(name: &str, repository: &str, revision: &str, settings: &HubSettings) -> Result<Self> {
        let failed = |error: ApiError| refused(name, repository, revision, settings, &error);
        Self::connect(repository, revision, settings)?.map_err(failed)
    }

    /// Asks the hub what a repository has; the inner error is the hub's.
    fn connect(
        repository: &str,
        revision: &str,
        settings: &HubSettings,
    ) -> Result<std::result::Result<Self, ApiError>> {
        let cache = Cache::new(settings.cache.clone());
        let mut builder = ApiBuilder::from_cache(cache.clone()).with_token(settings.token.clone()).with_progress(false);
        if let Some(endpoint) = &settings.endpoint {
            if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
                return Err(Error::msg(format!(
                    "HF_ENDPOINT is '{endpoint}', and http://.. or https://.. was expected"
                )));
            }
            builder = builder.with_endpoint(endpoint.clone());
        }
        let api = match builder.build() {
            Ok(api) => api,
            Err(error) => return Ok(Err(error)),
        };
        let repo = Repo::with_revision(repository.to_string(), RepoType::Model, revision.to_string());
        let (api, cache) = (Arc::new(api.repo(repo.clone())), Arc::new(cache.repo(repo)));
        let asked = api.clone();
        let info = match waiting(move || asked.info(), || {})? {
            Ok(info) => info,
            Err(error) => return Ok(Err(error)),
        };
        let names = info.siblings.into_iter().map(|file| file.rfilename).collect();
        let progress = settings.progress.clone();
        Ok(Ok(Self { origin: origin(repository, revision), prefix: String::new(), names, api, cache, progress }))
    }

    /// What lies below a folder.
    fn inside(&self, prefix: &str) -> Self {
        let names = self.names.iter().filter_map(|name| name.strip_prefix(prefix)).map(str::to_string).collect();
        let origin = match prefix {
            "" => self.origin.clone(),
            _ => format!("the folder {prefix} of {}", self.origin),
        };
        let (api, cache, progress) = (self.api.clone(), self.cache.clone(), self.progress.clone());
        Self { origin, prefix: prefix.to_string(), names, api, cache, progress }
    }
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
        let path = format!("{}{name}", self.prefix);
        if let Some(there) = self.cache.get(&path) {
            return Ok(there);
        }
        download(&self.api, &path, &self.progress)?
            .map_err(|error| Error::msg(format!("{name} of {} can't be fetched: {error}", self.origin)))
    }
}
