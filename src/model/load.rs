//! From a name to a model.

use candle_core::{DType, Device};

use super::{HookedTransformer, ModelConfig};
use crate::families;
use crate::formats::{Format, gguf::Gguf};
use crate::hub::{self, CheckpointChoice, HubSettings, ModelFiles, Version};
use crate::tokens::Tokenizer;
use crate::weights::{Processing, WeightSource, gguf_config_json};
use crate::{Error, Progress, Result};

/// How a model is loaded.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Weight processing; all of TransformerLens' steps by default.
    pub processing: Processing,
    /// The type of weights and activations; float32 by default.
    pub dtype: DType,
    /// Where the weights go; the CPU by default.
    pub device: Device,
    /// A branch, tag or commit of a hub repository.
    pub revision: Option<String>,
    /// The folder in the repository that the model lies in.
    pub subfolder: Option<String>,
    /// A training checkpoint.
    pub checkpoint: Option<CheckpointChoice>,
    /// Whether layers stay in their files, and are read while the model runs.
    pub stream: bool,
    /// Overrides the family's default.
    pub default_prepend_bos: Option<bool>,
    /// Who hears how far downloads and loading are.
    pub progress: Progress,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            processing: Processing::default(),
            dtype: DType::F32,
            device: Device::Cpu,
            revision: None,
            subfolder: None,
            checkpoint: None,
            stream: false,
            default_prepend_bos: None,
            progress: Progress::default(),
        }
    }
}

impl LoadOptions {
    /// Processed float32 weights on the CPU.
    pub fn new() -> Self {
        Self::default()
    }

    /// Weights as the file has them.
    pub fn raw(mut self) -> Self {
        self.processing = Processing::none();
        self
    }

    /// Exactly these processing steps.
    pub fn processing(mut self, processing: Processing) -> Self {
        self.processing = processing;
        self
    }

    /// Another type of weights and activations. On the CPU, weights of half the width (bf16, f16) stay so in memory, and what
    /// is computed with them is float32.
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }

    /// Leaves the layers in their files. A run reads each when it comes to it, and the next one while it computes, so that a
    /// model larger than memory runs, hooks, caches and all, as fast as the disk gives its weights. With
    /// [`dtype`](Self::dtype) that of the files (often `DType::BF16`) two layers are in memory at once as they are stored;
    /// in float32 they are widened. GGUF layers are dequantised one by one, and so take the memory of the file's few bits
    /// only.
    ///
    /// What needs the weights of all layers in memory (training, edges of attribution, circuits over layers) says so.
    pub fn stream(mut self, stream: bool) -> Self {
        self.stream = stream;
        self
    }

    /// Another device.
    pub fn device(mut self, device: &Device) -> Self {
        self.device = device.clone();
        self
    }

    /// A branch, tag or commit of a hub repository.
    pub fn revision(mut self, revision: impl Into<String>) -> Self {
        self.revision = Some(revision.into());
        self
    }

    /// The folder in the repository, or in the local folder, that the model lies in.
    pub fn subfolder(mut self, folder: impl Into<String>) -> Self {
        self.subfolder = Some(folder.into());
        self
    }

    /// A training checkpoint by its position among [`checkpoint_labels`](crate::hub::checkpoint_labels); negative ones
    /// count from the end.
    pub fn checkpoint_index(mut self, index: i64) -> Self {
        self.checkpoint = Some(CheckpointChoice::Index(index));
        self
    }

    /// A training checkpoint by its label: the number of steps or tokens.
    pub fn checkpoint_value(mut self, value: u64) -> Self {
        self.checkpoint = Some(CheckpointChoice::Value(value));
        self
    }

    /// The revision, subfolder and checkpoint.
    fn version(&self) -> Version {
        let (revision, subfolder) = (self.revision.clone(), self.subfolder.clone());
        Version { revision, subfolder, checkpoint: self.checkpoint }
    }

    /// Whether texts get the beginning-of-sequence token by default, instead of what the family does.
    pub fn default_prepend_bos(mut self, prepend: bool) -> Self {
        self.default_prepend_bos = Some(prepend);
        self
    }

    /// Tells how far downloads and loading are.
    pub fn progress(mut self, progress: &Progress) -> Self {
        self.progress = progress.clone();
        self
    }
}

impl HookedTransformer {
    /// Loads a model with processed weights: a bundled model's name, a local folder or file, or a name on the Hugging
    /// Face hub.
    ///
    /// A folder needs `config.json`, weights, and `tokenizer.json` for texts. The weights are `model.safetensors`, or
    /// else `pytorch_model.bin` (both whole, or in shards with their index), or else a `.pth` or `.pt` file (of several
    /// the one that ends in `final`), or else one `.gguf` file, which holds configuration and tokenizer itself. A path
    /// straight to such a file means that one. The hub's cache is used where it has the files; `HF_HOME`, `HF_TOKEN`
    /// and `HF_HUB_OFFLINE` are honoured.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// println!("loss {:.3}", model.loss("John gave a book to Mary.")?);
    /// # Ok::<(), candlescope::Error>(())
    /// ```
    pub fn from_pretrained(name: &str) -> Result<Self> {
        Self::from_pretrained_with(name, &LoadOptions::default())
    }

