//! Chats for instruct models: messages become text by the model's own template, and text becomes tokens.

use serde::Serialize;
use serde_json::Value;

use super::{Tokenizer, Tokens};
use crate::Result;

/// One message of a chat.
///
/// A pair is a message too: `("user", "Hi")`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Who speaks: "system", "user", "assistant", or another role that the model's template knows.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// What somebody says.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }

    /// An instruction for the whole chat. Some templates refuse these.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new("system", content)
    }

    /// What the human says.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new("user", content)
    }

    /// What the model said.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new("assistant", content)
    }
}

/// The messages of a chat, in their order.
///
/// Made from one text (what a user says), and from vectors, slices and arrays of messages or of pairs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chat {
    /// First to last.
    pub messages: Vec<Message>,
}

/// How a chat becomes text.
///
/// ```
/// use candlescope::tokens::{ChatOptions, Tokenizer};
///
/// let template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}\
///                 {% if add_generation_prompt %}[assistant]{% endif %}{% if thinking %} Hmm{% endif %}";
/// let tokenizer = Tokenizer::gpt2()?.with_chat_template(template);
/// let think = ChatOptions::new().variable("thinking", true);
/// assert_eq!(tokenizer.chat_text_with("Hi", &think)?, "[user] Hi\n[assistant] Hmm");
/// # Ok::<(), candlescope::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ChatOptions {
    /// Whether the text ends with what begins an answer of the model, so that it answers next. `true` by default.
    pub add_generation_prompt: bool,
    /// Which of the model's templates, if it has several; `None` is the one named "default".
    pub template: Option<String>,
    /// Further variables for the template; a template may know `enable_thinking` or `date_string`, for example.
    pub variables: Vec<(String, Value)>,
}

impl Default for ChatOptions {
    fn default() -> Self {
        Self { add_generation_prompt: true, template: None, variables: Vec::new() }
    }
}

impl ChatOptions {
    /// The default template, ending so that the model answers next.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the text ends with what begins an answer of the model.
    #[must_use]
    pub fn add_generation_prompt(mut self, add: bool) -> Self {
        self.add_generation_prompt = add;
        self
    }

    /// Which of the model's templates, by name.
    #[must_use]
    pub fn template(mut self, name: impl Into<String>) -> Self {
        self.template = Some(name.into());
        self
    }

    /// Gives the template one more variable, or another value for one that it gets anyway.
    #[must_use]
    pub fn variable(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }
}

impl Tokenizer {
    /// The text of a chat, as this model's chat template writes it, ready for the model's answer.
    ///
    /// ```
    /// use candlescope::tokens::{Message, Tokenizer};
    ///
    /// let chat_ml = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
    ///                {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    /// let tokenizer = Tokenizer::gpt2()?.with_chat_template(chat_ml);
    /// let text = tokenizer.chat_text([Message::system("Be brief."), Message::user("Hi")])?;
    /// assert!(text.starts_with("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"));
    /// assert_eq!(text, tokenizer.chat_text([("system", "Be brief."), ("user", "Hi")])?);
    /// # Ok::<(), candlescope::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tokenizer::chat_text_with`].
    pub fn chat_text(&self, chat: impl Into<Chat>) -> Result<String> {
        self.chat_text_with(chat, &ChatOptions::default())
    }

    /// The text of a chat, with options.
    ///
    /// The template gets what Hugging Face gives it: the messages, the special tokens of tokenizer_config.json, and
    /// no tools. A template that asks for the date gets today's in UTC.
    ///
    /// # Errors
    /// No template (most base models have none), none of that name, one that can't be read, that refuses the chat (its
    /// own words are in the error), or that does much more work than a chat needs.
    pub fn chat_text_with(&self, chat: impl Into<Chat>, options: &ChatOptions) -> Result<String> {
        self.chat_templates().render(&chat.into(), options)
    }

    /// Token ids of a chat, `[1, pos]`, ready for the model's answer.
    ///
    /// Nothing is put in front of the text: a template writes its BOS itself, if the model wants one there. To begin
    /// the answer for the model, add to the text:
    /// `tokenizer.to_tokens_with(tokenizer.chat_text(chat)? + "Sure", &TokenOptions::new().prepend_bos(false))`.
    ///
    /// # Errors
    /// See [`Tokenizer::chat_text_with`].
    pub fn to_chat_tokens(&self, chat: impl Into<Chat>) -> Result<Tokens> {
        self.to_chat_tokens_with(chat, &ChatOptions::default())
    }

    /// Token ids of a chat, `[1, pos]`, with options.
    ///
    /// # Errors
    /// See [`Tokenizer::chat_text_with`].
    pub fn to_chat_tokens_with(&self, chat: impl Into<Chat>, options: &ChatOptions) -> Result<Tokens> {
        let ids = self.encode(&self.chat_text_with(chat, options)?)?;
        Ok(Tokens::from(ids).with_padding_side(self.padding_side()).with_tokenizer(self))
    }
}

impl<R: Into<String>, C: Into<String>> From<(R, C)> for Message {
    fn from((role, content): (R, C)) -> Self {
        Self::new(role, content)
    }
}

impl From<&Message> for Message {
    fn from(message: &Message) -> Self {
        message.clone()
    }
}

impl From<&str> for Chat {
    /// What a user says.
    fn from(text: &str) -> Self {
        Message::user(text).into()
    }
}

impl From<String> for Chat {
    /// What a user says.
    fn from(text: String) -> Self {
        Message::user(text).into()
    }
}

impl From<Message> for Chat {
    fn from(message: Message) -> Self {
        Self { messages: vec![message] }
    }
}

impl From<&Chat> for Chat {
    fn from(chat: &Chat) -> Self {
        chat.clone()
    }
}

impl<M: Into<Message>> From<Vec<M>> for Chat {
    fn from(messages: Vec<M>) -> Self {
        Self { messages: messages.into_iter().map(Into::into).collect() }
    }
}

impl<M: Into<Message> + Clone> From<&Vec<M>> for Chat {
    fn from(messages: &Vec<M>) -> Self {
        messages.as_slice().into()
    }
}

impl<M: Into<Message> + Clone> From<&[M]> for Chat {
    fn from(messages: &[M]) -> Self {
        messages.to_vec().into()
    }
}

impl<M: Into<Message>, const N: usize> From<[M; N]> for Chat {
    fn from(messages: [M; N]) -> Self {
        Self { messages: messages.into_iter().map(Into::into).collect() }
    }
}

impl<M: Into<Message> + Clone, const N: usize> From<&[M; N]> for Chat {
    fn from(messages: &[M; N]) -> Self {
        messages.as_slice().into()
    }
}
