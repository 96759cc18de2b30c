//! One block: attention and MLP around the residual stream.

use candle_core::Tensor;

use super::attention::Attention;
use super::config::ModelConfig;
use super::experts::ExpertsLayer;
use super::kv_cache::LayerCache;
use super::latent_attention::LatentLayer;
use super::mlp::Mlp;
use super::norm::Norm;
use super::staged::Cross;
use super::state_space::{NO_ATTENTION, StateSpaceMixer};
use super::surroundings::Surroundings;
use crate::hooks::{HookPoint, PointInfo, Tap};
use crate::weights::{BlockWeights, FeedForwardWeights, MixerWeights, NormWeights};
use crate::{Error, Result};

#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) ln1: Option<Norm>,
    pub(super) mixer: Mixer,
    pub(super) ln1_post: Option<Norm>,
    pub(super) ln2: Option<Norm>,
    pub(super) feed_forward: Option<FeedForward>,
    pub(super) ln2_post: Option<Norm>,
    pub(super) cross: Option<Cross>,
    pub(super) layout: Layout,
    pub(super) attn_out_is_normalized: bool,
    pub(super) n_heads: usize,
    pub(super) n_key_value_heads: usize,
    pub(super) residual_multiplier: f64,
    pub(super) hook_resid_pre: HookPoint,
    pub(super) hook_attn_in: HookPoint,
    pub(super) hook_q_input: HookPoint,
    pub(super) hook_k_input: HookPoint,
    pub(super) hook_v_input: HookPoint,
    pub(super) hook_attn_out: HookPoint,
    pub(super) hook_resid_mid: HookPoint,
    pub(super) hook_mlp_in: HookPoint,
    pub(super) hook_mlp_out: HookPoint,
    pub(super) hook_resid_post: HookPoint,
}

/// What moves information between positions.
#[derive(Clone, Debug)]
pub(super) enum Mixer {
    Attention(Attention),
    Latent(LatentLayer),
    StateSpace(StateSpaceMixer),
}

/// What works on each position by itself.
#[derive(Clone, Debug)]
pub(super) enum FeedForward {
    Mlp(Box<Mlp>),
    Experts(Box<ExpertsLayer>),
}

/// How the branches hang on the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Attention, then the MLP on its result.
    Sequential,
    /// Attention and MLP on the same input.
    Parallel,
    /// As sequential, with each norm after the addition.
    PostNorm,
    /// No MLP.
    MixerOnly,
}

impl Block {
    /// The block called `name`, as in `blocks.0`.
    pub(super) fn new(name: &str, layer: usize, weights: BlockWeights, cfg: &ModelConfig) -> Result<Self> {
        let point = |tail: &str| HookPoint::new(format!("{name}.hook_{tail}"));
        let norm = |which: &str, weights: Option<NormWeights>| {
            weights.map(|weights| Norm::new(&format!("{name}.{which}"), weights, cfg.normalization, cfg.eps))
        };
        let layout = match weights.feed_forward {
            None => Layout::MixerOnly,
            Some(_) if cfg.post_norm => Layout::PostNorm,
            Some(_) if cfg.parallel_attn_mlp => Layout::Parallel,
            Some(_) => Layout::Sequential,
        };
        let cross = match weights.cross_attention {
            Some(attention) => Some(Cross::new(name, layer, attention, norm("ln3", weights.ln3), cfg)?),
            None => None,
        };
        let attn = if cross.is_some() { "self_attn" } else { "attn" };
        let mixer = match weights.mixer {
            MixerWeights::Attention(attention) => {
                Mixer::Attention(Attention::new(&format!("{name}.{attn}"), layer, attention, cfg)?)
            }
            MixerWeights::Latent(latent) => {
                Mixer::Latent(LatentLayer::new(&format!("{name}.{attn}"), layer, latent, cfg)?)
            }
            weights @ (MixerWeights::Mamba(_) | MixerWeights::Mamba2(_)) => {
                Mixer::StateSpace(StateSpaceMixer::new(name, weights, cfg)?)
            }
        };
        let mlp_name = format!("{name}.mlp");
        let feed_forward = match weights.feed_forward {
            None => None,
            Some(FeedForwardWeights::Mlp(mlp)) => Some(FeedForward::Mlp(Box::new(Mlp::new(&mlp_name, mlp, cfg)))),
            Some(FeedForwardWeights::Experts(experts)) => {
                Some(FeedForward::Experts(Box::new(ExpertsLayer::new(&mlp_name, experts, cfg)?)))
            }
        };
        Ok(Self {
            // A block of a norm and a state-space mixer has the one norm, and no number to it.
            ln1: norm(if matches!(mixer, Mixer::StateSpace(_)) { "norm" } else { "ln1" }, weights.ln1),
            mixer,
            ln1_post: norm("ln1_post", weights.ln1_post),
            ln2: norm("ln2", weights.ln2),
            feed_forward,
            ln2_post: norm("ln2_post", weights.ln2_post),
            cross,
            layout,
            attn_out_is_normalized: cfg.attn_out_is_normalized,
            n_heads: cfg.n_heads,
            n_key_value_heads: cfg.n_key_value_heads,
            residual_multiplier: cfg.residual_multiplier,
            hook_resid_pre: point("resid_pre"),
            hook_attn_in: point("attn_in"),
            hook_q_input: point("q_input"),
            hook_k_input: point("k_input"),
            hook_v_input: point("v_input"),
            hook_attn_out: point("attn_out"),
            hook_resid_mid: point("resid_mid"),
            hook_mlp_in: point("mlp_in"),
            hook_mlp_out: point("mlp_out"),
            hook_resid_post: point("resid_post"),
        })
    }

