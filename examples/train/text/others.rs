//! The other kinds of documents: lists, counting, facts and questions, feelings, dialogues, letters, songs, and words that
//! come again.

use super::scene::{Person, Scene, capital, list, people, plural};
use super::stories::repeated_passage;
use crate::rng::Rng;
use crate::words::*;

/// A document of one of the other kinds. Those that repeat what was said, which teach induction, come more often.
pub fn other(rng: &mut Rng) -> String {
    match rng.between(0, 20) {
        0 => shopping(rng),
        1 => packing(rng),
        2 | 3 => counting(rng),
        4 => colours(rng),
        5 => facts_of_people(rng),
        6 => how_many(rng),
        7 => letter(rng),
        8 => feelings(rng),
        9 | 10 => dialogue(rng),
        11 => song(rng),
        12 | 13 => repeated_passage(rng),
        14..17 => pairs(rng),
        _ => repeated_words(rng),
    }
}

/// A list {list} of food and drinks, with and without "the", and what is done with it.
const SHOPPING: &[&str] = &[
    "{A} bought {list}. {He A} put {the list} on the table.",
    "\"Please buy {list},\" said {B}. So {A} went to {place} and bought {list}.",
    "{A} wanted {list}. At {place} {he A} found {list}.",
    "What did {A} buy? {A} bought {list}. And {B}? {B} bought {list} too.",
    "To make the soup, take {list}. {A} took {list} and made the soup.",
    "\"What do we need?\" asked {A}. \"We need {list},\" said {B}. \"Did you say {list}?\" \"Yes, {list}.\"",
    "{A} took {list}. \"Who took {the list}?\" asked {B}. \"I took {the list},\" said {A}.",
    "{A} wrote a list: {list}. {B} read the list: {list}.",
    "On the table {A} saw {list}. {He A} gave {the list} to the {person}.",
];

fn shopping(rng: &mut Rng) -> String {
    let mut scene = Scene::any(rng);
    let n = rng.between(2, 6);
    let foods = rng.some(n, &[FOODS, DRINKS].concat());
    scene.set("list", &list(&foods));
    scene.set("the list", &list(&foods.iter().map(|food| format!("the {food}")).collect::<Vec<_>>()));
    scene.fill(rng.pick(SHOPPING))
}

/// What goes into a bag, and comes out again.
const PACKING: &[&str] = &[
    "{A} packed a bag for {place}: {list}. At {place} {A} took out {list}.",
    "\"I pack my bag and take {first},\" said {A}. \"I pack my bag and take {first} and {last},\" said {B}.",
    "\"What is in your bag, {A}?\" asked {B}. \"{List},\" said {A}.",
    "For {place} you need {list}. {A} had {list}. So {A} went to {place}.",
    "{A} took {list} to {place}. In the evening {he A} brought {list} home again.",
    "First {A} packed {first}, then {last}. Then {he A} packed {first} again.",
    "My list for {day}:\n{lines}\n{A}'s list for {day}:\n{lines}",
];

fn packing(rng: &mut Rng) -> String {
    let mut scene = Scene::any(rng);
    let n = rng.between(2, 6);
    let things = rng.some(n, LUGGAGE);
    scene.set("list", &list(&things));
    scene.set("List", &capital(&list(&things)));
    scene.set("lines", &things.iter().map(|thing| format!("- {thing}")).collect::<Vec<_>>().join("\n"));
    scene.set("first", things[0]);
    scene.set("last", things[n - 1]);
    scene.fill(rng.pick(PACKING))
}

/// Numbers up, down or in twos, in words or digits.
fn counting(rng: &mut Rng) -> String {
    let scene = Scene::any(rng);
    let step = if rng.chance(0.25) { 2 } else { 1 };
    let from = rng.between(1, 13);
    let to = rng.between(from + 3 * step, (from + 10 * step).min(20) + 1);
    let digits = rng.chance(0.4);
    let word = |n: usize| if digits { n.to_string() } else { NUMBERS[n - 1].to_owned() };
    let mut numbers: Vec<String> = (from..=to.min(20)).step_by(step).map(word).collect();
    if rng.chance(0.3) {
        numbers.reverse();
    }
    let numbers = numbers.join(", ");
    match rng.between(0, 5) {
        0 => scene.fill("{A} counted: ") + &numbers + ".",
        1 => scene.fill("\"Can you count?\" \"Yes,\" said {A}, \"") + &numbers + ".\"",
        2 => capital(&numbers) + &scene.fill(". {A} counted again: ") + &numbers + ".",
        3 => scene.fill("{A} counted the {animals}. \"") + &capital(&numbers) + &scene.fill(",\" said {A}."),
        _ => scene.fill("{A} and {B} counted together: ") + &numbers + ".",
    }
}

