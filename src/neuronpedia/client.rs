//! [`Neuronpedia`]: who to ask, how patiently, and where the answers are kept.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::cache::Cache;
use super::http::{Http, Request};
use super::id::SITE;
use super::{FeatureId, FeatureInfo};
use crate::{Error, Progress, Result, hub, interrupt};

/// Where the exports lie.
const EXPORTS: &str = "https://neuronpedia-datasets.s3.us-east-1.amazonaws.com";
/// The largest answer that is read: features have some hundred kilobytes.
const LIMIT: u64 = 32 << 20;

/// A client of Neuronpedia: labels and dashboards of features, searches, exports. What was fetched once is kept on disk
/// and not asked for again.
///
/// ```no_run
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let neuronpedia = Neuronpedia::from_env();
/// let source = SourceId::at("gpt2", 8, "res-jb")?;
/// let feature = neuronpedia.feature(&source.feature(123))?;
/// println!("{:?}", feature.label());
/// let labels = neuronpedia.labels(&source)?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Neuronpedia {
    pub(super) base: String,
    pub(super) exports: String,
    pub(super) offline: bool,
    pub(super) refresh: bool,
    pub(super) cache: Cache,
    pub(super) progress: Progress,
    pub(super) http: Http,
}

impl Default for Neuronpedia {
    fn default() -> Self {
        Self::new()
    }
}

impl Neuronpedia {
    /// The public site, without a key; answers are kept in the user's cache folder.
    pub fn new() -> Self {
        Self {
            base: SITE.to_string(),
            exports: EXPORTS.to_string(),
            offline: false,
            refresh: false,
            cache: Cache::at(dirs::cache_dir().map(|folder| folder.join("candlescope").join("neuronpedia"))),
            progress: Progress::default(),
            http: Http::default(),
        }
    }

    /// As the environment says.
    ///
    /// | variable | meaning |
    /// |---|---|
    /// | `NEURONPEDIA_API_KEY` | the key, which raises what the site allows; most requests need none |
    /// | `NEURONPEDIA_BASE_URL` | another address than `https://www.neuronpedia.org`, such as that of a server of your own |
    /// | `CANDLESCOPE_CACHE` | a folder in the place of the user's cache folder; answers are kept in its folder `neuronpedia` |
    /// | `HF_HUB_OFFLINE` | `1`, `true`, `yes` or `on`: only what was fetched before |
    pub fn from_env() -> Self {
        Self::from_lookup(|name| std::env::var_os(name))
    }

    fn from_lookup(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| set(name).map(|value| value.to_string_lossy().trim().to_string());
        let mut client = Self::new();
        if let Some(key) = text("NEURONPEDIA_API_KEY") {
            client = client.api_key(key);
        }
        if let Some(url) = text("NEURONPEDIA_BASE_URL") {
            client = client.base_url(url);
        }
        if let Some(folder) = set("CANDLESCOPE_CACHE") {
            client = client.cache_dir(PathBuf::from(folder).join("neuronpedia"));
        }
        if text("HF_HUB_OFFLINE").is_some_and(|value| hub::is_on(&value)) {
            client = client.offline();
        }
        client
    }

