//! Exercises in indirect object identification: who gives to whom.

use super::giving_templates::*;
use super::meeting_templates::*;
use super::scene::{Person, Scene, capital, held_out, people};
use crate::rng::Rng;
use crate::words::PEOPLE;

/// The templates and pairs of names of the training text, or those that are kept for measuring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Templates {
    Training,
    HeldOut,
}

/// One exercise: "After Tom and Anna went to the store, Anna gave a ring to", Tom.
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

/// A new exercise. Held-out ones use pairs of names and templates that the training text never has.
pub fn indirect_object(rng: &mut Rng, templates: Templates) -> IndirectObject {
    match templates {
        Templates::Training => {
            let cast = people(rng, 3);
            exercise(rng, &cast, training_prompt)
        }
        Templates::HeldOut => {
            let pair = held_out_pair(rng);
            exercise(rng, &pair, held_out_prompt)
        }
    }
}

/// A document of one to three exercises, each with its own people.
pub fn givings(rng: &mut Rng) -> String {
    let n = rng.between(1, 4);
    let cast = people(rng, 3 * n);
    let parts: Vec<String> = cast.chunks(3).map(|three| exercise(rng, three, training_prompt).text()).collect();
    parts.join(if rng.chance(0.5) { "\n" } else { " " })
}

/// The templates of what comes before the answer, and after it.
type Parts = (String, &'static str);

/// An exercise with the first two of `cast`, in this order; the third one may be named before them.
fn exercise(rng: &mut Rng, cast: &[Person], prompt: fn(&mut Rng) -> Parts) -> IndirectObject {
    let mut scene = Scene::new(rng, cast);
    let (subject, answer) = if rng.chance(0.5) { (cast[0], cast[1]) } else { (cast[1], cast[0]) };
    scene.set_person("S", subject);
    scene.set_person("O", answer);
    let (prompt, rest) = prompt(rng);
    let (prompt, rest) = (capital(&scene.fill(&prompt)), scene.fill(rest));
    IndirectObject { prompt, answer: answer.0, subject: subject.0, rest }
}

fn held_out_pair(rng: &mut Rng) -> [Person; 2] {
    loop {
        let pair = [0; 2].map(|_| PEOPLE[rng.between(0, PEOPLE.len())]);
        if pair[0] != pair[1] && held_out(pair[0].0, pair[1].0) {
            return pair;
        }
    }
}

fn held_out_prompt(rng: &mut Rng) -> Parts {
    let givings = match rng.between(0, 3) {
        0 => HELD_OUT_GIVINGS,
        1 => COMMON_GIVINGS,
        _ => GIVINGS,
    };
    (format!("{} {}", rng.pick(HELD_OUT_MEETINGS), rng.pick(givings)), rng.pick(THANKS))
}

fn training_prompt(rng: &mut Rng) -> Parts {
    if rng.chance(0.1) {
        return (format!("{} {}", rng.pick(MEETINGS_WITH_GIFT), rng.pick(GIVINGS_OF_IT)), rng.pick(THANKS));
    }
    let mut opening = match rng.uniform() {
        u if u < 0.25 => distracted_opening(rng),
        u if u < 0.40 => rng.pick(COMMON_MEETINGS).to_owned(),
        u if u < 0.65 => rng.pick(MEETINGS).to_owned(),
        _ => composed_opening(rng),
    };
    if opening.ends_with(['.', ',']) && rng.chance(0.15) {
        opening = format!("{opening} {}", rng.pick(BEFORE_SUBJECT));
    }
    let (giving, rest) = giving(rng);
    (format!("{opening} {giving}"), rest)
}

/// What the subject does, some of the time with words put in after {S}.
fn giving(rng: &mut Rng) -> Parts {
    let (giving, rest) = match rng.uniform() {
        u if u < 0.4 => (COMMON_GIVINGS, THANKS),
        u if u < 0.8 => (GIVINGS, THANKS),
        _ => (OTHER_ACTIONS, AFTER_ACTION),
    };
    let after = if rng.chance(0.2) { rng.pick(AFTER_SUBJECT) } else { "" };
    (rng.pick(giving).replacen("{S}", &format!("{{S}}{after}"), 1), rng.pick(rest))
}

/// An opening with a third person in front, or with a sentence behind that names nobody.
fn distracted_opening(rng: &mut Rng) -> String {
    if rng.chance(0.5) {
        let opening = match rng.between(0, 3) {
            0 => rng.pick(COMMON_MEETINGS).to_owned(),
            1 => rng.pick(MEETINGS).to_owned(),
            _ => joined_clause(rng, false),
        };
        format!("{} {}", rng.pick(THIRD_PERSON), capital(&opening))
    } else {
        let (clause, _, after) = clause(rng);
        let (end, between, next) = (rng.pick(after), rng.pick(BETWEEN), rng.pick(AFTER_BETWEEN));
        format!("{clause}{end}. {between} {next}").trim_end().to_owned()
    }
}

/// An opening put together from parts.
fn composed_opening(rng: &mut Rng) -> String {
    if rng.chance(0.6) {
        return joined_clause(rng, false);
    }
    let before = rng.pick(BEFORE_MEETING);
    format!("{before} {}", joined_clause(rng, before.ends_with(',')))
}

/// "after {A} met {B}," or "{A} met {B}, and": a clause, and what joins it to the next one.
fn joined_clause(rng: &mut Rng, has_time: bool) -> String {
    let (clause, conjunctions, after) =
        if has_time { (rng.pick(WAYS_TO_MEET), CONJUNCTIONS, NO_END) } else { clause(rng) };
    let after = rng.pick(after);
    if rng.chance(0.5) {
        format!("{} {clause}{after},", rng.pick(conjunctions))
    } else {
        format!("{clause}{after}{}", rng.pick(LINKS))
    }
}

/// Nothing at the end of a clause that has a time already.
const NO_END: Words = &[""];

type Words = &'static [&'static str];

