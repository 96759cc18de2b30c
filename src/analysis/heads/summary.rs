//! All scores of all heads, and what each head is most likely called.

use candle_core::Tensor;

use super::random::on_repeated_tokens;
use super::{HeadAttention, HeadPattern};
use crate::analysis::{LabelledTensor, full_ov_copying_scores};
use crate::model::{HookedTransformer, Input};
use crate::{Error, Result};

/// A head gets the name of a kind if at least this much of its attention goes where that kind looks.
const NAMED_FROM: f32 = 0.4;
/// An induction head whose OV circuit copies less than this lowers what it looks at.
const LOWERS_FROM: f32 = -0.3;

/// A column of a [`HeadSummary`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeadScore {
    /// Mean attention to the token before.
    PreviousToken,
    /// Mean attention to earlier occurrences of the token, where there are any.
    DuplicateToken,
    /// Mean of the diagonal at 1 - n on n random tokens, repeated.
    Induction,
    /// Mean attention to what followed earlier occurrences, where there are any.
    PrefixMatching,
    /// Re Σλ / Σ|λ| over the eigenvalues of the full OV circuit, in -1 to 1.
    Copying,
    /// Mean entropy of a query's attention, in nats.
    Entropy,
    /// Mean attention to the first token (BOS).
    First,
    /// Mean attention of a token to itself.
    Current,
}

impl HeadScore {
    /// All columns, in the table's order.
    pub const ALL: [Self; 8] = [
        Self::PreviousToken,
        Self::DuplicateToken,
        Self::Induction,
        Self::PrefixMatching,
        Self::Copying,
        Self::Entropy,
        Self::First,
        Self::Current,
    ];

    /// The column's heading.
    pub fn name(self) -> &'static str {
        match self {
            Self::PreviousToken => "previous token",
            Self::DuplicateToken => "duplicate token",
            Self::Induction => "induction",
            Self::PrefixMatching => "prefix matching",
            Self::Copying => "copying (OV)",
            Self::Entropy => "entropy",
            Self::First => "first token",
            Self::Current => "current token",
        }
    }
}

/// What a head is most likely called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadKind {
    /// It looks at the token before.
    PreviousToken,
    /// It looks at earlier occurrences of the token.
    DuplicateToken,
    /// It looks at what followed earlier occurrences of the token.
    Induction,
    /// It looks where an induction head does, and its OV circuit lowers what it sees there.
    AntiInduction,
    /// It looks at the first token: it rests.
    First,
    /// It looks at the token itself.
    Current,
    /// None of these.
    Unnamed,
}

impl HeadKind {
    /// The name, empty for [`HeadKind::Unnamed`].
    pub fn name(self) -> &'static str {
        match self {
            Self::PreviousToken => "previous token",
            Self::DuplicateToken => "duplicate token",
            Self::Induction => "induction",
            Self::AntiInduction => "anti-induction",
            Self::First => "first token (rests)",
            Self::Current => "current token",
            Self::Unnamed => "",
        }
    }
}

/// One head's scores. A score that could not be measured is NaN.
#[derive(Clone, Debug)]
pub struct ScoredHead {
    /// Its layer.
    pub layer: usize,
    /// Its number in the layer.
    pub head: usize,
    /// What it is most likely called.
    pub kind: HeadKind,
    scores: Vec<f32>,
}

impl ScoredHead {
    /// `L5H1`.
    pub fn label(&self) -> String {
        format!("L{}H{}", self.layer, self.head)
    }

    /// One of its scores.
    pub fn score(&self, score: HeadScore) -> f32 {
        self.scores[score as usize]
    }
}

/// All heads of a model with their scores: a table, sortable, and a heatmap for each score.
#[derive(Clone, Debug)]
pub struct HeadSummary {
    /// In the order of [`HeadScore::ALL`].
    scores: Vec<LabelledTensor>,
    heads: Vec<ScoredHead>,
    tokens: String,
}

/// Scores every head on random tokens that repeat (four rows of 50, fewer where the context is short) and by the eigenvalues
/// of its full OV circuit, and says what it is most likely called: the kind of key that gets most of its attention, if that
/// is at least 0.4.
///
/// Costs one run of four rows, and what [`full_ov_copying_scores`] costs. Names that heads earn on random tokens are
/// a first guess: look at what they do on text ([`head_summary_on`]).
///
/// ```
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let model = HookedTransformer::from_pretrained("tiny")?;
/// let summary = head_summary(&model)?.sorted_by(HeadScore::Induction);
/// let best = &summary.heads()[0];
/// println!("{} {}: {:.2}", best.label(), best.kind.name(), best.score(HeadScore::Induction));
/// # Ok(()) }
/// ```
///
/// # Errors
/// When the model has no attention.
pub fn head_summary(model: &HookedTransformer) -> Result<HeadSummary> {
    let (attention, length) = on_repeated_tokens(model)?;
    let induction = attention.at_distance(length as i64 - 1)?;
    HeadSummary::new(model, &attention, Some(induction), format!("{length} random tokens, repeated"))
}

/// As [`head_summary`], on text or tokens of your own. [`HeadScore::Induction`], which random tokens define, is NaN; so are
/// duplicate token and prefix matching where no token occurs twice.
///
/// # Errors
/// When the model has no attention, a row has less than two tokens, and those of a run.
pub fn head_summary_on(model: &HookedTransformer, input: impl Into<Input>) -> Result<HeadSummary> {
    let attention = HeadAttention::run(model, input)?;
    HeadSummary::new(model, &attention, None, "the given text".to_string())
}

