//! Settings of the LayerNorm families that no fixture has: random weights under the families' names, checked against the
//! arithmetic written out in `common/plain.rs`, and raw against processed weights.

use std::collections::HashMap;

use crate::common::plain::{self, Rows, add, attend, beside, columns, layer_norm, linear, map};
use crate::common::written::{D_MODEL, D_VOCAB, Folder, TOKENS, folder};
use candlescope::candle_core::safetensors;
use candlescope::prelude::*;
use serde_json::json;

fn head(x: &Rows, head: usize, width: usize) -> Rows {
    columns(x, head * width, width)
}

#[test]
fn opt_350m_has_norms_after_the_addition_and_a_narrower_embedding() {
    let (folder, heads, d_embed) = (Folder::new(), 4, 16);
    let d = D_MODEL / heads;
    let p = |tail: &str| format!("model.decoder.{tail}");
    let mut x = folder.linear(&folder.embed(&p("embed_tokens.weight"), d_embed), &p("project_in"), D_MODEL, false);
    let table = folder.get(&p("embed_positions.weight"), &[34, D_MODEL]);
    x = add(&x, &table[2..2 + TOKENS.len()].to_vec());
    for layer in 0..2 {
        let p = |tail: &str| p(&format!("layers.{layer}.{tail}"));
        let [q, k, v] = ["q", "k", "v"].map(|m| folder.linear(&x, &p(&format!("self_attn.{m}_proj")), D_MODEL, true));
        let attend = |h| attend(&head(&q, h, d), &head(&k, h, d), &head(&v, h, d), |s, _, _| s / (d as f64).sqrt());
        let z = beside((0..heads).map(attend).collect());
        x = folder.norm(
            &add(&x, &folder.linear(&z, &p("self_attn.out_proj"), D_MODEL, true)),
            &p("self_attn_layer_norm"),
            true,
        );
        let hidden = map(&folder.linear(&x, &p("fc1"), 36, true), |x| x.max(0.0));
        x = folder.norm(&add(&x, &folder.linear(&hidden, &p("fc2"), D_MODEL, true)), &p("final_layer_norm"), true);
    }
    let x = folder.linear(&x, &p("project_out"), d_embed, false);
    let logits = linear(&x, &folder.get(&p("embed_tokens.weight"), &[D_VOCAB, d_embed]), None);
    let config = json!({
        "model_type": "opt", "hidden_size": D_MODEL, "num_attention_heads": heads, "num_hidden_layers": 2, "ffn_dim": 36,
        "vocab_size": D_VOCAB, "max_position_embeddings": 32, "word_embed_proj_dim": d_embed,
        "do_layer_norm_before": false, "activation_function": "relu",
    });
    folder.check("opt-350m", config, &logits);
}

/// Slopes for six heads: those of four heads, then every second one of eight (Press et al.'s code).
const SIX_SLOPES: [f64; 6] = [1.0 / 4.0, 1.0 / 16.0, 1.0 / 64.0, 1.0 / 256.0, 1.0 / 2.0, 1.0 / 8.0];

/// Queries, keys and values of a layer that holds them head by head.
fn by_head(fused: &Rows, h: usize, d: usize) -> [Rows; 3] {
    [0, 1, 2].map(|part| columns(fused, (3 * h + part) * d, d))
}

