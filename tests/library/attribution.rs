//! Attribution patching of nodes and edges against brute force: exact identities, and true patching where the source is
//! close to the base.

use crate::common::{fixture, model};
use candlescope::Result;
use candlescope::analysis::path_patching::{Receiver, Sender};
use candlescope::prelude::*;

const BASE: [u32; 6] = [5, 77, 17, 200, 42, 15];
const SOURCE: [u32; 6] = [5, 301, 17, 9, 42, 150];
const FAMILIES: [&str; 5] = ["gpt2", "llama", "gpt_neox", "gemma2", "mixtral"];

fn double(name: &str) -> HookedTransformer {
    let options = LoadOptions::new().dtype(DType::F64);
    HookedTransformer::from_pretrained_with(&fixture(name).to_string_lossy(), &options).unwrap()
}

fn numbers(seed: usize, like: &Tensor) -> Tensor {
    let values = (0..like.elem_count()).map(|i| ((i * 37 + seed * 101 + 1) as f64 * 0.7).sin());
    let values = Tensor::from_vec(values.collect::<Vec<f64>>(), like.shape(), &Device::Cpu).unwrap();
    values.to_dtype(like.dtype()).unwrap()
}

/// Something of the logits of the last position, a number for each prompt.
fn mixture(logits: &Tensor) -> Tensor {
    let last = logits.narrow(1, logits.dim(1).unwrap() - 1, 1).unwrap();
    let weights = numbers(7, &last.narrow(0, 0, 1).unwrap());
    last.tanh().unwrap().broadcast_mul(&weights).unwrap().sum((1, 2)).unwrap()
}

fn metric() -> Metric {
    Metric::new("mixture", |logits| Ok(mixture(logits)))
}

/// The cache of a run whose embedding differs from that of the base by a small part of its size. (A large one sends tokens
/// to other experts, which is no small change of the metric.)
fn nearby(model: &HookedTransformer, step: f64, extra: &[&str]) -> ActivationCache {
    let hooks = Hooks::new().edit(embed(), move |x, _| {
        let size = x.sqr()?.mean_all()?.to_scalar::<f64>()?.sqrt();
        Ok((x + (numbers(3, x) * (step * size))?)?)
    });
    let keep: Vec<candlescope::hooks::Selector> = extra.iter().map(|name| (*name).into()).chain([all()]).collect();
    model.run_with_hooks_and_cache(&BASE[..], &hooks, keep).unwrap().1
}

fn largest(values: &LabelledTensor) -> f32 {
    values.values().iter().filter(|value| value.is_finite()).fold(0f32, |largest, value| largest.max(value.abs()))
}

#[test]
fn close_to_the_base_attribution_is_patching() {
    let kinds: [(&[&str], &[&str]); 7] = [
        (&["resid_pre"], &["layer", "pos"]),
        (&["attn_out", "mlp_out"], &["layer", "pos"]),
        (&["z", "q", "k", "v", "pattern"], &["layer", "head"]),
        (&["z"], &["layer", "pos", "head"]),
        (&["pattern"], &["layer", "head", "pos"]),
        (&["pattern"], &["layer", "head", "dest", "src"]),
        (&["resid_post"], &["pos", "layer"]),
    ];
    for name in FAMILIES.into_iter().chain(["deepseek_v3", "gpt_oss"]) {
        let model = double(name);
        let source = nearby(&model, 3e-4, &[]);
        let predicted = model.attribution_patch(&BASE[..], &source, &metric()).unwrap();
        for (at, by) in kinds {
            // Many runs, and nothing new in a model of the same attention.
            if by.contains(&"src") && !["gpt2", "gemma2"].contains(&name) {
                continue;
            }
            let sweep = at.iter().fold(model.sweep(&BASE[..]), |sweep, at| sweep.at(*at));
            let truth = sweep.by(by.to_vec()).patch_from(&source).measure(metric()).run().unwrap();
            assert!((truth.base() - predicted.base()).abs() < 1e-5);
            let truth = truth.change().unwrap();
            let found = predicted.by(at.to_vec(), by).unwrap();
            assert_eq!(found.axes(), truth.axes(), "{name} {at:?}");
            let compared = agreement(&found, &truth).unwrap();
            let size = f64::from(largest(&truth));
            assert!(size > 1e-5, "{name} {at:?}: {size}");
            assert!(compared.max_error < 0.03 * size + 2e-6, "{name} {at:?} {by:?}: {compared:?}");
        }
    }
}

