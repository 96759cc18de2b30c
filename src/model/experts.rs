//! A mixture of experts in the MLP's place, with its hook points: a router sends each token to a few experts.

use candle_core::{DType, Tensor};
use candle_nn::ops::sigmoid;

use super::activations::Activation;
use super::config::ModelConfig;
use super::linear::linear;
use super::mlp::Mlp;
use super::routing::Routing;
use crate::hooks::{HookPoint, PointInfo, Tap};
use crate::weights::ExpertsWeights;
use crate::{Error, Result};

/// The settings of a model's experts.
#[derive(Clone, Debug, PartialEq)]
pub struct Experts {
    /// Experts in a layer.
    pub n_experts: usize,
    /// Width of an expert's hidden layer.
    pub d_expert: usize,
    /// Width of the hidden layer of the expert that every token goes to; 0 where there is none.
    pub d_shared: usize,
    /// Whether each layer has experts (else a plain MLP), in order.
    pub layers: Vec<bool>,
    /// How tokens choose.
    pub routing: Routing,
    /// How an expert's two branches are joined.
    pub join: ExpertJoin,
    /// What the hook points call the router: `gate` or `router`.
    pub router_name: &'static str,
    /// What the hook points call the shared expert.
    pub shared_name: &'static str,
    /// Whether the shared expert's activations are `[batch * pos, d_shared]`, as the routed experts' are, instead of
    /// `[batch, pos, d_shared]`.
    pub flat_shared: bool,
}

/// How an expert's gate g and linear branch u are joined.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ExpertJoin {
    /// act(g) · u, with the model's activation function.
    Gated,
    /// GPT-OSS': g σ(alpha g) (u + 1), with g cut above and u cut on both sides at `limit`.
    ClampedSwiglu {
        /// Steepness of the sigmoid.
        alpha: f64,
        /// Where the branches are cut.
        limit: f64,
    },
}

impl Experts {
    /// `n_experts` of width `d_expert` in every one of `n_layers`, joined by the activation function, without a shared one.
    pub fn new(n_layers: usize, n_experts: usize, d_expert: usize, routing: Routing) -> Self {
        Self {
            n_experts,
            d_expert,
            d_shared: 0,
            layers: vec![true; n_layers],
            routing,
            join: ExpertJoin::Gated,
            router_name: "gate",
            shared_name: "shared_experts",
            flat_shared: false,
        }
    }

    /// Whether this layer has experts.
    pub fn has(&self, layer: usize) -> bool {
        self.layers.get(layer).copied().unwrap_or(false)
    }
}

/// One layer's experts.
///
/// The weights of the chosen experts go through `hook_expert_weights` as `[batch * pos, n_experts]`, zero where an expert
/// was not chosen, and the choice through `hook_expert_indices`. Both are used as the hooks leave them: an expert that
/// a hook puts into the indices counts with its entry in the weights.
#[derive(Clone, Debug)]
pub(super) struct ExpertsLayer {
    weights: ExpertsWeights,
    routing: Routing,
    join: ExpertJoin,
    act_fn: Activation,
    shared: Option<Mlp>,
    flat_shared: bool,
    experts: Vec<Expert>,
    hook_pre: HookPoint,
    hook_router_in: HookPoint,
    hook_router_out: HookPoint,
    /// The router's own point, then the layer's.
    hook_expert_weights: [HookPoint; 2],
    hook_expert_indices: [HookPoint; 2],
    hook_router_scores: HookPoint,
    hook_experts_pre: HookPoint,
    hook_experts_post: HookPoint,
    hook_shared_gate: HookPoint,
    hook_post: HookPoint,
}

/// One expert's hook points.
#[derive(Clone, Debug)]
struct Expert {
    hook_gate: HookPoint,
    hook_pre: HookPoint,
    hook_post: HookPoint,
}

