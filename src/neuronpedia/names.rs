//! What Neuronpedia calls the models, and the sets of sources that they customarily have there.

use super::id::SourceId;
use crate::{Result, hub};

/// A model that Neuronpedia has sources for.
struct Known {
    /// Neuronpedia's name.
    id: &'static str,
    /// Its repository on the hub.
    repository: &'static str,
    /// Sets of sources, the usual one first.
    sets: &'static [&'static str],
}

/// Neuronpedia's name of a model: of `gpt2` it is `gpt2-small`, of `meta-llama/Llama-3.1-8B-Instruct` `llama3.1-8b-it`.
///
/// A model that this library does not know on Neuronpedia gets its bare name in small letters, which is what most of
/// them have there.
///
/// # Errors
/// When the name can't be one on Neuronpedia.
pub fn model_id(model: &str) -> Result<String> {
    let model = model.trim();
    if let Some(known) = find(model) {
        return Ok(known.id.to_string());
    }
    // Each part is checked as a model's name, whatever the source, so that a path is none.
    let checked = |part: &str| Ok(SourceId::new(part.to_lowercase(), "0")?.model().to_string());
    let repository = hub::repository(model);
    let bare = match repository.split_once('/') {
        Some((owner, bare)) => checked(owner).map(|_: String| bare)?,
        None => repository,
    };
    checked(bare)
}

/// The sets of sources that a model customarily has on Neuronpedia, the usual one first; empty where none is known to
/// this library. The site has more of them, and grows.
///
/// ```
/// use candlescope::neuronpedia::source_sets;
/// assert_eq!(source_sets("gpt2")[0], "res-jb");
/// assert!(source_sets("google/gemma-2-2b").contains(&"gemmascope-res-65k"));
/// ```
pub fn source_sets(model: &str) -> &'static [&'static str] {
    find(model.trim()).map_or(&[], |known| known.sets)
}

/// By Neuronpedia's own name, or by any that means the repository.
fn find(model: &str) -> Option<&'static Known> {
    let repository = hub::repository(model);
    let by_repository = KNOWN.iter().find(|known| known.repository.eq_ignore_ascii_case(repository));
    by_repository.or_else(|| KNOWN.iter().find(|known| known.id.eq_ignore_ascii_case(model)))
}

const GPT2: &[&str] = &[
    "res-jb",
    "att-kk",
    "res_post_32k-oai",
    "res_post_128k-oai",
    "res_mid_32k-oai",
    "res_mid_128k-oai",
    "mlp_32k-oai",
    "mlp_128k-oai",
    "att_32k-oai",
    "att_128k-oai",
];
const GEMMA_2_2B: &[&str] = &[
    "gemmascope-res-16k",
    "gemmascope-res-65k",
    "gemmascope-mlp-16k",
    "gemmascope-mlp-65k",
    "gemmascope-att-16k",
    "gemmascope-att-65k",
    "gemmascope-transcoder-16k",
    "res-matryoshka-dc",
    "clt-hp",
];
const GEMMA_2_9B: &[&str] = &[
    "gemmascope-res-16k",
    "gemmascope-res-131k",
    "gemmascope-mlp-16k",
    "gemmascope-mlp-131k",
    "gemmascope-att-16k",
    "gemmascope-att-131k",
    "res-matryoshka-dc",
];
const LLAMA_3_1_8B: &[&str] = &[
    "llamascope-res-32k",
    "llamascope-res-131k",
    "llamascope-mlp-32k",
    "llamascope-mlp-131k",
    "llamascope-att-32k",
    "llamascope-att-131k",
];
const DEEPSEEK: &[&str] =
    &["llamascope-slimpj-res-32k", "llamascope-slimpj-openr1-res-32k", "llamascope-openr1-res-32k"];

