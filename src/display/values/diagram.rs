//! A model's diagram, put together from its hook points and its configuration.

use std::ops::Range;

use crate::display::count;
use crate::display::views::diagram::{Diagram, Kind, Part, Point, Stack, Stage};
use crate::hooks::{Fires, PointInfo};
use crate::model::{ExpertJoin, HookedTransformer, ModelConfig, Normalization, Positions};
use crate::{Error, Result};

/// Up to so many experts have their points drawn; of more, the first stands for all.
const DRAWN_EXPERTS: usize = 8;

impl HookedTransformer {
    /// Its architecture as a drawing that names every hook point; the first block stands for all.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// println!("{}", model.diagram().bundle().text);
    /// # Ok::<(), candlescope::Error>(())
    /// ```
    pub fn diagram(&self) -> Diagram {
        diagram(self, 0)
    }

    /// As [`diagram`](Self::diagram), with this layer's block, for models whose layers differ. A stack of an
    /// encoder-decoder that has fewer layers shows its last one.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// assert!(model.diagram_of(2)?.bundle().text.contains("blocks.2"));
    /// # Ok::<(), candlescope::Error>(())
    /// ```
    ///
    /// # Errors
    /// A layer that the model does not have.
    pub fn diagram_of(&self, layer: usize) -> Result<Diagram> {
        let encoder = self.cfg().encoder.as_ref().map_or(0, |encoder| encoder.n_layers);
        let n_layers = self.cfg().n_layers.max(encoder);
        if layer < n_layers {
            Ok(diagram(self, layer))
        } else {
            Err(Error::msg(format!("there is no layer {layer}: the model has {n_layers}")))
        }
    }
}

fn diagram(model: &HookedTransformer, layer: usize) -> Diagram {
    let (cfg, points) = (model.cfg(), model.hook_points());
    let name = if cfg.model_name.is_empty() { "a model without a name" } else { &cfg.model_name };
    let Some(encoder) = &cfg.encoder else {
        let title = format!("{name}: {}", counted(cfg.n_layers, "block"));
        return Diagram { title, stacks: vec![stack(cfg, "", points, layer)] };
    };
    // The encoder fires first.
    let start = points.iter().position(|info| info.point.name().contains("decoder_")).unwrap_or(0);
    let (of_encoder, of_decoder) = points.split_at(start);
    Diagram {
        title: format!(
            "{name}: {} and {}",
            counted(encoder.n_layers, "encoder block"),
            counted(cfg.n_layers, "decoder block")
        ),
        stacks: vec![stack(encoder, "encoder", of_encoder, layer), stack(cfg, "decoder", of_decoder, layer)],
    }
}

/// One stack; `title` is `encoder` or `decoder`, or empty where there is only one.
fn stack(cfg: &ModelConfig, title: &str, infos: &[PointInfo], layer: usize) -> Stack {
    let layer = layer.min(cfg.n_layers.saturating_sub(1));
    let blocks = if title.is_empty() { "blocks".to_string() } else { format!("{title}_blocks") };
    let (any_block, this_block) = (format!("{blocks}."), format!("{blocks}.{layer}."));

    let (mut embedding, mut inside, mut norm, mut unembedding) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut points = Vec::new();
    for info in infos.iter().filter(|info| !matches!(info.fires, Fires::Never(_))) {
        let full = info.point.name();
        let (place, name) = match full.strip_prefix(this_block.as_str()) {
            Some(name) => (&mut inside, name),
            None if full.starts_with(any_block.as_str()) => continue,
            None if full.contains("ln_final.") => (&mut norm, full),
            None if full.starts_with("unembed.") => (&mut unembedding, full),
            None => (&mut embedding, full),
        };
        place.push(Point { name: name.to_string(), info: info.clone() });
        points.push(info.clone());
    }

    let through = |kind, heading, points| Stage::Through(Part::new(kind, heading, points));
    let mut before = vec![through(Kind::Ends, embedding_words(cfg), embedding)];
    before.extend(skipped(&blocks, 0..layer));
    let mut after = Vec::from_iter(skipped(&blocks, layer + 1..cfg.n_layers));
    if let Some(act_fn) = cfg.head_act_fn {
        let heading = format!("head of a masked language model: {}", act_fn.name());
        after.push(through(Kind::Plain, heading, Vec::new()));
    }
    if let Some(name) = norm.first().map(|point: &Point| module(&point.name).to_string()) {
        let kind = cfg.final_normalization.unwrap_or(cfg.normalization);
        after.push(through(Kind::Norm, format!("{name}: {}", norm_word(kind)), norm));
    }
    after.push(match title {
        "encoder" => through(Kind::Ends, "to the decoder's cross-attention".to_string(), unembedding),
        _ => through(Kind::Ends, format!("unembedding: {}", counted(cfg.d_vocab, "token")), unembedding),
    });
    let block_title = match cfg.n_layers {
        1 => format!("{blocks}.{layer}, the only one"),
        n => format!("{blocks}.{layer}, one of {n}"),
    };
    Stack { title: title.to_string(), before, block_title, block: block(cfg, layer, inside), after, points }
}

