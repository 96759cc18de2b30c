//! Steering vectors: made, applied, tried and kept, against formulas written out by hand.

use crate::common::{max_difference, model};
use candlescope::analysis::probe::{Probe, ProbeOptions};
use candlescope::prelude::*;

const PROMPT: [u32; 7] = [5, 80, 17, 200, 3, 44, 42];

fn tokens() -> Tokens {
    Tokens::from(&PROMPT[..])
}

fn tiny() -> HookedTransformer {
    HookedTransformer::from_pretrained("tiny").unwrap()
}

/// Some vector, different for each seed.
fn some_vector(width: usize, seed: usize) -> Tensor {
    let values: Vec<f32> = (0..width).map(|i| (((i * 37 + seed * 101 + 11) % 97) as f32 / 48.0 - 1.0) * 0.3).collect();
    Tensor::new(values, &Device::Cpu).unwrap()
}

fn length(x: &Tensor) -> f64 {
    f64::from(x.sqr().unwrap().sum_all().unwrap().sqrt().unwrap().to_scalar::<f32>().unwrap())
}

fn sentence<T>(result: candlescope::Result<T>) -> String {
    match result {
        Ok(_) => panic!("an error was expected"),
        Err(error) => error.to_string(),
    }
}

/// Whose logits a push and a hook that is written out by hand give.
fn same_logits(model: &HookedTransformer, push: &Hooks, by_hand: &Hooks, what: &str) {
    let (a, b) = (model.run_with_hooks(tokens(), push).unwrap(), model.run_with_hooks(tokens(), by_hand).unwrap());
    let plain = model.forward(tokens()).unwrap();
    assert!(max_difference(&a, &b) < 2e-5, "{what}: {}", max_difference(&a, &b));
    assert!(max_difference(&a, &plain) > 1e-3, "{what} does something");
}

#[test]
fn pushes_are_what_is_written_out_by_hand() {
    for name in ["gpt2", "gemma2", "mixtral", "mamba", "bert"] {
        let model = model(name);
        let width = model.cfg().d_model;
        let (v, point) = (some_vector(width, 1), resid_pre(1));
        let steer = SteeringVector::new(&point, &v, "a test").unwrap();
        let unit = (&v / length(&v)).unwrap();

        let added = v.clone();
        let by_hand = Hooks::new().edit(&point, move |x, _| Ok(x.broadcast_add(&(&added * 2.5)?)?));
        same_logits(&model, &steer.add(2.5).hooks(), &by_hand, &format!("{name}, add"));

        let along = unit.clone();
        let by_hand = Hooks::new().edit(&point, move |x, _| {
            let lengths = x.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
            Ok((x + lengths.broadcast_mul(&(&along * 0.7)?)?)?)
        });
        same_logits(&model, &steer.add_relative(0.7).hooks(), &by_hand, &format!("{name}, relative"));

        let along = unit.clone();
        let by_hand = Hooks::new().edit(&point, move |x, _| {
            let part = x.broadcast_mul(&along)?.sum_keepdim(D::Minus1)?;
            Ok(x.broadcast_sub(&part.broadcast_mul(&along)?)?)
        });
        same_logits(&model, &steer.ablate().hooks(), &by_hand, &format!("{name}, ablate"));
    }
}

#[test]
fn a_clamp_fixes_one_component_and_leaves_the_others() {
    let model = model("gpt2");
    let (v, point) = (some_vector(model.cfg().d_model, 2), resid_post(0));
    let steer = SteeringVector::new(&point, &v, "a test").unwrap();
    let run = |hooks: &Hooks| {
        let options = RunOptions::new().hooks(hooks).cache(&point);
        model.run(tokens(), &options).unwrap().cache[0].1.squeeze(0).unwrap()
    };
    let (before, after) = (run(&Hooks::new()), run(&steer.clamp(3.0).positions(2..).hooks()));
    let unit = (&v / length(&v)).unwrap();
    let part = |x: &Tensor| x.broadcast_mul(&unit).unwrap().sum(D::Minus1).unwrap().to_vec1::<f32>().unwrap();
    let (was, is) = (part(&before), part(&after));
    for pos in 0..PROMPT.len() {
        let wanted = if pos < 2 { was[pos] } else { 3.0 * length(&v) as f32 };
        assert!((is[pos] - wanted).abs() < 1e-4, "position {pos}: {} and not {wanted}", is[pos]);
    }
    let rest = |x: &Tensor| {
        let along = x.broadcast_mul(&unit).unwrap().sum_keepdim(D::Minus1).unwrap().broadcast_mul(&unit).unwrap();
        (x - along).unwrap()
    };
    assert!(max_difference(&rest(&before), &rest(&after)) < 1e-4);
}