impl ExpertsLayer {
    /// The experts called `name`, as in `blocks.0.mlp`.
    pub(super) fn new(name: &str, weights: ExpertsWeights, cfg: &ModelConfig) -> Result<Self> {
        let settings = cfg
            .experts
            .as_ref()
            .ok_or_else(|| Error::msg("the weights have experts, and the configuration says nothing of them"))?;
        let (n_experts, ..) = weights.w_in.dims3()?;
        settings.routing.check(n_experts)?;
        let point = |tail: &str| HookPoint::new(format!("{name}.{tail}"));
        let router = settings.router_name;
        let both = |tail: &str| [point(&format!("{router}.{tail}")), point(tail)];
        let expert = |e: usize| Expert {
            hook_gate: point(&format!("experts.{e}.hook_gate")),
            hook_pre: point(&format!("experts.{e}.hook_pre")),
            hook_post: point(&format!("experts.{e}.hook_post")),
        };
        let shared = weights.shared.clone().map(|mlp| Mlp::new(&format!("{name}.{}", settings.shared_name), mlp, cfg));
        Ok(Self {
            weights,
            routing: settings.routing.clone(),
            join: settings.join,
            act_fn: cfg.act_fn,
            shared,
            flat_shared: settings.flat_shared,
            experts: (0..n_experts).map(expert).collect(),
            hook_pre: point("hook_pre"),
            hook_router_in: point(&format!("{router}.hook_in")),
            hook_router_out: point(&format!("{router}.hook_out")),
            hook_expert_weights: both("hook_expert_weights"),
            hook_expert_indices: both("hook_expert_indices"),
            hook_router_scores: point("hook_router_scores"),
            hook_experts_pre: point("experts.hook_pre"),
            hook_experts_post: point("experts.hook_post"),
            hook_shared_gate: point(&format!("{}_gate.hook_out", settings.shared_name)),
            hook_post: point("hook_post"),
        })
    }

    pub(super) fn hook_points(&self) -> Vec<PointInfo> {
        let (per_expert, chosen) = ("[batch * pos, n_experts]", "[batch * pos, experts_per_token]");
        let mut points = vec![
            PointInfo::always(&self.hook_pre, "[batch, pos, d_model]"),
            PointInfo::always(&self.hook_router_in, "[batch * pos, d_model]"),
            PointInfo::always(&self.hook_router_out, per_expert),
        ];
        points.extend(self.hook_expert_weights.iter().map(|point| PointInfo::always(point, per_expert)));
        points.extend(self.hook_expert_indices.iter().map(|point| PointInfo::always(point, chosen)));
        points.push(PointInfo::always(&self.hook_router_scores, chosen));
        points.push(PointInfo::always(&self.hook_experts_pre, "[batch * pos, d_model]"));
        for expert in &self.experts {
            for point in [&expert.hook_gate, &expert.hook_pre, &expert.hook_post] {
                points.push(PointInfo::on_request(point, "[tokens routed here, d_expert]"));
            }
        }
        points.push(PointInfo::always(&self.hook_experts_post, "[batch * pos, d_model]"));
        if let Some(shared) = &self.shared {
            let flat = |info: PointInfo| PointInfo { shape: "[batch * pos, d_mlp]", ..info };
            let shared = shared.hook_points().into_iter();
            points
                .extend(shared.map(|info| if self.flat_shared && !info.shape.is_empty() { flat(info) } else { info }));
            if self.weights.w_shared_gate.is_some() {
                points.push(PointInfo::always(&self.hook_shared_gate, "[batch * pos, 1]"));
            }
        }
        points.push(PointInfo::always(&self.hook_post, "[batch, pos, d_model]"));
        points
    }

    /// `[batch, pos, d_model]` to the same shape.
    pub(super) fn forward(&self, x: &Tensor, tap: &mut Tap) -> Result<Tensor> {
        let x = tap.pass(&self.hook_pre, x.clone())?;
        let (batch, pos, d_model) = x.dims3()?;
        let tokens = x.reshape((batch * pos, d_model))?;
        let (chosen, weights) = self.route(&tokens, tap)?;
        let routed = tap.pass(&self.hook_experts_pre, tokens.clone())?;
        let routed = self.run_experts(&routed, &chosen, &weights, tap)?;
        let mut out = tap.pass(&self.hook_experts_post, routed)?;
        if let Some(shared) = &self.shared {
            let given = if self.flat_shared { &tokens } else { &x };
            let mut added = shared.forward(given, tap)?.reshape((batch * pos, d_model))?;
            if let Some(w_gate) = &self.weights.w_shared_gate {
                let gate = linear(&tokens, w_gate, self.weights.b_shared_gate.as_ref())?;
                added = added.broadcast_mul(&sigmoid(&tap.pass(&self.hook_shared_gate, gate)?)?)?;
            }
            out = (out + added)?;
        }
        tap.pass(&self.hook_post, out.reshape((batch, pos, d_model))?)
    }

