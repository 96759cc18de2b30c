//! Cross-entropy of the next token.

use candle_core::{D, DType, Tensor};
use candle_nn::ops::log_softmax;

use crate::tokens::Tokens;
use crate::{Error, Result, ops};

/// The log-probability that each position gives to the token that follows, `[batch, pos - 1]`, in nats.
///
/// `logits` are `[batch, pos, d_vocab]`.
pub fn log_probs_of_next(logits: &Tensor, tokens: &Tokens) -> Result<Tensor> {
    let (batch, pos, _) = logits.dims3()?;
    if tokens.shape() != (batch, pos) {
        let (rows, columns) = tokens.shape();
        let expected = format!("[{batch}, {pos}], as the logits");
        return Err(Error::WrongShape { name: "tokens".into(), expected, found: vec![rows, columns] });
    }
    if pos < 2 {
        return Err(Error::msg("the loss needs at least two tokens: one to predict from and one to predict"));
    }
    if ops::are_for(logits) {
        let next = |row: &Vec<u32>| row[1..].iter().copied().map(Some).chain([None]).collect::<Vec<_>>();
        let next = tokens.ids().iter().flat_map(next).collect();
        let losses = ops::cross_entropy(&logits.flatten(0, 1)?, next)?.reshape((batch, pos))?;
        return Ok(losses.narrow(1, 0, pos - 1)?.neg()?);
    }
    let log_probs = log_softmax(&logits.narrow(1, 0, pos - 1)?.to_dtype(DType::F32)?, D::Minus1)?;
    let next = tokens.tensor(logits.device())?.narrow(1, 1, pos - 1)?.contiguous()?.unsqueeze(2)?;
    Ok(log_probs.gather(&next, 2)?.squeeze(2)?)
}

/// Cross-entropy of the next token: per token `[batch, pos - 1]`, and its mean, in nats.
///
/// With a mask `[batch][pos]`, pairs of which either side is padding count as 0 and are left out of the mean.
pub fn next_token_loss(logits: &Tensor, tokens: &Tokens, mask: Option<&[Vec<bool>]>) -> Result<(Tensor, f32)> {
    let per_token = log_probs_of_next(logits, tokens)?.neg()?;
    let Some(mask) = mask else {
        let mean = per_token.mean_all()?.to_scalar()?;
        return Ok((per_token, mean));
    };
    let pairs = real_pairs(mask).map(|real| f32::from(u8::from(real)));
    let pairs = Tensor::from_vec(pairs.collect::<Vec<f32>>(), per_token.shape(), per_token.device())?;
    let per_token = (per_token * &pairs)?;
    let mean = per_token.sum_all()?.to_scalar::<f32>()? / pairs.sum_all()?.to_scalar::<f32>()?;
    Ok((per_token, mean))
}

/// Of each token and the next, row by row: whether neither is padding.
pub(crate) fn real_pairs(mask: &[Vec<bool>]) -> impl Iterator<Item = bool> {
    mask.iter().flat_map(|row| row.windows(2).map(|pair| pair[0] && pair[1]))
}