#[test]
fn neurons_and_the_points_of_experts_are_attributed_too() {
    for (name, at, axis) in
        [("gpt2", "post", "neuron"), ("llama", "post", "neuron"), ("mixtral", "experts.hook_post", "pos")]
    {
        let model = double(name);
        let source = nearby(&model, 1e-4, &[]);
        let predicted = model.attribution_patch(&BASE[..], &source, &metric()).unwrap();
        let found = predicted.by(at, ["layer", axis]).unwrap();
        // By hand: each neuron (or position) of the middle layer by itself.
        let point = HookPoint::new(found_point(&model, at, 1));
        let (dim, from) = (if axis == "pos" { 0 } else { 2 }, source.get(&point).unwrap());
        let base = mixture(&model.forward(&BASE[..]).unwrap());
        for place in 0..from.dim(dim).unwrap().min(6) {
            let from = from.clone();
            let hooks = Hooks::new().edit(&point, move |x, _| {
                let inside: Vec<f64> = (0..x.dim(dim)?).map(|i| f64::from(u8::from(i == place))).collect();
                let mut shape = vec![1; x.rank()];
                shape[dim] = inside.len();
                let inside = Tensor::from_vec(inside, shape, x.device())?;
                Ok((x + (&from - x)?.broadcast_mul(&inside)?)?)
            });
            let patched = mixture(&model.run_with_hooks(&BASE[..], &hooks).unwrap());
            let truth: Vec<f64> = (patched - &base).unwrap().to_vec1().unwrap();
            let predicted = found.at("layer", 1).unwrap().values()[place];
            assert!(
                (truth[0] - f64::from(predicted)).abs() < 0.01 * truth[0].abs() + 1e-8,
                "{name} {place}: {truth:?} {predicted}"
            );
        }
    }
}

fn found_point(model: &HookedTransformer, name: &str, layer: usize) -> String {
    let is = |info: &&PointInfo| info.point.is(name) && info.point.layer() == Some(layer);
    model.hook_points().iter().find(is).unwrap().point.name().to_string()
}

#[test]
fn a_batch_is_the_mean_of_its_prompts() {
    let model = model("llama");
    let (other_base, other_source) = ([7u32, 80, 17, 20, 42, 12], [7u32, 30, 17, 200, 42, 151]);
    let each = |base: &[u32], source: &[u32]| {
        let (_, source) = model.run_with_cache(source).unwrap();
        model.attribution_patch(base, &source, &metric()).unwrap().by("z", ["layer", "head"]).unwrap().values()
    };
    let (first, second) = (each(&BASE, &SOURCE), each(&other_base, &other_source));
    let (_, source) = model.run_with_cache(vec![SOURCE.to_vec(), other_source.to_vec()].into_tokens()).unwrap();
    let both =
        model.attribution_patch(vec![BASE.to_vec(), other_base.to_vec()].into_tokens(), &source, &metric()).unwrap();
    let mean = both.by("z", ["layer", "head"]).unwrap().values();
    let prompts = both.by("z", ["prompt", "layer", "head"]).unwrap();
    for i in 0..mean.len() {
        assert!((mean[i] - (first[i] + second[i]) / 2.0).abs() < 1e-4);
        let of_second = prompts.at("prompt", 1).unwrap().values()[i];
        assert!((of_second - second[i]).abs() < 1e-4, "{of_second} {second:?}");
    }
    // One source for all prompts.
    let (_, one) = model.run_with_cache(&SOURCE[..]).unwrap();
    let for_all =
        model.attribution_patch(vec![BASE.to_vec(), other_base.to_vec()].into_tokens(), &one, &metric()).unwrap();
    let for_all = for_all.by("z", ["prompt", "layer", "head"]).unwrap().at("prompt", 0).unwrap().values();
    assert!(for_all.iter().zip(first).all(|(a, b)| (a - b).abs() < 1e-4));
}

trait IntoTokens {
    fn into_tokens(self) -> Tokens;
}

