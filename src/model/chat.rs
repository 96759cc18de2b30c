//! Chats with an instruct model.

use super::HookedTransformer;
use crate::Result;
use crate::tokens::{Chat, ChatOptions, Tokens};

impl HookedTransformer {
    /// Token ids of a chat, `[1, pos]`, as this model's chat template writes it, ready for the model's answer.
    ///
    /// ```no_run
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("Qwen/Qwen2.5-0.5B-Instruct")?;
    /// let tokens = model.to_chat_tokens([("system", "Answer with one word."), ("user", "The capital of France?")])?;
    /// let (logits, cache) = model.run_with_cache(&tokens)?;
    /// # let _ = (logits, cache); Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A model without a tokenizer; and see [`Tokenizer::chat_text_with`](crate::tokens::Tokenizer::chat_text_with).
    pub fn to_chat_tokens(&self, chat: impl Into<Chat>) -> Result<Tokens> {
        self.tokenizer()?.to_chat_tokens(chat)
    }

    /// As [`to_chat_tokens`](Self::to_chat_tokens), with options.
    pub fn to_chat_tokens_with(&self, chat: impl Into<Chat>, options: &ChatOptions) -> Result<Tokens> {
        self.tokenizer()?.to_chat_tokens_with(chat, options)
    }
}
