//! Every activation of the bundled fixtures agrees with the references, raw and processed.

use crate::example;

use candlescope::candle_nn::ops::log_softmax;
use candlescope::prelude::*;

#[test]
fn every_fixture_agrees_with_its_reference() {
    for folder in crate::common::fixtures() {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let report = example::compare(&folder).unwrap();
        assert!(report.is_ok(), "{}", example::as_line(&name, &Ok(report)));
        // TransformerLens does not run two of them, so Hugging Face's logits are all that their references have; the
        // blocks of Mamba have few points.
        let least = match &*name {
            "falcon_40b_style" | "phimoe" => 1,
            "mamba" | "mamba2" => 50,
            _ => 100,
        };
        assert!(report.compared >= least, "{name}: only {} entries were compared", report.compared);
        assert_eq!(report.unknown, Vec::<String>::new(), "{name}: known hook points were left uncompared");
    }
}

#[test]
fn processing_keeps_every_prediction() {
    for folder in crate::common::fixtures() {
        let name = folder.to_string_lossy().into_owned();
        let [raw, processed] = [LoadOptions::new().raw(), LoadOptions::new()].map(|options| {
            let model = HookedTransformer::from_pretrained_with(&name, &options).unwrap();
            let tokens = Tokens::from_ids(vec![vec![5, 17, 200, 3, 44, 310, 9, 17]]).unwrap();
            let logits = match model.has_encoder() {
                true => model.forward((tokens.clone(), tokens)).unwrap(),
                false => model.forward(tokens).unwrap(),
            };
            log_softmax(&logits, D::Minus1).unwrap()
        });
        let difference = (raw - processed).unwrap().abs().unwrap().flatten_all().unwrap();
        let worst: f32 = difference.max(0).unwrap().to_scalar().unwrap();
        assert!(worst < 1e-4, "{name}: processing changes a log probability by {worst}");
    }
}