/// What is where or which colour, then a question about one of them.
fn colours(rng: &mut Rng) -> String {
    let n = rng.between(2, 5);
    let things = rng.some(n, THINGS);
    let in_colour = rng.chance(0.6);
    let kinds = rng.some(n, if in_colour { COLOURS } else { ROOMS });
    let facts: Vec<String> = things.iter().zip(&kinds).map(|(thing, kind)| format!("The {thing} is {kind}.")).collect();
    let asked = rng.between(0, n);
    let (thing, kind) = (things[asked], kinds[asked]);
    let question = if rng.chance(0.3) {
        format!("What is {kind}? The {thing} is {kind}.")
    } else {
        format!("{} is the {thing}? The {thing} is {kind}.", if in_colour { "What colour" } else { "Where" })
    };
    format!("{} {question}", facts.join(" "))
}

/// A fact about {A} with {word}, the question who it is, and the question what it is.
const FACTS: &[(&[&str], [&str; 3])] = &[
    (PLACES, ["{A} went to {word}.", "Who went to {word}?", "Where did {A} go?"]),
    (PLACES, ["{A} lives near {word}.", "Who lives near {word}?", "Where does {A} live?"]),
    (ROOMS, ["{A} is {word}.", "Who is {word}?", "Where is {A}?"]),
    (THINGS, ["{A} has the {word}.", "Who has the {word}?", "What does {A} have?"]),
    (GIFTS, ["{A} bought {word}.", "Who bought {word}?", "What did {A} buy?"]),
    (FOODS, ["{A} likes {word}.", "Who likes {word}?", "What does {A} like?"]),
    (COLOURS, ["{A} has a {word} hat.", "Who has a {word} hat?", "What colour is the hat of {A}?"]),
    (ANIMALS, ["{A} saw a {word}.", "Who saw a {word}?", "What did {A} see?"]),
    (FEELINGS, ["{A} is {word}.", "Who is {word}?", "How is {A}?"]),
    (DAYS, ["{A} comes on {word}.", "Who comes on {word}?", "When does {A} come?"]),
];

/// Facts about two to four people, then a question about one of them.
fn facts_of_people(rng: &mut Rng) -> String {
    let n = rng.between(2, 5);
    let cast = people(rng, n);
    let mut scene = Scene::new(rng, &cast);
    let (words, [fact, who, what]) = &FACTS[rng.between(0, FACTS.len())];
    let words = rng.some(n, words);
    let mut parts = Vec::new();
    let asked = rng.between(0, n);
    let mut answer = String::new();
    for i in 0..n {
        scene.set_person("A", cast[i]);
        scene.set("word", words[i]);
        parts.push(scene.fill(fact));
        if i == asked {
            answer = scene.fill(&format!("{} {fact}", rng.pick(&[*who, *what])));
        }
    }
    parts.push(answer);
    parts.join(" ")
}

/// Numbers of animals and things, then a question about one of them.
fn how_many(rng: &mut Rng) -> String {
    let scene = Scene::any(rng);
    let n = rng.between(2, 4);
    let counted: Vec<String> = rng.some(n, &[ANIMALS, THINGS].concat()).into_iter().map(plural).collect();
    let numbers = rng.some(n, &NUMBERS[1..12]);
    let all: Vec<String> =
        counted.iter().zip(&numbers).map(|(counted, number)| format!("{number} {counted}")).collect();
    let asked = rng.between(0, n);
    let question = format!("How many {} are there? There are {}.", counted[asked], all[asked]);
    scene.fill(&format!("At {{place}} there are {}. {question}", list(&all)))
}

