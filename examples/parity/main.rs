//! Compares candlescope's activations with reference activations, folder by folder; with `--analysis` the results of
//! its analyses (see analysis.rs).
//!
//! `cargo run --release --example parity -- [--analysis] [--json] DIR...`
//!
//! A folder holds config.json, model.safetensors and reference.safetensors. The reference has `tokens` [batch, pos],
//! `hf.logits` (Hugging Face's), and `raw.NAME` and `folded.NAME` (TransformerLens' activations on raw and on processed
//! weights; `logits` among them). The error of an entry is max|a - b| / max(1, max|reference|); masked scores must be
//! masked in both. A folder is ok if no error is above 2e-4. The exit status is 1 if any folder fails.

pub mod analysis;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use candlescope::candle_nn::ops::softmax;
use candlescope::model::Normalization;
use candlescope::prelude::*;
use candlescope::{Error, Result};

const TOLERANCE: f32 = 2e-4;

fn main() -> ExitCode {
    let (flags, folders): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|arg| arg.starts_with("--"));
    let [json, analysis] = ["--json", "--analysis"].map(|known| flags.iter().any(|flag| flag == known));
    if folders.is_empty() || flags.iter().any(|flag| flag != "--json" && flag != "--analysis") {
        eprintln!(
            "usage: parity [--analysis] [--json] DIR...   (each DIR with config.json, model.safetensors, and \
             reference.safetensors or, with --analysis, analysis.safetensors)"
        );
        return ExitCode::from(2);
    }
    let mut failed = 0;
    let mut rows = Vec::new();
    for folder in &folders {
        let report = if analysis { analysis::compare(Path::new(folder)) } else { compare(Path::new(folder)) };
        failed += usize::from(!matches!(&report, Ok(report) if report.is_ok()));
        let name = Path::new(folder).file_name().map_or(folder.clone(), |name| name.to_string_lossy().into_owned());
        if json {
            rows.push(as_json(&name, &report));
        } else {
            println!("{}", as_line(&name, &report));
        }
    }
    if json {
        println!("{}", serde_json::Value::Array(rows));
    } else {
        println!("{} of {} ok", folders.len() - failed, folders.len());
    }
    ExitCode::from(u8::from(failed > 0))
}

#[derive(Default)]
pub struct Report {
    worst: f32,
    worst_at: String,
    pub compared: usize,
    /// Entries of the reference that are no hook point of ours.
    pub unknown: Vec<String>,
}

impl Report {
    pub fn is_ok(&self) -> bool {
        self.worst <= TOLERANCE && self.compared > 0
    }

    fn add(&mut self, name: &str, error: f32) {
        self.compared += 1;
        // A NaN is the worst of all, and stays it.
        if error > self.worst || error.is_nan() {
            (self.worst, self.worst_at) = (if error.is_nan() { f32::INFINITY } else { error }, name.to_string());
        }
    }
}