#[test]
fn all_heads_at_once_are_one_vector() {
    let model = model("gpt2");
    let cfg = model.cfg();
    let v = some_vector(cfg.n_heads * cfg.d_head, 3);
    let steer = SteeringVector::new(&z(1), &v, "a test").unwrap();
    let shaped = v.reshape((cfg.n_heads, cfg.d_head)).unwrap();
    let by_hand = Hooks::new().edit(z(1), move |x, _| Ok(x.broadcast_add(&shaped)?));
    same_logits(&model, &steer.add(1.0).hooks(), &by_hand, "z");
}

#[test]
fn contrasts_are_differences_of_activations() {
    let model = tiny();
    let (happy, angry) = ("Anna was happy because", "Anna was angry because");
    let contrast = model.contrast(happy, angry).position(-2).difference().unwrap();
    assert_eq!(contrast.points().count(), model.cfg().n_layers);
    let at = |text: &str, layer| {
        let (_, cache) = model.run_with_cache(text).unwrap();
        let stream = cache.get(resid_post(layer)).unwrap().squeeze(0).unwrap();
        stream.get(stream.dim(0).unwrap() - 2).unwrap()
    };
    for layer in 0..model.cfg().n_layers {
        let wanted = (at(happy, layer) - at(angry, layer)).unwrap();
        assert!(max_difference(&contrast.vector(&resid_post(layer)).unwrap(), &wanted) < 1e-5);
    }
    // Several: the difference of the means, whatever the number on each side.
    let two = model.contrast([happy, "Tom was happy because"], angry).position(-2).difference().unwrap();
    let mean = ((at(happy, 0) + at("Tom was happy because", 0)).unwrap() / 2.0).unwrap();
    assert!(max_difference(&two.vector(&resid_post(0)).unwrap(), &(mean - at(angry, 0)).unwrap()) < 1e-5);
    assert_eq!(two.origin().method, "difference of means");
    assert_eq!(two.origin().negative, [angry]);
}

