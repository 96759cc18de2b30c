//! How the library's own values look: models, caches, attention, logits, tokens, generated text.

use candle_core::{DType, Tensor};

use crate::Result;
use crate::cache::{ActivationCache, Stack};
use crate::display::{Bundle, Card, Scale, Show, Table, TokenBoxes, TopTokens, count, number};
use crate::hooks::{Activations, Fires, HookPoint, PointInfo};
use crate::hub::{CheckpointLabels, CheckpointUnit, KnownModels};
use crate::model::{Choice, Generation, HookedTransformer, Logits, ModelConfig, Normalization, Positions};
use crate::tokens::Tokens;

/// Rows of a batch that are shown.
const MAX_ROWS: usize = 8;
/// Elements of an activation that its mean and spread are taken from.
const SAMPLED: usize = 1 << 20;
/// Likeliest tokens that logits show.
const TOP: usize = 10;

/// What `made` shows, or its error as a sentence.
fn shown<T: Show>(made: Result<T>) -> Bundle {
    made.bundle()
}

/// A card: family, sizes, parts.
impl Show for HookedTransformer {
    fn bundle(&self) -> Bundle {
        let cfg = self.cfg();
        let heads = if cfg.n_heads == cfg.n_key_value_heads {
            format!("{} of width {}", cfg.n_heads, cfg.d_head)
        } else {
            format!("{} of width {}, sharing {} key and value heads", cfg.n_heads, cfg.d_head, cfg.n_key_value_heads)
        };
        let points = self.hook_points().iter().filter(|info| info.fires == Fires::Always).count();
        let bos = match self.tokenizer() {
            Err(_) => "there is no tokenizer",
            Ok(_) if cfg.default_prepend_bos => "prepended by default",
            Ok(_) => "not prepended by default",
        };
        let name = if cfg.model_name.is_empty() { "a model without a name" } else { &cfg.model_name };
        let mut card = Card::new(name)
            .row("family", cfg.model_type.clone())
            .row("parameters", count(self.n_params()))
            .row("layers", cfg.n_layers.to_string())
            .row("heads", heads)
            .row("d_model", cfg.d_model.to_string())
            .row("MLP", mlp(cfg))
            .row("norm", norm(cfg, self.norms_folded()))
            .row("positions", positions(cfg))
            .row("vocabulary", count(cfg.d_vocab))
            .row("context", format!("{} tokens", count(cfg.n_ctx)))
            .row("BOS", bos)
            .row("type, device", format!("{:?}, {:?}", self.dtype(), self.device().location()))
            .row("hook points", points.to_string());
        if let Some(checkpoint) = cfg.checkpoint {
            let index = checkpoint.index.map(|index| format!(", number {index}")).unwrap_or_default();
            let taken = format!("after {} {}{index}", count(checkpoint.value as usize), unit(checkpoint.unit));
            card = card.row("checkpoint", taken);
        }
        if let Err(error) = self.tokenizer() {
            card = card.note(error.to_string());
        }
        card.bundle()
    }
}

fn mlp(cfg: &ModelConfig) -> String {
    if cfg.d_mlp == 0 {
        return "none".to_string();
    }
    let kind = if cfg.gated_mlp { "gated " } else { "" };
    let place = if cfg.parallel_attn_mlp { ", parallel to the attention" } else { "" };
    format!("{} wide, {kind}{:?}{place}", count(cfg.d_mlp), cfg.act_fn)
}

fn norm(cfg: &ModelConfig, folded: bool) -> String {
    let kind = match cfg.normalization {
        Normalization::LayerNorm => "LayerNorm",
        Normalization::Rms => "RMSNorm",
        Normalization::None => return "none".to_string(),
    };
    let weights = if folded { "weights folded into the next layer" } else { "weights kept" };
    format!("{kind}, {weights}")
}

