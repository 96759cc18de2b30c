//! Two prompts side by side: what is the same is zero, what differs begins where the prompts do, and every measure agrees with
//! the activations themselves.

use crate::common::fixtures;
use candlescope::prelude::*;

const HAPPY: &str = "You have happy emotion in yourself!";
const ANGRY: &str = "You have angry emotion in yourself!";

fn tiny() -> HookedTransformer {
    HookedTransformer::from_pretrained("tiny").unwrap()
}

#[test]
fn a_prompt_is_the_same_as_itself() {
    let same = tiny().compare(HAPPY, HAPPY).unwrap();
    for zero in [same.stream(), same.attention(), same.mlps(), same.heads(), same.lens_kl()] {
        assert!(zero.unwrap().values().iter().all(|value| value.abs() < 1e-6));
    }
    assert!(same.stream_cosine().unwrap().values().iter().all(|value| (value - 1.0).abs() < 1e-5));
    assert!(same.alignment().different().is_empty());
    assert!(same.top_neurons(3).unwrap().iter().all(|neuron| neuron.size == 0.0));
}

#[test]
fn one_word_makes_a_difference_from_there_on() {
    let two = tiny().compare(HAPPY, ANGRY).unwrap();
    let different = two.alignment().different();
    let stream = two.stream().unwrap();
    for place in 0..two.alignment().pairs().len() {
        let values = stream.at("token", place as i64).unwrap().values();
        match different.first() {
            Some(first) if place < *first => assert!(values.iter().all(|value| *value == 0.0)),
            _ => assert!(values.last().is_some_and(|value| *value > 0.0), "{place}: {values:?}"),
        }
    }
    let shown = two.bundle();
    assert!(shown.text.contains("Heads that write most differently") && shown.html.is_some());
}

#[test]
fn every_measure_is_what_the_activations_say() {
    let model = tiny();
    let two = model.compare("Anna was very happy that day.", "Anna was very angry that day.").unwrap();
    let (_, a) = model.run_with_cache("Anna was very happy that day.").unwrap();
    let (_, b) = model.run_with_cache("Anna was very angry that day.").unwrap();
    let word = two.alignment().different();
    assert_eq!((word.len(), two.alignment().labels()[word[0]].as_str()), (1, " happy| angry"));
    let length = |x: &Tensor| x.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt();
    let at = |cache: &ActivationCache, point: Selector, pos: usize| {
        cache.get(point).unwrap().get(0).unwrap().get(pos).unwrap()
    };
    let stream = two.stream().unwrap();
    let (attention, mlps, heads) = (two.attention().unwrap(), two.mlps().unwrap(), two.heads().unwrap());
    for pos in 0..two.alignment().pairs().len() {
        for layer in 0..3 {
            let [one, other] = [&a, &b].map(|cache| at(cache, resid_pre(layer).into(), pos));
            let expected = length(&(&one - &other).unwrap()) / ((length(&one) + length(&other)) / 2.0);
            let found: f32 = stream.i((layer, pos)).unwrap().to_scalar().unwrap();
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
            if pos < word[0] {
                assert_eq!(found, 0.0, "nothing differs before the word");
            }
            let [one, other] = [&a, &b].map(|cache| at(cache, resid_post(layer).into(), pos));
            let behind = (length(&one) + length(&other)) / 2.0;
            for (measure, point) in [(&attention, Selector::from(attn_out(layer))), (&mlps, mlp_out(layer).into())] {
                let [one, other] = [&a, &b].map(|cache| at(cache, point.clone(), pos));
                let found: f32 = measure.i((layer, pos)).unwrap().to_scalar().unwrap();
                assert!((found - length(&(one - other).unwrap()) / behind).abs() < 1e-5);
            }
            for head in 0..4 {
                let name = format!("L{layer}H{head}");
                let written = |cache: &ActivationCache| {
                    cache.stack_head_results(None).unwrap().component(&name).unwrap().get(0).unwrap().get(pos).unwrap()
                };
                let expected = length(&(written(&a) - written(&b)).unwrap()) / behind;
                let found: f32 = heads.i((layer, head, pos)).unwrap().to_scalar().unwrap();
                assert!((found - expected).abs() < 1e-5, "{name}: {found} {expected}");
            }
        }
    }
    // The end of the lens is the model itself.
    let metric = metric::kl_divergence(&model.forward("Anna was very happy that day.").unwrap());
    let expected = model.measure("Anna was very angry that day.", &metric).unwrap();
    let found = two.lens_kl().unwrap().at("layer", -1).unwrap().at("token", -1).unwrap().values()[0];
    assert!((found - expected).abs() < 1e-4, "{found} {expected}");
    // The first of the heads is the largest of all.
    let top = &two.top_heads(1).unwrap()[0];
    assert_eq!(top.size, heads.largest().unwrap().1);
    assert_eq!(vec![top.layer, top.index, top.pair], heads.largest().unwrap().0);
    assert!(two.top_neurons(4).unwrap().windows(2).all(|pair| pair[0].size >= pair[1].size));
}

