//! Writes every view as PNG, SVG, HTML and text into a folder: `cargo run --example gallery -- OUT`.

use std::path::Path;

use candle_core::{Device, Tensor};
use candlescope::Result;
use candlescope::display::{
    AttentionView, BarChart, Card, Facets, Heatmap, LineChart, Scatter, Show, Table, TokenBoxes, TopTokens, imshow,
};

const TEXT: &str = "<|endoftext|>|When| Mary| and| John| went| to| the| shops|,| John| gave| a| drink| to";

fn main() -> Result<()> {
    let Some(folder) = std::env::args().nth(1) else {
        return Err(candlescope::Error::msg("name the folder to write to: gallery OUT"));
    };
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder).map_err(|e| candlescope::Error::io(folder, e))?;
    let tokens: Vec<&str> = TEXT.split('|').collect();
    // "<|endoftext|>" holds the separator itself.
    let tokens: Vec<&str> = std::iter::once("<|endoftext|>").chain(tokens.into_iter().skip(3)).collect();

    write(
        folder,
        "attention",
        &AttentionView::new(&attention(12, tokens.len())?, tokens.clone())?.title("blocks.5.attn.hook_pattern").head(4),
    )?;
    let long: Vec<String> = (0..64).map(|i| format!(" word{i}")).collect();
    write(folder, "attention_64", &AttentionView::new(&attention(12, 64)?, long)?.title("64 tokens"))?;
    let scores = (attention(3, 6)?.affine(8.0, -2.0))?;
    write(folder, "attention_hostile", &AttentionView::new(&scores, HOSTILE)?.title("<b>hostile</b> tokens"))?;

    let sweep: Vec<f32> =
        (0..12 * tokens.len()).map(|i| wave(i, 7.3) * if i % tokens.len() > 9 { 1.0 } else { 0.15 }).collect();
    let labels: Vec<&str> = tokens.clone();
    let view =
        Heatmap::new(sweep, 12, tokens.len())?.x_labels(labels).title("Patching resid_pre: logit difference restored");
    write(folder, "heatmap_patching", &view.y_title("layer").x_title("position"))?;
    let heads: Vec<f32> = (0..144).map(|i| wave(i, 3.1)).collect();
    write(
        folder,
        "heatmap_heads",
        &Heatmap::new(heads, 12, 12)?.title("Direct logit attribution").x_title("head").y_title("layer"),
    )?;
    write(
        folder,
        "heatmap_numbers",
        &Heatmap::new((0..24).map(|i| wave(i, 2.0)).collect(), 4, 6)?
            .title("Induction score")
            .x_title("head")
            .y_title("layer"),
    )?;
    let odd = vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.0, -2.0, 0.0];
    write(folder, "heatmap_odd", &Heatmap::new(odd, 2, 3)?.title("Not all are numbers"))?;
    let large = Tensor::rand(-1f32, 1.0, (3000, 2000), &Device::Cpu)?;
    write(folder, "heatmap_large", &imshow(&large)?.title("3000 x 2000"))?;
    let many = Tensor::rand(0f32, 1.0, (12, 20, 20), &Device::Cpu)?;
    write(folder, "facets", &Facets::from_tensor(&many)?.title("Twelve matrices").x_title("key").y_title("query"))?;

    let loss =
        |k: f64| (1..200).map(move |i| 4.0 * (-k * f64::from(i)).exp() + 0.3 + f64::from(wave(i as usize, 5.0)) * 0.05);
    let chart = LineChart::new()
        .series("train", loss(0.02))
        .series("test", loss(0.015))
        .title("Loss")
        .x_title("step")
        .y_title("nats");
    write(folder, "lines", &chart)?;
    write(
        folder,
        "lines_log",
        &LineChart::new()
            .points("power law", (1..30).map(|i| (f64::from(i * i), 1.0 / f64::from(i))))
            .log_x()
            .log_y()
            .title("Log axes")
            .x_title("n")
            .y_title("error"),
    )?;
    write(
        folder,
        "bars",
        &BarChart::new(tokens.clone(), (0..tokens.len()).map(|i| wave(i, 1.7)))?
            .title("Attribution per token")
            .x_title("logit difference"),
    )?;
    let (x, y): (Vec<f64>, Vec<f64>) = (0..80).map(|i| (f64::from(wave(i, 2.2)), f64::from(wave(i, 9.1)))).unzip();
    write(
        folder,
        "scatter",
        &Scatter::new(x, y)?
            .labels((0..80).map(|i| format!("token {i}")))
            .title("Two directions")
            .x_title("first")
            .y_title("second"),
    )?;

    let rows = (0..100).map(|i| {
        vec![
            format!("blocks.{i}.hook_resid_pre"),
            "[1, 15, 768]".into(),
            format!("{:.4}", wave(i, 1.0)),
            "46.1 kB".into(),
        ]
    });
    write(
        folder,
        "table",
        &Table::new(["name", "shape", "mean", "size"]).rows(rows).title("ActivationCache").max_rows(12),
    )?;
    write(folder, "tokens", &TokenBoxes::new(tokens.clone()).ids((0..15).map(|i| 100 + i * 3331)).title("Tokens"))?;
    write(
        folder,
        "tokens_values",
        &TokenBoxes::new(tokens.clone())
            .values("loss", (0..15).map(|i| 4.0 + 4.0 * wave(i, 2.0)))
            .title("Loss per token"),
    )?;
    write(folder, "tokens_hostile", &TokenBoxes::new(HOSTILE).ids(0..6))?;
    let card =
        Card::new("gpt2").row("family", "GPT-2").row("layers", "12").row("heads", "12 of 64").row("d_model", "768");
    write(
        folder,
        "card",
        &card
            .row("parameters", "124,439,808 (498 MB, f32)")
            .row("tokenizer", "gpt2, 50,257 entries")
            .note("Weights processed: layer norm folded, writing weights centred."),
    )?;
    let top = TopTokens::new().prompt(tokens.concat()).token(" Mary", 5335, 0.7012, Some(18.2)).token(
        " them",
        606,
        0.052,
        Some(15.6),
    );
    write(folder, "top_tokens", &top.token(" the", 262, 0.048, Some(15.5)).token("\n", 198, 0.0004, Some(10.7)))?;

    write(folder, "tensor_vector", &Tensor::rand(-1f32, 1.0, 5000, &Device::Cpu)?)?;
    write(folder, "tensor_short", &Tensor::rand(-1f32, 1.0, 12, &Device::Cpu)?)?;
    write(folder, "tensor_matrix", &Tensor::randn(0f32, 1.0, (64, 128), &Device::Cpu)?)?;
    write(folder, "tensor_4d", &Tensor::randn(0f32, 1.0, (2, 3, 40, 64), &Device::Cpu)?)?;
    write(folder, "tensor_row", &Tensor::randn(0f32, 1.0, (1, 768), &Device::Cpu)?)
}

