//! The tokenizers as a whole: GPT-2's against 66 recorded texts, and small ones with other habits.

use serde_json::{Value, json};

use super::*;
use crate::Error;
use crate::hub::FileData;

fn no_bos() -> TokenOptions {
    TokenOptions::new().prepend_bos(false)
}

fn with_bos() -> TokenOptions {
    TokenOptions::new().prepend_bos(true)
}

#[test]
fn gpt2_agrees_with_every_recorded_text() {
    let recorded = include_str!("../../tests/data/tokens/gpt2.json");
    let recorded: Vec<Value> = serde_json::from_str(recorded).unwrap();
    assert_eq!(recorded.len(), 66);
    let tokenizer = Tokenizer::gpt2().unwrap();
    for entry in &recorded {
        let text = entry["text"].as_str().unwrap();
        let ids: Vec<u32> = serde_json::from_value(entry["ids"].clone()).unwrap();
        let pieces: Vec<String> = serde_json::from_value(entry["pieces"].clone()).unwrap();
        let tokens = tokenizer.to_tokens_with(text, &no_bos()).unwrap();
        assert_eq!(tokens.ids(), [ids.as_slice()], "{text:?}");
        assert_eq!(tokens.str_tokens(0).unwrap(), pieces, "{text:?}");
        assert_eq!(tokenizer.to_str_tokens(ids.clone()).unwrap(), pieces, "{text:?}");
        assert_eq!(tokenizer.to_string(&ids).unwrap(), text);

        let with_bos = tokenizer.to_tokens(text).unwrap();
        assert_eq!(with_bos.row(0).unwrap(), [&[50256], ids.as_slice()].concat());
    }
}

#[test]
fn gpt2_facts() {
    let tokenizer = Tokenizer::gpt2().unwrap();
    assert_eq!(tokenizer.vocab_size(), 50257);
    assert_eq!([tokenizer.bos_id(), tokenizer.eos_id(), tokenizer.pad_id()], [Some(50256); 3]);
    assert!(!tokenizer.prepends_bos() && !tokenizer.appends_eos());
    assert!(tokenizer.default_prepend_bos());
    assert_eq!(tokenizer.padding_side(), PaddingSide::Right);
    fn owned<T: Clone + Send + Sync + 'static>(_: &T) {}
    owned(&tokenizer);
    owned(&tokenizer.to_tokens("x").unwrap());
}

#[test]
fn batches_are_filled_up_and_masked() {
    let tokenizer = Tokenizer::gpt2().unwrap();
    let texts = ["Claire and Mary", "Hello"];
    let right = tokenizer.to_tokens(texts).unwrap();
    assert_eq!(right.ids(), [[50256, 2601, 7626, 290, 5335], [50256, 15496, 50256, 50256, 50256]]);
    assert_eq!(right.mask().unwrap()[1], [true, true, false, false, false]);
    assert_eq!(right.last_positions(), [4, 1]);

    // BOS and padding are the same id here; the mask still knows which is which.
    let left = tokenizer.to_tokens_with(texts, &TokenOptions::new().padding_side(PaddingSide::Left)).unwrap();
    assert_eq!(left.ids()[1], [50256, 50256, 50256, 50256, 15496]);
    assert_eq!(left.mask().unwrap()[1], [false, false, false, true, true]);
    assert_eq!(left.position_ids()[1], [0, 0, 0, 0, 1]);
    assert_eq!(left.padding_side(), PaddingSide::Left);
    let same = tokenizer.clone().with_padding_side(PaddingSide::Left).to_tokens(texts.to_vec()).unwrap();
    assert_eq!(same.ids(), left.ids());
}

#[test]
fn truncation_counts_the_bos() {
    let tokenizer = Tokenizer::gpt2().unwrap();
    let tokens = tokenizer.to_tokens_with(["Claire and Mary", "Hello"], &TokenOptions::new().truncate_to(2)).unwrap();
    assert_eq!(tokens.ids(), [[50256, 2601], [50256, 15496]]);
    assert!(tokens.mask().is_none());
}

#[test]
fn empty_texts() {
    let tokenizer = Tokenizer::gpt2().unwrap();
    assert_eq!(tokenizer.to_tokens("").unwrap().ids(), [[50256]]);
    assert_eq!(tokenizer.to_tokens_with("", &no_bos()).unwrap().shape(), (1, 0));
    assert_eq!(tokenizer.to_tokens(Vec::<String>::new()).unwrap().shape(), (0, 0));
    let error = tokenizer.to_tokens_with(["a", ""], &no_bos()).unwrap_err().to_string();
    assert!(error.contains("row 1"), "{error}");
}