fn positions(cfg: &ModelConfig) -> String {
    match cfg.positions {
        Positions::None => "none".to_string(),
        Positions::Learned => "learned vectors".to_string(),
        Positions::Sinusoidal => "vectors of sines and cosines".to_string(),
        Positions::Shortformer => "learned vectors, for queries and keys in every layer".to_string(),
        Positions::Alibi { .. } => "ALiBi, scores fall with the distance".to_string(),
        Positions::RelativeBias { buckets, .. } => format!("a learned bias for {buckets} ranges of distance"),
        Positions::Rotary => match cfg.layers.iter().find_map(|layer| layer.rotary.as_ref()) {
            Some(rotary) => {
                format!("rotary, {} dimensions of each head, base {}", rotary.rotary_dim, number(rotary.base))
            }
            None => "none".to_string(),
        },
    }
}

/// Every setting of an architecture, as a card.
impl Show for ModelConfig {
    fn bundle(&self) -> Bundle {
        self.card().bundle()
    }
}

impl ModelConfig {
    fn card(&self) -> Card {
        let name = if self.model_name.is_empty() { "a configuration without a name" } else { &self.model_name };
        let yes = |yes: bool| if yes { "yes" } else { "no" }.to_string();
        Card::new(name)
            .row("family (model_type)", self.model_type.clone())
            .row("layers (n_layers)", self.n_layers.to_string())
            .row("width (d_model)", count(self.d_model))
            .row("heads (n_heads, n_key_value_heads)", format!("{}, {}", self.n_heads, self.n_key_value_heads))
            .row("width of a head (d_head)", self.d_head.to_string())
            .row("MLP (d_mlp, act_fn)", mlp(self))
            .row("vocabulary (d_vocab)", count(self.d_vocab))
            .row("context (n_ctx)", count(self.n_ctx))
            .row("positions", positions(self))
            .row("normalization, eps", format!("{:?}, {}", self.normalization, number(self.eps)))
            .row("attention beside the MLP (parallel_attn_mlp)", yes(self.parallel_attn_mlp))
            .row("sees both sides (bidirectional)", yes(self.bidirectional))
            .row("BOS by default (default_prepend_bos)", yes(self.default_prepend_bos))
    }
}

/// A table of every activation: name, shape, mean, standard deviation, size.
impl Show for ActivationCache {
    fn bundle(&self) -> Bundle {
        activation_table(self.iter()).title(format!("Activations of {}", self.model().cfg().model_name)).bundle()
    }
}

/// A table of every activation: name, shape, mean, standard deviation, size.
impl Show for Activations {
    fn bundle(&self) -> Bundle {
        activation_table(self.iter()).bundle()
    }
}

fn activation_table<'a>(entries: impl Iterator<Item = &'a (HookPoint, Tensor)>) -> Table {
    let mut table = Table::new(["activation", "shape", "mean", "std", "size"]);
    let (mut rows, mut bytes, mut masked, mut sampled) = (0, 0, false, false);
    for (point, tensor) in entries {
        let size = tensor.elem_count() * tensor.dtype().size_in_bytes();
        let (mean, std) = match Spread::of(tensor) {
            Ok(spread) => {
                masked |= spread.left_out;
                sampled |= spread.sampled;
                (number(spread.mean), number(spread.std))
            }
            Err(_) => ("?".to_string(), "?".to_string()),
        };
        table = table.row([point.name().to_string(), format!("{:?}", tensor.dims()), mean, std, in_bytes(size)]);
        rows += 1;
        bytes += size;
    }
    let mut note = format!("{} activations, {}", count(rows), in_bytes(bytes));
    if masked {
        note += "; mean and std are of the finite values (masked scores are -inf)";
    }
    if sampled {
        note += "; of large activations they are of a sample";
    }
    table.note(note)
}

struct Spread {
    mean: f64,
    std: f64,
    left_out: bool,
    sampled: bool,
}

impl Spread {
    fn of(tensor: &Tensor) -> Result<Self> {
        let flat = tensor.flatten_all()?;
        let step = flat.elem_count().div_ceil(SAMPLED).max(1);
        let flat = if step > 1 {
            let every = Tensor::arange_step(0u32, flat.elem_count() as u32, step as u32, flat.device())?;
            flat.index_select(&every, 0)?
        } else {
            flat
        };
        let values: Vec<f32> = flat.to_dtype(DType::F32)?.to_vec1()?;
        let finite = || values.iter().filter(|value| value.is_finite()).map(|value| f64::from(*value));
        let n = finite().count().max(1) as f64;
        let mean = finite().sum::<f64>() / n;
        let std = (finite().map(|value| (value - mean).powi(2)).sum::<f64>() / n).sqrt();
        Ok(Self { mean, std, left_out: finite().count() < values.len(), sampled: step > 1 })
    }
}