#[test]
fn prompts_of_other_lengths_are_aligned() {
    let model = tiny();
    let two = model.compare("Anna was happy.", "Anna was very happy.").unwrap();
    let places = two.alignment().places();
    assert!(places.iter().any(|place| place.0.is_none()), "{places:?}");
    assert_eq!(two.alignment().pairs().len(), model.to_tokens("Anna was happy.").unwrap().shape().1);
    assert!(two.alignment().different().is_empty());
    assert_eq!(two.stream().unwrap().at("token", 0).unwrap().values(), [0.0; 4]);
    let shown = two.alignment().bundle().text;
    assert!(shown.contains("very") && shown.contains("different"), "{shown}");
    assert!(two.bundle().png.is_some() && two.lines().is_ok());
}

#[test]
fn many_pairs_have_a_mean_and_a_spread() {
    let model = tiny();
    let pairs = ["Anna", "Leo", "Ruth"].map(|name| (format!(" {name} was happy."), format!(" {name} was angry.")));
    let many = model.compare_many(pairs.clone()).unwrap();
    let each: Vec<LabelledTensor> =
        pairs.iter().map(|(a, b)| model.compare(a.as_str(), b.as_str()).unwrap().stream().unwrap()).collect();
    let mean = many.mean(|pair| pair.stream()).unwrap();
    let spread = many.spread(|pair| pair.stream()).unwrap();
    for i in 0..mean.values().len() {
        let values: Vec<f32> = each.iter().map(|stream| stream.values()[i]).collect();
        let expected = values.iter().sum::<f32>() / 3.0;
        let deviation = (values.iter().map(|v| (v - expected).powi(2)).sum::<f32>() / 2.0).sqrt();
        assert!((mean.values()[i] - expected).abs() < 1e-5 && (spread.values()[i] - deviation).abs() < 1e-5);
    }
    let uneven = [("Anna was happy.", "Anna was angry."), ("Leo was very happy.", "Leo was very angry.")];
    assert!(model.compare_many(uneven).unwrap_err().to_string().contains("same places"));
    assert!(model.compare_many(Vec::<(&str, &str)>::new()).unwrap_err().to_string().contains("no pairs"));
    assert!(model.compare(vec!["a", "b"], "c").unwrap_err().to_string().contains("compare_many"));
}

#[test]
fn every_kind_of_decoder_can_be_compared() {
    for folder in fixtures() {
        let model = HookedTransformer::from_pretrained(&folder.to_string_lossy()).unwrap();
        let name = model.cfg().model_type.clone();
        let compared = model.compare(vec![3, 5, 8, 13], vec![3, 6, 8, 13]);
        if model.cfg().encoder.is_some() {
            assert!(compared.unwrap_err().to_string().contains("encoder"), "{name}");
            continue;
        }
        let two = compared.unwrap_or_else(|error| panic!("{name}: {error}"));
        let stream = two.stream().unwrap();
        assert_eq!(stream.dims(), [model.cfg().n_layers + 1, 4], "{name}");
        let before = stream.at("token", 0).unwrap().values();
        assert!(model.cfg().bidirectional || before.iter().all(|value| value.abs() < 1e-6), "{name}: {before:?}");
        assert!(stream.values().iter().all(|value| value.is_finite()), "{name}");
        if model.cfg().state_space.is_some() {
            assert!(two.heads().is_err(), "{name} has no heads");
        }
    }
}