#[test]
fn every_kind_of_text_is_accepted() {
    let tokenizer = Tokenizer::gpt2().unwrap();
    let (one, many) = ("Hello".to_string(), vec!["Hello".to_string()]);
    let inputs: Vec<Text> = vec![
        "Hello".into(),
        one.clone().into(),
        (&one).into(),
        vec!["Hello"].into(),
        (&vec!["Hello"]).into(),
        many.clone().into(),
        (&many).into(),
        many.as_slice().into(),
        ["Hello"].as_slice().into(),
        ["Hello"].into(),
        (&["Hello"]).into(),
        [one.clone()].into(),
    ];
    for input in &inputs {
        assert_eq!(tokenizer.to_tokens(input).unwrap().ids(), [[50256, 15496]]);
    }
}

#[test]
fn single_tokens() {
    let tokenizer = Tokenizer::gpt2().unwrap();
    assert_eq!(tokenizer.to_single_token(" Claire").unwrap(), 20758);
    assert_eq!(tokenizer.to_single_token("<|endoftext|>").unwrap(), 50256);
    match tokenizer.to_single_token("Claire").unwrap_err() {
        Error::NotOneToken { text, pieces } => {
            assert_eq!((text.as_str(), pieces), ("Claire", vec!["\"Cl\"".to_string(), "\"aire\"".to_string()]));
        }
        other => panic!("{other}"),
    }
    assert!(tokenizer.to_single_token("").is_err());
    assert_eq!(tokenizer.to_single_str_token(20758).unwrap(), " Claire");
}

#[test]
fn ids_out_of_range_are_errors() {
    let tokenizer = Tokenizer::gpt2().unwrap();
    let expect = |error: Error, at: usize| match error {
        Error::TokenOutOfRange { id: 50257, position, d_vocab: 50257 } => assert_eq!(position, at),
        other => panic!("{other}"),
    };
    expect(tokenizer.to_single_str_token(50257).unwrap_err(), 0);
    expect(tokenizer.to_string(&[1, 50257]).unwrap_err(), 1);
    expect(tokenizer.to_str_tokens([1, 2, 50257]).unwrap_err(), 2);
    assert_eq!(tokenizer.piece(50257), "[id 50257]");
}

#[test]
fn token_positions() {
    let tokenizer = Tokenizer::gpt2().unwrap();
    let text = "Mary saw Mary and Mary";
    let find = |token: TokenRef, which, options: &TokenOptions| {
        tokenizer.get_token_position(token, text, which, options).unwrap()
    };
    assert_eq!(find(" Mary".into(), Occurrence::First, &with_bos()), 3);
    assert_eq!(find(" Mary".into(), Occurrence::Last, &with_bos()), 5);
    assert_eq!(find(5335.into(), Occurrence::First, &no_bos()), 2);
    let ids: &[u32] = &[1, 5335, 2];
    let found = tokenizer.get_token_position(" Mary", ids, Occurrence::Last, &TokenOptions::default());
    assert_eq!(found.unwrap(), 1);

    let absent = tokenizer.get_token_position(" John", text, Occurrence::First, &no_bos()).unwrap_err().to_string();
    assert!(absent.contains("\" John\"") && absent.contains("\" Mary\""), "{absent}");
    let batch = tokenizer.get_token_position(" Mary", ["a", "b"].map(String::from), Occurrence::First, &no_bos());
    assert!(batch.unwrap_err().to_string().contains("batch of 2"));
}

#[test]
fn pieces_of_tokens_in_another_batch_size_are_refused() {
    let tokenizer = Tokenizer::gpt2().unwrap();
    let error = tokenizer.to_str_tokens(["a", "b"].as_slice()).unwrap_err().to_string();
    assert!(error.contains("batch of 2"), "{error}");
}