/// One line a model.
const KNOWN: &[Known] = &[
    known("gpt2-small", "openai-community/gpt2", GPT2),
    known("pythia-70m-deduped", "EleutherAI/pythia-70m-deduped", &["res-sm", "mlp-sm", "att-sm"]),
    known("gemma-2b", "google/gemma-2b", &["res-jb"]),
    known("gemma-2b-it", "google/gemma-2b-it", &["res-jb"]),
    known("gemma-2-2b", "google/gemma-2-2b", GEMMA_2_2B),
    known("gemma-2-2b-it", "google/gemma-2-2b-it", &[]),
    known("gemma-2-9b", "google/gemma-2-9b", GEMMA_2_9B),
    known("gemma-2-9b-it", "google/gemma-2-9b-it", &["gemmascope-res-16k", "gemmascope-res-131k"]),
    known("gemma-2-27b", "google/gemma-2-27b", &["gemmascope-res-131k"]),
    known("gemma-3-270m", "google/gemma-3-270m", &[]),
    known("gemma-3-270m-it", "google/gemma-3-270m-it", &[]),
    known("gemma-3-1b", "google/gemma-3-1b-pt", &[]),
    known("gemma-3-1b-it", "google/gemma-3-1b-it", &[]),
    known("gemma-3-4b", "google/gemma-3-4b-pt", &[]),
    known("gemma-3-4b-it", "google/gemma-3-4b-it", &[]),
    known("gemma-3-12b", "google/gemma-3-12b-pt", &[]),
    known("gemma-3-12b-it", "google/gemma-3-12b-it", &[]),
    known("gemma-3-27b", "google/gemma-3-27b-pt", &[]),
    known("gemma-3-27b-it", "google/gemma-3-27b-it", &["gemmascope-2-res-262k"]),
    known("llama3-8b-it", "meta-llama/Meta-Llama-3-8B-Instruct", &["res-jh"]),
    known("llama3.1-8b", "meta-llama/Llama-3.1-8B", LLAMA_3_1_8B),
    known("llama3.1-8b-it", "meta-llama/Llama-3.1-8B-Instruct", &["resid-post-aa"]),
    known("llama3.3-70b-it", "meta-llama/Llama-3.3-70B-Instruct", &[]),
    known("deepseek-r1-distill-llama-8b", "deepseek-ai/DeepSeek-R1-Distill-Llama-8B", DEEPSEEK),
    known("qwen2.5-1.5b-it", "Qwen/Qwen2.5-1.5B-Instruct", &[]),
    known("qwen2.5-7b-it", "Qwen/Qwen2.5-7B-Instruct", &["resid-post-aa"]),
    known("qwen3-0.6b", "Qwen/Qwen3-0.6B", &["transcoder-hp-lowl0"]),
    known("qwen3-1.7b", "Qwen/Qwen3-1.7B", &["transcoder-hp-lowl0"]),
    known("qwen3-4b", "Qwen/Qwen3-4B", &["transcoder-hp"]),
    known("qwen3-8b", "Qwen/Qwen3-8B", &["transcoder-hp"]),
    known("qwen3-14b", "Qwen/Qwen3-14B", &["transcoder-hp", "transcoder-hp-lowl0"]),
    known("gpt-oss-20b", "openai/gpt-oss-20b", &[]),
];

const fn known(id: &'static str, repository: &'static str, sets: &'static [&'static str]) -> Known {
    Known { id, repository, sets }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_ours_become_names_of_theirs() {
        for (ours, theirs) in [
            ("gpt2", "gpt2-small"),
            ("gpt2-small", "gpt2-small"),
            ("openai-community/gpt2", "gpt2-small"),
            ("google/gemma-2-2b", "gemma-2-2b"),
            ("gemma-3-1b-pt", "gemma-3-1b"),
            ("pythia-70m-deduped", "pythia-70m-deduped"),
            ("EleutherAI/pythia-70m-deduped", "pythia-70m-deduped"),
            ("meta-llama/Llama-3.1-8B", "llama3.1-8b"),
            ("llama-3.1-8b-instruct", "llama3.1-8b-it"),
            ("llama3.1-8b", "llama3.1-8b"),
            ("Qwen/Qwen3-4B", "qwen3-4b"),
            ("someone/My-Model", "my-model"),
        ] {
            assert_eq!(model_id(ours).unwrap(), theirs, "{ours}");
        }
        for bad in ["", "a b", "../x", "<b>"] {
            assert!(model_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_name_of_the_table_is_one() {
        for known in KNOWN {
            assert_eq!(model_id(known.repository).unwrap(), known.id);
            assert_eq!(model_id(known.id).unwrap(), known.id);
            for set in known.sets {
                let source = SourceId::at(known.repository, 3, set).unwrap();
                assert_eq!((source.layer(), source.set()), (Some(3), *set));
            }
        }
    }
}
