"""Writes tests/fixtures_sae: tiny sparse autoencoders of every kind, with features and reconstructions that are computed here
from the published formulas, in float64. Needs numpy only: python tests/make_sae_fixtures.py

Formulas: ReLU (Bricken et al. 2023; Cunningham et al. 2023, arXiv 2309.08600), TopK (Gao et al. 2024, arXiv 2406.04093),
gated (Rajamanoharan et al. 2024, arXiv 2404.16014), JumpReLU (Rajamanoharan et al. 2024, arXiv 2407.14435), transcoders
(Dunefsky et al. 2024, arXiv 2406.11944) and skip transcoders (Paulo et al. 2025, arXiv 2501.18823). The meaning of the
settings in cfg.json is SAELens'.
"""

import json
import pathlib
import shutil

import numpy as np

OUT = pathlib.Path(__file__).parent / "fixtures_sae"
D_IN, D_SAE, D_OUT = 6, 10, 4


def write_safetensors(path, tensors):
    """The format is an 8-byte length, a JSON header, and the numbers."""
    header, data = {}, b""
    for name, array in tensors.items():
        kind = {"float32": "F32", "float16": "F16"}[array.dtype.name]
        raw = np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def relu(x):
    return np.maximum(x, 0)


def top_k(x, k):
    kept = np.zeros_like(x)
    places = np.argsort(-x, axis=-1)[..., :k]
    np.put_along_axis(kept, places, np.take_along_axis(x, places, -1), -1)
    return relu(kept)


def gated(x, w):
    gate = x @ w["W_enc"] + w["b_gate"] > 0
    return gate * relu(x @ (w["W_enc"] * np.exp(w["r_mag"])) + w["b_mag"])


def jump_relu(z, threshold):
    return np.where(z > threshold, z, 0)


class Rng:
    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def __call__(self, *shape, size=1.0, shift=0.0):
        # Rounded to what a float32 holds, so that the file has the very numbers.
        return np.float64(np.float32(shift + size * self.rng.standard_normal(shape)))


def weights(draw, d_in=D_IN, d_out=D_IN):
    return {
        "W_enc": draw(d_in, D_SAE, size=0.6),
        "W_dec": draw(D_SAE, d_out, size=0.5),
        "b_enc": draw(D_SAE, size=0.3),
        "b_dec": draw(d_out, size=0.4),
    }


def new(architecture, hook="blocks.1.hook_resid_pre", **more):
    """A cfg.json as SAELens 6 writes it."""
    meta = {"sae_lens_version": "6.18.0", "model_name": "gpt2-small", "hook_name": hook, "hook_head_index": None,
            "prepend_bos": True, "context_size": 128, "neuronpedia_id": "gpt2-small/1-res-jb"}
    meta.update(more.pop("metadata", {}))
    cfg = {"architecture": architecture, "d_in": D_IN, "d_sae": D_SAE, "dtype": "float32", "device": "cpu",
           "apply_b_dec_to_input": True, "normalize_activations": "none", "reshape_activations": "none"}
    return {**cfg, **more, "metadata": meta}


def old(**more):
    """A cfg.json as SAELens wrote it before version 6."""
    cfg = {"architecture": "standard", "d_in": D_IN, "d_sae": D_SAE, "dtype": "torch.float32", "device": "cuda",
           "model_name": "gpt2-small", "hook_name": "blocks.1.hook_resid_pre", "hook_layer": 1, "hook_head_index": None,
           "activation_fn_str": "relu", "activation_fn_kwargs": {}, "apply_b_dec_to_input": True,
           "finetuning_scaling_factor": False, "prepend_bos": True, "context_size": 128, "lr": 0.0003,
           "normalize_activations": "none", "sae_lens_training_version": None, "sae_lens_version": "3.11.0"}
    return {**cfg, **more}


