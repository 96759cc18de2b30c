//! What a sparse autoencoder is and where it reads and writes, as SAELens' cfg.json says it, old layout or new.

use serde_json::{Map, Value, json};

use crate::Result;
use crate::families::ConfigJson;
use crate::hooks::HookPoint;

/// How features are made of what the encoder gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SaeKind {
    /// ReLU(x W_enc + b_enc): the standard one (Cunningham et al. 2023, arXiv 2309.08600; Bricken et al. 2023).
    Relu,
    /// The `k` largest, and of these what is above zero (Gao et al. 2024, arXiv 2406.04093).
    TopK {
        /// How many features a token has at most.
        k: usize,
    },
    /// A gate says which features there are, a second bias and scale how strong they are (Rajamanoharan et al. 2024,
    /// arXiv 2404.16014).
    Gated,
    /// What is above a threshold of the feature's own, unchanged (Rajamanoharan et al. 2024, arXiv 2407.14435).
    JumpRelu,
}

/// What is done to each token's vector before it is encoded, and undone behind the decoder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum InputNorm {
    /// Nothing.
    None,
    /// It is scaled to length sqrt(d_in).
    ConstantNorm,
    /// Its mean is taken off, and it is divided by its standard deviation.
    LayerNorm,
    /// All vectors were scaled by one number in training, so that their mean length was sqrt(d_in), and the files do not say
    /// by which: see [`Sae::input_scale`](super::Sae::input_scale).
    UnknownScale,
}

/// What is known of a sparse autoencoder besides its weights.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Config {
    pub kind: SaeKind,
    pub input_norm: InputNorm,
    pub apply_b_dec_to_input: bool,
    pub is_transcoder: bool,
    pub hook_in: Option<HookPoint>,
    pub hook_out: Option<HookPoint>,
    /// The one head that it is of, where it is of one.
    pub head: Option<usize>,
    /// What else is known: the model's name, how it was trained, in SAELens' words.
    pub metadata: Map<String, Value>,
}

/// What a cfg.json says of how the weights are to be read.
pub(super) struct Reading {
    pub config: Config,
    /// The TopK of the decoder's unit vectors: acts are scaled by the decoder's lengths.
    pub by_decoder_norm: bool,
    /// The number by which all inputs are scaled.
    pub input_scale: Option<f64>,
    pub finetuning_scale: bool,
    /// Sizes, to be compared with the weights'.
    pub d_in: Option<usize>,
    pub d_sae: Option<usize>,
    pub d_out: Option<usize>,
}

/// Keys of cfg.json (or of its `metadata`) that are kept, in SAELens' words.
const METADATA: &[&str] = &[
    "model_name",
    "model_class_name",
    "model_from_pretrained_kwargs",
    "prepend_bos",
    "exclude_special_tokens",
    "neuronpedia_id",
    "context_size",
    "seqpos_slice",
    "dataset_path",
];
/// The version of SAELens whose layout is written.
const LAYOUT: &str = "6.18.0";

impl Config {
    /// One that says nothing of where it belongs.
    pub fn new(kind: SaeKind) -> Self {
        Self {
            kind,
            input_norm: InputNorm::None,
            apply_b_dec_to_input: false,
            is_transcoder: false,
            hook_in: None,
            hook_out: None,
            head: None,
            metadata: Map::new(),
        }
    }

