//! [`ChatTemplates`]: the Jinja templates by which an instruct model writes a chat.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind};
use serde_json::{Map, Value, json};

use super::SpecialTokens;
use super::chat::{Chat, ChatOptions};
use super::template_python::{self, Refusal};
use crate::error::near_misses;
use crate::{Error, Result};

/// The template that is used unless another is named.
const DEFAULT: &str = "default";

/// The work that a template may do, in minijinja's measure: about an instruction, or 64 bytes made. Thousands of
/// messages need less; to use it up takes a fraction of a second.
const FUEL: u64 = 1_000_000;

/// Room for the deepest lists that the fuel can build (a level takes 5 units or more, and about 1 kB of stack).
const STACK: usize = 256 << 20;

/// The templates of one tokenizer, and the special tokens that they may write. Anyone may have written them.
///
/// They are read when they are used: a model whose template is broken is still a model.
#[derive(Debug, Clone, Default)]
pub(super) struct ChatTemplates {
    /// Names and templates.
    templates: Vec<(String, String)>,
    /// `bos_token` and its like: text, or a list of texts.
    special_tokens: Map<String, Value>,
}

impl ChatTemplates {
    /// No template, and these tokens.
    pub fn without_template(special: &SpecialTokens) -> Self {
        let tokens = [("bos_token", &special.bos), ("eos_token", &special.eos), ("pad_token", &special.pad)];
        let known = tokens.into_iter().filter_map(|(name, token)| Some((name.to_string(), json!(token.as_ref()?))));
        Self { templates: Vec::new(), special_tokens: known.collect() }
    }

    /// What tokenizer_config.json says: `chat_template` is one template or a list of named ones.
    pub fn parse(config: &Map<String, Value>) -> Result<Self, String> {
        let templates = match config.get("chat_template") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::String(template)) => vec![(DEFAULT.to_string(), template.clone())],
            Some(Value::Array(list)) => list.iter().map(named_template).collect::<Option<_>>().ok_or_else(|| {
                "'chat_template' is a list, and of objects with a 'name' and a 'template' was expected".to_string()
            })?,
            Some(_) => return Err("'chat_template' is neither a text nor a list of named templates".to_string()),
        };
        let is_token = |name: &str| name.ends_with("_token") || name == "additional_special_tokens";
        let tokens = config.iter().filter(|(name, _)| is_token(name));
        let special_tokens = tokens.filter_map(|(name, token)| Some((name.clone(), token_text(token)?))).collect();
        Ok(Self { templates, special_tokens })
    }

    /// The same, with this default template.
    pub fn with_default(mut self, template: String) -> Self {
        self.templates.retain(|(name, _)| name != DEFAULT);
        self.templates.push((DEFAULT.to_string(), template));
        self
    }

    /// The text of a chat.
    pub fn render(&self, chat: &Chat, options: &ChatOptions) -> Result<String> {
        let template = as_jinja(self.find(options.template.as_deref())?);
        let mut context = Map::from_iter([
            ("messages".to_string(), json!(chat.messages)),
            ("add_generation_prompt".to_string(), json!(options.add_generation_prompt)),
            ("tools".to_string(), Value::Null),
            ("documents".to_string(), Value::Null),
        ]);
        context.extend(self.special_tokens.clone());
        context.extend(options.variables.iter().cloned());

        let text = with_room_on_the_stack(|| {
            let environment = environment()?;
            environment.template_from_str(&template)?.render(Serde(&context))
        })?;
        match text.len() {
            length if length > most_bytes(chat) => Err(Error::ChatTemplate(format!(
                "wrote {length} bytes for {} messages, which no chat needs",
                chat.messages.len()
            ))),
            _ => Ok(text),
        }
    }

    fn find(&self, name: Option<&str>) -> Result<&str> {
        if self.templates.is_empty() {
            return Err(Error::NoChatTemplate);
        }
        let wanted = name.unwrap_or(DEFAULT);
        if let Some((_, template)) = self.templates.iter().find(|(name, _)| name == wanted) {
            return Ok(template);
        }
        let names = || self.templates.iter().map(|(name, _)| name.as_str());
        let known = Vec::from_iter(names()).join(", ");
        let near = match near_misses(wanted, names()).first() {
            Some(near) => format!("; did you mean '{near}'?"),
            None => String::new(),
        };
        Err(Error::ChatTemplate(format!(
            "named '{wanted}' does not exist: this tokenizer has {known} (choose with ChatOptions::template){near}"
        )))
    }
}

