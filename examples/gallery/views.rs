//! The views of the gallery, each from an expression that is shown beside it.

use candlescope::Result;
use candlescope::display::{ComplexPlane, HistogramChart, Scale, TokenGrid, TokenizationView, hist};
use candlescope::prelude::*;

use crate::{Entry, source};

const STORY: &str = "When John and Mary went to the shops, Mary gave the bag to John.";
const PROMPT: &str = "When John and Mary went to the shops, Mary gave the bag to";
const SWAPPED: &str = "When John and Mary went to the shops, John gave the bag to";

/// Adds what an expression shows; the expression is its code.
macro_rules! show {
    ($entries:ident, $group:ident, $name:literal, $title:literal, $about:literal, $code:expr) => {
        let bundle = (&$code).bundle();
        let code = source::last_argument(include_str!("views.rs"), line!());
        $entries.push(Entry { group: $group, name: $name, title: $title, about: $about, code, bundle });
    };
}

pub fn all() -> Result<Vec<Entry>> {
    let model = HookedTransformer::from_pretrained("tiny")?;
    let mut entries = attention(&model)?;
    entries.extend(tokens(&model)?);
    entries.extend(charts(&model)?);
    entries.extend(objects(&model)?);
    Ok(entries)
}

fn attention(model: &HookedTransformer) -> Result<Vec<Entry>> {
    const GROUP: &str = "Attention";
    let mut entries = Vec::new();
    let (_, cache) = model.run_with_cache(PROMPT)?;
    show!(
        entries,
        GROUP,
        "attention",
        "Every head of a layer",
        "Hover a head to look at it, click to keep it. Hover a cell for its query, key and value, or a token to see where it \
         looks and what looks at it.",
        cache.pattern(1)?
    );
    show!(
        entries,
        GROUP,
        "attention_overview",
        "Every head of the model",
        "A row for each layer: the heads that do something special stand out. Click one to see it large.",
        cache.attention_overview()?
    );
    show!(
        entries,
        GROUP,
        "attention_chosen",
        "Chosen heads",
        "Only the heads that matter, with names of your own.",
        cache.pattern(1)?.view()?.only([1, 3])?.head_names(["L1H1", "L1H3"]).title("Two heads of layer 1")
    );
    show!(
        entries,
        GROUP,
        "attention_mean",
        "The mean of the heads",
        "One pattern for a layer.",
        cache.pattern(1)?.view()?.mean()
    );
    show!(
        entries,
        GROUP,
        "attention_value_weighted",
        "Attention by what it moves",
        "Each weight times the length of what the head writes for it: attention to a token that carries nothing fades.",
        value_weighted_pattern(&cache, 1, ValueNorm::Result)?
    );
    show!(
        entries,
        GROUP,
        "attention_text",
        "Attention as highlighted text",
        "Where the last token looks, one series for each head; the page has a button for each.",
        {
            let mut boxes = TokenBoxes::new(model.to_str_tokens(PROMPT)?);
            for head in 0..4 {
                let last = cache.pattern(1)?.head(head)?.i((14, ..))?;
                boxes = boxes.values(format!("L1H{head}"), last.to_vec1::<f32>()?);
            }
            boxes
        }
    );
    Ok(entries)
}

