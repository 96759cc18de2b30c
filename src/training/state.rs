//! A training's state in a file: variables, moments and curve, so that it goes on as if it had never stopped.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use super::{Trainer, TrainingCurve};
use crate::whole_file::write_whole;
use crate::{Error, Result};

/// How the tensors of a state are called: what they are, and the weight's name.
const KINDS: [&str; 3] = ["weight", "first", "second"];
const LOSSES: &str = "losses";
const RATES: &str = "rates";

/// Writes the state to a safetensors file, whole or not at all.
pub(super) fn save(trainer: &Trainer, path: &Path) -> Result<()> {
    let mut tensors: HashMap<String, Tensor> = HashMap::new();
    for (i, (name, var)) in trainer.vars.iter().enumerate() {
        let moments = [&trainer.optimizer.first[i], &trainer.optimizer.second[i]];
        for (kind, tensor) in KINDS.iter().zip([var.as_tensor(), moments[0], moments[1]]) {
            tensors.insert(format!("{kind}:{name}"), tensor.to_device(&Device::Cpu)?);
        }
    }
    let curve = &trainer.curve;
    tensors.insert(LOSSES.to_string(), Tensor::new(curve.losses(), &Device::Cpu)?);
    tensors.insert(RATES.to_string(), Tensor::new(curve.rates(), &Device::Cpu)?);
    write_whole(path, |path| Ok(candle_core::safetensors::save(&tensors, path)?))
}

/// Reads it back into a trainer of the same model.
pub(super) fn load(trainer: &mut Trainer, path: &Path) -> Result<()> {
    if !path.is_file() {
        let hint = "Trainer::save_state writes one".to_string();
        return Err(Error::MissingFile { what: "the training's state".to_string(), path: path.to_path_buf(), hint });
    }
    let bad = |why: String| Error::BadFile { what: "a training's state".to_string(), path: path.to_path_buf(), why };
    let file = candle_core::safetensors::load(path, &Device::Cpu).map_err(|error| bad(error.to_string()))?;
    let get = |name: &str, like: Option<&Tensor>| -> Result<Tensor> {
        let found = file.get(name).ok_or_else(|| bad(format!("it lacks '{name}'; is it of another model?")))?;
        match like {
            Some(like) if like.dims() != found.dims() || like.dtype() != found.dtype() => Err(bad(format!(
                "'{name}' has shape {:?} ({:?}), and the model's weight {:?} ({:?})",
                found.dims(),
                found.dtype(),
                like.dims(),
                like.dtype()
            ))),
            Some(like) => Ok(found.to_device(like.device())?),
            None => Ok(found.clone()),
        }
    };
    let curve = TrainingCurve::from_parts(
        get(LOSSES, None)?.to_dtype(DType::F32)?.to_vec1()?,
        get(RATES, None)?.to_dtype(DType::F64)?.to_vec1()?,
    );
    if curve.losses().len() != curve.rates().len() {
        return Err(bad("it has another number of losses than of rates".to_string()));
    }
    // All is read before anything is changed.
    let mut read = Vec::new();
    for (name, var) in &trainer.vars {
        let [weight, first, second] = KINDS.map(|kind| get(&format!("{kind}:{name}"), Some(var.as_tensor())));
        read.push((weight?, first?, second?));
    }
    for (i, (weight, first, second)) in read.into_iter().enumerate() {
        trainer.vars[i].1.set(&weight)?;
        (trainer.optimizer.first[i], trainer.optimizer.second[i]) = (first, second);
    }
    trainer.curve = curve;
    Ok(())
}