/// A clause with the conjunctions and the endings that fit it.
fn clause(rng: &mut Rng) -> (&'static str, Words, Words) {
    if rng.chance(0.65) {
        (rng.pick(WAYS_TO_MEET), CONJUNCTIONS, AFTER_MEETING)
    } else {
        (rng.pick(WAYS_TO_BE_TOGETHER), LONG_CONJUNCTIONS, AFTER_BEING)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::document;
    use super::*;
    use crate::words::*;

    const TRAINING: &[&[&str]] = &[
        COMMON_MEETINGS,
        MEETINGS,
        WAYS_TO_MEET,
        WAYS_TO_BE_TOGETHER,
        MEETINGS_WITH_GIFT,
        GIVINGS_OF_IT,
        COMMON_GIVINGS,
        GIVINGS,
        OTHER_ACTIONS,
    ];

    fn training(i: u64) -> IndirectObject {
        indirect_object(&mut Rng::new(5, i), Templates::Training)
    }

    fn count(text: &str, word: &str) -> usize {
        text.split(|letter: char| !letter.is_alphabetic()).filter(|other| *other == word).count()
    }

    /// The text with every name, and every word of a list, replaced by the name of its list.
    fn shape(text: &str) -> String {
        let names: Vec<&str> = PEOPLE.iter().map(|person| person.0).collect();
        let lists: [(&str, &[&str]); 12] = [
            ("{gift}", GIFTS),
            ("{place}", PLACES),
            ("{room}", ROOMS),
            ("{person}", PERSONS),
            ("{name}", &names),
            ("{day}", DAYS),
            ("{thing}", THINGS),
            ("{colour}", COLOURS),
            ("{animal}", ANIMALS),
            ("{food}", FOODS),
            ("{feeling}", FEELINGS),
            ("{weather}", WEATHER),
        ];
        let mut text = format!(" {text} ");
        for (key, words) in lists {
            for word in words {
                if !text.contains(word) {
                    continue;
                }
                for end in [" ", ",", ".", "!", "?", "'", "\"", "\n"] {
                    text = text.replace(&format!(" {word}{end}"), &format!(" {key}{end}"));
                    text = text.replace(&format!("\"{word}{end}"), &format!("\"{key}{end}"));
                }
            }
        }
        text.trim().to_owned()
    }

    fn shape_of(template: &str) -> String {
        shape(&["{A}", "{B}", "{S}"].iter().fold(template.to_owned(), |text, key| text.replace(key, "{name}")))
    }

    #[test]
    fn each_exercise_has_one_answer() {
        let ends = ["to", "for", "with", "at", "beside", "behind", "from", "thanked", "helped", "called"];
        let (mut first, mut third) = (0, 0);
        for i in 0..10_000 {
            let exercise = training(i);
            let prompt = &exercise.prompt;
            assert_eq!((count(prompt, exercise.subject), count(prompt, exercise.answer)), (2, 1), "{prompt}");
            let named: Vec<&str> =
                PEOPLE.iter().map(|person| person.0).filter(|name| count(prompt, name) > 0).collect();
            assert!(named.len() < 4 && named.iter().all(|name| *name == exercise.subject || count(prompt, name) == 1));
            if let Some(other) = named.iter().find(|name| ![exercise.subject, exercise.answer].contains(name)) {
                let at = |name: &str| prompt.find(name);
                assert!(at(other) < at(exercise.subject) && at(other) < at(exercise.answer), "{prompt}");
                third += 1;
            }
            assert!(ends.contains(&prompt.split(' ').next_back().unwrap()), "{prompt}");
            first += usize::from(prompt.find(exercise.subject) < prompt.find(exercise.answer));
            assert!(!held_out(exercise.subject, exercise.answer));
        }
        assert!((4800..5200).contains(&first), "the subject comes first in {first} of 10000");
        assert!((900..1500).contains(&third), "{third} third people in 10000");
    }

    #[test]
    fn held_out_exercises_have_held_out_pairs_and_openings() {
        let mut new_givings = 0;
        for i in 0..3000 {
            let exercise = indirect_object(&mut Rng::new(5, i), Templates::HeldOut);
            let prompt = &exercise.prompt;
            assert!(held_out(exercise.subject, exercise.answer), "{prompt}");
            assert_eq!((count(prompt, exercise.subject), count(prompt, exercise.answer)), (2, 1), "{prompt}");
            let found = shape(prompt);
            assert!(HELD_OUT_MEETINGS.iter().any(|template| found.starts_with(&shape_of(template))), "{found}");
            new_givings += usize::from(HELD_OUT_GIVINGS.iter().any(|template| found.ends_with(&shape_of(template))));
        }
        assert!((900..1100).contains(&new_givings), "{new_givings} of 3000 have a held-out giving");
    }

    #[test]
    fn held_out_templates_are_never_in_the_training_text() {
        let held_out: Vec<String> = HELD_OUT_MEETINGS
            .iter()
            .chain(HELD_OUT_GIVINGS)
            .map(|template| shape_of(template).to_lowercase())
            .collect();
        for template in TRAINING.concat() {
            assert!(!HELD_OUT_MEETINGS.contains(&template) && !HELD_OUT_GIVINGS.contains(&template), "{template}");
        }
        for i in 0..5000 {
            for text in [document(&mut Rng::new(6, i)), training(i).text()] {
                let shape = shape(&text).to_lowercase();
                assert!(!held_out.iter().any(|held_out| shape.contains(held_out)), "{text}");
            }
        }
    }

    #[test]
    fn the_prompts_of_the_notebook_can_come_with_other_names() {
        let john = "After {A} and {B} went to {place}, {S} gave {gift} to";
        let claire = "{A} and {B} went to {place}, then {S} gave {gift} to";
        let prompts: BTreeSet<String> = (0..20_000)
            .map(|i| training_prompt(&mut Rng::new(8, i)).0)
            .filter(|p| [john, claire].contains(&p.as_str()))
            .collect();
        assert_eq!(prompts.len(), 2);
        assert!(PLACES.contains(&"the store") && PLACES.contains(&"the shops") && GIFTS.contains(&"a bottle of milk"));
    }

    #[test]
    fn there_are_many_openings() {
        let shapes: BTreeSet<String> = (0..2000)
            .map(|i| {
                let exercise = training(i);
                let (opening, _) = exercise.prompt.rsplit_once(exercise.subject).unwrap();
                shape(opening)
            })
            .collect();
        assert!(shapes.len() > 400, "{} openings", shapes.len());
    }
}