fn in_bytes(bytes: usize) -> String {
    let bytes = bytes as f64;
    match bytes {
        b if b < 1024.0 => format!("{b} B"),
        b if b < 1024.0 * 1024.0 => format!("{:.1} KiB", b / 1024.0),
        b if b < 1024.0 * 1024.0 * 1024.0 => format!("{:.1} MiB", b / (1024.0 * 1024.0)),
        b => format!("{:.1} GiB", b / (1024.0 * 1024.0 * 1024.0)),
    }
}

/// The likeliest next tokens after the last position of each row.
impl Show for Logits {
    fn bundle(&self) -> Bundle {
        let rows = self.dims().first().copied().unwrap_or(0);
        let views: Vec<Bundle> = (0..rows.min(MAX_ROWS)).map(|row| shown(top_tokens(self, row))).collect();
        stacked(views, rows, "rows")
    }
}

fn top_tokens(logits: &Logits, row: usize) -> Result<TopTokens> {
    let at_last: Vec<f32> = logits.at(row, -1)?.to_vec1()?;
    let mut view = TopTokens::new().title("Likeliest next tokens");
    for (text, id, probability) in logits.top_k(TOP, row, -1)? {
        view = view.token(text, id, probability, at_last.get(id as usize).copied());
    }
    Ok(view)
}

/// Each token in a box.
impl Show for Tokens {
    fn bundle(&self) -> Bundle {
        let rows = self.ids().len();
        let views = (0..rows.min(MAX_ROWS)).map(|row| shown(token_boxes(self, row))).collect();
        stacked(views, rows, "rows")
    }
}

fn token_boxes(tokens: &Tokens, row: usize) -> Result<TokenBoxes> {
    let ids = tokens.row(row)?;
    let pieces = match tokens.tokenizer() {
        Some(tokenizer) => ids.iter().map(|id| tokenizer.piece(*id)).collect(),
        None => ids.iter().map(|id| format!("#{id}")).collect::<Vec<_>>(),
    };
    Ok(TokenBoxes::new(pieces).ids(ids.iter().copied()))
}

/// The tokens; what was added is coloured by its probability, and under the pointer is what else was likely.
impl Show for Generation {
    fn bundle(&self) -> Bundle {
        let rows = self.added().len();
        let views = (0..rows.min(MAX_ROWS)).map(|row| generated(self, row)).collect();
        stacked(views, rows, "texts")
    }
}

fn generated(generation: &Generation, row: usize) -> Bundle {
    let mut bundle = shown(generated_boxes(generation, row));
    if let Ok(text) = generation.text(row) {
        bundle.text = crate::display::escape::terminal(&text);
    }
    bundle
}

fn generated_boxes(generation: &Generation, row: usize) -> Result<TokenBoxes> {
    let (prompt, added) = generation.pieces(row)?;
    let choices = generation.choices(row)?;
    let n = prompt.len();
    let likely = |choice: &Choice| -> String {
        let one = |(id, probability): &(u32, f32)| format!("{} {:.1}%", generation.piece(*id), probability * 100.0);
        format!("likeliest: {}", choice.likeliest.iter().map(one).collect::<Vec<_>>().join(", "))
    };
    let colours = (0..n).map(|_| 0.0).chain(choices.iter().map(|choice| choice.probability));
    let hints = (0..n).map(|_| "prompt".to_string()).chain(choices.iter().map(likely));
    Ok(TokenBoxes::new(prompt.into_iter().chain(added))
        .values("probability of what was added", colours.collect::<Vec<f32>>())
        .scale(Scale::Sequential { low: 0.0, high: 1.0 })
        .hints(hints.collect::<Vec<String>>()))
}

