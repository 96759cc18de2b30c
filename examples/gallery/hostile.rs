//! Views of a vocabulary that tries to break out of each form, for the browser tests.

use candlescope::display::{ComplexPlane, HistogramChart, TokenGrid, TokenizationView};
use candlescope::model::{Activation, Sizes};
use candlescope::prelude::*;
use candlescope::{Error, Result};
use serde_json::{Value, json};

use crate::Entry;

/// Stands between tokens; none of them has it.
const BETWEEN: char = '\u{1}';

/// What a vocabulary may hold.
fn vocabulary() -> Vec<String> {
    let mut tokens: Vec<String> = [
        "<script>window.pwned=1</script>",
        "<img src=x onerror=\"window.pwned=1\">",
        "\"'><svg onload=window.pwned=1>",
        "</style><style>*{display:none}</style>",
        "</script><script>window.pwned=1</script>",
        "</textarea></title><b>",
        "--><!--",
        "]]>",
        "&lt;b&gt;&#0;",
        "javascript:window.pwned=1",
        "${window.pwned=1}`",
        "\\u003cscript\\u003e",
        "\0",
        "\u{1b}[2J\u{1b}]0;owned\u{7}",
        "\u{202e}desrever",
        "\u{2066}isolate\u{2069}",
        "a\u{300}\u{301}\u{302}\u{303}\u{304}",
        "\u{feff}\u{200b}\u{200d}",
        "👩‍👩‍👧‍👦",
        "שלום",
        "مرحبا",
        "語",
        "\u{fffd}\u{fffd}",
        "EVCXR_END_CONTENT\nEVCXR_BEGIN_CONTENT text/html\n<b>forged</b>",
        "| a | table |\n|---|",
        " \n\t\r",
        "'",
        "\"",
        "<",
    ]
    .map(String::from)
    .to_vec();
    tokens.push("<i>long</i> ".repeat(900));
    tokens
}