    /// A text of the metadata.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).and_then(Value::as_str)
    }

    pub fn set_text(&mut self, key: &str, value: &str) {
        self.metadata.insert(key.to_string(), Value::from(value));
    }

    /// What SAELens 6 writes for it.
    pub fn to_json(&self, [d_in, d_sae, d_out]: [usize; 3], has_skip: bool) -> Value {
        let kind = match (self.kind, self.is_transcoder) {
            (SaeKind::Relu, false) => "standard",
            (SaeKind::Relu, true) if has_skip => "skip_transcoder",
            (SaeKind::Relu, true) => "transcoder",
            (SaeKind::TopK { .. }, false) => "topk",
            (SaeKind::TopK { .. }, true) => "topk_transcoder",
            (SaeKind::Gated, false) => "gated",
            (SaeKind::Gated, true) => "gated_transcoder",
            (SaeKind::JumpRelu, false) => "jumprelu",
            (SaeKind::JumpRelu, true) if has_skip => "jumprelu_skip_transcoder",
            (SaeKind::JumpRelu, true) => "jumprelu_transcoder",
        };
        let input_norm = match self.input_norm {
            InputNorm::None => "none",
            InputNorm::ConstantNorm => "constant_norm_rescale",
            InputNorm::LayerNorm => "layer_norm",
            InputNorm::UnknownScale => "expected_average_only_in",
        };
        let name = |point: &Option<HookPoint>| point.as_ref().map(|point| point.name().to_string());
        let flattened = self.head.is_none() && self.hook_in.as_ref().is_some_and(|point| point.is("hook_z"));
        let mut metadata = self.metadata.clone();
        metadata.insert("sae_lens_version".to_string(), Value::from(LAYOUT));
        metadata.insert("hook_name".to_string(), json!(name(&self.hook_in)));
        metadata.insert("hook_head_index".to_string(), json!(self.head));
        let mut cfg = json!({
            "architecture": kind,
            "d_in": d_in,
            "d_sae": d_sae,
            "dtype": "float32",
            "device": "cpu",
            "apply_b_dec_to_input": self.apply_b_dec_to_input,
            "normalize_activations": input_norm,
            "reshape_activations": if flattened { "hook_z" } else { "none" },
        });
        if self.is_transcoder {
            cfg["d_out"] = json!(d_out);
            metadata.insert("hook_name_out".to_string(), json!(name(&self.hook_out)));
        }
        if let SaeKind::TopK { k } = self.kind {
            cfg["k"] = json!(k);
            cfg["rescale_acts_by_decoder_norm"] = json!(false);
        }
        cfg["metadata"] = Value::Object(metadata);
        cfg
    }
}

/// Reads a cfg.json.
pub(super) fn read(bytes: &[u8], origin: &str) -> Result<Reading> {
    let mut cfg = ConfigJson::parse(bytes, origin)?;
    let metadata = cfg.nested("metadata")?;
    cfg.inherit(&metadata, METADATA);
    cfg.inherit(&metadata, &["hook_name", "hook_head_index", "hook_name_out", "hook_head_index_out"]);
    let any = ["architecture", "hook_name", "hook_point", "d_sae", "activation_fn_str"];
    if any.iter().all(|key| cfg.value(key).is_none()) {
        return Err(cfg.error(format!("is no configuration of an SAE: none of {} is in it", any.join(", "))));
    }
    let first = |keys: [&'static str; 2]| match cfg.value(keys[0]) {
        Some(_) => Some(keys[0]),
        None => cfg.value(keys[1]).map(|_| keys[1]),
    };

    let architecture = cfg.string_or("architecture", "standard")?;
    let (is_transcoder, kind) = kind(&cfg, &architecture)?;
    let hook = |key: Option<&str>| key.map(|key| cfg.string(key)).transpose().map(|name| name.map(HookPoint::new));
    let hook_in = hook(first(["hook_name", "hook_point"]))?;
    let hook_out = hook(cfg.value("hook_name_out").map(|_| "hook_name_out"))?;
    let is_transcoder = is_transcoder || hook_out.as_ref().is_some_and(|out| hook_in.as_ref() != Some(out));
    let head = match first(["hook_head_index", "hook_point_head_index"]) {
        Some(key) => Some(cfg.count_or(key, 0)?),
        None => None,
    };
    cfg.refuse_if(cfg.value("hook_head_index_out").is_some(), "hook_head_index_out")?;
    let reshape = cfg.string_or("reshape_activations", "none")?;
    if !["none", "hook_z"].contains(&reshape.as_str()) {
        return Err(cfg.error(format!("'reshape_activations' is '{reshape}', and 'none' or 'hook_z' was expected")));
    }
    let apply_b_dec_to_input = cfg.flag_or("apply_b_dec_to_input", !is_transcoder)?;
    if is_transcoder && apply_b_dec_to_input {
        return Err(cfg.error(
            "'apply_b_dec_to_input' is set for a transcoder, whose b_dec is of the output and can't be taken off the input",
        ));
    }
    let by_decoder_norm = cfg.flag_or("rescale_acts_by_decoder_norm", false)?;
    if by_decoder_norm && !matches!(kind, SaeKind::TopK { .. }) {
        return Err(cfg.error("'rescale_acts_by_decoder_norm' is set, and only a TopK SAE has that"));
    }
    let dtype = cfg.string_or("dtype", "float32")?;
    if !["float32", "float64", "float16", "bfloat16"].contains(&dtype.trim_start_matches("torch.")) {
        return Err(cfg.error(format!("'dtype' is '{dtype}', and float32, float64, float16 or bfloat16 was expected")));
    }
    let kept = METADATA.iter().filter_map(|key| Some((key.to_string(), cfg.value(key)?.clone()))).collect();
    let config = Config {
        kind,
        input_norm: input_norm(&cfg)?,
        apply_b_dec_to_input,
        is_transcoder,
        hook_out: hook_out.or_else(|| hook_in.clone().filter(|_| !is_transcoder)),
        hook_in,
        head,
        metadata: kept,
    };
    Ok(Reading {
        config,
        by_decoder_norm,
        input_scale: cfg.optional_number("norm_scaling_factor")?,
        finetuning_scale: cfg.value("finetuning_scaling_factor").is_some_and(|value| value != &Value::Bool(false)),
        d_in: cfg.optional_size("d_in")?,
        d_sae: cfg.optional_size("d_sae")?,
        d_out: cfg.optional_size("d_out")?.filter(|_| is_transcoder),
    })
}

