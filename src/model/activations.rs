//! stub
use candle_core::Tensor; use crate::{Error, Result};
#[derive(Clone, Copy, Debug, PartialEq, Eq)] pub enum Activation { Gelu, GeluNew, Relu, Silu }
impl Activation { pub fn parse(n: &str) -> Result<Self> { Ok(match n { "gelu" => Self::Gelu, "gelu_new" => Self::GeluNew, "relu" => Self::Relu, "silu" => Self::Silu, o => return Err(Error::msg(format!("unknown activation '{o}'"))) }) }
pub fn forward(&self, x: &Tensor) -> Result<Tensor> { Ok(match self { Self::Gelu => x.gelu_erf()?, Self::GeluNew => x.gelu()?, Self::Relu => x.relu()?, Self::Silu => x.silu()? }) } }
