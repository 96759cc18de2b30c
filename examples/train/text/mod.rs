//! The text that the models learn from: stories, indirect objects, lists, counting, quotations and repeated passages, all
//! written by this program from a seed.

mod giving;
pub mod giving_templates;
pub mod meeting_templates;
mod others;
pub mod scene;
mod stories;
mod story_templates;

pub use giving::{Templates, indirect_object};

use crate::rng::Rng;

/// One document, without any special token. No document names both people of a held-out pair.
pub fn document(rng: &mut Rng) -> String {
    match rng.between(0, 20) {
        0..6 => stories::story(rng),
        6..14 => giving::givings(rng),
        _ => others::other(rng),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::scene::held_out;
    use super::*;
    use crate::words::*;

    fn documents(n: u64) -> impl Iterator<Item = String> {
        (0..n).map(|i| document(&mut Rng::new(6, i)))
    }

    fn words(text: &str) -> impl Iterator<Item = &str> {
        text.split(|letter: char| !letter.is_alphabetic()).filter(|word| !word.is_empty())
    }

    #[test]
    fn held_out_pairs_never_meet() {
        for text in documents(5000) {
            let named: BTreeSet<&str> =
                words(&text).filter(|word| PEOPLE.iter().any(|person| person.0 == *word)).collect();
            for a in &named {
                assert!(!named.iter().any(|b| a < b && held_out(a, b)), "{text}");
            }
        }
    }

    #[test]
    fn everybody_is_named_and_the_words_are_few() {
        let mut seen = BTreeMap::new();
        for text in documents(10_000) {
            for word in words(&text) {
                *seen.entry(word.to_lowercase()).or_insert(0) += 1;
            }
        }
        assert!(seen.len() < 900, "{} words: {:?}", seen.len(), seen.keys());
        for (name, _) in PEOPLE {
            assert!(seen[&name.to_lowercase()] > 200, "{name}");
        }
    }

    #[test]
    fn templates_are_filled_and_grammar_is_right() {
        for text in documents(5000) {
            assert!(!text.contains(['{', '}']) && !text.contains("  ") && text.trim() == text, "{text}");
            assert!(!text.contains(" ,") && !text.contains("..") && !text.contains(" ."), "{text}");
            let words: Vec<&str> = text.split_whitespace().collect();
            for pair in words.windows(2) {
                let article = pair[0].trim_matches('"').to_lowercase();
                if article == "a" || article == "an" {
                    let vowel = pair[1].starts_with(['a', 'e', 'i', 'o', 'u']);
                    assert_eq!(article == "an", vowel, "{pair:?} in {text}");
                }
                let lower = pair[1].starts_with(|letter: char| letter.is_lowercase());
                assert!(!(lower && pair[0].ends_with('.')), "{pair:?} in {text}");
            }
        }
    }

    #[test]
    fn the_seed_decides() {
        for i in 0..1000 {
            assert_eq!(document(&mut Rng::new(6, i)), document(&mut Rng::new(6, i)));
        }
        assert_ne!(document(&mut Rng::new(6, 1)), document(&mut Rng::new(7, 1)));
    }

    #[test]
    fn every_kind_of_document_comes() {
        let all: BTreeSet<String> = documents(5000).collect();
        assert!(all.len() > 4900, "{} of 5000 are different", all.len());
        let marks = [
            "Dear ",
            "counted",
            "How many",
            "What colour",
            "learned the words",
            "little",
            "list",
            "pack",
            "because",
            ": Hello, ",
            "asked",
            "lost",
            "sings all day",
        ];
        for mark in marks {
            let found = all.iter().filter(|text| text.contains(mark)).count();
            assert!(found > 5, "{mark} is in {found} of 5000 documents");
        }
    }
}
