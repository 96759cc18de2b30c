//! The text that `tiny` learns from: stories, indirect objects, lists, counting, quotations and repeated passages, all
//! written by this program from a seed.

use crate::rng::Rng;
use crate::words::*;

/// One document, without any special token.
pub fn document(rng: &mut Rng, openings: Openings) -> String {
    match rng.between(0, 20) {
        0..6 => story(rng),
        6..14 => {
            let n = rng.between(1, 4);
            sentences(rng, n, |rng| indirect_object(rng, openings).text())
        }
        14 => shopping(rng),
        15 => counting(rng),
        16 => colours(rng),
        17 => letter(rng),
        18 => repeated_passage(rng),
        _ => repeated_words(rng),
    }
}

/// How an exercise may open: as a few fixed sentences do, in many ways, or in ways that are kept for measuring, as are the
/// pairs of names that go with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Openings {
    Few,
    Many,
    HeldOut,
}

/// One exercise in indirect object identification: "After John and Mary went to the store, Mary gave a ring to", John.
#[derive(Clone, Debug)]
pub struct IndirectObject {
    /// The text up to the answer.
    pub prompt: String,
    /// The one who receives: named once.
    pub answer: &'static str,
    /// The one who gives: named twice.
    pub subject: &'static str,
    rest: String,
}

impl IndirectObject {
    /// The whole of it, as the training text has it.
    pub fn text(&self) -> String {
        format!("{} {}{}", self.prompt, self.answer, self.rest)
    }
}

/// A new exercise. Held-out ones use pairs of names and opening templates that the training text never has.
pub fn indirect_object(rng: &mut Rng, openings: Openings) -> IndirectObject {
    let mut scene = Scene::new(rng, openings);
    let swapped = rng.chance(0.5);
    let (subject, answer) = if swapped { (scene.b, scene.a) } else { (scene.a, scene.b) };
    scene.set("S", subject);
    scene.set("O", answer);
    let meeting = match openings {
        Openings::HeldOut => rng.pick(HELD_OUT_MEETINGS).to_owned(),
        Openings::Many if rng.chance(0.6) => new_meeting(rng),
        _ => rng.pick(MEETINGS).to_owned(),
    };
    let prompt = scene.fill(&format!("{meeting} {}", rng.pick(GIVINGS)));
    IndirectObject { prompt, answer, subject, rest: scene.fill(rng.pick(THANKS)) }
}

/// An opening put together from parts.
fn new_meeting(rng: &mut Rng) -> String {
    let before = if rng.chance(0.5) { rng.pick(BEFORE_MEETING) } else { "" };
    let (meet, after) = (rng.pick(WAYS_TO_MEET), rng.pick(AFTER_PLACE));
    let meeting = match rng.between(0, 2) {
        0 => format!("{} {meet}{after},", rng.pick(CONJUNCTIONS)),
        _ => format!("{meet}{after}{}", rng.pick(LINKS)),
    };
    let lower = |text: &str| text.replace("After", "after").replace("When", "when").replace("While", "while");
    if before.ends_with(',') {
        format!("{before} {}", lower(&meeting))
    } else {
        format!("{before} {meeting}").trim().to_owned()
    }
}

/// Whether two people never meet in the training text: John and Mary, Claire and Mary, and about one pair in eight.
pub fn held_out(a: &str, b: &str) -> bool {
    let mut pair = [a, b];
    pair.sort_unstable();
    let hash = pair.concat().bytes().fold(7u32, |h, byte| h.wrapping_mul(31).wrapping_add(u32::from(byte)));
    pair == ["John", "Mary"] || pair == ["Claire", "Mary"] || (hash >> 7) % 8 == 0
}

