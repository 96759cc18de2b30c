//! Customary short names of models on the hub.

/// `(short name, repository)`, for every short name that [`resolve`](super::resolve) knows. Case does not matter.
pub fn aliases() -> &'static [(&'static str, &'static str)] {
    ALIASES
}

/// The repository that a name means: an alias's target, or the name itself.
pub(super) fn repository(name: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(name)).map_or(name, |(_, repository)| repository)
}

const ALIASES: &[(&str, &str)] = &[
    ("gpt2", "openai-community/gpt2"),
    ("gpt2-small", "openai-community/gpt2"),
    ("gpt2-medium", "openai-community/gpt2-medium"),
    ("gpt2-large", "openai-community/gpt2-large"),
    ("gpt2-xl", "openai-community/gpt2-xl"),
    ("distilgpt2", "distilbert/distilgpt2"),
    ("distil-gpt2", "distilbert/distilgpt2"),
    ("pythia-14m", "EleutherAI/pythia-14m"),
    ("pythia-31m", "EleutherAI/pythia-31m"),
    ("pythia-70m", "EleutherAI/pythia-70m"),
    ("pythia-160m", "EleutherAI/pythia-160m"),
    ("pythia-410m", "EleutherAI/pythia-410m"),
    ("pythia-1b", "EleutherAI/pythia-1b"),
    ("pythia-1.4b", "EleutherAI/pythia-1.4b"),
    ("pythia-2.8b", "EleutherAI/pythia-2.8b"),
    ("pythia-6.9b", "EleutherAI/pythia-6.9b"),
    ("pythia-12b", "EleutherAI/pythia-12b"),
    ("pythia-70m-deduped", "EleutherAI/pythia-70m-deduped"),
    ("pythia-160m-deduped", "EleutherAI/pythia-160m-deduped"),
    ("pythia-410m-deduped", "EleutherAI/pythia-410m-deduped"),
    ("pythia-1b-deduped", "EleutherAI/pythia-1b-deduped"),
    ("pythia-1.4b-deduped", "EleutherAI/pythia-1.4b-deduped"),
    ("pythia-2.8b-deduped", "EleutherAI/pythia-2.8b-deduped"),
    ("pythia-6.9b-deduped", "EleutherAI/pythia-6.9b-deduped"),
    ("pythia-12b-deduped", "EleutherAI/pythia-12b-deduped"),
    ("qwen2-0.5b", "Qwen/Qwen2-0.5B"),
    ("qwen2-1.5b", "Qwen/Qwen2-1.5B"),
    ("qwen2-7b", "Qwen/Qwen2-7B"),
    ("qwen2.5-0.5b", "Qwen/Qwen2.5-0.5B"),
    ("qwen2.5-1.5b", "Qwen/Qwen2.5-1.5B"),
    ("qwen2.5-3b", "Qwen/Qwen2.5-3B"),
    ("qwen2.5-7b", "Qwen/Qwen2.5-7B"),
    ("llama-2-7b", "meta-llama/Llama-2-7b-hf"),
    ("llama-3.1-8b", "meta-llama/Llama-3.1-8B"),
    ("llama-3.2-1b", "meta-llama/Llama-3.2-1B"),
    ("llama-3.2-3b", "meta-llama/Llama-3.2-3B"),
    ("tinyllama", "TinyLlama/TinyLlama-1.1B-Chat-v1.0"),
    ("smollm2-135m", "HuggingFaceTB/SmolLM2-135M"),
    ("smollm2-360m", "HuggingFaceTB/SmolLM2-360M"),
    ("smollm2-1.7b", "HuggingFaceTB/SmolLM2-1.7B"),
    ("mistral-7b", "mistralai/Mistral-7B-v0.1"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_ignore_case_and_other_names_stay() {
        assert_eq!(repository("GPT2-Small"), "openai-community/gpt2");
        assert_eq!(repository("someone/something"), "someone/something");
    }

    #[test]
    fn no_alias_is_there_twice() {
        let names: std::collections::HashSet<_> = ALIASES.iter().map(|(alias, _)| alias.to_lowercase()).collect();
        assert_eq!(names.len(), ALIASES.len());
    }
}