#[test]
fn bloom_and_falcon_rw_with_six_heads() {
    for falcon in [false, true] {
        let (folder, heads) = (Folder::new(), 6);
        let d = D_MODEL / heads;
        let scale = (d as f64).sqrt();
        let mut x = folder.embed("transformer.word_embeddings.weight", D_MODEL);
        if !falcon {
            x = folder.norm(&x, "transformer.word_embeddings_layernorm", true);
        }
        for layer in 0..2 {
            let p = |tail: &str| format!("transformer.h.{layer}.{tail}");
            let normed = folder.norm(&x, &p("input_layernorm"), true);
            let fused = folder.linear(&normed, &p("self_attention.query_key_value"), 3 * D_MODEL, true);
            let one = |h: usize| {
                let [q, k, v] = by_head(&fused, h, d);
                attend(&q, &k, &v, |s, query, key| {
                    let bias = -SIX_SLOPES[h] * (query - key) as f64;
                    if falcon { (s + bias) / scale } else { s / scale + bias }
                })
            };
            let z = beside((0..heads).map(one).collect());
            x = add(&x, &folder.linear(&z, &p("self_attention.dense"), D_MODEL, true));
            let normed = folder.norm(&x, &p("post_attention_layernorm"), true);
            let hidden = map(&folder.linear(&normed, &p("mlp.dense_h_to_4h"), 4 * D_MODEL, true), plain::gelu_new);
            x = add(&x, &folder.linear(&hidden, &p("mlp.dense_4h_to_h"), D_MODEL, true));
        }
        let x = folder.norm(&x, "transformer.ln_f", true);
        let logits = linear(&x, &folder.get("transformer.word_embeddings.weight", &[D_VOCAB, D_MODEL]), None);
        let config = if falcon {
            json!({
                "model_type": "falcon", "hidden_size": D_MODEL, "num_attention_heads": heads, "num_hidden_layers": 2,
                "vocab_size": D_VOCAB, "alibi": true, "bias": true, "multi_query": false, "parallel_attn": false,
                "activation": "gelu_new",
            })
        } else {
            json!({ "model_type": "bloom", "n_embed": D_MODEL, "n_head": heads, "n_layer": 2, "vocab_size": D_VOCAB })
        };
        folder.check(if falcon { "falcon-rw" } else { "bloom" }, config, &logits);
    }
}

#[test]
fn falcon_with_a_new_architecture_and_one_norm() {
    let (folder, heads, groups) = (Folder::new(), 6, 2);
    let (d, share) = (D_MODEL / heads, heads / groups);
    let mut x = folder.embed("transformer.word_embeddings.weight", D_MODEL);
    for layer in 0..2 {
        let p = |tail: &str| format!("transformer.h.{layer}.{tail}");
        let normed = folder.norm(&x, &p("input_layernorm"), true);
        let fused = folder.linear(&normed, &p("self_attention.query_key_value"), (heads + 2 * groups) * d, false);
        let one = |h: usize| {
            // A group's run: its queries, then its key, then its value.
            let run = h / share * (share + 2);
            let rotated = |part: usize| plain::rotate(&columns(&fused, (run + part) * d, d), d, 10000.0);
            let v = columns(&fused, (run + share + 1) * d, d);
            attend(&rotated(h % share), &rotated(share), &v, |s, _, _| s / (d as f64).sqrt())
        };
        let z = beside((0..heads).map(one).collect());
        let attn_out = folder.linear(&z, &p("self_attention.dense"), D_MODEL, false);
        let hidden = map(&folder.linear(&normed, &p("mlp.dense_h_to_4h"), 50, false), plain::gelu_new);
        x = add(&add(&x, &attn_out), &folder.linear(&hidden, &p("mlp.dense_4h_to_h"), D_MODEL, false));
    }
    let x = folder.norm(&x, "transformer.ln_f", true);
    let logits = linear(&x, &folder.get("transformer.word_embeddings.weight", &[D_VOCAB, D_MODEL]), None);
    let config = json!({
        "model_type": "falcon", "hidden_size": D_MODEL, "n_head": heads, "n_layer": 2, "n_head_kv": groups,
        "vocab_size": D_VOCAB, "new_decoder_architecture": true, "num_ln_in_parallel_attn": 1, "ffn_hidden_size": 50,
        "activation": "gelu_new",
    });
    folder.check("falcon-one-norm", config, &logits);
}