fn tokens(model: &HookedTransformer) -> Result<Vec<Entry>> {
    const GROUP: &str = "Tokens";
    let mut entries = Vec::new();
    let gpt2 = Tokenizer::gpt2()?;
    let (logits, cache) = model.run_with_cache(STORY)?;
    show!(
        entries,
        GROUP,
        "tokens",
        "Tokens",
        "Where one ends, what its whitespace is, which id it has.",
        model.to_tokens(STORY)?
    );
    show!(
        entries,
        GROUP,
        "tokens_loss",
        "Loss of each token",
        "The darker, the less the model expected it.",
        TokenBoxes::new(model.to_str_tokens(STORY)?.split_off(1))
            .values("loss", model.loss_per_token(STORY)?.i(0)?.to_vec1::<f32>()?)
    );
    show!(
        entries,
        GROUP,
        "tokens_series",
        "Several values of each token",
        "The activations of some neurons; the page has a button for each.",
        {
            let mut boxes = TokenBoxes::new(model.to_str_tokens(STORY)?);
            for neuron in [3, 8, 21] {
                let values = cache.get(post(1))?.i((0, .., neuron))?;
                boxes = boxes.values(format!("L1N{neuron}"), values.to_vec1::<f32>()?);
            }
            boxes
        }
    );
    show!(
        entries,
        GROUP,
        "top_tokens",
        "Likeliest next tokens",
        "Logits show what the model expects.",
        model.forward(PROMPT)?
    );
    show!(
        entries,
        GROUP,
        "logit_lens",
        "Logit lens",
        "What the model would say if it stopped at each layer; other likely tokens are under the pointer.",
        cache.logit_lens()?
    );
    show!(entries, GROUP, "token_grid", "Likeliest tokens at each position", "A grid of tokens of any kind.", {
        let top: Vec<Vec<(String, u32, f32)>> =
            (0..17).map(|pos| logits.top_k(3, 0, pos)).collect::<candlescope::Result<_>>()?;
        let cells = (0..3).rev().flat_map(|rank| top.iter().map(move |top| (top[rank].0.clone(), top[rank].2)));
        TokenGrid::new(cells.collect(), 3, 17)?
            .x_labels(model.to_str_tokens(STORY)?)
            .y_labels(["third", "second", "first"])
            .value_name("probability")
            .scale(Scale::Sequential { low: 0.0, high: 1.0 })
    });
    show!(
        entries,
        GROUP,
        "tokenization",
        "Tokenization inspector",
        "Ids and bytes; spaces, special tokens and parts of characters are marked.",
        gpt2.inspect("Claire's naïve 😀 said: | Claire|")?
    );
    show!(entries, GROUP, "tokenization_two", "Two tokenizers side by side", "The same text, cut in two ways.", {
        let text = "Claire bought twelve candlesticks yesterday, for 1024 francs.";
        TokenizationView::new(gpt2.inspect(text)?.named("gpt2")).beside(model.tokenizer()?.inspect(text)?.named("tiny"))
    });
    let two = model.compare("Anna was very happy that day. She was", "Anna was very angry that day. She was")?;
    show!(
        entries,
        GROUP,
        "two_prompts",
        "Two prompts, token by token",
        "In which layers two prompts differ, and at which tokens.",
        two
    );
    show!(entries, GROUP, "alignment", "Two prompts aligned", "Which token stands for which.", two.alignment());
    show!(
        entries,
        GROUP,
        "generation",
        "Generated text",
        "What was added is coloured by its probability; what else was likely is under the pointer.",
        model.generate(
            "John and Mary went to the",
            &GenerateOptions::new().max_new_tokens(24).temperature(0.7).seed(1)
        )?
    );
    Ok(entries)
}

