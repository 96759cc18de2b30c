use candle_core::{D, DType, Device, Tensor};

use super::*;
use crate::analysis::FactoredMatrix;
use crate::model::{Activation, HookedTransformer, LoadOptions, ModelConfig, Sizes};
use crate::weights::{
    AttentionWeights, BlockWeights, FeedForwardWeights, MixerWeights, MlpWeights, NormWeights, Processing, Weights,
};
use crate::{Error, Result};

fn folder(name: &str) -> String {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    folder.to_string_lossy().into_owned()
}

fn model(name: &str) -> HookedTransformer {
    HookedTransformer::from_pretrained(&folder(name)).unwrap()
}

fn numbers(t: &Tensor) -> Vec<f32> {
    t.flatten_all().and_then(|t| t.to_vec1()).unwrap()
}

#[track_caller]
fn assert_same(found: &Tensor, wanted: &Tensor, tolerance: f32) {
    assert_eq!(found.dims(), wanted.dims());
    let size = numbers(wanted).iter().fold(1f32, |size, x| size.max(x.abs()));
    for (x, y) in numbers(found).iter().zip(numbers(wanted)) {
        assert!((x - y).abs() <= tolerance * size, "{x} is not {y}");
    }
}

#[track_caller]
fn sentence<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.expect_err("an error was expected").to_string()
}

/// One head's weight, straight from the weights of the model, `[d_model, d_head]` or `[d_head, d_model]`.
fn head_weight(model: &HookedTransformer, layer: usize, head: usize, which: &str) -> Tensor {
    let weights = model.weights();
    let MixerWeights::Attention(attention) = &weights.blocks[layer].mixer else { panic!("no attention") };
    let group = head / model.cfg().heads_per_key_value();
    let found = match which {
        "W_Q" => attention.w_q.get(head),
        "W_K" => attention.w_k.get(group),
        "W_V" => attention.w_v.get(group),
        _ => attention.w_o.get(head),
    };
    found.unwrap().contiguous().unwrap()
}

fn product(factors: &[Tensor]) -> Tensor {
    let contiguous = |t: &Tensor| t.contiguous().unwrap();
    factors[1..].iter().fold(contiguous(&factors[0]), |product, factor| product.matmul(&contiguous(factor)).unwrap())
}

fn norm(t: &Tensor) -> f32 {
    numbers(t).iter().map(|x| x * x).sum::<f32>().sqrt()
}

#[test]
fn full_circuits_are_the_dense_products() -> Result<()> {
    for name in ["gpt2", "llama", "gpt_neox", "mixtral"] {
        let model = model(name);
        let (w_e, w_u) = (model.w_e().clone(), model.w_u().clone());
        for (layer, head) in [(0, 0), (1, 3), (2, 1)] {
            let weight = |which| head_weight(&model, layer, head, which);
            let ov = full_ov(&model, layer, head)?;
            assert_eq!((ov.shape(), ov.mdim()), (vec![320, 320], model.cfg().d_head));
            let dense = product(&[w_e.clone(), weight("W_V"), weight("W_O"), w_u.clone()]);
            assert_same(&ov.ab()?, &dense, 1e-5);
            let qk = full_qk(&model, layer, head)?;
            let dense = product(&[w_e.clone(), weight("W_Q"), weight("W_K").t()?, w_e.t()?]);
            assert_same(&qk.ab()?, &dense, 1e-5);
        }
    }
    let gpt2 = model("gpt2");
    let (w_e, w_pos) = (gpt2.w_e(), gpt2.w_pos().unwrap());
    let qk = [head_weight(&gpt2, 1, 2, "W_Q"), head_weight(&gpt2, 1, 2, "W_K").t()?];
    let between =
        |query: &Tensor, key: &Tensor| product(&[query.clone(), qk[0].clone(), qk[1].clone(), key.t().unwrap()]);
    let found = full_qk_between(&gpt2, 1, 2, Embedded::Positions, Embedded::Positions)?;
    assert_same(&found.ab()?, &between(w_pos, w_pos), 1e-5);
    let found = full_qk_between(&gpt2, 1, 2, Embedded::TokensAndPositions, Embedded::Positions)?;
    assert_same(&found.rows(..320)?.ab()?, &between(w_e, w_pos), 1e-5);
    assert_same(&found.rows(320..)?.ab()?, &between(w_pos, w_pos), 1e-5);
    assert_same(&gpt2.w_e_pos()?.narrow(0, 320, 64)?, w_pos, 0.);
    Ok(())
}