    /// The block's points in the order in which they fire.
    pub(super) fn hook_points(&self) -> Vec<PointInfo> {
        if self.layout == Layout::PostNorm || self.cross.is_some() {
            return self.staged_points();
        }
        let stream = "[batch, pos, d_model]";
        let norm = |norm: &Option<Norm>| norm.as_ref().map(Norm::hook_points).unwrap_or_default();
        let mut points = vec![PointInfo::always(&self.hook_resid_pre, stream)];
        points.extend(match &self.mixer {
            Mixer::Attention(_) => self.input_points(),
            Mixer::Latent(_) => self.never_split("latent attention reads one input, through its latents"),
            Mixer::StateSpace(_) => self.never_split(NO_ATTENTION),
        });
        points.extend(norm(&self.ln1));
        points.extend(match &self.mixer {
            Mixer::Attention(attention) => attention.hook_points(),
            Mixer::Latent(latent) => latent.hook_points(),
            Mixer::StateSpace(mixer) => mixer.hook_points(),
        });
        points.extend(norm(&self.ln1_post));
        match &self.mixer {
            Mixer::StateSpace(_) => points.extend(self.never_attention()),
            _ => points.push(PointInfo::always(&self.hook_attn_out, stream)),
        }
        points.push(match self.layout {
            Layout::Sequential | Layout::PostNorm => PointInfo::always(&self.hook_resid_mid, stream),
            Layout::Parallel => {
                let why = "attention and MLP are parallel in this model, so there is no residual stream between them";
                PointInfo::never(self.hook_resid_mid.shared_name(), why)
            }
            Layout::MixerOnly => {
                PointInfo::never(self.hook_resid_mid.shared_name(), "the block has no MLP, so nothing lies between")
            }
        });
        match &self.feed_forward {
            None => {
                for point in [&self.hook_mlp_in, &self.hook_mlp_out] {
                    points.push(PointInfo::never(point.shared_name(), "the block has no MLP"));
                }
            }
            Some(feed_forward) => {
                points.push(PointInfo::on_request(&self.hook_mlp_in, stream));
                points.extend(norm(&self.ln2));
                points.extend(match feed_forward {
                    FeedForward::Mlp(mlp) => mlp.hook_points(),
                    FeedForward::Experts(experts) => experts.hook_points(),
                });
                points.extend(norm(&self.ln2_post));
                points.push(PointInfo::always(&self.hook_mlp_out, stream));
            }
        }
        points.push(PointInfo::always(&self.hook_resid_post, stream));
        points
    }