fn charts(model: &HookedTransformer) -> Result<Vec<Entry>> {
    const GROUP: &str = "Charts";
    let mut entries = Vec::new();
    let (_, cache) = model.run_with_cache(PROMPT)?;
    let metric = logit_diff(" John", " Mary");
    show!(
        entries,
        GROUP,
        "heatmap",
        "Heatmap",
        "Red below zero, blue above; every cell says its value. Here: what each head adds to the logit difference.",
        direct_logit_attribution(&cache, " John", " Mary")?.by_head()?.heatmap()?.diverging().title("Each head's part")
    );
    show!(
        entries,
        GROUP,
        "heatmap_range",
        "Heatmap of a fixed range",
        "Pictures that are to be compared get one scale.",
        imshow(&cache.get(resid_post(1))?.i((0, .., ..32))?)?
            .scale(Scale::Diverging { limit: 2.0 })
            .y_labels(model.to_str_tokens(PROMPT)?)
            .x_title("dimension")
            .y_title("token")
    );
    show!(
        entries,
        GROUP,
        "sweep",
        "A sweep of interventions",
        "Activation patching, layers by positions.",
        patching::resid_pre(model, &model.to_tokens(SWAPPED)?, &cache, &metric)?
    );
    show!(
        entries,
        GROUP,
        "facets",
        "Facets",
        "Several matrices on one scale, labels at the sides.",
        Facets::from_tensor(&cache.get(pattern(1))?.i((0, .., 8.., 8..))?)?
            .panel_titles((0..4).map(|head| format!("L1H{head}")))
            .x_labels(model.to_str_tokens(PROMPT)?.split_off(8))
            .y_labels(model.to_str_tokens(PROMPT)?.split_off(8))
            .x_title("key")
            .y_title("query")
    );
    show!(
        entries,
        GROUP,
        "lines",
        "Lines",
        "Several series, each with its name.",
        LineChart::new()
            .series("blocks.0", cache.get(resid_post(0))?.i(0)?.sqr()?.sum(1)?.sqrt()?.to_vec1::<f32>()?)
            .series("blocks.1", cache.get(resid_post(1))?.i(0)?.sqr()?.sum(1)?.sqrt()?.to_vec1::<f32>()?)
            .title("Length of the residual stream")
            .x_title("position")
            .y_title("norm")
    );
    show!(
        entries,
        GROUP,
        "lines_log",
        "Logarithmic axes",
        "Either axis, with markers where points are few.",
        LineChart::new()
            .points("1 / n", (1..30).map(|n| (f64::from(n * n), 1.0 / f64::from(n))))
            .points("1 / n²", (1..30).map(|n| (f64::from(n * n), 1.0 / f64::from(n * n))))
            .log_x()
            .log_y()
            .x_title("n²")
    );
    show!(
        entries,
        GROUP,
        "bars",
        "Bars",
        "Labelled numbers, positive and negative.",
        direct_logit_attribution(&cache, " John", " Mary")?.by_component()?.bars()?.title("What each part adds")
    );
    show!(
        entries,
        GROUP,
        "scatter",
        "Scatter",
        "Each point says its name.",
        Scatter::from_tensors(&model.w_u().i((0, ..120))?, &model.w_u().i((1, ..120))?)?
            .labels((0..120).map(|id| model.to_single_str_token(id)).collect::<candlescope::Result<Vec<_>>>()?)
            .title("Tokens in two directions of W_U")
            .x_title("direction 0")
            .y_title("direction 1")
    );
    show!(
        entries,
        GROUP,
        "histogram",
        "Histogram",
        "How the values of a tensor are spread.",
        hist(&cache.get(post(0))?)?.title("Activations of the neurons of layer 0").x_title("activation")
    );
    show!(
        entries,
        GROUP,
        "histogram_log",
        "Histogram with a logarithmic axis",
        "Where a few values are far from the rest.",
        HistogramChart::new((1..2000).map(|i| 1.0 / f64::from(i))).log_y().title("1 / n")
    );
    show!(
        entries,
        GROUP,
        "eigenvalues",
        "Eigenvalues in the complex plane",
        "Those of a full OV circuit: on the right a head copies what it looks at.",
        full_ov(model, 1, 1)?.eigenvalues()?
    );
    show!(
        entries,
        GROUP,
        "complex_plane",
        "Any complex numbers",
        "With the unit circle, here the twelfth roots of one.",
        ComplexPlane::new(
            (0..12).map(|k| (f64::from(k) * std::f64::consts::TAU / 12.0).cos()),
            (0..12).map(|k| (f64::from(k) * std::f64::consts::TAU / 12.0).sin())
        )?
        .unit_circle()
        .title("Roots of one")
    );
    Ok(entries)
}

