//! Short names of activations, written out.

/// The full name of an activation from its short one, by TransformerLens' rules.
///
/// `name` may be short (`q`, `resid_pre`, `mlp_post`), compact (`k6`, `scale4ln1`) or full already; `layer_type` is
/// needed for norms only (`ln1`, `ln2`).
///
/// ```
/// use candlescope::hooks::act_name;
/// assert_eq!(act_name("k", Some(6), None), "blocks.6.attn.hook_k");
/// assert_eq!(act_name("k6", None, None), "blocks.6.attn.hook_k");
/// assert_eq!(act_name("scale4ln1", None, None), "blocks.4.ln1.hook_scale");
/// assert_eq!(act_name("resid_pre", Some(2), None), "blocks.2.hook_resid_pre");
/// assert_eq!(act_name("scale", None, None), "ln_final.hook_scale");
/// assert_eq!(act_name("embed", None, None), "hook_embed");
/// ```
pub fn act_name(name: &str, layer: Option<usize>, layer_type: Option<&str>) -> String {
    // A compact name has its layer in it, so a name with a module (`ln1.hook_scale`) keeps its own.
    if layer.is_none() && (name.contains('.') || name.starts_with("hook_")) {
        return name.to_string();
    }
    let (name, layer, layer_type) = match split_compact(name) {
        Some((short, number, tail)) if layer.is_none() => (short, Some(number), tail.or(layer_type)),
        _ => (name, layer, layer_type),
    };
    let (module, name) = name.rsplit_once('.').map_or((None, name), |(module, last)| (Some(module), last));
    let name = match name.strip_prefix("hook_").unwrap_or(name) {
        "attn" => "pattern",
        "attn_logits" => "attn_scores",
        "key" => "k",
        "query" => "q",
        "value" => "v",
        "mlp_pre" => "pre",
        "mlp_mid" => "mid",
        "mlp_post" => "post",
        other => other,
    };
    let layer_type = match layer_type.or(module) {
        Some("a" | "attention") => Some("attn"),
        Some("m") => Some("mlp"),
        Some("b" | "block" | "blocks") => None,
        Some(other) => Some(other),
        None => match name {
            "k" | "v" | "q" | "z" | "rot_k" | "rot_q" | "result" | "pattern" | "attn_scores" => Some("attn"),
            "pre" | "post" | "mid" | "pre_linear" => Some("mlp"),
            "scale" | "normalized" if layer.is_none() => Some("ln_final"),
            _ => None,
        },
    };
    let block = layer.map_or(String::new(), |layer| format!("blocks.{layer}."));
    let module = layer_type.map_or(String::new(), |module| format!("{module}."));
    format!("{block}{module}hook_{name}")
}

/// `scale4ln1` as ("scale", 4, Some("ln1")); none if it is not letters, digits, letters-and-digits.
fn split_compact(name: &str) -> Option<(&str, usize, Option<&str>)> {
    let digits = name.find(|c: char| c.is_ascii_digit())?;
    let (short, rest) = name.split_at(digits);
    if short.is_empty() || !short.chars().all(|c| c.is_ascii_alphabetic()) {
        return None;
    }
    let tail = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (number, tail) = rest.split_at(tail);
    Some((short, number.parse().ok()?, (!tail.is_empty()).then_some(tail)))
}

#[cfg(test)]
mod tests {
    use super::act_name;

    #[test]
    fn aliases_and_modules() {
        assert_eq!(act_name("attn", Some(1), None), "blocks.1.attn.hook_pattern");
        assert_eq!(act_name("attn_logits", Some(0), None), "blocks.0.attn.hook_attn_scores");
        assert_eq!(act_name("mlp_post", Some(3), None), "blocks.3.mlp.hook_post");
        assert_eq!(act_name("pattern", Some(0), Some("a")), "blocks.0.attn.hook_pattern");
        assert_eq!(act_name("scale", Some(3), Some("ln2")), "blocks.3.ln2.hook_scale");
        assert_eq!(act_name("ln2.hook_scale", Some(3), None), "blocks.3.ln2.hook_scale");
        assert_eq!(act_name("normalized7ln2", None, None), "blocks.7.ln2.hook_normalized");
        assert_eq!(act_name("pre5", None, None), "blocks.5.mlp.hook_pre");
        assert_eq!(act_name("blocks.0.hook_resid_pre", None, None), "blocks.0.hook_resid_pre");
        assert_eq!(act_name("attn_out", Some(2), None), "blocks.2.hook_attn_out");
    }
}
