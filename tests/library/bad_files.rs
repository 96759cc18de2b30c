//! Weight files that are damaged or made to harm: each is a sentence; nothing is executed, nothing large allocated.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::fixture;
use crate::common::writers::{self, Pickle, write_gguf, write_safetensors, write_torch, zip};
use candlescope::candle_core::quantized::GgmlDType;
use candlescope::candle_core::quantized::gguf_file::Value;
use candlescope::prelude::*;

/// A folder with a fixture's config.json and one file of weights.
fn folder(test: &str, file: &str, content: &[u8]) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bad_files").join(test);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    fs::copy(fixture("llama").join("config.json"), folder.join("config.json")).unwrap();
    fs::write(folder.join(file), content).unwrap();
    folder
}

/// What loading says; it must name the file and hold each of the expected words.
fn refused(test: &str, file: &str, content: &[u8], expected: &[&str]) {
    let folder = folder(test, file, content);
    let found = sentence(&folder);
    assert!(found.contains(file), "{test}: {found}");
    for expected in expected {
        assert!(found.contains(expected), "{test}: '{expected}' is not in: {found}");
    }
}

fn sentence(folder: &Path) -> String {
    match HookedTransformer::from_pretrained(&folder.to_string_lossy()) {
        Ok(_) => panic!("an error was expected: {}", folder.display()),
        Err(error) => error.to_string(),
    }
}

/// A safetensors file with this header.
fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(vec![0; data]);
    file
}

