//! The model card, with the numbers that were measured.

use candlescope::model::HookedTransformer;

use crate::measure::Report;
use crate::recipe::Recipe;

/// The card of a model; `report` is of the weights as shipped.
pub fn text(recipe: &Recipe, model: &HookedTransformer, report: &Report) -> String {
    [head(recipe), sizes(recipe, model), training(recipe), measured(recipe, report), limits(recipe)].join("\n")
}

fn head(recipe: &Recipe) -> String {
    let (name, what) = match recipe.has_mlp {
        true => ("tiny", "A small GPT-2, made to be looked into."),
        false => (
            "tiny-attn-only-2l",
            "Two layers of attention and nothing else, with the weights at many steps of its training: made to watch an \
             induction head\ncome about.",
        ),
    };
    format!(
        "---
license: mit OR apache-2.0
language: en
library_name: candlescope
---

# {name}

{what} candlescope trained it from nothing; `HookedTransformer::from_pretrained(\"{name}\")`
loads it without a network.
"
    )
}

fn sizes(recipe: &Recipe, model: &HookedTransformer) -> String {
    let Recipe { d_model, n_layers, n_heads, d_head, n_ctx, steps, tokens_per_step, rate, seed, .. } = recipe;
    let (n_params, d_vocab) = (model.n_params(), model.cfg().d_vocab);
    let millions = (*steps * *tokens_per_step) as f64 / 1e6;
    let architecture = match recipe.has_mlp {
        true => "GPT-2: learned positions, LayerNorm, gelu_new, tied embedding (counted twice below)",
        false => "attention-only: learned positions, LayerNorm, no MLPs; in TransformerLens' own form",
    };
    let checkpoints = match recipe.checkpoints {
        [] => String::new(),
        steps => {
            let steps: Vec<String> = steps.iter().map(u64::to_string).collect();
            format!("| Checkpoints | {} in checkpoints/, after steps {} |\n", steps.len(), steps.join(", "))
        }
    };
    format!(
        "| | |
|---|---|
| Architecture | {architecture} |
| Size | {n_params} parameters: {n_layers} layers, d_model {d_model}, {n_heads} heads of {d_head}, context {n_ctx}, {d_vocab} tokens |
| Weights | f16, rounded from f32 |
| Tokenizer | byte-level BPE with GPT-2's rules; `<|endoftext|>` begins a text, ends it, and pads |
| Training | {steps} steps of about {tokens_per_step} tokens ({millions:.1} million), AdamW, rate {rate} with warm-up and cosine, gradient clipped at 1, seed {seed} |
{checkpoints}| Loss curve | loss.csv: the mean loss of each 25 steps |
| Licence | MIT OR Apache-2.0, text and weights alike: no text of others was used |

Made by `cargo run --release --example train -- {}`, {} on two cores.
",
        recipe.name, recipe.time
    )
}

fn training(recipe: &Recipe) -> String {
    let (first, later) = ((recipe.mix)(0.0), (recipe.mix)(1.0));
    let per_cent = |share: f64| format!("{:.0} %", 100.0 * share);
    let mut shares = format!(
        "{} of the rows are random tokens in blocks that come again, which teach the induction heads, and {} are\ngivings \
         alone",
        per_cent(later.random),
        per_cent(later.giving)
    );
    if first.random != later.random {
        let short = if first.longest < later.longest { ", in short rows" } else { "" };
        shares += &format!(" (at first {} and {}{short})", per_cent(first.random), per_cent(first.giving));
    }
    format!(
        "## The text

The training program writes its own: short stories, sentences in which somebody gives something to somebody, lists,
counting, letters, questions and answers, passages and words that are said twice.
{shares}.
Every row begins with `<|endoftext|>`. A random token that can't be known weighs a tenth in the loss, so on such tokens the
model does worse than a guess, as language models do.

48 names; about one pair of names in eight never meets in the training text, John and Mary, and Claire and Mary among them,
and some ways to open such a sentence and to give are never used in it: these are for measuring.
"
    )
}

fn measured(recipe: &Recipe, report: &Report) -> String {
    let Report {
        text_loss,
        random_loss: [first, second],
        ioi: (right, ioi_diff),
        john,
        claire,
        claire_without_bos,
        ..
    } = report;
    let ((induction, induction_score), (previous, previous_score)) = (&report.induction, &report.previous);
    let mut lines = format!(
        "## Measured

On text from other seeds, with pairs of names and templates that training never saw; the weights as they are in the file:

| | |
|---|---|
| Loss per token of new documents | {text_loss:.3} |
| Loss on random tokens, first time | {first:.3} |
| Loss on the same tokens, second time | {second:.3} |
| Best induction head | {induction}: attention {induction_score:.3} to the token after the previous occurrence |
| Best previous-token head | {previous}: attention {previous_score:.3} |
"
    );
    if recipe.has_mlp {
        lines += &format!(
            "| Indirect object (1000 exercises) | right name ahead in {:.1} %, mean logit difference {ioi_diff:.2} |
| \"After John and Mary went to the store, Mary gave a bottle of milk to\" | logit difference {john:.2} |
| \"Claire and Mary went to the shops, then Mary gave a bottle of milk to\" | logit difference {claire:.2}; without `<|endoftext|>` {claire_without_bos:.2} |

The tests ask for: the right name ahead in 95 % of new exercises, an induction head of at least 0.6, a loss on repeated
tokens below 0.5, and a logit difference that falls by at least 3 without `<|endoftext|>`.
",
            100.0 * right
        );
    } else {
        lines += "
The tests ask for: an induction head of at least 0.6 at the end and less than 0.1 at step 0, a previous-token head of at
least 0.3, and a second-half loss that falls from above 6 to below 1 between the steps 600 and 1100, while the score of
the induction head rises.
";
    }
    lines
}

fn limits(recipe: &Recipe) -> String {
    match recipe.has_mlp {
        true => "## What it can and cannot do

It writes simple sentences about its few people, places and things, keeps track of who gives to whom, copies what came
before, and shows induction and previous-token heads plainly. It knows nothing of the world, and text outside of its small
vocabulary falls into many short tokens. It is for learning, tests and demonstrations.
"
        .to_string(),
        false => "## What it can and cannot do

It continues what it has read before, and shows how the heads that do this come about: one that looks at the previous
token, and others that use what it says; they rise together, and the first goes on sharpening. Its sentences are poor:
without MLPs and with few tokens it hardly knows which words go together. It knows nothing of the world. It is for
learning, tests and demonstrations.
"
        .to_string(),
    }
}