#[test]
fn what_stands_around_the_heads_is_in_the_full_circuit() -> Result<()> {
    // Gemma 2: embeddings times √d_model, and a norm behind the attention.
    let gemma = model("gemma2");
    let post = gemma.weights().blocks[1].ln1_post.clone().and_then(|norm| norm.w).unwrap();
    let w_o = head_weight(&gemma, 1, 2, "W_O").broadcast_mul(&post)?;
    let w_e = (gemma.w_e() * (gemma.cfg().d_model as f64).sqrt())?;
    let dense = product(&[w_e, head_weight(&gemma, 1, 2, "W_V"), w_o, gemma.w_u().clone()]);
    assert_same(&full_ov(&gemma, 1, 2)?.ab()?, &dense, 1e-5);

    // Norms that were folded and norms that were not give the same circuit; folding centres W_U besides.
    let raw = LoadOptions::new().processing(Processing::none());
    let raw = HookedTransformer::from_pretrained_with(&folder("llama"), &raw)?;
    let centred = |model: &HookedTransformer| -> Result<Tensor> {
        let dense = full_ov(model, 1, 2)?.ab()?;
        Ok(dense.broadcast_sub(&dense.mean_keepdim(1)?)?)
    };
    assert!(!raw.norms_folded());
    assert_same(&centred(&raw)?, &centred(&model("llama"))?, 1e-5);
    assert_same(&full_qk(&raw, 2, 0)?.ab()?, &full_qk(&model("llama"), 2, 0)?.ab()?, 1e-5);
    Ok(())
}

/// The same model with the first tokens only, so that dense circuits are small.
fn with_vocabulary(model: &HookedTransformer, d_vocab: usize) -> HookedTransformer {
    let mut weights = model.weights();
    weights.w_e = weights.w_e.narrow(0, 0, d_vocab).unwrap();
    weights.w_u = weights.w_u.narrow(1, 0, d_vocab).unwrap();
    weights.b_u = None;
    HookedTransformer::from_weights(ModelConfig { d_vocab, ..model.cfg().clone() }, weights).unwrap()
}

#[test]
fn eigenvalues_of_full_circuits_are_those_of_the_dense_products() -> Result<()> {
    const V: usize = 40;
    for name in ["gpt2", "llama", "gemma2"] {
        let model = with_vocabulary(&model(name), V);
        let found = full_ov_eigenvalues(&model)?;
        let scores = full_ov_copying_scores(&model)?;
        let d_head = model.cfg().d_head;
        assert_eq!(found.re.dims(), [3, 4, d_head]);
        for (layer, head) in [(0, 1), (2, 3)] {
            let dense = full_ov(&model, layer, head)?.ab()?;
            // The dense matrix as a factored one of full rank: all eigenvalues, most of which are zero.
            let identity = Tensor::eye(V, DType::F32, &Device::Cpu)?;
            let all = FactoredMatrix::new(&dense, &identity)?.eigenvalues()?;
            let at = |t: &Tensor| t.get(layer)?.get(head);
            assert_same(&at(&found.abs()?)?, &all.abs()?.narrow(0, 0, d_head)?, 1e-4);
            let score = numbers(&at(scores.tensor())?)[0];
            assert!((score - numbers(&all.copying_score()?)[0]).abs() < 1e-3, "{name}");
            // The trace of the dense matrix, summed up by hand.
            let trace: f32 = dense.to_vec2::<f32>()?.iter().enumerate().map(|(i, row)| row[i]).sum();
            assert!((numbers(&at(&found.sum_re()?)?)[0] - trace).abs() < 1e-3 * trace.abs().max(1.), "{name}");
        }
    }
    Ok(())
}