#[test]
fn stablelm_with_parallel_branches_norms_on_each_head_and_biases() {
    for parallel in [true, false] {
        let (folder, heads, groups) = (Folder::new(), 3, 1);
        let d = D_MODEL / heads;
        let mut x = folder.embed("model.embed_tokens.weight", D_MODEL);
        for layer in 0..2 {
            let p = |tail: &str| format!("model.layers.{layer}.{tail}");
            let normed = folder.norm(&x, &p("input_layernorm"), true);
            let q = folder.linear(&normed, &p("self_attn.q_proj"), heads * d, true);
            let k = folder.linear(&normed, &p("self_attn.k_proj"), groups * d, true);
            let v = folder.linear(&normed, &p("self_attn.v_proj"), groups * d, true);
            let placed = |x: &Rows, norm: String| plain::rotate(&folder.norm(x, &norm, false), d / 4, 5000.0);
            let k = placed(&k, p("self_attn.k_layernorm.norms.0"));
            let one = |h: usize| {
                let q = placed(&head(&q, h, d), p(&format!("self_attn.q_layernorm.norms.{h}")));
                attend(&q, &k, &v, |s, _, _| s / (d as f64).sqrt())
            };
            let attn_out =
                folder.linear(&beside((0..heads).map(one).collect()), &p("self_attn.o_proj"), D_MODEL, false);
            let mid = add(&x, &attn_out);
            let read = if parallel { normed } else { folder.norm(&mid, &p("post_attention_layernorm"), true) };
            let gate = map(&folder.linear(&read, &p("mlp.gate_proj"), 30, false), plain::silu);
            let up = folder.linear(&read, &p("mlp.up_proj"), 30, false);
            let hidden = gate.iter().zip(&up).map(|(g, u)| g.iter().zip(u).map(|(g, u)| g * u).collect()).collect();
            x = add(&mid, &folder.linear(&hidden, &p("mlp.down_proj"), D_MODEL, false));
        }
        let logits = folder.linear(&folder.norm(&x, "model.norm", true), "lm_head", D_VOCAB, false);
        let config = json!({
            "model_type": "stablelm", "hidden_size": D_MODEL, "num_attention_heads": heads, "num_hidden_layers": 2,
            "num_key_value_heads": groups, "intermediate_size": 30, "vocab_size": D_VOCAB, "max_position_embeddings": 32,
            "use_parallel_residual": parallel, "qk_layernorm": true, "use_qkv_bias": true, "partial_rotary_factor": 0.25,
            "rope_theta": 5000.0,
        });
        folder.check(if parallel { "stablelm-parallel" } else { "stablelm-serial" }, config, &logits);
    }
}

#[test]
fn mpt_with_clipped_and_normed_queries() {
    let (folder, heads, clip) = (Folder::new(), 6, 0.6);
    let d = D_MODEL / heads;
    // bias_max 4: the slopes are the square roots of those for 8.
    let slope = |h: usize| SIX_SLOPES[h].sqrt();
    let mut x = folder.embed("transformer.wte.weight", D_MODEL);
    for layer in 0..2 {
        let p = |tail: &str| format!("transformer.blocks.{layer}.{tail}");
        let fused = folder.linear(&folder.norm(&x, &p("norm_1"), false), &p("attn.Wqkv"), 3 * D_MODEL, false);
        let fused = map(&fused, |x| x.clamp(-clip, clip));
        let q = folder.norm(&columns(&fused, 0, D_MODEL), &p("attn.q_ln"), false);
        let k = folder.norm(&columns(&fused, D_MODEL, D_MODEL), &p("attn.k_ln"), false);
        let v = columns(&fused, 2 * D_MODEL, D_MODEL);
        let one = |h: usize| {
            let score = |s: f64, query: usize, key: usize| s * 0.3 - slope(h) * (query - key) as f64;
            attend(&head(&q, h, d), &head(&k, h, d), &head(&v, h, d), score)
        };
        let z = beside((0..heads).map(one).collect());
        x = add(&x, &folder.linear(&z, &p("attn.out_proj"), D_MODEL, false));
        let normed = folder.norm(&x, &p("norm_2"), false);
        let hidden = folder.linear(&normed, &p("ffn.up_proj"), 4 * D_MODEL, false);
        x = add(&x, &folder.linear(&map(&hidden, gelu), &p("ffn.down_proj"), D_MODEL, false));
    }
    let x = folder.norm(&x, "transformer.norm_f", false);
    let logits = linear(&x, &folder.get("transformer.wte.weight", &[D_VOCAB, D_MODEL]), None);
    let config = json!({
        "model_type": "mpt", "d_model": D_MODEL, "n_heads": heads, "n_layers": 2, "max_seq_len": 32, "vocab_size": D_VOCAB,
        "expansion_ratio": 2, "attn_config": { "clip_qkv": clip, "qk_ln": true, "softmax_scale": 0.3, "alibi_bias_max": 4 },
    });
    folder.check("mpt", config, &logits);
}

