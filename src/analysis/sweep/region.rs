//! Which part of an activation an intervention is about: some places on each of some axes.

use candle_core::Tensor;

use crate::Result;
use crate::hooks::PointInfo;

/// Some places, in ascending order, on each of some axes, `(axis, places)`; all of the other axes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Region(pub(crate) Vec<(usize, Vec<usize>)>);

impl Region {
    /// The part of a tensor; the axes stay, as long as there are places.
    pub(crate) fn of(&self, tensor: &Tensor) -> Result<Tensor> {
        self.0.iter().try_fold(tensor.clone(), |tensor, (axis, places)| take(&tensor, *axis, places))
    }

    /// The tensor with another part put in.
    pub(crate) fn put(&self, tensor: &Tensor, part: &Tensor) -> Result<Tensor> {
        put(tensor, &self.0, part)
    }
}

fn take(tensor: &Tensor, axis: usize, places: &[usize]) -> Result<Tensor> {
    Ok(match places {
        &[place] => tensor.narrow(axis, place, 1)?,
        _ => {
            let places: Vec<u32> = places.iter().map(|&place| place as u32).collect();
            tensor.contiguous()?.index_select(&Tensor::new(places, tensor.device())?, axis)?
        }
    })
}

fn put(tensor: &Tensor, region: &[(usize, Vec<usize>)], part: &Tensor) -> Result<Tensor> {
    let Some(((axis, places), rest)) = region.split_first() else { return Ok(part.clone()) };
    let inner = put(&take(tensor, *axis, places)?, rest, part)?;
    let mut parts = Vec::with_capacity(2 * places.len() + 1);
    let mut done = 0;
    for (i, &place) in places.iter().enumerate() {
        if place > done {
            parts.push(tensor.narrow(*axis, done, place - done)?);
        }
        parts.push(inner.narrow(*axis, i, 1)?);
        done = place + 1;
    }
    let len = tensor.dim(*axis)?;
    if done < len {
        parts.push(tensor.narrow(*axis, done, len - done)?);
    }
    Ok(Tensor::cat(&parts, *axis)?)
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
        let regions = [
            vec![],
            vec![(1, vec![0])],
            vec![(1, vec![2]), (2, vec![0, 1, 3])],
            vec![(2, vec![1, 3]), (0, vec![1]), (1, vec![0, 2])],
        ];
        for region in regions.map(Region) {
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
