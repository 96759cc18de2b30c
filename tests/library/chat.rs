//! Chats: templates as instruct models have them, against what Jinja2 makes of them; and templates that mean harm.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::fixture;
use candlescope::Result;
use candlescope::hub::FileData;
use candlescope::prelude::*;
use serde_json::{Value, json};

/// The tiny GPT-2's tokenizer with another configuration.
fn from_config(config: &Value) -> Result<Tokenizer> {
    let data = config.to_string().into_bytes().leak();
    let config = FileData::Bytes { name: "tokenizer_config.json", data };
    Tokenizer::from_files(fixture("gpt2").join("tokenizer.json"), Some(config))
}

fn with_template(template: impl Into<Value>) -> Tokenizer {
    let special = json!({"content": "</s>", "lstrip": false});
    let tokens = json!(["<a>", {"content": "<b>"}]);
    from_config(&json!({"bos_token": "<s>", "eos_token": special, "sep_token": "[SEP]", "pad_token": null,
        "additional_special_tokens": tokens, "add_bos_token": true, "chat_template": template.into()}))
    .unwrap()
}

fn sentence<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("an error was expected"),
        Err(error) => error.to_string(),
    }
}

fn refusal(template: &str) -> String {
    sentence(with_template(template).chat_text("Hi"))
}

/// tests/data/chat/make_expected.py wrote the expected texts with Jinja2.
#[test]
fn templates_of_instruct_models_give_what_jinja2_gives() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/chat");
    let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&read("expected.json")).unwrap();
    assert_eq!(cases.len(), 160);
    for case in &cases {
        let name = case["template"].as_str().unwrap();
        let message = |m: &Value| Message::new(m["role"].as_str().unwrap(), m["content"].as_str().unwrap());
        let chat = case["messages"].as_array().unwrap().iter().map(message).collect::<Vec<_>>();
        let prompt = case["add_generation_prompt"].as_bool().unwrap();
        let mut options = ChatOptions::new().add_generation_prompt(prompt);
        for (variable, value) in case["variables"].as_object().unwrap() {
            options = options.variable(variable, value.clone());
        }
        let found = with_template(read(&format!("{name}.jinja"))).chat_text_with(&chat, &options);
        let place = format!("{name}, {}, {prompt}", case["chat"]);
        match case["text"].as_str() {
            Some(text) => assert_eq!(found.unwrap(), text, "{place}"),
            None => {
                let words = case["refusal"].as_str().unwrap();
                assert_eq!(sentence(found), format!("the chat template refuses this chat: {words}"), "{place}");
            }
        }
    }
}