    /// The residual stream after the block, `[batch, pos, d_model]`.
    pub(super) fn forward(
        &self,
        resid: Tensor,
        around: &mut Surroundings,
        past: Option<&mut LayerCache>,
        tap: &mut Tap,
    ) -> Result<Tensor> {
        if self.layout == Layout::PostNorm || self.cross.is_some() {
            return self.forward_staged(resid, around, past, tap);
        }
        let resid_pre = tap.pass(&self.hook_resid_pre, resid)?;
        let before = |norm: &Option<Norm>, x: &Tensor, tap: &mut Tap| match norm {
            Some(norm) => norm.forward(x, tap),
            None => Ok(x.clone()),
        };

        // Queries, keys and values with inputs of their own go through the norm by themselves.
        let attn_in = if self.splits_inputs(tap) { None } else { Some(before(&self.ln1, &resid_pre, tap)?) };
        let attn_out = match &attn_in {
            Some(attn_in) => self.mix(attn_in, around, past, tap)?,
            None => self.mix_split(&resid_pre, around, past, tap)?,
        };
        let attn_out = self.branch(attn_out, &self.ln1_post, tap)?;
        let attn_out = match &self.mixer {
            Mixer::StateSpace(_) => attn_out,
            _ => tap.pass(&self.hook_attn_out, attn_out)?,
        };
        let resid_mid = (&resid_pre + attn_out)?;
        let Some(feed_forward) = &self.feed_forward else {
            return tap.pass(&self.hook_resid_post, resid_mid);
        };

        let (resid, mlp_input) = if self.layout == Layout::Parallel {
            (resid_mid, resid_pre)
        } else {
            let resid_mid = tap.pass(&self.hook_resid_mid, resid_mid)?;
            (resid_mid.clone(), resid_mid)
        };
        // A parallel MLP without a norm of its own reads what the attention reads.
        let shares_norm = self.layout == Layout::Parallel && self.ln2.is_none();
        let wanted = tap.wants(&self.hook_mlp_in);
        let mlp_in = match attn_in {
            Some(attn_in) if shares_norm && !wanted => attn_in,
            _ => {
                let mlp_in = if wanted { tap.pass(&self.hook_mlp_in, mlp_input)? } else { mlp_input };
                before(if shares_norm { &self.ln1 } else { &self.ln2 }, &mlp_in, tap)?
            }
        };
        let mlp_out = match feed_forward {
            FeedForward::Mlp(mlp) => mlp.forward(&mlp_in, tap)?,
            FeedForward::Experts(experts) => experts.forward(&mlp_in, tap)?,
        };
        let mlp_out = self.branch(mlp_out, &self.ln2_post, tap)?;
        let mlp_out = tap.pass(&self.hook_mlp_out, mlp_out)?;
        tap.pass(&self.hook_resid_post, (resid + mlp_out)?)
    }

    /// The attention, if it is one; an error that says what stands in its place.
    pub(super) fn attention(&self) -> Result<&Attention> {
        match &self.mixer {
            Mixer::Attention(attention) => Ok(attention),
            Mixer::Latent(_) => Err(Error::msg(
                "the model has latent attention, which has no W_Q, W_K and W_V of the usual kind; its weights are in model.weights()",
            )),
            Mixer::StateSpace(_) => {
                Err(Error::msg("a layer has a state-space mixer, and no attention; its weights are in model.weights()"))
            }
        }
    }

    /// What each head writes: z `[batch, pos, head, d_head]` to `[batch, pos, head, d_model]`, without b_O.
    pub(super) fn head_results(&self, z: &Tensor) -> Result<Tensor> {
        match &self.mixer {
            Mixer::Latent(latent) => latent.head_results(z),
            _ => self.attention()?.head_results(z),
        }
    }

    /// The MLP, if there is a plain or gated one; an error that says what stands in its place.
    pub(super) fn mlp(&self) -> Result<&Mlp> {
        match &self.feed_forward {
            Some(FeedForward::Mlp(mlp)) => Ok(mlp),
            Some(FeedForward::Experts(_)) => {
                Err(Error::msg("a layer has experts, and not one MLP; its weights are in model.weights()"))
            }
            None => Err(Error::msg("the model has no MLPs")),
        }
    }

    pub(super) fn weights(&self) -> BlockWeights {
        let norm = |norm: &Option<Norm>| norm.as_ref().map(|norm| norm.weights().clone());
        BlockWeights {
            ln1: norm(&self.ln1),
            mixer: match &self.mixer {
                Mixer::Attention(attention) => MixerWeights::Attention(attention.weights().clone()),
                Mixer::Latent(latent) => MixerWeights::Latent(latent.weights().clone()),
                Mixer::StateSpace(mixer) => mixer.weights(),
            },
            ln1_post: norm(&self.ln1_post),
            ln2: norm(&self.ln2),
            feed_forward: self.feed_forward.as_ref().map(|feed_forward| match feed_forward {
                FeedForward::Mlp(mlp) => FeedForwardWeights::Mlp(mlp.weights().clone()),
                FeedForward::Experts(experts) => FeedForwardWeights::Experts(experts.weights().clone()),
            }),
            ln2_post: norm(&self.ln2_post),
            cross_attention: self.cross.as_ref().map(|cross| cross.attention.weights().clone()),
            ln3: self.cross.as_ref().and_then(|cross| norm(&cross.ln3)),
        }
    }

    /// What a branch adds to the residual stream, from what attention or MLP gave.
    pub(super) fn branch(&self, out: Tensor, post: &Option<Norm>, tap: &mut Tap) -> Result<Tensor> {
        let out = match post {
            Some(norm) => norm.forward(&out, tap)?,
            None => out,
        };
        if self.residual_multiplier == 1.0 { Ok(out) } else { Ok((out * self.residual_multiplier)?) }
    }