#[test]
fn composition_scores_are_those_of_dense_products() -> Result<()> {
    for name in ["gpt2", "llama"] {
        let model = model(name);
        let circuit = |(layer, head): (usize, usize), of: [&str; 2]| {
            let [first, second] = of.map(|which| head_weight(&model, layer, head, which));
            product(&[first, if of[1] == "W_K" { second.t().unwrap() } else { second }])
        };
        for composition in [Composition::Q, Composition::K, Composition::V] {
            let scores = model.all_composition_scores(composition)?;
            let names: Vec<&str> = scores.axes().iter().map(|axis| axis.name()).collect();
            assert_eq!(names, ["layer", "head", "later layer", "later head"]);
            let above = model.composition_scores_above_chance(composition)?;
            for (earlier, later) in
                [((0, 1), (1, 2)), ((0, 3), (2, 0)), ((1, 0), (2, 2)), ((1, 0), (1, 2)), ((2, 1), (0, 1))]
            {
                let ov = circuit(earlier, ["W_V", "W_O"]);
                let read = match composition {
                    Composition::Q => circuit(later, ["W_Q", "W_K"]),
                    Composition::K => circuit(later, ["W_Q", "W_K"]).t()?.contiguous()?,
                    Composition::V => circuit(later, ["W_V", "W_O"]),
                };
                let at = |scores: &Tensor| -> Result<f32> {
                    Ok(scores.get(earlier.0)?.get(earlier.1)?.get(later.0)?.get(later.1)?.to_scalar()?)
                };
                let is_later = earlier.0 < later.0;
                let wanted = if is_later { norm(&ov.matmul(&read)?) / (norm(&ov) * norm(&read)) } else { 0. };
                assert!((at(&scores)? - wanted).abs() < 1e-5, "{name} {composition:?} {earlier:?} {later:?}");
                let chance = if is_later { 1. / 32f32.sqrt() } else { 0. };
                assert!((at(&above)? - (wanted - chance)).abs() < 1e-5);
            }
        }
    }
    Ok(())
}

#[test]
fn chance_is_what_random_matrices_score() -> Result<()> {
    // Gaussian factors are turned at random already.
    let device = Device::Cpu;
    let random = |shape: (usize, usize, usize)| Tensor::randn(0f32, 1., shape, &device);
    let left = FactoredMatrix::new(&random((30, 32, 4))?, &random((30, 4, 32))?)?;
    let right = FactoredMatrix::new(&random((30, 32, 6))?, &random((30, 6, 32))?)?;
    let mean_square = numbers(&left.composition_scores(&right)?.sqr()?.mean_all()?)[0];
    let chance = model("llama").chance_composition() as f32;
    assert!((mean_square.sqrt() / chance - 1.).abs() < 0.05, "{} is not {chance}", mean_square.sqrt());
    Ok(())
}

