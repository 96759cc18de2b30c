//! What a notebook needs: `use candlescope::prelude::*;`

pub use crate::analysis::metric::{self, kl_divergence, log_prob, logit_diff};
pub use crate::analysis::{
    Agreement, Attribution, Axis, Circuit, Corpus, DirectLogitAttribution, EdgeScores, FactoredMatrix, Gradients,
    InterchangePairs, IoiDataset, IoiOptions, LabelledTensor, LearnOptions, LearnedSubspace, LensReading, Metric,
    OverText, Probe, ProbeOptions, Subspace, Sweep, SweepResult, TokenPositions, TunedLens, agreement,
    direct_logit_attribution, patching,
};
pub use crate::cache::{ActivationCache, AttentionPattern, Decomposition, Slice, Stack, StreamPlace};
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
    GenerateOptions, Generation, HookedTransformer, Input, KvCache, LoadOptions, Logits, ModelConfig, RunOptions,
    RunOutput,
};
pub use crate::progress::Progress;
pub use crate::tokens::{Chat, ChatOptions, Message, Occurrence, PaddingSide, TokenOptions, Tokenizer, Tokens};
pub use crate::weights::Processing;
pub use candle_core::{D, DType, Device, IndexOp, Tensor};