/// The stacked vectors: for each component its norm.
impl Show for Stack {
    fn bundle(&self) -> Bundle {
        let mut table = Table::new(["component", "mean norm"]).title(format!("Stack {:?}", self.dims()));
        for (i, label) in self.labels().iter().enumerate() {
            let norm = || -> Result<f32> {
                Ok(self
                    .get(i)?
                    .to_dtype(DType::F32)?
                    .sqr()?
                    .sum(candle_core::D::Minus1)?
                    .sqrt()?
                    .mean_all()?
                    .to_scalar()?)
            };
            let norm = norm().map_or_else(|_| "?".to_string(), |norm| number(f64::from(norm)));
            table = table.row([label.clone(), norm]);
        }
        table.bundle()
    }
}

/// A hook point on a line; several (`model.hook_points()`) as a table.
impl Show for PointInfo {
    fn bundle(&self) -> Bundle {
        let fires = match &self.fires {
            Fires::Always => self.shape.to_string(),
            Fires::OnRequest => format!("{} (on request)", self.shape),
            Fires::Never(why) => format!("never fires: {why}"),
        };
        Bundle::text(format!("{}  {fires}", self.point))
    }

    fn bundle_of_all(points: &[Self]) -> Bundle {
        let fires = |info: &PointInfo| match &info.fires {
            Fires::Always => String::new(),
            Fires::OnRequest => "on request".to_string(),
            Fires::Never(why) => format!("never: {why}"),
        };
        let row = |info: &PointInfo| [info.point.name().to_string(), info.shape.to_string(), fires(info)];
        let never = points.iter().filter(|info| matches!(info.fires, Fires::Never(_))).count();
        let table = Table::new(["hook point", "shape", "fires"]).rows(points.iter().map(row)).max_rows(200);
        table.title(format!("{} hook points", count(points.len()))).note(format!("{never} of them never fire")).bundle()
    }
}

impl Show for HookPoint {
    fn bundle(&self) -> Bundle {
        Bundle::text(self.name())
    }
}

/// A table: short name, hub name, family, parameters.
impl Show for KnownModels {
    fn bundle(&self) -> Bundle {
        let title = match self.filter() {
            "" => "Known models".to_string(),
            filter => format!("Known models with '{filter}'"),
        };
        let mut table =
            Table::new(["short name", "hub name", "family", "parameters"]).title(title).max_rows(self.len());
        for model in self.iter() {
            table = table.row([model.short_name(), model.name, model.family, model.parameters]);
        }
        table.note("any other repository of a known family loads too, by its full name").bundle()
    }
}

fn unit(unit: CheckpointUnit) -> &'static str {
    match unit {
        CheckpointUnit::Step => "steps",
        CheckpointUnit::Token => "tokens",
    }
}

/// How many there are, the first and the last.
impl Show for CheckpointLabels {
    fn bundle(&self) -> Bundle {
        let unit = unit(self.unit);
        let planned = if self.exact { "" } else { " (as planned; files are labelled up to two steps later)" };
        let label = |at: Option<&u64>| at.map_or("?".to_string(), |label| count(*label as usize));
        let (first, last) = (label(self.labels.first()), label(self.labels.last()));
        Bundle::text(format!("{} checkpoints, after {first} to {last} {unit}{planned}", self.labels.len()))
    }
}

fn stacked(mut views: Vec<Bundle>, of: usize, what: &str) -> Bundle {
    if views.len() < of {
        views.push(Bundle::text(format!("the first {} of {of} {what}", views.len())));
    }
    match views.len() {
        1 => views.remove(0),
        _ => Bundle::stack(&views),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::{checkpoint_labels, find_models};

    #[test]
    fn known_models_are_a_whole_table() {
        let text = find_models("gemma-2-2b").bundle().text;
        assert!(text.contains("google/gemma-2-2b-it") && text.contains("2.6B") && text.contains("gemma2"), "{text}");
        let all = find_models("").bundle();
        assert!(all.text.lines().count() > 250 && all.text.contains("NeelNanda/GELU_4L512W_C4_Code"));
        assert!(all.png.is_some() && all.html.is_some_and(|html| html.contains("EleutherAI/pythia-160m")));
    }

    #[test]
    fn checkpoint_labels_are_a_sentence() {
        let text = checkpoint_labels("pythia-70m").unwrap().bundle().text;
        assert_eq!(text, format!("154 checkpoints, after 0 to {} steps", count(143_000)));
    }
}
