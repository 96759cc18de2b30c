//! What a notebook needs: `use candlescope::prelude::*;`

pub use crate::analysis::ablation::zero_heads;
pub use crate::analysis::metric::{self, kl_divergence, log_prob, logit_diff};
pub use crate::analysis::{
    Agreement, Alignment, Attribution, Axis, Circuit, CircuitGraph, Comparison, Composition, Contrast, Corpus,
    DetectOptions, DirectLogitAttribution, EdgeScores, Embedded, FactoredMatrix, Gradients, HeadAttention, HeadKind,
    HeadPattern, HeadScore, HeadSummary, InductionLossOptions, InterchangePairs, IoiDataset, IoiOptions,
    LabelledTensor, LearnOptions, LearnedSubspace, LensReading, Measure, Metric, OverCheckpoints, OverText,
    OverTraining, Probe, ProbeOptions, ScoredHead, Sentiment, Side, SingularVectors, SteeredTexts, Steering,
    SteeringResult, SteeringSweep, SteeringVector, Subspace, Sweep, SweepResult, TokenPositions, TunedLens, ValueNorm,
    WeakestPushes, agreement, copying_scores, detect_head, detect_head_with, direct_logit_attribution, full_ov,
    full_ov_copying_scores, full_ov_eigenvalues, full_qk, full_qk_between, head_norms, head_summary, head_summary_on,
    induction_loss, induction_scores, ov_copying_scores, patching, prefix_matching_scores, repeated_random_tokens,
    singular_vectors, value_weighted_pattern,
};
pub use crate::cache::{ActivationCache, AttentionPattern, Decomposition, Slice, Stack, StreamPlace};
pub use crate::display::{
    AttentionView, BarChart, Card, ComplexPlane, Diagram, Facets, Heatmap, HistogramChart, LineChart, Live, Scatter,
    Show, Table, TokenBoxes, TokenizationView, TopTokens, bars, hist, imshow, line, scatter,
};
pub use crate::hooks::points::*;
pub use crate::hooks::{
    Activations, HookPoint, HookedModule, Hooks, PointInfo, Selector, Tap, act_name, all, matching,
};
pub use crate::hub::{CheckpointChoice, checkpoint_labels, find_models, known_models};
pub use crate::interrupt;
pub use crate::model::{
    GenerateOptions, Generation, HookedTransformer, Input, KvCache, LayerWeights, LoadOptions, Logits, ModelConfig,
    RunOptions, RunOutput,
};
pub use crate::neuronpedia::{
    Export, FeatureExample, FeatureId, FeatureInfo, FeatureTable, FoundFeatures, Label, Labels, Neuronpedia, SourceId,
};
pub use crate::progress::Progress;
pub use crate::sae::{
    ActiveFeature, FeatureActivations, FeatureCard, FeatureStatistics, InputNorm, LogitEffects, Sae, SaeHooks, SaeKind,
    SaeScores, SaeTrainOptions,
};
pub use crate::tokens::{
    Chat, ChatOptions, Message, Occurrence, PaddingSide, TokenOptions, TokenPiece, Tokenization, Tokenizer, Tokens,
};
pub use crate::training::{TrainOptions, Trainer, TrainingCurve};
pub use crate::weights::Processing;
pub use candle_core::{D, DType, Device, IndexOp, Tensor};