impl IntoTokens for Vec<Vec<u32>> {
    fn into_tokens(self) -> Tokens {
        Tokens::from_ids(self).unwrap()
    }
}

#[test]
fn integrated_gradients_add_up_to_the_whole_change() {
    for name in ["gpt2", "gemma2"] {
        let model = double(name);
        let (_, source) = model.run_with_cache(&SOURCE[..]).unwrap();
        let value =
            |hooks: &Hooks| mixture(&model.run_with_hooks(&BASE[..], hooks).unwrap()).to_vec1::<f64>().unwrap()[0];
        let base = value(&Hooks::new());
        for point in [resid_pre(1), attn_out(1), pattern(0), attn_scores(1)] {
            let truth = value(&Hooks::new().replace(&point, source.get(&point).unwrap())) - base;
            let predicted = model.integrated_gradients(&BASE[..], &source, &metric(), &point, 60).unwrap();
            let sum: f64 = f64::from(predicted.by(&point, Vec::<&str>::new()).unwrap().values()[0]);
            assert!((sum - truth).abs() < 2e-3 * truth.abs() + 2e-3, "{name} {point}: {sum} and {truth}");
            assert!((f64::from(predicted.base()) - base).abs() < 1e-4);
            // The plain gradient does not, or there would be nothing to integrate.
            if point.is("resid_pre") {
                let plain = model.attribution_patch(&BASE[..], &source, &metric()).unwrap();
                let plain: f64 = f64::from(plain.by(&point, Vec::<&str>::new()).unwrap().values()[0]);
                assert!((plain - truth).abs() > 10.0 * (sum - truth).abs(), "{name}: {plain} and {truth}");
            }
        }
    }
}

/// What a receiver reads, before its norm: the point of the stream, and the point of its own input.
fn input_of(model: &HookedTransformer, receiver: Receiver) -> (HookPoint, HookPoint, Option<usize>) {
    match receiver {
        Receiver::Q(layer, head) => (resid_pre(layer), q_input(layer), Some(head)),
        Receiver::K(layer, head) => (resid_pre(layer), k_input(layer), Some(head)),
        Receiver::V(layer, head) => (resid_pre(layer), v_input(layer), Some(head)),
        Receiver::Mlp(layer) if model.cfg().parallel_attn_mlp => (resid_pre(layer), mlp_in(layer), None),
        Receiver::Mlp(layer) => (resid_mid(layer), mlp_in(layer), None),
        Receiver::Logits => {
            let last = resid_post(model.cfg().n_layers - 1);
            (last.clone(), last, None)
        }
    }
}

#[test]
fn the_edges_into_a_receiver_add_up_to_the_change_of_its_input() {
    for name in FAMILIES.into_iter().chain(["granitemoe", "cohere2", "opt", "qwen2", "bloom"]) {
        let model = double(name);
        let (_, source) = model.run_with_cache(&SOURCE[..]).unwrap();
        let (_, base) = model.run_with_cache(&BASE[..]).unwrap();
        let edges = model.edge_attribution(&BASE[..], &source, &metric()).unwrap();
        let cfg = model.cfg();
        let heads = cfg.n_heads + 2 * cfg.n_key_value_heads;
        assert_eq!(edges.matrix().dims(), [1 + cfg.n_layers * (cfg.n_heads + 1), cfg.n_layers * (heads + 1) + 1]);
        let inputs: Vec<HookPoint> = edges.receivers().iter().map(|&r| input_of(&model, r).1).collect();
        let run = model.gradients(&BASE[..], &metric(), inputs).unwrap();
        for (i, &receiver) in edges.receivers().iter().enumerate() {
            let (stream, input, head) = input_of(&model, receiver);
            let mut gradient = run.grad(&input).unwrap();
            if let Some(head) = head {
                gradient = gradient.narrow(2, head, 1).unwrap().squeeze(2).unwrap();
            }
            let change = (source.get(&stream).unwrap() - base.get(&stream).unwrap()).unwrap();
            let whole: f64 = (change * &gradient).unwrap().sum_all().unwrap().to_scalar().unwrap();
            let column = edges.matrix().at("receiver", i as i64).unwrap().values();
            let sum: f64 = column.iter().map(|score| f64::from(*score)).sum();
            let size: f64 = column.iter().map(|score| f64::from(score.abs())).sum();
            assert!((sum - whole).abs() < 1e-4 * size + 1e-7, "{name}, {receiver}: {sum} and {whole}");
            assert!(size > 1e-5, "{name}, {receiver}: {size}");
        }
    }
}