/// The stages of a block, from its points in the order in which they fire.
fn block(cfg: &ModelConfig, layer: usize, points: Vec<Point>) -> Vec<Stage> {
    // Without an MLP, a block has its norm in front whatever the configuration says.
    let post_norm = cfg.post_norm && points.iter().any(|point| point.name == "hook_mlp_out");
    let parallel = cfg.parallel_attn_mlp && !post_norm;
    let many = many_experts(cfg, layer).is_some();
    let (mut stages, mut branch) = (Vec::new(), Vec::new());
    for point in points.into_iter().filter(|point| !(many && is_further_expert(&point.name))) {
        let name = point.name.as_str();
        let on_stream =
            name.starts_with("hook_resid_") || (name == "hook_attn_out" && post_norm && cfg.attn_out_is_normalized);
        if on_stream {
            close(&mut stages, &mut branch, parallel);
            stages.push(Stage::Node(point));
        } else if post_norm && matches!(module(name), "ln1" | "ln2" | "ln3") {
            close(&mut stages, &mut branch, parallel);
            let part = part(cfg, layer, &point);
            match stages.last_mut() {
                Some(Stage::Through(same)) if same.heading == part.heading => same.points.push(point),
                _ => stages.push(Stage::Through(Part { points: vec![point], ..part })),
            }
        } else {
            let ends = ends_branch(name);
            let part = part(cfg, layer, &point);
            match branch.last_mut() {
                Some(same) if same.heading == part.heading => same.points.push(point),
                _ => branch.push(Part { points: vec![point], ..part }),
            }
            if ends {
                close(&mut stages, &mut branch, parallel);
            }
        }
    }
    close(&mut stages, &mut branch, parallel);
    for stage in &mut stages {
        if let Stage::Branches(branches) = stage {
            note_shared_norm(branches);
        }
    }
    stages
}

/// Lets a branch end in the stream: beside the one before it where both read the same place.
fn close(stages: &mut Vec<Stage>, branch: &mut Vec<Part>, parallel: bool) {
    let branch = std::mem::take(branch);
    if branch.is_empty() {
        return;
    }
    match stages.last_mut() {
        Some(Stage::Branches(beside)) if parallel => beside.push(branch),
        _ => stages.push(Stage::Branches(vec![branch])),
    }
}

/// A parallel MLP without a norm of its own reads what the attention's norm gives.
fn note_shared_norm(branches: &mut [Vec<Part>]) {
    let [attention, mlp] = branches else { return };
    if has_norm(attention)
        && !has_norm(mlp)
        && let Some(first) = mlp.first_mut()
    {
        first.note = Some("goes through the attention's norm".to_string());
    }
}

fn has_norm(parts: &[Part]) -> bool {
    parts.iter().any(|part| part.kind == Kind::Norm)
}

/// The part of the block that a point belongs to, still without points.
fn part(cfg: &ModelConfig, layer: usize, point: &Point) -> Part {
    let (kind, heading) = match module(&point.name) {
        "" if ends_branch(&point.name) => (Kind::Plain, "adds to the stream".to_string()),
        "" => (Kind::Plain, "reads the stream".to_string()),
        "attn" => (Kind::Attention, attention_words(cfg, layer)),
        "self_attn" => (Kind::Attention, format!("self-{}", attention_words(cfg, layer))),
        "cross_attn" => (Kind::Attention, format!("cross-attention: {}, keys and values from the encoder", heads(cfg))),
        "mlp" => (Kind::Mlp, mlp_words(cfg, layer)),
        "mixer" => (Kind::Mixer, mixer_words(cfg)),
        norm if norm.starts_with("ln") || norm == "norm" => {
            (Kind::Norm, format!("{norm}: {}", norm_word(cfg.normalization)))
        }
        other => (Kind::Plain, other.to_string()),
    };
    let note = many_experts(cfg, layer).filter(|_| kind == Kind::Mlp);
    let note = note.map(|n| format!("mlp.experts.1 to mlp.experts.{} have the same points", n.saturating_sub(1)));
    Part { note, ..Part::new(kind, heading, Vec::new()) }
}

