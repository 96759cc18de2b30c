//! Stories, and passages that come again.

use super::scene::Scene;
use super::story_templates::*;
use crate::rng::Rng;

/// A story: events in any order, or one of the plots.
pub fn story(rng: &mut Rng) -> String {
    let scene = Scene::any(rng);
    let parts = if rng.chance(0.35) { plot(rng) } else { events(rng) };
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).map(|part| scene.fill(part)).collect();
    parts.join(if rng.chance(0.5) { "\n" } else { " " })
}

fn plot(rng: &mut Rng) -> Vec<&'static str> {
    let steps = PLOTS[rng.between(0, PLOTS.len())];
    steps.iter().map(|ways| rng.pick(ways)).collect()
}

fn events(rng: &mut Rng) -> Vec<&'static str> {
    let n = rng.between(2, 6);
    let mut parts = vec![rng.pick(OPENINGS)];
    parts.extend(rng.some(n, EVENTS));
    parts.push(rng.pick(ENDINGS));
    parts
}

/// A passage that is read or sung twice or more.
pub fn repeated_passage(rng: &mut Rng) -> String {
    let scene = Scene::any(rng);
    let n = rng.between(1, 3);
    let passage = scene.fill(&rng.some(n, EVENTS).join(" "));
    match rng.between(0, 5) {
        0 => format!("{passage} {passage}"),
        1 => format!("{passage}\n{passage}\n{passage}"),
        2 => scene.fill("{A} read the page: ") + &passage + &scene.fill(" Then {he A} read it again: ") + &passage,
        3 => format!("{passage}\n{}\n{passage}", scene.fill(rng.pick(BETWEEN_PASSAGES))),
        _ => format!("The story begins like this: {passage} Now once more from the beginning: {passage}"),
    }
}

/// What stands between a passage and the same passage.
const BETWEEN_PASSAGES: &[&str] = &[
    "\"Again!\" said {C}.",
    "{B} did not hear it, so {A} told it again:",
    "The next day it was the same.",
    "Then everything happened again.",
    "Here it is once more, for {C}:",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn stories_differ_and_passages_come_again() {
        let stories: BTreeSet<String> = (0..1000).map(|i| story(&mut Rng::new(3, i))).collect();
        assert_eq!(stories.len(), 1000);
        for i in 0..1000 {
            let text = repeated_passage(&mut Rng::new(3, i));
            let end = &text[text.len() * 3 / 4..];
            assert!(text.matches(end).count() > 1, "{text}");
        }
    }
}
