//! Sweeps, patching, ablation and path patching against one whole run for each place.

use crate::common::{max_difference, model};
use candlescope::analysis::ablation::{all_heads_but, mean_heads, mean_heads_by_position, zero_heads, zero_neurons};
use candlescope::analysis::metric::{logit, loss, prob};
use candlescope::analysis::path_patching::{Receiver, Sender};
use candlescope::prelude::*;

const CLEAN: [u32; 7] = [5, 80, 17, 200, 3, 44, 42];
const CORRUPTED: [u32; 7] = [5, 80, 91, 200, 3, 44, 42];

fn tokens(rows: &[&[u32]]) -> Tokens {
    Tokens::from_ids(rows.iter().map(|row| row.to_vec()).collect()).unwrap()
}

fn padded(side: PaddingSide) -> Tokens {
    Tokens::padded(vec![CLEAN.to_vec(), vec![9, 30, 101, 7]], 0, side).unwrap()
}

fn metric() -> Metric {
    logit_diff(17u32, 45u32)
}

fn cache(model: &HookedTransformer, tokens: &Tokens) -> ActivationCache {
    model.run_with_cache(tokens).unwrap().1
}

/// `activation` with one place of each of some axes from `value`.
fn put(activation: &Tensor, places: &[(usize, usize)], value: &Tensor) -> Tensor {
    let ranges: Vec<_> = (0..activation.rank())
        .map(|axis| match places.iter().find(|(at, _)| *at == axis) {
            Some((_, place)) => *place..place + 1,
            None => 0..activation.dims()[axis],
        })
        .collect();
    let mut part = value.clone();
    for &(axis, place) in places {
        part = part.narrow(axis, place, 1).unwrap();
    }
    activation.contiguous().unwrap().slice_assign(&ranges, &part.contiguous().unwrap()).unwrap()
}

fn close(found: f32, wanted: f32, what: &str) {
    assert!((found - wanted).abs() <= 2e-5 * wanted.abs().max(1.0), "{what}: {found} instead of {wanted}");
}

#[test]
fn a_sweep_gives_what_whole_runs_give() {
    // Learned positions, ALiBi, parallel blocks, norms behind branches, experts, shared heads, state spaces, latent attention.
    let names =
        ["gpt2", "bloom", "gpt_neox", "gemma2", "mixtral", "llama", "mamba", "deepseek_v3", "opt", "stablelm", "bert"];
    for name in names {
        let model = model(name);
        for prompts in [tokens(&[&CORRUPTED]), padded(PaddingSide::Left), padded(PaddingSide::Right)] {
            if name == "mamba" && prompts.padding_side() == PaddingSide::Left && prompts.mask().is_some() {
                continue;
            }
            let prompts = &prompts;
            let result =
                model.sweep(prompts).at("resid_pre").by(["pos", "layer"]).zero().measure(metric()).run().unwrap();
            let (pos, layers) = (prompts.shape().1, model.cfg().n_layers);
            assert_eq!(result.values().dims(), [pos, layers]);
            for at in 0..pos {
                for layer in 0..layers {
                    let hooks = Hooks::new().edit(("resid_pre", layer), move |stream, _| {
                        Ok(put(stream, &[(1, at)], &stream.zeros_like()?))
                    });
                    let logits = model.run_with_hooks(prompts, &hooks).unwrap();
                    let ends = prompts.last_positions();
                    let of_row = |(row, end): (usize, &usize)| {
                        let logits: Vec<f32> = logits.at(row, *end as i64).unwrap().to_vec1().unwrap();
                        logits[17] - logits[45]
                    };
                    let whole: Vec<f32> = ends.iter().enumerate().map(of_row).collect();
                    for (row, whole) in whole.iter().enumerate() {
                        let found = result.per_prompt().i((at, layer, row)).unwrap().to_scalar::<f32>().unwrap();
                        close(found, *whole, &format!("{name}, layer {layer}, pos {at}, row {row}"));
                    }
                }
            }
        }
    }
}