def write(name, cfg, w, x, features, made, dtype=np.float32):
    folder = OUT / name
    folder.mkdir(parents=True)
    (folder / "cfg.json").write_text(json.dumps(cfg, indent=1) + "\n")
    write_safetensors(folder / "sae_weights.safetensors", {key: value.astype(dtype) for key, value in w.items()})
    expect(folder, x, features, made)


def expect(folder, x, features, made):
    assert (features > 0).any() and (features == 0).any() and np.isfinite(made).all(), folder
    expected = {"x": x, "features": features, "reconstruction": made}
    write_safetensors(folder / "expected.safetensors", {key: value.astype(np.float32) for key, value in expected.items()})


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    draw = Rng(7)
    # Not centred, and of unlike lengths, so that a norm that is left out shows.
    x = draw(2, 3, D_IN, size=1.5, shift=0.5) * np.array([1.0, 2.0, 0.5])[:, None]
    x = np.float64(np.float32(x))

    w = weights(draw)
    f = relu((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"])
    write("standard", new("standard"), w, x, f, f @ w["W_dec"] + w["b_dec"])

    # The first layout of all: other names, a switch for the norm, and no architecture.
    w = weights(draw)
    f = relu((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"])
    cfg = old(normalize_activations=False)
    cfg["hook_point"] = cfg.pop("hook_name")
    cfg["hook_point_head_index"] = cfg.pop("hook_head_index")
    del cfg["architecture"], cfg["sae_lens_version"]
    write("standard_old", cfg, w, x, f, f @ w["W_dec"] + w["b_dec"])
    write_safetensors(OUT / "standard_old" / "sparsity.safetensors", {"sparsity": np.linspace(-5, -1, D_SAE).astype(np.float32)})

    # b_dec is not taken off the input; the decoder scales each feature, as finetuning left it.
    w = weights(draw)
    w["scaling_factor"] = draw(D_SAE, size=0.2, shift=1.0)
    f = relu(x @ w["W_enc"] + w["b_enc"])
    cfg = old(apply_b_dec_to_input=False, finetuning_scaling_factor=True)
    write("standard_finetuned", cfg, w, x, f, (f * w["scaling_factor"]) @ w["W_dec"] + w["b_dec"])

    # Half precision in the file.
    w = {key: np.float64(np.float16(value)) for key, value in weights(draw).items()}
    f = relu((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"])
    write("standard_half", new("standard", dtype="float16"), w, x, f, f @ w["W_dec"] + w["b_dec"], np.float16)

    # One number by which all inputs were scaled in training.
    w, scale = weights(draw), 0.37
    f = relu((x * scale - w["b_dec"]) @ w["W_enc"] + w["b_enc"])
    cfg = new("standard", normalize_activations="expected_average_only_in", norm_scaling_factor=scale)
    write("standard_average", cfg, w, x, f, (f @ w["W_dec"] + w["b_dec"]) / scale)

    # Before version 6 a TopK SAE was a standard one with another activation function.
    w = weights(draw)
    mean, std = x.mean(-1, keepdims=True), x.std(-1, keepdims=True, ddof=1)
    f = top_k((x - mean) / (std + 1e-5) @ w["W_enc"] + w["b_enc"], 3)
    cfg = old(activation_fn_str="topk", activation_fn_kwargs={"k": 3}, apply_b_dec_to_input=False,
              normalize_activations="layer_norm")
    write("topk_old", cfg, w, x, f, (f @ w["W_dec"] + w["b_dec"]) * std + mean)

    w = weights(draw)
    f = top_k((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"], 2)
    write("topk", new("topk", k=2), w, x, f, f @ w["W_dec"] + w["b_dec"])

    # The k are chosen as if the decoder's directions had length 1.
    w = weights(draw)
    w["W_dec"] = np.float64(np.float32(w["W_dec"] * np.linspace(0.2, 3, D_SAE)[:, None]))
    norm = np.linalg.norm(w["W_dec"], axis=-1)
    f = top_k(((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]) * norm, 4)
    assert (top_k((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"], 4) > 0).tolist() != (f > 0).tolist()
    write("topk_by_norm", new("topk", k=4, rescale_acts_by_decoder_norm=True), w, x, f, (f / norm) @ w["W_dec"] + w["b_dec"])

    w = weights(draw)
    del w["b_enc"]
    w |= {"b_gate": draw(D_SAE, size=0.5), "b_mag": draw(D_SAE, size=0.5), "r_mag": draw(D_SAE, size=0.5)}
    f = gated(x - w["b_dec"], w)
    write("gated", new("gated"), w, x, f, f @ w["W_dec"] + w["b_dec"])

    # Every input is scaled to length sqrt(d_in).
    w = weights(draw)
    w["threshold"] = np.abs(draw(D_SAE, size=0.4))
    length = np.linalg.norm(x, axis=-1, keepdims=True) / np.sqrt(D_IN)
    z = (x / length - w["b_dec"]) @ w["W_enc"] + w["b_enc"]
    f = jump_relu(z, w["threshold"])
    assert ((z > 0) & (f == 0)).any()
    write("jumprelu", new("jumprelu", normalize_activations="constant_norm_rescale"), w, x, f,
          (f @ w["W_dec"] + w["b_dec"]) * length)

    # All heads of z as one vector.
    w = weights(draw)
    f = relu((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"])
    made = (f @ w["W_dec"] + w["b_dec"]).reshape(2, 3, 2, 3)
    cfg = new("standard", "blocks.0.attn.hook_z", reshape_activations="hook_z")
    write("heads", cfg, w, x.reshape(2, 3, 2, 3), f, made)

    # A transcoder's output has a width of its own.
    out = {"hook_name_out": "blocks.1.hook_mlp_out"}
    hook = "blocks.1.ln2.hook_normalized"
    w = weights(draw, d_out=D_OUT)
    f = relu(x @ w["W_enc"] + w["b_enc"])
    cfg = new("transcoder", hook, d_out=D_OUT, apply_b_dec_to_input=False, metadata=out)
    write("transcoder", cfg, w, x, f, f @ w["W_dec"] + w["b_dec"])

    w = weights(draw, d_out=D_OUT)
    w["W_skip"] = draw(D_OUT, D_IN, size=0.5)
    f = relu(x @ w["W_enc"] + w["b_enc"])
    cfg = new("skip_transcoder", hook, d_out=D_OUT, apply_b_dec_to_input=False, metadata=out)
    write("transcoder_skip", cfg, w, x, f, f @ w["W_dec"] + w["b_dec"] + x @ w["W_skip"].T)

    w = weights(draw, d_out=D_OUT)
    w["threshold"] = np.abs(draw(D_SAE, size=0.4))
    f = jump_relu(x @ w["W_enc"] + w["b_enc"], w["threshold"])
    cfg = new("jumprelu_transcoder", hook, d_out=D_OUT, apply_b_dec_to_input=False, metadata=out)
    write("transcoder_jumprelu", cfg, w, x, f, f @ w["W_dec"] + w["b_dec"])

    # Gemma Scope's files, as numpy writes them.
    for name, scale in [("layer_1", 1.0), ("embedding", np.sqrt(D_IN))]:
        w = weights(draw)
        w["threshold"] = np.abs(draw(D_SAE, size=0.4))
        # An SAE of the embedding saw it before it is multiplied by sqrt(d_model).
        f = jump_relu(x / scale @ w["W_enc"] + w["b_enc"], w["threshold"])
        made = f @ w["W_dec"] * scale + w["b_dec"]
        folder = OUT / "gemma-scope-2b-pt-res" / name / "width_16k" / "average_l0_5"
        folder.mkdir(parents=True)
        np.savez(folder / "params.npz", **{key: value.astype(np.float32) for key, value in w.items()})
        expect(folder, x, f, made)


main()
