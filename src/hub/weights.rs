//! Which of a place's files are the weights.
//!
//! Safetensors come first, then PyTorch's `pytorch_model.bin`, then a single `.pth` or `.pt`, then GGUF. Files in
//! folders below do not count: there lie training checkpoints and other versions.

use super::files::{Place, WEIGHTS, what_is_there};
use crate::{Error, Result};

/// Files with weights.
pub(super) enum Chosen {
    Whole(String),
    /// An index that names shards.
    Index(String),
    /// The parts of one GGUF model, in order.
    Gguf(Vec<String>),
    Nothing,
}

const INDEX_ENDING: &str = ".index.json";

/// What a trainer saves beside the weights.
const NO_WEIGHTS: &[&str] = &["optimizer", "scheduler", "rng_state", "training_args", "scaler"];

/// Whether a file is one of weights, by its name.
pub(super) fn is_weights(file: &str) -> bool {
    [".safetensors", ".bin", ".pth", ".pt", ".gguf", INDEX_ENDING].iter().any(|ending| file.ends_with(ending))
}

/// The weights of a place.
///
/// # Errors
/// Several files of one kind, of which none is the obvious one.
pub(super) fn choose(place: &impl Place) -> Result<Chosen> {
    for whole in [WEIGHTS, "pytorch_model.bin"] {
        let index = format!("{whole}{INDEX_ENDING}");
        if place.has(whole) {
            return Ok(Chosen::Whole(whole.to_string()));
        } else if place.has(&index) {
            return Ok(Chosen::Index(index));
        }
    }
    let mut pickles = top_level(place, &[".pth", ".pt"]);
    pickles.retain(|name| !NO_WEIGHTS.iter().any(|other| name.starts_with(other)));
    let is_final = |name: &&String| name.rsplit_once('.').is_some_and(|(stem, _)| stem.ends_with("final"));
    let finals: Vec<&String> = pickles.iter().filter(is_final).collect();
    match (&finals[..], &pickles[..]) {
        ([one], _) => return Ok(Chosen::Whole(one.to_string())),
        (_, [one]) => return Ok(Chosen::Whole(one.clone())),
        (_, []) => {}
        _ => return Err(several(place, &pickles)),
    }
    let models = gguf_models(place);
    match &models[..] {
        [] => Ok(Chosen::Nothing),
        [one] => Ok(Chosen::Gguf(one.clone())),
        _ => Err(several(place, &models.iter().map(|parts| parts[0].clone()).collect::<Vec<_>>())),
    }
}

/// The weights that a file of a place belongs to.
pub(super) fn choose_from(place: &impl Place, file: &str) -> Chosen {
    if file.ends_with(INDEX_ENDING) {
        return Chosen::Index(file.to_string());
    }
    if file.ends_with(".gguf") {
        let whole = gguf_models(place).into_iter().find(|parts| parts.iter().any(|part| part == file));
        return Chosen::Gguf(whole.unwrap_or_else(|| vec![file.to_string()]));
    }
    Chosen::Whole(file.to_string())
}

/// The GGUF models of a place: files, or sets of files named `x-00001-of-00003.gguf`.
fn gguf_models(place: &impl Place) -> Vec<Vec<String>> {
    let mut models: Vec<Vec<String>> = Vec::new();
    let mut names = top_level(place, &[".gguf"]);
    // Image encoders and quantisation statistics are no language models.
    names.retain(|name| !name.starts_with("mmproj") && !name.contains("imatrix"));
    for name in names {
        let set = split_set(&name);
        match models.iter_mut().find(|parts| set.is_some() && split_set(&parts[0]) == set) {
            Some(parts) => parts.push(name),
            None => models.push(vec![name]),
        }
    }
    models
}

/// What the parts of a split model have in common: the stem and the number of parts.
fn split_set(name: &str) -> Option<(&str, &str)> {
    let (rest, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (stem, part) = rest.rsplit_once('-')?;
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(part) && is_number(count)).then_some((stem, count))
}

/// The files at a place's top level with one of these endings, in order.
fn top_level(place: &impl Place, endings: &[&str]) -> Vec<String> {
    let fits = |name: &&String| !name.contains('/') && endings.iter().any(|ending| name.ends_with(ending));
    let mut names: Vec<String> = place.names().iter().filter(fits).filter(|name| place.has(name)).cloned().collect();
    names.sort();
    names
}

fn several(place: &impl Place, names: &[String]) -> Error {
    Error::msg(format!(
        "{} has several files with weights: {}; give the path of the one that you want instead of the folder's (from the \
         hub, download it first); {}",
        place.origin(),
        names.join(", "),
        what_is_there(place),
    ))
}