#[test]
fn known_texts() {
    let text = |template: &str, chat: Vec<Message>| with_template(template).chat_text(chat).unwrap();
    let talk = || vec![Message::user("Hello"), Message::assistant("Hi there"), Message::user("Who are you")];
    // As the models' own pages write them.
    assert_eq!(
        text(include_str!("../data/chat/mixtral.jinja"), talk()),
        "<s>[INST] Hello [/INST]Hi there</s>[INST] Who are you [/INST]"
    );
    assert_eq!(
        text(include_str!("../data/chat/gemma2.jinja"), talk()),
        "<s><start_of_turn>user\nHello<end_of_turn>\n<start_of_turn>model\nHi there<end_of_turn>\n\
         <start_of_turn>user\nWho are you<end_of_turn>\n<start_of_turn>model\n"
    );
    assert_eq!(
        text(include_str!("../data/chat/llama3_1.jinja"), vec![Message::system("Be brief."), Message::user("Hello")]),
        "<s><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n\
         Today Date: 26 Jul 2024\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n\
         Hello<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    );
}

#[test]
fn a_template_may_ask_for_the_date_and_a_variable_may_give_it() {
    let tokenizer = with_template(include_str!("../data/chat/llama3_1.jinja"));
    let today = tokenizer.chat_text_with("Hi", &ChatOptions::new().variable("today", true)).unwrap();
    let year = today.split("Today Date: ").nth(1).unwrap().split('\n').next().unwrap().rsplit(' ').next().unwrap();
    assert!(year.parse::<u32>().unwrap() >= 2026, "{today}");
    let given = ChatOptions::new().variable("date_string", "1 April 2020");
    assert!(tokenizer.chat_text_with("Hi", &given).unwrap().contains("Today Date: 1 April 2020\n"));
}

#[test]
fn tokens_get_no_second_bos_and_special_tokens_are_parsed() {
    let end = "<|endoftext|>";
    let template = "{{ bos_token }}{% for m in messages %}{{ m.content + eos_token }}{% endfor %}";
    let tokenizer = Tokenizer::gpt2().unwrap().with_chat_template(template);
    assert_eq!(tokenizer.chat_text("Hello").unwrap(), format!("{end}Hello{end}"));
    let tokens = tokenizer.to_chat_tokens("Hello").unwrap();
    assert_eq!(tokens.ids(), [[50256, 15496, 50256]]);
    assert_eq!(tokens.str_tokens(0).unwrap(), [end, "Hello", end]);
}

#[test]
fn every_kind_of_chat_is_accepted() {
    let expected = Chat { messages: vec![Message::user("Hi")] };
    let (pairs, messages) = (vec![("user", "Hi")], vec![Message::user("Hi")]);
    for chat in [
        Chat::from("Hi"),
        Chat::from("Hi".to_string()),
        Chat::from(Message::user("Hi")),
        Chat::from([("user", "Hi")]),
        Chat::from(&[("user", "Hi")]),
        Chat::from(&pairs),
        Chat::from(pairs.as_slice()),
        Chat::from(pairs.clone()),
        Chat::from(&messages),
        Chat::from(messages.as_slice()),
        Chat::from(messages.clone()),
        Chat::from([Message::user("Hi")]),
        Chat::from(&expected),
    ] {
        assert_eq!(chat, expected);
    }
}

#[test]
fn a_list_of_templates_has_a_default_and_names() {
    let tokenizer = with_template(json!([
        {"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}]));
    assert_eq!(tokenizer.chat_text("Hi").unwrap(), "plain");
    assert_eq!(tokenizer.chat_text_with("Hi", &ChatOptions::new().template("tool_use")).unwrap(), "tools");
    let found = sentence(tokenizer.chat_text_with("Hi", &ChatOptions::new().template("tool_uze")));
    assert!(found.contains("default, tool_use") && found.contains("did you mean 'tool_use'"), "{found}");
    let found = sentence(from_config(&json!({"chat_template": [{"name": "default"}]})));
    assert!(found.contains("tokenizer_config.json") && found.contains("'template'"), "{found}");
}

#[test]
fn a_model_takes_its_template_from_the_file_beside_it() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("with_chat_template");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(fixture("gpt2").join(file), folder.join(file)).unwrap();
    }
    let load = || HookedTransformer::from_pretrained(&folder.to_string_lossy()).unwrap();
    let found = sentence(load().to_chat_tokens("Hi"));
    assert!(found.contains("no chat template") && found.contains("base model"), "{found}");

    let template = "{% for m in messages %}\r\n{{ m.content }}\r\n{% endfor %}";
    fs::write(folder.join("chat_template.jinja"), template).unwrap();
    let model = load();
    let tokens = model.to_chat_tokens([("user", "the"), ("assistant", "fox")]).unwrap();
    let options = TokenOptions::new().prepend_bos(false);
    assert_eq!(tokens.ids(), model.tokenizer().unwrap().to_tokens_with("the\nfox\n", &options).unwrap().ids());
    assert!(model.forward(&tokens).is_ok());

    // A template that can't be read is no reason not to load the model.
    fs::write(folder.join("chat_template.jinja"), "{% if %}").unwrap();
    let found = sentence(load().to_chat_tokens("Hi"));
    assert!(found.contains("can't be read at line 1"), "{found}");
}

#[test]
fn failures_are_sentences_that_name_the_line() {
    let found = refusal("{% for m in messages %}\n{{ m.content }}\n{% endif %}");
    assert!(found.contains("can't be read at line 3"), "{found}");
    let found = refusal("a\nb {{ nothing.at.all }}");
    assert!(found.contains("failed at line 2") && found.contains("undefined"), "{found}");
    for (template, expected) in [
        ("{{ raise_exception('no, ' ~ messages | length) }}", "refuses this chat: no, 1"),
        ("{% macro m() %}{{ raise_exception('deep') }}{% endmacro %}{{ m() }}", "refuses this chat: deep"),
        ("{{ strftime_now('%Q') }}", "%Q"),
        ("{{ 'a'.encode() }}", "encode"),
        ("{% include 'other' %}", "include"),
        ("{{ messages | tojson(indent=1000000000) }}", "1000000000"),
    ] {
        let found = refusal(template);
        assert!(found.contains(expected), "{template}: {found}");
    }
}

#[test]
fn a_hostile_template_ends() {
    let nested = |open: &str, close: &str, n: usize| format!("{}x{}", open.repeat(n), close.repeat(n));
    let loops = "{% for a in range(9999) %}".repeat(4);
    let ends = "{% endfor %}".repeat(4);
    for template in [
        format!("{loops}x{ends}"),
        format!("{loops}{ends}"),
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}".to_string(),
        "{% for a in [[1]] recursive %}{{ loop([a]) }}{% endfor %}".to_string(),
        "{% set n = namespace(s='x') %}{% for i in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s }}"
            .to_string(),
        "{{ 'x' * 100000000000 }}".to_string(),
        "{{ 'x'.replace('', 'y' * 1000000) * 1000 }}".to_string(),
        "{% set n = namespace(s='xxxxxxxx') %}{% for i in range(9) %}{% set n.s = n.s.replace('x', n.s) %}{% endfor %}"
            .to_string(),
        "{{ '%1000000000d' % 5 }}".to_string(),
        "{{ '%1000000000d' | format(5) }}".to_string(),
        "{{ '{:1000000000}'.format('x') }}".to_string(),
        "{{ 'a' | indent(1000000000, true) }}".to_string(),
        "{{ [1] | slice(100000000000) | list }}".to_string(),
        "{{ [1] | batch(100000000000, 0) | list }}".to_string(),
        "{{ 'x' * 3000000 }}".to_string(),
        "{% set n = namespace(l=[]) %}{% for a in range(9999) %}{% for b in range(9999) %}{% set n.l = [n.l] %}\
         {% endfor %}{% endfor %}"
            .to_string(),
        nested("{% if true %}", "{% endif %}", 100_000),
        format!("{{{{ {} }}}}", nested("(", ")", 100_000)),
        format!("{{{{ {} }}}}", nested("[", "]", 100_000)),
    ] {
        let found = refusal(&template);
        assert!(found.starts_with("the chat template "), "{:.80}: {found}", template);
    }
}

#[test]
fn lists_as_deep_as_the_fuel_allows_are_written_compared_and_dropped() {
    let deep = |name: &str, depth: usize| {
        format!(
            "{{% set {name} = namespace(l=[]) %}}{{% for i in range({depth}) %}}{{% set {name}.l = [{name}.l] %}}{{% endfor %}}"
        )
    };
    let one = format!("{}{{{{ n.l }}}}", deep("n", 60_000));
    assert_eq!(with_template(one).chat_text("Hi").unwrap().len(), 2 * 60_001);
    let two = format!("{}{}{{{{ n.l == m.l }}}}", deep("n", 40_000), deep("m", 40_000));
    assert_eq!(with_template(two).chat_text("Hi").unwrap(), "True");
    let json = format!("{}{{{{ n.l | tojson }}}}", deep("n", 60_000));
    assert_eq!(with_template(json).chat_text("Hi").unwrap().len(), 2 * 60_001);
    let signs = format!("{{{{ {}1 }}}}", "-".repeat(100_000));
    assert_eq!(with_template(signs).chat_text("Hi").unwrap(), "1");
}

#[test]
fn a_long_chat_is_no_hostile_one() {
    let turn = [Message::user("word ".repeat(200)), Message::assistant("yes ".repeat(200))];
    let chat = turn.iter().cycle().take(4000).collect::<Vec<_>>();
    for template in [include_str!("../data/chat/llama3_1.jinja"), include_str!("../data/chat/qwen3.jinja")] {
        let text = with_template(template).chat_text(&chat).unwrap();
        assert_eq!(text.matches("yes yes").count(), 2000 * 100);
    }
}
