//! Routing: which experts a token goes to, and how much each of them counts.

use candle_core::{D, DType, Tensor};
use candle_nn::ops::{sigmoid, softmax};

use crate::{Error, Result};

/// How a router's logits become a choice of experts and their weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Routing {
    /// Experts that each token goes to.
    pub experts_per_token: usize,
    /// What logits become.
    pub scores: RouterScores,
    /// A choice among some groups of experts only.
    pub groups: Option<ExpertGroups>,
    /// Whether the weights of the chosen experts are divided by their sum; the number is the smallest divisor.
    pub normalize: Option<f64>,
    /// The weights are multiplied by this, after that.
    pub scale: f64,
}

/// What a router's logits become.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RouterScores {
    /// A softmax over all experts (Mixtral, OLMoE, Qwen).
    Softmax,
    /// A softmax over the chosen experts (GPT-OSS, Granite).
    SoftmaxOfChosen,
    /// A sigmoid of each (DeepSeek V3, GLM-4.5).
    Sigmoid,
    /// SparseMixer (Liu et al. 2024, arXiv 2409.12136), as at inference: two choices, one after the other, each weighted
    /// by a softmax over the experts that come close to the chosen one.
    SparseMixer {
        /// Experts whose logit lies further below the best one than twice this share don't count.
        jitter: f64,
    },
}

/// A choice in two steps: the best groups of experts, then the best experts in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpertGroups {
    /// Number of groups; experts that follow one another share one.
    pub n_groups: usize,
    /// Groups that a token may choose from.
    pub kept: usize,
    /// A group's score: that of its best expert, or the sum of its best two.
    pub by: GroupScore,
}

/// What a group of experts is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupScore {
    /// Its best expert (DeepSeek V2's `group_limited_greedy`).
    Best,
    /// The sum of its best two (DeepSeek V3's `noaux_tc`).
    BestTwo,
}

impl Routing {
    /// A softmax over all experts and the `experts_per_token` best of them, with their weights as they are.
    pub fn new(experts_per_token: usize) -> Self {
        Self { experts_per_token, scores: RouterScores::Softmax, groups: None, normalize: None, scale: 1.0 }
    }

    /// Whether it can choose among so many experts; else an error that says why not.
    pub fn check(&self, n_experts: usize) -> Result<()> {
        let chosen = self.experts_per_token;
        if chosen == 0 || chosen > n_experts {
            return Err(Error::msg(format!("a token can't go to {chosen} of {n_experts} experts")));
        }
        if matches!(self.scores, RouterScores::SparseMixer { .. }) && chosen != 2 {
            return Err(Error::msg(format!("SparseMixer chooses two experts, and {chosen} were asked for")));
        }
        if let Some(ExpertGroups { n_groups, kept, .. }) = self.groups {
            if n_groups == 0 || kept == 0 || kept > n_groups || !n_experts.is_multiple_of(n_groups) {
                let problem = format!("{n_experts} experts can't be chosen from {kept} of {n_groups} groups");
                return Err(Error::msg(problem));
            }
            if kept * (n_experts / n_groups) < chosen {
                return Err(Error::msg(format!(
                    "{kept} of {n_groups} groups of {n_experts} experts hold fewer than the {chosen} that a token goes to"
                )));
            }
        }
        Ok(())
    }

    /// The experts of each token, best first, `[tokens, experts_per_token]`, from logits `[tokens, n_experts]`.
    /// `correction` `[n_experts]` is added to the scores for the choice alone.
    pub(super) fn choose(&self, logits: &Tensor, correction: Option<&Tensor>) -> Result<Tensor> {
        let correction: Option<Vec<f32>> =
            correction.map(|bias| bias.to_dtype(DType::F32)?.flatten_all()?.to_vec1()).transpose()?;
        let rows: Vec<Vec<f32>> = logits.to_dtype(DType::F32)?.to_vec2()?;
        let chosen: Vec<u32> = rows.iter().flat_map(|row| self.choose_one(row, correction.as_deref())).collect();
        Ok(Tensor::from_vec(chosen, (rows.len(), self.experts_per_token), logits.device())?)
    }