/// What a sender writes, from `hook_result` and by hand through the norm behind the attention.
fn writes(model: &HookedTransformer, cache: &ActivationCache, sender: Sender) -> Tensor {
    match sender {
        Sender::Embed => cache.get(resid_pre(0)).unwrap(),
        Sender::PosEmbed | Sender::Attn(_) => panic!("no sender of edges"),
        Sender::Mlp(layer) => cache.get(mlp_out(layer)).unwrap(),
        Sender::Head(layer, head) => {
            let written = cache.get(result(layer)).unwrap().narrow(2, head, 1).unwrap().squeeze(2).unwrap();
            let Some(norm) = model.weights().blocks[layer].ln1_post.clone() else { return written };
            let scale = cache.get(("hook_scale", layer, "ln1_post")).unwrap();
            written.broadcast_div(&scale).unwrap().broadcast_mul(&norm.w.unwrap()).unwrap()
        }
    }
}

#[test]
fn close_to_the_base_an_edge_is_path_patching() {
    for name in FAMILIES {
        let model = double(name);
        let source = nearby(&model, 1e-4, &["result"]);
        let base = nearby(&model, 0.0, &["result"]);
        let value =
            |hooks: &Hooks| mixture(&model.run_with_hooks(&BASE[..], hooks).unwrap()).to_vec1::<f64>().unwrap()[0];
        // Inputs of their own round otherwise than a shared one.
        let split: Vec<HookPoint> = (0..model.cfg().n_layers).map(q_input).collect();
        let unchanged = Hooks::new().edit(split, |x, _| Ok(x.clone()));
        let plain = value(&unchanged);
        let edges = model.edge_attribution(&BASE[..], &source, &metric()).unwrap();
        let all = edges.all_edges();
        let strongest = f64::from(edges.top_k(1)[0].score.abs());
        assert!(strongest > 1e-6, "{name}");
        for edge in all.iter().step_by(8) {
            let change = (writes(&model, &source, edge.from) - writes(&model, &base, edge.from)).unwrap();
            let (_, input, head) = input_of(&model, edge.to);
            let hooks = unchanged.clone().edit(input, move |x, _| {
                let Some(head) = head else { return Ok((x + &change)?) };
                let inside: Vec<f64> = (0..x.dim(2)?).map(|i| f64::from(u8::from(i == head))).collect();
                let inside = Tensor::from_vec(inside, (1, 1, x.dim(2)?, 1), x.device())?;
                Ok(x.broadcast_add(&change.unsqueeze(2)?.broadcast_mul(&inside)?)?)
            });
            let truth = value(&hooks) - plain;
            let error = (truth - f64::from(edge.score)).abs();
            assert!(error < 0.01 * truth.abs() + 1e-3 * strongest, "{name}: {edge:?}, truly {truth}");
        }
        let parallel = model.cfg().parallel_attn_mlp;
        assert_eq!(edges.edge("L1H0", "MLP 1").is_err(), parallel, "{name}");
        assert!(edges.edge("L1H0", "L1H1 Q").is_err() && edges.edge("2_mlp_out", "logits").is_ok());
    }
}

#[test]
fn integrated_edges_have_the_mean_gradient_of_the_steps() {
    let model = double("llama");
    let (_, source) = model.run_with_cache(&SOURCE[..]).unwrap();
    let (_, base) = model.run_with_cache(&BASE[..]).unwrap();
    let edges = model.edge_attribution_ig(&BASE[..], &source, &metric(), 3).unwrap();
    let change = (source.get(mlp_out(0)).unwrap() - base.get(mlp_out(0)).unwrap()).unwrap();
    let mut expected = 0.0;
    for share in [1.0 / 6.0, 0.5, 5.0 / 6.0] {
        let (from, to) = (base.get(embed()).unwrap(), source.get(embed()).unwrap());
        let hooks = Hooks::new().replace(embed(), ((from * (1.0 - share)).unwrap() + (to * share).unwrap()).unwrap());
        let run = model.gradients_with_hooks(&BASE[..], &metric(), mlp_in(2), &hooks).unwrap();
        expected +=
            (run.grad(mlp_in(2)).unwrap() * &change).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap() / 3.0;
    }
    let found = f64::from(edges.edge("0_mlp_out", "MLP 2").unwrap().score);
    assert!((found - expected).abs() < 1e-5 * expected.abs(), "{found} and {expected}");
}

