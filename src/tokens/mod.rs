//! Text to tokens and back: tokenizers, the BOS question, padding, chats.
//!
//! Three facts to know before reading any result of a language model:
//! - A word at the start of a text and the same word after a space are different tokens: for GPT-2 `" Claire"` is one
//!   token and `"Claire"` is two. [`describe`] shows it for any text.
//! - Most models want a beginning-of-sequence token (BOS) in front, some do not.
//!   [`Tokenizer::default_prepend_bos`] says what happens unless a call says otherwise.
//! - Token ids that you give yourself are used as they are: no BOS is put in front of them.
//!
//! ```
//! use candlescope::tokens::Tokenizer;
//!
//! let tokenizer = Tokenizer::gpt2()?;
//! let tokens = tokenizer.to_tokens("Claire and Mary")?;
//! assert_eq!(tokens.shape(), (1, 5));
//! assert_eq!(tokens.str_tokens(0)?, ["<|endoftext|>", "Cl", "aire", " and", " Mary"]);
//! assert_eq!(tokenizer.to_single_token(" Claire")?, 20758);
//! # Ok::<(), candlescope::Error>(())
//! ```

mod batch;
mod chat;
mod chat_template;
mod choice;
mod describe;
mod gguf;
mod gpt2;
mod input;
mod inspect;
mod lookup;
mod special;
mod template_python;
mod tokenizer;

pub use batch::Tokens;
pub use chat::{Chat, ChatOptions, Message};
pub use choice::TokenChoice;
pub use describe::{describe, visible};
pub use input::{Occurrence, PaddingSide, Text, TokenInput, TokenOptions, TokenRef};
pub use inspect::{TokenPiece, Tokenization};
pub use special::SpecialTokens;
pub use tokenizer::Tokenizer;

#[cfg(test)]
mod tests;