#[test]
fn bigcode_with_as_many_keys_as_queries() {
    let (folder, heads) = (Folder::new(), 4);
    let d = D_MODEL / heads;
    let positions = folder.get("transformer.wpe.weight", &[32, D_MODEL]);
    let mut x = add(&folder.embed("transformer.wte.weight", D_MODEL), &positions[..TOKENS.len()].to_vec());
    for layer in 0..2 {
        let p = |tail: &str| format!("transformer.h.{layer}.{tail}");
        let fused = folder.linear(&folder.norm(&x, &p("ln_1"), true), &p("attn.c_attn"), 3 * D_MODEL, true);
        let one = |h: usize| {
            let [q, k, v] = by_head(&fused, h, d);
            attend(&q, &k, &v, |s, _, _| s / (d as f64).sqrt())
        };
        x = add(&x, &folder.linear(&beside((0..heads).map(one).collect()), &p("attn.c_proj"), D_MODEL, true));
        let hidden = folder.linear(&folder.norm(&x, &p("ln_2"), true), &p("mlp.c_fc"), 4 * D_MODEL, true);
        x = add(&x, &folder.linear(&map(&hidden, plain::gelu_new), &p("mlp.c_proj"), D_MODEL, true));
    }
    let x = folder.norm(&x, "transformer.ln_f", true);
    let logits = linear(&x, &folder.get("transformer.wte.weight", &[D_VOCAB, D_MODEL]), None);
    let config = json!({
        "model_type": "gpt_bigcode", "n_embd": D_MODEL, "n_head": heads, "n_layer": 2, "n_positions": 32,
        "vocab_size": D_VOCAB, "multi_query": false, "activation_function": "gelu_pytorch_tanh",
    });
    folder.check("bigcode-multi-head", config, &logits);
}

