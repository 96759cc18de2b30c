//! `cargo bench`: what a run costs, case by case, with GPT-2 small's sizes and random weights. `examples/bench` has the same cases
//! beside the least that the machine could do; this is for comparing one state of the library with another.

use candlescope::model::{Activation, Sizes};
use candlescope::prelude::*;
use divan::Bencher;

fn main() {
    // As in a notebook's session.
    candlescope::keep_memory();
    divan::main();
}

/// GPT-2 small's sizes; made once.
fn model() -> &'static HookedTransformer {
    static MODEL: std::sync::OnceLock<HookedTransformer> = std::sync::OnceLock::new();
    MODEL.get_or_init(|| {
        let sizes =
            Sizes { n_layers: 12, d_model: 768, n_ctx: 1024, n_heads: 12, d_head: 64, d_mlp: 3072, d_vocab: 50257 };
        HookedTransformer::random(ModelConfig::new("gpt2", Activation::GeluNew, sizes), 0).expect("a random model")
    })
}

fn tokens(rows: usize, len: usize) -> Tokens {
    let id = |row: usize, pos: usize| ((row * 7919 + pos * 104_729 + 13) % 50_000) as u32;
    let rows = (0..rows).map(|row| (0..len).map(|pos| id(row, pos)).collect()).collect();
    Tokens::from_ids(rows).expect("tokens")
}

const SIZES: [(usize, usize); 5] = [(8, 64), (1, 256), (1, 1024), (1, 64), (1, 16)];

#[divan::bench(args = SIZES, sample_count = 5)]
fn forward(bencher: Bencher, (rows, len): (usize, usize)) {
    let tokens = tokens(rows, len);
    bencher.bench_local(|| model().forward(&tokens).expect("logits"));
}

#[divan::bench(args = SIZES, sample_count = 5)]
fn forward_with_cache(bencher: Bencher, (rows, len): (usize, usize)) {
    let tokens = tokens(rows, len);
    bencher.bench_local(|| model().run_with_cache(&tokens).expect("a cache"));
}

#[divan::bench(args = [(1, 16), (8, 64)])]
fn tiny(bencher: Bencher, (rows, len): (usize, usize)) {
    let model = HookedTransformer::from_pretrained("tiny").expect("the bundled model");
    let ids = tokens(rows, len).ids().iter().map(|row| row.iter().map(|id| id % 512).collect()).collect();
    let tokens = Tokens::from_ids(ids).expect("tokens");
    bencher.bench_local(|| model.forward(&tokens).expect("logits"));
}

#[divan::bench(args = ["resid_pre", "z"], sample_count = 3)]
fn sweep(bencher: Bencher, at: &str) {
    let prompts = tokens(2, 15);
    let row = |i: usize| Tokens::from(prompts.ids()[i].as_slice());
    let (_, cache) = model().run_with_cache(row(0)).expect("a cache");
    let axes = if at == "z" { ["layer", "head"] } else { ["layer", "pos"] };
    let sweep = model().sweep(row(1)).at(at).by(axes).patch_from(&cache).measure(logit_diff(17u32, 45u32));
    let sweep = sweep.progress(&Progress::quiet());
    bencher.bench_local(|| sweep.run().expect("a sweep"));
}

#[divan::bench(args = [1, 8], sample_count = 3)]
fn generate_16_tokens(bencher: Bencher, rows: usize) {
    let tokens = tokens(rows, 8);
    let options = GenerateOptions::greedy().max_new_tokens(16).stop_at_eos(false).progress(&Progress::quiet());
    bencher.bench_local(|| model().generate(&tokens, &options).expect("tokens"));
}

#[divan::bench(sample_count = 3)]
fn full_ov_copying_scores(bencher: Bencher) {
    bencher.bench_local(|| candlescope::prelude::full_ov_copying_scores(model()).expect("scores"));
}