/// The middle of a letter from {A} to {B}.
const LETTERS: &[&str] = &[
    "Thank you for {the gift}. I hope to see you at {place} on {day}.",
    "It is {weather} here. Yesterday I saw a {animal} and a {animal2}.",
    "I am {feeling}. Please come to {place} and bring {gift}.",
    "{C} and I went to {place}. {C} found a {colour} {thing}.",
    "The {thing} that you sent me is {colour}. I like {colour} {things}.",
    "How are you? I am {feeling}. My {animal} is {feeling} too.",
    "Did you find your {thing}? It was {room} on {day}.",
    "{C} has {gift}, and I have {gift2}. What do you have?",
    "Please give {gift} to {C}. I gave {gift2} to the {person}.",
    "Every day I go to {place}. On {day} I met {C} at {place}.",
    "I am sorry that I did not write. It was {weather}, and I was ill.",
    "We have {number} {animals} now. Last year we had only {less} {animals}.",
    "Will you come to {place} on {day}? There will be {food} and {food2}.",
];

/// How a letter ends before the name.
const GREETINGS: &[&str] = &["Love,", "Your friend", "Many kisses,", "See you soon,"];

fn letter(rng: &mut Rng) -> String {
    let scene = Scene::any(rng);
    let n = rng.between(1, 4);
    let middle = rng.some(n, LETTERS).join(" ");
    let letter = scene.fill(&format!("Dear {{B}},\n{middle}\n{} {{A}}", rng.pick(GREETINGS)));
    if rng.chance(0.2) {
        return letter + &scene.fill("\n\nDear {A},\nThank you for your letter. I am {feeling2}.\nLove, {B}");
    }
    letter
}

/// Why {X} has a feeling.
const REASONS: &[(&str, &[&str])] = &[
    ("happy", &["the sun was shining", "it was {his X} birthday", "{he X} got a letter", "there was no school"]),
    ("sad", &["{his X} {thing} was broken", "nobody came", "it was time to go home", "{his X} {animal} was ill"]),
    ("angry", &["the {animal} ate the {food}", "somebody took {his X} {thing}", "nobody helped {him X}"]),
    ("afraid", &["it was dark", "there was a noise {room}", "the {animal} was very big", "{he X} was alone"]),
    ("tired", &["it was late", "{he X} worked all day", "the way was long", "{he X} did not sleep"]),
    ("hungry", &["there was no {food} left", "{he X} did not eat anything", "lunch was late"]),
    ("thirsty", &["it was hot", "there was no water", "{he X} ate too much salt"]),
    ("proud", &["{he X} painted the {thing}", "{he X} could count to twenty", "{his X} picture was the best"]),
    ("excited", &["it was {day}", "{he X} wanted to see {place}", "a {animal} came by"]),
    ("lonely", &["all the friends were at {place}", "there was nobody to play with"]),
    ("busy", &["there was a lot to do", "the {person} wanted {food}", "{he X} had {number} letters to write"]),
    ("glad", &["the rain stopped", "the {thing} was there again", "the {person} helped {him X}"]),
];

/// Why somebody was happy and somebody else was not, then a question about one of them.
fn feelings(rng: &mut Rng) -> String {
    let n = rng.between(2, 4);
    let cast = people(rng, n);
    let mut scene = Scene::new(rng, &cast);
    let mut seen: Vec<(Person, &str, String)> = Vec::new();
    while seen.len() < n {
        let (feeling, reasons) = REASONS[rng.between(0, REASONS.len())];
        if seen.iter().all(|(_, other, _)| *other != feeling) {
            let person = cast[seen.len()];
            scene.set_person("X", person);
            seen.push((person, feeling, scene.fill(rng.pick(reasons))));
        }
    }
    let mut parts: Vec<String> =
        seen.iter().map(|((name, _), feeling, reason)| format!("{name} was {feeling} because {reason}.")).collect();
    let ((name, he), feeling, reason) = &seen[rng.between(0, n)];
    parts.push(match rng.between(0, 4) {
        0 => format!("Who was {feeling}? {name} was {feeling}."),
        1 => format!("Why was {name} {feeling}? Because {reason}."),
        2 => format!("How was {name}? {} was {feeling}.", capital(he)),
        _ => format!("\"Why are you {feeling}, {name}?\" asked the {}.", rng.pick(PERSONS)),
    });
    parts.join(" ")
}