pub fn compare(folder: &Path) -> Result<Report> {
    let path = folder.join("reference.safetensors");
    let reference = candlescope::candle_core::safetensors::load(&path, &Device::Cpu)
        .map_err(|e| Error::msg(format!("{}: {e}", path.display())))?;
    let reference: BTreeMap<String, Tensor> = reference.into_iter().collect();
    let tokens = reference.get("tokens").ok_or_else(|| Error::msg(format!("{} has no 'tokens'", path.display())))?;
    let name = folder.to_string_lossy();
    let mut report = Report::default();
    for (prefix, options) in [("raw.", LoadOptions::new().raw()), ("folded.", LoadOptions::new())] {
        let model = HookedTransformer::from_pretrained_with(&name, &options)?;
        let input = match reference.get("decoder_tokens") {
            Some(decoder) => Input::from((tokens, decoder)),
            None => Input::from(tokens),
        };
        let (logits, cache) = model.run_with_cache(input)?;
        if let (Some(expected), "raw.") = (reference.get("hf.logits"), prefix) {
            report.add("hf.logits", error(&logits, expected)?);
            compare_with_hugging_face(&reference, &cache, &mut report)?;
        }
        for (entry, expected) in reference.iter().filter(|(entry, _)| entry.starts_with(prefix)) {
            let point = &our_name(&entry[prefix.len()..], &cache, &model.cfg().model_type);
            if point.as_str() == "logits" {
                report.add(entry, error(&logits, expected)?);
            } else if cache.contains(point) {
                let mut ours = cache.get(point.as_str())?;
                if holds_pattern(entry, expected, &reference)? {
                    ours = softmax(&ours, D::Minus1)?;
                }
                if model.has_encoder() && model.cfg().normalization == Normalization::Rms {
                    ours = as_layer_norm(point, ours, &cache)?;
                }
                // Cohere's code normalises queries and keys before it swaps heads and positions.
                if point.contains("_norm.hook_") && ours.rank() == 4 && ours.dims() != expected.dims() {
                    ours = ours.transpose(1, 2)?;
                }
                // The chosen experts stand in no order of meaning.
                if point.ends_with("hook_expert_indices") {
                    report.add(entry, error(&in_order(&ours)?, &in_order(expected)?)?);
                    continue;
                }
                let expected = if point.ends_with("self_attn.hook_attn_scores") {
                    masked_as(expected, &ours)?
                } else if model.cfg().latent_attention.is_some() && point.ends_with("attn.hook_z") {
                    // The bridge cuts the joined heads into pieces as wide as the rotated part of the keys.
                    expected.reshape(ours.shape())?
                } else {
                    expected.clone()
                };
                report.add(entry, error(&ours, &expected)?);
            } else {
                report.unknown.push(entry.clone());
            }
        }
    }
    Ok(report)
}

/// The name under which we have what the reference calls `name`.
fn our_name(name: &str, cache: &ActivationCache, model_type: &str) -> String {
    // The bridge takes GraniteMoE's router for one that returns (logits, weights, indices), and it returns the chosen
    // experts, their weights and the logits.
    if model_type == "granitemoe" {
        for (theirs, ours) in [
            ("mlp.gate.hook_out", "mlp.hook_expert_indices"),
            ("hook_expert_weights", "mlp.hook_router_scores"),
            ("hook_expert_indices", "mlp.gate.hook_out"),
        ] {
            if let (true, Some((block, _))) = (name.ends_with(theirs), name.split_once(".mlp")) {
                return format!("{block}.{ours}");
            }
        }
    }
    // The gate of a gated MLP is recorded under its module's name too; where there are experts, that is the router's.
    let gates = ["mlp.dense_gate", "shared_expert.gate", "shared_experts.gate", "mlp.gate"];
    match gates.iter().find_map(|gate| name.strip_suffix(&format!("{gate}.hook_out")).map(|block| (block, gate))) {
        Some((block, gate)) if !cache.contains(name) => {
            format!(
                "{block}{}.hook_pre",
                gate.trim_end_matches(".gate").replace("dense_gate", "").trim_end_matches('.')
            )
        }
        _ => name.to_string(),
    }
}

/// Hugging Face's own patterns and streams, where TransformerLens' are no full account: of encoders and encoder-decoders.
fn compare_with_hugging_face(
    reference: &BTreeMap<String, Tensor>,
    cache: &ActivationCache,
    report: &mut Report,
) -> Result<()> {
    for (entry, expected) in reference {
        let Some((kind, layer)) = entry.strip_prefix("hf.").and_then(|name| name.rsplit_once('.')) else { continue };
        let point = match kind {
            "attention" => format!("blocks.{layer}.attn.hook_pattern"),
            "cross_attention" => format!("decoder_blocks.{layer}.cross_attn.hook_pattern"),
            "encoder_hidden" => format!("encoder_blocks.{layer}.hook_resid_pre"),
            "decoder_hidden" => format!("decoder_blocks.{layer}.hook_resid_pre"),
            // A decoder's last entry is behind the last norm, and it has no block to be the input of.
            _ => continue,
        };
        if cache.contains(&point) {
            report.add(entry, error(&cache.get(point.as_str())?, expected)?);
        }
    }
    Ok(())
}

/// Each row's numbers, least first.
fn in_order(rows: &Tensor) -> Result<Tensor> {
    let mut sorted: Vec<Vec<f32>> = rows.to_dtype(DType::F32)?.to_vec2()?;
    for row in &mut sorted {
        row.sort_by(f32::total_cmp);
    }
    Ok(Tensor::new(sorted, rows.device())?)
}