#[test]
fn on_a_trained_model_it_finds_what_patching_finds() {
    let model = HookedTransformer::from_pretrained("tiny").unwrap();
    let clean = "After John and Mary went to the store, Mary gave a bottle of milk to";
    let corrupted = "After John and Mary went to the store, John gave a bottle of milk to";
    let (_, source) = model.run_with_cache(clean).unwrap();
    let metric = logit_diff(" John", " Mary");
    let predicted = model.attribution_patch(corrupted, &source, &metric).unwrap();
    let truth = patching::head_all_pos_every(&model, corrupted, &source, &metric).unwrap().change().unwrap();
    let found = agreement(&predicted.by(["z", "q", "k", "v", "pattern"], ["layer", "head"]).unwrap(), &truth).unwrap();
    assert!(found.pearson > 0.8 && found.top_overlap(5) >= 0.6, "{found:?}");
    let bundle = found.bundle();
    assert!(bundle.text.contains("Pearson") && bundle.png.is_some());
    let edges = model.edge_attribution(corrupted, &source, &metric).unwrap();
    let circuit = edges.top_circuit(30);
    assert!(circuit.edges().len() > 3 && circuit.edges().len() + circuit.dropped() == 30);
    assert!(circuit.edges().iter().any(|edge| edge.to == Receiver::Logits));
    for bundle in [edges.bundle(), circuit.bundle()] {
        assert!(bundle.text.contains("logits") && bundle.png.is_some() && bundle.html.is_some());
    }
    assert!(edges.bundle().text.contains("20 strongest of"));
}

#[test]
fn weights_of_16_bits_give_nearly_the_same() {
    let path = fixture("llama").to_string_lossy().into_owned();
    let short = HookedTransformer::from_pretrained_with(&path, &LoadOptions::new().dtype(DType::BF16)).unwrap();
    let scores = |model: &HookedTransformer| {
        let (_, source) = model.run_with_cache(&SOURCE[..]).unwrap();
        let nodes = model.attribution_patch(&BASE[..], &source, &metric()).unwrap();
        let integrated = model.integrated_gradients(&BASE[..], &source, &metric(), "attn_out", 4).unwrap();
        let edges = model.edge_attribution_ig(&BASE[..], &source, &metric(), 2).unwrap();
        let by_pos = integrated.by("attn_out", ["layer", "pos"]).unwrap();
        [nodes.by("z", ["layer", "head"]).unwrap(), by_pos, edges.matrix().clone()]
    };
    for (wide, short) in scores(&model("llama")).iter().zip(scores(&short)) {
        let compared = agreement(&short, wide).unwrap();
        assert!(compared.pearson > 0.98, "{compared:?}");
    }
}

#[test]
fn both_stacks_of_an_encoder_decoder_are_attributed() {
    let t5 = double("t5");
    let (read, other, said) = ([59u32, 160, 155, 37], [59u32, 160, 20, 37], [0u32, 250, 163]);
    let (_, source) = t5.run_with_cache((&other[..], &said[..])).unwrap();
    let predicted = t5
        .integrated_gradients((&read[..], &said[..]), &source, &metric(), "encoder_ln_final.hook_normalized", 30)
        .unwrap();
    // All that the texts differ in goes through the encoder's stream.
    let whole =
        mixture(&t5.forward((&other[..], &said[..])).unwrap()) - mixture(&t5.forward((&read[..], &said[..])).unwrap());
    let whole: f64 = whole.unwrap().to_vec1::<f64>().unwrap()[0];
    let sum = predicted.by("encoder_ln_final.hook_normalized", Vec::<&str>::new()).unwrap().values()[0];
    // On the way the metric falls by three times as much and rises again, with the kinks of T5's ReLU.
    assert!((f64::from(sum) - whole).abs() < 0.05 * whole.abs(), "{sum} and {whole}");
    let predicted = t5.attribution_patch((&read[..], &said[..]), &source, &metric()).unwrap();
    let plain = predicted.by("encoder_ln_final.hook_normalized", Vec::<&str>::new()).unwrap().values()[0];
    assert!((f64::from(plain) - whole).abs() > whole.abs(), "{plain} and {whole}");
    assert_eq!(predicted.by("resid_pre", ["layer", "pos"]).unwrap().dims(), [2, 3, 4]);
    let of_decoder = matching(|point| point.is("resid_pre") && point.name().starts_with("decoder"));
    assert_eq!(predicted.by(of_decoder, ["layer", "pos"]).unwrap().dims(), [2, 3]);
}