#[test]
fn principal_components_and_probes_point_the_same_way_as_the_texts() {
    let model = tiny();
    let names = ["Anna", "Tom", "Kate", "John", "Mary", "Paul", "Lucy", "Jack", "Emma", "Peter"];
    let texts = |feeling: &str| names.map(|name| format!("{name} was {feeling} because"));
    let (happy, angry) = (texts("happy"), texts("angry"));
    let contrast = model.contrast(happy.clone(), angry.clone()).at(resid_post(1)).position(-2);
    let (means, main) = (contrast.difference().unwrap(), contrast.principal().unwrap());
    let probe = contrast.probe(&ProbeOptions::new().test_fraction(0.3)).unwrap();

    // No direction holds more of the pairs' differences than the first principal component.
    let rows = |texts: &[String]| {
        let of = |text: &String| {
            let (_, cache) = model.run_with_cache(text).unwrap();
            let stream = cache.get(resid_post(1)).unwrap().squeeze(0).unwrap();
            stream.get(stream.dim(0).unwrap() - 2).unwrap()
        };
        Tensor::stack(&texts.iter().map(of).collect::<Vec<_>>(), 0).unwrap()
    };
    let (ours, theirs) = (rows(&happy), rows(&angry));
    let pairs = (&ours - &theirs).unwrap();
    let held = |direction: &Tensor| {
        let unit = (direction / length(direction)).unwrap().unsqueeze(1).unwrap();
        length(&pairs.matmul(&unit).unwrap())
    };
    let main_direction = main.vector(&resid_post(1)).unwrap();
    let others = (0..20).map(|seed| means.random_like(seed).unwrap().vector(&resid_post(1)).unwrap());
    for other in others.chain([means.vector(&resid_post(1)).unwrap(), probe.vector(&resid_post(1)).unwrap()]) {
        assert!(held(&main_direction) >= held(&other) - 1e-4);
    }

    // All are turned towards the texts, and as long as the means are apart along them.
    for vector in [&means, &main, &probe] {
        let v = vector.vector(&resid_post(1)).unwrap();
        let unit = (&v / length(&v)).unwrap();
        let mean_along = |rows: &Tensor| {
            rows.broadcast_mul(&unit).unwrap().sum(1).unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap()
        };
        let apart = f64::from(mean_along(&ours) - mean_along(&theirs));
        assert!((apart - length(&v)).abs() < 1e-3 * length(&v), "{}: {apart}", vector.origin().method);
    }
    assert!(sentence(model.contrast(happy[..1].to_vec(), angry.to_vec()).principal()).contains("1 texts and 10"));

    // From a probe that was trained elsewhere.
    let labels: Vec<bool> = [vec![false; 10], vec![true; 10]].concat();
    let fitted = Probe::fit(&Tensor::cat(&[&theirs, &ours], 0).unwrap(), &labels, &ProbeOptions::new()).unwrap();
    let vector = SteeringVector::from_probe(&resid_post(1), &fitted).unwrap();
    assert!(vector.cosine(&probe).unwrap().values()[0] > 0.8);
    assert!(sentence(SteeringVector::from_probe_class(&resid_post(1), &fitted, "blue")).contains("no class 'blue'"));
}

#[test]
fn an_unembedding_is_a_column_of_w_u() {
    let model = tiny();
    let w_u = model.w_u();
    let column = |token: &str| w_u.i((.., model.to_single_token(token).unwrap() as usize)).unwrap();
    let one = SteeringVector::towards_token(&model, " John", "resid_pre").unwrap();
    assert_eq!(max_difference(&one.vector(&resid_pre(1)).unwrap(), &column(" John")), 0.0);
    let two = SteeringVector::between_tokens(&model, " John", " Mary", resid_post(1)).unwrap();
    let wanted = (column(" John") - column(" Mary")).unwrap();
    assert_eq!(max_difference(&two.vector(&resid_post(1)).unwrap(), &wanted), 0.0);
    assert_eq!((two.origin().positive.join(""), two.origin().negative.join("")), (" John".into(), " Mary".into()));
    // A stronger push raises the logit more.
    let prompt = "Anna gave the book to";
    let leads = |strength| {
        model.measure_with_hooks(prompt, &logit_diff(" John", " Mary"), &two.add_relative(strength).hooks()).unwrap()
    };
    assert!(leads(-0.5) < leads(0.0) && leads(0.0) < leads(0.5));
    assert!(sentence(SteeringVector::towards_token(&model, " John", "z")).contains("resid_post"));
    assert!(sentence(SteeringVector::towards_token(&model, "no such token", "resid_pre")).contains("token"));
}

