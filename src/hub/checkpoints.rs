//! Training checkpoints: which ones a model has, and where each of them is.
//!
//! Pythia and stanford-crfm keep a checkpoint under a revision of the repository (`step1000`, `checkpoint-1000`); the toy
//! models keep it in a file (`checkpoints/…_<label>.pth`), as this library does (`checkpoints/step_<label>.safetensors`).

use std::fmt;

use super::files::{Place, pick_file};
use super::remote;
use super::{HubSettings, ModelFiles, bundled, folder, near_names, registry};
use crate::{Error, Result};

/// What a checkpoint's label counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointUnit {
    /// Steps of the optimizer.
    Step,
    /// Tokens seen.
    Token,
}

/// The checkpoints of a model, in the order of training.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointLabels {
    /// After how many steps or tokens each checkpoint was taken, rising.
    pub labels: Vec<u64>,
    /// What the labels count.
    pub unit: CheckpointUnit,
    /// Whether these are the labels in the repository. Otherwise they are the token counts of the training's plan: a
    /// checkpoint was taken within the next two optimizer steps, and the label of its file is up to a million tokens
    /// larger.
    pub exact: bool,
}

/// The checkpoint that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointChoice {
    /// By position among the labels; negative ones count from the end.
    Index(i64),
    /// By label.
    Value(u64),
}

impl From<i32> for CheckpointChoice {
    fn from(index: i32) -> Self {
        Self::Index(index.into())
    }
}

impl From<i64> for CheckpointChoice {
    fn from(index: i64) -> Self {
        Self::Index(index)
    }
}

impl From<usize> for CheckpointChoice {
    fn from(index: usize) -> Self {
        Self::Index(i64::try_from(index).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for CheckpointUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Step => "step",
            Self::Token => "tokens",
        })
    }
}

impl fmt::Display for CheckpointChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(f, "with the index {index}"),
            Self::Value(value) => write!(f, "with the label {value}"),
        }
    }
}

/// The checkpoint that was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// What `value` counts.
    pub unit: CheckpointUnit,
    /// After how many steps or tokens it was taken.
    pub value: u64,
    /// Its position among the model's checkpoints; `None` where not all of them are known.
    pub index: Option<usize>,
}

/// The checkpoints of a model: bundled (tiny-attn-only-2l), Pythia, stanford-crfm, the toy models, or a folder with
/// `checkpoints/…_<label>.pth` or `.safetensors`.
///
/// Where the training's plan is known it takes no network. Of the older toy models (`solu-*-pile`, the fine-tuned ones and
/// `attn-only-2l-demo`) it is not; for these the hub is asked for the repository's files.
///
/// ```
/// let pythia = candlescope::hub::checkpoint_labels("pythia-160m")?;
/// assert_eq!(pythia.labels[..4], [0, 1, 2, 4]);
/// assert_eq!(pythia.labels.len(), 154);
/// # Ok::<(), candlescope::Error>(())
/// ```
///
/// # Errors
/// A model without checkpoints, or one whose files have to be listed while the hub can't be reached.
pub fn checkpoint_labels(model: &str) -> Result<CheckpointLabels> {
    let model = model.trim();
    if let Some(labels) = bundled::steps(model) {
        return Ok(CheckpointLabels { labels, unit: CheckpointUnit::Step, exact: true });
    }
    if let Some(path) = folder::path(model) {
        return Ok(labels_of(&folder::checkpoint_files(&path)?).ok_or_else(|| no_checkpoints(model))?.0);
    }
    let repository = registry::repository(model);
    match Kept::of(repository).ok_or_else(|| no_checkpoints(model))? {
        Kept::Revisions { steps, .. } => {
            Ok(CheckpointLabels { labels: steps, unit: CheckpointUnit::Step, exact: true })
        }
        Kept::Files { plan: Some(labels) } => {
            Ok(CheckpointLabels { labels, unit: CheckpointUnit::Token, exact: false })
        }
        Kept::Files { plan: None } => {
            let settings = HubSettings::from_env()?;
            if settings.offline {
                return Err(Error::msg(format!(
                    "the checkpoints of '{model}' are known from the files of {repository} alone, and the network was not \
                     asked, because HF_HUB_OFFLINE is set: unset it, or give a folder that has checkpoints/*.pth"
                )));
            }
            let files = remote::names(model, repository, "main", &settings)?;
            Ok(labels_of(&files).ok_or_else(|| no_checkpoints(model))?.0)
        }
    }
}