/// The part of a block that a point's name begins with: `attn` of `attn.q_norm.hook_scale`; empty for the block's own.
fn module(name: &str) -> &str {
    match name.split_once('.') {
        Some((module, _)) => module,
        // Further names of what a mixer has.
        None if name.starts_with("hook_mixer_") => "mixer",
        None => "",
    }
}

/// Whether a point is that of a branch's result: `hook_attn_out`, `hook_mlp_out`.
fn ends_branch(name: &str) -> bool {
    !name.contains('.') && name.ends_with("_out")
}

/// How many experts a layer has, if they are too many to draw.
fn many_experts(cfg: &ModelConfig, layer: usize) -> Option<usize> {
    let experts = cfg.experts.as_ref().filter(|experts| experts.has(layer))?;
    (experts.n_experts > DRAWN_EXPERTS).then_some(experts.n_experts)
}

/// Whether a point is that of an expert other than the first.
fn is_further_expert(name: &str) -> bool {
    let tail = name.strip_prefix("mlp.experts.").unwrap_or("");
    tail.split('.').next().and_then(|expert| expert.parse::<usize>().ok()).is_some_and(|expert| expert > 0)
}

fn skipped(blocks: &str, layers: Range<usize>) -> Option<Stage> {
    let last = layers.end.saturating_sub(1);
    match layers.len() {
        0 => None,
        1 => Some(Stage::Skipped(format!("{blocks}.{last}"))),
        2 => Some(Stage::Skipped(format!("{blocks}.{} and {blocks}.{last}", layers.start))),
        _ => Some(Stage::Skipped(format!("{blocks}.{} to {blocks}.{last}", layers.start))),
    }
}

fn embedding_words(cfg: &ModelConfig) -> String {
    let positions = match cfg.positions {
        Positions::Learned => ", learned positions",
        Positions::Sinusoidal => ", positions as sines and cosines",
        Positions::Shortformer => ", learned positions for queries and keys",
        // The attention says these.
        Positions::None | Positions::Rotary | Positions::Alibi { .. } | Positions::RelativeBias { .. } => "",
    };
    format!("embedding: {}{positions}", counted(cfg.d_vocab, "token"))
}

fn attention_words(cfg: &ModelConfig, layer: usize) -> String {
    let own = cfg.layers.get(layer);
    let kind = if cfg.latent_attention.is_some() { "latent attention" } else { "attention" };
    let mut words = vec![format!("{kind}: {}", heads(cfg))];
    if cfg.n_key_value_heads != cfg.n_heads {
        words.push(counted(cfg.n_key_value_heads, "kv head"));
    }
    let positions = match cfg.positions {
        Positions::Rotary if own.is_some_and(|own| own.rotary.is_none()) => Some("not rotated"),
        Positions::Rotary => Some("rotary"),
        Positions::Alibi { .. } => Some("ALiBi"),
        Positions::RelativeBias { .. } => Some("bias by distance"),
        Positions::None | Positions::Learned | Positions::Sinusoidal | Positions::Shortformer => None,
    };
    words.extend(positions.map(str::to_string));
    words.extend(own.and_then(|own| own.window).map(|window| format!("window of {}", count(window))));
    if cfg.bidirectional {
        words.push("both directions".to_string());
    }
    words.join(", ")
}

fn heads(cfg: &ModelConfig) -> String {
    format!("{} of {}", counted(cfg.n_heads, "head"), count(cfg.d_head))
}

