//! Fetching the explanations of a source from Neuronpedia's exports, which lie in a public bucket.

use std::path::PathBuf;

use super::cache::CacheFile;
use super::export::{batch, check};
use super::http::Request;
use super::id::quoted;
use super::{Export, Labels, Neuronpedia, SourceId};
use crate::{Error, Result, interrupt};

/// The exports' version.
const VERSION: &str = "v1";
const EXPLANATIONS: &str = "explanations";
/// What the cache calls the names of the files that an export has.
const LISTING: &str = "explanations.json";
/// The largest list and the largest file that are read.
const LIST_LIMIT: u64 = 8 << 20;
const FILE_LIMIT: u64 = 256 << 20;
/// How many pages a list has at most, of a thousand names each.
const PAGES: usize = 100;

impl Neuronpedia {
    /// What all features of a source are said to mean, from its export: a few files instead of a request for each
    /// feature.
    ///
    /// # Errors
    /// As [`Neuronpedia::download_export`] and [`Export::labels`].
    pub fn labels(&self, source: &SourceId) -> Result<Labels> {
        self.download_export(source)?.labels()
    }

    /// Fetches the explanations of a source and keeps them; what was fetched before is not fetched again.
    ///
    /// # Errors
    /// A source that has no export; a server that can't be reached, is too slow or busy for too long; files that are
    /// damaged there; no network allowed while the cache lacks a file; a cache that can't be written; an interrupt.
    pub fn download_export(&self, source: &SourceId) -> Result<Export> {
        let names = self.explanation_files(source)?;
        let meter = self.progress.start(format!("explanations of {source}"), "files");
        let mut files = Vec::with_capacity(names.len());
        for name in &names {
            interrupt::check()?;
            files.push(self.explanation_file(source, name)?);
            meter.at(files.len(), Some(files.len() as f64 / names.len() as f64));
        }
        meter.finish(files.len());
        let root = files.first().and_then(|file| file.parent()).map(PathBuf::from).unwrap_or_default();
        Ok(Export::of(root, files).progress(&self.progress))
    }

    /// One file, from the cache if it is whole there.
    fn explanation_file(&self, source: &SourceId, name: &str) -> Result<PathBuf> {
        let place = [VERSION, source.model(), source.source(), EXPLANATIONS, name];
        let file = self.export_cache(&place)?;
        let path = file.path().to_path_buf();
        let whole = || match check(&path) {
            Err(error) if error.is_interrupt() => Err(error),
            checked => Ok(checked.is_ok()),
        };
        if !self.refresh && path.is_file() && whole()? {
            return Ok(path);
        }
        let request = Request {
            url: format!("{}/{VERSION}/{source}/{EXPLANATIONS}/{name}", self.exports),
            body: None,
            limit: FILE_LIMIT,
            what: format!("the file {name} of the export of {source}"),
            missing: "the export may have changed: ask anew with .refresh()".to_string(),
            slow: true,
        };
        let body = self.ask_exports(&request)?;
        if !file.write(&body) {
            return Err(Error::msg(format!(
                "{} can't be written; free some space, or name another folder with .cache_dir(..)",
                path.display()
            )));
        }
        check(&path)?;
        Ok(path)
    }

    /// The names of a source's files of explanations, batch by batch.
    fn explanation_files(&self, source: &SourceId) -> Result<Vec<String>> {
        let kept = self.export_cache(&[VERSION, source.model(), source.source(), LISTING])?;
        let read = |bytes: Vec<u8>| serde_json::from_slice::<Vec<String>>(&bytes).ok();
        if !self.refresh
            && let Some(names) = kept.read(LIST_LIMIT).and_then(read)
            && !names.is_empty()
            && names.iter().all(|name| is_batch(name))
        {
            return Ok(names);
        }
        let names = self.list(source)?;
        if names.is_empty() {
            return Err(Error::msg(format!(
                "{} has no explanations of {source}: check the names on {}; not every source was explained",
                self.exports,
                source.url()
            )));
        }
        if let Ok(json) = serde_json::to_vec(&names) {
            kept.write(&json);
        }
        Ok(names)
    }

    fn list(&self, source: &SourceId) -> Result<Vec<String>> {
        let prefix = format!("{VERSION}/{source}/{EXPLANATIONS}/");
        let what = format!("the list of explanations of {source}");
        let (mut names, mut token) = (Vec::new(), None);
        for _ in 0..PAGES {
            let more =
                token.map_or_else(String::new, |token: String| format!("&continuation-token={}", encoded(&token)));
            let request = Request {
                url: format!("{}/?list-type=2&prefix={}{more}", self.exports, encoded(&prefix)),
                body: None,
                limit: LIST_LIMIT,
                what: what.clone(),
                missing: "check the address of the exports, .exports_url(..)".to_string(),
                slow: false,
            };
            let body = self.ask_exports(&request)?;
            let page = String::from_utf8_lossy(&body);
            if !page.contains("<ListBucketResult") {
                return Err(Error::msg(format!(
                    "{} answered something else than {what}: {}. Try again later",
                    self.exports,
                    quoted(&page)
                )));
            }
            let keys = elements(&page, "Key").filter_map(|key| key.strip_prefix(&prefix).map(str::to_string));
            names.extend(keys.filter(|name| is_batch(name)));
            token = elements(&page, "NextContinuationToken").next().filter(|token| !token.is_empty());
            if token.is_none() {
                break;
            }
        }
        names.sort_by_key(|name| (batch(name.as_ref()), name.clone()));
        names.dedup();
        Ok(names)
    }

    /// The key is not for where the exports lie.
    fn ask_exports(&self, request: &Request) -> Result<Vec<u8>> {
        self.ask(request, "")
    }

    fn export_cache(&self, place: &[&str]) -> Result<CacheFile> {
        self.cache.file(&self.exports, place).ok_or_else(|| {
            Error::msg("an export needs a folder, and this user has no cache folder; name one with .cache_dir(..)")
        })
    }
}

/// A name that is a batch's, and nothing that leads elsewhere.
fn is_batch(name: &str) -> bool {
    let digits = name.strip_prefix("batch-").and_then(|rest| rest.split('.').next());
    batch(name.as_ref()).is_some() && digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The texts of the elements of this name in a flat list of XML.
fn elements<'a>(xml: &'a str, name: &str) -> impl Iterator<Item = String> + use<'a> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut rest = xml;
    std::iter::from_fn(move || {
        let from = rest.find(&open)? + open.len();
        let to = from + rest[from..].find(&close)?;
        let text = rest[from..to].replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
        rest = &rest[to..];
        Some(text.replace("&#39;", "'").replace("&apos;", "'").replace("&amp;", "&"))
    })
}

/// A text within the query of an address.
fn encoded(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    text.bytes().map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read() {
        let xml = "<ListBucketResult><Contents><Key>v1/a&amp;b</Key></Contents><Contents><Key>c</Key></Contents>";
        assert_eq!(elements(xml, "Key").collect::<Vec<_>>(), ["v1/a&b", "c"]);
        assert_eq!(elements("<Key>open", "Key").count(), 0);
        assert_eq!(encoded("v1/x+y=é"), "v1%2Fx%2By%3D%C3%A9");
    }

    #[test]
    fn only_batches_are_names() {
        assert!(is_batch("batch-0.jsonl.gz") && is_batch("batch-12.jsonl"));
        for bad in ["batch-.jsonl", "batch-1", "../batch-1.jsonl", "batch-1/../x.jsonl", "batch-+1.jsonl", "x.jsonl"] {
            assert!(!is_batch(bad), "{bad}");
        }
    }
}
