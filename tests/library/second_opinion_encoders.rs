//! candle-transformers on the same random weights: BERT, and T5's two stacks, on texts longer than the references'.

use std::collections::HashMap;

use crate::common::{fixture, max_difference};
use candle_transformers::models::{bert, t5};
use candlescope::candle_core::safetensors;
use candlescope::candle_nn::VarBuilder;
use candlescope::prelude::*;

fn tensors(name: &str) -> HashMap<String, Tensor> {
    safetensors::load(fixture(name).join("model.safetensors"), &Device::Cpu).unwrap()
}

fn raw(name: &str) -> HookedTransformer {
    HookedTransformer::from_pretrained_no_processing(&fixture(name).to_string_lossy()).unwrap()
}

/// Two rows of ids that look random.
fn ids(columns: usize) -> Vec<Vec<u32>> {
    (0..2).map(|row| (0..columns as u32).map(|i| (row * 131 + i * i * 37 + i * 11 + 5) % 320).collect()).collect()
}

#[test]
fn bert_agrees() {
    let mut weights = tensors("bert");
    // candle-transformers wants the tied unembedding under its own name.
    weights.insert("cls.predictions.decoder.weight".into(), weights["bert.embeddings.word_embeddings.weight"].clone());
    weights.insert("cls.predictions.decoder.bias".into(), weights["cls.predictions.bias"].clone());
    let config = bert::Config {
        vocab_size: 320,
        hidden_size: 32,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        intermediate_size: 48,
        max_position_embeddings: 64,
        hidden_act: bert::HiddenAct::Gelu,
        ..Default::default()
    };
    let theirs =
        bert::BertForMaskedLM::load(VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu), &config).unwrap();
    let tokens = Tokens::from_ids(ids(60)).unwrap();
    let kinds: Vec<Vec<u32>> = vec![(0..60).map(|pos| u32::from(pos >= 20)).collect(); 2];
    let options = RunOptions::new().token_types(kinds.clone());
    let ours = raw("bert").run(&tokens, &options).unwrap().logits.unwrap();
    let kinds = Tensor::new(kinds, &Device::Cpu).unwrap();
    let theirs = theirs.forward(&tokens.tensor(&Device::Cpu).unwrap(), &kinds, None).unwrap();
    assert!(max_difference(&ours, &theirs) < 1e-4, "{}", max_difference(&ours, &theirs));
}

#[test]
fn t5_agrees() {
    let config = t5::Config {
        vocab_size: 320,
        d_model: 32,
        d_kv: 8,
        d_ff: 48,
        num_layers: 3,
        num_decoder_layers: Some(2),
        num_heads: 4,
        use_cache: false,
        ..Default::default()
    };
    let weights = || VarBuilder::from_tensors(tensors("t5"), DType::F32, &Device::Cpu);
    let model = raw("t5");
    // Long enough for the last bucket. The decoder's text stays within the single ones: candle-transformers has half as
    // many there as T5.
    let (read, said) = (Tokens::from_ids(ids(200)).unwrap(), Tokens::from_ids(ids(7)).unwrap());
    let mut theirs = t5::T5ForConditionalGeneration::load(weights(), &config).unwrap();
    let encoded = theirs.encode(&read.tensor(&Device::Cpu).unwrap()).unwrap();
    let (logits, cache) = model.run_with_cache((&read, &said)).unwrap();
    let w = model.weights().encoder.unwrap().ln_final.unwrap().w.unwrap();
    let ours = cache.get("encoder_ln_final.hook_normalized").unwrap().broadcast_mul(&w).unwrap();
    assert!(max_difference(&ours, &encoded) < 1e-4, "{}", max_difference(&ours, &encoded));
    // It multiplies by the root of d_model where T5 divides by it.
    let theirs = (theirs.decode(&said.tensor(&Device::Cpu).unwrap(), &encoded).unwrap() / 32.0).unwrap();
    let ours = logits.narrow(1, 6, 1).unwrap().squeeze(1).unwrap();
    assert!(max_difference(&ours, &theirs) < 1e-4, "{}", max_difference(&ours, &theirs));
}