    /// Another address than the public site's, such as `http://localhost:3000`.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base = url.into().trim().trim_end_matches('/').to_string();
        self
    }

    /// Another address of the exports than that of the public ones.
    pub fn exports_url(mut self, url: impl Into<String>) -> Self {
        self.exports = url.into().trim().trim_end_matches('/').to_string();
        self
    }

    /// Where answers are kept.
    pub fn cache_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cache = Cache::at(Some(folder.into()));
        self
    }

    /// The key, sent to the site and to nobody else. It is never shown, and never written to disk.
    pub fn api_key(mut self, key: impl Into<String>) -> Self {
        self.http.key = Some(key.into().trim().to_string()).filter(|key| !key.is_empty());
        self
    }

    /// Only what was fetched before; never the network.
    pub fn offline(mut self) -> Self {
        self.offline = true;
        self
    }

    /// Asks anew for what was fetched before, and keeps the new answer.
    pub fn refresh(mut self) -> Self {
        self.refresh = true;
        self
    }

    /// How long one answer may take (30 s). A file of an export may take ten times as long.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.http.timeout = timeout;
        self
    }

    /// The least time between two requests (0.1 s), also between those of clones of this client.
    pub fn min_interval(mut self, interval: Duration) -> Self {
        self.http.min_interval = interval;
        self
    }

    /// How long to wait, in all, for a server that says that it is asked too often or is busy (60 s).
    pub fn patience(mut self, patience: Duration) -> Self {
        self.http.patience = patience;
        self
    }

    /// Who hears how far a piece of work is.
    pub fn progress(mut self, progress: &Progress) -> Self {
        self.progress = progress.clone();
        self
    }

    /// A feature's dashboard.
    ///
    /// # Errors
    /// A feature that is not there; a server that can't be reached, is too slow, busy for too long, or answers with
    /// something else; no network allowed while the cache lacks the feature; an interrupt.
    pub fn feature(&self, id: &FeatureId) -> Result<FeatureInfo> {
        let read = |body: &[u8]| {
            let json = serde_json::from_slice(body).map_err(|error| error.to_string())?;
            match FeatureInfo::read(&json) {
                Some(info) if info.id == *id => Ok(info),
                Some(info) => Err(format!("it is about {}", info.id)),
                None => Err("it does not say which feature it is about".to_string()),
            }
        };
        let place = ["feature", id.model(), id.source(), &format!("{}.json", id.index())];
        let request = Request {
            url: format!("{}/api/feature/{id}", self.base),
            body: None,
            limit: LIMIT,
            what: format!("the feature {id}"),
            missing: format!(
                "check the names on {}: the model ('gpt2-small'), the source ('8-res-jb') and the number",
                id.source_id().url()
            ),
            slow: false,
        };
        self.kept(&place, &request, read)
    }

    /// The dashboards of several features, one request each; those that were fetched before need none.
    ///
    /// # Errors
    /// As [`Neuronpedia::feature`], for the first one that fails; what came before it is kept.
    pub fn features(&self, ids: &[FeatureId]) -> Result<Vec<FeatureInfo>> {
        let meter = self.progress.start("features from Neuronpedia", "features");
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            interrupt::check()?;
            found.push(self.feature(id)?);
            meter.at(found.len(), Some(found.len() as f64 / ids.len() as f64));
        }
        meter.finish(found.len());
        Ok(found)
    }

    /// What the cache has at a place, or else what the server answers, which is kept there. What can't be read in the
    /// cache is asked for again.
    pub(super) fn kept<T>(
        &self,
        place: &[&str],
        request: &Request,
        read: impl Fn(&[u8]) -> std::result::Result<T, String>,
    ) -> Result<T> {
        let file = self.cache.file(&self.base, place);
        if !self.refresh
            && let Some(value) = file.as_ref().and_then(|file| read(&file.read(request.limit)?).ok())
        {
            return Ok(value);
        }
        let body = self.ask(request, &self.base)?;
        let value = read(&body).map_err(|why| {
            Error::msg(format!(
                "{} answered something else than {}: {why}. Try again later, or report it",
                self.base, request.what
            ))
        })?;
        // An answer that repeats the key stays out of the cache.
        if let Some(file) = file.filter(|_| !self.http.repeats_key(&body)) {
            file.write(&body);
        }
        Ok(value)
    }

    /// What the server answers; the key goes to `key_host` alone.
    pub(super) fn ask(&self, request: &Request, key_host: &str) -> Result<Vec<u8>> {
        if self.offline {
            let kept = self.cache.describe();
            return Err(Error::msg(format!(
                "{} is not in the cache of Neuronpedia's answers ({kept}), and the network was not asked, because the client \
                 is offline (HF_HUB_OFFLINE, or .offline()): allow the network once, or open an export with \
                 Export::open(..)",
                request.what
            )));
        }
        self.http.ask(request, key_host)
    }
}

impl fmt::Debug for Neuronpedia {
    /// Never shows the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Neuronpedia")
            .field("base_url", &self.base)
            .field("exports_url", &self.exports)
            .field("cache", &self.cache.describe())
            .field("api_key", &self.http.key.as_ref().map(|_| "(set)"))
            .field("offline", &self.offline)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_read() {
        let client = |variables: &'static [(&str, &str)]| {
            let get = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value));
            Neuronpedia::from_lookup(get)
        };
        let plain = client(&[("NEURONPEDIA_API_KEY", ""), ("HF_HUB_OFFLINE", "0")]);
        assert_eq!((plain.base.as_str(), plain.offline, &plain.http.key), (SITE, false, &None));
        let set = client(&[
            ("NEURONPEDIA_API_KEY", " sk-np-secret\n"),
            ("NEURONPEDIA_BASE_URL", "http://127.0.0.1:1/"),
            ("CANDLESCOPE_CACHE", "some"),
            ("HF_HUB_OFFLINE", "TRUE"),
        ]);
        assert_eq!((set.base.as_str(), set.offline), ("http://127.0.0.1:1", true));
        assert_eq!(set.http.key.as_deref(), Some("sk-np-secret"));
        let shown = format!("{set:?}");
        assert!(shown.contains("some") && shown.contains("(set)") && !shown.contains("secret"), "{shown}");
    }
}
