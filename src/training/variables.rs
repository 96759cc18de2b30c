//! Weights as variables, which the optimizer changes in place.

use std::collections::HashMap;

use candle_core::{DType, Storage, Tensor, Var};

use crate::model::HookedTransformer;
use crate::weights::Weights;
use crate::{Error, Result};

use super::TrainOptions;

/// A model of variables, and the variables that are trained, by name. Weights that are one tensor (a tied embedding) stay
/// one variable, named as the first of them.
pub(super) fn trainable(
    model: &HookedTransformer,
    options: &TrainOptions,
) -> Result<(HookedTransformer, Vec<(String, Var)>)> {
    model.check_held("training")?;
    let stored = model.w_e().dtype();
    if !matches!(stored, DType::F32 | DType::F64) {
        return Err(Error::msg(format!(
            "the model's weights are {stored:?}, too coarse for small steps; load it in f32 to train it"
        )));
    }
    let mut vars = Vec::new();
    let weights = copied(&model.weights(), |name, tensor| {
        if !options.trains(name) {
            return Ok(tensor.detach());
        }
        let var = Var::from_tensor(&tensor.detach())?;
        vars.push((name.to_string(), var.clone()));
        Ok(var.as_tensor().clone())
    })?;
    if vars.is_empty() {
        return Err(Error::msg("no weight is chosen for training; model.named_parameters() lists their names"));
    }
    let model = model.with_weights(weights)?;
    // A copy made while the model was put together would not follow the variable.
    let reached: Vec<_> = model.named_parameters().iter().map(|(_, tensor)| storage(tensor)).collect();
    match vars.iter().find(|(_, var)| !reached.contains(&storage(var))) {
        Some((name, _)) => Err(Error::msg(format!(
            "'{name}' can't be trained here: this kind of model makes a copy of it when it is put together; leave it out \
             with TrainOptions::only(..)"
        ))),
        None => Ok((model, vars)),
    }
}

/// The same model with weights of its own, which no training changes.
pub(super) fn frozen(model: &HookedTransformer) -> Result<HookedTransformer> {
    model.with_weights(copied(&model.weights(), |_, tensor| Ok(tensor.detach().force_contiguous()?))?)
}

/// Each tensor replaced by a contiguous one that `make` gives, seen through the same axes. Tensors that share their memory
/// share it afterwards, too.
fn copied(weights: &Weights, mut make: impl FnMut(&str, &Tensor) -> Result<Tensor>) -> Result<Weights> {
    let mut made: HashMap<(*const Storage, usize, Vec<usize>), Tensor> = HashMap::new();
    weights.map_named(|name, tensor| {
        let (order, back) = by_stride(tensor);
        let base = tensor.permute(order)?;
        let key = (storage(&base), base.layout().start_offset(), base.dims().to_vec());
        let new = match made.get(&key).filter(|_| base.is_contiguous()) {
            Some(new) => new.clone(),
            None => {
                let new = make(name, &base.contiguous()?)?;
                made.insert(key, new.clone());
                new
            }
        };
        Ok(new.permute(back)?)
    })
}

/// The order of the axes in memory, and the way back.
fn by_stride(tensor: &Tensor) -> (Vec<usize>, Vec<usize>) {
    let mut order: Vec<usize> = (0..tensor.rank()).collect();
    order.sort_by_key(|&axis| std::cmp::Reverse(tensor.stride()[axis]));
    let mut back = vec![0; order.len()];
    order.iter().enumerate().for_each(|(place, &axis)| back[axis] = place);
    (order, back)
}

/// Where a tensor's numbers are. To be compared only while the tensor lives.
fn storage(tensor: &Tensor) -> *const Storage {
    let (storage, _) = tensor.storage_and_layout();
    &raw const *storage
}