/// What {A} says, and what {B} answers.
const TALKS: &[(&str, &str)] = &[
    ("Hello, {B}.", "Hello, {A}."),
    ("How are you, {B}?", "I am {feeling}, thank you."),
    ("Where are you going?", "I am going to {place}."),
    ("Why are you going to {place}?", "I want to buy {food} at {place}."),
    ("What do you have there?", "I have {gift}."),
    ("Is it your {thing}?", "No, it is the {thing} of {C}."),
    ("Where is {C}?", "{C} is at {place2}."),
    ("What is that?", "It is a {animal}."),
    ("What colour is it?", "It is {colour}."),
    ("Do you like {food}?", "Yes, I like {food} very much."),
    ("Do you like {food2}?", "No, I do not like {food2}."),
    ("How many {animals} can you see?", "I can see {number} {animals}."),
    ("I am {feeling2}.", "Why are you {feeling2}?"),
    ("Can you help me, {B}?", "Yes, {A}, I can help you."),
    ("Will you come on {day}?", "Yes, I will come on {day}."),
    ("Can I have the {thing}?", "Yes, you can have the {thing}."),
    ("Did you see {C} on {day}?", "No, I did not see {C} on {day}."),
    ("I gave {gift} to {C}.", "What did {C} say?"),
    ("It is {weather} today.", "Yes, it was {weather} yesterday too."),
    ("Please come with me to {place}.", "Yes, let us go to {place}."),
];

/// Two people who speak in turn, as in a story or as in a play.
fn dialogue(rng: &mut Rng) -> String {
    let scene = Scene::any(rng);
    let n = rng.between(2, 5);
    let play = rng.chance(0.5);
    let mut parts = Vec::new();
    for (i, at) in rng.some(n, &TALKS.iter().collect::<Vec<_>>()).into_iter().enumerate() {
        let (one, two) = at;
        parts.push(match (play, i) {
            (true, _) => format!("{{A}}: {one}\n{{B}}: {two}"),
            (false, 0) => format!("{} {}", said(one, "{A}"), said(two, "{B}")),
            (false, _) => format!("\"{one}\" \"{two}\""),
        });
    }
    if rng.chance(0.3) {
        parts.push(if play {
            "{A}: Goodbye, {B}.\n{B}: Goodbye, {A}.".to_owned()
        } else {
            "\"Goodbye, {B},\" said {A}. \"Goodbye, {A},\" said {B}.".to_owned()
        });
    }
    scene.fill(&parts.join(if play { "\n" } else { " " }))
}

/// "Hello." as: "Hello," said {A}.
fn said(line: &str, who: &str) -> String {
    match (line.strip_suffix('.'), line.ends_with('?')) {
        (Some(line), _) => format!("\"{line},\" said {who}."),
        (None, true) => format!("\"{line}\" asked {who}."),
        (None, false) => format!("\"{line}\" said {who}."),
    }
}

/// Songs: lines, the first and the last of which come in each verse.
const SONGS: &[&[&str]] = &[
    &["Little {word}, come to me,", "we will sit under the tree.", "Little {word}, come to me."],
    &["Hello, {word}, how are you?", "I like red and I like blue.", "Hello, {word}, how are you?"],
    &["The {word} sings all day long,", "la la la, it sings a song.", "The {word} sings all day long."],
    &["Run, {word}, run, run, run,", "run with me in the sun.", "Run, {word}, run, run, run."],
    &["Where is the {word}? I can't see", "where the little {word} can be.", "Where is the {word}? I can't see."],
    &["A {word} went up the hill,", "if it is not down, it is there still.", "A {word} went up the hill."],
    &["Sleep, {word}, it is night,", "the moon is big, the moon is white.", "Sleep, {word}, it is night."],
    &["Every day, every day,", "{A} and the {word} play.", "Every day, every day."],
    &["Come to {place}, come with me,", "there is a {word} that you can see.", "Come to {place}, come with me."],
];

