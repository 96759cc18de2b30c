//! stub
use std::borrow::Cow; use std::path::PathBuf;
use crate::{Error, Result};
#[derive(Clone, Debug)] pub enum FileData { Path(PathBuf), Bytes { name: &'static str, data: &'static [u8] } }
impl FileData { pub fn read(&self) -> Result<Cow<'static, [u8]>> { match self { Self::Path(p) => Ok(std::fs::read(p).map_err(|e| Error::io(p, e))?.into()), Self::Bytes { data, .. } => Ok(Cow::Borrowed(data)) } } pub fn label(&self) -> String { match self { Self::Path(p) => p.display().to_string(), Self::Bytes { name, .. } => name.to_string() } } }
#[derive(Clone, Debug)] pub struct ModelFiles { pub name: String, pub origin: String, pub config: FileData, pub weights: Vec<FileData>, pub tokenizer: Option<FileData>, pub tokenizer_config: Option<FileData> }
pub fn resolve(name: &str, _: Option<&str>) -> Result<ModelFiles> { let d = PathBuf::from(name); Ok(ModelFiles { name: name.into(), origin: name.into(), config: FileData::Path(d.join("config.json")), weights: vec![FileData::Path(d.join("model.safetensors"))], tokenizer: Some(FileData::Path(d.join("tokenizer.json"))), tokenizer_config: None }) }
