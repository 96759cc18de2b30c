//! Indirect object identification: "When John and Mary came to the park, Mary gave a book to" goes on with " John"
//! (Wang et al. 2022, arXiv 2211.00593).

mod score;
mod words;

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};

use crate::tokens::{PaddingSide, TokenOptions, Tokenizer, Tokens};
use crate::{Error, Result};

pub use score::{IoiPart, IoiScore, ioi_eval};

/// Prompts for indirect object identification, each with a corrupted counterpart of equal length.
///
/// The indirect object (IO) is named once, the subject (S) twice; the model should say IO. All names, places and objects
/// are one token each, so prompts of one template have equal length, and a prompt and its counterpart differ in names
/// only. Prompts of different templates are padded on the right.
///
/// ```
/// use candlescope::analysis::{IoiDataset, IoiOptions};
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let model = HookedTransformer::from_pretrained("tiny")?;
/// let ioi = IoiDataset::new(model.tokenizer()?, &IoiOptions::new().prompts(8))?;
/// println!("{} -> {}", ioi.prompts()[0].text, ioi.prompts()[0].io);
/// assert_eq!(ioi.tokens().shape(), ioi.corrupted().shape());
/// let score = ioi.score(&model)?;
/// println!("accuracy {:.2}, logit difference {:.2}", score.accuracy(), score.mean_logit_diff());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct IoiDataset {
    prompts: Vec<IoiPrompt>,
    tokens: Tokens,
    corrupted: Tokens,
    templates: Vec<String>,
}

/// One prompt, with what is in it and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoiPrompt {
    /// The text, up to where the answer comes.
    pub text: String,
    /// Its counterpart with other names, of as many tokens.
    pub corrupted: String,
    /// Which template it is made from.
    pub template: usize,
    /// Who is named first.
    pub order: IoiOrder,
    /// The name of the indirect object, the right answer.
    pub io: String,
    /// The name of the subject, the wrong answer.
    pub s: String,
    /// The indirect object's token, with a leading space.
    pub io_token: u32,
    /// The subject's token, with a leading space.
    pub s_token: u32,
    /// Where the names are.
    pub positions: IoiPositions,
}

/// Where the parts of a prompt are, counted from the start of its row (BOS included).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoiPositions {
    /// The indirect object.
    pub io: usize,
    /// The first mention of the subject.
    pub s1: usize,
    /// The token after it, which previous-token heads write to.
    pub s1_plus_1: usize,
    /// The second mention of the subject.
    pub s2: usize,
    /// The last token, where the answer is read.
    pub end: usize,
}

/// Who is named first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IoiOrder {
    /// The indirect object, then the subject, then the subject again: ABB, and A is the answer.
    Abba,
    /// The subject, then the indirect object, then the subject again: BAB, and A is the answer.
    Baba,
}

/// How the counterpart of a prompt differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum IoiCorruption {
    /// The other one gives: the second mention of the subject becomes the indirect object, so that the answer is the other.
    #[default]
    OtherSubject,
    /// The two names are exchanged throughout, so that the answer is the other.
    SwappedNames,
    /// Three other names, all different, so that there is no answer (p_ABC of Wang et al.).
    ThreeNames,
}

/// What prompts are made. The default is 32 of all templates, in both orders, from seed 0.
#[derive(Clone, Debug, PartialEq)]
pub struct IoiOptions {
    prompts: usize,
    seed: u64,
    symmetric: bool,
    orders: Vec<IoiOrder>,
    corruption: IoiCorruption,
    templates: Vec<String>,
    names: Vec<String>,
    places: Vec<String>,
    objects: Vec<String>,
    prepend_bos: Option<bool>,
}

impl Default for IoiOptions {
    fn default() -> Self {
        let owned = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        Self {
            prompts: 32,
            seed: 0,
            symmetric: false,
            orders: vec![IoiOrder::Abba, IoiOrder::Baba],
            corruption: IoiCorruption::default(),
            templates: owned(words::TEMPLATES),
            names: owned(words::NAMES),
            places: owned(words::PLACES),
            objects: owned(words::OBJECTS),
            prepend_bos: None,
        }
    }
}