    pub(super) fn weights(&self) -> &ExpertsWeights {
        &self.weights
    }

    /// The chosen experts of each token and their weights, `[tokens, experts_per_token]` each.
    fn route(&self, tokens: &Tensor, tap: &mut Tap) -> Result<(Vec<Vec<u32>>, Tensor)> {
        let w = &self.weights;
        let tokens = tap.pass(&self.hook_router_in, tokens.clone())?;
        // In float32 whatever the model's type is: a rounded logit would choose another expert.
        let wide = if tokens.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        let b_router = w.b_router.as_ref().map(|b| b.to_dtype(wide)).transpose()?;
        let logits = linear(&tokens.to_dtype(wide)?, &w.w_router.to_dtype(wide)?, b_router.as_ref())?;
        let logits = tap.pass(&self.hook_router_out, logits)?;

        let mut chosen = self.routing.choose(&logits, w.correction.as_ref())?;
        let weights = self.routing.weights(&logits, &chosen)?;
        // Spread over all experts for the hooks, and taken together again after them. (candle's scatter_add has no
        // gradient for other shapes than its source's.)
        let mut weights = logits.zeros_like()?.scatter(&chosen, &weights, 1)?.to_dtype(tokens.dtype())?;
        for point in &self.hook_expert_weights {
            weights = tap.pass(point, weights)?;
        }
        for point in &self.hook_expert_indices {
            chosen = tap.pass(point, chosen)?;
        }
        let experts: Vec<Vec<u32>> = chosen.to_vec2()?;
        if let Some(expert) = experts.iter().flatten().find(|&&expert| expert as usize >= self.experts.len()) {
            let found = format!("a hook chose expert {expert}, and the layer has {}", self.experts.len());
            return Err(Error::msg(found));
        }
        let weights = weights.contiguous()?.gather(&chosen.contiguous()?, 1)?;
        Ok((experts, tap.pass(&self.hook_router_scores, weights)?))
    }

    /// The weighted sum of what the chosen experts make of each token, `[tokens, d_model]`. Each expert computes the
    /// tokens that were sent to it, and no others.
    fn run_experts(&self, tokens: &Tensor, chosen: &[Vec<u32>], weights: &Tensor, tap: &mut Tap) -> Result<Tensor> {
        let (n_tokens, per_token) = weights.dims2()?;
        let mut sent = vec![Vec::new(); self.experts.len()];
        for (token, experts) in chosen.iter().enumerate() {
            for (slot, &expert) in experts.iter().enumerate() {
                if let Some(sent) = sent.get_mut(expert as usize) {
                    sent.push((token, slot));
                }
            }
        }
        // Tokens in the order of their experts; `place` says where each token's choices ended up.
        let order: Vec<u32> = sent.iter().flatten().map(|&(token, _)| token as u32).collect();
        let mut place = vec![0u32; n_tokens * per_token];
        for (row, &(token, slot)) in sent.iter().flatten().enumerate() {
            place[token * per_token + slot] = row as u32;
        }
        let device = tokens.device();
        let sorted = tokens.contiguous()?.index_select(&Tensor::from_vec(order, n_tokens * per_token, device)?, 0)?;
        let (mut outs, mut start) = (Vec::new(), 0);
        for (expert, sent) in sent.iter().enumerate().filter(|(_, sent)| !sent.is_empty()) {
            outs.push(self.run_expert(expert, &sorted.narrow(0, start, sent.len())?, tap)?);
            start += sent.len();
        }
        let place = Tensor::from_vec(place, n_tokens * per_token, device)?;
        let outs = Tensor::cat(&outs, 0)?.index_select(&place, 0)?.reshape((n_tokens, per_token, ()))?;
        Ok(outs.broadcast_mul(&weights.unsqueeze(2)?)?.sum(1)?)
    }

