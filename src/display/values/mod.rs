//! How the library's values look: each is shown by the views.

mod attention;
mod attribution;
mod attribution_patching;
mod compare;
mod diagram;
mod factored_matrix;
mod gradients;
mod heads;
mod ioi;
mod labelled;
mod lens;
mod model;
mod neuronpedia;
mod over_text;
mod over_training;
mod probe;
pub(crate) mod sae;
mod singular_vectors;
mod steering;
mod subspace;
mod sweep_view;
mod tensor;
mod tokenization;
mod training;
