use candlescope::analysis::path_patching::Receiver;
use candlescope::prelude::*;
fn main() -> candlescope::Result<()> {
    let model = HookedTransformer::from_pretrained("tiny")?;
    println!("{:?}", model.cfg().n_layers);
    let tok = model.tokenizer()?;
    let ioi = IoiDataset::new(tok, &IoiOptions::new().prompts(4).symmetric().template(0).seed(1))?;
    for p in ioi.prompts() {
        println!("{} | {} | {} {}", p.text, p.corrupted, p.io, p.s);
    }
    for t in ioi.templates() {
        println!("{t}");
    }
    // TL style
    let formats = [
        "When John and Mary went to the shops,{} gave the bag to",
        "When Tom and James went to the park,{} gave the ball to",
        "When Dan and Sid went to the shops,{} gave an apple to",
        "After Martin and Amy went to the park,{} gave a drink to",
    ];
    let names = [(" Mary", " John"), (" Tom", " James"), (" Dan", " Sid"), (" Martin", " Amy")];
    for (f, (a, b)) in formats.iter().zip(names) {
        for n in [a, b] {
            let t = f.replace("{}", n);
            println!("{t} -> {:?}", model.to_str_tokens(&*t));
        }
    }
    let f2 = ["After John and Mary went to the store,{} gave a bottle of milk to"];
    let mut prompts = vec![];
    let mut right = vec![];
    let mut wrong = vec![];
    for (a, b) in [(" John", " Mary"), (" Tom", " Anna"), (" Ben", " Lucy"), (" Sam", " Jane")] {
        let text = f2[0].replace(" John", a).replace(" Mary", b);
        for (x, y) in [(a, b), (b, a)] {
            let t = text.replace("{}", y);
            println!("{t} {:?}", model.to_str_tokens(&*t).map(|v| v.len()));
            prompts.push(t);
            right.push(x.to_string());
            wrong.push(y.to_string());
        }
    }
    let metric = logit_diff(&right, &wrong);
    let clean = model.to_tokens(&prompts)?;
    println!("avg logit diff {}", model.measure(&clean, &metric)?);
    let (_, cache) = model.run_with_cache(&clean)?;
    let order: Vec<Vec<u32>> = (0..prompts.len()).map(|i| clean.ids()[i ^ 1].clone()).collect();
    let corrupted = Tokens::from_ids(order)?.with_tokenizer(tok);
    println!("corrupted {}", model.measure(&corrupted, &metric)?);
    for r in [
        patching::resid_pre(&model, &corrupted, &cache, &metric)?,
        patching::attn_out(&model, &corrupted, &cache, &metric)?,
        patching::mlp_out(&model, &corrupted, &cache, &metric)?,
        patching::head_out_all_pos(&model, &corrupted, &cache, &metric)?,
    ] {
        println!("{}", r.bundle().text);
    }
    let every = patching::head_all_pos_every(&model, &corrupted, &cache, &metric)?;
    println!("{}", every.bundle().text);
    println!("{}", every.normalized()?.at("activation", 0)?.bundle().text);
    let path = model
        .path_patch(&clean)
        .from(&model.run_with_cache(&corrupted)?.1)
        .into([Receiver::Logits])
        .measure(&metric)
        .heads()?;
    println!("{}", path.bundle().text);
    Ok(())
}