    /// What one expert makes of the tokens that were sent to it, `[tokens, d_model]`.
    fn run_expert(&self, expert: usize, x: &Tensor, tap: &mut Tap) -> Result<Tensor> {
        let w = &self.weights;
        let Some(points) = self.experts.get(expert) else { return Err(Error::msg("there is no such expert")) };
        let apply = |x: &Tensor, w: &Tensor, b: &Option<Tensor>| -> Result<Tensor> {
            let b = b.as_ref().map(|b| b.get(expert)).transpose()?;
            linear(x, &w.get(expert)?, b.as_ref())
        };
        let gate = tap.pass(&points.hook_gate, apply(x, &w.w_gate, &w.b_gate)?)?;
        let up = tap.pass(&points.hook_pre, apply(x, &w.w_in, &w.b_in)?)?;
        let post = match self.join {
            ExpertJoin::Gated => (self.act_fn.forward(&gate)? * up)?,
            ExpertJoin::ClampedSwiglu { alpha, limit } => {
                let gate = gate.minimum(limit)?;
                let up = up.maximum(-limit)?.minimum(limit)?;
                (gate.broadcast_mul(&sigmoid(&(&gate * alpha)?)?)? * (up + 1.0)?)?
            }
        };
        apply(&tap.pass(&points.hook_post, post)?, &w.w_out, &w.b_out)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{D, Device, Var};
    use candle_nn::ops::softmax;

    use super::super::config::Sizes;
    use super::*;
    use crate::hooks::{Hooks, Selector, all};
    use crate::weights::MlpWeights;

    const D_MODEL: usize = 6;
    const D_EXPERT: usize = 5;
    const N_EXPERTS: usize = 4;

    /// Numbers between -1 and 1, other ones for each seed.
    fn numbers(seed: usize, shape: &[usize]) -> Result<Tensor> {
        let count: usize = shape.iter().product();
        let values: Vec<f64> = (0..count).map(|i| ((i * 37 + seed * 101) as f64 * 0.7).sin()).collect();
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
    }

    fn weights(shared: bool) -> Result<ExpertsWeights> {
        let mlp = MlpWeights {
            w_in: numbers(11, &[D_MODEL, 7])?,
            b_in: None,
            w_gate: Some(numbers(12, &[D_MODEL, 7])?),
            b_gate: None,
            xielu: None,
            ln: None,
            w_out: numbers(13, &[7, D_MODEL])?,
            b_out: None,
        };
        Ok(ExpertsWeights {
            w_router: numbers(1, &[D_MODEL, N_EXPERTS])?,
            b_router: Some(numbers(2, &[N_EXPERTS])?),
            correction: None,
            w_gate: numbers(3, &[N_EXPERTS, D_MODEL, D_EXPERT])?,
            b_gate: Some(numbers(4, &[N_EXPERTS, D_EXPERT])?),
            w_in: numbers(5, &[N_EXPERTS, D_MODEL, D_EXPERT])?,
            b_in: Some(numbers(6, &[N_EXPERTS, D_EXPERT])?),
            w_out: numbers(7, &[N_EXPERTS, D_EXPERT, D_MODEL])?,
            b_out: Some(numbers(8, &[N_EXPERTS, D_MODEL])?),
            shared: shared.then_some(mlp),
            w_shared_gate: if shared { Some(numbers(14, &[D_MODEL, 1])?) } else { None },
            b_shared_gate: None,
        })
    }

    fn layer(weights: ExpertsWeights, join: ExpertJoin) -> Result<ExpertsLayer> {
        let sizes = Sizes { n_layers: 1, d_model: D_MODEL, n_ctx: 8, n_heads: 1, d_head: 6, d_mlp: 5, d_vocab: 9 };
        let settings = Experts { join, flat_shared: true, ..Experts::new(1, N_EXPERTS, D_EXPERT, Routing::new(2)) };
        let cfg = ModelConfig { experts: Some(settings), ..ModelConfig::new("test", Activation::Silu, sizes) };
        ExpertsLayer::new("blocks.0.mlp", weights, &cfg)
    }

    /// Every expert on every token, weighted with its share: x `[tokens, d_model]`, the two best of a softmax.
    fn dense(w: &ExpertsWeights, join: ExpertJoin, x: &Tensor) -> Result<Tensor> {
        let bias = |b: &Option<Tensor>, expert: usize| -> Result<Tensor> {
            Ok(b.as_ref().ok_or_else(|| Error::msg("no bias"))?.get(expert)?.unsqueeze(0)?)
        };
        let logits = x.matmul(&w.w_router)?.broadcast_add(w.b_router.as_ref().ok_or_else(|| Error::msg("no bias"))?)?;
        let shares: Vec<Vec<f64>> = softmax(&logits, D::Minus1)?.to_vec2()?;
        let kept: Vec<f64> = shares
            .iter()
            .flat_map(|row| {
                let mut sorted = row.clone();
                sorted.sort_by(|a, b| b.total_cmp(a));
                let second = sorted[1];
                row.iter().map(move |&share| if share >= second { share } else { 0.0 })
            })
            .collect();
        let shares = Tensor::from_vec(kept, (x.dim(0)?, N_EXPERTS), &Device::Cpu)?;
        let mut sum = x.zeros_like()?;
        for expert in 0..N_EXPERTS {
            let gate = x.matmul(&w.w_gate.get(expert)?)?.broadcast_add(&bias(&w.b_gate, expert)?)?;
            let up = x.matmul(&w.w_in.get(expert)?)?.broadcast_add(&bias(&w.b_in, expert)?)?;
            let post = match join {
                ExpertJoin::Gated => (gate.silu()? * up)?,
                ExpertJoin::ClampedSwiglu { alpha, limit } => {
                    let (gate, up) = (gate.clamp(f64::NEG_INFINITY, limit)?, up.clamp(-limit, limit)?);
                    let open = ((&gate * -alpha)?.exp()? + 1.0)?;
                    ((gate / open)? * (up + 1.0)?)?
                }
            };
            let out = post.matmul(&w.w_out.get(expert)?)?.broadcast_add(&bias(&w.b_out, expert)?)?;
            sum = (sum + out.broadcast_mul(&shares.narrow(1, expert, 1)?)?)?;
        }
        if let (Some(shared), Some(gate)) = (&w.shared, &w.w_shared_gate) {
            let w_gate = shared.w_gate.as_ref().ok_or_else(|| Error::msg("no gate"))?;
            let out = (x.matmul(w_gate)?.silu()? * x.matmul(&shared.w_in)?)?.matmul(&shared.w_out)?;
            let open = ((x.matmul(gate)?.neg()?.exp()? + 1.0)?).recip()?;
            sum = (sum + out.broadcast_mul(&open)?)?;
        }
        Ok(sum)
    }

    fn max_difference(a: &Tensor, b: &Tensor) -> Result<f64> {
        Ok((a.flatten_all()? - b.flatten_all()?)?.abs()?.max(0)?.to_scalar()?)
    }

    fn run(layer: &ExpertsLayer, x: &Tensor, hooks: &Hooks) -> Result<Tensor> {
        layer.forward(x, &mut Tap::new(&layer.hook_points(), hooks, None)?)
    }

    #[test]
    fn only_routed_tokens_are_computed_and_the_sum_is_that_of_all_experts() -> Result<()> {
        let x = numbers(20, &[2, 3, D_MODEL])?;
        for join in [ExpertJoin::Gated, ExpertJoin::ClampedSwiglu { alpha: 1.702, limit: 0.8 }] {
            for shared in [false, true] {
                let weights = weights(shared)?;
                let found = layer(weights.clone(), join)?.forward(&x, &mut Tap::closed())?;
                let wanted = dense(&weights, join, &x.reshape((6, D_MODEL))?)?;
                assert!(max_difference(&found, &wanted)? < 1e-12, "{join:?}, shared {shared}");
            }
        }
        Ok(())
    }

    #[test]
    fn an_edit_of_weights_indices_or_logits_counts_at_each_of_its_points() -> Result<()> {
        let x = numbers(20, &[1, 3, D_MODEL])?;
        let layer = layer(weights(false)?, ExpertJoin::Gated)?;
        let plain = run(&layer, &x, &Hooks::new())?;
        for point in ["hook_expert_weights", "gate.hook_expert_weights", "hook_router_scores", "experts.hook_post"] {
            let doubled = Hooks::new().edit(format!("blocks.0.mlp.{point}"), |t, _| Ok((t * 2.0)?));
            assert!(max_difference(&run(&layer, &x, &doubled)?, &(&plain * 2.0)?)? < 1e-12, "{point}");
        }
        // Every token to experts 0 and 1, with a weight of one for expert 0 and none for the others.
        for point in ["hook_expert_indices", "gate.hook_expert_indices"] {
            let to_first = Tensor::new(&[[0u32, 1], [0, 1], [0, 1]], &Device::Cpu)?;
            let one = Tensor::new(&[[1f64, 0., 0., 0.]; 3], &Device::Cpu)?;
            let hooks = Hooks::new()
                .replace(format!("blocks.0.mlp.{point}"), to_first)
                .replace("blocks.0.mlp.hook_expert_weights", one);
            let wanted = layer.run_expert(0, &x.squeeze(0)?, &mut Tap::closed())?;
            assert!(max_difference(&run(&layer, &x, &hooks)?, &wanted)? < 1e-12, "{point}");
        }
        let nowhere = Tensor::new(&[[0u32, 4], [0, 1], [0, 1]], &Device::Cpu)?;
        let hooks = Hooks::new().replace("blocks.0.mlp.hook_expert_indices", nowhere);
        let error = run(&layer, &x, &hooks).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains("expert 4"), "{error}");
        Ok(())
    }

