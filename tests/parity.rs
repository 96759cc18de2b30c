//! Every activation of the bundled fixtures agrees with the references, raw and processed.

#[allow(dead_code)]
#[path = "../examples/parity.rs"]
mod example;

mod common;

#[test]
fn every_fixture_agrees_with_its_reference() {
    let families = [
        "gpt2",
        "gpt_neo",
        "gpt_neox",
        "gpt_neox_serial",
        "llama",
        "llama3_scaled_rope",
        "qwen2",
        "mistral",
        "opt",
        "bloom",
        "falcon_40b_style",
        "stablelm",
        "t5",
        "bart",
        "bert",
    ];
    for name in families {
        let report = example::compare(&common::fixture(name)).unwrap();
        assert!(report.is_ok(), "{}", example::as_line(name, &Ok(report)));
        // TransformerLens does not run the newer Falcons; Hugging Face's logits are all that their reference has.
        let least = if name.starts_with("falcon") { 1 } else { 100 };
        assert!(report.compared >= least, "{name}: only {} entries were compared", report.compared);
        // The gate's output is one and the same tensor under a second name.
        let other = report.unknown.iter().find(|entry| !entry.ends_with("mlp.gate.hook_out"));
        assert_eq!(other, None, "{name}: a known hook point was left uncompared");
    }
}
