//! Subspaces: projections against formulas, and learning on the bundled model and on a planted direction.

use crate::common::{max_difference, model};
use candlescope::Result;
use candlescope::prelude::*;

const BASE: [u32; 5] = [5, 80, 17, 200, 42];
const SOURCE: [u32; 5] = [5, 301, 17, 9, 150];

fn numbers(seed: usize, shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    // The square keeps rows from depending on each other.
    let values = (0..count).map(|i| ((i * i * 37 + seed * 101 + 1) as f64 * 0.7).sin() as f32);
    let values: Vec<f32> = values.collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn small(t: &Tensor) -> bool {
    max_difference(t, &t.zeros_like().unwrap()) < 1e-5
}

fn sentence<T>(result: Result<T>) -> String {
    result.err().expect("an error was expected").to_string()
}

#[test]
fn a_subspace_projects() -> Result<()> {
    let vectors = numbers(1, &[3, 8]);
    let subspace = Subspace::new(&vectors)?;
    assert_eq!((subspace.width(), subspace.dim()), (8, 3));
    let gram = subspace.directions()?.matmul(subspace.basis())?;
    assert!(small(&(gram - Tensor::eye(3, DType::F32, &Device::Cpu)?)?));
    // What spans it stays, and a projection is one.
    assert!(small(&(subspace.project(&vectors)? - &vectors)?));
    let x = numbers(2, &[2, 5, 8]);
    let inside = subspace.project(&x)?;
    assert!(small(&(subspace.project(&inside)? - &inside)?));
    // The rest is orthogonal to it.
    assert!(small(&subspace.coordinates(&(&x - &inside)?)?));
    assert_eq!(subspace.coordinates(&x)?.dims(), [2, 5, 3]);
    // The same space, whatever spans it.
    let mixed = numbers(3, &[3, 3]).matmul(&vectors)?;
    assert!((subspace.overlap(&Subspace::new(&mixed)?)? - 1.0).abs() < 1e-4);
    let file = std::env::temp_dir().join(format!("candlescope-subspace-{}.safetensors", std::process::id()));
    subspace.save(&file)?;
    assert_eq!(max_difference(Subspace::load(&file)?.basis(), subspace.basis()), 0.0);
    std::fs::remove_file(file).unwrap();
    Ok(())
}

#[test]
fn principal_directions_are_those_of_the_samples() -> Result<()> {
    // Samples along two directions, and a little of everything.
    let directions = Subspace::random(10, 2, 5)?;
    let along = numbers(4, &[20, 2]).matmul(&directions.directions()?)?;
    let samples = (along + (numbers(5, &[20, 10]) * 1e-3)?)?;
    assert!(Subspace::principal(&samples, 2)?.overlap(&directions)? > 0.9999);
    assert!(Subspace::random(10, 2, 6)?.overlap(&directions)? < 0.9);
    Ok(())
}

#[test]
fn hooks_change_the_part_in_the_subspace_at_the_positions() -> Result<()> {
    for name in ["gpt2", "llama", "mamba"] {
        let model = model(name);
        let at = resid_pre(1);
        let (_, base) = model.run_with_cache(&BASE[..])?;
        let (_, source) = model.run_with_cache(&SOURCE[..])?;
        let (base, source) = (base.get(&at)?, source.get(&at)?);
        let subspace = Subspace::random(32, 3, 1)?;
        let seen =
            |hooks: Hooks| -> Result<Tensor> { model.run_with_hooks_and_cache(&BASE[..], &hooks, &at)?.1.get(&at) };
        let changed = seen(subspace.interchange(&at, &source, [1, -1]))?;
        for pos in 0..5 {
            let (x, s, y) = (
                base.i((0, pos))?.unsqueeze(0)?,
                source.i((0, pos))?.unsqueeze(0)?,
                changed.i((0, pos))?.unsqueeze(0)?,
            );
            if pos == 1 || pos == 4 {
                assert!(small(&(subspace.coordinates(&y)? - subspace.coordinates(&s)?)?), "{name}");
                let rest = |t: &Tensor| -> Result<Tensor> { Ok((t - subspace.project(t)?)?) };
                assert!(small(&(rest(&y)? - rest(&x)?)?), "{name}");
            } else {
                assert!(small(&(y - x)?), "{name}");
            }
        }
        assert!(small(&subspace.coordinates(&seen(subspace.ablate(&at, ..))?)?));
        let kept = seen(subspace.keep_only(&at, ..))?;
        assert!(small(&(kept - subspace.project(&base)?)?));
        let each = seen(subspace.interchange(&at, &source, TokenPositions::each(vec![4])))?;
        assert!(small(&(each.i((0, 4))? - changed.i((0, 4))?)?) && small(&(each.i((0, 1))? - base.i((0, 1))?)?));

        // The whole space is a patch.
        let whole = Subspace::random(32, 32, 2)?.interchange(&at, &source, ..);
        let patched = Hooks::new().replace(&at, source.clone());
        let (a, b) = (model.run_with_hooks(&BASE[..], &whole)?, model.run_with_hooks(&BASE[..], &patched)?);
        assert!(max_difference(&a, &b) < 1e-4, "{name}");
    }
    // All heads of z together.
    let model = model("gpt2");
    let (_, source) = model.run_with_cache(&SOURCE[..])?;
    let heads = Subspace::random(32, 5, 3)?;
    let hooks = heads.interchange(z(1), &source.get(z(1))?, ..);
    let changed = model.run_with_hooks_and_cache(&BASE[..], &hooks, z(1))?.1.get(z(1))?;
    assert!(small(&(heads.coordinates(&changed)? - heads.coordinates(&source.get(z(1))?)?)?));
    Ok(())
}

#[test]
fn a_sweep_over_the_directions_is_the_same_interchange() -> Result<()> {
    let model = model("llama");
    let (_, source) = model.run_with_cache(&SOURCE[..])?;
    let subspace = Subspace::random(32, 4, 9)?;
    let metric = logit_diff(3u32, 4u32);
    let sweep = model.sweep(&BASE[..]).at(resid_pre(2)).by(["pos"]).interchange(&subspace.directions()?, &source);
    let sweep = sweep.measure(&metric).run()?.values().values();
    for (pos, of_sweep) in sweep.into_iter().enumerate() {
        let hooks = subspace.interchange(resid_pre(2), &source.get(resid_pre(2))?, pos);
        let logits = model.run_with_hooks(&BASE[..], &hooks)?.at(0, -1)?;
        let difference = logits.get(3)?.to_scalar::<f32>()? - logits.get(4)?.to_scalar::<f32>()?;
        assert!((difference - of_sweep).abs() < 1e-4);
    }
    Ok(())
}

/// Prompts in which one of two people gives and, as the source, the same with the other one giving: with the source's
/// giver, the base's own one gets the gift.
fn who_gives(names: &[(&str, &str)]) -> InterchangePairs {
    let prompt = |a: &str, b: &str, giver: &str| {
        format!("After {a} and {b} went to the store, {giver} gave a bottle of milk to")
    };
    let (mut base, mut source, mut answers) = (Vec::new(), Vec::new(), Vec::new());
    for (a, b) in names.iter().flat_map(|&(a, b)| [(a, b), (b, a)]) {
        for (giver, other) in [(a, b), (b, a)] {
            base.push(prompt(a, b, giver));
            source.push(prompt(a, b, other));
            answers.push(format!(" {giver}"));
        }
    }
    InterchangePairs::new(base, source, &answers)
}

#[test]
fn what_carries_the_giver_in_the_bundled_model_is_found() -> Result<()> {
    let model = HookedTransformer::from_pretrained("tiny")?;
    let women = ["Mary", "Anna", "Kate", "Lucy", "Sarah", "Emma", "Jane", "Alice", "Laura", "Clara", "Grace", "Ruth"];
    let men = ["John", "Tom", "Paul", "David", "Max", "Simon", "Mark", "Peter", "James", "Jack", "Sam", "Ben"];
    let with = |shift: usize| -> Vec<(&str, &str)> { (0..12).map(|i| (women[i], men[(i + shift) % 12])).collect() };
    let pairs = who_gives(&[with(0), with(3)].concat());
    // The same people, who never met before.
    let held_out = who_gives(&with(7));
    // Behind the first layer the second mention of a name, at position 10, knows which of the two it is.
    let (at, pos) = (resid_pre(1), 10);
    let tokens = model.to_str_tokens("After John and Mary went to the store, Mary gave a bottle of milk to")?;
    assert_eq!(tokens[10], " Mary");
    let options = LearnOptions::new().steps(40).batch(24).learning_rate(0.05).seed(3);
    let learned = model.learn_subspace(&pairs, &at, pos, 16, &options)?;
    let accuracy = |subspace: &Subspace| model.interchange_accuracy(&held_out, &at, pos, subspace);
    let (found, random) = (accuracy(learned.subspace())?, accuracy(&Subspace::random(128, 16, 4)?)?);
    assert!(found > 0.6 && random < 0.1, "{found} in new pairs, and {random} with a random subspace");
    assert_eq!(accuracy(&Subspace::random(128, 128, 4)?)?, 1.0);
    assert!(learned.losses()[39] < 0.1 * learned.losses()[0] && learned.accuracy() > 0.9);
    let bundle = learned.bundle();
    assert!(bundle.text.contains("16 dimensions of 128") && bundle.png.is_some());
    // The same seed gives the same.
    let again = model.learn_subspace(&pairs, &at, pos, 16, &options.steps(2))?;
    assert_eq!(again.losses(), &learned.losses()[..2]);
    Ok(())
}

#[test]
fn a_known_direction_is_found() -> Result<()> {
    // At the end of the stream one direction decides between two tokens: the difference of their unembeddings.
    let model = model("gpt2");
    let known = (model.w_u().narrow(1, 3, 1)? - model.w_u().narrow(1, 4, 1)?)?.squeeze(1)?;
    let known = Subspace::new(&known.broadcast_sub(&known.mean_keepdim(0)?)?)?;
    let rows: Vec<Vec<u32>> = (0..128).map(|i| BASE.iter().map(|id| (id * (i + 3) + 29 * i) % 320).collect()).collect();
    let base = Tokens::from_ids(rows.clone())?;
    let source = Tokens::from_ids(rows.into_iter().rev().collect())?;
    let lead = |logits: &Tensor| -> Result<Tensor> {
        let last = logits.narrow(1, logits.dim(1)? - 1, 1)?.squeeze(1)?;
        Ok((last.narrow(1, 3, 1)? - last.narrow(1, 4, 1)?)?.squeeze(1)?)
    };
    // The lead of the one token over the other is to be the source's.
    let wanted = lead(model.forward(&source)?.tensor())?;
    let metric = Metric::new("closeness to the source", move |logits| Ok((lead(logits)? - &wanted)?.sqr()?.neg()?));
    let options = LearnOptions::new().steps(150).learning_rate(0.05).maximize(&metric);
    let pairs = InterchangePairs::new(&base, &source, 3u32);
    let learned = model.learn_subspace(&pairs, resid_post(2), -1, 1, &options)?;
    let (first, last) = (learned.losses()[0], learned.losses()[149]);
    let overlap = learned.subspace().overlap(&known)?;
    assert!(last < 0.05 * first && overlap > 0.8, "loss {first} to {last}, overlap {overlap}");
    assert!(Subspace::random(32, 1, 0)?.overlap(&known)? < 0.5);
    assert!(learned.objective().contains("closeness"));
    Ok(())
}

#[test]
fn what_does_not_fit_says_so() -> Result<()> {
    assert!(sentence(Subspace::new(&numbers(1, &[9, 8]))).contains("depend"));
    let twice = Tensor::cat(&[numbers(1, &[1, 8]), numbers(1, &[1, 8])], 0)?;
    assert!(sentence(Subspace::new(&twice)).contains("vector 1"));
    assert!(sentence(Subspace::new(&Tensor::zeros(8, DType::F32, &Device::Cpu)?)).contains("zero"));
    assert!(sentence(Subspace::new(&(numbers(1, &[2, 8]) * f64::NAN)?)).contains("NaN"));
    assert!(sentence(Subspace::random(8, 9, 0)).contains("1 to 8"));
    assert!(sentence(Subspace::principal(&numbers(1, &[2, 8]), 3)).contains("3 were asked for"));
    assert!(sentence(Subspace::new(&numbers(1, &[8]))?.overlap(&Subspace::random(9, 2, 0)?)).contains("width 8"));

    let model = model("gpt2");
    let narrow = Subspace::random(8, 2, 0)?;
    let wide = Subspace::random(33, 2, 0)?;
    let (_, cache) = model.run_with_cache(&SOURCE[..4])?;
    let source = cache.get(resid_pre(1))?;
    let run = |hooks: &Hooks| sentence(model.run_with_hooks(&BASE[..], hooks));
    assert!(run(&wide.ablate(resid_pre(1), ..)).contains("width 33"));
    assert!(run(&Subspace::random(32, 2, 0)?.interchange(resid_pre(1), &source, ..)).contains("equal length"));
    assert!(run(&Subspace::random(32, 2, 0)?.ablate(resid_pre(1), 5)).contains("no place 5"));
    assert!(run(&narrow.ablate(z(1), TokenPositions::each(vec![1, 2]))).contains("2 positions for 1"));

    let options = LearnOptions::new().steps(2);
    let pairs = InterchangePairs::new(&BASE[..], &SOURCE[..], 3u32);
    let learn = |pairs: &InterchangePairs, at: Selector, k| sentence(model.learn_subspace(pairs, at, .., k, &options));
    assert!(learn(&pairs, "resid_pre".into(), 2).contains("3 points"));
    assert!(learn(&pairs, resid_pre(1).into(), 33).contains("1 to 32"));
    assert!(
        learn(&InterchangePairs::new(&BASE[..4], &SOURCE[..], 3u32), resid_pre(1).into(), 2).contains("same length")
    );
    assert!(
        learn(&InterchangePairs::new(&BASE[..], &SOURCE[..], vec![3u32, 4]), resid_pre(1).into(), 2)
            .contains("2 answers")
    );
    Ok(())
}
