//! Gradients at hook points against finite differences, in double precision, for every bundled family.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use crate::common::{fixture, fixtures, max_difference, model};
use candlescope::Result;
use candlescope::hooks::Fires;
use candlescope::prelude::*;

const PROMPT: [u32; 5] = [5, 80, 17, 200, 42];

/// Numbers between -1 and 1, other ones for each seed.
fn numbers(seed: usize, like: &Tensor) -> Tensor {
    let values = (0..like.elem_count()).map(|i| ((i * 37 + seed * 101 + 1) as f64 * 0.7).sin());
    let values = Tensor::from_vec(values.collect::<Vec<f64>>(), like.shape(), &Device::Cpu).unwrap();
    values.to_dtype(like.dtype()).unwrap()
}

/// Something of all logits, far from linear.
fn metric() -> Metric {
    Metric::new("mixture of logits", |logits| Ok((logits.tanh()? * numbers(7, logits))?.sum((1, 2))?))
}

fn double(name: &str) -> HookedTransformer {
    let options = LoadOptions::new().dtype(DType::F64);
    HookedTransformer::from_pretrained_with(&fixture(name).to_string_lossy(), &options).unwrap()
}

fn input(model: &HookedTransformer) -> Input {
    match model.has_encoder() {
        true => Input::from((&[59, 160, 155, 37][..], &[0, 250, 163][..])),
        false => Input::from(&PROMPT[..]),
    }
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    // What is infinite (masked scores) has a gradient of zero.
    (a * b).unwrap().sum_all().unwrap().to_scalar().unwrap()
}

/// Compares the gradient at each of these points with a central difference along one direction. Gives how many gradients
/// were not zero.
fn check(name: &str, model: &HookedTransformer, at: Selector) -> usize {
    let (input, metric) = (input(model), metric());
    let run = model.gradients(input.clone(), &metric, at).unwrap();
    let mut told = 0;
    for (i, (point, gradient)) in run.grads().iter().enumerate() {
        let direction = numbers(i, gradient);
        let found = dot(gradient, &direction);
        let moved = |step: f64| -> f64 {
            let step = (&direction * step).unwrap();
            let hooks = Hooks::new().edit(point, move |activation, _| Ok((activation + &step)?));
            let logits = model.run_with_hooks(input.clone(), &hooks).unwrap();
            dot(&logits.tanh().unwrap(), &numbers(7, &logits))
        };
        let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
        let size = dot(gradient, gradient).sqrt() * dot(&direction, &direction).sqrt();
        assert!((found - slope).abs() < 2e-5 * size + 1e-8, "{name}, {point}: {found} and {slope} of {size}");
        told += usize::from(size > 1e-4);
    }
    told
}

/// The points that fire on request and hold something here, those of experts aside: tokens may go to other ones.
fn on_request(model: &HookedTransformer) -> Option<Selector> {
    let requested = |info: &&PointInfo| info.fires == Fires::OnRequest && info.point.layer() < Some(1);
    let wanted = model.hook_points().iter().filter(requested);
    let wanted: Vec<Selector> =
        wanted.filter(|info| !info.point.name().contains("experts.")).map(|info| (&info.point).into()).collect();
    (!wanted.is_empty()).then(|| wanted.into())
}

fn check_family(name: &str) {
    let model = double(name);
    // The gradients of the first layer come through all others; where layers differ in kind, the next one has points of
    // its own.
    let differ = ["cohere2", "deepseek_v3", "gemma2", "gpt_neo", "gpt_oss", "smollm3"].contains(&name);
    let layers = if differ { 2 } else { 1 };
    let always = check(name, &model, matching(move |point| point.layer() < Some(layers)));
    assert!(always >= 9 * layers, "{name}: {always} gradients");
    if let Some(at) = on_request(&model) {
        assert!(check(name, &model, at) >= 2, "{name}");
    }
}

fn part(of: usize) {
    let names: Vec<String> =
        fixtures().iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
    for name in names.iter().skip(of).step_by(4) {
        check_family(name);
    }
}

#[test]
fn gradients_are_slopes_in_every_family_1() {
    part(0);
}

#[test]
fn gradients_are_slopes_in_every_family_2() {
    part(1);
}

#[test]
fn gradients_are_slopes_in_every_family_3() {
    part(2);
}

#[test]
fn gradients_are_slopes_in_every_family_4() {
    part(3);
}

#[test]
fn each_expert_has_its_gradient() {
    for name in ["mixtral", "qwen2_moe", "gpt_oss", "deepseek_v3"] {
        let model = double(name);
        let requested = |info: &&PointInfo| info.fires == Fires::OnRequest && info.point.layer() == Some(1);
        let of_experts = model.hook_points().iter().filter(requested);
        let at: Vec<&HookPoint> =
            of_experts.map(|info| &info.point).filter(|point| point.name().contains("experts.")).collect();
        // Experts that no token goes to are not there.
        assert!(check(name, &model, at.into()) >= 6, "{name}");
    }
}

