//! Commands that need the library but no notebook; `candlescope tokens` and its like start them.

use std::process::ExitCode;

use candlescope::display::Show;
use candlescope::tokens::{Tokenizer, describe};
use candlescope::{Error, Result, hub};

/// Does what the program's arguments say.
pub fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(text) => {
            println!("{}", text.trim_end());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<String> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["tokens", "--model", model, "--", text] => describe(text, &tokenizer(model)?),
        ["models", "--", filter] => models(filter),
        _ => Err(Error::msg("the commands here are: tokens --model NAME -- TEXT, and models -- FILTER")),
    }
}

/// The registry's models that fit a filter, as a table.
fn models(filter: &str) -> Result<String> {
    let models = hub::find_models(filter);
    if !models.is_empty() {
        return Ok(models.bundle().text);
    }
    let near = match &hub::near_names(filter)[..] {
        [] => ".".to_string(),
        near => format!("; did you mean {}?", near.join(" or ")),
    };
    Err(Error::msg(format!(
        "no model of the registry has '{filter}' in its name, short names or family{near} Without a filter all are \
         listed. Any other repository of a known family loads too, by its full name"
    )))
}

/// GPT-2's is part of the library; any other comes from where its model is, without the model.
fn tokenizer(model: &str) -> Result<Tokenizer> {
    if ["gpt2", "gpt2-small", "openai-community/gpt2"].contains(&model) {
        return Tokenizer::gpt2();
    }
    let (tokenizer, config) = hub::resolve_tokenizer(model)?;
    Tokenizer::from_files(tokenizer, config)
}