/// Where a repository keeps its checkpoints.
enum Kept {
    /// Each in a revision: this prefix and the step.
    Revisions { prefix: &'static str, steps: Vec<u64> },
    /// Each in a file; the token counts of the plan, if it is known.
    Files { plan: Option<Vec<u64>> },
}

impl Kept {
    fn of(repository: &str) -> Option<Self> {
        let (owner, name) = repository.split_once('/')?;
        match owner {
            // Not BioMedLM and the music models, which share the owner.
            "stanford-crfm" if name.contains("-gpt2-small-x") || name.contains("-gpt2-medium-x") => {
                Some(Self::Revisions { prefix: "checkpoint-", steps: stanford_steps() })
            }
            "EleutherAI" if name.starts_with("pythia-") => {
                Some(Self::Revisions { prefix: "step", steps: pythia_steps(name.ends_with("-v0")) })
            }
            "NeelNanda" => {
                let planned = |tokens| Self::Files { plan: Some(toy_tokens(tokens)) };
                Some(match name.strip_suffix("_C4_Code") {
                    // The scan of larger SoLU models was planned for 30 billion tokens, the toy models for 22 billion.
                    Some(kind)
                        if ["SoLU_6L", "SoLU_8L", "SoLU_10L", "SoLU_12L"].iter().any(|l| kind.starts_with(l)) =>
                    {
                        planned(30_000_000_000)
                    }
                    Some(_) => planned(22_000_000_000),
                    None => Self::Files { plan: None },
                })
            }
            _ => None,
        }
    }
}

/// The first version (`v0`) of the Pythia models lacks the early steps.
fn pythia_steps(v0: bool) -> Vec<u64> {
    let early = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512];
    let thousands = (1000..=143_000).step_by(1000);
    if v0 { thousands.collect() } else { early.into_iter().chain(thousands).collect() }
}

fn stanford_steps() -> Vec<u64> {
    let spans = [(0, 100, 10), (100, 2000, 50), (2000, 20_000, 100), (20_000, 400_001, 1000)];
    spans.into_iter().flat_map(|(from, to, by)| (from..to).step_by(by)).collect()
}

/// The plan of the toy models in ten-thousandths of the training: dense at first, then a checkpoint each hundredth. The
/// last one planned, at the very end, is never taken: the training stops before it.
fn toy_tokens(total: u64) -> Vec<u64> {
    let spans = [(0, 10, 1), (10, 100, 5), (100, 1000, 20), (1000, 10_000, 100)];
    spans.into_iter().flat_map(|(from, to, by)| (from..to).step_by(by)).map(|part: u64| total / 10_000 * part).collect()
}

/// Where a wanted checkpoint is.
pub(super) enum Located {
    /// In a revision of the repository.
    Revision(String, Checkpoint),
    /// In a file; which one, [`pick_checkpoint`] finds out.
    File,
}

/// Where a repository has a checkpoint.
pub(super) fn locate(name: &str, repository: &str, choice: CheckpointChoice) -> Result<Located> {
    match Kept::of(repository).ok_or_else(|| no_checkpoints(name))? {
        Kept::Files { .. } => Ok(Located::File),
        Kept::Revisions { prefix, steps } => {
            let index = position(name, &steps, choice)?;
            let checkpoint = Checkpoint { unit: CheckpointUnit::Step, value: steps[index], index: Some(index) };
            Ok(Located::Revision(format!("{prefix}{}", steps[index]), checkpoint))
        }
    }
}