impl IoiOptions {
    /// Thirty-two prompts of all templates.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many prompts.
    pub fn prompts(mut self, count: usize) -> Self {
        self.prompts = count;
        self
    }

    /// Seed of all choices.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Each prompt is followed by the same one with the two names exchanged, so that no name is the answer more often.
    pub fn symmetric(mut self) -> Self {
        self.symmetric = true;
        self
    }

    /// One order only, instead of both.
    pub fn order(mut self, order: IoiOrder) -> Self {
        self.orders = vec![order];
        self
    }

    /// How the counterparts differ.
    pub fn corruption(mut self, corruption: IoiCorruption) -> Self {
        self.corruption = corruption;
        self
    }

    /// One of the built-in templates, by its number, so that all prompts have equal length; a number that is too large
    /// is an error when the prompts are made.
    pub fn template(mut self, number: usize) -> Self {
        self.templates = words::TEMPLATES.get(number).map(ToString::to_string).into_iter().collect();
        self
    }

    /// Templates of one's own: `{1}` and `{2}` are the first mentions, `{S}` the second of the subject; `{place}` and
    /// `{object}` may be there. No name may stand at the very start.
    pub fn templates<T: Into<String>>(mut self, templates: impl IntoIterator<Item = T>) -> Self {
        self.templates = templates.into_iter().map(Into::into).collect();
        self
    }

    /// Names of one's own. Those that are not one token are left out.
    pub fn names<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        self.names = names.into_iter().map(Into::into).collect();
        self
    }

    /// Places of one's own. Those that are not one token are left out.
    pub fn places<T: Into<String>>(mut self, places: impl IntoIterator<Item = T>) -> Self {
        self.places = places.into_iter().map(Into::into).collect();
        self
    }

    /// Objects of one's own. Those that are not one token are left out.
    pub fn objects<T: Into<String>>(mut self, objects: impl IntoIterator<Item = T>) -> Self {
        self.objects = objects.into_iter().map(Into::into).collect();
        self
    }

    /// Whether prompts get the beginning-of-sequence token, instead of the tokenizer's default.
    pub fn prepend_bos(mut self, prepend: bool) -> Self {
        self.prepend_bos = Some(prepend);
        self
    }
}

impl IoiDataset {
    /// Prompts for the model of this tokenizer (`model.tokenizer()?`, or `Tokenizer::gpt2()?` without a model).
    ///
    /// # Errors
    /// When too few names, or no place or object, are one token for this tokenizer, and when a template lacks a name, begins
    /// with one, or does not keep its names one token each.
    pub fn new(tokenizer: &Tokenizer, options: &IoiOptions) -> Result<Self> {
        if options.prompts == 0 {
            return Err(Error::msg("no prompts were asked for: prompts(..) must be at least 1"));
        }
        let words = Words::new(tokenizer, options)?;
        let mut rng = StdRng::seed_from_u64(options.seed);
        let mut prompts = Vec::with_capacity(options.prompts);
        while prompts.len() < options.prompts {
            let filling = words.draw(&mut rng, options)?;
            prompts.push(filling.prompt(tokenizer, options)?);
            if options.symmetric && prompts.len() < options.prompts {
                prompts.push(filling.swapped().prompt(tokenizer, options)?);
            }
        }
        let (ids, corrupted): (Vec<_>, Vec<_>) =
            prompts.iter().map(|(_, ids, corrupted)| (ids.clone(), corrupted.clone())).unzip();
        // Masked, so that any id would do.
        let pad = tokenizer.pad_id().unwrap_or(0);
        let padded = |rows| Ok::<_, Error>(Tokens::padded(rows, pad, PaddingSide::Right)?.with_tokenizer(tokenizer));
        Ok(Self {
            tokens: padded(ids)?,
            corrupted: padded(corrupted)?,
            prompts: prompts.into_iter().map(|(prompt, ..)| prompt).collect(),
            templates: options.templates.clone(),
        })
    }