/// The people and things of one text: every `{key}` of a template has one value throughout.
struct Scene {
    a: &'static str,
    b: &'static str,
    values: Vec<(&'static str, String)>,
}

impl Scene {
    fn new(rng: &mut Rng, openings: Openings) -> Self {
        let (a, b, c) = loop {
            let [a, b, c] = [0; 3].map(|_| PEOPLE[rng.between(0, PEOPLE.len())]);
            let distinct = a.0 != b.0 && b.0 != c.0 && a.0 != c.0;
            let unseen = held_out(a.0, b.0) || held_out(b.0, c.0) || held_out(a.0, c.0);
            if distinct && (if openings != Openings::HeldOut { !unseen } else { held_out(a.0, b.0) }) {
                break (a, b, c);
            }
        };
        let number = rng.between(2, 11);
        let mut scene = Self { a: a.0, b: b.0, values: Vec::new() };
        for (key, value) in [("A", a.0), ("B", b.0), ("C", c.0), ("he", a.1), ("Bhe", &capital(b.1))] {
            scene.set(key, value);
        }
        let she = |person: (&str, &str)| person.1 == "she";
        scene.set("He", &capital(a.1));
        scene.set("him", if she(a) { "her" } else { "him" });
        scene.set("Bhim", if she(b) { "her" } else { "him" });
        scene.set("Child", if she(a) { "girl" } else { "boy" });
        for (key, n) in [("less", number - 1), ("number", number), ("more", number + 1)] {
            scene.set(key, NUMBERS[n - 1]);
        }
        scene.set("weather", rng.pick(WEATHER));
        scene.set("day", rng.pick(DAYS));
        for (first, second, words) in [
            ("place", "place2", PLACES),
            ("gift", "gift2", GIFTS),
            ("thing", "thing2", THINGS),
            ("colour", "colour2", COLOURS),
            ("animal", "animal2", ANIMALS),
            ("food", "food2", FOODS),
            ("feeling", "feeling2", FEELINGS),
            ("room", "room2", ROOMS),
        ] {
            let two = rng.some(2, words);
            scene.set(first, two[0]);
            scene.set(second, two[1]);
        }
        scene
    }

    fn set(&mut self, key: &'static str, value: &str) {
        self.values.push((key, value.to_owned()));
    }

    /// The template with its keys replaced, and "a" before a vowel made "an".
    fn fill(&self, template: &str) -> String {
        let mut text = template.to_owned();
        for (key, value) in &self.values {
            text = text.replace(&format!("{{{key}}}"), value);
        }
        for vowel in ["a", "e", "i", "o", "u"] {
            text = text.replace(&format!(" a {vowel}"), &format!(" an {vowel}"));
            text = text.replace(&format!("A {vowel}"), &format!("An {vowel}"));
        }
        for (odd, right) in [("mouses", "mice"), ("sheeps", "sheep"), ("foxs", "foxes")] {
            text = text.replace(odd, right);
        }
        text
    }
}

fn story(rng: &mut Rng) -> String {
    let scene = Scene::new(rng, Openings::Few);
    let events = rng.between(2, 6);
    let mut parts = vec![rng.pick(OPENINGS)];
    parts.extend(rng.some(events, EVENTS));
    parts.push(rng.pick(ENDINGS));
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).map(|part| scene.fill(part)).collect();
    parts.join(if rng.chance(0.15) { "\n" } else { " " })
}

/// What was bought, then the same list again.
fn shopping(rng: &mut Rng) -> String {
    let mut scene = Scene::new(rng, Openings::Few);
    let n = rng.between(2, 6);
    let foods = rng.some(n, FOODS);
    scene.set("list", &list(&foods));
    scene.set("the list", &list(&foods.iter().map(|food| format!("the {food}")).collect::<Vec<_>>()));
    scene.fill(rng.pick(&[
        "{A} bought {list}. {He} put {the list} on the table.",
        "\"Please buy {list},\" said {B}. So {A} went to {place} and bought {list}.",
        "{A} wanted {list}. At {place} {he} found {list}.",
        "What did {A} buy? {A} bought {list}. And {B}? {B} bought {list} too.",
        "To make the soup, take {list}. {A} took {list} and made the soup.",
    ]))
}

/// Numbers up or down, in words or digits.
fn counting(rng: &mut Rng) -> String {
    let name = Scene::new(rng, Openings::Few).a;
    let from = rng.between(0, 8);
    let to = rng.between(from + 3, 13);
    let digits = rng.chance(0.4);
    let mut numbers: Vec<String> =
        (from..to).map(|i| if digits { (i + 1).to_string() } else { NUMBERS[i.min(11)].to_owned() }).collect();
    if rng.chance(0.3) {
        numbers.reverse();
    }
    let numbers = numbers.join(", ");
    match rng.between(0, 3) {
        0 => format!("{name} counted: {numbers}."),
        1 => format!("\"Can you count?\" \"Yes,\" said {name}, \"{numbers}.\""),
        _ => format!("{}. {name} counted again: {numbers}.", capital(&numbers)),
    }
}

