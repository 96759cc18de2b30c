//! RoBERTa (Liu et al. 2019): BERT with positions that are counted from behind the padding token's id, skipping padding.

use super::{ConfigJson, Family, bert};
use crate::Result;
use crate::model::{Activation, ModelConfig};
use crate::weights::{HeadWeights, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "roberta", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let pad = match json.value("pad_token_id") {
        Some(_) => json.token("pad_token_id")?,
        None => 1,
    };
    let rows = json.size_or("max_position_embeddings", 512)?;
    let Some(n_ctx) = rows.checked_sub(pad as usize + 1).filter(|n_ctx| *n_ctx > 0) else {
        let why = format!("max_position_embeddings is {rows}; positions begin at pad_token_id + 1 = {}", pad + 1);
        return Err(json.error(why));
    };
    let cfg = bert::encoder(json, "roberta", n_ctx)?;
    // The head's activation is no switch.
    Ok(ModelConfig { head_act_fn: Some(Activation::Gelu), unplaced_token: Some(pad), ..cfg })
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    source.ignore("roberta.pooler.");
    // The same once more, in files of an older code.
    source.ignore("lm_head.decoder.bias");
    let offset = cfg.unplaced_token.map_or(0, |pad| pad as usize + 1);
    let stack = bert::stack(cfg, source, "roberta.", offset)?;
    let dense = source.linear("lm_head.dense", cfg.d_model, cfg.d_model)?;
    let w_u = match cfg.tie_word_embeddings {
        true => source.tied_head("lm_head.decoder", &stack.w_e)?,
        false => source.linear("lm_head.decoder", cfg.d_model, cfg.d_vocab)?.w,
    };
    let b_u = match source.has("lm_head.bias") {
        true => source.tensor("lm_head.bias", &[cfg.d_vocab])?,
        false => source.tensor("lm_head.decoder.bias", &[cfg.d_vocab])?,
    };
    let head = HeadWeights { w: dense.w, b: dense.b };
    let ln_final = source.norm("lm_head.layer_norm", cfg.d_model)?;
    Ok(Weights { ln_final: Some(ln_final), w_u, b_u: Some(b_u), head: Some(head), ..stack })
}