#[test]
fn a_file_keeps_every_number_and_what_it_was_made_from() {
    let model = tiny();
    let vector = model
        .contrast(["Anna was happy.", "Tom was happy."], ["Anna was angry.", "Tom was angry."])
        .difference()
        .unwrap()
        .note("licence", "CC0 \"quoted\" \u{202e}bidi");
    let folder = std::env::temp_dir().join(format!("candlescope-steering-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("v.safetensors");
    vector.save(&path).unwrap();
    let same = SteeringVector::load(&path).unwrap();
    assert_eq!(same.origin(), vector.origin());
    let names = |vector: &SteeringVector| vector.points().map(|point| point.name().to_string()).collect::<Vec<_>>();
    assert_eq!(names(&same), names(&vector));
    for point in vector.points() {
        assert_eq!(max_difference(&same.vector(point).unwrap(), &vector.vector(point).unwrap()), 0.0);
    }

    // What another program wrote: no header, and names in any order.
    let foreign = folder.join("foreign.safetensors");
    let tensors = [10usize, 2, 0].map(|layer| (format!("blocks.{layer}.hook_resid_post"), some_vector(8, layer)));
    candle_core::safetensors::save(&tensors.into(), &foreign).unwrap();
    let read = SteeringVector::load(&foreign).unwrap();
    assert_eq!(read.points().map(|point| point.layer().unwrap()).collect::<Vec<_>>(), [0, 2, 10]);

    let bytes = std::fs::read(&path).unwrap();
    for cut in [0, 5, 40, bytes.len() - 3] {
        let cut_path = folder.join("cut.safetensors");
        std::fs::write(&cut_path, &bytes[..cut]).unwrap();
        assert!(sentence(SteeringVector::load(&cut_path)).contains("cut.safetensors"), "cut at {cut}");
    }
    let bad = |tensor: Tensor| {
        let path = folder.join("bad.safetensors");
        candle_core::safetensors::save(&[("blocks.0.hook_resid_post", tensor)].into(), &path).unwrap();
        sentence(SteeringVector::load(&path))
    };
    assert!(bad(Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap()).contains("[width]"));
    assert!(bad(Tensor::new(&[1f32, f32::NAN], &Device::Cpu).unwrap()).contains("NaN"));
    assert!(bad(Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap()).contains("no direction"));
    assert!(sentence(SteeringVector::load(folder.join("missing"))).contains("missing"));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_sweep_gives_what_single_runs_give() {
    let model = tiny();
    let vector = model.contrast("Anna was angry because", "Anna was happy because").position(-2).difference().unwrap();
    let prompts = ["Anna was happy because the sun was shining. How was Anna? She was", "Tom was very"];
    let metric = logit_diff(" happy", " angry");
    let price = "Tom went to the store with Kate. They had a good day.";
    let strengths = [-1.0, 0.0, 0.7, 3.0];
    for relative in [false, true] {
        let steer = model.steer(prompts, &vector).strengths(strengths).measure(&metric).price(price).positions(1..);
        let steer = if relative { steer.relative() } else { steer };
        let found = steer.run().unwrap();
        assert_eq!(found.dims(), [model.cfg().n_layers, 4]);
        for layer in 0..model.cfg().n_layers {
            for (i, strength) in strengths.into_iter().enumerate() {
                let only = vector.only_layers([layer]).unwrap();
                let push = if relative { only.add_relative(strength) } else { only.add(strength) };
                let hooks = push.positions(1..).hooks();
                let wanted = model.measure_with_hooks(prompts, &metric, &hooks).unwrap();
                let at = |values: &LabelledTensor| values.i((layer, i)).unwrap().to_scalar::<f32>().unwrap();
                assert!((at(found.values()) - wanted).abs() < 1e-4, "layer {layer}, {strength}");
                let wanted = model.measure_with_hooks(price, &metric::loss(), &hooks).unwrap();
                assert!((at(found.price().unwrap()) - wanted).abs() < 1e-4);
            }
        }
        assert!((found.base() - model.measure(prompts, &metric).unwrap()).abs() < 1e-5);
    }
    let together = model.steer(prompts, &vector).strengths([0.5]).together().measure(&metric).run().unwrap();
    let wanted = model.measure_with_hooks(prompts, &metric, &vector.add(0.5).hooks()).unwrap();
    assert!((together.values().values()[0] - wanted).abs() < 1e-4);
    assert!(together.price().is_none() && sentence(together.trade()).contains(".price(texts)"));
}

#[test]
fn the_weakest_push_flips_the_answer_and_a_weaker_one_does_not() {
    let model = tiny();
    let prompt = "Anna was happy because the sun was shining. How was Anna? She was";
    let vector = model.contrast("Anna was angry because", "Anna was happy because").position(-2).difference().unwrap();
    let metric = logit_diff(" happy", " angry");
    for relative in [false, true] {
        let steer = model.steer(prompt, &vector).measure(&metric).price("Tom went to the store.");
        let steer = if relative { steer.relative() } else { steer };
        let most = if relative { 2.0 } else { 16.0 };
        let found = steer.weakest_push(most).unwrap();
        assert_eq!(found.pushes().len(), model.cfg().n_layers);
        let mut flipped = 0;
        for (layer, push) in found.pushes().iter().enumerate() {
            let leads = |strength: f64| {
                let only = vector.only_layers([layer]).unwrap();
                let push = if relative { only.add_relative(strength) } else { only.add(strength) };
                model.measure_with_hooks(prompt, &metric, &push.hooks()).unwrap()
            };
            let Some(strength) = push.strength else {
                assert!((1..=64).all(|i| leads(most * f64::from(i) / 64.0) > 0.0), "layer {layer} does not flip");
                continue;
            };
            flipped += 1;
            assert!(leads(strength) < 0.0 && leads(strength * 0.97) > 0.0, "layer {layer}: {strength}");
            assert!((push.measure.unwrap() - leads(strength)).abs() < 1e-4);
            if relative {
                assert_eq!(push.part, Some(strength));
            }
        }
        assert!(flipped > 0 && found.base() > 0.0);
        let least = found.pushes().iter().filter_map(|push| push.part).fold(f64::INFINITY, f64::min);
        assert_eq!(found.deciding().unwrap().part, Some(least));
    }
    let nothing = model.steer(prompt, &vector).measure(&metric).weakest_push(1e-6).unwrap();
    assert!(nothing.deciding().is_none() && nothing.bundle().text.contains("No push flips it"));
    assert!(sentence(model.steer(prompt, &vector).measure(&metric).weakest_push(0.0)).contains("other than 0"));
}

#[test]
fn a_generation_is_pushed_step_by_step() {
    let model = tiny();
    let vector = model.contrast("Anna was angry because", "Anna was happy because").position(-2).difference().unwrap();
    let prompt = "Anna was happy because the sun was shining. Tom was";
    let greedy = || GenerateOptions::greedy().max_new_tokens(6).stop_at_eos(false);
    for (what, push, of_prompt) in [
        ("everywhere", vector.add(2.0), None),
        ("two positions", vector.add(2.0).positions([2, -1]), Some([2usize, usize::MAX])),
    ] {
        // Token by token: the whole text runs anew, pushed where it should be.
        let prompt_ids = model.to_tokens(prompt).unwrap().ids()[0].clone();
        let mut ids = prompt_ids.clone();
        for _ in 0..6 {
            let hooks = match of_prompt {
                None => vector.add(2.0).hooks(),
                Some([a, _]) => vector.add(2.0).positions([a, prompt_ids.len() - 1]).hooks(),
            };
            let logits = model.run_with_hooks(Tokens::from(&ids[..]), &hooks).unwrap();
            let last: Vec<f32> = logits.at(0, -1).unwrap().to_vec1().unwrap();
            let best = (0..last.len()).max_by(|&a, &b| last[a].total_cmp(&last[b])).unwrap();
            ids.push(best as u32);
        }
        for cached in [true, false] {
            let written = model.generate(prompt, &greedy().use_kv_cache(cached).steer(&push)).unwrap();
            assert_eq!(written.added()[0], ids[prompt_ids.len()..], "{what}, key-value cache: {cached}");
        }
        assert_ne!(model.generate(prompt, &greedy()).unwrap().added()[0], ids[prompt_ids.len()..], "{what}");
    }

    let texts = model.steer(prompt, &vector).together().strengths([0.0, 2.0]).texts(&greedy()).unwrap();
    let texts = texts.sentiment(&Sentiment::english());
    assert_eq!(texts.texts().len(), 2);
    assert_eq!(texts.texts()[0].continuation, model.generate(prompt, &greedy()).unwrap().continuation(0).unwrap());
    assert_eq!(texts.texts()[0].prompt, prompt);
    assert_eq!(texts.scores().unwrap().len(), 2);

    let on_patterns = Hooks::new().edit("pattern", |pattern, _| Ok(pattern.clone()));
    let options = greedy().use_kv_cache(false).prompt_hooks(&on_patterns);
    assert!(sentence(model.generate(prompt, &options)).contains("key-value cache"));
}

#[test]
fn probabilities_of_several_tokens_add_up() {
    let model = tiny();
    let prompts = ["Anna was happy because the sun was shining. Tom was", "John gave the book to"];
    let logits = model.forward(prompts).unwrap();
    let tokens = model.to_tokens(prompts).unwrap();
    let p = |row: usize, token: &str| {
        let logits: Vec<f32> = logits.at(row, tokens.last_positions()[row] as i64).unwrap().to_vec1().unwrap();
        let total: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
        f64::from(logits[model.to_single_token(token).unwrap() as usize]).exp() / total
    };
    let any = model.measure_each(prompts, &metric::prob_any([" happy", " sad", " happy"])).unwrap();
    let odds = model.measure_each(prompts, &metric::log_odds([" happy", " glad"], [" sad"])).unwrap();
    for row in 0..2 {
        let wanted = p(row, " happy") + p(row, " sad");
        assert!((f64::from(any[row]) - wanted).abs() < 1e-5, "{} and not {wanted}", any[row]);
        let wanted = (p(row, " happy") + p(row, " glad")).ln() - p(row, " sad").ln();
        assert!((f64::from(odds[row]) - wanted).abs() < 1e-3, "{} and not {wanted}", odds[row]);
    }
    assert!(sentence(model.measure(prompts, &metric::prob_any(Vec::<&str>::new()))).contains("no token"));
}

#[test]
fn what_does_not_fit_is_a_sentence() {
    let model = tiny();
    let vector = model.contrast("Anna was angry.", "Anna was happy.").position(-2).difference().unwrap();
    assert!(sentence(vector.add(1.0).layers([99])).contains("none for layer 99"));
    assert!(sentence(model.contrast("Anna was happy.", "Anna was happy.").difference()).contains("no direction"));
    assert!(sentence(model.contrast(Vec::<String>::new(), "Anna").difference()).contains("each side"));
    let run = |hooks: Hooks| model.run_with_hooks("Anna was", &hooks);
    assert!(sentence(run(vector.add(f64::NAN).hooks())).contains("finite number"));
    let narrow = SteeringVector::new(&resid_post(0), &some_vector(8, 0), "a test").unwrap();
    assert!(sentence(run(narrow.add(1.0).hooks())).contains("width 8"));
    assert!(sentence(run(vector.add(1.0).positions(50).hooks())).contains("50"));
    let steer = || model.steer("Anna was", &vector);
    assert!(sentence(steer().run()).contains("there is no measure"));
    let measured = || steer().measure(logit_diff(" happy", " angry"));
    assert!(sentence(measured().strengths([]).run()).contains("no strength"));
    assert!(sentence(measured().strengths([f64::INFINITY]).run()).contains("no strength of a push"));
    assert!(sentence(vector.scaled(0.0)).contains("no direction"));
    assert!(sentence(vector.cosine(&narrow)).contains("shape") || vector.cosine(&narrow).is_err());
    let other = SteeringVector::new(&resid_pre(0), &some_vector(8, 0), "a test").unwrap();
    assert!(sentence(vector.cosine(&other)).contains("in common"));
    let words = Sentiment::new(["flabbergasted"], ["angry"]);
    assert!(sentence(words.metric(&model)).contains("flabbergasted"));
}

#[test]
fn vectors_and_results_show_themselves() {
    let model = tiny();
    let vector = model.contrast("Anna was <b>angry</b>.", "Anna was happy.").difference().unwrap();
    let card = vector.bundle();
    assert!(card.text.contains("contrast") && card.text.contains("happy") && card.png.is_some());
    assert!(card.html.unwrap().contains("&lt;b&gt;angry"));
    let result = model.steer("Anna was", &vector).measure(logit_diff(" happy", " angry")).price("Tom went home.").run();
    assert!(result.as_ref().unwrap().bundle().png.is_some() && result.as_ref().unwrap().lines().is_ok());
    assert!(result.unwrap().trade().unwrap().bundle().text.contains("over its price"));
}
