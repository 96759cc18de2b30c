//! One model in several formats gives the same logits. GGUF has a file of its own, gguf.rs.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::writers::{self, Tensors, write_safetensors, write_torch};
use crate::common::{fixture, max_difference};
use candlescope::prelude::*;

const PROMPT: [u32; 8] = [5, 80, 17, 200, 3, 119, 42, 7];

fn folder(test: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("formats").join(test);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// A folder with the small files of a fixture.
fn without_weights(test: &str, name: &str) -> PathBuf {
    let folder = folder(test);
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(fixture(name).join(file), folder.join(file)).unwrap();
    }
    folder
}

fn logits(path: &Path) -> Tensor {
    let name = path.to_string_lossy();
    let model = HookedTransformer::from_pretrained_no_processing(&name).unwrap();
    model.forward(PROMPT.to_vec()).unwrap().tensor().clone()
}

#[test]
fn shards_and_checkpoints_are_the_same_model() {
    for name in ["llama", "gpt2"] {
        let expected = logits(&fixture(name));
        let tensors = writers::read(&fixture(name).join("model.safetensors"));
        let same = |folder: &Path| assert_eq!(max_difference(&logits(folder), &expected), 0.0, "{}", folder.display());

        let shards = without_weights(&format!("{name}_shards"), name);
        writers::sharded(&shards, &tensors, 3, "model.safetensors", write_safetensors);
        same(&shards);
        same(&shards.join("model.safetensors.index.json"));

        let bin = without_weights(&format!("{name}_bin"), name);
        write_torch(&bin.join("pytorch_model.bin"), &tensors);
        same(&bin);
        same(&bin.join("pytorch_model.bin"));

        let bins = without_weights(&format!("{name}_bins"), name);
        writers::sharded(&bins, &tensors, 2, "pytorch_model.bin", write_torch);
        same(&bins);

        let pth = without_weights(&format!("{name}_pth"), name);
        write_torch(&pth.join("model_final.pth"), &tensors);
        fs::write(pth.join("model_100.pth"), "not this one").unwrap();
        same(&pth);
    }
}

#[test]
fn narrow_and_wide_types_are_cast() {
    let tensors = writers::read(&fixture("llama").join("model.safetensors"));
    for dtype in [DType::F64, DType::F16, DType::BF16] {
        // The same rounded numbers in the narrow type and in float32.
        let narrow: Tensors =
            tensors.iter().map(|(name, tensor)| (name.clone(), tensor.to_dtype(dtype).unwrap())).collect();
        let wide: Tensors =
            narrow.iter().map(|(name, tensor)| (name.clone(), tensor.to_dtype(DType::F32).unwrap())).collect();
        let found = [("narrow", narrow), ("wide", wide)].map(|(kind, tensors)| {
            let folder = without_weights(&format!("cast_{dtype:?}_{kind}"), "llama");
            write_safetensors(&folder.join("model.safetensors"), &tensors);
            logits(&folder)
        });
        assert_eq!(max_difference(&found[0], &found[1]), 0.0, "{dtype:?}");
    }
}

#[test]
fn a_header_whose_length_looks_like_another_format_is_a_header() {
    let file = fs::read(fixture("llama").join("model.safetensors")).unwrap();
    let expected = logits(&fixture("llama"));
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let (header, data) = file[8..].split_at(length);
    // Spaces fill a header up: to lengths that begin as pickles of the protocols 2 to 5 do.
    for begins in [[0x80, 2], [0x80, 3], [0x80, 4], [0x80, 5]] {
        let padded = usize::from(u16::from_le_bytes(begins)) + (1 << 16);
        assert!(padded >= length);
        let mut header = header.to_vec();
        header.resize(padded, b' ');
        let folder = without_weights(&format!("header_{}", begins[1]), "llama");
        let whole = [&(padded as u64).to_le_bytes()[..], &header, data].concat();
        assert_eq!(whole[..2], begins);
        fs::write(folder.join("model.safetensors"), whole).unwrap();
        assert_eq!(max_difference(&logits(&folder), &expected), 0.0);
    }
}