#[test]
fn heads_and_patterns_are_patched_place_by_place() {
    for name in ["gpt2", "llama", "gemma2"] {
        let model = model(name);
        let (prompt, source) = (tokens(&[&CORRUPTED]), cache(&model, &tokens(&[&CLEAN])));
        for (activation, axes, head_axis) in
            [("k", ["layer", "pos", "head"], 2), ("pattern", ["layer", "dest", "head"], 1)]
        {
            let result =
                model.sweep(&prompt).at(activation).by(axes).patch_from(&source).measure(metric()).run().unwrap();
            let heads = source.get((activation, 0)).unwrap().dim(head_axis).unwrap();
            assert_eq!(result.values().dims(), [model.cfg().n_layers, CLEAN.len(), heads]);
            for (layer, pos, head) in [(0, 2, 0), (1, 4, heads - 1), (2, 6, 0)] {
                let places = if head_axis == 2 { [(1, pos), (2, head)] } else { [(2, pos), (1, head)] };
                let value = source.get((activation, layer)).unwrap();
                let hooks = Hooks::new().edit((activation, layer), move |act, _| Ok(put(act, &places, &value)));
                let logits: Vec<f32> =
                    model.run_with_hooks(&prompt, &hooks).unwrap().at(0, -1).unwrap().to_vec1().unwrap();
                let found = result.values().i((layer, pos, head)).unwrap().to_scalar::<f32>().unwrap();
                close(found, logits[17] - logits[45], &format!("{name} {activation} {layer} {pos} {head}"));
            }
        }
    }
}

#[test]
fn points_outside_of_blocks_and_of_two_stacks_are_swept() {
    let gpt2 = model("gpt2");
    let (prompt, source) = (tokens(&[&CORRUPTED]), cache(&gpt2, &tokens(&[&CLEAN])));
    // The embedding of the one token that differs is all that differs.
    let embeds = gpt2.sweep(&prompt).at(embed()).by(["pos"]).patch_from(&source).measure(metric()).run().unwrap();
    let restored = embeds.normalized().unwrap().values();
    close(restored[2], 1.0, "the differing token");
    close(restored[0], 0.0, "another token");
    let last = gpt2.sweep(&prompt).at(ln_final_normalized()).by(["pos"]).patch_from(&source).measure(metric()).run();
    close(last.unwrap().normalized().unwrap().values()[6], 1.0, "the last norm");
    let t5 = model("t5");
    let pair = |encoder: &[u32]| Input::from((tokens(&[encoder]), tokens(&[&[0, 4, 9]])));
    let t5_source = t5.run_with_cache(pair(&CLEAN)).unwrap().1;
    let sweep = t5.sweep(pair(&CORRUPTED)).at("encoder_blocks.0.hook_resid_pre").by(["pos"]).patch_from(&t5_source);
    let restored = sweep.measure(metric()).run().unwrap().normalized().unwrap().values();
    close(restored[2], 1.0, "the differing token of the encoder");
    close(restored[1], 0.0, "another token of the encoder");
    // What has no batch axis goes through the model one by one.
    let biases =
        t5.sweep(pair(&CLEAN)).at("hook_decoder_pos_embed").by(["head"]).zero().measure(metric()).run().unwrap();
    assert_eq!(biases.values().dims(), [t5.cfg().n_heads]);
    let axis = t5_source.get("hook_decoder_pos_embed").unwrap().rank() - 1;
    let hooks =
        Hooks::new().edit("hook_decoder_pos_embed", move |bias, _| Ok(put(bias, &[(axis, 2)], &bias.zeros_like()?)));
    let last: Vec<f32> = t5.run_with_hooks(pair(&CLEAN), &hooks).unwrap().at(0, -1).unwrap().to_vec1().unwrap();
    close(biases.values().values()[2], last[17] - last[45], "a bias without a batch axis");
}