/// A place's files with a checkpoint for weights.
///
/// `files` are the names of what the place has, with those below `checkpoints/`; `all` says whether the repository has no
/// others (a cache may hold just some).
pub(super) fn pick_checkpoint(
    name: &str,
    place: &impl Place,
    files: &[String],
    all: bool,
    choice: CheckpointChoice,
) -> Result<ModelFiles> {
    let plan = match Kept::of(registry::repository(name)) {
        Some(Kept::Files { plan }) => plan,
        _ => None,
    };
    let none = || {
        Error::msg(format!(
            "{} has no files checkpoints/*_<label>.pth or .safetensors, so '{name}' has no checkpoints there",
            place.origin()
        ))
    };
    let (known, files) = labels_of(files).ok_or_else(none)?;
    let labels = &known.labels;
    // Where only some files are there, the plan tells which of the checkpoints each of them is.
    let by_plan = || -> Result<Option<usize>> {
        let Some(plan) = &plan else { return Ok(None) };
        let index = position(name, plan, choice)?;
        let end = plan.get(index + 1).copied().unwrap_or(u64::MAX);
        Ok(labels.iter().position(|label| (plan[index]..end).contains(label)))
    };
    let at = match (choice, position(name, labels, choice)) {
        (CheckpointChoice::Value(_), Ok(at)) => at,
        (CheckpointChoice::Index(_), found) if all => found?,
        (CheckpointChoice::Value(_), Err(error)) if all => by_plan().ok().flatten().ok_or(error)?,
        _ => by_plan()?.ok_or_else(|| {
            Error::msg(format!(
                "{} holds only some of the checkpoints of '{name}' ({}), and not the one {choice}",
                place.origin(),
                spelled(labels),
            ))
        })?,
    };
    let value = labels[at];
    let planned = || plan.as_ref()?.partition_point(|label| *label <= value).checked_sub(1);
    let index = if all { Some(at) } else { planned() };
    let mut found = pick_file(name, place, &files[at])?;
    found.checkpoint = Some(Checkpoint { unit: known.unit, value, index });
    Ok(found)
}

/// The labels among file names, rising, and the file of each.
fn labels_of(files: &[String]) -> Option<(CheckpointLabels, Vec<String>)> {
    let label = |file: &String| {
        let file_name = file.strip_prefix("checkpoints/")?;
        let stem = file_name.strip_suffix(".pth").or_else(|| file_name.strip_suffix(".safetensors"))?;
        let (_, digits) = stem.rsplit_once('_')?;
        Some((digits.parse().ok()?, file.clone()))
    };
    let mut labelled: Vec<(u64, String)> = files.iter().filter_map(label).collect();
    labelled.sort();
    let (labels, files): (Vec<u64>, Vec<String>) = labelled.into_iter().unzip();
    // So many steps no one has trained.
    let are_tokens = *labels.last()? > 1_000_000_000 || files.iter().all(|file| file.contains("/tokens_"));
    let unit = if are_tokens { CheckpointUnit::Token } else { CheckpointUnit::Step };
    Some((CheckpointLabels { labels, unit, exact: true }, files))
}

/// The position of the wanted one.
pub(super) fn position(name: &str, labels: &[u64], choice: CheckpointChoice) -> Result<usize> {
    match choice {
        CheckpointChoice::Index(index) => {
            let from_start = if index < 0 { index.checked_add_unsigned(labels.len() as u64) } else { Some(index) };
            from_start.and_then(|at| usize::try_from(at).ok()).filter(|at| *at < labels.len()).ok_or_else(|| {
                Error::msg(format!(
                    "'{name}' has {n} checkpoints, so checkpoint_index is 0 to {last}, or -1 to -{n} from the end; {index} \
                     was given",
                    n = labels.len(),
                    last = labels.len().saturating_sub(1),
                ))
            })
        }
        CheckpointChoice::Value(value) => labels.binary_search(&value).map_err(|at| {
            let near: Vec<u64> = labels[at.saturating_sub(1)..(at + 1).min(labels.len())].to_vec();
            Error::msg(format!(
                "'{name}' has no checkpoint with the label {value}; the nearest: {}. checkpoint_labels(\"{name}\") lists \
                 all {}",
                spelled(&near),
                labels.len(),
            ))
        }),
    }
}