#[test]
fn what_does_not_fit_says_so() {
    fn sentence<T>(result: Result<T>) -> String {
        result.err().expect("an error was expected").to_string()
    }
    let gpt2 = model("gpt2");
    let (_, source) = gpt2.run_with_cache(&SOURCE[..]).unwrap();
    let (_, short) = gpt2.run_with_cache(&SOURCE[..4]).unwrap();
    let error = sentence(gpt2.attribution_patch(&BASE[..], &short, &metric()));
    assert!(error.contains("equal length"), "{error}");
    assert!(sentence(gpt2.edge_attribution(&BASE[..], &short, &metric())).contains("equal length"));
    let llama = model("llama");
    assert!(sentence(llama.attribution_patch(&BASE[..], &source, &metric())).contains("another model"));
    assert!(sentence(llama.edge_attribution(&BASE[..], &source, &metric())).contains("another model"));
    assert!(sentence(gpt2.integrated_gradients(&BASE[..], &source, &metric(), "z", 0)).contains("step"));
    let by_hand = Metric::from_fn("by hand", |logits| Ok(logits.at(0, -1)?.get(3)?.to_scalar()?));
    assert!(sentence(gpt2.attribution_patch(&BASE[..], &source, &by_hand)).contains("by hand"));

    let attribution = gpt2.attribution_patch(&BASE[..], &source, &metric()).unwrap();
    assert!(sentence(attribution.by("z", ["layer", "hed"])).contains("did you mean 'head'"));
    assert!(sentence(attribution.by("z", ["pos", "layer", "pos"])).contains("twice"));
    assert!(sentence(attribution.by("pattern", ["pos", "dest"])).contains("same"));
    assert!(sentence(attribution.by("embed", ["layer"])).contains("outside"));
    assert!(sentence(attribution.by("z", ["head"])).contains("\"layer\""));
    assert!(sentence(attribution.by("result", ["layer"])).contains("cache it"));
    assert!(sentence(attribution.by("z", ["batch"])).contains("batch"));
    let by_layer = attribution.by("z", ["layer"]).unwrap();
    let by_head = attribution.by(z(1), ["head"]).unwrap();
    assert!(sentence(agreement(&by_layer, &by_head)).contains("same axes"));

    let edges = gpt2.edge_attribution(&BASE[..], &source, &metric()).unwrap();
    assert!(sentence(edges.edge("L0H9", "logits")).contains("L0H9"));
    assert!(sentence(edges.edge("L0H0", "L1H0Q")).contains("did you mean 'L1H0 Q'"));
    assert!(sentence(edges.edge("2_mlp_out", "L1H0 Q")).contains("before"));
    for name in ["mamba", "bert", "deepseek_v3"] {
        let model = model(name);
        let (_, source) = model.run_with_cache(&SOURCE[..]).unwrap();
        let error = sentence(model.edge_attribution(&BASE[..], &source, &metric()));
        assert!(error.contains("edges go from what heads and MLPs write"), "{name}: {error}");
    }
    // Nodes are there where edges are not.
    let mamba = model("mamba");
    let (_, source) = mamba.run_with_cache(&SOURCE[..]).unwrap();
    let attribution = mamba.attribution_patch(&BASE[..], &source, &metric()).unwrap();
    assert_eq!(attribution.by("resid_pre", ["layer", "pos"]).unwrap().dims(), [3, 6]);
}
