//! Customary names of published SAEs, as SAELens' pretrained_saes.yaml has them (version 6.18), and where they are.

use super::Sae;
use crate::error::near_misses;
use crate::{Error, Result};

/// Where an SAE is on the hub.
#[derive(Debug, PartialEq)]
pub(super) struct Place {
    pub repository: String,
    pub folder: String,
    pub neuronpedia_id: Option<String>,
}

/// One release: its name, its repository, the id of each SAE, its folder, and its id on Neuronpedia. `{L}` is the layer.
struct Release(&'static str, &'static str, &'static str, &'static str, &'static str);

const RELEASES: &[Release] = &[
    Release(
        "gpt2-small-res-jb",
        "jbloom/GPT2-Small-SAEs-Reformatted",
        "blocks.{L}.hook_resid_pre",
        "blocks.{L}.hook_resid_pre",
        "gpt2-small/{L}-res-jb",
    ),
    Release(
        "gpt2-small-resid-post-v5-32k",
        "jbloom/GPT2-Small-OAI-v5-32k-resid-post-SAEs",
        "blocks.{L}.hook_resid_post",
        "v5_32k_layer_{L}.pt",
        "gpt2-small/{L}-res_post_32k-oai",
    ),
    Release(
        "gpt2-small-resid-post-v5-128k",
        "jbloom/GPT2-Small-OAI-v5-128k-resid-post-SAEs",
        "blocks.{L}.hook_resid_post",
        "v5_128k_layer_{L}",
        "gpt2-small/{L}-res_post_128k-oai",
    ),
    Release(
        "gpt2-small-resid-mid-v5-32k",
        "jbloom/GPT2-Small-OAI-v5-32k-resid-mid-SAEs",
        "blocks.{L}.hook_resid_mid",
        "v5_32k_layer_{L}",
        "gpt2-small/{L}-res_mid_32k-oai",
    ),
    Release(
        "gpt2-small-attn-out-v5-32k",
        "jbloom/GPT2-Small-OAI-v5-32k-attn-out-SAEs",
        "blocks.{L}.hook_attn_out",
        "v5_32k_layer_{L}",
        "gpt2-small/{L}-att_32k-oai",
    ),
    Release(
        "gpt2-small-mlp-out-v5-32k",
        "jbloom/GPT2-Small-OAI-v5-32k-mlp-out-SAEs",
        "blocks.{L}.hook_mlp_out",
        "v5_32k_layer_{L}",
        "gpt2-small/{L}-mlp_32k-oai",
    ),
    Release(
        "pythia-70m-deduped-res-sm",
        "ctigges/pythia-70m-deduped__res-sm_processed",
        "blocks.{L}.hook_resid_post",
        "{L}-res-sm",
        "pythia-70m-deduped/{L}-res-sm",
    ),
    Release(
        "pythia-70m-deduped-mlp-sm",
        "ctigges/pythia-70m-deduped__mlp-sm_processed",
        "blocks.{L}.hook_mlp_out",
        "{L}-mlp-sm",
        "pythia-70m-deduped/{L}-mlp-sm",
    ),
    Release(
        "mistral-7b-res-wg",
        "JoshEngels/Mistral-7B-Residual-Stream-SAEs",
        "blocks.{L}.hook_resid_pre",
        "mistral_7b_layer_{L}",
        "",
    ),
    Release(
        "gemma-2b-it-res-jb",
        "jbloom/Gemma-2b-IT-Residual-Stream-SAEs",
        "blocks.{L}.hook_resid_post",
        "gemma_2b_it_blocks.{L}.hook_resid_post_16384",
        "gemma-2b-it/{L}-res-jb",
    ),
];

/// Gemma Scope's releases are repositories of Google's; an id is the folder.
const GEMMA_SCOPE: &[&str] = &[
    "gemma-scope-2b-pt-res",
    "gemma-scope-2b-pt-mlp",
    "gemma-scope-2b-pt-att",
    "gemma-scope-2b-pt-transcoders",
    "gemma-scope-9b-pt-res",
    "gemma-scope-9b-pt-mlp",
    "gemma-scope-9b-pt-att",
    "gemma-scope-9b-it-res",
    "gemma-scope-27b-pt-res",
];

/// The SAEs of Gemma 2 2B that are called canonical, which Neuronpedia has: kind, width, L0 of each layer.
const CANONICAL: &[(&str, &str, &[usize])] = &[
    (
        "res",
        "16k",
        &[105, 102, 141, 59, 124, 68, 70, 69, 71, 73, 77, 80, 82, 84, 84, 78, 78, 77, 74, 73, 71, 70, 72, 75, 73, 116],
    ),
    (
        "res",
        "65k",
        &[
            73, 121, 77, 89, 89, 105, 107, 107, 111, 118, 128, 70, 72, 75, 73, 127, 128, 125, 116, 115, 114, 111, 116,
            123, 124, 93,
        ],
    ),
    (
        "mlp",
        "16k",
        &[
            119, 105, 95, 95, 85, 114, 133, 60, 136, 88, 110, 98, 108, 112, 97, 80, 72, 68, 106, 109, 109, 113, 121,
            128, 73, 126,
        ],
    ),
    (
        "att",
        "16k",
        &[
            104, 79, 93, 117, 116, 135, 61, 99, 129, 127, 70, 80, 85, 92, 71, 98, 71, 79, 72, 122, 62, 65, 106, 73, 96,
            77,
        ],
    ),
];

impl Sae {
    /// The names of releases that [`from_pretrained`](Self::from_pretrained) knows, and the form of their ids.
    pub fn releases() -> Vec<(String, String)> {
        let named = RELEASES.iter().map(|release| (release.0.to_string(), release.2.replace("{L}", "<layer>")));
        let scope = GEMMA_SCOPE
            .iter()
            .map(|name| (name.to_string(), "layer_<layer>/width_<width>/average_l0_<l0>".to_string()));
        let kinds = ["res", "mlp", "att"];
        let canonical =
            kinds.iter().map(|kind| (canonical_name(kind), "layer_<layer>/width_16k/canonical".to_string()));
        named.chain(scope).chain(canonical).collect()
    }
}

fn canonical_name(kind: &str) -> String {
    format!("gemma-scope-2b-pt-{kind}-canonical")
}

/// The place of an SAE: of a release by name, or of a repository `owner/name`.
pub(super) fn find(name: &str, id: &str) -> Result<Place> {
    if name.contains('/') {
        let (repository, folder) = (name.to_string(), id.to_string());
        return Ok(Place { repository, folder, neuronpedia_id: None });
    }
    if let Some(release) = RELEASES.iter().find(|release| release.0 == name) {
        return in_release(release, id);
    }
    if GEMMA_SCOPE.contains(&name) {
        let repository = format!("google/{name}");
        return Ok(Place { repository, folder: id.to_string(), neuronpedia_id: None });
    }
    if let Some(kind) = ["res", "mlp", "att"].into_iter().find(|kind| canonical_name(kind) == name) {
        return canonical(kind, id);
    }
    let known: Vec<String> = Sae::releases().into_iter().map(|(name, _)| name).collect();
    let near = near_misses(name, known.iter().map(String::as_str));
    let hint = if near.is_empty() { String::new() } else { format!("; did you mean '{}'?", near.join("' or '")) };
    Err(Error::msg(format!(
        "there is no release of SAEs named '{name}'{hint}; known are {}, and every repository owner/name on the hub",
        known.join(", ")
    )))
}

fn in_release(Release(name, repository, ids, folders, neuronpedia): &Release, id: &str) -> Result<Place> {
    // The end of the last layer goes on the count of the stream's places.
    if (*name, id) == ("gpt2-small-res-jb", "blocks.11.hook_resid_post") {
        let neuronpedia_id = Some("gpt2-small/12-res-jb".to_string());
        return Ok(Place { repository: repository.to_string(), folder: id.to_string(), neuronpedia_id });
    }
    let layer = ids.split_once("{L}").and_then(|(before, after)| id.strip_prefix(before)?.strip_suffix(after));
    let Some(layer) = layer.filter(|layer| layer.parse::<usize>().is_ok()) else {
        return Err(Error::msg(format!(
            "the release '{name}' has no SAE '{id}'; its ids are {}",
            ids.replace("{L}", "<layer>")
        )));
    };
    let filled = |form: &str| form.replace("{L}", layer);
    Ok(Place {
        repository: repository.to_string(),
        folder: filled(folders),
        neuronpedia_id: Some(filled(neuronpedia)).filter(|id| !id.is_empty()),
    })
}

fn canonical(kind: &str, id: &str) -> Result<Place> {
    let parts: Vec<&str> = id.split('/').collect();
    let found = match parts[..] {
        [layer, width, "canonical"] => layer.strip_prefix("layer_").and_then(|layer| {
            let (layer, width) = (layer.parse::<usize>().ok()?, width.strip_prefix("width_")?);
            let (.., l0) = CANONICAL.iter().find(|entry| (entry.0, entry.1) == (kind, width))?;
            Some((layer, width, *l0.get(layer)?))
        }),
        _ => None,
    };
    let Some((layer, width, l0)) = found else {
        return Err(Error::msg(format!(
            "'{id}' is no id of {} that candlescope knows: layer_<0 to 25>/width_16k/canonical was expected; the other \
             SAEs have folders such as layer_20/width_16k/average_l0_71 in gemma-scope-2b-pt-{kind}",
            canonical_name(kind)
        )));
    };
    Ok(Place {
        repository: format!("google/gemma-scope-2b-pt-{kind}"),
        folder: format!("layer_{layer}/width_{width}/average_l0_{l0}"),
        neuronpedia_id: Some(format!("gemma-2-2b/{layer}-gemmascope-{kind}-{width}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn customary_names_have_a_place() {
        let place = find("gpt2-small-res-jb", "blocks.8.hook_resid_pre").unwrap();
        assert_eq!((place.repository.as_str(), place.folder.as_str()), (RELEASES[0].1, "blocks.8.hook_resid_pre"));
        assert_eq!(place.neuronpedia_id.as_deref(), Some("gpt2-small/8-res-jb"));
        let place = find("gemma-scope-2b-pt-res-canonical", "layer_20/width_16k/canonical").unwrap();
        assert_eq!(place.folder, "layer_20/width_16k/average_l0_71");
        assert_eq!(place.neuronpedia_id.as_deref(), Some("gemma-2-2b/20-gemmascope-res-16k"));
        assert_eq!(
            find("gemma-scope-9b-pt-mlp", "layer_0/width_16k/average_l0_6").unwrap().repository,
            "google/gemma-scope-9b-pt-mlp"
        );
        assert!(CANONICAL.iter().all(|(.., l0)| l0.len() == 26));
    }

    #[test]
    fn unknown_names_are_sentences() {
        let error = |name: &str, id: &str| find(name, id).unwrap_err().to_string();
        assert!(error("gpt2-small-resjb", "x").contains("did you mean 'gpt2-small-res-jb'"));
        assert!(error("gpt2-small-res-jb", "layer 8").contains("blocks.<layer>.hook_resid_pre"));
        assert!(error("gemma-scope-2b-pt-res-canonical", "layer_26/width_16k/canonical").contains("0 to 25"));
    }
}
