//! The weights of a mixture of experts, and the ways in which files store them.

use candle_core::Tensor;

use super::parts::parts;
use super::{MlpWeights, WeightSource};
use crate::model::Experts;
use crate::{Error, Result};

/// The weights of one layer's experts, those of all experts in one tensor: X experts of width M.
#[derive(Clone, Debug)]
pub struct ExpertsWeights {
    /// The router, `[d_model, X]`.
    pub w_router: Tensor,
    /// Router bias, `[X]`.
    pub b_router: Option<Tensor>,
    /// What is added to an expert's score for the choice alone, `[X]`.
    pub correction: Option<Tensor>,
    /// The gated branches, `[X, d_model, M]`.
    pub w_gate: Tensor,
    /// Their biases, `[X, M]`.
    pub b_gate: Option<Tensor>,
    /// The linear branches, `[X, d_model, M]`.
    pub w_in: Tensor,
    /// Their biases, `[X, M]`.
    pub b_in: Option<Tensor>,
    /// Out of the hidden layers, `[X, M, d_model]`.
    pub w_out: Tensor,
    /// Output biases, `[X, d_model]`.
    pub b_out: Option<Tensor>,
    /// An expert that every token goes to.
    pub shared: Option<MlpWeights>,
    /// A sigmoid gate on the shared expert, `[d_model, 1]`.
    pub w_shared_gate: Option<Tensor>,
    /// That gate's bias, `[1]`.
    pub b_shared_gate: Option<Tensor>,
}

parts!(ExpertsWeights {
    w_router => "W_router", b_router => "b_router", correction => "e_score_correction_bias",
    w_gate => "experts.W_gate", b_gate => "experts.b_gate", w_in => "experts.W_in", b_in => "experts.b_in",
    w_out => "experts.W_out", b_out => "experts.b_out", shared => "shared_expert",
    w_shared_gate => "shared_expert_gate.W", b_shared_gate => "shared_expert_gate.b",
});