#[test]
fn singular_vectors_rebuild_the_matrix_and_name_tokens() -> Result<()> {
    let model = model("llama");
    let (layer, head) = (1, 2);
    let weight = |which| head_weight(&model, layer, head, which);
    let mlp = |which: &str| {
        let FeedForwardWeights::Mlp(mlp) = model.weights().blocks[layer].feed_forward.clone().unwrap() else {
            panic!()
        };
        match which {
            "W_in" => mlp.w_in,
            "W_gate" => mlp.w_gate.unwrap(),
            _ => mlp.w_out,
        }
    };
    let circuits = [
        (Circuit::Ov { layer, head }, product(&[weight("W_V"), weight("W_O")]), 8),
        (Circuit::Qk { layer, head }, product(&[weight("W_Q"), weight("W_K").t()?]), 8),
        (Circuit::WIn { layer }, mlp("W_in"), 32),
        (Circuit::WGate { layer }, mlp("W_gate"), 32),
        (Circuit::WOut { layer }, mlp("W_out"), 32),
    ];
    for (circuit, dense, rank) in circuits {
        let all = singular_vectors(&model, circuit, rank)?;
        assert_eq!((all.len(), all.circuit()), (rank, circuit));
        let u = all.vectors(Side::Reads).broadcast_mul(all.singular_values())?;
        assert_same(&product(&[u, all.vectors(Side::Writes).t()?]), &dense, 1e-5);
        assert!(sentence(singular_vectors(&model, circuit, rank + 1)).contains(&format!("there are {rank}")));
        assert!(sentence(all.top(Side::Reads, rank, 1, 1)).contains("no singular vector"));
    }

    let few = singular_vectors(&model, Circuit::Ov { layer, head }, 3)?;
    let written = product(&[model.w_u().t()?, few.vectors(Side::Writes).clone()]);
    assert_same(few.tokens(Side::Writes)?, &written, 1e-5);
    assert_same(few.logits()?, &written, 1e-5);
    assert_same(few.tokens(Side::Reads)?, &product(&[model.w_e().clone(), few.vectors(Side::Reads).clone()]), 1e-5);
    // The strongest token is at the positive end, and first.
    let column: Vec<f32> = numbers(&written.narrow(1, 1, 1)?);
    let strongest = (0..column.len()).max_by(|&a, &b| column[a].abs().total_cmp(&column[b].abs())).unwrap();
    let top = few.top_tokens(Side::Writes, 1, 4)?;
    assert_eq!((top[0].1 as usize, top[0].2), (strongest, column[strongest]));
    assert!(top.windows(2).all(|pair| pair[0].2 >= pair[1].2));
    let lowest = few.top(Side::Writes, 1, 1, -1)?[0].1;
    assert_eq!(lowest, column.iter().copied().fold(f32::INFINITY, f32::min));

    let w_in = singular_vectors(&model, Circuit::WIn { layer }, 2)?;
    assert!(sentence(w_in.tokens(Side::Writes).cloned()).contains("neurons, not tokens"));
    assert!(w_in.top(Side::Writes, 0, 1, 1)?[0].0.starts_with('N'));
    let qk = singular_vectors(&model, Circuit::Qk { layer, head }, 2)?;
    assert!(sentence(qk.logits().cloned()).contains("nothing of QK"));
    Ok(())
}

/// Llama with a Mamba layer in its middle.
fn hybrid() -> HookedTransformer {
    let (llama, mamba) = (model("llama"), model("mamba"));
    let mut weights = llama.weights();
    weights.blocks[1] = mamba.weights().blocks[0].clone();
    let cfg = ModelConfig { state_space: mamba.cfg().state_space.clone(), ..llama.cfg().clone() };
    HookedTransformer::from_weights(cfg, weights).unwrap()
}

#[test]
fn layers_without_attention_are_left_out() -> Result<()> {
    let (hybrid, llama) = (hybrid(), model("llama"));
    assert!(sentence(hybrid.w_q()).contains("state-space"));
    assert!(sentence(hybrid.ov()).contains("state-space"));
    let attention = hybrid.attn_layers()?;
    assert_eq!(attention.layers(), [0, 2]);
    assert_same(&attention.w_k()?.get(1)?, &llama.w_k()?.get(2)?, 0.);
    assert_eq!(hybrid.mlp_layers()?.layers(), [0, 2]);

    let all = llama.all_composition_scores(Composition::V)?;
    let found = hybrid.all_composition_scores(Composition::V)?;
    assert_eq!(found.axes()[2].labels(), ["0", "2"]);
    let first_with_last = |t: &Tensor, last: usize| t.get(0)?.narrow(1, last, 1);
    assert_same(&first_with_last(found.tensor(), 1)?, &first_with_last(all.tensor(), 2)?, 1e-6);
    let copying = full_ov_copying_scores(&hybrid)?;
    assert_eq!(copying.axes()[0].labels(), ["0", "2"]);
    assert_same(&copying.get(1)?, &full_ov_copying_scores(&llama)?.get(2)?, 1e-5);
    let summary = crate::analysis::head_summary(&hybrid)?;
    assert_eq!(summary.heads().iter().map(|head| head.layer).collect::<Vec<_>>(), [0, 0, 0, 0, 2, 2, 2, 2]);
    assert!(sentence(full_ov(&hybrid, 1, 0)).contains("state-space"));
    Ok(())
}