#[test]
fn interventions_are_what_they_say() {
    let model = model("llama");
    let prompts = tokens(&[&CORRUPTED, &CLEAN]);
    let source = cache(&model, &tokens(&[&CLEAN, &CORRUPTED]));
    let base = || model.sweep(&prompts).at("resid_mid").by(["layer"]).measure(metric());
    let values = |sweep: Sweep| sweep.run().unwrap().per_prompt().values();
    let same = |a: Vec<f32>, b: Vec<f32>, what: &str| a.iter().zip(&b).for_each(|(a, b)| close(*a, *b, what));

    let d_model = model.cfg().d_model;
    let every = Tensor::eye(d_model, DType::F32, &Device::Cpu).unwrap();
    same(values(base().interchange(&every, &source)), values(base().patch_from(&source)), "all directions");
    same(values(base().project_out(&every)), values(base().zero()), "no direction left");
    // In a batch of two the other prompt's activation is the only other one.
    same(values(base().resample(&cache(&model, &prompts), 3)), values(base().patch_from(&source)), "the other prompt");
    let half = base().edit(|stream, _| Ok((stream * 0.5)?));
    let scaled = base().interchange(&every, &cache(&model, &prompts)).run().unwrap();
    let unchanged = scaled.change().unwrap().values();
    same(unchanged, vec![0.0; 3], "its own activation");
    assert!(values(half) != values(base().zero()));

    // Steering adds what it says, for each strength.
    let direction = Tensor::randn(0f32, 1f32, d_model, &Device::Cpu).unwrap();
    let steered = base().add(&direction, [0.0, -1.5]).run().unwrap();
    assert_eq!(steered.axes().last().unwrap().name(), "strength");
    close(steered.values().i((1, 0)).unwrap().to_scalar().unwrap(), steered.base(), "no strength");
    let hooks = Hooks::new().edit(("resid_mid", 1), move |stream, _| Ok(stream.broadcast_add(&(&direction * -1.5)?)?));
    let logits = model.run_with_hooks(&prompts, &hooks).unwrap();
    let last: Vec<f32> = logits.at(1, -1).unwrap().to_vec1().unwrap();
    close(steered.per_prompt().i((1, 1, 1)).unwrap().to_scalar().unwrap(), last[17] - last[45], "steered");

    // The mean over prompts and positions, and over prompts only.
    let z = source.get(z(1)).unwrap();
    for (keep_positions, mean) in [(false, z.mean_keepdim((0, 1)).unwrap()), (true, z.mean_keepdim(0).unwrap())] {
        let sweep = model.sweep(&prompts).at("z").by(["layer", "head"]).only("layer", [1]).measure(metric());
        let sweep = if keep_positions { sweep.mean_by_position_of(&source) } else { sweep.mean_of(&source) };
        let found = sweep.run().unwrap();
        assert_eq!(found.values().dims(), [1, model.cfg().n_heads]);
        let hooks = Hooks::new().edit(("z", 1), move |z, _| Ok(put(z, &[(2, 3)], &mean.broadcast_as(z.shape())?)));
        let logits: Vec<f32> = model.run_with_hooks(&prompts, &hooks).unwrap().at(0, -1).unwrap().to_vec1().unwrap();
        close(found.per_prompt().i((0, 3, 0)).unwrap().to_scalar().unwrap(), logits[17] - logits[45], "mean of head 3");
    }
}