/// A SentencePiece-like tokenizer as Llama 2's: it puts a space before the first word, a BOS before everything, and
/// falls back on bytes.
fn llama_like() -> Value {
    let mut vocab = serde_json::Map::new();
    let plain = ["<unk>", "<s>", "</s>", "▁", "H", "i", "Hi", "▁Hi", "▁▁", "a", "▁a", "<0xC3>", "<0xA9>"];
    for (id, token) in plain.iter().enumerate() {
        vocab.insert(token.to_string(), json!(id));
    }
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "special": true, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false})
    };
    json!({
        "version": "1.0",
        // Settings that would cut and fill every text; they must not act.
        "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
                    "pad_type_id": 0, "pad_token": "<unk>"},
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": null,
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "vocab": vocab, "merges": [["H", "i"], ["▁", "Hi"], ["▁", "▁"], ["▁", "a"]]}
    })
}

fn from_json(tokenizer: &Value, config: Option<Value>) -> crate::Result<Tokenizer> {
    let bytes = |value: &Value| FileData::Bytes { name: "test.json", data: value.to_string().into_bytes().leak() };
    Tokenizer::from_files(bytes(tokenizer), config.as_ref().map(bytes))
}

#[test]
fn a_tokenizer_that_adds_bos_itself_gives_exactly_one_or_none() {
    let config = json!({"bos_token": {"content": "<s>"}, "eos_token": {"content": "</s>"}, "padding_side": "left"});
    let tokenizer = from_json(&llama_like(), Some(config)).unwrap();
    assert!(tokenizer.prepends_bos() && !tokenizer.appends_eos());
    assert_eq!([tokenizer.bos_id(), tokenizer.eos_id(), tokenizer.pad_id()], [Some(1), Some(2), Some(2)]);
    assert_eq!(tokenizer.padding_side(), PaddingSide::Left);

    let ids = |text: &str, options: &TokenOptions| tokenizer.to_tokens_with(text, options).unwrap().ids().to_vec();
    // "▁Hi" either way: the space before the first word stays, as the tokenizer itself does it.
    assert_eq!(ids("Hi a", &with_bos()), [[1, 7, 10]]);
    assert_eq!(ids("Hi a", &no_bos()), [[7, 10]]);
    let own = tokenizer.hf().encode("Hi a", true).unwrap();
    assert_eq!(ids("Hi a", &with_bos()), [own.get_ids()]);
}

#[test]
fn sentencepiece_pieces_keep_their_space() {
    let tokenizer = from_json(&llama_like(), None).unwrap();
    assert_eq!(tokenizer.to_str_tokens("Hi a").unwrap(), ["<s>", " Hi", " a"]);
    assert_eq!(tokenizer.to_str_tokens([3, 8, 11]).unwrap(), [" ", "  ", "\u{fffd}"]);
    assert_eq!(tokenizer.to_string(&[7, 10, 11, 12]).unwrap(), "Hi aé");
}

#[test]
fn without_a_config_the_own_bos_is_found() {
    let tokenizer = from_json(&llama_like(), None).unwrap();
    assert_eq!([tokenizer.bos_id(), tokenizer.eos_id(), tokenizer.pad_id()], [Some(1), None, None]);
    assert!(tokenizer.prepends_bos());
    let error = tokenizer.to_tokens(["Hi", "Hi a"]).unwrap_err().to_string();
    assert!(error.contains("no padding token"), "{error}");
}

#[test]
fn missing_specials_are_filled_in_from_end_of_text() {
    let mut json = llama_like();
    json["post_processor"] = Value::Null;
    json["model"]["vocab"]["<|endoftext|>"] = json!(13);
    // The config's padding token is in no vocabulary: it counts as missing.
    let tokenizer = from_json(&json, Some(json!({"bos_token": null, "pad_token": "[PAD]"}))).unwrap();
    assert_eq!([tokenizer.bos_id(), tokenizer.eos_id(), tokenizer.pad_id()], [Some(13); 3]);
    assert_eq!(tokenizer.to_tokens("Hi").unwrap().ids(), [[13, 7]]);
}

#[test]
fn a_tokenizer_without_bos_refuses_an_explicit_wish_only() {
    let mut json = llama_like();
    json["post_processor"] = Value::Null;
    let tokenizer = from_json(&json, None).unwrap();
    assert_eq!(tokenizer.bos_id(), None);
    assert_eq!(tokenizer.to_tokens("Hi").unwrap().ids(), [[7]]);
    assert!(tokenizer.to_tokens_with("Hi", &with_bos()).unwrap_err().to_string().contains("prepend_bos(false)"));
    assert!(describe("Hi", &tokenizer).unwrap().starts_with("1 token; this tokenizer has no BOS"));
}