/// x·Φ(x), with Φ's integral summed up (Simpson's rule).
fn gelu(x: f64) -> f64 {
    let n = 400;
    let density = |t: f64| (-t * t / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let h = x / n as f64;
    let weight = |i: usize| if i == 0 || i == n { 1.0 } else { 2.0 + 2.0 * (i % 2) as f64 };
    x * (0.5 + h / 3.0 * (0..=n).map(|i| weight(i) * density(i as f64 * h)).sum::<f64>())
}

/// One of TransformerLens' own models, written out.
struct Toy {
    shortformer: bool,
    attn_only: bool,
    solu: bool,
    final_rms: bool,
    normed: bool,
}

impl Toy {
    fn logits(&self, folder: &Folder) -> Rows {
        let (heads, d, d_mlp) = (3, 8, 20);
        let norm = |x: &Rows, name: &str| {
            let width = x[0].len();
            if !self.normed {
                return layer_norm(x, None, None);
            }
            layer_norm(
                x,
                Some(&folder.get(&format!("{name}.w"), &[width])),
                Some(&folder.get(&format!("{name}.b"), &[width])),
            )
        };
        // TransformerLens stores a row for each input.
        let map_by = |x: &Rows, w: &Rows, b: &Rows| linear(x, &plain::transposed(w), Some(b));
        let places = folder.get("pos_embed.W_pos", &[16, D_MODEL])[..TOKENS.len()].to_vec();
        let mut x = folder.embed("embed.W_E", D_MODEL);
        if !self.shortformer {
            x = add(&x, &places);
        }
        for layer in 0..2 {
            let p = |tail: &str| format!("blocks.{layer}.{tail}");
            let normed = norm(&x, &p("ln1"));
            let placed = if self.shortformer { add(&normed, &places) } else { normed.clone() };
            let one = |h: usize| {
                let project = |x: &Rows, m: &str| {
                    let w = folder.get(&p(&format!("attn.W_{m}")), &[heads, D_MODEL, d]);
                    let b = folder.get(&p(&format!("attn.b_{m}")), &[heads, d]);
                    map_by(x, &w[h * D_MODEL..(h + 1) * D_MODEL].to_vec(), &vec![b[h].clone()])
                };
                let (q, k, v) = (project(&placed, "Q"), project(&placed, "K"), project(&normed, "V"));
                attend(&q, &k, &v, |s, _, _| s / (d as f64).sqrt())
            };
            let z = beside((0..heads).map(one).collect());
            let w_o = folder.get(&p("attn.W_O"), &[heads, d, D_MODEL]);
            x = add(&x, &map_by(&z, &w_o, &folder.get(&p("attn.b_O"), &[D_MODEL])));
            if self.attn_only {
                continue;
            }
            let w_in = folder.get(&p("mlp.W_in"), &[D_MODEL, d_mlp]);
            let pre = map_by(&norm(&x, &p("ln2")), &w_in, &folder.get(&p("mlp.b_in"), &[d_mlp]));
            let post = if self.solu {
                let solu = |row: &Vec<f64>| row.iter().zip(plain::softmax(row)).map(|(x, p)| x * p).collect();
                norm(&pre.iter().map(solu).collect(), &p("mlp.ln"))
            } else {
                map(&pre, gelu)
            };
            let w_out = folder.get(&p("mlp.W_out"), &[d_mlp, D_MODEL]);
            x = add(&x, &map_by(&post, &w_out, &folder.get(&p("mlp.b_out"), &[D_MODEL])));
        }
        let x = if self.final_rms {
            let w = &folder.get("ln_final.w", &[D_MODEL])[0];
            let rms = |row: &Vec<f64>| {
                let scale = (row.iter().map(|x| x * x).sum::<f64>() / D_MODEL as f64 + 1e-5).sqrt();
                row.iter().zip(w).map(|(x, w)| x / scale * w).collect()
            };
            x.iter().map(rms).collect()
        } else {
            norm(&x, "ln_final")
        };
        map_by(&x, &folder.get("unembed.W_U", &[D_MODEL, D_VOCAB]), &folder.get("unembed.b_U", &[D_VOCAB]))
    }

    fn config(&self) -> serde_json::Value {
        json!({
            "d_model": D_MODEL, "n_layers": 2, "d_mlp": 20, "d_head": 8, "n_heads": 3, "n_ctx": 16, "d_vocab": D_VOCAB,
            "act_fn": if self.solu { "solu_ln" } else { "gelu" }, "attn_only": self.attn_only,
            "final_rms": self.final_rms, "shortformer_pos": self.shortformer,
            "normalization": if self.normed { "LN" } else { "LNPre" }, "tokenizer_name": "NeelNanda/gpt-neox-tokenizer-digits",
        })
    }
}

const SOLU: Toy = Toy { shortformer: false, attn_only: false, solu: true, final_rms: false, normed: true };

#[test]
fn toy_models_of_transformer_lens() {
    let toys = [
        ("solu", SOLU),
        ("solu-pre", Toy { normed: false, ..SOLU }),
        ("solu-final-rms", Toy { final_rms: true, ..SOLU }),
        ("gelu", Toy { solu: false, ..SOLU }),
        ("attn-only", Toy { attn_only: true, ..SOLU }),
        ("attn-only-shortformer", Toy { attn_only: true, shortformer: true, ..SOLU }),
        ("attn-only-shortformer-pre", Toy { attn_only: true, shortformer: true, normed: false, ..SOLU }),
    ];
    for (name, toy) in toys {
        let folder = Folder::new();
        let logits = toy.logits(&folder);
        folder.check(name, toy.config(), &logits);
    }
}

#[test]
fn the_first_solu_models_files() {
    let folder = Folder::new();
    let logits = SOLU.logits(&folder);
    // Their files call a norm norm and, of few layers, hold all weights transposed.
    let old = |(name, tensor): (String, Tensor)| {
        let name =
            if name.starts_with("ln_final") { name.replace("ln_final", "norm") } else { name.replace("ln", "norm") };
        let turned = if name.contains("W_") { tensor.t().unwrap().contiguous().unwrap() } else { tensor };
        (name, turned)
    };
    let tensors = folder.tensors.take().into_iter().map(old).collect();
    folder.tensors.replace(tensors);
    folder.check("solu-old", SOLU.config(), &logits);
}

#[test]
fn a_toy_models_hook_points() {
    let folder = Folder::new();
    SOLU.logits(&folder);
    let model = folder.load("solu-points", &SOLU.config(), &LoadOptions::new());
    let tokens = Tensor::new(&[TOKENS], &Device::Cpu).unwrap();
    let (_, cache) = model.run_with_cache(&tokens).unwrap();
    for name in
        ["hook_pos_embed", "blocks.1.mlp.hook_mid", "blocks.1.mlp.ln.hook_scale", "blocks.1.mlp.ln.hook_normalized"]
    {
        assert!(cache.contains(name), "{name}");
    }
}

#[test]
fn switches_that_are_not_supported_are_named() {
    let falcon = |key: &str, value: serde_json::Value| {
        let mut config = json!({
            "model_type": "falcon", "hidden_size": 24, "n_head": 4, "n_layer": 1, "vocab_size": 40,
            "new_decoder_architecture": true,
        });
        config[key] = value;
        config
    };
    let mpt = |attn: serde_json::Value| json!({ "model_type": "mpt", "d_model": 24, "n_heads": 4, "n_layers": 1, "vocab_size": 40, "attn_config": attn });
    let mut bloom = json!({ "model_type": "bloom", "hidden_size": 24, "n_head": 4, "n_layer": 1, "vocab_size": 40 });
    bloom["apply_residual_connection_post_layernorm"] = json!(true);
    let mut toy = SOLU.config();
    toy["positional_embedding_type"] = json!("alibi");
    let cases = [
        ("apply_residual_connection_post_layernorm", bloom),
        ("parallel_attn", falcon("parallel_attn", json!(false))),
        ("num_ln_in_parallel_attn", falcon("num_ln_in_parallel_attn", json!(3))),
        ("prefix_lm", mpt(json!({ "prefix_lm": true }))),
        ("attn_uses_sequence_id", mpt(json!({ "attn_uses_sequence_id": true }))),
        ("attn_type", mpt(json!({ "attn_type": "multiquery_attention" }))),
        ("alibi", mpt(json!({ "alibi": false }))),
        ("positional_embedding_type", toy),
    ];
    for (key, config) in cases {
        let folder = folder(&format!("refused-{key}"));
        std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
        safetensors::save(&HashMap::<String, Tensor>::new(), folder.join("model.safetensors")).unwrap();
        let error = HookedTransformer::from_pretrained(&folder.to_string_lossy()).unwrap_err().to_string();
        assert!(error.contains(&format!("'{key}'")), "{key}: {error}");
    }
}
