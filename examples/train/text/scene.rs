//! The people and things of one text.

use crate::rng::Rng;
use crate::words::*;

/// (name, "she" or "he").
pub type Person = (&'static str, &'static str);

/// Whether two people never meet in the training text: John and Mary, Claire and Mary, and about one pair in eight.
pub fn held_out(a: &str, b: &str) -> bool {
    let mut pair = [a, b];
    pair.sort_unstable();
    let hash = pair.concat().bytes().fold(7u32, |h, byte| h.wrapping_mul(31).wrapping_add(u32::from(byte)));
    pair == ["John", "Mary"] || pair == ["Claire", "Mary"] || (hash >> 7) % 8 == 0
}

/// `n` different people, of whom no two are a held-out pair. There are always nine such people.
pub fn people(rng: &mut Rng, n: usize) -> Vec<Person> {
    let everybody: Vec<&Person> = PEOPLE.iter().collect();
    loop {
        let mut cast: Vec<Person> = Vec::new();
        for &new in rng.some(everybody.len(), &everybody) {
            if cast.len() < n && !cast.iter().any(|old| held_out(old.0, new.0)) {
                cast.push(new);
            }
        }
        if cast.len() == n {
            return cast;
        }
    }
}

/// What the `{keys}` of the templates stand for: each has one value throughout the text.
pub struct Scene {
    values: Vec<(String, String)>,
}

impl Scene {
    /// A scene whose people are {A}, {B} and {C}, in the order of `cast`.
    pub fn new(rng: &mut Rng, cast: &[Person]) -> Self {
        let mut scene = Self { values: Vec::new() };
        for (key, &person) in ["A", "B", "C"].iter().zip(cast) {
            scene.set_person(key, person);
        }
        let number = rng.between(3, 12);
        for (key, n) in [("less", number - 1), ("number", number), ("more", number + 1)] {
            scene.set(key, NUMBERS[n - 1]);
        }
        for (key, words) in [("day", DAYS), ("weather", WEATHER), ("good", GOOD_FEELINGS), ("bad", BAD_FEELINGS)] {
            scene.set(key, rng.pick(words));
        }
        for (key, words) in [
            ("place", PLACES),
            ("gift", GIFTS),
            ("thing", THINGS),
            ("colour", COLOURS),
            ("animal", ANIMALS),
            ("food", FOODS),
            ("feeling", FEELINGS),
            ("room", ROOMS),
            ("person", PERSONS),
        ] {
            for (number, word) in ["", "2"].iter().zip(rng.some(2, words)) {
                scene.set(&format!("{key}{number}"), word);
                scene.set(&format!("{key}s{number}"), &plural(word));
            }
        }
        let the_gift = scene.fill("{gift}").split_once(' ').map_or_else(String::new, |(_, gift)| format!("the {gift}"));
        scene.set("the gift", &the_gift);
        scene
    }

    /// A scene with three new people.
    pub fn any(rng: &mut Rng) -> Self {
        let cast = people(rng, 3);
        Self::new(rng, &cast)
    }

    pub fn set(&mut self, key: &str, value: &str) {
        self.values.push((key.to_owned(), value.to_owned()));
    }

    /// Sets {X}, {he X}, {He X}, {him X}, {his X} and {child X}, where X is `key`.
    pub fn set_person(&mut self, key: &str, (name, he): Person) {
        self.set(key, name);
        let words = if he == "she" { ["she", "She", "her", "her", "girl"] } else { ["he", "He", "him", "his", "boy"] };
        for (kind, word) in ["he", "He", "him", "his", "child"].iter().zip(words) {
            self.set(&format!("{kind} {key}"), word);
        }
    }

    /// The template with its keys replaced, "an" before a vowel, and a capital letter after a full stop.
    pub fn fill(&self, template: &str) -> String {
        let mut text = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            text += before;
            let (key, after) = after.split_once('}').unwrap_or((after, ""));
            match self.values.iter().rev().find(|(name, _)| name == key) {
                Some((_, value)) => text += value,
                None => text += &format!("{{{key}}}"),
            }
            rest = after;
        }
        correct(&(text + rest))
    }
}

/// "an" for "a" before a vowel, and a capital letter where a sentence begins after another one.
fn correct(text: &str) -> String {
    let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    for i in 1..words.len() {
        let end = &words[i - 1];
        if end.ends_with(['.', '!', '?']) || end.ends_with(".\"") {
            words[i] = capital(&words[i]);
        }
        let article = words[i - 1].rsplit(|letter: char| !letter.is_alphabetic()).next();
        if matches!(article, Some("a" | "A")) && words[i].starts_with(['a', 'e', 'i', 'o', 'u']) {
            words[i - 1].push('n');
        }
    }
    words.join(" ")
}

/// More than one of a thing: "mice", "foxes", "boats".
pub fn plural(word: &str) -> String {
    match word {
        "mouse" => "mice".to_owned(),
        "sheep" => "sheep".to_owned(),
        "goose" => "geese".to_owned(),
        _ if word.ends_with(['x', 's']) || word.ends_with("ch") || word.ends_with("sh") => format!("{word}es"),
        _ => format!("{word}s"),
    }
}

/// "apples, pears and bread".
pub fn list<S: AsRef<str>>(items: &[S]) -> String {
    let items: Vec<&str> = items.iter().map(AsRef::as_ref).collect();
    match items.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => items.concat(),
    }
}

/// The text with a capital letter at its start.
pub fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().collect::<String>() + letters.as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scene_fills_every_key_and_corrects() {
        let mut scene = Scene::any(&mut Rng::new(1, 1));
        scene.set_person("A", ("Ruth", "she"));
        scene.set("thing", "umbrella");
        scene.set("animals", &plural("mouse"));
        let text = scene.fill("{A} lost a {thing}. it was {his A} {thing}. \"A {thing}?\" said the {animals}.");
        assert_eq!(text, "Ruth lost an umbrella. It was her umbrella. \"An umbrella?\" said the mice.");
        assert_eq!(scene.fill("{nothing}"), "{nothing}");
    }

    #[test]
    fn lists_and_plurals() {
        assert_eq!(list(&["one"]), "one");
        assert_eq!(list(&["one", "two", "three"]), "one, two and three");
        assert_eq!(["fox", "sheep", "cat", "torch"].map(plural), ["foxes", "sheep", "cats", "torches"]);
    }

    #[test]
    fn a_cast_has_no_held_out_pair() {
        for i in 0..500 {
            let cast = people(&mut Rng::new(2, i), 9);
            for (j, a) in cast.iter().enumerate() {
                assert!(cast[..j].iter().all(|b| a.0 != b.0 && !held_out(a.0, b.0)));
            }
        }
    }
}