#[test]
fn a_tokenizer_that_frames_texts_as_bert_does() {
    let mut json = llama_like();
    json["post_processor"]["single"] = json!([
        {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "</s>", "type_id": 0}}]);
    json["post_processor"]["special_tokens"]["</s>"] = json!({"id": "</s>", "ids": [2], "tokens": ["</s>"]});
    let tokenizer = from_json(&json, Some(json!({"cls_token": "<s>"}))).unwrap();
    assert_eq!([tokenizer.bos_id(), tokenizer.eos_id()], [Some(1), Some(2)]);
    assert!(tokenizer.prepends_bos() && tokenizer.appends_eos());
    assert_eq!(tokenizer.to_tokens("Hi").unwrap().ids(), [[1, 7]]);
}

#[test]
fn bad_files_are_named() {
    let error = Tokenizer::from_files("no/such/tokenizer.json", None).unwrap_err().to_string();
    assert!(error.contains("tokenizer.json"), "{error}");
    let error = from_json(&json!({"version": "1.0"}), None).unwrap_err().to_string();
    assert!(error.contains("test.json") && error.contains("tokenizer"), "{error}");
    let error = from_json(&llama_like(), Some(json!([]))).unwrap_err().to_string();
    assert!(error.contains("configuration"), "{error}");
    let hf = tokenizers::Tokenizer::from_bytes(llama_like().to_string()).unwrap();
    let error = Tokenizer::from_tokenizers(hf, SpecialTokens::new().bos("<s")).unwrap_err().to_string();
    assert!(error.contains("bos token '<s'") && error.contains("near: <s>"), "{error}");
}

/// BERT's kind: words, and `[CLS]` and `[SEP]` around them by the tokenizer's template.
fn bert_like() -> Value {
    let added = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
               "special": true})
    };
    let special = |id: &str| json!({"SpecialToken": {"id": id, "type_id": 0}});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": {"type": "Lowercase"},
        "added_tokens": [added(0, "[PAD]"), added(1, "[CLS]"), added(2, "[SEP]"), added(3, "[MASK]")],
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [special("[CLS]"), {"Sequence": {"id": "A", "type_id": 0}}, special("[SEP]")],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {
                "[CLS]": {"id": "[CLS]", "ids": [1], "tokens": ["[CLS]"]},
                "[SEP]": {"id": "[SEP]", "ids": [2], "tokens": ["[SEP]"]}
            }
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[MASK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100,
                  "vocab": {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[MASK]": 3, "the": 4, "cat": 5, "##s": 6}}
    })
}

#[test]
fn an_encoders_tokenizer_follows_its_own_template() {
    let config = json!({"pad_token": "[PAD]"});
    let plain = from_json(&bert_like(), Some(config)).unwrap();
    assert_eq!(plain.to_tokens("The cats").unwrap().ids(), [[1, 4, 5, 6]]);
    let tokenizer = plain.clone().with_own_template(true);
    let own = tokenizer.hf().encode("The cats", true).unwrap();
    assert_eq!(tokenizer.to_tokens("The cats").unwrap().ids(), [own.get_ids()]);
    assert_eq!(own.get_ids(), [1, 4, 5, 6, 2]);
    let batch = tokenizer.to_tokens(["The [MASK]", "cat"]).unwrap();
    assert_eq!(batch.ids(), [[1, 4, 3, 2], [1, 5, 2, 0]]);
    assert_eq!(batch.mask().unwrap()[1], [true, true, true, false]);
    // What is cut is the text, not its end.
    let cut = tokenizer.to_tokens_with("The cats", &TokenOptions::new().truncate_to(3)).unwrap();
    assert_eq!(cut.ids(), [[1, 4, 2]]);
    assert_eq!(tokenizer.to_str_tokens("The cats").unwrap(), ["[CLS]", "the", "cat", "##s", "[SEP]"]);
    // T5 has an end and no beginning, whatever stands in for a BOS.
    let mut t5 = bert_like();
    t5["post_processor"]["single"].as_array_mut().unwrap().remove(0);
    let t5 = from_json(&t5, Some(json!({"pad_token": "[PAD]", "eos_token": "[SEP]"}))).unwrap();
    assert_eq!(t5.with_own_template(true).to_tokens("the cat").unwrap().ids(), [[4, 5, 2]]);
}