    #[test]
    fn the_points_of_one_expert_fire_for_its_tokens_when_asked_for() -> Result<()> {
        let x = numbers(20, &[2, 3, D_MODEL])?;
        let layer = layer(weights(true)?, ExpertJoin::Gated)?;
        let kept = |keep: &Selector| -> Result<Vec<(HookPoint, Tensor)>> {
            let mut tap = Tap::new(&layer.hook_points(), &Hooks::new(), Some(keep))?;
            layer.forward(&x, &mut tap)?;
            Ok(tap.into_kept())
        };
        let everything = kept(&all())?;
        assert!(!everything.iter().any(|(point, _)| point.name().contains("experts.0")));
        let indices = everything.iter().find(|(point, _)| point.name() == "blocks.0.mlp.hook_expert_indices");
        let (_, indices) = indices.ok_or_else(|| Error::msg("no indices"))?;
        let indices: Vec<u32> = indices.flatten_all()?.to_vec1()?;
        for expert in 0..N_EXPERTS {
            let sent = indices.iter().filter(|&&chosen| chosen as usize == expert).count();
            for point in ["hook_gate", "hook_pre", "hook_post"] {
                let name = format!("blocks.0.mlp.experts.{expert}.{point}");
                let found: Vec<Vec<usize>> =
                    kept(&Selector::from(name))?.iter().map(|(_, t)| t.dims().to_vec()).collect();
                let wanted: Vec<Vec<usize>> = if sent == 0 { vec![] } else { vec![vec![sent, D_EXPERT]] };
                assert_eq!(found, wanted, "expert {expert}, {point}");
            }
        }
        Ok(())
    }

