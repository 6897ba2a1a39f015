"""Writes the folders of options below with the tools themselves: SAELens 6.54.12, NumPy.

    python generate.py

Each has an input `x` and what the tool makes of it in `expected.safetensors`.
"""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from sae_lens import SAE
from sae_lens.registry import get_sae_class, get_sae_training_class

HERE = Path(__file__).parent
D, F, N = 12, 40, 16


def rows(scale=1.0):
    return torch.randn(N, D) * scale + 0.1 * scale


def fill(sae):
    """Weights that are not symmetric."""
    with torch.no_grad():
        for name, p in sae.named_parameters():
            p.copy_((torch.randn(p.shape) * (0.5 if p.dim() == 2 else 0.2)).to(p.dtype))
    return sae


def inference(name, architecture, x=None, after=None, **options):
    torch.manual_seed(len(name))
    cls, config = get_sae_class(architecture)
    sae = fill(cls(config(d_in=D, d_sae=F, **options)))
    if after:
        after(sae)
    folder = HERE / "saelens" / name
    sae.save_model(folder)
    expect(folder, SAE.load_from_disk(folder), rows() if x is None else x)


def expect(folder, sae, x, scale=1.0):
    """Features of x·scale and the reconstruction of x."""
    with torch.no_grad():
        features = sae.encode(x * scale)
        forward = sae.decode(features) / scale
    tensors = {"x": x, "features": features.float(), "forward": forward.float()}
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "expected.safetensors")


def unfolded(name, architecture, s, **options):
    """A save in mid-training: the scale is beside the weights."""
    torch.manual_seed(len(name))
    cls, config = get_sae_training_class(architecture)
    options["normalize_activations"] = "expected_average_only_in"
    sae = fill(cls(config(d_in=D, d_sae=F, **options)))
    if architecture == "batchtopk":
        sae.topk_threshold.fill_(0.3)
    folder = HERE / "saelens" / name
    sae.save_model(folder)
    scaler = {"scaling_factor": s, "has_whitening": False}
    (folder / "activation_scaler.json").write_text(json.dumps(scaler))
    # Features are those of the inference save on scaled activations.
    final = folder / "final"
    sae.save_inference_model(final)
    expect(folder, SAE.load_from_disk(final), rows(1 / s), s)
    for file in final.iterdir():
        file.unlink()
    final.rmdir()


def negative(sae):
    with torch.no_grad():
        sae.threshold.copy_(torch.linspace(-0.5, 0.8, F))


inference("jumprelu_no_bdec_input", "jumprelu", apply_b_dec_to_input=False, after=negative)
inference("gated_no_bdec_input", "gated", apply_b_dec_to_input=False)
inference("topk_rescaled_constant_norm", "topk", k=5, rescale_acts_by_decoder_norm=True,
          normalize_activations="constant_norm_rescale")
inference("layer_norm_small", "standard", x=rows(1e-3), normalize_activations="layer_norm")
inference("standard_f64", "standard", dtype="float64", x=rows().double())
inference("standard_bf16", "standard", dtype="bfloat16")
unfolded("standard_unfolded", "standard", 0.05)
unfolded("topk_unfolded", "topk", 0.05, k=5, rescale_acts_by_decoder_norm=True)
unfolded("batchtopk_unfolded", "batchtopk", 0.05, k=5.0, rescale_acts_by_decoder_norm=True)
unfolded("batchtopk_fraction", "batchtopk", 1.0, k=2.5, rescale_acts_by_decoder_norm=False)

# A file of before version 6, which SAELens brings up to date.
folder = HERE / "saelens" / "legacy_topk"
inference("legacy_topk", "topk", k=3)
old = {
    "model_name": "gpt2-small", "hook_point": "blocks.8.hook_resid_pre", "hook_point_layer": 8,
    "hook_point_head_index": None, "dataset_path": "x", "d_in": D, "d_sae": F,
    "dtype": "torch.float32", "device": "cuda", "context_size": 128,
    "normalize_activations": "none", "finetuning_scaling_factor": False, "prepend_bos": True,
    "activation_fn_str": "topk", "activation_fn_kwargs": {"k": 3}, "noise_scale": 0.1,
    "model_from_pretrained_kwargs": {"center_writing_weights": True},
}
(folder / "cfg.json").write_text(json.dumps(old))
weights = load_file(folder / "sae_weights.safetensors")
weights["scaling_factor"] = torch.ones(F)
save_file(weights, folder / "sae_weights.safetensors")
expect(folder, SAE.load_from_disk(folder), rows())

# Gemma Scope, by its formula: the loader reads from a hub alone.
folder = HERE / "gemma_scope"
folder.mkdir(exist_ok=True)
rng = np.random.default_rng(1)
params = {
    "W_enc": np.asfortranarray(rng.normal(size=(D, F)).astype(np.float32)),
    "W_dec": rng.normal(size=(F, D)).astype(np.float16),
    "b_enc": rng.normal(size=F).astype(np.float32),
    "b_dec": rng.normal(size=D),
    "threshold": rng.uniform(0, 2, size=F).astype(np.float32),
}
np.savez_compressed(folder / "params.npz", **params)
x = rng.normal(size=(N, D)).astype(np.float32)
wide = {name: value.astype(np.float64) for name, value in params.items()}
h = x @ wide["W_enc"] + wide["b_enc"]
features = np.maximum(h, 0) * (h > wide["threshold"])
forward = features @ wide["W_dec"] + wide["b_dec"]
save_file({"x": torch.tensor(x), "features": torch.tensor(features).float().contiguous(),
           "forward": torch.tensor(forward).float().contiguous()}, folder / "expected.safetensors")