/// A song of two or three verses, or one that counts down.
fn song(rng: &mut Rng) -> String {
    let mut scene = Scene::any(rng);
    if rng.chance(0.25) {
        return counting_song(rng, &scene);
    }
    let song = SONGS[rng.between(0, SONGS.len())];
    let n = rng.between(2, 4);
    let same = rng.chance(0.3);
    let words = rng.some(n, ANIMALS);
    let mut verses = Vec::new();
    for word in &words {
        scene.set("word", if same { words[0] } else { word });
        verses.push(scene.fill(&song.join("\n")));
    }
    verses.join("\n")
}

/// "Five ducks sat in the grass. One duck went away. Four ducks ...".
fn counting_song(rng: &mut Rng, scene: &Scene) -> String {
    let from = rng.between(4, 8);
    let verses = rng.between(2, 4);
    let lines: Vec<String> = (0..verses)
        .map(|i| format!("{} {{animals}} sat {{room}}.\nOne {{animal}} went away.", capital(NUMBERS[from - i - 1])))
        .collect();
    scene.fill(&format!("{}\n{} {{animals}} sat {{room}}.", lines.join("\n"), capital(NUMBERS[from - verses - 1])))
}

/// Who goes with what, said in order and then in another order.
fn pairs(rng: &mut Rng) -> String {
    let n = rng.between(2, 5);
    let cast = people(rng, n);
    let all = rng.pick(&[PLACES, THINGS, COLOURS, ANIMALS, FOODS, DAYS]);
    let lines: Vec<String> =
        cast.iter().zip(rng.some(n, all)).map(|((name, _), word)| format!("{name}: {word}")).collect();
    let again: Vec<&str> = rng.some(n, &lines.iter().map(String::as_str).collect::<Vec<_>>());
    if rng.chance(0.8) {
        format!("{}\n{}", lines.join("\n"), again.join("\n"))
    } else {
        format!("{}. {}.", lines.join(", "), again.join(", "))
    }
}

/// Words in no order, said twice or more.
fn repeated_words(rng: &mut Rng) -> String {
    let all = [THINGS, COLOURS, ANIMALS, FOODS, DRINKS, FEELINGS, WEATHER, NUMBERS, DAYS].concat();
    let n = rng.between(3, 16);
    let words = rng.some(n, &all).join(if rng.chance(0.3) { ", " } else { " " });
    let scene = Scene::any(rng);
    let (a, b) = (scene.fill("{A}"), scene.fill("{B}"));
    match rng.between(0, 6) {
        0 => format!("{words}\n{words}"),
        1 => format!("{words}\n{words}\n{words}"),
        2 => format!("\"{words},\" said {a}. \"{words},\" said {a} again."),
        3 => format!("\"{words},\" said {a}. \"{words},\" said {b}."),
        4 => format!("{a} learned the words: {words}. {a} said: {words}."),
        _ => format!("{a} wrote: {words}. {b} read: {words}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting_goes_up_to_twenty_in_words_and_digits() {
        let texts: Vec<String> = (0..2000).map(|i| counting(&mut Rng::new(4, i)).to_lowercase()).collect();
        for number in NUMBERS.iter().map(|word| word.to_string()).chain((1..=20).map(|n| n.to_string())) {
            let found = texts.iter().filter(|text| text.split([' ', ',', '.', '"']).any(|word| word == number)).count();
            assert!(found > 20, "{number} is in {found} texts");
        }
        assert!(texts.iter().any(|text| text.contains("two, four, six")));
        assert!(texts.iter().any(|text| text.contains("9, 8, 7")));
    }

    #[test]
    fn answers_repeat_a_fact() {
        for i in 0..1000 {
            for kind in [colours, facts_of_people] {
                let text = kind(&mut Rng::new(4, i));
                let (facts, answer) = text.split_once('?').unwrap();
                assert!(facts.contains(answer.trim()), "{text}");
            }
        }
    }

    #[test]
    fn repeated_words_come_again() {
        for i in 0..1000 {
            let text = repeated_words(&mut Rng::new(4, i));
            let words: Vec<&str> =
                text.split(|letter: char| !letter.is_alphabetic()).filter(|w| !w.is_empty()).collect();
            let again = words.windows(3).filter(|three| words.windows(3).filter(|other| other == three).count() > 1);
            assert!(again.count() >= 2, "{text}");
        }
    }
}