    #[test]
    fn gradients_are_the_slopes() -> Result<()> {
        let w = weights(true)?;
        let x = numbers(20, &[1, 3, D_MODEL])?;
        let loss = |w: &ExpertsWeights, x: &Tensor| -> Result<Tensor> {
            let out = layer(w.clone(), ExpertJoin::Gated)?.forward(x, &mut Tap::closed())?;
            Ok((out.sqr()?.sum_all()? / 2.0)?)
        };
        let with = |place: usize, t: Tensor| {
            let (mut w, mut x) = (w.clone(), x.clone());
            match place {
                0 => x = t,
                1 => w.w_router = t,
                2 => w.w_gate = t,
                _ => w.w_out = t,
            }
            (w, x)
        };
        for (place, start) in [&x, &w.w_router, &w.w_gate, &w.w_out].into_iter().enumerate() {
            let variable = Var::from_tensor(start)?;
            let (w, x) = with(place, variable.as_tensor().clone());
            let grads = loss(&w, &x)?.backward()?;
            let gradient = grads.get(variable.as_tensor()).ok_or_else(|| Error::msg("no gradient"))?;
            let direction = numbers(30 + place, start.dims())?;
            let found: f64 = (gradient * &direction)?.sum_all()?.to_scalar()?;
            let moved = |step: f64| -> Result<f64> {
                let (w, x) = with(place, (start + (&direction * step)?)?);
                Ok(loss(&w, &x)?.to_scalar()?)
            };
            let slope = (moved(1e-5)? - moved(-1e-5)?) / 2e-5;
            assert!((found - slope).abs() < 1e-6 * slope.abs().max(1.0), "{place}: {found} and {slope}");
        }
        Ok(())
    }
}