    /// The prompts.
    pub fn prompts(&self) -> &[IoiPrompt] {
        &self.prompts
    }

    /// The prompts' tokens, `[prompt, pos]`, padded on the right where templates differ in length.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// The counterparts' tokens, `[prompt, pos]`, position by position beside [`tokens`](Self::tokens).
    pub fn corrupted(&self) -> &Tokens {
        &self.corrupted
    }

    /// The templates, by number.
    pub fn templates(&self) -> &[String] {
        &self.templates
    }

    /// The right answers' tokens, one for each prompt.
    pub fn io_tokens(&self) -> Vec<u32> {
        self.prompts.iter().map(|prompt| prompt.io_token).collect()
    }

    /// The wrong answers' tokens, one for each prompt.
    pub fn s_tokens(&self) -> Vec<u32> {
        self.prompts.iter().map(|prompt| prompt.s_token).collect()
    }

    /// Where the parts of each prompt are.
    pub fn positions(&self) -> Vec<IoiPositions> {
        self.prompts.iter().map(|prompt| prompt.positions).collect()
    }
}

/// The words that are one token for a tokenizer.
struct Words {
    names: Vec<String>,
    places: Vec<String>,
    objects: Vec<String>,
}

impl Words {
    fn new(tokenizer: &Tokenizer, options: &IoiOptions) -> Result<Self> {
        let single = |kind: &str, words: &[String], least: usize| {
            let mut fitting: Vec<String> = Vec::new();
            for word in words {
                if !fitting.contains(word) && token_of(tokenizer, word)?.is_some() {
                    fitting.push(word.clone());
                }
            }
            if fitting.len() >= least {
                return Ok(fitting);
            }
            let tried: Vec<&str> = words.iter().take(8).map(String::as_str).collect();
            Err(Error::msg(format!(
                "{} of the {} {kind} given are one token for this tokenizer (with a space in front), and {least} are needed; tried {}{}; give others with \
                 .{kind}([..])",
                fitting.len(),
                words.len(),
                tried.join(", "),
                if words.len() > tried.len() { ", .." } else { "" }
            )))
        };
        if options.templates.is_empty() {
            return Err(Error::msg(format!(
                "there is no such template: the built-in ones are numbered from 0 to {}",
                words::TEMPLATES.len() - 1
            )));
        }
        let used = |key: &str| usize::from(options.templates.iter().any(|template| template.contains(key)));
        let names = if options.corruption == IoiCorruption::ThreeNames { 5 } else { 2 };
        Ok(Self {
            names: single("names", &options.names, names)?,
            places: single("places", &options.places, used("{place}"))?,
            objects: single("objects", &options.objects, used("{object}"))?,
        })
    }

    fn draw(&self, rng: &mut StdRng, options: &IoiOptions) -> Result<Filling> {
        let mut names = self.names.clone();
        names.shuffle(rng);
        let (others, names) = (names.split_off(2), names);
        let [io, s] = &names[..] else { return Err(Error::msg("a prompt needs two names")) };
        let pick = |words: &[String], rng: &mut StdRng| words.choose(rng).cloned().unwrap_or_default();
        Ok(Filling {
            template: rng.random_range(0..options.templates.len()),
            order: *options.orders.choose(rng).unwrap_or(&IoiOrder::Abba),
            io: io.clone(),
            s: s.clone(),
            others: others.into_iter().take(3).collect(),
            place: pick(&self.places, rng),
            object: pick(&self.objects, rng),
        })
    }
}