/// Every view that has text in it, from a model with this vocabulary.
pub fn all() -> Result<Vec<Entry>> {
    let words = vocabulary();
    let model = model(&words)?;
    let text = words.join(&BETWEEN.to_string());
    let other: Vec<String> = words.iter().rev().cloned().collect();
    let other = other.join(&BETWEEN.to_string());
    let (logits, cache) = model.run_with_cache(&text)?;
    let n = words.len();
    let numbers = || (0..n).map(|i| (i as f32).sin());
    let matrix = || Tensor::from_vec((0..n * n).map(|i| (i as f32).sin()).collect::<Vec<_>>(), (n, n), &Device::Cpu);
    let title = words[0].clone();

    let mut entries = Vec::new();
    let mut add = |name: &'static str, bundle| {
        entries.push(Entry { group: "Hostile", name, title: name, about: "", code: String::new(), bundle });
    };
    add("attention", cache.pattern(0)?.view()?.title(title.clone()).head_names(words.clone()).bundle());
    add("attention_overview", cache.attention_overview()?.title(title.clone()).note(title.clone()).bundle());
    add("tokens", model.to_tokens(&text)?.bundle());
    let boxes = TokenBoxes::new(words.clone()).hints(words.clone()).title(title.clone());
    add("tokens_series", boxes.values(title.clone(), numbers()).values(words[2].clone(), numbers()).mark(2).bundle());
    add("top_tokens", logits.bundle());
    add(
        "top_tokens_prompt",
        TopTokens::new().prompt(text.clone()).title(title.clone()).token(title.clone(), 0, 0.5, None).bundle(),
    );
    add("logit_lens", cache.logit_lens()?.bundle());
    let cells = words.iter().cloned().zip(numbers()).collect();
    let grid = TokenGrid::new(cells, 1, n)?.x_labels(words.clone()).y_labels([title.clone()]).hints(words.clone());
    add("token_grid", grid.title(title.clone()).value_name(title.clone()).note(title.clone()).bundle());
    let inspected = model.tokenizer()?.inspect(&text)?.named(title.clone());
    add("tokenization", inspected.clone().bundle());
    add("tokenization_two", TokenizationView::new(inspected.clone()).beside(inspected).bundle());
    add("two_prompts", model.compare(&text, &other)?.bundle());
    add("alignment", model.compare(&text, &other)?.alignment().bundle());
    add("generation", model.generate(&text, &GenerateOptions::new().max_new_tokens(12))?.bundle());
    let map = imshow(&matrix()?)?.x_labels(words.clone()).y_labels(words.clone()).title(title.clone());
    add("heatmap", map.x_title(title.clone()).y_title(title.clone()).note(title.clone()).bundle());
    let facets = Facets::new((0..4).map(|i| (words[i].clone(), vec![0.5, -1.0, 2.0, 0.0], 2, 2)))?.title(title.clone());
    let facets = facets.x_title(title.clone()).y_title(words[1].clone());
    add("facets", facets.x_labels(words.clone()).y_labels(words[2..].to_vec()).bundle());
    let chart = words.iter().take(20).fold(LineChart::new(), |chart, word| chart.series(word.clone(), [1.0, 2.0, 0.5]));
    add("lines", chart.title(title.clone()).x_title(title.clone()).y_title(title.clone()).bundle());
    add("bars", BarChart::new(words.clone(), numbers())?.title(title.clone()).x_title(title.clone()).bundle());
    let points = Scatter::new(numbers().map(f64::from), numbers().map(|y| f64::from(y * y)))?.labels(words.clone());
    add("scatter", points.title(title.clone()).x_title(title.clone()).y_title(title.clone()).bundle());
    add(
        "histogram",
        HistogramChart::new(numbers()).title(title.clone()).x_title(title.clone()).y_title(title.clone()).bundle(),
    );
    let plane = ComplexPlane::new(numbers(), numbers().map(|im| im * im))?.labels(words.clone());
    add("complex_plane", plane.title(title.clone()).bundle());
    let table = Table::new(words.iter().take(5).cloned()).rows(words.chunks(5).map(<[String]>::to_vec));
    let links = (0..6).map(|_| Some("javascript:window.pwned=1".to_string()));
    add("table", table.title(title.clone()).note(title.clone()).links(0, links).bundle());
    let card = words.iter().fold(Card::new(title.clone()), |card, word| card.row(word.clone(), word.clone()));
    add(
        "card",
        card.link(words[1].clone(), words[1].clone(), "javascript:window.pwned=1").note(title.clone()).bundle(),
    );
    add("model", model.bundle());
    add("config", model.cfg().bundle());
    add("diagram", model.diagram().bundle());
    add("cache", cache.bundle());
    add("sweep", {
        let metric = logit_diff(words[0].as_str(), words[1].as_str());
        let (clean, corrupted) = (model.to_tokens(&text)?, model.to_tokens(&other)?);
        let (_, clean) = model.run_with_cache(&clean)?;
        patching::resid_pre(&model, &corrupted, &clean, &metric)?.bundle()
    });
    add("attribution", direct_logit_attribution(&cache, words[0].as_str(), words[1].as_str())?.bundle());
    let text_of = model.over(vec![text.clone(), other.clone()]).one_row_each().skip_bos();
    let options = SaeTrainOptions::new().d_sae(16).k(2).steps(5).progress(&Progress::quiet());
    let sae = Sae::train(&text_of, resid_post(0), &options)?;
    add("features", sae.features(&cache)?.bundle());
    let strongest = sae.features(&cache)?.top_features(1)[0].feature;
    add("feature_card", sae.card(&text_of, strongest)?.bundle());
    add("text", text.bundle());
    add("error", Err::<f32, _>(Error::msg(text)).bundle());
    Ok(entries)
}

/// A small random model whose name and every token are hostile.
fn model(words: &[String]) -> Result<HookedTransformer> {
    let sizes = Sizes { n_layers: 2, d_model: 16, n_ctx: 64, n_heads: 2, d_head: 8, d_mlp: 32, d_vocab: words.len() };
    let mut cfg = ModelConfig::new("gpt2", Activation::GeluNew, sizes);
    cfg.model_name = words[0].clone();
    Ok(HookedTransformer::random(cfg, 0)?.with_tokenizer(tokenizer(words)?))
}

/// Each word is a token, as a tokenizer.json may have it.
fn tokenizer(words: &[String]) -> Result<Tokenizer> {
    let vocabulary: serde_json::Map<String, Value> =
        words.iter().enumerate().map(|(id, word)| (word.clone(), json!(id))).collect();
    let file = json!({
        "version": "1.0",
        "added_tokens": [],
        "normalizer": null,
        "pre_tokenizer": { "type": "Split", "pattern": { "String": BETWEEN }, "behavior": "Removed", "invert": false },
        "post_processor": null,
        "decoder": null,
        "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": words[0] },
    });
    let path = std::env::temp_dir().join(format!("candlescope-gallery-{}.json", std::process::id()));
    std::fs::write(&path, file.to_string()).map_err(|source| Error::io(&path, source))?;
    let tokenizer = Tokenizer::from_files(path.clone(), None);
    std::fs::remove_file(&path).map_err(|source| Error::io(&path, source))?;
    tokenizer
}