#[test]
fn chosen_places_go_together_or_one_by_one() {
    let model = model("gpt2");
    let prompt = tokens(&[&CLEAN]);
    let neurons = || model.sweep(&prompt).at(post(1)).only("neuron", [9, 3, 3]).zero().measure(loss());
    let one_by_one = neurons().by(["neuron"]).run().unwrap();
    assert_eq!(one_by_one.axes()[0].labels(), ["3", "9"]);
    let together = neurons().together().run().unwrap();
    assert_eq!(together.values().dims(), [0usize; 0]);
    let by_hooks = model.loss_with_hooks(&prompt, &zero_neurons([(1, 9), (1, 3)])).unwrap();
    close(together.values().to_scalar().unwrap(), by_hooks, "two neurons");
    let one = model.loss_with_hooks(&prompt, &zero_neurons([(1, 9)])).unwrap();
    close(one_by_one.values().values()[1], one, "one neuron");

    let heads = model.sweep(&prompt).at("z").only("layer", [0, 2]).only("head", [1]).zero().measure(loss());
    let by_hooks = model.loss_with_hooks(&prompt, &zero_heads([(2, 1), (0, 1)])).unwrap();
    close(heads.together().run().unwrap().values().to_scalar().unwrap(), by_hooks, "two heads");
    let all = zero_heads(all_heads_but(model.cfg(), []));
    let silent = Hooks::new().edit("z", |z, _| Ok(z.zeros_like()?));
    close(model.loss_with_hooks(&prompt, &all).unwrap(), model.loss_with_hooks(&prompt, &silent).unwrap(), "no head");
    let reference = cache(&model, &tokens(&[&CLEAN, &CORRUPTED]));
    let z0 = reference.get(z(0)).unwrap();
    let means = [
        (z0.mean_keepdim((0, 1)).unwrap(), mean_heads([(0, 2)], &reference).unwrap()),
        (z0.mean_keepdim(0).unwrap(), mean_heads_by_position([(0, 2)], &reference).unwrap()),
    ];
    for (mean, hooks) in means {
        let by_hand = Hooks::new().edit(z(0), move |z, _| Ok(put(z, &[(2, 2)], &mean.broadcast_as(z.shape())?)));
        let found = model.loss_with_hooks(&prompt, &hooks).unwrap();
        close(found, model.loss_with_hooks(&prompt, &by_hand).unwrap(), "the mean of a head");
    }
    let hooks = mean_heads_by_position([(0, 2)], &reference).unwrap();
    let error = model.loss_with_hooks(tokens(&[&CLEAN[..4]]), &hooks).unwrap_err().to_string();
    assert!(error.contains("4 positions here and 7 in the reference"), "{error}");
}

#[test]
fn little_memory_and_standing_hooks_change_nothing_else() {
    let model = model("mixtral");
    let (prompt, source) = (tokens(&[&CORRUPTED]), cache(&model, &tokens(&[&CLEAN])));
    let sweep =
        model.sweep(&prompt).at("mlp_out").at("resid_pre").by(["layer", "pos"]).patch_from(&source).measure(metric());
    let (at_once, one_by_one) = (sweep.run().unwrap(), sweep.clone().memory(1).run().unwrap());
    assert_eq!(at_once.axes()[0].labels(), ["mlp_out", "resid_pre"]);
    assert!(max_difference(at_once.values(), one_by_one.values()) < 2e-5);

    // A hook that adds to the stream works once in every run, wherever the run begins.
    let standing = Hooks::new().edit("resid_pre", |stream, _| Ok((stream + 0.1)?));
    let found = sweep.hooks(&standing).run().unwrap();
    for (layer, pos) in [(0, 2), (2, 6)] {
        let value = source.get(("resid_pre", layer)).unwrap();
        let hooks = standing.clone().edit(("resid_pre", layer), move |stream, _| Ok(put(stream, &[(1, pos)], &value)));
        let last: Vec<f32> = model.run_with_hooks(&prompt, &hooks).unwrap().at(0, -1).unwrap().to_vec1().unwrap();
        close(
            found.values().i((1, layer, pos)).unwrap().to_scalar().unwrap(),
            last[17] - last[45],
            "under a standing hook",
        );
    }
}