    /// As [`from_pretrained`](Self::from_pretrained), with the weights as the file has them.
    pub fn from_pretrained_no_processing(name: &str) -> Result<Self> {
        Self::from_pretrained_with(name, &LoadOptions::new().raw())
    }

    /// As [`from_pretrained`](Self::from_pretrained), with options.
    pub fn from_pretrained_with(name: &str, options: &LoadOptions) -> Result<Self> {
        let settings = HubSettings { progress: options.progress.clone(), ..HubSettings::from_env()? };
        let files = hub::resolve_version_with(name, &options.version(), &settings)?;
        Ok(Self::from_files(&files, options)?.loaded_as(name, options))
    }

    /// A model from its files.
    pub fn from_files(files: &ModelFiles, options: &LoadOptions) -> Result<Self> {
        let json = families::ConfigJson::parse(&config(files)?, &files.config.label())?;
        let wraps = json.value("text_config").is_some();
        let json = families::language_model(json)?;
        let family = families::find(&json)?;
        let mut cfg = (family.config)(&json)?;
        cfg.model_name = files.name.clone();
        cfg.checkpoint = files.checkpoint;
        if let Some(prepend_bos) = options.default_prepend_bos {
            cfg.default_prepend_bos = prepend_bos;
        }
        let source =
            WeightSource::open_as(&files.weights, &files.origin, options.dtype, &options.device, options.stream)?
                .with_progress(&options.progress, &files.name);
        let source = if wraps { families::language_model_source(source) } else { source };
        let (weights, tokenizer) = std::thread::scope(|scope| {
            let tokenizer = scope.spawn(|| tokenizer(files, &cfg));
            let weights = (family.weights)(&cfg, &source);
            let panicked = |_| Err(Error::msg("the thread that read the tokenizer panicked"));
            (weights, tokenizer.join().unwrap_or_else(panicked))
        });
        let weights = weights?;
        let model = match (options.stream, source.take_blocks()) {
            (false, _) => {
                source.finish()?;
                let weights = options.processing.apply(weights, &cfg)?;
                Self::from_weights(cfg, weights)?
            }
            (true, Some(reader)) => {
                let steps = options.processing.steps(&weights, &cfg);
                let model = Self::streamed(cfg, weights, reader, steps)?;
                source.finish()?;
                model
            }
            (true, None) => {
                return Err(Error::msg(format!(
                    "the layers of a model of type {} can't be read one by one; load it without stream(true)",
                    cfg.model_type
                )));
            }
        };
        match tokenizer {
            Ok(tokenizer) => Ok(model.with_tokenizer(tokenizer)),
            Err(Error::NoTokenizer { why }) => Ok(model.without_tokenizer_because(why)),
            Err(error) => Err(error),
        }
    }
}

/// The bytes of config.json, which a GGUF file holds in its own way.
fn config(files: &ModelFiles) -> Result<Vec<u8>> {
    if Format::of_file(&files.config)? == Format::Gguf {
        let json = gguf_config_json(&Gguf::open(&files.config)?)?;
        return Ok(json.to_string().into_bytes());
    }
    Ok(files.config.read()?.into_owned())
}

/// The files' tokenizer, or GPT-2's own where the model is a GPT-2, or asks for that tokenizer, and came without one.
fn tokenizer(files: &ModelFiles, cfg: &ModelConfig) -> Result<Tokenizer> {
    match &files.tokenizer {
        Some(tokenizer) => {
            let tokenizer = Tokenizer::from_files(tokenizer, files.tokenizer_config.clone())?;
            Ok(match &files.chat_template {
                Some(template) => tokenizer.with_chat_template(template.read_text()?),
                None => tokenizer,
            })
        }
        None if cfg.model_type == "gpt2" && cfg.d_vocab == 50257 => Tokenizer::gpt2(),
        None if cfg.tokenizer_name.as_deref() == Some("gpt2") => Tokenizer::gpt2(),
        None if cfg.tokenizer_name.is_some() => Err(Error::NoTokenizer {
            why: format!(
                "there is no tokenizer.json in {}; the model uses that of {}",
                files.origin,
                cfg.tokenizer_name.as_deref().unwrap_or_default()
            ),
        }),
        None => Err(Error::NoTokenizer { why: format!("there is no tokenizer.json in {}", files.origin) }),
    }
}