/// The token of a word inside of a sentence; none if it is several. Some tokenizers put a space of their own before a text, so
/// that the word with its space says nothing by itself.
fn token_of(tokenizer: &Tokenizer, word: &str) -> Result<Option<u32>> {
    let (before, with_word) = (tokenizer.encode("and")?, tokenizer.encode(&format!("and {word}"))?);
    Ok(match with_word.strip_prefix(&before[..]) {
        Some([token]) => Some(*token),
        _ => None,
    })
}

/// What one prompt is made of.
#[derive(Clone)]
struct Filling {
    template: usize,
    order: IoiOrder,
    io: String,
    s: String,
    /// Names that are not in the prompt.
    others: Vec<String>,
    place: String,
    object: String,
}

impl Filling {
    fn swapped(&self) -> Self {
        Self { io: self.s.clone(), s: self.io.clone(), ..self.clone() }
    }

    /// The prompt, its ids, and its counterpart's ids.
    fn prompt(&self, tokenizer: &Tokenizer, options: &IoiOptions) -> Result<(IoiPrompt, Vec<u32>, Vec<u32>)> {
        let template = &options.templates[self.template];
        let (first, second) = self.in_order(&self.io, &self.s);
        let text = self.fill(template, first, second, &self.s)?;
        let corrupted = match (options.corruption, &self.others[..]) {
            (IoiCorruption::OtherSubject, _) => self.fill(template, first, second, &self.io)?,
            (IoiCorruption::SwappedNames, _) => self.fill(template, second, first, &self.io)?,
            (IoiCorruption::ThreeNames, [a, b, c, ..]) => self.fill(template, a, b, c)?,
            (IoiCorruption::ThreeNames, _) => return Err(Error::msg("three other names are needed")),
        };
        let options = TokenOptions { prepend_bos: options.prepend_bos, ..TokenOptions::default() };
        let ids = |text: &str| -> Result<Vec<u32>> { Ok(tokenizer.to_tokens_with(text, &options)?.row(0)?.to_vec()) };
        let (ids, corrupted_ids) = (ids(&text)?, ids(&corrupted)?);
        let (Some(io_token), Some(s_token)) = (token_of(tokenizer, &self.io)?, token_of(tokenizer, &self.s)?) else {
            return Err(Error::msg(format!("{} and {} must be one token each", self.io, self.s)));
        };
        let places = |token: u32| (0..ids.len()).filter(|&pos| ids[pos] == token).collect::<Vec<_>>();
        let (&[io], &[s1, s2]) = (&places(io_token)[..], &places(s_token)[..]) else {
            return Err(Error::msg(format!(
                "in '{text}' the name {} should be one token that comes once, and {} one that comes twice: give the template other \
                 words, and spaces before its names",
                self.io, self.s
            )));
        };
        if corrupted_ids.len() != ids.len() {
            return Err(Error::msg(format!(
                "'{text}' has {} tokens, and '{corrupted}' {}: they must have as many",
                ids.len(),
                corrupted_ids.len()
            )));
        }
        let positions = IoiPositions { io, s1, s1_plus_1: s1 + 1, s2, end: ids.len() - 1 };
        let (template, order, io, s) = (self.template, self.order, self.io.clone(), self.s.clone());
        Ok((IoiPrompt { text, corrupted, template, order, io, s, io_token, s_token, positions }, ids, corrupted_ids))
    }

    fn in_order<'a>(&self, io: &'a str, s: &'a str) -> (&'a str, &'a str) {
        match self.order {
            IoiOrder::Abba => (io, s),
            IoiOrder::Baba => (s, io),
        }
    }

    fn fill(&self, template: &str, first: &str, second: &str, subject: &str) -> Result<String> {
        for key in ["{1}", "{2}", "{S}"] {
            if template.matches(key).count() != 1 || template.starts_with(key) {
                return Err(Error::msg(format!(
                    "the template '{template}' must have {{1}}, {{2}} and {{S}} once each, and none of them at its start"
                )));
            }
        }
        let names = template.replace("{1}", first).replace("{2}", second).replace("{S}", subject);
        Ok(names.replace("{place}", &self.place).replace("{object}", &self.object))
    }
}
