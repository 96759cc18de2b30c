//! Files with anything at all in them: a model, or a sentence; never a panic, and no memory by what a file claims.

use crate::common::llama_cpp;
use crate::common::writers;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::fixture;
use candlescope::candle_core::quantized::GgmlDType;
use candlescope::prelude::*;
use serde_json::{Value as Json, json};

fn folder(test: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("hostile").join(test);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Loads, and runs what loads.
fn try_out(folder: &Path) -> candlescope::Result<()> {
    let model = HookedTransformer::from_pretrained(&folder.to_string_lossy())?;
    let tokens = Tensor::new(&[[3u32, 1, 4]], &Device::Cpu)?;
    let input = if model.cfg().encoder.is_some() { Input::from((&tokens, &tokens)) } else { Input::from(&tokens) };
    model.forward(input).map(drop)
}

/// Xorshift64 (Marsaglia 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }

    /// What a byte becomes: an extreme, one bit otherwise, anything.
    fn byte(&mut self, byte: u8) -> u8 {
        match self.below(4) {
            0 => 0xff,
            1 => 0,
            2 => byte ^ (1 << self.below(8)),
            _ => self.below(256) as u8,
        }
    }
}

/// How many files of each kind are tried; HOSTILE=1000 tries a thousand, and config.json of every fixture.
fn rounds() -> usize {
    std::env::var("HOSTILE").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(40)
}

#[test]
fn changed_bytes_of_a_tokenizer() {
    let folder = folder("tokenizer");
    let [json, config] =
        ["tokenizer.json", "tokenizer_config.json"].map(|file| fs::read(fixture("llama").join(file)).unwrap());
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for round in 0..rounds() {
        let [mut json, mut config] = [json.clone(), config.clone()];
        let changed = if round % 4 == 0 { &mut config } else { &mut json };
        for _ in 0..1 + random.below(4) {
            let at = random.below(changed.len());
            changed[at] = match random.below(3) {
                0 => b"0123456789[]{}\",:-"[random.below(18)],
                _ => random.byte(changed[at]),
            };
        }
        let [at, config_at] = [("tokenizer.json", json), ("tokenizer_config.json", config)].map(|(file, bytes)| {
            fs::write(folder.join(file), bytes).unwrap();
            folder.join(file)
        });
        if let Ok(tokenizer) = Tokenizer::from_files(at, Some(config_at.into())) {
            let _ = tokenizer.to_tokens("the quick brown <|endoftext|> 日本").map(|tokens| tokens.ids().to_vec());
        }
    }
}

#[test]
fn changed_bytes_of_a_header() {
    let tensors = writers::read(&fixture("llama").join("model.safetensors"));
    let mut config: Json = serde_json::from_slice(&fs::read(fixture("llama").join("config.json")).unwrap()).unwrap();
    config["rope_theta"] = json!(10000.0);
    let folder = folder("bytes");
    let (metadata, converted) = llama_cpp::convert(&config, &tensors);
    writers::write_gguf(&folder.join("model.gguf"), &metadata, &converted, GgmlDType::F16);
    writers::write_torch(&folder.join("pytorch_model.bin"), &tensors);
    writers::write_safetensors(&folder.join("model.safetensors"), &tensors);
    let files = ["model.gguf", "pytorch_model.bin", "model.safetensors"].map(|file| {
        let bytes = fs::read(folder.join(file)).unwrap();
        fs::remove_file(folder.join(file)).unwrap();
        (file, bytes)
    });
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let rounds = rounds();
    for (file, bytes) in files {
        let header = match file {
            "model.gguf" => 4000,
            "pytorch_model.bin" => 6000,
            _ => 3000,
        };
        for _ in 0..rounds {
            let mut bytes = bytes.clone();
            for _ in 0..1 + random.below(6) {
                // The end has a zip archive's directory.
                let at = if file.ends_with(".bin") && random.below(2) == 0 {
                    bytes.len() - 1 - random.below(3000)
                } else {
                    random.below(header)
                };
                bytes[at] = random.byte(bytes[at]);
            }
            fs::write(folder.join(file), bytes).unwrap();
            let _ = try_out(&folder);
        }
        fs::remove_file(folder.join(file)).unwrap();
    }
}

#[test]
fn any_value_under_any_key_of_config_json() {
    let values = [
        json!(0),
        json!(-1),
        json!(1),
        json!(3),
        json!(4294967296u64),
        json!(1e300),
        json!(-0.5),
        json!("x"),
        json!([]),
        json!({}),
        json!(true),
        json!(null),
        json!([[]]),
        json!({"rope_type": "yarn"}),
        json!(1e-300),
    ];
    let all = std::env::var("HOSTILE").is_ok();
    for source in crate::common::fixtures() {
        let name = source.file_name().unwrap().to_string_lossy().into_owned();
        if !all && !["gpt_neo", "deepseek_v3"].contains(&name.as_str()) {
            continue;
        }
        let folder = folder(&format!("config_{name}"));
        fs::copy(source.join("model.safetensors"), folder.join("model.safetensors")).unwrap();
        let config: Json = serde_json::from_slice(&fs::read(source.join("config.json")).unwrap()).unwrap();
        let nested: Vec<String> = ["rope_parameters", "attn_config"]
            .iter()
            .flat_map(|outer| {
                config[outer].as_object().into_iter().flat_map(move |o| o.keys().map(move |k| format!("/{outer}/{k}")))
            })
            .collect();
        let keys = config.as_object().unwrap().keys().map(|key| format!("/{key}")).chain(nested);
        for key in keys {
            for value in &values {
                let mut config = config.clone();
                *config.pointer_mut(&key).unwrap() = value.clone();
                fs::write(folder.join("config.json"), config.to_string()).unwrap();
                if all {
                    eprintln!("{name} {key} {value}");
                }
                let _ = try_out(&folder);
            }
        }
    }
}