#[test]
fn stacked_weights_are_those_of_each_layer() -> Result<()> {
    let gpt2 = model("gpt2");
    for (found, dims) in [
        (gpt2.b_q()?, vec![3, 4, 8]),
        (gpt2.b_k()?, vec![3, 4, 8]),
        (gpt2.b_v()?, vec![3, 4, 8]),
        (gpt2.b_o()?, vec![3, 32]),
        (gpt2.b_in()?, vec![3, 128]),
        (gpt2.b_out()?, vec![3, 32]),
    ] {
        assert_eq!(found.dims(), dims);
    }
    let weights = gpt2.weights();
    let MixerWeights::Attention(attention) = &weights.blocks[2].mixer else { panic!() };
    assert_same(&gpt2.b_q()?.get(2)?, attention.b_q.as_ref().unwrap(), 0.);
    assert_same(&gpt2.b_o()?.get(2)?, attention.b_o.as_ref().unwrap(), 0.);
    assert!(sentence(gpt2.w_gate()).contains("no gate"));

    // Two query heads share each key head, also in the biases; what is not there is zero.
    let qwen = model("qwen2");
    let weights = qwen.weights();
    let MixerWeights::Attention(attention) = &weights.blocks[1].mixer else { panic!() };
    let (n_heads, share) = (qwen.cfg().n_heads, qwen.cfg().heads_per_key_value());
    assert!(share > 1);
    for head in 0..n_heads {
        let wanted = attention.b_k.as_ref().unwrap().get(head / share)?;
        assert_same(&qwen.b_k()?.get(1)?.get(head)?, &wanted, 0.);
    }
    assert!(numbers(&qwen.b_out()?).iter().all(|x| *x == 0.));
    assert_eq!(qwen.w_gate()?.dims(), qwen.w_in()?.dims());

    assert!(sentence(model("mixtral").mlp_layers()).contains("experts"));
    assert!(sentence(qwen.w_e_pos()).contains("no vectors for positions"));
    assert!(sentence(qwen.layers([0, 3])).contains("no layer 3"));
    assert!(sentence(qwen.layers([])).contains("at least one"));
    Ok(())
}

#[test]
fn half_precision_weights_are_computed_in_f32() -> Result<()> {
    let whole = model("llama");
    let half = HookedTransformer::from_pretrained_with(&folder("llama"), &LoadOptions::new().dtype(DType::BF16))?;
    assert_eq!(half.ov()?.a().dtype(), DType::F32);
    for composition in [Composition::Q, Composition::K] {
        let found = half.all_composition_scores(composition)?;
        assert_same(found.tensor(), whole.all_composition_scores(composition)?.tensor(), 5e-3);
    }
    let found = full_ov_copying_scores(&half)?;
    assert_same(found.tensor(), full_ov_copying_scores(&whole)?.tensor(), 3e-2);
    assert_same(&full_ov(&half, 0, 0)?.norm()?, &full_ov(&whole, 0, 0)?.norm()?, 1e-2);
    assert_eq!(singular_vectors(&half, Circuit::WIn { layer: 0 }, 2)?.logits()?.dtype(), DType::F32);
    Ok(())
}

#[test]
fn mistakes_are_sentences() {
    let (llama, mamba, deepseek) = (model("llama"), model("mamba"), model("deepseek_v3"));
    for (layer, head) in [(3, 0), (0, 4)] {
        let text = sentence(full_ov(&llama, layer, head));
        assert!(text.contains(&format!("no head {head} in layer {layer}")), "{text}");
        assert!(sentence(full_qk(&llama, layer, head)).contains("3 layers of 4 heads"));
        assert!(sentence(singular_vectors(&llama, Circuit::Ov { layer, head }, 1)).contains("no head"));
    }
    assert!(sentence(singular_vectors(&llama, Circuit::WIn { layer: 7 }, 1)).contains("no layer 7"));
    assert!(sentence(singular_vectors(&llama, Circuit::WOut { layer: 0 }, 0)).contains("1 to 32"));
    assert!(sentence(singular_vectors(&model("gpt2"), Circuit::WGate { layer: 0 }, 1)).contains("no gate"));
    let positions = full_qk_between(&llama, 0, 0, Embedded::Tokens, Embedded::Positions);
    assert!(sentence(positions).contains("no vectors for positions"));
    assert!(sentence(full_ov_copying_scores(&mamba)).contains("state-space"));
    assert!(sentence(mamba.all_composition_scores(Composition::Q)).contains("state-space"));
    assert!(sentence(full_ov_copying_scores(&deepseek)).contains("latent attention"));
    let _: Error = singular_vectors(&mamba, Circuit::WIn { layer: 0 }, 1).unwrap_err();
}