fn mlp_words(cfg: &ModelConfig, layer: usize) -> String {
    let act_fn = cfg.act_fn.name();
    let Some(experts) = cfg.experts.as_ref().filter(|experts| experts.has(layer)) else {
        let gated = if cfg.gated_mlp { "gated " } else { "" };
        return format!("MLP: {} wide, {gated}{act_fn}", count(cfg.d_mlp));
    };
    let join = match experts.join {
        ExpertJoin::Gated => format!("gated {act_fn}"),
        ExpertJoin::ClampedSwiglu { .. } => "clamped SwiGLU".to_string(),
    };
    let shared = match experts.d_shared {
        0 => String::new(),
        wide => format!(", and one {} wide for all", count(wide)),
    };
    let (n, wide) = (counted(experts.n_experts, "expert"), count(experts.d_expert));
    format!("{n} {wide} wide, {join}, {} for each token{shared}", experts.routing.experts_per_token)
}

fn mixer_words(cfg: &ModelConfig) -> String {
    match &cfg.state_space {
        Some(settings) => format!(
            "state-space mixer: {} with {} of state, convolution over {}",
            counted(settings.d_inner, "channel"),
            counted(settings.d_state, "number"),
            settings.kernel
        ),
        None => "state-space mixer".to_string(),
    }
}

fn norm_word(kind: Normalization) -> &'static str {
    match kind {
        Normalization::LayerNorm => "LayerNorm",
        Normalization::Rms => "RMSNorm",
        Normalization::None => "no norm",
    }
}

/// `1 head`, `1,200 tokens`.
fn counted(n: usize, what: &str) -> String {
    format!("{} {what}{}", count(n), if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::display::Show;
    use crate::hooks::HookPoint;
    use crate::model::{Activation, Experts, Routing, Sizes};

    #[test]
    fn one_of_many_experts_stands_for_all() {
        let sizes = Sizes { n_layers: 1, d_model: 8, n_ctx: 8, n_heads: 1, d_head: 8, d_mlp: 8, d_vocab: 9 };
        let plain = ModelConfig::new("test", Activation::Silu, sizes);
        let shown = |n_experts: usize| {
            let experts = Some(Experts::new(1, n_experts, 5, Routing::new(2)));
            let cfg = ModelConfig { experts, ..plain.clone() };
            let name = |expert: usize| HookPoint::new(format!("blocks.0.mlp.experts.{expert}.hook_pre"));
            let infos: Vec<PointInfo> =
                (0..n_experts).map(|expert| PointInfo::on_request(&name(expert), "[tokens, d_expert]")).collect();
            Diagram { title: String::new(), stacks: vec![stack(&cfg, "", &infos, 0)] }.bundle()
        };
        let few = shown(DRAWN_EXPERTS).text;
        assert!(few.contains("mlp.experts.7.hook_pre") && !few.contains("have the same points"), "{few}");
        let many = shown(12);
        assert!(many.text.contains("12 experts 5 wide, gated silu, 2 for each token"), "{}", many.text);
        assert!(many.text.contains("mlp.experts.0.hook_pre"), "{}", many.text);
        assert!(many.text.contains("mlp.experts.1 to mlp.experts.11 have the same points"), "{}", many.text);
        assert!(!many.text.contains("mlp.experts.11.hook_pre"), "{}", many.text);
        // The table has all of them.
        assert!(many.html.unwrap().contains("blocks.0.mlp.experts.11.hook_pre"));
    }

    #[test]
    fn a_model_without_layers_has_a_diagram() {
        let sizes = Sizes { n_layers: 0, d_model: 8, n_ctx: 8, n_heads: 1, d_head: 8, d_mlp: 8, d_vocab: 9 };
        let cfg = ModelConfig::new("test", Activation::Silu, sizes);
        let infos = ["hook_embed", "unembed.hook_in"].map(|name| PointInfo::always(&HookPoint::new(name), "[pos]"));
        let bundle = Diagram { title: "empty".into(), stacks: vec![stack(&cfg, "", &infos, 0)] }.bundle();
        assert!(bundle.png.is_some());
        assert!(bundle.text.contains("□ unembedding: 9 tokens") && !bundle.text.contains("blocks"), "{}", bundle.text);
    }

    #[test]
    fn skipped_blocks_are_named() {
        let text = |layers| match skipped("blocks", layers) {
            Some(Stage::Skipped(text)) => text,
            _ => String::new(),
        };
        assert_eq!(
            [0..0, 1..2, 1..3, 1..12].map(text),
            ["", "blocks.1", "blocks.1 and blocks.2", "blocks.1 to blocks.11"]
        );
    }
}
