//! stub
use candle_core::{Device, Tensor};
use crate::{Error, Result};
use crate::hub::FileData;
#[derive(Clone, Debug)] pub struct Tokenizer;
#[derive(Clone, Debug)] pub struct Text(Vec<String>);
#[derive(Clone, Debug)] pub struct Tokens { ids: Vec<Vec<u32>>, mask: Option<Vec<Vec<bool>>> }
#[derive(Clone, Debug, Copy)] pub enum PaddingSide { Left, Right }
#[derive(Clone, Debug, Copy)] pub enum Occurrence { First, Last }
#[derive(Clone, Debug, Default)] pub struct TokenOptions { pub prepend_bos: Option<bool>, pub padding_side: Option<PaddingSide>, pub truncate_to: Option<usize> }
impl Tokenizer {
  pub fn gpt2() -> Result<Self> { Ok(Self) }
  pub fn from_files(_: &FileData, _: Option<&FileData>) -> Result<Self> { Ok(Self) }
  pub fn with_default_prepend_bos(self, _: bool) -> Self { self }
  pub fn to_tokens(&self, t: impl Into<Text>) -> Result<Tokens> { let _ = t.into(); Err(Error::EmptyPrompt) }
  pub fn to_tokens_with(&self, t: impl Into<Text>, _: &TokenOptions) -> Result<Tokens> { let _ = t.into(); Err(Error::EmptyPrompt) }
  pub fn to_str_tokens(&self, t: impl Into<Text>) -> Result<Vec<String>> { Ok(t.into().0) }
  pub fn to_single_token(&self, _: &str) -> Result<u32> { Ok(0) }
  pub fn to_single_str_token(&self, _: u32) -> Result<String> { Ok(String::new()) }
  pub fn to_string(&self, _: &[u32]) -> Result<String> { Ok(String::new()) }
  pub fn bos_id(&self) -> Option<u32> { None } pub fn eos_id(&self) -> Option<u32> { None } pub fn pad_id(&self) -> Option<u32> { None }
}
impl Tokens {
  pub fn from_ids(ids: Vec<Vec<u32>>) -> Result<Self> { Ok(Self { ids, mask: None }) }
  pub fn with_tokenizer(self, _: &Tokenizer) -> Self { self }
  pub fn ids(&self) -> &[Vec<u32>] { &self.ids }
  pub fn mask(&self) -> Option<&[Vec<bool>]> { self.mask.as_deref() }
  pub fn shape(&self) -> (usize, usize) { (self.ids.len(), self.ids.first().map_or(0, Vec::len)) }
  pub fn tensor(&self, d: &Device) -> Result<Tensor> { Ok(Tensor::from_vec(self.ids.concat(), self.shape(), d)?) }
  pub fn with_column(&self, c: &[u32]) -> Result<Self> { let mut s = self.clone(); for (r, i) in s.ids.iter_mut().zip(c) { r.push(*i) } Ok(s) }
}
impl From<Vec<u32>> for Tokens { fn from(v: Vec<u32>) -> Self { Self { ids: vec![v], mask: None } } }
impl From<&[u32]> for Tokens { fn from(v: &[u32]) -> Self { Self { ids: vec![v.to_vec()], mask: None } } }
impl From<&str> for Text { fn from(t: &str) -> Self { Text(vec![t.into()]) } }
impl From<String> for Text { fn from(t: String) -> Self { Text(vec![t]) } }
impl From<&String> for Text { fn from(t: &String) -> Self { Text(vec![t.clone()]) } }
impl From<Vec<&str>> for Text { fn from(t: Vec<&str>) -> Self { Text(t.into_iter().map(Into::into).collect()) } }
impl From<Vec<String>> for Text { fn from(t: Vec<String>) -> Self { Text(t) } }
impl From<&[&str]> for Text { fn from(t: &[&str]) -> Self { Text(t.iter().map(|s| s.to_string()).collect()) } }
impl From<&[String]> for Text { fn from(t: &[String]) -> Self { Text(t.to_vec()) } }
impl<const N: usize> From<[&str; N]> for Text { fn from(t: [&str; N]) -> Self { Text(t.iter().map(|s| s.to_string()).collect()) } }