#[test]
fn a_padded_prompt_has_the_gradient_that_it_has_alone() {
    let short: Vec<u32> = PROMPT[..3].to_vec();
    let tokens = Tokens::padded(vec![PROMPT.to_vec(), short.clone()], 7, PaddingSide::Left).unwrap();
    let metric = Metric::new("mixture", |logits| {
        let last = logits.narrow(1, logits.dim(1)? - 1, 1)?.squeeze(1)?;
        let weights = numbers(3, &last.narrow(0, 0, 1)?);
        Ok(last.tanh()?.broadcast_mul(&weights)?.sum(1)?)
    });
    for name in ["gpt2", "gpt_neox", "llama", "gemma2", "gpt_oss", "bloom", "mixtral", "deepseek_v3"] {
        let model = model(name);
        let both = model.gradients(&tokens, &metric, all()).unwrap();
        for (point, gradient) in both.grads().iter() {
            let sum: f32 = gradient.to_dtype(DType::F32).unwrap().sum_all().unwrap().to_scalar().unwrap();
            assert!(sum.is_finite(), "{name}: {point}");
        }
        let alone = model.gradients(short.clone(), &metric, "resid_pre").unwrap();
        assert!((both.values()[1] - alone.values()[0]).abs() < 1e-4, "{name}");
        for layer in 0..model.cfg().n_layers {
            let gradient = both.grad(resid_pre(layer)).unwrap().narrow(0, 1, 1).unwrap();
            let real = gradient.narrow(1, 2, 3).unwrap();
            // Rounding goes with the size.
            let size = max_difference(&real, &real.zeros_like().unwrap());
            let difference = max_difference(&real, &alone.grad(resid_pre(layer)).unwrap());
            assert!(difference < 1e-5 * (1.0 + size), "{name}, layer {layer}: {difference} of {size}");
            let padding = gradient.narrow(1, 0, 2).unwrap();
            assert!(max_difference(&padding, &padding.zeros_like().unwrap()) == 0.0, "{name}, layer {layer}");
        }
    }
}

#[test]
fn metrics_of_tokens_can_be_differentiated() {
    let model = model("gpt2");
    let rows = vec![PROMPT.to_vec(), vec![9, 8, 7, 6, 5]];
    let other = model.forward(vec![1u32, 2, 3, 4, 5]).unwrap();
    let for_one = [kl_divergence(&other)];
    let for_any =
        [logit_diff(3u32, 4u32), metric::logit(3u32), metric::prob(3u32), log_prob(3u32).at(-2), metric::loss()];
    for (metric, ids) in for_any
        .iter()
        .map(|metric| (metric, rows.clone()))
        .chain(for_one.iter().map(|metric| (metric, rows[..1].to_vec())))
    {
        let tokens = Tokens::from_ids(ids).unwrap();
        let run = model.gradients(&tokens, metric, resid_pre(1)).unwrap();
        let gradient = run.grad(resid_pre(1)).unwrap();
        let size: f32 = gradient.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt();
        // Along the gradient the slope is its length; the mean over the prompts is measured, and their sum differentiated.
        let moved = |step: f64| -> f64 {
            let step = (&gradient * (step / f64::from(size))).unwrap();
            let hooks = Hooks::new().edit(resid_pre(1), move |activation, _| Ok((activation + &step)?));
            let run = model.gradients_with_hooks(&tokens, metric, resid_pre(2), &hooks).unwrap();
            run.values().iter().map(|value| f64::from(*value)).sum()
        };
        let slope = (moved(0.02) - moved(-0.02)) / 0.04;
        assert!((slope - f64::from(size)).abs() < 0.01 * f64::from(size), "{metric:?}: {slope} and {size}");
        assert_eq!(run.values().len(), tokens.shape().0);
    }
}

#[test]
fn hooks_are_active_and_gradients_lie_behind_them() {
    let model = double("llama");
    let scaled = Hooks::new().edit(mlp_out(1), |out, _| Ok((out * 3.0)?));
    let run = model.gradients_with_hooks(&PROMPT[..], &metric(), [mlp_out(1), resid_pre(1)], &scaled).unwrap();
    let plain = model.run_with_cache(&PROMPT[..]).unwrap().1.get(mlp_out(1)).unwrap();
    assert!(max_difference(&run.activation(mlp_out(1)).unwrap(), &(plain * 3.0).unwrap()) < 1e-6);
    for (point, gradient) in run.grads().iter() {
        let direction = numbers(1, gradient);
        let moved = |step: f64| -> f64 {
            let step = (&direction * step).unwrap();
            let hooks = scaled.clone().edit(point, move |activation, _| Ok((activation + &step)?));
            let logits = model.run_with_hooks(&PROMPT[..], &hooks).unwrap();
            dot(&logits.tanh().unwrap(), &numbers(7, &logits))
        };
        let (slope, found) = ((moved(1e-5) - moved(-1e-5)) / 2e-5, dot(gradient, &direction));
        assert!((slope - found).abs() < 1e-6, "{point}: {slope} {found}");
    }
}

