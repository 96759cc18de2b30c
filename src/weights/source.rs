//! Tensors by the names that Hugging Face's code has for them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Tensor};

use super::files::{self, TensorFile, TensorMeta};
use super::later::{BlockReader, ReadBlock};
use super::{BlockWeights, compute_dtype, leftovers};
use crate::error::near_misses;
use crate::hub::FileData;
use crate::model::ModelConfig;
use crate::progress::Meter;
use crate::{Error, Progress, Result, interrupt};

/// The tensors of a model's files, read as they are asked for, checked, and cast to one type. Cheap to clone; clones
/// read the same files, and know of each other's reading.
#[derive(Clone)]
pub struct WeightSource {
    shared: Arc<Shared>,
    prefix: String,
}

struct Shared {
    files: Vec<Box<dyn TensorFile>>,
    /// Every tensor by name, and which file has it.
    tensors: BTreeMap<String, (usize, TensorMeta)>,
    /// The names that were read.
    read: Mutex<BTreeSet<String>>,
    /// The prefixes of what a family leaves on purpose.
    ignored: Mutex<Vec<String>>,
    origin: String,
    dtype: DType,
    device: Device,
    /// Where blocks are to be read later, how; none where they are read at once.
    later: Option<Mutex<Option<BlockReader>>>,
    /// How many are read; nobody listens unless asked to.
    meter: Mutex<Meter>,
}

/// A linear layer: y = x w + b.
#[derive(Clone, Debug)]
pub struct Linear {
    /// `[in, out]`.
    pub w: Tensor,
    /// `[out]`.
    pub b: Option<Tensor>,
}

impl Linear {
    /// Layers that were fused into this one. Its outputs are `groups` runs of the same make, one after another, and each
    /// run holds an equal share of every layer, in order; `widths` are the layers' own outputs.
    pub(crate) fn split<const N: usize>(&self, groups: usize, widths: [usize; N]) -> Result<[Linear; N]> {
        let (d_in, d_out) = self.w.dims2()?;
        let fits =
            groups > 0 && widths.iter().all(|width| width % groups == 0) && widths.iter().sum::<usize>() == d_out;
        if !fits {
            return Err(Error::msg(format!("{d_out} fused outputs are not {groups} equal runs of {widths:?}")));
        }
        let w = self.w.reshape((d_in, groups, d_out / groups))?;
        let b = self.b.as_ref().map(|b| b.reshape((groups, d_out / groups))).transpose()?;
        let mut start = 0;
        let mut next = |width: usize| -> Result<Linear> {
            let share = width / groups;
            let w = w.narrow(2, start, share)?.reshape((d_in, width))?;
            let b = b.as_ref().map(|b| b.narrow(1, start, share)?.reshape(width)).transpose()?;
            start += share;
            Ok(Linear { w, b })
        };
        let mut parts = Vec::with_capacity(N);
        for width in widths {
            parts.push(next(width)?);
        }
        parts.try_into().map_err(|_| Error::msg("as many parts as widths"))
    }
}

impl WeightSource {
    /// Opens a model's weights: safetensors, PyTorch's checkpoints or GGUF, told apart by their first bytes.
    ///
    /// # Errors
    /// A file that is not what it should be, or two files that have a tensor of one name.
    pub fn open(files: &[FileData], origin: &str, dtype: DType, device: &Device) -> Result<Self> {
        Self::open_as(files, origin, dtype, device, false)
    }

    /// The same; with `later`, blocks are not read by [`blocks`](Self::blocks), but by what [`take_blocks`](Self::take_blocks)
    /// gives.
    pub(crate) fn open_as(
        files: &[FileData],
        origin: &str,
        dtype: DType,
        device: &Device,
        later: bool,
    ) -> Result<Self> {
        let files = files::open(files)?;
        let mut tensors: BTreeMap<String, (usize, TensorMeta)> = BTreeMap::new();
        for (index, file) in files.iter().enumerate() {
            for meta in file.tensors() {
                if let Some((other, _)) = tensors.get(&meta.name) {
                    return Err(Error::msg(format!(
                        "the tensor '{}' is both in {} and in {}; each may be in one file only, so the files are of \
                         different models, or one of them is left over",
                        meta.name,
                        files[*other].label(),
                        file.label(),
                    )));
                }
                tensors.insert(meta.name.clone(), (index, meta));
            }
        }
        let (read, ignored) = (Mutex::default(), Mutex::default());
        let (origin, device) = (origin.to_string(), device.clone());
        let meter = Mutex::new(Progress::quiet().start("", ""));
        let later = later.then(Mutex::default);
        let shared = Arc::new(Shared { files, tensors, read, ignored, origin, dtype, device, later, meter });
        Ok(Self { shared, prefix: String::new() })
    }

