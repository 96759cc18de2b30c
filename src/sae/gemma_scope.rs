//! What the files of Gemma Scope (Lieberum et al. 2024, arXiv 2408.05147) do not say themselves: which model and which
//! activation an SAE is of stands in the names of its repository and folders.

use super::SaeKind;
use super::config::Config;
use crate::hooks::HookPoint;

/// The configuration by a path such as `google/gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71`, or a path in the
/// hub's cache; what the path does not say stays open.
pub(super) fn config(path: &str) -> Config {
    let path = path.replace('\\', "/");
    let mut config = Config::new(SaeKind::JumpRelu);
    let Some((_, after)) = path.rsplit_once("gemma-scope-") else { return config };
    let (repository, folders) = after.split_once('/').unwrap_or((after, ""));
    // "2b-pt-res": size, pretrained or instruction-tuned, what it is of.
    let parts: Vec<&str> = repository.split('-').collect();
    let [size, training, kind, ..] = parts[..] else { return config };
    let tuned = if training == "it" { "-it" } else { "" };
    config.set_text("model_name", &format!("gemma-2-{size}{tuned}"));
    let layer = folders.split('/').find_map(|folder| folder.strip_prefix("layer_")?.parse::<usize>().ok());
    let point = |tail: &str| layer.map(|layer| HookPoint::new(format!("blocks.{layer}.{tail}")));
    let hook = match kind {
        "res" if is_of_embedding(&path) => Some(HookPoint::new("hook_embed")),
        "res" => point("hook_resid_post"),
        "mlp" => point("hook_mlp_out"),
        "att" => point("attn.hook_z"),
        "transcoders" => {
            config.is_transcoder = true;
            config.hook_out = point("hook_mlp_out");
            point("ln2.hook_normalized")
        }
        _ => None,
    };
    if !config.is_transcoder {
        config.hook_out = hook.clone();
    }
    config.hook_in = hook;
    config
}

/// SAEs of the embedding were trained on it before Gemma multiplies it by sqrt(d_model).
pub(super) fn is_of_embedding(path: &str) -> bool {
    path.split(['/', '\\']).any(|folder| folder == "embedding")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hooks(path: &str) -> (Option<String>, Option<String>, Option<String>) {
        let config = config(path);
        let name = |point: &Option<HookPoint>| point.as_ref().map(|point| point.name().to_string());
        (config.text("model_name").map(str::to_string), name(&config.hook_in), name(&config.hook_out))
    }

    fn some(texts: [&str; 3]) -> (Option<String>, Option<String>, Option<String>) {
        let [a, b, c] = texts.map(|text| Some(text.to_string()));
        (a, b, c)
    }

    #[test]
    fn names_say_model_and_activation() {
        let resid = "blocks.20.hook_resid_post";
        assert_eq!(
            hooks("google/gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71"),
            some(["gemma-2-2b", resid, resid])
        );
        let cached = "/h/models--google--gemma-scope-9b-it-res/snapshots/ab/layer_9/width_16k/average_l0_88/params.npz";
        let resid = "blocks.9.hook_resid_post";
        assert_eq!(hooks(cached), some(["gemma-2-9b-it", resid, resid]));
        let z = "blocks.3.attn.hook_z";
        assert_eq!(hooks("google/gemma-scope-2b-pt-att/layer_3/width_16k/average_l0_117"), some(["gemma-2-2b", z, z]));
        assert_eq!(
            hooks("google/gemma-scope-2b-pt-transcoders/layer_5/width_16k/average_l0_87"),
            some(["gemma-2-2b", "blocks.5.ln2.hook_normalized", "blocks.5.hook_mlp_out"])
        );
        let embed = "hook_embed";
        assert_eq!(
            hooks("google/gemma-scope-2b-pt-res/embedding/width_4k/average_l0_6"),
            some(["gemma-2-2b", embed, embed])
        );
        assert_eq!(hooks("/somewhere/params.npz"), (None, None, None));
        assert_eq!(hooks("gemma-scope-2b").1, None);
    }
}