/// Whether it is a transcoder, and how its features are made.
fn kind(cfg: &ConfigJson, architecture: &str) -> Result<(bool, SaeKind)> {
    let activation = match cfg.value("activation_fn") {
        Some(_) => cfg.string("activation_fn")?,
        None => cfg.string_or("activation_fn_str", "relu")?,
    };
    let old_k = cfg.nested("activation_fn_kwargs")?;
    let top_k = || -> Result<SaeKind> {
        let k = if cfg.value("k").is_some() { cfg.size("k")? } else { old_k.size("k")? };
        Ok(SaeKind::TopK { k })
    };
    let plain = match architecture {
        "skip_transcoder" | "transcoder" => "standard",
        other => other.strip_suffix("_skip_transcoder").or_else(|| other.strip_suffix("_transcoder")).unwrap_or(other),
    };
    let kind = match (plain, activation.as_str()) {
        ("standard", "relu") => SaeKind::Relu,
        // Before version 6 a TopK SAE was a standard one with another activation function.
        ("standard" | "topk", "topk") | ("topk", "relu") => top_k()?,
        ("gated", "relu") => SaeKind::Gated,
        ("jumprelu", "relu") => SaeKind::JumpRelu,
        ("standard" | "topk" | "gated" | "jumprelu", other) => {
            return Err(cfg.error(format!(
                "the activation function is '{other}', which candlescope does not have for the architecture \
                 '{architecture}'; relu and topk are known"
            )));
        }
        _ => {
            return Err(cfg.error(format!(
                "'architecture' is '{architecture}'; candlescope knows standard, topk, gated and jumprelu, each also as \
                 transcoder (jumprelu_transcoder, skip_transcoder, ..)"
            )));
        }
    };
    Ok((architecture.ends_with("transcoder"), kind))
}

fn input_norm(cfg: &ConfigJson) -> Result<InputNorm> {
    let key = "normalize_activations";
    let name = match cfg.value(key) {
        // Old files have a switch.
        Some(Value::Bool(set)) => if *set { "expected_average_only_in" } else { "none" }.to_string(),
        _ => cfg.string_or(key, "none")?,
    };
    match name.as_str() {
        "none" => Ok(InputNorm::None),
        "constant_norm_rescale" => Ok(InputNorm::ConstantNorm),
        "layer_norm" => Ok(InputNorm::LayerNorm),
        "expected_average_only_in" => Ok(InputNorm::UnknownScale),
        other => Err(cfg.error(format!(
            "'{key}' is '{other}', and none, expected_average_only_in, constant_norm_rescale or layer_norm was expected"
        ))),
    }
}