const HOSTILE: [&str; 6] = ["<script>alert(1)</script>", "\"'", "</style>", "a\0\u{202e}b", "😀語", " \n\t"];

fn write(folder: &Path, name: &str, value: &impl Show) -> Result<()> {
    let start = std::time::Instant::now();
    let size = value.bundle().to_evcxr().len();
    println!("{name}: {} kB, {:.3} s", size / 1000, start.elapsed().as_secs_f64());
    for extension in ["png", "svg", "html", "txt"] {
        value.save(folder.join(format!("{name}.{extension}")))?;
    }
    Ok(())
}

/// Numbers between -1 and 1 that look irregular and are always the same.
fn wave(i: usize, k: f32) -> f32 {
    ((i as f32 * k).sin() + (i as f32 * k * 1.7).cos()) / 2.0
}

/// A causal pattern [head, query, key]; each head likes another distance.
fn attention(heads: usize, n: usize) -> Result<Tensor> {
    let mut values = Vec::new();
    for head in 0..heads {
        for query in 0..n {
            let weight =
                |key: usize| (-((query - key) as f32 - head as f32).abs() * 0.7 + wave(key * 7 + query, 1.3)).exp();
            let total: f32 = (0..=query).map(weight).sum();
            values.extend((0..n).map(|key| if key <= query { weight(key) / total } else { 0.0 }));
        }
    }
    Ok(Tensor::from_vec(values, (heads, n, n), &Device::Cpu)?)
}
