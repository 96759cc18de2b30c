//! The registry: models on the hub that have a short name, and what is known of them.
//!
//! The facts are in `models.tsv`, one line a model. The registry is no gate: any other repository whose family is known
//! loads as well, under its full name.

use std::ops::Deref;
use std::sync::LazyLock;

use super::bundled_names;
use crate::error::near_misses;

/// A model of the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownModel {
    /// Its name on the hub: `EleutherAI/pythia-160m`.
    pub name: &'static str,
    /// Hugging Face's `model_type`; `hooked_transformer` for the models that come in TransformerLens' own form.
    pub family: &'static str,
    /// Roughly how many parameters it has: `160M`, `2.8B`. Of `hooked_transformer` only those of the layers count.
    pub parameters: &'static str,
    /// Customary short names, the usual one first; upper and lower case are the same.
    pub short_names: Vec<&'static str>,
}

impl KnownModel {
    /// The usual short name.
    pub fn short_name(&self) -> &'static str {
        self.short_names.first().copied().unwrap_or(self.name)
    }

    /// The name without its owner: `pythia-160m`.
    fn bare_name(&self) -> &'static str {
        self.name.rsplit('/').next().unwrap_or(self.name)
    }

    /// Every name that means this model.
    fn names(&self) -> impl Iterator<Item = &'static str> {
        self.short_names.iter().copied().chain([self.bare_name(), self.name])
    }
}

/// Models of the registry; a notebook shows them as a table. It is a slice of [`KnownModel`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownModels {
    models: Vec<KnownModel>,
    filter: String,
}

impl KnownModels {
    /// What the models were looked for by; empty for all of them.
    pub fn filter(&self) -> &str {
        &self.filter
    }
}

impl Deref for KnownModels {
    type Target = [KnownModel];

    fn deref(&self) -> &[KnownModel] {
        &self.models
    }
}

impl IntoIterator for KnownModels {
    type Item = KnownModel;
    type IntoIter = std::vec::IntoIter<KnownModel>;

    fn into_iter(self) -> Self::IntoIter {
        self.models.into_iter()
    }
}

/// Every model of the registry, family by family.
pub fn known_models() -> KnownModels {
    find_models("")
}

/// The models with `filter` in their name, their family or one of their short names; case does not matter.
///
/// ```
/// let gemmas = candlescope::hub::find_models("gemma-2-2b");
/// assert!(gemmas.iter().any(|model| model.name == "google/gemma-2-2b-it"));
/// ```
pub fn find_models(filter: &str) -> KnownModels {
    let wanted = filter.trim().to_lowercase();
    let fits =
        |model: &&KnownModel| model.names().chain([model.family]).any(|name| name.to_lowercase().contains(&wanted));
    KnownModels { models: REGISTRY.iter().filter(fits).cloned().collect(), filter: filter.trim().to_string() }
}

/// Names of the registry that `name` may have been meant to be: at most three short, bare or full names.
pub fn near_names(name: &str) -> Vec<String> {
    near_misses(name, bundled_names().into_iter().chain(REGISTRY.iter().flat_map(KnownModel::names)))
}

/// The repository that a name means: that of the model with this short or bare name, or the name itself.
pub(crate) fn repository(name: &str) -> &str {
    let means = |model: &&KnownModel| model.names().any(|known| known.eq_ignore_ascii_case(name));
    REGISTRY.iter().find(means).map_or(name, |model| model.name)
}

static REGISTRY: LazyLock<Vec<KnownModel>> = LazyLock::new(|| lines().filter_map(model).collect());

/// The lines of the table, without its heading.
fn lines() -> impl Iterator<Item = &'static str> {
    include_str!("models.tsv").lines().skip(1)
}

