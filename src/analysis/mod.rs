//! stub
use candle_core::Tensor; use crate::Result;
#[derive(Clone, Debug)] pub struct FactoredMatrix { pub a: Tensor, pub b: Tensor }
impl FactoredMatrix { pub fn new(a: Tensor, b: Tensor) -> Result<Self> { Ok(Self { a, b }) } }