#[test]
fn safetensors_whose_header_lies() {
    let file = "model.safetensors";
    refused("no_header", file, &[0; 4], &["truncated", "again"]);
    refused("long_header", file, &[&(1u64 << 60).to_le_bytes()[..], b"{}"].concat(), &["again"]);
    refused("past_the_end", file, &[&100u64.to_le_bytes()[..], b"{}"].concat(), &["again"]);
    for (test, header) in [
        ("not_json", "{".to_string()),
        ("out_of_range", r#"{"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}"#.to_string()),
        ("wrong_dtype", r#"{"a": {"dtype": "F33", "shape": [2], "data_offsets": [0, 8]}}"#.to_string()),
        ("backwards", r#"{"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}"#.to_string()),
        (
            "overlap",
            r#"{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                "b": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}"#
                .to_string(),
        ),
        (
            "overflow",
            format!(r#"{{"a": {{"dtype": "F32", "shape": [{0}, {0}], "data_offsets": [0, 8]}}}}"#, 1u64 << 33),
        ),
    ] {
        refused(test, file, &safetensors(&header, 8), &["again"]);
    }
    refused(
        "lfs",
        file,
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
        &["Git LFS pointer", "git lfs pull"],
    );
}

#[test]
fn whole_numbers_are_no_weights() {
    let mut tensors = writers::read(&fixture("llama").join("model.safetensors"));
    let name = "model.layers.1.mlp.up_proj.weight";
    let packed = tensors[name].to_dtype(DType::U8).unwrap();
    tensors.insert(name.to_string(), packed);
    let folder = folder("whole_numbers", "model.safetensors", b"");
    write_safetensors(&folder.join("model.safetensors"), &tensors);
    let found = sentence(&folder);
    assert!(found.contains(name) && found.contains("U8") && found.contains("model.safetensors"), "{found}");
    tensors.insert(format!("{name}.absmax"), tensors["model.norm.weight"].clone());
    write_safetensors(&folder.join("model.safetensors"), &tensors);
    let found = sentence(&folder);
    assert!(found.contains("bitsandbytes") && found.contains("GGUF"), "{found}");
}

#[test]
fn shards_that_do_not_add_up() {
    let tensors = writers::read(&fixture("llama").join("model.safetensors"));
    let folder = folder("shards", "unused", b"");
    writers::sharded(&folder, &tensors, 2, "model.safetensors", write_safetensors);
    let second = folder.join("model-00002-of-00002.safetensors");
    let mut rest = writers::read(&second);
    let lost = rest.keys().next().unwrap().clone();
    rest.remove(&lost);
    write_safetensors(&second, &rest);
    let found = sentence(&folder);
    assert!(found.contains(&lost) && found.contains("lack"), "{found}");
    // The first shard twice, under two names.
    fs::copy(folder.join("model-00001-of-00002.safetensors"), &second).unwrap();
    let found = sentence(&folder);
    assert!(found.contains("model-00001-of-00002") && found.contains("model-00002-of-00002"), "{found}");
    assert!(found.contains("both in"), "{found}");
}

/// A checkpoint with this pickle and one storage of 64 bytes.
fn checkpoint(pickle: &[u8]) -> Vec<u8> {
    zip(&[("archive/data.pkl".to_string(), pickle.to_vec()), ("archive/data/0".to_string(), vec![0; 64])])
}

#[test]
fn a_pickle_with_code_in_it_runs_nothing() {
    let proof = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("a_pickle_ran");
    let _ = fs::remove_file(&proof);
    let command = format!("touch '{}'", proof.display());
    // posix.system(command), by reference and from the stack, and as protocol 0 makes instances.
    let mut reduce = Pickle::new();
    reduce.global("posix", "system").raw(b"(").text(&command).raw(b"tR.");
    let mut stacked = Pickle(vec![0x80, 4]);
    stacked.text("posix").text("system").raw(&[0x93]).raw(b"(").text(&command).raw(b"tR.");
    let instance = format!("(S'{command}'\niposix\nsystem\n.");
    for (test, pickle) in [("reduce", &reduce.0[..]), ("stacked", &stacked.0[..])] {
        refused(test, "pytorch_model.bin", &checkpoint(pickle), &["posix.system", "nothing was executed"]);
    }
    refused("instance", "pytorch_model.bin", &checkpoint(instance.as_bytes()), &["instruction"]);
    refused("instance_2", "pytorch_model.bin", &checkpoint(b"(iposix\nsystem\n."), &["posix.system"]);
    // A tensor and, hidden behind it, a call of what a tensor's maker may be.
    let mut hidden = Pickle::new();
    hidden.raw(b"}(").text("a").tensor("FloatStorage", "0", 16, 0, &[16], &[1]);
    hidden.text("b").global("builtins", "eval").raw(b"(").text("1").raw(b"tRu.");
    refused("hidden", "model_final.pth", &checkpoint(&hidden.0), &["builtins.eval", "nothing was executed"]);
    // Not in an archive at all.
    refused("bare", "pytorch_model.bin", &reduce.0, &["bare pickle", "nothing was executed"]);
    assert!(!proof.exists(), "the pickle was executed");
}

#[test]
fn the_format_before_2020_says_how_to_convert() {
    let old = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.";
    refused("legacy", "pytorch_model.bin", old, &["1.6", "torch.load", "save_file"]);
}

#[test]
fn tensors_that_their_storage_can_not_hold() {
    let huge = 1usize << 40;
    for (test, count, offset, dims, strides) in [
        ("claims_more", huge, 0, &[16usize][..], &[1usize][..]),
        ("beyond", 16, 8, &[16], &[1]),
        ("huge_shape", 16, 0, &[huge, huge], &[0, 0]),
        ("expanded", 16, 0, &[huge, 16], &[0, 1]),
        ("far_stride", 16, 0, &[2, 8], &[huge, 1]),
        ("overflow", 16, usize::MAX >> 1, &[2], &[usize::MAX >> 1]),
        ("ranks", 16, 0, &[4, 4], &[1]),
    ] {
        let mut pickle = Pickle::new();
        pickle.raw(b"}").text("model.norm.weight").tensor("FloatStorage", "0", count, offset, dims, strides).raw(b"s.");
        refused(test, "pytorch_model.bin", &checkpoint(&pickle.0), &["model.norm.weight"]);
    }
    let mut pickle = Pickle::new();
    pickle.raw(b"}").text("w").tensor("FloatStorage", "7", 16, 0, &[16], &[1]).raw(b"s.");
    refused("no_storage", "pytorch_model.bin", &checkpoint(&pickle.0), &["'w'", "'7'"]);
}

#[test]
fn pickles_that_do_not_make_sense() {
    for (test, pickle) in [
        ("empty", &b""[..]),
        ("no_end", b"\x80\x02}"),
        ("empty_stack", b"\x80\x02."),
        ("no_mark", b"\x80\x02t."),
        ("no_memo", b"\x80\x02h\x05."),
        ("no_dict", b"\x80\x02N."),
        ("odd_items", b"\x80\x02}(Nu."),
        ("long_text", b"\x80\x02X\xff\xff\xff\xffa."),
        ("longer_text", b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fa."),
        ("long_number", b"\x80\x02\x8a\xff."),
        ("not_callable", b"\x80\x02N)R."),
    ] {
        refused(test, "pytorch_model.bin", &checkpoint(pickle), &[]);
    }
    // Doubling by the memo, a billion times over, and a number far beyond: a value is referred to, never copied.
    let mut doubling = b"\x80\x02]q\x00".to_vec();
    for key in 1..30u8 {
        doubling.extend([b'(', b'h', key - 1, b'h', key - 1, b't', b'q', key]);
    }
    doubling.extend(b"r\xff\xff\xff\x7f.");
    refused("doubling", "pytorch_model.bin", &checkpoint(&doubling), &["dict"]);
    // A tuple of a tuple of a tuple ..., which recursion would not survive.
    let mut deep = b"\x80\x02N".to_vec();
    deep.extend(vec![0x85; 2_000_000]);
    deep.push(b'.');
    refused("deep", "pytorch_model.bin", &checkpoint(&deep), &["dict"]);
}

#[test]
fn archives_that_lie() {
    let file = "pytorch_model.bin";
    refused("no_archive", file, b"hello", &["again"]);
    refused("no_pickle", file, &zip(&[("archive/x".to_string(), vec![1])]), &["data.pkl"]);
    let whole = checkpoint(b"\x80\x02}.");
    refused("truncated_zip", file, &whole[..whole.len() - 10], &["truncated"]);
    // An entry that claims four gigabytes, stored and packed; and more entries than there are.
    let size = whole.windows(4).position(|four| four == b"PK\x01\x02").unwrap() + 20;
    let mut stored = whole.clone();
    stored[size..size + 8].copy_from_slice(&[0xfe; 8]);
    refused("bomb_stored", file, &stored, &["data.pkl", "claims"]);
    let mut packed = whole.clone();
    packed[size - 10] = 8;
    packed[size + 4..size + 8].copy_from_slice(&[0xfe; 4]);
    refused("bomb_packed", file, &packed, &["data.pkl", "compressed"]);
    let mut count = whole.clone();
    let end = whole.len() - 12;
    count[end..end + 2].copy_from_slice(&[0xff, 0xff]);
    refused("many_entries", file, &count, &["directory"]);
    // A tensor of the weights, but a program for TorchScript around it.
    let mut script = Pickle::new();
    script.global("__torch__.model", "Net").raw(b")\x81}b.");
    refused("script", file, &checkpoint(&script.0), &["__torch__.model.Net"]);
}

#[test]
fn every_cut_of_a_checkpoint_is_a_sentence() {
    let tensors = writers::read(&fixture("llama").join("model.safetensors"));
    let whole = folder("cut_source", "unused", b"").join("pytorch_model.bin");
    write_torch(&whole, &tensors);
    let bytes = fs::read(&whole).unwrap();
    let folder = folder("cut", "unused", b"");
    for keep in (0..60).map(|part| bytes.len() * part / 60) {
        fs::write(folder.join("pytorch_model.bin"), &bytes[..keep]).unwrap();
        assert!(sentence(&folder).contains("again"), "{keep}");
    }
}

/// A GGUF file's beginning: version 3 and the two counts.
fn gguf(tensors: u64, metadata: u64) -> Vec<u8> {
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend(tensors.to_le_bytes());
    file.extend(metadata.to_le_bytes());
    file
}

fn text(file: &mut Vec<u8>, text: &str) {
    file.extend((text.len() as u64).to_le_bytes());
    file.extend(text.as_bytes());
}

/// One tensor of the table.
fn tensor(file: &mut Vec<u8>, name: &str, dims: &[u64], kind: u32, offset: u64) {
    text(file, name);
    file.extend((dims.len() as u32).to_le_bytes());
    dims.iter().for_each(|dim| file.extend(dim.to_le_bytes()));
    file.extend(kind.to_le_bytes());
    file.extend(offset.to_le_bytes());
}

#[test]
fn gguf_files_that_lie() {
    let file = "x.gguf";
    refused("gguf_short", file, b"GGUF", &["again"]);
    refused("gguf_not", file, b"FUGG", &["GGUF was expected"]);
    refused("gguf_version", file, b"GGUF\x09\0\0\0", &["version is 9"]);
    refused("gguf_big_endian", file, b"GGUF\0\0\0\x03", &["big-endian"]);
    refused("gguf_tensors", file, &gguf(1 << 60, 0), &["1152921504606846976 tensors"]);
    refused("gguf_metadata", file, &gguf(0, u64::MAX), &["entries of metadata"]);
    let mut key = gguf(0, 1);
    key.extend((1u64 << 60).to_le_bytes());
    key.extend([0; 32]);
    refused("gguf_key", file, &key, &["1152921504606846976 bytes"]);
    let with_value = |kind: u32, rest: &[u8]| {
        let mut content = gguf(0, 1);
        text(&mut content, "some.key");
        content.extend(kind.to_le_bytes());
        content.extend(rest);
        content
    };
    let huge = (1u64 << 60).to_le_bytes();
    refused("gguf_text", file, &with_value(8, &[&huge[..], &[0; 16]].concat()), &["some.key"]);
    refused("gguf_kind", file, &with_value(77, &[0; 16]), &["some.key", "77"]);
    for kind in [0u32, 6, 8, 12] {
        let array = [&kind.to_le_bytes()[..], &huge, &[0; 16]].concat();
        refused(&format!("gguf_array_{kind}"), file, &with_value(9, &array), &["some.key"]);
    }
    // Arrays in arrays in arrays, each of one.
    let nested = [&9u32.to_le_bytes()[..], &1u64.to_le_bytes()].concat().repeat(100_000);
    refused("gguf_nested", file, &with_value(9, &nested), &["nested"]);
    let mut alignment = gguf(0, 1);
    text(&mut alignment, "general.alignment");
    alignment.extend([4, 0, 0, 0, 0, 0, 0, 0]);
    refused("gguf_alignment", file, &alignment, &["general.alignment"]);
    for (test, dims, kind, offset, expected) in [
        ("product", &[1u64 << 40, 1 << 40][..], 0u32, 0u64, "'w'"),
        ("dimension", &[u64::MAX], 0, 0, "'w'"),
        ("outside", &[8], 0, 1 << 20, "does not fit"),
        ("offset", &[8], 0, u64::MAX - 8, "does not fit"),
        ("blocks", &[40], 2, 0, "blocks of 32"),
        ("unaligned", &[1], 0, 4, "multiple of 32"),
        ("dims", &[1, 1, 1, 1, 1], 0, 0, "5 dimensions"),
        ("kind", &[32], 23, 0, "IQ4_XS"),
        ("no_kind", &[32], 999, 0, "number 999"),
    ] {
        let mut content = gguf(1, 0);
        tensor(&mut content, "w", dims, kind, offset);
        content.extend([0; 256]);
        refused(&format!("gguf_{test}"), file, &content, &["'w'", expected]);
    }
    for (test, second, offset, expected) in [("twice", "w", 64, "two tensors 'w'"), ("overlap", "v", 32, "overlap")] {
        let mut content = gguf(2, 0);
        tensor(&mut content, "w", &[16], 0, 0);
        tensor(&mut content, second, &[16], 0, offset);
        content.extend([0; 512]);
        refused(&format!("gguf_{test}"), file, &content, &[expected]);
    }
}

#[test]
fn gguf_files_of_what_is_not_known() {
    let file = "x.gguf";
    let text = |text: &str| Value::String(text.to_string());
    let vector = Tensor::ones((4, 32), DType::F32, &Device::Cpu).unwrap();
    for (test, metadata, expected) in [
        ("no_arch", vec![("general.name", text("x"))], "general.architecture"),
        ("other_arch", vec![("general.architecture", text("rwkv7"))], "rwkv7"),
        ("no_sizes", vec![("general.architecture", text("llama"))], "llama.embedding_length"),
        (
            "experts",
            vec![("general.architecture", text("llama")), ("llama.expert_count", Value::U32(8))],
            "llama.expert_count",
        ),
    ] {
        let folder = folder(test, file, b"");
        let tensors = [("token_embd.weight".to_string(), vector.clone())];
        write_gguf(&folder.join(file), &metadata, &tensors, GgmlDType::F32);
        let found = sentence(&folder);
        assert!(found.contains(expected) && found.contains(file), "{test}: {found}");
    }
}