/// The tensor names of one expert's gate, linear and output maps.
pub(crate) type ExpertNames = [&'static str; 3];

/// As Llama names an MLP's maps.
pub(crate) const PROJ: ExpertNames = ["gate_proj", "up_proj", "down_proj"];
/// As Mixtral names them.
pub(crate) const W123: ExpertNames = ["w1", "w3", "w2"];

impl ExpertsWeights {
    /// The experts under `module` (such as `layers.0.mlp`): each by itself, or all in `experts.gate_up_proj`
    /// `[X, 2M, d_model]` and `experts.down_proj` `[X, d_model, M]`. `router` is the router's name in `module`.
    pub(crate) fn load(
        source: &WeightSource,
        module: &str,
        router: &str,
        names: ExpertNames,
        d_model: usize,
        experts: &Experts,
    ) -> Result<Self> {
        let all = format!("{module}.experts");
        if source.has(&format!("{all}.gate_up_proj")) {
            let tensors = [format!("{all}.gate_up_proj"), format!("{all}.down_proj")];
            return Self::load_fused(source, &format!("{module}.{router}"), &tensors, d_model, experts);
        }
        let (x, m) = (experts.n_experts, experts.d_expert);
        // Stored [out, in] as torch's `Linear` does. Stacked first and turned after: no copy of each.
        let each = |name: &str, shape: [usize; 2]| -> Result<(Tensor, Option<Tensor>)> {
            let tensor = |e: usize| source.tensor(&format!("{all}.{e}.{name}.weight"), &shape);
            let w = Tensor::stack(&(0..x).map(tensor).collect::<Result<Vec<_>>>()?, 0)?.transpose(1, 2)?;
            let bias = |e: usize| source.tensor(&format!("{all}.{e}.{name}.bias"), &shape[..1]);
            let b = if source.has(&format!("{all}.0.{name}.bias")) {
                Some(Tensor::stack(&(0..x).map(bias).collect::<Result<Vec<_>>>()?, 0)?)
            } else {
                None
            };
            Ok((w, b))
        };
        let [gate, up, down] = names;
        let maps = [each(gate, [m, d_model])?, each(up, [m, d_model])?, each(down, [d_model, m])?];
        Self::from_maps(source, &format!("{module}.{router}"), maps, d_model, x)
    }

    /// The experts in two tensors: gates above linear branches `[X, 2M, d_model]`, and outputs `[X, d_model, M]`.
    pub(crate) fn load_fused(
        source: &WeightSource,
        router: &str,
        [gate_up, down]: &[String; 2],
        d_model: usize,
        experts: &Experts,
    ) -> Result<Self> {
        let (x, m) = (experts.n_experts, experts.d_expert);
        let gate_up = source.tensor(gate_up, &[x, 2 * m, d_model])?;
        let half = |start: usize| -> Result<Tensor> { Ok(gate_up.narrow(1, start, m)?.transpose(1, 2)?) };
        let w_out = source.tensor(down, &[x, d_model, m])?.transpose(1, 2)?;
        Self::from_maps(source, router, [(half(0)?, None), (half(m)?, None), (w_out, None)], d_model, x)
    }

    /// GPT-OSS' layout under `module`: gate and linear branch in alternate columns of `gate_up_proj` `[X, d_model, 2M]`,
    /// `down_proj` `[X, M, d_model]`, both with biases; or the same as MXFP4, in `.._blocks` and `.._scales`.
    pub(crate) fn load_interleaved(
        source: &WeightSource,
        module: &str,
        router: &str,
        d_model: usize,
        experts: &Experts,
    ) -> Result<Self> {
        let (x, m) = (experts.n_experts, experts.d_expert);
        let name = |tail: &str| format!("{module}.experts.{tail}");
        let matrix = |tail: &str, d_in: usize, d_out: usize| -> Result<Tensor> {
            if source.has(&name(&format!("{tail}_blocks"))) {
                mxfp4(source, &name(tail), [x, d_out, d_in])
            } else {
                source.tensor(&name(tail), &[x, d_in, d_out])
            }
        };
        let gate_up = matrix("gate_up_proj", d_model, 2 * m)?.reshape((x, d_model, m, 2))?;
        let bias = source.tensor(&name("gate_up_proj_bias"), &[x, 2 * m])?.reshape((x, m, 2))?;
        let alternate = |start: usize| -> Result<(Tensor, Option<Tensor>)> {
            let w = gate_up.narrow(3, start, 1)?.squeeze(3)?.contiguous()?;
            Ok((w, Some(bias.narrow(2, start, 1)?.squeeze(2)?.contiguous()?)))
        };
        let down = matrix("down_proj", m, d_model)?;
        let b_down = source.tensor(&name("down_proj_bias"), &[x, d_model])?;
        let maps = [alternate(0)?, alternate(1)?, (down, Some(b_down))];
        Self::from_maps(source, &format!("{module}.{router}"), maps, d_model, x)
    }

    /// The same with a shared expert.
    pub(crate) fn with_shared(self, shared: MlpWeights) -> Self {
        Self { shared: Some(shared), ..self }
    }

    /// The maps that read the normalised stream, `[.., d_model, out]`, with their biases `[.., out]`.
    pub(super) fn readers(&mut self) -> Vec<(&mut Tensor, &mut Option<Tensor>)> {
        let mut readers = vec![
            (&mut self.w_router, &mut self.b_router),
            (&mut self.w_gate, &mut self.b_gate),
            (&mut self.w_in, &mut self.b_in),
        ];
        if let Some(shared) = &mut self.shared {
            readers.push((&mut shared.w_in, &mut shared.b_in));
            if let Some(w_gate) = &mut shared.w_gate {
                readers.push((w_gate, &mut shared.b_gate));
            }
        }
        if let Some(w_gate) = &mut self.w_shared_gate {
            readers.push((w_gate, &mut self.b_shared_gate));
        }
        readers
    }

    /// The maps that write to the residual stream, `[.., d_model]`, with their biases.
    pub(super) fn writers(&mut self) -> Vec<(&mut Tensor, &mut Option<Tensor>)> {
        let mut writers = vec![(&mut self.w_out, &mut self.b_out)];
        if let Some(shared) = &mut self.shared {
            writers.push((&mut shared.w_out, &mut shared.b_out));
        }
        writers
    }

    fn from_maps(
        source: &WeightSource,
        router: &str,
        [gate, up, down]: [(Tensor, Option<Tensor>); 3],
        d_model: usize,
        n_experts: usize,
    ) -> Result<Self> {
        let router_map = source.linear(router, d_model, n_experts)?;
        Ok(Self {
            w_router: router_map.w,
            b_router: router_map.b,
            correction: source.optional(&format!("{router}.e_score_correction_bias"), &[n_experts])?,
            w_gate: gate.0,
            b_gate: gate.1,
            w_in: up.0,
            b_in: up.1,
            w_out: down.0,
            b_out: down.1,
            shared: None,
            w_shared_gate: None,
            b_shared_gate: None,
        })
    }
}

/// The values of 4-bit floats (sign, two bits of exponent, one of mantissa): OCP's E2M1.
const FP4: [f32; 16] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// Numbers that share a scale in MXFP4.
const MX_BLOCK: usize = 32;

/// An MXFP4 tensor (OCP Microscaling formats 1.0) of `[experts, out, in]`, as `[experts, in, out]`: `name_blocks`
/// `[experts, out, in / 32, 16]` with two numbers in a byte, the low four bits first, and `name_scales`
/// `[experts, out, in / 32]`, powers of two with an offset of 127.
fn mxfp4(source: &WeightSource, name: &str, [experts, d_out, d_in]: [usize; 3]) -> Result<Tensor> {
    if !d_in.is_multiple_of(MX_BLOCK) {
        return Err(Error::msg(format!(
            "the tensor '{name}' is MXFP4, in blocks of {MX_BLOCK}, and its rows have {d_in} numbers by config.json"
        )));
    }
    let groups = d_in / MX_BLOCK;
    let blocks = source.codes(&format!("{name}_blocks"), &[experts, d_out, groups, MX_BLOCK / 2])?;
    let scales = source.codes(&format!("{name}_scales"), &[experts, d_out, groups])?;
    let (dtype, device) = source.target();
    let bytes = |t: &Tensor| -> Result<Vec<u8>> { Ok(t.flatten_all()?.to_vec1()?) };
    let expert = |e: usize| -> Result<Tensor> {
        let values = mxfp4_values(&bytes(&blocks.get(e)?)?, &bytes(&scales.get(e)?)?);
        Ok(Tensor::from_vec(values, (d_out, d_in), device)?.to_dtype(dtype)?)
    };
    Ok(Tensor::stack(&(0..experts).map(expert).collect::<Result<Vec<_>>>()?, 0)?.transpose(1, 2)?)
}

fn mxfp4_values(blocks: &[u8], scales: &[u8]) -> Vec<f32> {
    let mut values = Vec::with_capacity(blocks.len() * 2);
    for (block, &scale) in blocks.chunks(MX_BLOCK / 2).zip(scales) {
        let scale = (f32::from(scale) - 127.0).exp2();
        let halves = block.iter().flat_map(|byte| [byte & 15, byte >> 4]);
        values.extend(halves.map(|code| FP4[usize::from(code)] * scale));
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mxfp4_values_are_those_of_the_formula() {
        // (-1)^sign · 2^(exponent - 1) · (1 + mantissa / 2), or mantissa / 2 where the exponent is 0.
        let formula = |code: u8| {
            let (sign, exponent, mantissa) = (code >> 3, (code >> 1) & 3, f32::from(code & 1));
            let size = match exponent {
                0 => mantissa / 2.0,
                e => 2f32.powi(i32::from(e) - 1) * (1.0 + mantissa / 2.0),
            };
            if sign == 1 { -size } else { size }
        };
        // Every code in both halves of a byte, in three blocks of different scales.
        let blocks: Vec<u8> = (0..48u32).map(|i| ((i * 7 + 3) % 16 + 16 * ((i * 11 + 5) % 16)) as u8).collect();
        let scales = [127u8, 120, 131];
        let values = mxfp4_values(&blocks, &scales);
        assert_eq!(values.len(), 96);
        for (i, found) in values.iter().enumerate() {
            let byte = blocks[i / 2];
            let code = if i % 2 == 0 { byte & 15 } else { byte >> 4 };
            let wanted = formula(code) * 2f32.powi(i32::from(scales[i / 32]) - 127);
            assert_eq!(*found, wanted, "number {i}");
        }
    }
}
