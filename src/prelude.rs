//! What a notebook needs: `use candlescope::prelude::*;`

pub use crate::analysis::{Axis, FactoredMatrix, LabelledTensor};
pub use crate::analysis::{
    Circuit, Composition, Embedded, Side, SingularVectors, full_ov, full_ov_copying_scores, full_ov_eigenvalues,
    full_qk, full_qk_between, ov_copying_scores, singular_vectors,
};
pub use crate::analysis::{
    DetectOptions, HeadAttention, HeadKind, HeadPattern, HeadScore, HeadSummary, Measure, ScoredHead, ValueNorm,
    copying_scores, detect_head, detect_head_with, head_norms, head_summary, head_summary_on, induction_scores,
    prefix_matching_scores, repeated_random_tokens, value_weighted_pattern,
};
pub use crate::cache::{ActivationCache, AttentionPattern, Stack};
pub use crate::display::{
    AttentionView, BarChart, Card, Facets, Heatmap, LineChart, Scatter, Show, Table, TokenBoxes, TopTokens, bars,
    imshow, line, scatter,
};
pub use crate::hooks::points::*;
pub use crate::hooks::{
    Activations, HookPoint, HookedModule, Hooks, PointInfo, Selector, Tap, act_name, all, matching,
};
pub use crate::hub::{checkpoint_labels, find_models, known_models};
pub use crate::model::{
    GenerateOptions, Generation, HookedTransformer, Input, KvCache, LayerWeights, LoadOptions, Logits, ModelConfig,
    RunOptions, RunOutput,
};
pub use crate::tokens::{Chat, ChatOptions, Message, Occurrence, PaddingSide, TokenOptions, Tokenizer, Tokens};
pub use crate::weights::Processing;
pub use candle_core::{D, DType, Device, IndexOp, Tensor};