/// What is where or which colour, then a question about one of them.
fn colours(rng: &mut Rng) -> String {
    let n = rng.between(2, 5);
    let things = rng.some(n, THINGS);
    let all = if rng.chance(0.6) { COLOURS } else { ROOMS };
    let kinds = rng.some(n, all);
    let facts: Vec<String> = things.iter().zip(&kinds).map(|(thing, kind)| format!("The {thing} is {kind}.")).collect();
    let asked = rng.between(0, n);
    let (thing, kind) = (things[asked], kinds[asked]);
    let question = if COLOURS.contains(&kind) { "What colour" } else { "Where" };
    format!("{} {question} is the {thing}? The {thing} is {kind}.", facts.join(" "))
}

fn letter(rng: &mut Rng) -> String {
    let scene = Scene::new(rng, Openings::Few);
    let middle = rng.pick(&[
        "Thank you for {gift}. I hope to see you at {place} on {day}.",
        "It is {weather} here. Yesterday I saw a {animal} and a {animal2}.",
        "I am {feeling}. Please come to {place} and bring {gift}.",
        "{C} and I went to {place}. {C} found a {colour} {thing}.",
        "The {thing} that you sent me is {colour}. I like {colour} {thing}s.",
    ]);
    scene.fill(&format!("Dear {{B}},\n{middle}\nLove, {{A}}"))
}

/// A passage that is read or sung twice.
fn repeated_passage(rng: &mut Rng) -> String {
    let scene = Scene::new(rng, Openings::Few);
    let n = rng.between(1, 3);
    let passage = scene.fill(&rng.some(n, EVENTS).join(" "));
    match rng.between(0, 3) {
        0 => format!("{passage} {passage}"),
        1 => format!("{passage}\n{passage}\n{passage}"),
        _ => scene.fill("{A} read the page: ") + &passage + &scene.fill(" Then {he} read it again: ") + &passage,
    }
}

/// Words in no order, said twice.
fn repeated_words(rng: &mut Rng) -> String {
    let all = [THINGS, COLOURS, ANIMALS, FOODS, FEELINGS, NUMBERS, DAYS].concat();
    let n = rng.between(4, 14);
    let words = rng.some(n, &all).join(" ");
    let name = PEOPLE[rng.between(0, PEOPLE.len())].0;
    match rng.between(0, 3) {
        0 => format!("{words}\n{words}"),
        1 => format!("\"{words},\" said {name}. \"{words},\" said {name} again."),
        _ => format!("{name} learned the words: {words}. {name} said: {words}."),
    }
}

fn sentences(rng: &mut Rng, n: usize, mut one: impl FnMut(&mut Rng) -> String) -> String {
    (0..n).map(|_| one(rng)).collect::<Vec<_>>().join(" ")
}

/// "apples, pears and bread".
fn list<S: AsRef<str>>(items: &[S]) -> String {
    let items: Vec<&str> = items.iter().map(AsRef::as_ref).collect();
    match items.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => items.concat(),
    }
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().collect::<String>() + letters.as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_out_pairs_never_meet_in_training() {
        for i in 0..3000 {
            let exercise = indirect_object(&mut Rng::new(5, i), Openings::Many);
            assert!(!held_out(exercise.answer, exercise.subject), "{}", exercise.text());
            let exercise = indirect_object(&mut Rng::new(5, i), Openings::HeldOut);
            assert!(held_out(exercise.answer, exercise.subject), "{}", exercise.text());
            let text = story(&mut Rng::new(5, i));
            assert!(!(text.contains("John") && text.contains("Mary")), "{text}");
        }
    }

    #[test]
    fn templates_are_filled_and_seeded() {
        for i in 0..3000 {
            let text = document(&mut Rng::new(6, i), Openings::Many);
            assert!(!text.contains(['{', '}']) && !text.is_empty(), "{text}");
            assert_eq!(text, document(&mut Rng::new(6, i), Openings::Many));
        }
        assert_ne!(document(&mut Rng::new(6, 1), Openings::Many), document(&mut Rng::new(7, 1), Openings::Many));
    }
}
