//! One measurement at every training checkpoint: which ones, in which order, and what is kept of it.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use crate::common::fixture;
use candlescope::prelude::*;

/// A model with the checkpoints 0, 1, 2, 4 and 8, whose unembedding bias is the step.
fn with_checkpoints(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("candlescope_{name}_{}", std::process::id()));
    let model = HookedTransformer::from_pretrained_no_processing(&fixture("gpt2").to_string_lossy()).unwrap();
    model.save_model(&folder, DType::F32).unwrap();
    for step in [0, 1, 2, 4, 8] {
        let mut weights = model.weights();
        weights.b_u = Some(Tensor::full(step as f32, model.cfg().d_vocab, &Device::Cpu).unwrap());
        model.with_weights(weights).unwrap().save_checkpoint(&folder, step, DType::F32).unwrap();
    }
    folder
}

fn over(folder: &Path) -> OverCheckpoints {
    let over = OverCheckpoints::of(&folder.to_string_lossy()).unwrap();
    over.options(&LoadOptions::new().raw()).progress(&Progress::quiet())
}

/// What tells a checkpoint from the others.
fn bias(model: &HookedTransformer) -> candlescope::Result<f32> {
    Ok(model.b_u()?.get(0)?.to_scalar()?)
}

#[test]
fn every_checkpoint_is_measured_once_and_in_order() {
    let folder = with_checkpoints("in_order");
    let biases = over(&folder).measure("bias", bias).unwrap();
    assert_eq!(biases.values(), [0.0, 1.0, 2.0, 4.0, 8.0]);
    assert_eq!((biases.steps(), biases.axes()[0].name()), ([0, 1, 2, 4, 8].as_slice(), "step"));
    let jump = biases.jump(&[]).unwrap();
    assert_eq!((jump.from, jump.to, jump.values), (4, 8, (4.0, 8.0)));

    // A table at each of them, and the way of each of its numbers.
    let table = over(&folder).measure("b_U", |model| {
        let values = model.b_u()?.narrow(0, 0, 6)?.reshape((2, 3))?;
        LabelledTensor::new("b_U", &values, [Axis::numbered("layer", 2), Axis::numbered("head", 3)])
    });
    let table = table.unwrap();
    assert_eq!(table.dims(), [5, 2, 3]);
    assert_eq!(table.at_place(&[1, 2]).unwrap().labels, ["1", "2"]);
    assert_eq!(table.series().len(), 6);
    assert!(table.series().iter().all(|series| series.values == [0.0, 1.0, 2.0, 4.0, 8.0]));
    assert!(table.at_place(&[2, 0]).unwrap_err().to_string().contains("[2, 3]"));
    assert!(table.bundle().text.contains("L1H2") && table.bundle().png.is_some());
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn some_can_be_chosen() {
    let folder = with_checkpoints("chosen");
    assert_eq!(over(&folder).only([4, 0]).unwrap().measure("bias", bias).unwrap().values(), [0.0, 4.0]);
    assert!(over(&folder).only([5]).unwrap_err().to_string().contains("nearest is 4"));
    assert!(over(&folder).only([]).is_err());
    assert_eq!(over(&folder).spread(3).steps(), [0, 2, 8]);
    assert_eq!(over(&folder).spread(99).steps(), [0, 1, 2, 4, 8]);
    let pythia = OverCheckpoints::of("pythia-160m").unwrap().spread(12);
    assert_eq!((pythia.steps().len(), pythia.steps()[0], pythia.steps()[11]), (12, 0, 143_000));
    assert!(pythia.steps().is_sorted() && pythia.steps()[6] < 1000, "{:?}", pythia.steps());
    assert_eq!(OverCheckpoints::of("stanford-gpt2-small-a").unwrap().steps().len(), 609);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn what_was_measured_is_kept_in_a_file() {
    let folder = with_checkpoints("kept");
    let file = folder.join("biases.json");
    let runs = Cell::new(0);
    let count = |model: &HookedTransformer| {
        runs.set(runs.get() + 1);
        // The last one fails the first time, as an interrupt would.
        match bias(model)? {
            8.0 if runs.get() == 5 => Err(candlescope::Error::Interrupted),
            found => Ok(found),
        }
    };
    let error = over(&folder).cache(&file).measure("bias", count).unwrap_err();
    assert!(matches!(error, candlescope::Error::Interrupted));
    let biases = over(&folder).cache(&file).measure("bias", count).unwrap();
    assert_eq!((biases.values(), runs.get()), (vec![0.0, 1.0, 2.0, 4.0, 8.0], 6));
    over(&folder).cache(&file).measure("bias", count).unwrap();
    assert_eq!(runs.get(), 6, "all was there");

    let error = over(&folder).cache(&file).measure("loss", bias).unwrap_err().to_string();
    assert!(error.contains("'bias'") && error.contains("'loss'"), "{error}");
    let processed = over(&folder).options(&LoadOptions::new()).cache(&file);
    assert!(processed.measure("bias", bias).is_err(), "other weights give other results");
    std::fs::write(&file, "{\"model\": 3").unwrap();
    let error = over(&folder).cache(&file).measure("bias", bias).unwrap_err().to_string();
    assert!(error.contains("biases.json"), "{error}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_measurement_keeps_its_axes() {
    let folder = with_checkpoints("axes");
    let growing = |model: &HookedTransformer| {
        let n = 1 + bias(model)? as usize;
        LabelledTensor::new("x", &Tensor::zeros(n, DType::F32, &Device::Cpu)?, [Axis::numbered("pos", n)])
    };
    let error = over(&folder).measure("x", growing).unwrap_err().to_string();
    assert!(error.contains("other axes"), "{error}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_model_without_checkpoints_says_so() {
    let tiny = HookedTransformer::from_pretrained("tiny").unwrap();
    for error in [tiny.checkpoints().map(drop), tiny.checkpoint(0).map(drop), tiny.over_checkpoints().map(drop)] {
        let error = error.unwrap_err().to_string();
        assert!(error.contains("no training checkpoints"), "{error}");
    }
    let made = HookedTransformer::from_weights(tiny.cfg().clone(), tiny.weights()).unwrap();
    assert!(made.checkpoints().unwrap_err().to_string().contains("not loaded by name"));
}