fn objects(model: &HookedTransformer) -> Result<Vec<Entry>> {
    const GROUP: &str = "Objects";
    let mut entries = Vec::new();
    let (_, cache) = model.run_with_cache(PROMPT)?;
    show!(entries, GROUP, "model", "A model", "What it is, at a glance.", model);
    show!(
        entries,
        GROUP,
        "diagram",
        "Architecture",
        "A block of the model with every hook point by its name; shapes are under the pointer.",
        model.diagram()
    );
    show!(entries, GROUP, "config", "Its configuration", "Every setting with its name.", model.cfg());
    show!(entries, GROUP, "hook_points", "Its hook points", "All of them, with shapes.", model.hook_points());
    show!(entries, GROUP, "cache", "A cache", "Every activation of a run.", cache);
    show!(
        entries,
        GROUP,
        "tensor",
        "A tensor",
        "Shape, statistics, numbers, and a picture that fits its shape.",
        cache.get(resid_pre(1))?
    );
    show!(
        entries,
        GROUP,
        "tensor_vector",
        "A vector",
        "Bars when it is short, a line when it is long.",
        cache.get(resid_pre(1))?.i((0, 3))?
    );
    show!(
        entries,
        GROUP,
        "tensor_4d",
        "More dimensions",
        "Small multiples on one scale.",
        cache.get(pattern(0))?.unsqueeze(0)?
    );
    show!(
        entries,
        GROUP,
        "tensor_odd",
        "Not a number",
        "NaN and infinities have colours of their own, and the legend counts them.",
        Tensor::new(&[[f32::NAN, f32::INFINITY, 1.0], [f32::NEG_INFINITY, -2.0, 0.0]], &Device::Cpu)?
    );
    show!(entries, GROUP, "tensor_large", "A large matrix", "Reduced by block means, and it says so.", {
        let wave = Tensor::arange(0f32, 3000.0, &Device::Cpu)?.affine(0.01, 0.0)?.sin()?.unsqueeze(1)?;
        wave.matmul(&Tensor::arange(0f32, 2000.0, &Device::Cpu)?.affine(0.02, 0.0)?.cos()?.unsqueeze(0)?)?
    });
    show!(
        entries,
        GROUP,
        "factored_matrix",
        "A factored matrix",
        "The OV circuit of a head, never multiplied out.",
        full_ov(model, 1, 1)?
    );
    show!(
        entries,
        GROUP,
        "head_table",
        "What each head does",
        "Scores that name the kinds of heads.",
        head_summary(model)?
    );
    let stories = ["John gave a book to Mary. Mary was happy.", "Anna went home. She was angry.", STORY];
    let text = model.over(stories).one_row_each().skip_bos();
    let sae = Sae::train(
        &text,
        resid_post(1),
        &SaeTrainOptions::new().d_sae(64).k(4).steps(300).progress(&Progress::quiet()),
    )?;
    show!(entries, GROUP, "sae", "A sparse autoencoder", "What it is.", sae);
    show!(entries, GROUP, "training", "Its training", "Losses over steps.", sae.training_curve());
    show!(entries, GROUP, "features", "Features of a text", "The strongest, by token.", sae.features(&cache)?);
    let strongest = sae.features(&cache)?.top_features(1)[0].feature;
    show!(
        entries,
        GROUP,
        "feature_card",
        "A feature",
        "Where it is active, what it makes likelier, how often it is on.",
        sae.card(&text, strongest)?
    );
    show!(
        entries,
        GROUP,
        "over_training",
        "Over training",
        "Any measure over the checkpoints of a model.",
        OverCheckpoints::of("tiny-attn-only-2l")?.measure("loss on what is repeated", |model| {
            Ok(induction_loss(model, &InductionLossOptions::new().length(40))?.second())
        })?
    );
    show!(
        entries,
        GROUP,
        "error",
        "An error",
        "A cell may end without `?`: the sentence shows.",
        model.run_with_cache_of(PROMPT, "blocks.0.attn.hook_patern").map(|run| run.1)
    );
    Ok(entries)
}

/// Large views, for the browser tests only.
pub fn large() -> Result<Vec<Entry>> {
    const GROUP: &str = "Large";
    let mut entries = Vec::new();
    let words = |n: usize| (0..n).map(|i| format!(" word{i}")).collect::<Vec<_>>();
    let pattern = |heads: usize, n: usize| -> Result<Tensor> {
        let scores = Tensor::randn(0f32, 3.0, (heads, n, n), &Device::Cpu)?;
        let later = Tensor::triu2(n, DType::F32, &Device::Cpu)?.sub(&Tensor::eye(n, DType::F32, &Device::Cpu)?)?;
        let weights = scores.exp()?.broadcast_mul(&later.affine(-1.0, 1.0)?)?;
        Ok(weights.broadcast_div(&weights.sum_keepdim(2)?)?)
    };
    show!(entries, GROUP, "attention_64", "12 heads, 64 tokens", "", AttentionView::new(&pattern(12, 64)?, words(64))?);
    show!(
        entries,
        GROUP,
        "attention_128",
        "12 heads, 128 tokens",
        "",
        AttentionView::new(&pattern(12, 128)?, words(128))?
    );
    show!(
        entries,
        GROUP,
        "attention_overview_gpt2",
        "12 layers, 64 tokens",
        "",
        AttentionView::overview((0..12).map(|l| Ok((l, pattern(12, 64)?))).collect::<Result<Vec<_>>>()?, words(64))?
    );
    show!(entries, GROUP, "tokens_2000", "2000 tokens", "", TokenBoxes::new(words(2000)));
    Ok(entries)
}