/// Random weights of GPT-2 small's sizes; the MLPs, which no circuit here reads, are narrow.
fn gpt2_small_sized() -> Result<HookedTransformer> {
    let sizes = Sizes { n_layers: 12, d_model: 768, n_ctx: 1024, n_heads: 12, d_head: 64, d_mlp: 8, d_vocab: 50257 };
    let device = Device::Cpu;
    let random = |shape: &[usize]| Tensor::randn(0f32, 0.02, shape, &device);
    let block = || -> Result<BlockWeights> {
        let read = || random(&[12, 768, 64]);
        Ok(BlockWeights {
            ln1: Some(NormWeights::default()),
            mixer: MixerWeights::Attention(AttentionWeights {
                w_q: read()?,
                b_q: None,
                w_k: read()?,
                b_k: None,
                w_v: read()?,
                b_v: None,
                q_norm: None,
                k_norm: None,
                sinks: None,
                w_o: random(&[12, 64, 768])?,
                b_o: None,
            }),
            ln1_post: None,
            ln2: Some(NormWeights::default()),
            feed_forward: Some(FeedForwardWeights::Mlp(MlpWeights {
                w_in: random(&[768, 8])?,
                b_in: None,
                w_gate: None,
                b_gate: None,
                xielu: None,
                ln: None,
                w_out: random(&[8, 768])?,
                b_out: None,
            })),
            ln2_post: None,
            cross_attention: None,
            ln3: None,
        })
    };
    let blocks = (0..12).map(|_| block()).collect::<Result<Vec<_>>>()?;
    // The unembedding as a tied one lies in memory: the transposed table.
    let w_u = random(&[50257, 768])?.t()?;
    let weights = Weights::new(random(&[50257, 768])?, blocks, Some(NormWeights::default()), w_u);
    HookedTransformer::from_weights(ModelConfig::new("gpt2", Activation::GeluNew, sizes), weights)
}

/// `cargo test --release --lib circuits::tests::speed -- --ignored --nocapture`
#[test]
#[ignore = "a measurement: some seconds, 500 MB, and only fast when optimised"]
fn speed_of_all_heads_of_gpt2_small() -> Result<()> {
    use std::time::Instant;
    let model = gpt2_small_sized()?;
    let time = |what: &str, work: &dyn Fn() -> Result<()>| -> Result<f64> {
        let start = Instant::now();
        work()?;
        let seconds = start.elapsed().as_secs_f64();
        println!("{seconds:6.2} s  {what}");
        Ok(seconds)
    };
    let ends = Ends::of(&model);
    let around = ends.unembedding_times_embedding()?;
    time("W_U W_E, 59 GFLOP", &|| ends.unembedding_times_embedding().map(drop))?;
    time("W_O (W_U W_E) of 144 heads", &|| (0..12).try_for_each(|layer| ends.ov(layer)?.right_mul(&around).map(drop)))?;
    let small = ends.ov(0)?.right_mul(&around)?;
    time("eigenvalues of 12 heads", &|| small.eigenvalues().map(drop))?;
    let all = time("full OV copying scores of 144 heads", &|| full_ov_copying_scores(&model).map(drop))?;
    time("OV copying scores of 144 heads", &|| ov_copying_scores(&model).map(drop))?;
    time("K-composition of all pairs", &|| model.all_composition_scores(Composition::K).map(drop))?;
    time("singular vectors of an OV circuit, with tokens", &|| {
        singular_vectors(&model, Circuit::Ov { layer: 3, head: 3 }, 10).map(drop)
    })?;
    assert!(all < 3.0 || cfg!(debug_assertions), "{all} s is more than 3");
    assert_eq!(model.w_u().dim(D::Minus1)?, 50257);
    Ok(())
}