    /// Tells how many of the tensors are read.
    pub(crate) fn with_progress(self, progress: &Progress, model: &str) -> Self {
        *lock(&self.shared.meter) = progress.start(format!("loading {model}"), "tensors");
        self
    }

    /// The same source with `prefix` in front of every name that is asked for (behind the prefix that it has), unless
    /// the file goes without it, as checkpoints saved from the bare model do.
    pub fn with_optional_prefix(&self, prefix: &str) -> Self {
        let longer = format!("{}{prefix}", self.prefix);
        let is_there = self.shared.tensors.keys().any(|name| name.starts_with(&longer));
        Self { prefix: if is_there { longer } else { self.prefix.clone() }, ..self.clone() }
    }

    /// Where the tensors come from, for messages.
    pub fn origin(&self) -> &str {
        &self.shared.origin
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.shared.tensors.contains_key(&self.full_name(name))
    }

    /// The tensor of this name, which must have this shape.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let (name, file, meta) = self.find(name, shape)?;
        if !meta.is_float {
            let hint = leftovers::quantised(self.metas())
                .unwrap_or_else(|| "float32, float16, bfloat16 or float64 was expected".to_string());
            return Err(Error::msg(format!("{}: the tensor '{name}' is of type {}; {hint}", file.label(), meta.dtype)));
        }
        // Vectors cost nothing, and some are changed on the way.
        let (dtype, device) = self.target();
        let dtype = if shape.len() < 2 { compute_dtype(dtype, device) } else { dtype };
        let tensor = file.load(&name, device)?.to_dtype(dtype)?;
        self.note(name);
        Ok(tensor)
    }

    /// The bytes of this name, which must have this shape: the codes of a quantisation, `u8`.
    pub(crate) fn codes(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let (name, file, _) = self.find(name, shape)?;
        let codes = file.load(&name, &Device::Cpu)?;
        if codes.dtype() != DType::U8 {
            let found = codes.dtype();
            return Err(Error::msg(format!(
                "{}: '{name}' is of type {found:?}, and bytes were expected",
                file.label()
            )));
        }
        self.note(name);
        Ok(codes)
    }

    fn note(&self, name: String) {
        let mut read = lock(&self.shared.read);
        read.insert(name);
        let done = read.len();
        lock(&self.shared.meter).at(done, Some(done as f64 / self.shared.tensors.len() as f64));
    }

    /// A tensor's full name, its file and what is known of it; it must have this shape.
    fn find(&self, name: &str, shape: &[usize]) -> Result<(String, &dyn TensorFile, &TensorMeta)> {
        interrupt::check()?;
        let name = self.full_name(name);
        let Some((file, meta)) = self.shared.tensors.get(&name) else {
            if let Some(why) = leftovers::quantised(self.metas()) {
                return Err(Error::msg(format!("{}: {why}", self.shared.origin)));
            }
            let near = near_misses(&name, self.shared.tensors.keys().map(String::as_str));
            return Err(Error::MissingTensor { name, origin: self.shared.origin.clone(), near });
        };
        // Before anything is read, so that no file decides how much memory is taken.
        if meta.shape != shape {
            let expected = format!("{shape:?} (by the sizes in config.json)");
            return Err(Error::WrongShape { name, expected, found: meta.shape.clone() });
        }
        Ok((name, self.shared.files[*file].as_ref(), meta))
    }

    /// The type and device that tensors are given on.
    pub(crate) fn target(&self) -> (DType, &Device) {
        (self.shared.dtype, &self.shared.device)
    }

    /// The tensor of this name if there is one; it must have this shape.
    pub fn optional(&self, name: &str, shape: &[usize]) -> Result<Option<Tensor>> {
        if self.has(name) { self.tensor(name, shape).map(Some) } else { Ok(None) }
    }

    /// `name.weight`, stored `[out, in]` as torch's `Linear` does, and `name.bias` if there is one.
    pub fn linear(&self, name: &str, d_in: usize, d_out: usize) -> Result<Linear> {
        let w = self.tensor(&format!("{name}.weight"), &[d_out, d_in])?.t()?;
        Ok(Linear { w, b: self.optional(&format!("{name}.bias"), &[d_out])? })
    }

    /// `name.weight`, stored `[in, out]` as GPT-2's `Conv1D` does, and `name.bias`.
    pub fn conv1d(&self, name: &str, d_in: usize, d_out: usize) -> Result<Linear> {
        let w = self.tensor(&format!("{name}.weight"), &[d_in, d_out])?;
        Ok(Linear { w, b: self.optional(&format!("{name}.bias"), &[d_out])? })
    }

    /// `name.weight` and `name.bias`, where they are.
    pub fn norm(&self, name: &str, width: usize) -> Result<super::NormWeights> {
        let w = self.tensor(&format!("{name}.weight"), &[width])?;
        Ok(super::NormWeights { w: Some(w), b: self.optional(&format!("{name}.bias"), &[width])? })
    }

    /// The unembedding `[d_embed, d_vocab]` that config.json ties to the embedding, `[d_vocab, d_embed]`: the same,
    /// transposed. But where the file has a head `name.weight` of other numbers, that one counts, as for Hugging Face.
    pub(crate) fn tied_head(&self, name: &str, w_e: &Tensor) -> Result<Tensor> {
        let name = format!("{name}.weight");
        if !self.has(&name) {
            return Ok(w_e.t()?);
        }
        let head = self.tensor(&name, w_e.dims())?;
        Ok(if are_same(&head, w_e)? { w_e.t()? } else { head.t()? })
    }

    /// The blocks of a decoder, each read by `read`; none yet where they are to be read later.
    pub(crate) fn blocks(&self, cfg: &ModelConfig, read: impl ReadBlock) -> Result<Vec<BlockWeights>> {
        match &self.shared.later {
            None => (0..cfg.n_layers).map(|layer| read(cfg, self, layer)).collect(),
            Some(later) => {
                *lock(later) = Some(BlockReader::new(cfg, self, read));
                Ok(Vec::new())
            }
        }
    }

    /// How the blocks are read, where that was put off; none where the family's blocks can't be read one by one.
    pub(crate) fn take_blocks(&self) -> Option<BlockReader> {
        self.shared.later.as_ref().and_then(|later| lock(later).take())
    }

    /// For each layer the first that has the same tensors, of the same shapes, and so is made alike. All of them count as read.
    pub(crate) fn alike(&self, n_layers: usize) -> Vec<usize> {
        let mut by_layer: Vec<Vec<(String, &[usize])>> = vec![Vec::new(); n_layers];
        let mut read = lock(&self.shared.read);
        for meta in self.metas() {
            let Some((place, layer)) = layer_in(&meta.name) else { continue };
            let Some(of_layer) = by_layer.get_mut(layer) else { continue };
            let mut parts: Vec<&str> = meta.name.split('.').collect();
            parts[place] = "";
            of_layer.push((parts.join("."), &meta.shape));
            if !leftovers::is_buffer(meta) {
                read.insert(meta.name.clone());
            }
        }
        let first = |layer: usize| by_layer.iter().position(|other| *other == by_layer[layer]).unwrap_or(layer);
        (0..n_layers).map(first).collect()
    }

    /// How many numbers the tensors of the blocks have, all together.
    pub(crate) fn elements_in_layers(&self, n_layers: usize) -> usize {
        let of_layers = self.metas().filter(|meta| layer_in(&meta.name).is_some_and(|(_, layer)| layer < n_layers));
        of_layers.map(|meta| meta.shape.iter().product::<usize>()).sum()
    }

    /// Declares that the tensors whose names begin with `prefix` are left on purpose.
    pub(crate) fn ignore(&self, prefix: &str) {
        let full = self.full_name(prefix);
        lock(&self.shared.ignored).extend([prefix.to_string(), full]);
    }

    /// To be called when a model has taken what it wants.
    ///
    /// # Errors
    /// Tensors that nothing asked for: then the model computes something else than the file's maker meant. Buffers
    /// that carry no weights, copies of a tied embedding, and what was [`ignore`](Self::ignore)d do not count.
    pub(crate) fn finish(&self) -> Result<()> {
        let (read, ignored) = (lock(&self.shared.read), lock(&self.shared.ignored));
        let mut unread: Vec<&TensorMeta> = Vec::new();
        for meta in self.metas().filter(|meta| !read.contains(&meta.name)) {
            let is_ignored = ignored.iter().any(|prefix| meta.name.starts_with(prefix.as_str()));
            let is_known =
                is_ignored || leftovers::is_buffer(meta) || leftovers::is_tied(meta) && self.is_copy(&read, meta)?;
            if !is_known {
                unread.push(meta);
            }
        }
        if unread.is_empty() {
            lock(&self.shared.meter).finish(read.len());
            return Ok(());
        }
        if let Some(why) = leftovers::quantised(unread.iter().copied()) {
            return Err(Error::msg(format!("{}: {why}", self.shared.origin)));
        }
        const SHOWN: usize = 6;
        let names: Vec<&str> = unread.iter().take(SHOWN).map(|meta| meta.name.as_str()).collect();
        let more = if unread.len() > SHOWN { format!(" and {} more", unread.len() - SHOWN) } else { String::new() };
        Err(Error::msg(format!(
            "the weights of {} hold {} tensors that the model of its config.json has no place for: {}{more}; the two \
             may not belong together (check model_type and the sizes), or the model has a part that candlescope \
             lacks, and would compute something else without it",
            self.shared.origin,
            unread.len(),
            names.join(", "),
        )))
    }

    fn metas(&self) -> impl Iterator<Item = &TensorMeta> {
        self.shared.tensors.values().map(|(_, meta)| meta)
    }

    /// Whether a tensor has the numbers of one that was read.
    fn is_copy(&self, read: &BTreeSet<String>, meta: &TensorMeta) -> Result<bool> {
        let load = |name: &str| match self.shared.tensors.get(name) {
            Some((file, found)) if found.shape == meta.shape => {
                self.shared.files[*file].load(name, &Device::Cpu).map(Some)
            }
            _ => Ok(None),
        };
        let Some(copy) = load(&meta.name)? else { return Ok(false) };
        for name in read {
            if let Some(original) = load(name)?
                && are_same(&copy, &original)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn full_name(&self, name: &str) -> String {
        // The head stands outside of the prefixed module in every family.
        if name.starts_with("lm_head") || name.starts_with("embed_out") {
            // But for the first wrappers of language models.
            let wrapped = format!("language_model.{name}");
            if self.shared.tensors.contains_key(&wrapped) { wrapped } else { name.to_string() }
        } else {
            format!("{}{name}", self.prefix)
        }
    }
}

/// The layer that a tensor's name is of, and which of the name's parts says so: the first number.
fn layer_in(name: &str) -> Option<(usize, usize)> {
    name.split('.').enumerate().find_map(|(place, part)| Some((place, part.parse().ok()?)))
}

/// Whether two matrices of one shape have the same numbers.
fn are_same(a: &Tensor, b: &Tensor) -> Result<bool> {
    // A few rows at a time: embeddings are large.
    const ROWS: usize = 4096;
    let rows = a.dim(0)?;
    for start in (0..rows).step_by(ROWS) {
        let part = |matrix: &Tensor| matrix.narrow(0, start, ROWS.min(rows - start))?.to_dtype(DType::F32);
        if part(a)?.ne(&part(b)?)?.to_dtype(DType::F32)?.max_all()?.to_scalar::<f32>()? != 0.0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A thread that panicked leaves these sets as valid as they were.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::PathBuf;

    use super::*;

    /// A source with tensors of ones.
    fn source(test: &str, tensors: &[(&str, &[usize])]) -> WeightSource {
        let path = std::env::temp_dir().join(format!("candlescope-source-{test}-{}.safetensors", std::process::id()));
        let ones = |dims: &[usize]| Tensor::ones(dims, DType::F32, &Device::Cpu).unwrap();
        let tensors: HashMap<String, Tensor> =
            tensors.iter().map(|(name, dims)| (name.to_string(), ones(dims))).collect();
        candle_core::safetensors::save(&tensors, &path).unwrap();
        let source = WeightSource::open(&[FileData::from(path.clone())], "the test", DType::F32, &Device::Cpu);
        // What is mapped stays there on Unix; elsewhere the file stays in the temporary folder.
        let _ = std::fs::remove_file::<PathBuf>(path);
        source.unwrap()
    }

    #[test]
    fn what_nothing_asked_for_is_named() {
        let source = source(
            "extra",
            &[
                ("model.embed_tokens.weight", &[8, 4]),
                ("lm_head.weight", &[8, 4]),
                ("model.layers.0.self_attn.rotary_emb.inv_freq", &[2]),
                ("model.layers.0.mlp.up_proj.bias", &[4]),
                ("model.layers.1.mtp.weight", &[4]),
            ],
        );
        let source = source.with_optional_prefix("model.");
        source.tensor("embed_tokens.weight", &[8, 4]).unwrap();
        let found = source.finish().unwrap_err().to_string();
        assert!(found.contains("2 tensors") && found.contains("mlp.up_proj.bias"), "{found}");
        assert!(found.contains("mtp") && !found.contains("lm_head") && !found.contains("inv_freq"), "{found}");
        source.ignore("layers.1.");
        let found = source.finish().unwrap_err().to_string();
        assert!(found.contains("1 tensors") && !found.contains("mtp"), "{found}");
        source.optional("layers.0.mlp.up_proj.bias", &[4]).unwrap();
        source.finish().unwrap();
    }

    #[test]
    fn a_copy_of_the_embedding_is_one_only_with_its_numbers() {
        let path = std::env::temp_dir().join(format!("candlescope-source-copies-{}.safetensors", std::process::id()));
        let numbers = |last: f32| {
            let values: Vec<f32> = (0..20_000).map(|i| if i == 19_999 { last } else { i as f32 }).collect();
            Tensor::from_vec(values, (10_000, 2), &Device::Cpu).unwrap()
        };
        let tensors = [("shared", 0.0), ("encoder.embed_tokens", 0.0), ("decoder.embed_tokens", 1.0), ("lm_head", 2.0)]
            .map(|(name, last)| (format!("{name}.weight"), numbers(last)));
        candle_core::safetensors::save(&HashMap::from(tensors), &path).unwrap();
        let open =
            || WeightSource::open(&[FileData::from(path.clone())], "the test", DType::F32, &Device::Cpu).unwrap();
        let source = open();
        let w_e = source.tensor("shared.weight", &[10_000, 2]).unwrap();
        let found = source.finish().unwrap_err().to_string();
        assert!(found.contains("2 tensors") && found.contains("decoder.embed") && found.contains("lm_head"), "{found}");
        // A head of its own counts, one that is a copy does not.
        let last = |w_u: Tensor| w_u.narrow(1, 9_999, 1).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(last(source.tied_head("lm_head", &w_e).unwrap()), [19_998.0, 2.0]);
        assert_eq!(last(source.tied_head("encoder.embed_tokens", &w_e).unwrap()), [19_998.0, 0.0]);
        assert_eq!(last(source.tied_head("not_there", &w_e).unwrap()), [19_998.0, 0.0]);
        let _ = std::fs::remove_file(&path);
    }

    #[test]
    fn a_tensor_of_another_shape_is_not_loaded() {
        let source = source("shape", &[("a", &[8, 4])]);
        let found = source.tensor("a", &[4, 8]).unwrap_err().to_string();
        assert!(found.contains("[8, 4]") && found.contains("[4, 8]"), "{found}");
        assert!(source.finish().is_err(), "it was not read");
    }

    #[test]
    fn quantised_weights_say_so_before_and_after() {
        let source = source("quantised", &[("a.qweight", &[8, 4]), ("b.weight", &[4])]);
        let found = source.tensor("a.weight", &[8, 4]).unwrap_err().to_string();
        assert!(found.contains("GPTQ"), "{found}");
        source.tensor("b.weight", &[4]).unwrap();
        assert!(source.finish().unwrap_err().to_string().contains("GPTQ"));
    }
}