impl HeadSummary {
    fn new(
        model: &HookedTransformer,
        attention: &HeadAttention,
        induction: Option<LabelledTensor>,
        tokens: String,
    ) -> Result<Self> {
        let unknown = attention.entropy()?.map(|scores| Ok(scores.affine(0.0, f64::NAN)?))?;
        let to = |pattern: HeadPattern| -> Result<LabelledTensor> {
            match attention.attention_where(&pattern)? {
                Some(scores) => attention.labelled("", &scores),
                None => Ok(unknown.clone()),
            }
        };
        let mut scores = Vec::with_capacity(HeadScore::ALL.len());
        for score in HeadScore::ALL {
            let values = match score {
                HeadScore::PreviousToken => to(HeadPattern::PreviousToken)?,
                HeadScore::DuplicateToken => to(HeadPattern::DuplicateToken)?,
                HeadScore::PrefixMatching => to(HeadPattern::Induction)?,
                HeadScore::Induction => induction.clone().unwrap_or_else(|| unknown.clone()),
                HeadScore::Copying => copying(model, attention)?,
                HeadScore::Entropy => attention.entropy()?,
                HeadScore::First => attention.to_first()?,
                HeadScore::Current => attention.to_self()?,
            };
            scores.push(values.with_title(score.name()));
        }
        let columns: Vec<Vec<f32>> = scores.iter().map(LabelledTensor::values).collect();
        let n_heads = attention.n_heads();
        let scored = |(place, &layer): (usize, &usize)| -> Vec<ScoredHead> {
            let head = |head: usize| {
                let scores: Vec<f32> = columns.iter().map(|column| column[place * n_heads + head]).collect();
                ScoredHead { layer, head, kind: kind_of(&scores), scores }
            };
            (0..n_heads).map(head).collect()
        };
        let heads = attention.layers().iter().enumerate().flat_map(scored).collect();
        Ok(Self { scores, heads, tokens })
    }

    /// The heads, in the table's order: by layer, or as sorted.
    pub fn heads(&self) -> &[ScoredHead] {
        &self.heads
    }

    /// One head.
    ///
    /// # Errors
    /// When there is no such head.
    pub fn head(&self, layer: usize, head: usize) -> Result<&ScoredHead> {
        self.heads
            .iter()
            .find(|scored| (scored.layer, scored.head) == (layer, head))
            .ok_or_else(|| Error::msg(format!("there is no head {head} in layer {layer} with attention")))
    }

    /// One score of all heads, `[layer, head]`.
    pub fn score(&self, score: HeadScore) -> &LabelledTensor {
        &self.scores[score as usize]
    }

    /// The heads of one kind, in the table's order.
    pub fn of_kind(&self, kind: HeadKind) -> Vec<ScoredHead> {
        self.heads.iter().filter(|head| head.kind == kind).cloned().collect()
    }

    /// The table sorted by a score, highest first; what could not be measured comes last.
    pub fn sorted_by(mut self, score: HeadScore) -> Self {
        let key = |head: &ScoredHead| Some(head.score(score)).filter(|value| !value.is_nan());
        self.heads.sort_by(|a, b| key(b).partial_cmp(&key(a)).unwrap_or(std::cmp::Ordering::Equal));
        self
    }

    /// What the attention was measured on.
    pub fn tokens(&self) -> &str {
        &self.tokens
    }
}

/// The copying scores of the OV circuits under the axes of the attention; NaN where a layer has no OV circuit (latent
/// attention).
fn copying(model: &HookedTransformer, attention: &HeadAttention) -> Result<LabelledTensor> {
    let mut values = vec![f32::NAN; attention.layers().len() * attention.n_heads()];
    if let Ok(with_circuits) = model.attn_layers() {
        let scores = full_ov_copying_scores(model)?.values();
        for (layer, scores) in with_circuits.layers().iter().zip(scores.chunks(attention.n_heads())) {
            if let Some(place) = attention.layers().iter().position(|l| l == layer) {
                values[place * attention.n_heads()..][..attention.n_heads()].copy_from_slice(scores);
            }
        }
    }
    let dims = (attention.layers().len(), attention.n_heads());
    attention.labelled("", &Tensor::from_vec(values, dims, &candle_core::Device::Cpu)?)
}

/// The kind of key that gets most attention, if it gets enough.
fn kind_of(scores: &[f32]) -> HeadKind {
    let at = |score: HeadScore| scores[score as usize];
    let follows = if at(HeadScore::Copying) < LOWERS_FROM { HeadKind::AntiInduction } else { HeadKind::Induction };
    let kinds = [
        (HeadKind::PreviousToken, HeadScore::PreviousToken),
        (HeadKind::DuplicateToken, HeadScore::DuplicateToken),
        (follows, HeadScore::PrefixMatching),
        (HeadKind::First, HeadScore::First),
        (HeadKind::Current, HeadScore::Current),
    ];
    let named = kinds.into_iter().filter(|(_, score)| at(*score) >= NAMED_FROM);
    let best = named.max_by(|(_, a), (_, b)| at(*a).total_cmp(&at(*b)));
    best.map_or(HeadKind::Unnamed, |(kind, _)| kind)
}
