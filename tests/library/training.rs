//! Training: every kind of model learns, hooks and choices are followed, nothing changes that should not, and it goes on
//! where it was stopped.

use std::path::PathBuf;

use crate::common::{fixture, fixtures, max_difference};
use candlescope::analysis::ablation::zero_heads;
use candlescope::prelude::*;

const TEXT: &str = "Anna gave a very heavy umbrella to Robert, and Robert put it behind the clock.";

fn raw(name: &str) -> HookedTransformer {
    HookedTransformer::from_pretrained_no_processing(name).unwrap()
}

fn quiet() -> TrainOptions {
    TrainOptions::new().steps(4).rate(1e-3).warm_up(1).progress(&Progress::quiet())
}

/// A file that no other test writes.
fn file(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("candlescope_{name}_{}", std::process::id()))
}

/// Every parameter, by name.
fn same_parameters(a: &HookedTransformer, b: &HookedTransformer, choose: impl Fn(&str) -> bool) -> Vec<(String, bool)> {
    let pairs = a.named_parameters().into_iter().zip(b.named_parameters());
    let chosen = pairs.filter(|((name, _), _)| choose(name));
    chosen.map(|((name, one), (_, other))| (name, max_difference(&one, &other) == 0.0)).collect()
}

#[test]
fn every_kind_of_decoder_learns() {
    let mut learned = 0;
    for folder in fixtures() {
        let model = HookedTransformer::from_pretrained_no_processing(&folder.to_string_lossy()).unwrap();
        let name = model.cfg().model_type.clone();
        if model.cfg().bidirectional || model.cfg().encoder.is_some() {
            continue;
        }
        let rows = (0..3).map(|row| (0..10).map(|i| (7 * i + 13 * row + 5) % model.cfg().d_vocab as u32).collect());
        let tokens = Tokens::from_ids(rows.collect()).unwrap();
        let before = model.loss(&tokens).unwrap();
        let mut trainer = Trainer::new(&model, &quiet()).unwrap_or_else(|error| panic!("{name}: {error}"));
        while !trainer.is_done() {
            trainer.step(&tokens).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let after = trainer.model().loss(&tokens).unwrap();
        assert!(after < before, "{name}: {before} before, {after} after");
        // Gradients are tracked in training, and not in a snapshot: both have to compute the same.
        let snapshot = trainer.snapshot().unwrap();
        assert!((snapshot.loss(&tokens).unwrap() - after).abs() < 1e-4, "{name}");
        assert_eq!(model.loss(&tokens).unwrap(), before, "{name}: the model itself has changed");
        learned += 1;
    }
    assert!(learned > 20, "only {learned} kinds were tried");
}

#[test]
fn fine_tuning_lowers_the_loss_of_its_text_and_leaves_the_model_alone() {
    for model in [raw("tiny"), HookedTransformer::from_pretrained("tiny").unwrap()] {
        let before = model.loss(TEXT).unwrap();
        let tuned = model.fine_tune([TEXT, "John went home."], &quiet().steps(10)).unwrap();
        assert!(tuned.loss(TEXT).unwrap() < before - 0.2);
        assert_eq!(model.loss(TEXT).unwrap(), before);
        assert_eq!(tuned.to_str_tokens(" Mary").unwrap(), model.to_str_tokens(" Mary").unwrap());
    }
}

#[test]
fn a_tied_embedding_stays_tied() {
    let model = raw("tiny");
    let n_stored = model.n_params() - model.w_u().elem_count();
    let trainer = Trainer::new(&model, &quiet()).unwrap();
    assert_eq!(trainer.n_trained(), n_stored);
    let tuned = model.fine_tune(TEXT, &quiet()).unwrap();
    assert_eq!(max_difference(&tuned.w_e().t().unwrap(), tuned.w_u()), 0.0);
    assert!(max_difference(tuned.w_e(), model.w_e()) > 0.0);
    // Processing centres the unembedding alone, so these are two.
    let processed = HookedTransformer::from_pretrained("tiny").unwrap();
    assert_eq!(Trainer::new(&processed, &quiet()).unwrap().n_trained(), processed.n_params());
}

#[test]
fn hooks_are_active_while_it_learns() {
    let model = raw("tiny");
    let hooks = zero_heads([(1, 2)]);
    let tuned = model.fine_tune(TEXT, &quiet().weight_decay(0.0).hooks(&hooks)).unwrap();
    // A head that says nothing learns nothing.
    let w_v = |model: &HookedTransformer, head| model.w_v().unwrap().get(1).unwrap().get(head).unwrap();
    assert_eq!(max_difference(&w_v(&model, 2), &w_v(&tuned, 2)), 0.0);
    assert!(max_difference(&w_v(&model, 1), &w_v(&tuned, 1)) > 0.0);
}

#[test]
fn only_the_chosen_weights_change() {
    let model = raw("tiny");
    let tuned = model.fine_tune(TEXT, &quiet().only(|name| name.contains(".attn.W_"))).unwrap();
    for (name, same) in same_parameters(&model, &tuned, |_| true) {
        assert_eq!(same, !name.contains(".attn.W_"), "{name}");
    }
}

#[test]
fn weights_without_a_part_in_the_loss_do_not_change() {
    let model = raw("tiny");
    let mut trainer = Trainer::new(&model, &quiet().weight_decay(0.0)).unwrap();
    // The stream in front of layer 1 knows nothing of layer 2.
    let run = RunOptions::new().stop_at_layer(1);
    trainer.step_on(|model| Ok(model.run(TEXT, &run)?.resid.sqr()?.mean_all()?)).unwrap();
    let same = same_parameters(&model, &trainer.snapshot().unwrap(), |name| name.starts_with("blocks."));
    for (name, same) in same {
        // Keys' biases move all scores of a query alike, which a softmax does not see.
        assert_eq!(same, !name.starts_with("blocks.0."), "{name}");
    }
}

#[test]
fn it_goes_on_from_a_state_number_for_number() {
    let (model, path) = (raw("tiny"), file("state.safetensors"));
    let step = |trainer: &mut Trainer| trainer.step(TEXT).unwrap();
    let mut whole = Trainer::new(&model, &quiet().steps(6)).unwrap();
    (0..6).for_each(|_| _ = step(&mut whole));
    let mut killed = Trainer::new(&model, &quiet().steps(6)).unwrap();
    (0..3).for_each(|_| _ = step(&mut killed));
    killed.save_state(&path).unwrap();
    let mut resumed = Trainer::new(&model, &quiet().steps(6)).unwrap();
    resumed.load_state(&path).unwrap();
    assert_eq!((resumed.steps_done(), resumed.is_done()), (3, false));
    (0..3).for_each(|_| _ = step(&mut resumed));
    assert_eq!(whole.curve(), resumed.curve());
    let same = same_parameters(whole.model(), resumed.model(), |_| true);
    assert!(same.iter().all(|(_, same)| *same), "{same:?}");

    // A state of another model is refused, and changes nothing.
    let other = raw(&fixture("gpt2").to_string_lossy());
    let mut of_other = Trainer::new(&other, &quiet()).unwrap();
    let error = of_other.load_state(&path).unwrap_err().to_string();
    assert!(error.contains("shape") || error.contains("lacks"), "{error}");
    assert_eq!(of_other.steps_done(), 0);
    assert!(same_parameters(&other, of_other.model(), |_| true).iter().all(|(_, same)| *same));
    std::fs::write(&path, b"not a state").unwrap();
    assert!(resumed.load_state(&path).unwrap_err().to_string().contains("can't be read"));
    std::fs::remove_file(&path).unwrap();
    assert!(resumed.load_state(&path).unwrap_err().to_string().contains("save_state"));
    assert_eq!(resumed.steps_done(), 6);
}

#[test]
fn a_snapshot_does_not_change_any_more() {
    let mut trainer = Trainer::new(&raw("tiny"), &quiet()).unwrap();
    trainer.step(TEXT).unwrap();
    let snapshot = trainer.snapshot().unwrap();
    let loss = snapshot.loss(TEXT).unwrap();
    assert!((trainer.model().loss(TEXT).unwrap() - loss).abs() < 1e-5);
    trainer.step(TEXT).unwrap();
    assert_eq!(snapshot.loss(TEXT).unwrap(), loss);
    assert!(trainer.model().loss(TEXT).unwrap() < loss);
}

#[test]
fn rows_of_unequal_length_are_weighed_by_their_tokens() {
    let model = raw("tiny");
    let texts = vec![TEXT.to_string(), "Mary".to_string()];
    let mut trainer = Trainer::new(&model, &quiet()).unwrap();
    let tokens = model.to_tokens(texts).unwrap();
    let expected = model.loss(&tokens).unwrap();
    assert!((trainer.step(&tokens).unwrap() - expected).abs() < 1e-5);
}

#[test]
fn what_makes_no_sense_is_refused_in_a_sentence() {
    let model = raw("tiny");
    let refused = |options: TrainOptions| Trainer::new(&model, &options).unwrap_err().to_string();
    assert!(refused(quiet().steps(0)).contains("no steps"));
    assert!(refused(quiet().rate(-1.0)).contains("learning rate"));
    assert!(refused(quiet().only(|_| false)).contains("no weight is chosen"));
    let coarse = HookedTransformer::from_pretrained_with("tiny", &LoadOptions::new().raw().dtype(DType::BF16)).unwrap();
    assert!(Trainer::new(&coarse, &quiet()).unwrap_err().to_string().contains("load it in f32"));
    assert!(model.fine_tune("", &quiet().row_length(4)).is_err());

    let mut trainer = Trainer::new(&model, &quiet()).unwrap();
    let mut refused = |loss: Tensor| trainer.step_on(|_| Ok(loss)).unwrap_err().to_string();
    assert!(refused(Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap()).contains("scalar"));
    assert!(refused(Tensor::new(f32::NAN, &Device::Cpu).unwrap()).contains("the loss is NaN"));
    assert!(refused(Tensor::new(1f32, &Device::Cpu).unwrap()).contains("nothing to learn"));
    // The square root's slope at 0 has no end.
    let endless =
        |model: &HookedTransformer| Ok((model.w_e().sqr()?.sum_all()? - model.w_e().sqr()?.sum_all()?)?.sqrt()?);
    let error = trainer.step_on(endless).unwrap_err().to_string();
    assert!(error.contains("the gradient is not a number"), "{error}");
    assert_eq!(trainer.steps_done(), 0);
    assert!(trainer.step(vec![1_000_000]).is_err());
}

#[test]
fn a_new_model_learns_to_repeat() {
    use candlescope::model::{Activation, Sizes};
    let sizes = Sizes { n_layers: 1, d_model: 16, n_ctx: 16, n_heads: 2, d_head: 8, d_mlp: 32, d_vocab: 12 };
    let cfg = ModelConfig { tie_word_embeddings: false, ..ModelConfig::new("own", Activation::GeluNew, sizes) };
    let model = HookedTransformer::random(cfg.clone(), 3).unwrap();
    let again = HookedTransformer::random(cfg.clone(), 3).unwrap();
    assert!(same_parameters(&model, &again, |_| true).iter().all(|(_, same)| *same));
    let other = HookedTransformer::random(cfg, 4).unwrap();
    assert!(max_difference(model.w_e(), other.w_e()) > 0.0);
    let tokens = Tokens::from_ids(vec![(0..12).collect(), (0..12).collect()]).unwrap();
    let mut trainer = Trainer::new(&model, &quiet().steps(60).rate(1e-2)).unwrap();
    while !trainer.is_done() {
        trainer.step(&tokens).unwrap();
    }
    let losses = trainer.curve().losses();
    assert!(losses[0] > 2.0 && losses[59] < 0.5, "{} to {}", losses[0], losses[59]);
    let experts = HookedTransformer::from_pretrained(&fixture("mixtral").to_string_lossy()).unwrap();
    let error = HookedTransformer::random(experts.cfg().clone(), 0).unwrap_err().to_string();
    assert!(error.contains("experts"), "{error}");
}

#[test]
fn a_saved_model_is_the_same_again() {
    let folder = file("saved_model");
    let ids: Vec<u32> = (0..10).map(|i| 3 * i + 1).collect();
    let mut saved = Vec::new();
    for fixture in fixtures() {
        let model = HookedTransformer::from_pretrained_no_processing(&fixture.to_string_lossy()).unwrap();
        let result = model.save_model(&folder, DType::F32);
        let kind = model.cfg().model_type.clone();
        match result {
            Ok(()) => {
                let again = raw(&folder.to_string_lossy());
                let logits = |model: &HookedTransformer| model.forward(ids.clone()).unwrap().tensor().clone();
                // Matrices lie otherwise in its file than in the other's, and sums are taken in another order.
                assert!(max_difference(&logits(&model), &logits(&again)) < 1e-5, "{kind}");
                assert!(same_parameters(&model, &again, |_| true).iter().all(|(_, same)| *same), "{kind}");
                std::fs::remove_dir_all(&folder).unwrap();
                saved.push(kind);
            }
            Err(error) => {
                assert!(error.to_string().contains("TransformerLens' form"), "{kind}: {error}");
                assert!(!folder.exists(), "{kind}: something was written");
            }
        }
    }
    for expected in ["gpt2", "llama", "gpt_neox", "opt"] {
        assert!(saved.iter().any(|kind| kind == expected), "{expected} was not saved, only {saved:?}");
    }
}

#[test]
fn checkpoints_of_ones_own_can_be_loaded_and_swept_over() {
    let folder = file("own_checkpoints");
    let mut trainer = Trainer::new(&raw("tiny"), &quiet()).unwrap();
    trainer.model().save_model(&folder, DType::F32).unwrap();
    for _ in 0..3 {
        trainer.model().save_checkpoint(&folder, trainer.steps_done() as u64, DType::F32).unwrap();
        trainer.step(TEXT).unwrap();
    }
    let model = raw(&folder.to_string_lossy());
    assert_eq!(model.checkpoints().unwrap().labels, [0, 1, 2]);
    let over = model.over_checkpoints().unwrap().progress(&Progress::quiet());
    let losses = over.measure("loss", |model| model.loss(TEXT)).unwrap();
    for (loss, in_training) in losses.values().iter().zip(trainer.curve().losses()) {
        assert!((loss - in_training).abs() < 1e-5, "{losses:?}");
    }
    assert!(model.checkpoint(9).unwrap_err().to_string().contains("0 to 2"));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn an_interrupt_keeps_the_last_whole_step() {
    // The switch is the process's own: the other tests of this file would be interrupted, too. So it is in a hook, which
    // fails as an interrupt does.
    let model = raw("tiny");
    let mut trainer = Trainer::new(&model, &quiet()).unwrap();
    trainer.step(TEXT).unwrap();
    let before = trainer.snapshot().unwrap();
    let error = trainer.step_on(|_| Err(candlescope::Error::Interrupted)).unwrap_err();
    assert!(matches!(error, candlescope::Error::Interrupted));
    assert_eq!(trainer.steps_done(), 1);
    assert!(same_parameters(&before, trainer.model(), |_| true).iter().all(|(_, same)| *same));
}