#[test]
fn functions_on_gradients_read_and_change_them() {
    let model = double("gpt2");
    let seen: Arc<Mutex<Vec<(HookPoint, Tensor)>>> = Arc::default();
    let log = seen.clone();
    let reading = Hooks::new().read_gradient("resid_pre", move |gradient, point| {
        log.lock().unwrap().push((point.clone(), gradient.clone()));
        Ok(())
    });
    let run = model.gradients_with_hooks(&PROMPT[..], &metric(), "resid_pre", &reading).unwrap();
    let seen = seen.lock().unwrap();
    let layers: Vec<Option<usize>> = seen.iter().map(|(point, _)| point.layer()).collect();
    assert_eq!(layers, [Some(2), Some(1), Some(0)], "the backward pass begins at the end");
    for (point, gradient) in seen.iter() {
        assert_eq!(max_difference(gradient, &run.grad(point).unwrap()), 0.0);
    }

    // With the gradient stopped at the patterns, what is left is the slope with the patterns held as they were.
    let stopped = Hooks::new().edit_gradient("pattern", |gradient, _| Ok(gradient.zeros_like()?));
    let run = model.gradients_with_hooks(&PROMPT[..], &metric(), resid_pre(0), &stopped).unwrap();
    let gradient = run.grad(resid_pre(0)).unwrap();
    let (_, cache) = model.run_with_cache(&PROMPT[..]).unwrap();
    let direction = numbers(2, &gradient);
    let moved = |step: f64| -> f64 {
        let step = (&direction * step).unwrap();
        let mut hooks = Hooks::new().edit(resid_pre(0), move |activation, _| Ok((activation + &step)?));
        for layer in 0..model.cfg().n_layers {
            hooks = hooks.replace(pattern(layer), cache.get(pattern(layer)).unwrap());
        }
        let logits = model.run_with_hooks(&PROMPT[..], &hooks).unwrap();
        dot(&logits.tanh().unwrap(), &numbers(7, &logits))
    };
    let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
    let found = dot(&gradient, &direction);
    assert!((found - slope).abs() < 1e-6 * slope.abs(), "{found} and {slope}");
    let plain = model.gradients(&PROMPT[..], &metric(), resid_pre(0)).unwrap().grad(resid_pre(0)).unwrap();
    assert!((dot(&plain, &direction) - found).abs() > 1e-4, "the patterns have a part in the plain gradient");
}

#[test]
fn what_has_no_gradient_says_so() {
    let sentence = |result: Result<Gradients>| result.unwrap_err().to_string();
    let mixtral = model("mixtral");
    let chosen = "blocks.0.mlp.hook_expert_indices";
    let error = sentence(mixtral.gradients(&PROMPT[..], &metric::logit(3u32), chosen));
    assert!(error.contains(chosen) && error.contains("integers"), "{error}");
    let all_of_it = mixtral.gradients(&PROMPT[..], &metric::logit(3u32), all()).unwrap();
    assert!(!all_of_it.grads().contains(chosen) && all_of_it.grads().contains("blocks.0.mlp.hook_expert_weights"));

    let gpt2 = model("gpt2");
    let error = sentence(gpt2.gradients(&PROMPT[..], &metric::logit(3u32), ["q_input", "ln1.hook_scale"]));
    assert!(error.contains("3 activations"), "{error}");
    let by_hand = Metric::from_fn("by hand", |logits| Ok(logits.at(0, -1)?.get(3)?.to_scalar()?));
    let error = sentence(gpt2.gradients(&PROMPT[..], &by_hand, resid_pre(0)));
    assert!(error.contains("'by hand'") && error.contains("Metric::new"), "{error}");
    assert!(sentence(gpt2.gradients(&PROMPT[..], &metric::logit(3u32), "resid_pr")).contains("resid_pre"));
    let wrong_shape = Hooks::new().edit_gradient(mlp_out(1), |gradient, _| Ok(gradient.sum(1)?));
    let error = sentence(gpt2.gradients_with_hooks(&PROMPT[..], &metric::logit(3u32), resid_pre(0), &wrong_shape));
    assert!(error.contains("blocks.1.hook_mlp_out") && error.contains("shape"), "{error}");
    assert!(sentence(model("mamba").gradients(&PROMPT[..], &metric::logit(3u32), pattern(0))).contains("state-space"));

    let shown = gpt2.gradients(&PROMPT[..], &metric::logit(3u32), "resid_pre").unwrap().bundle();
    assert!(shown.text.contains("logit of #3") && shown.text.contains("blocks.2.hook_resid_pre"), "{}", shown.text);

    // What comes behind the metric's position has a gradient of zero.
    let early = gpt2.gradients(&PROMPT[..], &metric::logit(3u32).at(1), resid_post(2)).unwrap();
    let gradient = early.grad(resid_post(2)).unwrap();
    let nonzero: HashSet<usize> = (0..5)
        .filter(|&pos| {
            gradient.i((0, pos)).unwrap().abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap() > 0.0
        })
        .collect();
    assert_eq!(nonzero, HashSet::from([1]));
}