    /// Whether a hook asked for the inputs of queries, keys or values.
    pub(super) fn splits_inputs(&self, tap: &Tap) -> bool {
        let inputs = [&self.hook_attn_in, &self.hook_q_input, &self.hook_k_input, &self.hook_v_input];
        inputs.into_iter().any(|point| tap.wants(point))
    }

    /// The attention, or what stands in its place, on the normalised stream.
    pub(super) fn mix(
        &self,
        normalized: &Tensor,
        around: &mut Surroundings,
        past: Option<&mut LayerCache>,
        tap: &mut Tap,
    ) -> Result<Tensor> {
        let attention = match &self.mixer {
            Mixer::Attention(attention) => attention,
            Mixer::Latent(latent) => return latent.forward(normalized, around, past, tap),
            Mixer::StateSpace(mixer) => return mixer.forward(normalized, around, past, tap),
        };
        // A shortformer's values know no position.
        match &around.pos_embed {
            Some(pos_embed) => {
                let placed = (normalized + pos_embed)?;
                attention.forward([&placed, &placed, normalized], around, past, tap)
            }
            None => attention.forward([normalized; 3], around, past, tap),
        }
    }

    /// The attention with an input for queries, for keys and for values: each its own copy of the stream, which goes
    /// through the norm by itself. The norm's points then fire once for each.
    pub(super) fn mix_split(
        &self,
        resid_pre: &Tensor,
        around: &mut Surroundings,
        past: Option<&mut LayerCache>,
        tap: &mut Tap,
    ) -> Result<Tensor> {
        let attention = self.attention()?;
        let copies = |heads: usize| -> Result<Tensor> {
            let (batch, pos, d_model) = resid_pre.dims3()?;
            Ok(resid_pre.unsqueeze(2)?.broadcast_as((batch, pos, heads, d_model))?.contiguous()?)
        };
        let attn_in = if tap.wants(&self.hook_attn_in) {
            Some(tap.pass(&self.hook_attn_in, copies(self.n_heads)?)?)
        } else {
            None
        };
        let mut input = |point: &HookPoint, heads: usize, placed: bool, pos_embed: Option<&Tensor>| -> Result<Tensor> {
            let input = match &attn_in {
                Some(attn_in) => attn_in.clone(),
                None => copies(heads)?,
            };
            let input = tap.pass(point, input)?;
            let input = match &self.ln1 {
                Some(norm) if self.layout != Layout::PostNorm => norm.forward(&input, tap)?,
                _ => input,
            };
            match pos_embed {
                Some(pos_embed) if placed => Ok(input.broadcast_add(&pos_embed.unsqueeze(2)?)?),
                _ => Ok(input),
            }
        };
        let pos_embed = around.pos_embed.clone();
        let q = input(&self.hook_q_input, self.n_heads, true, pos_embed.as_ref())?;
        let k = input(&self.hook_k_input, self.n_key_value_heads, true, pos_embed.as_ref())?;
        let v = input(&self.hook_v_input, self.n_key_value_heads, false, pos_embed.as_ref())?;
        attention.forward([&q, &k, &v], around, past, tap)
    }

    /// The points of inputs that are not split here, and why.
    fn never_split(&self, why: &str) -> Vec<PointInfo> {
        let inputs = [&self.hook_attn_in, &self.hook_q_input, &self.hook_k_input, &self.hook_v_input];
        inputs.map(|point| PointInfo::never(point.shared_name(), why)).into()
    }

    /// The attention's points, in a block that has none.
    fn never_attention(&self) -> Vec<PointInfo> {
        let block = self.hook_attn_out.name().trim_end_matches(".hook_attn_out");
        let points = ["q", "k", "v", "rot_q", "rot_k", "attn_scores", "pattern", "z", "result"];
        let names = points.iter().map(|point| format!("{block}.attn.hook_{point}"));
        let names = names.chain([self.hook_attn_out.name().to_string()]);
        names.map(|name| PointInfo::never(name, NO_ATTENTION)).collect()
    }

    pub(super) fn input_points(&self) -> Vec<PointInfo> {
        vec![
            if self.n_heads == self.n_key_value_heads {
                PointInfo::on_request(&self.hook_attn_in, "[batch, pos, head, d_model]")
            } else {
                let why = "query heads share key and value heads here, so there is no one input per head; use hook_q_input, hook_k_input and hook_v_input";
                PointInfo::never(self.hook_attn_in.shared_name(), why)
            },
            PointInfo::on_request(&self.hook_q_input, "[batch, pos, head, d_model]"),
            PointInfo::on_request(&self.hook_k_input, "[batch, pos, kv_head, d_model]"),
            PointInfo::on_request(&self.hook_v_input, "[batch, pos, kv_head, d_model]"),
        ]
    }
}
