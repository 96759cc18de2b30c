//! The results of analyses agree with TransformerLens', entry by entry.

use crate::example;

use crate::common::fixture;

#[test]
fn every_entry_agrees_with_its_reference() {
    for name in ["gpt2", "llama", "gpt_neox", "gemma2", "mixtral"] {
        let report = example::analysis::compare(&fixture(name)).unwrap();
        assert!(report.is_ok(), "{}", example::as_line(name, &Ok(report)));
        assert!(report.compared >= 44, "{name}: only {} entries were compared", report.compared);
        assert_eq!(report.unknown, Vec::<String>::new(), "{name}: entries were left uncompared");
    }
}