    /// The weights of the chosen experts, `[tokens, experts_per_token]`. Gradients flow to the logits.
    pub(super) fn weights(&self, logits: &Tensor, chosen: &Tensor) -> Result<Tensor> {
        let weights = match self.scores {
            RouterScores::Softmax => softmax(logits, D::Minus1)?.gather(chosen, 1)?,
            RouterScores::SoftmaxOfChosen => softmax(&logits.gather(chosen, 1)?, D::Minus1)?,
            RouterScores::Sigmoid => sigmoid(logits)?.gather(chosen, 1)?,
            RouterScores::SparseMixer { jitter } => sparse_mixer(logits, chosen, jitter)?,
        };
        let weights = match self.normalize {
            Some(least) => weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?.maximum(least)?)?,
            None => weights,
        };
        if self.scale == 1.0 { Ok(weights) } else { Ok((weights * self.scale)?) }
    }

    /// The experts of one token, best first; of equals, the first.
    fn choose_one(&self, logits: &[f32], correction: Option<&[f32]>) -> Vec<u32> {
        let mut scores = match self.scores {
            RouterScores::Softmax => {
                let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let exp: Vec<f32> = logits.iter().map(|logit| (logit - largest).exp()).collect();
                let sum: f32 = exp.iter().sum();
                exp.into_iter().map(|e| e / sum).collect()
            }
            RouterScores::Sigmoid => logits.iter().map(|logit| 1.0 / (1.0 + (-logit).exp())).collect(),
            RouterScores::SoftmaxOfChosen | RouterScores::SparseMixer { .. } => logits.to_vec(),
        };
        for (score, shift) in scores.iter_mut().zip(correction.unwrap_or_default()) {
            *score += shift;
        }
        if let Some(groups) = self.groups {
            groups.leave_out(&mut scores);
        }
        best(&scores).into_iter().take(self.experts_per_token).map(|expert| expert as u32).collect()
    }
}

impl ExpertGroups {
    /// Sets the scores of all groups but the best ones to minus infinity.
    fn leave_out(self, scores: &mut [f32]) {
        let size = scores.len() / self.n_groups;
        let of_group = |group: &[f32]| -> f32 {
            let counted = if self.by == GroupScore::Best { 1 } else { 2 };
            best(group).into_iter().take(counted).map(|i| group[i]).sum()
        };
        let group_scores: Vec<f32> = scores.chunks(size).map(of_group).collect();
        for group in best(&group_scores).into_iter().skip(self.kept) {
            scores[group * size..(group + 1) * size].fill(f32::NEG_INFINITY);
        }
    }
}

/// The places of the scores, highest first; of equals, the first.
fn best(scores: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order
}