#[test]
fn metrics_are_their_formulas() {
    let model = model("gpt2");
    let prompts = padded(PaddingSide::Right);
    let logits = model.forward(&prompts).unwrap();
    let ends = prompts.last_positions();
    let rows: Vec<Vec<f32>> = (0..2).map(|row| logits.at(row, ends[row] as i64).unwrap().to_vec1().unwrap()).collect();
    let mean = |of: &dyn Fn(&[f32], usize) -> f32| (of(&rows[0], 0) + of(&rows[1], 1)) / 2.0;
    let log_sum = |row: &[f32]| row.iter().map(|x| x.exp()).sum::<f32>().ln();
    let measured = |metric: Metric| model.measure(&prompts, &metric).unwrap();
    close(measured(logit(17u32)), mean(&|row, _| row[17]), "logit");
    close(measured(logit([17u32, 4])), mean(&|row, i| row[[17, 4][i]]), "a logit each");
    close(measured(log_prob(17u32)), mean(&|row, _| row[17] - log_sum(row)), "log probability");
    close(measured(prob(17u32)), mean(&|row, _| (row[17] - log_sum(row)).exp()), "probability");
    close(
        measured(logit(17u32).at(0)),
        (logits.at(0, 0).unwrap().to_vec1::<f32>().unwrap()[17]
            + logits.at(1, 0).unwrap().to_vec1::<f32>().unwrap()[17])
            / 2.0,
        "at 0",
    );
    close(measured(kl_divergence(&logits)), 0.0, "KL with itself");
    let other = model.forward(tokens(&[&CORRUPTED, &CLEAN])).unwrap();
    let theirs: Vec<Vec<f32>> = (0..2).map(|row| other.at(row, ends[row] as i64).unwrap().to_vec1().unwrap()).collect();
    let kl = |row: &[f32], i: usize| -> f32 {
        let (a, b) = (log_sum(&theirs[i]), log_sum(row));
        theirs[i].iter().zip(row).map(|(x, y)| (x - a).exp() * ((x - a) - (y - b))).sum()
    };
    close(measured(kl_divergence(&other)), mean(&kl), "KL");
    // Each prompt's loss is over its own tokens.
    let alone: f32 = [tokens(&[&CLEAN]), tokens(&[&[9, 30, 101, 7]])].iter().map(|row| model.loss(row).unwrap()).sum();
    close(measured(loss()), alone / 2.0, "loss");
}

/// The logits of a residual stream that leaves the last block.
fn unembedded(model: &HookedTransformer, stream: &Tensor) -> f32 {
    let options = RunOptions::new().start_at_layer(model.cfg().n_layers as i64);
    let logits = model.run(stream, &options).unwrap().logits.unwrap();
    let last: Vec<f32> = logits.at(0, -1).unwrap().to_vec1().unwrap();
    last[17] - last[45]
}

#[test]
fn a_direct_path_to_the_logits_adds_what_the_sender_changed() {
    for name in ["gpt2", "llama", "gpt_neox", "mixtral"] {
        let model = model(name);
        let (prompt, source) = (tokens(&[&CORRUPTED]), cache(&model, &tokens(&[&CLEAN])));
        let base = model.run_with_cache_of(&prompt, ["result", "mlp_out", "resid_post"]).unwrap().1;
        let said = model.run_with_cache_of(tokens(&[&CLEAN]), "result").unwrap().1;
        let stream = base.get(("resid_post", -1)).unwrap();
        let path = model.path_patch(&prompt).from(&source).into([Receiver::Logits]).freeze_mlps().measure(metric());
        let heads = path.heads().unwrap();
        for (layer, head) in [(0, 1), (1, 3), (2, 0)] {
            let of = |cache: &ActivationCache| {
                cache.get(result(layer)).unwrap().narrow(2, head, 1).unwrap().squeeze(2).unwrap()
            };
            let arrived = ((&stream + of(&said)).unwrap() - of(&base)).unwrap();
            let found = heads.values().i((layer, head)).unwrap().to_scalar::<f32>().unwrap();
            close(found, unembedded(&model, &arrived), &format!("{name} L{layer}H{head}"));
        }
        let mlp = path.senders([Sender::Mlp(1)]).unwrap();
        let change = (source.get(mlp_out(1)).unwrap() - base.get(mlp_out(1)).unwrap()).unwrap();
        close(mlp.values().values()[0], unembedded(&model, &(&stream + change).unwrap()), name);
        // What all senders change together is all that changes.
        let all = path.senders([Sender::Embed, Sender::Attn(0)]).unwrap();
        assert_eq!(all.axes()[0].labels(), ["embed", "0_attn_out"]);
    }
}