/// Labels in a sentence; the middle of many is left out.
fn spelled(labels: &[u64]) -> String {
    let text = |labels: &[u64]| labels.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    match labels {
        [start @ .., last] if start.len() > 5 => format!("{}, ... {last}", text(&start[..5])),
        _ => text(labels),
    }
}

fn no_checkpoints(name: &str) -> Error {
    let near = near_names(name).into_iter().filter(|near| Kept::of(registry::repository(near)).is_some());
    let meant = near.map(|near| format!("; did you mean '{near}'?")).next().unwrap_or_default();
    Error::msg(format!(
        "no training checkpoints of '{name}' are known{meant}; there are those of tiny-attn-only-2l, which is bundled, \
         some of the Pythia models (pythia-160m), those of \
         stanford-crfm (stanford-gpt2-small-a), the toy models (attn-only-2l, solu-2l, gelu-2l), and folders with \
         checkpoints/*_<label>.pth or .safetensors. Other repositories may keep theirs in revisions: LoadOptions::revision"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(model: &str) -> CheckpointLabels {
        checkpoint_labels(model).unwrap()
    }

    #[test]
    fn pythia_and_stanford_have_the_published_steps() {
        let pythia = labels("EleutherAI/pythia-70m-deduped");
        assert_eq!((pythia.labels.len(), pythia.labels[10], pythia.labels[11]), (154, 512, 1000));
        assert_eq!(pythia.labels.last(), Some(&143_000));
        let first = labels("pythia-1.4b-v0");
        assert_eq!((first.labels.len(), first.labels[0]), (143, 1000));
        let stanford = labels("stanford-gpt2-medium-e");
        assert_eq!(stanford.labels.len(), 609, "so many are published");
        assert!(stanford.labels.is_sorted() && stanford.labels.ends_with(&[399_000, 400_000]));
        assert!(pythia.exact && stanford.unit == CheckpointUnit::Step);
    }

    #[test]
    fn the_toy_models_follow_their_plan() {
        // TransformerLens' main demo rounds these of solu-2l: 22M, 200M, 500M, 1.6B and 21.8B tokens.
        let solu = labels("solu-2l");
        assert!(!solu.exact && solu.unit == CheckpointUnit::Token);
        let millions = [10, 25, 35, 60, solu.labels.len() - 1].map(|index| solu.labels[index] / 1_000_000);
        assert_eq!(millions, [22, 187, 528, 1628, 21780]);
        assert_eq!(labels("attn-only-4l"), solu);
        assert_eq!(labels("solu-12l").labels.last(), Some(&29_700_000_000));
        assert!(solu.labels.windows(2).all(|pair| pair[1] > pair[0] + 1_000_000));
    }

    #[test]
    fn a_wrong_choice_names_the_right_ones() {
        let error = |choice| position("pythia-70m", &pythia_steps(false), choice).unwrap_err().to_string();
        let text = error(CheckpointChoice::Index(154));
        assert!(text.contains("0 to 153") && text.contains("-1 to -154"), "{text}");
        assert!(error(CheckpointChoice::Index(-155)).contains("-155"));
        assert!(error(CheckpointChoice::Index(i64::MIN)).contains("0 to 153"));
        assert!(error(CheckpointChoice::Value(700)).contains("512, 1000"));
        assert!(error(CheckpointChoice::Value(200_000)).contains("nearest: 143000"));
        assert_eq!(position("", &pythia_steps(false), CheckpointChoice::Index(-1)).unwrap(), 153);
        assert_eq!(position("", &pythia_steps(false), CheckpointChoice::Value(1000)).unwrap(), 11);
    }

    #[test]
    fn other_models_have_none() {
        for name in ["gpt2", "llama-3.1-8b", "stanford-crfm/BioMedLM", "EleutherAI/gpt-j-6b", ""] {
            let error = checkpoint_labels(name).unwrap_err().to_string();
            assert!(error.contains("pythia-160m") && error.contains("attn-only-2l"), "{error}");
        }
        assert!(checkpoint_labels("pythia-71m").unwrap_err().to_string().contains("did you mean 'pythia-"));
    }
}
