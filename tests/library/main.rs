//! The library's tests, in one program: forty that each link the library take 8 GB and minutes.

mod common;

#[allow(dead_code)]
#[path = "../../examples/parity/main.rs"]
mod example;
// The generator of the bundled models' training text, which makes held-out prompts as well.
#[path = "../../examples/train/rng.rs"]
#[allow(dead_code)]
mod rng;
#[path = "../../examples/train/text/mod.rs"]
#[allow(dead_code)]
mod text;
#[path = "../../examples/train/words.rs"]
mod words;

mod analysis;
mod attn_only_model;
mod attribution;
mod bad_files;
mod bad_input;
mod cache;
mod chat;
mod checkpoints;
mod compare;
mod encoders;
mod experts;
mod formats;
mod gguf;
mod gradients;
mod hostile;
mod ioi;
mod layer_norm_families;
mod lenses;
mod mixers;
mod model;
mod narrow_and_streamed;
mod neuronpedia;
mod over_text;
mod own_networks;
mod parity;
mod probes;
mod sae;
mod second_opinion;
mod second_opinion_encoders;
mod shapes;
mod steering;
mod subspace;
mod sweep;
mod switches;
mod tiny_model;
mod training;