#[test]
fn a_path_into_queries_and_mlps_is_the_stream_put_in_by_hand() {
    for name in ["gpt2", "llama", "gpt_neox", "mixtral"] {
        let model = model(name);
        let (prompt, source) = (tokens(&[&CORRUPTED]), cache(&model, &tokens(&[&CLEAN])));
        let base = cache(&model, &prompt);
        let parallel = model.cfg().parallel_attn_mlp;
        // The stream at layer 2 when head 1 of layer 0 says something else and later heads are held.
        let z0 = put(&base.get(z(0)).unwrap(), &[(2, 1)], &source.get(z(0)).unwrap());
        let held = Hooks::new().replace(z(0), z0).replace(z(1), base.get(z(1)).unwrap());
        let at = if parallel { resid_pre(2) } else { resid_mid(2) };
        let held = held.replace(z(2), base.get(z(2)).unwrap());
        let (_, streams) = model.run_with_hooks_and_cache(&prompt, &held, [resid_pre(2), at.clone()]).unwrap();
        let metric_of = |hooks: &Hooks| {
            let last: Vec<f32> = model.run_with_hooks(&prompt, hooks).unwrap().at(0, -1).unwrap().to_vec1().unwrap();
            last[17] - last[45]
        };
        let cases = [
            (Receiver::Q(2, 3), q_input(2), Some(3)),
            (Receiver::V(2, 1), v_input(2), Some(1)),
            (Receiver::Mlp(2), mlp_in(2), None),
        ];
        for (receiver, point, head) in cases {
            let stream = streams.get(if head.is_some() { resid_pre(2) } else { at.clone() }).unwrap();
            let by_hand = Hooks::new().edit(point, move |input, _| match head {
                Some(head) => Ok(put(input, &[(2, head)], &stream.unsqueeze(2)?.broadcast_as(input.shape())?)),
                None => Ok(stream.clone()),
            });
            let path = model.path_patch(&prompt).from(&source).into([receiver]).measure(metric());
            let found = path.heads().unwrap();
            let value = found.values().i((0, 1)).unwrap().to_scalar::<f32>().unwrap();
            close(value, metric_of(&by_hand), &format!("{name} into {receiver}"));
            assert!((value - found.base()).abs() > 1e-6, "{name}: nothing arrives at {receiver}");
            // A head has no path to what comes before it.
            close(
                found.values().i((2, 1)).unwrap().to_scalar().unwrap(),
                if head.is_some() || parallel {
                    found.base()
                } else {
                    value_of_own_layer(&model, &prompt, &source, &base)
                },
                "later head",
            );
        }
    }
}

/// Into the MLP of layer 2 from head 1 of the same layer.
fn value_of_own_layer(
    model: &HookedTransformer,
    prompt: &Tokens,
    source: &ActivationCache,
    base: &ActivationCache,
) -> f32 {
    let z2 = put(&base.get(z(2)).unwrap(), &[(2, 1)], &source.get(z(2)).unwrap());
    let (_, streams) = model.run_with_hooks_and_cache(prompt, &Hooks::new().replace(z(2), z2), resid_mid(2)).unwrap();
    let hooks = Hooks::new().replace(mlp_in(2), streams.get(resid_mid(2)).unwrap());
    let last: Vec<f32> = model.run_with_hooks(prompt, &hooks).unwrap().at(0, -1).unwrap().to_vec1().unwrap();
    last[17] - last[45]
}