fn model(line: &'static str) -> Option<KnownModel> {
    let mut cells = line.split('\t');
    let (family, name, parameters) = (cells.next()?, cells.next()?, cells.next()?);
    let short_names = cells.next()?.split(' ').collect();
    cells.next().is_none().then_some(KnownModel { name, family, parameters, short_names })
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;
    use crate::hub::remote::is_repository_name;

    #[test]
    fn every_line_is_a_model() {
        assert_eq!(REGISTRY.len(), lines().count());
        assert!(REGISTRY.len() >= 250, "{}", REGISTRY.len());
        for model in REGISTRY.iter() {
            assert!(is_repository_name(model.name) && model.name.contains('/'), "{model:?}");
            assert!(model.parameters.ends_with(['M', 'B']) && model.parameters.len() > 1, "{model:?}");
            assert!(model.short_names.iter().all(|name| is_repository_name(name) && !name.contains('/')), "{model:?}");
        }
    }

    #[test]
    fn a_name_means_one_model() {
        let mut owner: HashMap<String, &str> = HashMap::new();
        for model in REGISTRY.iter() {
            for name in model.names().map(str::to_lowercase).collect::<HashSet<_>>() {
                assert_eq!(owner.insert(name.clone(), model.name), None, "'{name}' is there twice");
            }
        }
    }

    #[test]
    fn customary_names_mean_what_they_mean_elsewhere() {
        for (short, name) in [
            ("gpt2", "openai-community/gpt2"),
            ("GPT2-Small", "openai-community/gpt2"),
            ("distilgpt2", "distilbert/distilgpt2"),
            ("pythia-160m", "EleutherAI/pythia-160m"),
            ("pythia-125m-deduped-v0", "EleutherAI/pythia-160m-deduped-v0"),
            ("attn-only-2l", "NeelNanda/Attn_Only_2L512W_C4_Code"),
            ("solu-1l-pile", "NeelNanda/SoLU_1L_v9_old"),
            ("gelu-4l", "NeelNanda/GELU_4L512W_C4_Code"),
            ("llama-3.1-8b", "meta-llama/Llama-3.1-8B"),
            ("llama-3.1-70b-instruct", "meta-llama/Llama-3.1-70B-Instruct"),
            ("Llama-2-7b-chat", "meta-llama/Llama-2-7b-chat-hf"),
            ("gemma-2-2b", "google/gemma-2-2b"),
            ("qwen2-7b-instruct", "Qwen/Qwen2-7B-Instruct"),
            ("t5-large", "google-t5/t5-large"),
            ("tiny-stories-33M", "roneneldan/TinyStories-33M"),
            ("TinyStories-33M", "roneneldan/TinyStories-33M"),
            ("stanford-gpt2-small-a", "stanford-crfm/alias-gpt2-small-x21"),
            ("eleutherai/pythia-160m", "EleutherAI/pythia-160m"),
            ("someone/something", "someone/something"),
        ] {
            assert_eq!(repository(short), name);
        }
    }

    #[test]
    fn the_filter_looks_at_names_short_names_and_families() {
        let names = |filter| find_models(filter).iter().map(|model| model.name).collect::<Vec<_>>();
        assert_eq!(names("redwood"), ["ArthurConmy/redwood_attn_2l"]);
        assert_eq!(names("MIXTRAL-8X22B"), ["mistralai/Mixtral-8x22B-v0.1", "mistralai/Mixtral-8x22B-Instruct-v0.1"]);
        assert!(names("gpt_neox").contains(&"EleutherAI/pythia-70m"), "by family");
        assert!(names("neo-small").contains(&"EleutherAI/gpt-neo-125m"), "by short name");
        assert!(find_models("no such model").is_empty());
        assert_eq!(known_models().len(), REGISTRY.len());
    }

    #[test]
    fn near_names_are_short_bare_or_full() {
        assert_eq!(near_names("gema-2-2b"), ["gemma-2-2b"]);
        assert_eq!(near_names("EleutherAI/pythia-160n"), ["EleutherAI/pythia-160m"]);
        assert_eq!(near_names("SoLU_2L512W_C4_Cod"), ["SoLU_2L512W_C4_Code"]);
    }
}