/// SparseMixer's weights of two chosen experts: a softmax over those that come close to the first, then, without it,
/// over those that come close to the second.
fn sparse_mixer(logits: &Tensor, chosen: &Tensor, jitter: f64) -> Result<Tensor> {
    let (_, n_experts) = logits.dims2()?;
    let rows: Vec<Vec<f32>> = logits.to_dtype(DType::F32)?.to_vec2()?;
    let chosen_rows: Vec<Vec<u32>> = chosen.to_vec2()?;
    let mut weights = Vec::with_capacity(2);
    for step in 0..2 {
        let mut mask = Vec::with_capacity(rows.len() * n_experts);
        for (row, experts) in rows.iter().zip(&chosen_rows) {
            let top = experts.get(step).and_then(|&expert| row.get(expert as usize)).copied().unwrap_or(f32::NAN);
            let taken = &experts[..step.min(experts.len())];
            mask.extend(row.iter().enumerate().map(|(expert, &logit)| {
                let far = (top - logit) / logit.abs().max(top) > 2.0 * jitter as f32;
                if far || taken.contains(&(expert as u32)) { f32::NEG_INFINITY } else { 0.0 }
            }));
        }
        let mask = Tensor::from_vec(mask, (rows.len(), n_experts), logits.device())?.to_dtype(logits.dtype())?;
        let close = softmax(&(logits + mask)?, D::Minus1)?;
        weights.push(close.gather(&chosen.narrow(1, step, 1)?.contiguous()?, 1)?);
    }
    Ok(Tensor::cat(&weights, 1)?)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    /// The choice and the weights for one token.
    fn route(routing: &Routing, logits: &[f32], correction: Option<&[f32]>) -> Result<(Vec<u32>, Vec<f32>)> {
        routing.check(logits.len())?;
        let logits = Tensor::new(logits, &Device::Cpu)?.unsqueeze(0)?;
        let correction = correction.map(|bias| Tensor::new(bias, &Device::Cpu)).transpose()?;
        let chosen = routing.choose(&logits, correction.as_ref())?;
        let weights = routing.weights(&logits, &chosen)?;
        Ok((chosen.flatten_all()?.to_vec1()?, weights.flatten_all()?.to_vec1()?))
    }

    fn close(found: &[f32], wanted: &[f32]) {
        assert_eq!(found.len(), wanted.len());
        for (a, b) in found.iter().zip(wanted) {
            assert!((a - b).abs() < 1e-6, "{found:?} is not {wanted:?}");
        }
    }

    fn softmaxed(logits: &[f32]) -> Vec<f32> {
        let sum: f32 = logits.iter().map(|x| x.exp()).sum();
        logits.iter().map(|x| x.exp() / sum).collect()
    }

    fn sigma(x: f32) -> f32 {
        1.0 / (1.0 + (-x).exp())
    }

    const LOGITS: [f32; 4] = [0.3, 1.2, -0.5, 0.9];

    #[test]
    fn softmax_over_all_with_and_without_normalising() -> Result<()> {
        let p = softmaxed(&LOGITS);
        let (experts, weights) = route(&Routing::new(2), &LOGITS, None)?;
        assert_eq!(experts, [1, 3]);
        close(&weights, &[p[1], p[3]]);
        let normalised = Routing { normalize: Some(0.0), scale: 2.5, ..Routing::new(2) };
        let (_, weights) = route(&normalised, &LOGITS, None)?;
        close(&weights, &[2.5 * p[1] / (p[1] + p[3]), 2.5 * p[3] / (p[1] + p[3])]);
        Ok(())
    }

    #[test]
    fn softmax_over_the_chosen() -> Result<()> {
        let routing = Routing { scores: RouterScores::SoftmaxOfChosen, ..Routing::new(3) };
        let (experts, weights) = route(&routing, &LOGITS, None)?;
        assert_eq!(experts, [1, 3, 0]);
        close(&weights, &softmaxed(&[1.2, 0.9, 0.3]));
        Ok(())
    }

    #[test]
    fn a_correction_bias_changes_the_choice_and_not_the_weights() -> Result<()> {
        // ERNIE's: a softmax, its bias for the choice, and a least divisor.
        let ernie = Routing { normalize: Some(1e-12), ..Routing::new(2) };
        let (experts, weights) = route(&ernie, &LOGITS, Some(&[0.0, -1.0, 0.5, 0.0]))?;
        let p = softmaxed(&LOGITS);
        assert_eq!(experts, [2, 3]);
        close(&weights, &[p[2] / (p[2] + p[3]), p[3] / (p[2] + p[3])]);
        let floor = Routing { normalize: Some(10.0), ..Routing::new(2) };
        close(&route(&floor, &LOGITS, None)?.1, &[p[1] / 10.0, p[3] / 10.0]);
        Ok(())
    }

    #[test]
    fn sigmoid_with_groups_judged_by_their_best_two() -> Result<()> {
        // Group sums of two: experts 0 and 1: σ(2) + σ(-3); 2 and 3: σ(1) + σ(0.9), which is more; 4 and 5: less.
        let logits = [2.0f32, -3.0, 1.0, 0.9, 0.1, 0.2];
        let groups = ExpertGroups { n_groups: 3, kept: 1, by: GroupScore::BestTwo };
        let routing = Routing {
            scores: RouterScores::Sigmoid,
            groups: Some(groups),
            normalize: Some(1e-20),
            scale: 2.5,
            ..Routing::new(2)
        };
        let (experts, weights) = route(&routing, &logits, Some(&[0.0; 6]))?;
        assert_eq!(experts, [2, 3]);
        let sum = sigma(1.0) + sigma(0.9);
        close(&weights, &[2.5 * sigma(1.0) / sum, 2.5 * sigma(0.9) / sum]);
        // A correction that lifts a bad group is enough to choose it; the weights stay those of the sigmoid.
        let (experts, weights) = route(&routing, &logits, Some(&[0.0, 0.0, -9.0, -9.0, 5.0, 0.0]))?;
        assert_eq!(experts, [4, 5]);
        close(&weights, &[2.5 * sigma(0.1) / (sigma(0.1) + sigma(0.2)), 2.5 * sigma(0.2) / (sigma(0.1) + sigma(0.2))]);
        Ok(())
    }

    #[test]
    fn softmax_with_groups_judged_by_their_best() -> Result<()> {
        let logits = [2.0f32, -3.0, 1.0, 0.9, 0.1, 0.2];
        let groups = ExpertGroups { n_groups: 3, kept: 1, by: GroupScore::Best };
        let routing = Routing { groups: Some(groups), scale: 16.0, ..Routing::new(2) };
        let (experts, weights) = route(&routing, &logits, None)?;
        let p = softmaxed(&logits);
        assert_eq!(experts, [0, 1]);
        close(&weights, &[16.0 * p[0], 16.0 * p[1]]);
        Ok(())
    }

    #[test]
    fn sparse_mixer_weighs_each_choice_among_those_that_come_close() -> Result<()> {
        // With a jitter of 0.1, an expert counts if it lies less than 0.2 of the larger of |its logit| and the best below
        // the best. First choice 2.0: 1.9 lies 0.05 below, 1.0 lies 0.5 below. Second choice 1.9: nothing else is close.
        let routing = Routing { scores: RouterScores::SparseMixer { jitter: 0.1 }, ..Routing::new(2) };
        let (experts, weights) = route(&routing, &[1.0, 2.0, -4.0, 1.9], None)?;
        assert_eq!(experts, [1, 3]);
        close(&weights, &[softmaxed(&[2.0, 1.9])[0], 1.0]);
        // A large negative logit is judged by its own size: (1 - (-9)) / 9 is far, (0.1 - (-0.2)) / 0.2 is as well.
        let (experts, weights) = route(&routing, &[1.0, 0.9, 0.95, -9.0], None)?;
        assert_eq!(experts, [0, 2]);
        close(&weights, &[softmaxed(&[1.0, 0.9, 0.95])[0], softmaxed(&[0.95, 0.9])[0]]);
        Ok(())
    }

    #[test]
    fn gradients_reach_the_logits() -> Result<()> {
        let kinds = [
            RouterScores::Softmax,
            RouterScores::SoftmaxOfChosen,
            RouterScores::Sigmoid,
            RouterScores::SparseMixer { jitter: 0.3 },
        ];
        for scores in kinds {
            let routing = Routing { scores, ..Routing::new(2) };
            let logits = Var::from_tensor(&Tensor::new(&[LOGITS], &Device::Cpu)?)?;
            let weight = |logits: &Tensor| -> Result<Tensor> {
                let chosen = routing.choose(logits, None)?;
                Ok(routing.weights(logits, &chosen)?.narrow(1, 0, 1)?.sum_all()?)
            };
            let grads = weight(logits.as_tensor())?.backward()?;
            let gradient = grads.get(logits.as_tensor()).ok_or_else(|| Error::msg("no gradient"))?;
            let gradient: Vec<f32> = gradient.flatten_all()?.to_vec1()?;
            for (expert, found) in gradient.iter().enumerate() {
                let moved = |step: f32| -> Result<f32> {
                    let mut logits = LOGITS;
                    logits[expert] += step;
                    Ok(weight(&Tensor::new(&[logits], &Device::Cpu)?)?.to_scalar::<f32>()?)
                };
                let slope = (moved(1e-2)? - moved(-1e-2)?) / 2e-2;
                assert!((found - slope).abs() < 1e-3, "{scores:?}: {found} and {slope}");
            }
        }
        Ok(())
    }

    #[test]
    fn what_can_not_be_chosen_is_an_error() {
        assert!(Routing::new(5).check(4).is_err() && Routing::new(0).check(4).is_err());
        let sparse = Routing { scores: RouterScores::SparseMixer { jitter: 0.1 }, ..Routing::new(3) };
        assert!(sparse.check(4).is_err());
        for (n_groups, kept) in [(3, 1), (4, 1), (2, 3), (0, 0)] {
            let groups = ExpertGroups { n_groups, kept, by: GroupScore::Best };
            assert!(Routing { groups: Some(groups), ..Routing::new(2) }.check(4).is_err());
        }
    }
}