/// What a LayerNorm would have recorded at an RMSNorm's points: TransformerLens' bridge takes T5's norms for LayerNorms there
/// (and runs them as what they are).
fn as_layer_norm(point: &str, ours: Tensor, cache: &ActivationCache) -> Result<Tensor> {
    let Some((norm, _)) = point.rsplit_once(".hook_").filter(|(_, last)| matches!(*last, "scale" | "normalized"))
    else {
        return Ok(ours);
    };
    let x = cache.get(format!("{norm}.hook_normalized"))?;
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let deviation = centred.sqr()?.mean_keepdim(D::Minus1)?.sqrt()?;
    if point.ends_with("scale") { Ok((ours * deviation)?) } else { Ok(centred.broadcast_div(&deviation)?) }
}

/// The reference's scores, masked where ours are: TransformerLens' bridge records those of T5's decoder before the causal
/// mask. Scores that it records masked stay as they are, and so must be masked in the same places.
fn masked_as(expected: &Tensor, ours: &Tensor) -> Result<Tensor> {
    if expected.dims() != ours.dims() || expected.flatten_all()?.min(0)?.to_scalar::<f32>()? < -1e30 {
        return Ok(expected.clone());
    }
    let masked = ours.lt(-1e30)?;
    Ok(masked.where_cond(&Tensor::full(f32::NEG_INFINITY, expected.shape(), expected.device())?, expected)?)
}

/// Whether an entry named for the scores holds the pattern: TransformerLens' bridge records it under both names for
/// GPT-Neo. Our scores are then compared through their softmax.
fn holds_pattern(entry: &str, expected: &Tensor, reference: &BTreeMap<String, Tensor>) -> Result<bool> {
    match reference.get(&entry.replace("hook_attn_scores", "hook_pattern")) {
        Some(pattern) if entry.ends_with("hook_attn_scores") && pattern.dims() == expected.dims() => {
            Ok(error(expected, pattern)? == 0.0)
        }
        _ => Ok(false),
    }
}

/// max|a - b| / max(1, max|b|); infinite if the shapes differ or if a score is masked in one and not in the other.
///
/// Hugging Face's OPT flattens batch and position before its second norm, so its reference lacks the batch axis there.
fn error(ours: &Tensor, reference: &Tensor) -> Result<f32> {
    let flattened = ours.rank() == 3 && ours.flatten_to(1)?.dims() == reference.dims();
    if !flattened && ours.dims() != reference.dims() {
        return Ok(f32::INFINITY);
    }
    let flat = |tensor: &Tensor| -> Result<Vec<f32>> { Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?) };
    // Hugging Face masks with the smallest float, TransformerLens with -inf.
    let masked = |x: f32| x < -1e30;
    let (mut difference, mut size) = (0f32, 1f32);
    for (a, b) in flat(ours)?.into_iter().zip(flat(reference)?) {
        match (masked(a), masked(b)) {
            (true, true) => {}
            (false, false) => {
                let d = (a - b).abs();
                difference = if d.is_nan() { f32::INFINITY } else { difference.max(d) };
                size = size.max(b.abs());
            }
            _ => return Ok(f32::INFINITY),
        }
    }
    Ok(difference / size)
}

pub fn as_line(name: &str, report: &Result<Report>) -> String {
    match report {
        Err(error) => format!("{name:<22} FAIL  {error}"),
        Ok(report) => {
            let verdict = if report.is_ok() { "ok  " } else { "FAIL" };
            let mut line = format!(
                "{name:<22} {verdict}  worst {:.1e} at {}, {} entries compared, {} not known",
                report.worst,
                report.worst_at,
                report.compared,
                report.unknown.len()
            );
            if let Some(first) = report.unknown.first() {
                line += &format!(" (such as {first})");
            }
            line
        }
    }
}

fn as_json(name: &str, report: &Result<Report>) -> serde_json::Value {
    match report {
        Err(error) => serde_json::json!({ "name": name, "ok": false, "error": error.to_string() }),
        Ok(report) => serde_json::json!({
            "name": name,
            "ok": report.is_ok(),
            "worst": report.worst,
            "worst_at": report.worst_at,
            "compared": report.compared,
            "unknown": report.unknown,
        }),
    }
}