/// More than a chat's text could need.
fn most_bytes(chat: &Chat) -> usize {
    let given = chat.messages.iter().map(|message| message.role.len() + message.content.len()).sum::<usize>();
    (1 << 20) + (chat.messages.len() << 12) + 8 * given
}

/// Runs a template on a thread of its own: with its fuel a hostile one can nest lists so deep that to write or to
/// drop them takes more stack than other threads have. Of a large stack only what is used takes memory.
fn with_room_on_the_stack(run: impl FnOnce() -> Result<String, minijinja::Error> + Send) -> Result<String> {
    let failed = |why: String| Error::ChatTemplate(format!("could not be run: {why}"));
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || run().map_err(explain));
        let thread = thread.map_err(|error| failed(error.to_string()))?;
        thread.join().unwrap_or_else(|_| Err(failed("the template engine panicked".to_string())))
    })
}

/// Jinja as Hugging Face sets it up for chat templates.
fn environment() -> Result<Environment<'static>, minijinja::Error> {
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
    let mut environment = Environment::new();
    environment.set_syntax(syntax);
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(template_python::method);
    environment.set_formatter(template_python::write);
    environment.add_filter("tojson", template_python::to_json);
    environment.add_function("raise_exception", template_python::raise_exception);
    environment.add_function("strftime_now", template_python::strftime_now);
    Ok(environment)
}

/// The template in plain Jinja: `{% generation %}`, by which training code finds the model's own words, changes no text.
fn as_jinja(template: &str) -> String {
    let template = template.replace("\r\n", "\n");
    let (mut plain, mut rest) = (String::with_capacity(template.len()), template.as_str());
    while let Some((before, tag, after)) = next_tag(rest) {
        plain.push_str(before);
        match tag.trim_matches(|c: char| "{%-+}".contains(c) || c.is_whitespace()) {
            "generation" => plain.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => plain.push_str(&tag.replace("endgeneration", "endif")),
            _ => plain.push_str(tag),
        }
        rest = after;
    }
    plain + rest
}

/// The text before the next `{% .. %}`, the tag itself, and the text after it.
fn next_tag(text: &str) -> Option<(&str, &str, &str)> {
    let (before, tag) = text.split_at(text.find("{%")?);
    let (tag, after) = tag.split_at(tag.find("%}")? + 2);
    Some((before, tag, after))
}

fn named_template(entry: &Value) -> Option<(String, String)> {
    let text = |key: &str| Some(entry.get(key)?.as_str()?.to_string());
    Some((text("name")?, text("template")?))
}

/// A special token's text: it is written as a string, or as an object with a `content`, or there is a list of these.
fn token_text(token: &Value) -> Option<Value> {
    match token {
        Value::String(_) => Some(token.clone()),
        Value::Object(object) => object.get("content").filter(|content| content.is_string()).cloned(),
        Value::Array(list) => Some(list.iter().filter_map(token_text).collect()),
        _ => None,
    }
}

/// A template's failure as a sentence about the chat template.
fn explain(error: minijinja::Error) -> Error {
    let mut causes = std::iter::successors(Some(&error as &(dyn std::error::Error + 'static)), |e| e.source());
    if let Some(Refusal(words)) = causes.find_map(|cause| cause.downcast_ref()) {
        return Error::ChatTemplate(format!("refuses this chat: {words}"));
    }
    let place = error.line().map_or_else(String::new, |line| format!(" at line {line}"));
    let what = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    Error::ChatTemplate(match error.kind() {
        ErrorKind::OutOfFuel => format!("was stopped{place}: it does far more work than a chat of this size needs"),
        ErrorKind::SyntaxError => format!("can't be read{place}: {what}"),
        _ => format!("failed{place}: {what}"),
    })
}
