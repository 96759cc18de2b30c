//! Which part of an activation an intervention is about: one place on each of some axes.

use candle_core::Tensor;

use crate::Result;
use crate::hooks::PointInfo;

/// One place on each of some axes, `(axis, place)`; all of the other axes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Region(pub(super) Vec<(usize, usize)>);

impl Region {
    /// The part of a tensor; the axes stay, with length 1.
    pub(super) fn of(&self, tensor: &Tensor) -> Result<Tensor> {
        let narrow = |tensor: Tensor, &(axis, place): &(usize, usize)| tensor.narrow(axis, place, 1);
        Ok(self.0.iter().try_fold(tensor.clone(), narrow)?)
    }

    /// The tensor with another part put in.
    pub(super) fn put(&self, tensor: &Tensor, part: &Tensor) -> Result<Tensor> {
        put(tensor, &self.0, part)
    }
}

fn put(tensor: &Tensor, places: &[(usize, usize)], part: &Tensor) -> Result<Tensor> {
    let Some((&(axis, place), rest)) = places.split_first() else { return Ok(part.clone()) };
    let inner = put(&tensor.narrow(axis, place, 1)?, rest, part)?;
    let behind = tensor.dim(axis)? - place - 1;
    let mut parts = Vec::with_capacity(3);
    if place > 0 {
        parts.push(tensor.narrow(axis, 0, place)?);
    }
    parts.push(inner);
    if behind > 0 {
        parts.push(tensor.narrow(axis, place + 1, behind)?);
    }
    Ok(Tensor::cat(&parts, axis)?)
}

/// The names of an activation's axes, as in `[batch, pos, head, d_head]`.
pub(crate) fn axes_of(info: &PointInfo) -> Vec<&'static str> {
    info.shape.trim_matches(['[', ']']).split(", ").collect()
}

/// Which axis of an activation a name means. The same thing has several names: a key head is a head where the question is
/// which head, a query is a position, and what the MLP has are neurons.
pub(crate) fn find_axis(axes: &[&str], name: &str) -> Option<usize> {
    let also: &[&str] = match name {
        "pos" => &["query"],
        "head" => &["kv_head"],
        "dest" => &["query"],
        "src" => &["key"],
        "neuron" => &["d_mlp"],
        _ => &[],
    };
    let position = |wanted: &str| axes.iter().position(|axis| *axis == wanted);
    position(name).or_else(|| also.iter().find_map(|other| position(other)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Shape};

    fn counted(shape: impl Into<Shape>) -> Tensor {
        let shape = shape.into();
        Tensor::arange(0f32, shape.elem_count() as f32, &Device::Cpu).unwrap().reshape(shape).unwrap()
    }

    #[test]
    fn a_part_is_put_where_it_was_taken() {
        let tensor = counted((2, 3, 4));
        for region in [vec![], vec![(1, 0)], vec![(1, 2), (2, 1)], vec![(2, 3), (0, 1), (1, 1)]].map(Region) {
            let part = region.of(&tensor).unwrap();
            let same = region.put(&tensor, &part).unwrap();
            assert_eq!(same.flatten_all().unwrap().to_vec1::<f32>().unwrap(), counted(24).to_vec1::<f32>().unwrap());
            let gone = region.put(&tensor, &(&part * 0.0).unwrap()).unwrap();
            let difference = (&tensor - gone).unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
            assert_eq!(difference, part.sum_all().unwrap().to_scalar::<f32>().unwrap());
        }
    }

    #[test]
    fn an_axis_has_several_names() {
        let pattern = ["batch", "head", "query", "key"];
        assert_eq!(
            ["pos", "dest", "src", "head", "layer"].map(|name| find_axis(&pattern, name)),
            [Some(2), Some(2), Some(3), Some(1), None]
        );
        assert_eq!(find_axis(&["batch", "pos", "kv_head", "d_head"], "head"), Some(2));
    }
}
