//! Every activation of the bundled fixtures agrees with the references, raw and processed.

#[allow(dead_code)]
#[path = "../examples/parity.rs"]
mod example;

mod common;

#[test]
fn every_fixture_agrees_with_its_reference() {
    let families =
        ["gpt2", "gpt_neo", "gpt_neox", "gpt_neox_serial", "llama", "llama3_scaled_rope", "qwen2", "mistral"];
    for name in families {
        let report = example::compare(&common::fixture(name)).unwrap();
        assert!(report.is_ok(), "{}", example::as_line(name, &Ok(report)));
        assert!(report.compared > 100, "{name}: only {} entries were compared", report.compared);
        // The gate's output is one and the same tensor under a second name.
        let other = report.unknown.iter().find(|entry| !entry.ends_with("mlp.gate.hook_out"));
        assert_eq!(other, None, "{name}: a known hook point was left uncompared");
    }
}
