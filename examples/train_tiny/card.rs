//! The model card, with the numbers that were measured.

use crate::eval::Report;
use crate::model::Gpt2;
use crate::train::Options;

/// The card of a model that was trained for `steps` steps; `report` is of the weights as shipped.
pub fn text(options: &Options, model: &Gpt2, steps: usize, report: &Report) -> String {
    let Options { seed, rate, tokens_per_step, more_steps, .. } = options;
    let size = &model.size;
    let (d_vocab, d_model, n_layers, n_heads, n_ctx) =
        (size.d_vocab, size.d_model, size.n_layers, size.n_heads, size.n_ctx);
    let (d_head, n_params) = (d_model / n_heads, model.n_params());
    let seen = steps as f64 * *tokens_per_step as f64 / 1e6;
    let Report { text_loss, random_loss: [first, second], ioi: (right, ioi_diff), john, claire, .. } = report;
    let ((ind_layer, ind_head, induction), (prev_layer, prev_head, previous)) = (report.induction, report.previous);
    let (right, without) = (right * 100.0, report.claire_without_bos);
    format!(
        "---
license: mit OR apache-2.0
language: en
library_name: candlescope
---

# tiny

A small GPT-2, made to be looked into. candlescope trained it from nothing; `HookedTransformer::from_pretrained(\"tiny\")`
loads it without a network.

| | |
|---|---|
| Architecture | GPT-2: learned positions, LayerNorm, gelu_new, tied embedding |
| Size | {n_params} parameters: {n_layers} layers, d_model {d_model}, {n_heads} heads of {d_head}, context {n_ctx}, {d_vocab} tokens |
| Weights | f16, rounded from f32 |
| Tokenizer | byte-level BPE with GPT-2's rules; `<|endoftext|>` begins a text, ends it, and pads |
| Training | {steps} steps of {tokens_per_step} tokens ({seen:.1} million), AdamW, rate {rate} with warm-up and cosine, gradient clipped at 1, seed {seed} |
| Loss curve | loss.csv: mean loss of 25 steps, and now and then the measurements below |
| Licence | MIT OR Apache-2.0, text and weights alike: no text of others was used |

Made by `cargo run --release --example train_tiny`, in about half an hour on one core.

## The text

The training program writes its own: short stories, sentences in which somebody gives something to somebody, lists,
counting, letters, questions about colours and places, passages and words that are said twice. A quarter of the rows (half
of them in the first quarter of the steps) are random tokens in blocks that come again, which teach the induction heads; a
third (before that a sixth) are givings alone. The last {more_steps} steps, with a new optimizer at half the rate, open the
givings in many more ways, so that the model does not go by where the names stand. Every row begins with `<|endoftext|>`. A random token that can't be known
weighs a tenth in the loss, so on such tokens the model does worse than a guess, as language models do.

48 names; about one pair of names in eight never meets in the training text, John and Mary, and Claire and Mary among them.

## Measured

On text from other seeds, with pairs of names and opening templates that training never saw:

| | |
|---|---|
| Loss per token of new documents | {text_loss:.3} |
| Loss on random tokens (blocks of 25 to 50), first time | {first:.3} |
| Loss on the same tokens, second time | {second:.3} |
| Best induction head | layer {ind_layer}, head {ind_head}: attention {induction:.3} to the token after the previous occurrence |
| Best previous-token head | layer {prev_layer}, head {prev_head}: attention {previous:.3} |
| Indirect object (1000 exercises) | right name ahead in {right:.1}%, mean logit difference {ioi_diff:.2} |
| \"After John and Mary went to the store, Mary gave a bottle of milk to\" | logit difference {john:.2} |
| \"Claire and Mary went to the shops, then Mary gave a bottle of milk to\" | logit difference {claire:.2}; without `<|endoftext|>` {without:.2} |

## What it can and cannot do

It writes simple sentences about its few people, places and things, keeps track of who gives to whom, copies what came
before, and shows induction and previous-token heads plainly. It knows nothing of the world, and text outside of its small
vocabulary falls into many short tokens. It is for learning, tests and demonstrations.
"
    )
}