#[test]
fn what_does_not_fit_is_a_sentence() {
    let gpt2 = model("gpt2");
    let prompt = tokens(&[&CORRUPTED]);
    let source = cache(&gpt2, &tokens(&[&CLEAN]));
    let error = |result: candlescope::Result<SweepResult>| result.unwrap_err().to_string();
    let sweep = || gpt2.sweep(&prompt).at("z").by(["layer", "head"]).patch_from(&source).measure(metric());
    assert!(sweep().run().is_ok());
    let says = |sweep: Sweep, words: &str| {
        let said = error(sweep.run());
        assert!(said.contains(words), "{said}");
    };
    says(gpt2.sweep(&prompt), "no intervention");
    says(gpt2.sweep(&prompt).at("z").zero(), "no metric");
    says(gpt2.sweep(&prompt).zero().measure(metric()), "no activation");
    says(sweep().by(["layer", "haed"]), "did you mean 'head'");
    says(sweep().by(["layer", "batch"]), "no axis 'batch'");
    says(sweep().by(["layer", "layer"]), "twice");
    says(sweep().at("zz"), "no hook point 'zz'");
    says(sweep().only("layer", [7]), "no layer left");
    says(sweep().only("head", [4]), "has 4 places");
    says(sweep().only("head", []), "only [] of the axis 'head'");
    says(sweep().patch_from(&cache(&gpt2, &tokens(&[&CLEAN[..5]]))), "7 tokens and the source 5");
    says(sweep().patch_from(&cache(&gpt2, &tokens(&[&CLEAN, &CLEAN]))), "1 prompts to change and 2 in the source");
    says(sweep().patch_from(&cache(&model("llama"), &tokens(&[&CLEAN]))), "cache of another model");
    says(sweep().patch_from(&source.remove_batch_dim().unwrap()), "no batch dimension");
    says(sweep().resample(&source, 0), "at least two");
    says(sweep().project_out(&Tensor::zeros(8, DType::F32, &Device::Cpu).unwrap()), "no direction");
    says(sweep().project_out(&Tensor::ones(5, DType::F32, &Device::Cpu).unwrap()), "5 dimensions");
    says(sweep().edit(|z, _| Ok(z.sum_keepdim(1)?)), "must keep the shape");
    says(sweep().measure(logit_diff(" Mary and John", 45u32)), "' Mary and John' is");
    says(sweep().measure(logit(400_000u32)), "400000");
    says(sweep().measure(logit([1u32, 2])), "2 answers for 1 prompts");
    says(sweep().measure(metric().at(9)), "position 9");
    says(sweep().measure(Metric::new("odd", |logits| Ok(logits.tensor().clone()))), "one number for each");
    says(gpt2.sweep(&prompt).at(embed()).by(["layer"]).zero().measure(metric()), "no axis 'layer'");
    says(gpt2.sweep(source.get(resid_pre(0)).unwrap()).at("z").zero().measure(metric()), "start_at_layer");
    let only_z = gpt2.run_with_cache_of(tokens(&[&CLEAN]), "z").unwrap().1;
    says(sweep().at("q").patch_from(&only_z), "not in this cache");
    assert!(
        error(model("gpt_neox").sweep(&prompt).at("resid_mid").zero().measure(metric()).run()).contains("parallel")
    );
    assert!(
        error(sweep().zero().run().and_then(|result| {
            result.normalized()?;
            Ok(result)
        }))
        .contains("no source run")
    );

    let path = || gpt2.path_patch(&prompt).from(&source).measure(metric());
    assert!(error(path().heads()).contains("no receiver"));
    assert!(error(path().into([Receiver::Logits, Receiver::Mlp(1)]).heads()).contains("by themselves"));
    assert!(error(path().into([Receiver::Q(1, 4)]).heads()).contains("no receiver L1H4 Q"));
    assert!(error(path().into([Receiver::Logits]).senders([Sender::Head(0, 9)])).contains("no sender L0H9"));
    assert!(error(path().into([Receiver::Logits]).senders([Sender::Mlp(3)])).contains("no sender 3_mlp_out"));
    assert!(error(path().into([Receiver::Logits]).senders([])).contains("no sender"));
    let bert = model("bert");
    let bert_source = cache(&bert, &tokens(&[&CLEAN]));
    let post_norm = bert.path_patch(&prompt).from(&bert_source).into([Receiver::Logits]).measure(metric());
    assert!(error(post_norm.heads()).contains("norms behind the additions"));
    assert!(gpt2.loss_with_hooks(&prompt, &zero_heads([(0, 4)])).unwrap_err().to_string().contains("no place 4"));
}

