//! [`HubSettings`]: where the hub's cache is, and whether and how the network may be asked.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use crate::{Error, Progress, Result};

/// How models are found on the hub.
#[derive(Clone)]
pub struct HubSettings {
    /// The folder with `models--owner--name` folders in it.
    pub cache: PathBuf,
    /// Another server than the usual hub.
    pub endpoint: Option<String>,
    /// A token for gated and private models.
    pub token: Option<String>,
    /// Use only what the cache has; never ask the network.
    pub offline: bool,
    /// Who hears how far a download is.
    pub progress: Progress,
}

impl HubSettings {
    /// The settings that Hugging Face's own tools would take from the environment.
    ///
    /// | variable | meaning |
    /// |---|---|
    /// | `HF_HOME` | the folder that holds the cache (`hub/`) and the file `token`; else `~/.cache/huggingface` |
    /// | `HF_HUB_CACHE` | the cache itself, if it lies elsewhere |
    /// | `HF_TOKEN` | the token for gated and private models, before the file `token` |
    /// | `HF_ENDPOINT` | another server |
    /// | `HF_HUB_OFFLINE` | `1`, `true`, `yes` or `on`: only the cache |
    ///
    /// # Errors
    /// No home folder while none of the first two is set.
    pub fn from_env() -> Result<Self> {
        Self::from_lookup(|name| std::env::var_os(name), std::env::home_dir)
    }

    /// Only what `cache` has; never the network.
    pub fn offline(cache: impl Into<PathBuf>) -> Self {
        Self { cache: cache.into(), endpoint: None, token: None, offline: true, progress: Progress::default() }
    }

    fn from_lookup(
        variable: impl Fn(&str) -> Option<OsString>,
        user_home: impl Fn() -> Option<PathBuf>,
    ) -> Result<Self> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| set(name).map(|value| value.to_string_lossy().trim().to_string());
        let home = set("HF_HOME").map(PathBuf::from).or_else(|| {
            let caches = set("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| Some(user_home()?.join(".cache")))?;
            Some(caches.join("huggingface"))
        });
        let cache = set("HF_HUB_CACHE").map(PathBuf::from).or_else(|| Some(home.as_ref()?.join("hub")));
        let cache = cache.ok_or_else(|| {
            Error::msg("no home folder was found for the hub's cache; set HF_HOME to a folder for it")
        })?;
        let stored = || std::fs::read_to_string(home.as_ref()?.join("token")).ok();
        let token = text("HF_TOKEN").or_else(stored).map(|token| token.trim().to_string());
        let offline = text("HF_HUB_OFFLINE").is_some_and(|value| is_on(&value));
        Ok(Self {
            cache: std::path::absolute(&cache).map_err(|error| Error::io(&cache, error))?,
            endpoint: text("HF_ENDPOINT").map(|endpoint| endpoint.trim_end_matches('/').to_string()),
            token: token.filter(|token| !token.is_empty()),
            offline,
            progress: Progress::default(),
        })
    }
}

/// Whether a variable that is a switch is on.
pub(crate) fn is_on(value: &str) -> bool {
    ["1", "true", "yes", "on"].contains(&value.to_lowercase().as_str())
}

impl fmt::Debug for HubSettings {
    /// Never shows the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubSettings")
            .field("cache", &self.cache)
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "(set)"))
            .field("offline", &self.offline)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> HubSettings {
        let get = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value));
        HubSettings::from_lookup(get, || Some(std::env::temp_dir().join("no-such-home"))).unwrap()
    }

    #[test]
    fn the_environment_is_read_as_hugging_face_does() {
        let base = std::env::temp_dir();
        let plain = settings(&[]);
        assert_eq!(plain.cache, base.join("no-such-home").join(".cache").join("huggingface").join("hub"));
        assert!(!plain.offline && plain.token.is_none() && plain.endpoint.is_none());

        let home = base.join("some").display().to_string();
        let set = settings(&[
            ("HF_HOME", &home),
            ("HF_TOKEN", " secret\n"),
            ("HF_ENDPOINT", "http://127.0.0.1:1/"),
            ("HF_HUB_OFFLINE", "TRUE"),
        ]);
        assert_eq!(set.cache, base.join("some").join("hub"));
        assert_eq!(set.token.as_deref(), Some("secret"));
        assert_eq!(set.endpoint.as_deref(), Some("http://127.0.0.1:1"));
        assert!(set.offline);
        assert!(!format!("{set:?}").contains("secret"));
        assert!(!settings(&[("HF_HUB_OFFLINE", "0")]).offline);
        assert_eq!(settings(&[("HF_HUB_CACHE", &home)]).cache, base.join("some"));
    }

    #[test]
    fn no_home_is_a_sentence() {
        let error = HubSettings::from_lookup(|_| None, || None).unwrap_err().to_string();
        assert!(error.contains("HF_HOME"), "{error}");
    }
}