#[test]
fn runs_that_begin_at_a_position_are_what_whole_runs_are() {
    // Long enough that positions far apart don't go together. Windows, positions of every kind, norms of each head, experts.
    let ids: Vec<u32> = (0..40).map(|i| 3 + i * 37 % 300).collect();
    let prompts = [tokens(&[&ids]), tokens(&[&ids, &ids.iter().map(|id| id + 1).collect::<Vec<_>>()])];
    let names =
        ["gpt2", "gpt_neo", "bloom", "llama", "mistral", "gemma2", "qwen3", "mixtral", "olmo2", "cohere2", "gpt_oss"];
    for name in names.into_iter().chain(["deepseek_v3", "mamba", "t5"]) {
        let model = model(name);
        for prompts in if model.has_encoder() { &prompts[..0] } else { &prompts[..] } {
            for (at, axes) in [("resid_pre", ["layer", "pos"]), ("attn_out", ["layer", "pos"]), ("v", ["layer", "pos"])]
            {
                // Their values have another shape, or there are none.
                if (name == "mamba" && at != "resid_pre") || (name == "deepseek_v3" && at == "v") {
                    continue;
                }
                let result = model.sweep(prompts).at(at).by(axes).zero().measure(metric()).run().unwrap();
                for (layer, pos) in [(0, 0), (0, 39), (1, 12), (1, 25), (2, 38), (0, 21), (2, 13)] {
                    let hooks = Hooks::new().edit((at, layer), move |x, _| Ok(put(x, &[(1, pos)], &x.zeros_like()?)));
                    let whole = of_run(&model, prompts, &hooks);
                    for (row, whole) in whole.iter().enumerate() {
                        let found = result.per_prompt().i((layer, pos, row)).unwrap().to_scalar::<f32>().unwrap();
                        close(found, *whole, &format!("{name}, {at}, layer {layer}, pos {pos}, row {row}"));
                    }
                }
            }
        }
    }
    // What a query sees, changed at one query.
    let model = model("llama");
    let result =
        model.sweep(&prompts[0]).at("pattern").by(["layer", "head", "query"]).zero().measure(metric()).run().unwrap();
    for (layer, head, query) in [(0, 1, 30), (1, 0, 12), (2, 2, 39)] {
        let hooks =
            Hooks::new().edit(pattern(layer), move |x, _| Ok(put(x, &[(1, head), (2, query)], &x.zeros_like()?)));
        let whole = of_run(&model, &prompts[0], &hooks)[0];
        close(result.values().i((layer, head, query)).unwrap().to_scalar().unwrap(), whole, "pattern");
    }
}

/// The metric of one whole run, for each prompt.
fn of_run(model: &HookedTransformer, prompts: &Tokens, hooks: &Hooks) -> Vec<f32> {
    let logits = model.run_with_hooks(prompts, hooks).unwrap();
    let of_row = |row: usize| {
        let logits: Vec<f32> = logits.at(row, -1).unwrap().to_vec1().unwrap();
        logits[17] - logits[45]
    };
    (0..prompts.shape().0).map(of_row).collect()
}
