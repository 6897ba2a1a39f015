"""Tiny random models of variants of each family, as transformers saves and computes them.

python3 generate.py [FOLDER], with transformers 5 and torch. Each folder gets config.json,
model.safetensors and expected.safetensors: the input, hidden_states.i (the last of language models
after the final norm), and logits, or the embedding of the image.
"""

import pathlib
import sys

import torch
import transformers as t
from safetensors.torch import save_file

OUT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent)
SMALL = dict(
    vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=3,
    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
)
VISION = dict(
    hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
    image_size=24, patch_size=8,
)
TEXT = dict(
    vocab_size=40, hidden_size=8, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2,
    max_position_embeddings=8, bos_token_id=0, eos_token_id=1, pad_token_id=2,
)
LLAMA3 = dict(
    rope_type="llama3", rope_theta=500.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=32,
)
MODELS = {
    "mistral_window": (t.MistralForCausalLM, t.MistralConfig(**SMALL, sliding_window=5)),
    "qwen2_window": (
        t.Qwen2ForCausalLM,
        t.Qwen2Config(**SMALL, use_sliding_window=True, sliding_window=4, max_window_layers=1),
    ),
    "qwen3_window": (
        t.Qwen3ForCausalLM,
        t.Qwen3Config(
            **SMALL, head_dim=8, use_sliding_window=True, sliding_window=6, attention_bias=True,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        ),
    ),
    "llama_biases": (
        t.LlamaForCausalLM,
        t.LlamaConfig(**SMALL, attention_bias=True, mlp_bias=True, hidden_act="gelu"),
    ),
    "llama_llama3": (
        t.LlamaForCausalLM,
        t.LlamaConfig(**(SMALL | dict(head_dim=16)), rope_parameters=LLAMA3),
    ),
    "llama_linear": (
        t.LlamaForCausalLM,
        t.LlamaConfig(
            **SMALL, rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=4.0)
        ),
    ),
    "gemma2_untied": (
        t.Gemma2ForCausalLM,
        t.Gemma2Config(
            **SMALL, head_dim=8, tie_word_embeddings=False, attention_bias=True, sliding_window=4,
            query_pre_attn_scalar=8, attn_logit_softcapping=None,
        ),
    ),
    "gpt2_scaled": (
        t.GPT2LMHeadModel,
        t.GPT2Config(
            vocab_size=40, n_positions=64, n_embd=16, n_layer=3, n_head=4, activation_function="relu",
            scale_attn_by_inverse_layer_idx=True, scale_attn_weights=False,
            tie_word_embeddings=False, bos_token_id=0, eos_token_id=0,
        ),
    ),
    "gpt_neox_linear": (
        t.GPTNeoXForCausalLM,
        t.GPTNeoXConfig(
            vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=3,
            num_attention_heads=2, max_position_embeddings=64, use_parallel_residual=False,
            attention_bias=False, tie_word_embeddings=True,
            rope_parameters=dict(
                rope_type="linear", rope_theta=100.0, factor=2.0, partial_rotary_factor=0.5
            ),
        ),
    ),
    "clip_whole": (
        t.CLIPModel,
        t.CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=12),
    ),
    "siglip_whole": (
        t.SiglipModel,
        t.SiglipConfig(text_config=TEXT | dict(projection_size=16), vision_config=VISION),
    ),
}

torch.manual_seed(0)
for name, (kind, config) in MODELS.items():
    model = kind._from_config(config, attn_implementation="eager", dtype=torch.float32).eval()
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    folder = OUT / name
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    model = kind.from_pretrained(folder, attn_implementation="eager").eval()
    expected = {}
    with torch.no_grad():
        if name.endswith("whole"):
            pixels = torch.randn(2, 3, 24, 24)
            out = model.vision_model(pixels, output_hidden_states=True)
            expected["pixel_values"] = pixels
            pooled = out.pooler_output
            expected["image_embeds"] = (
                model.visual_projection(pooled) if hasattr(model, "visual_projection") else pooled
            )
        else:
            ids = torch.randint(0, 40, (2, 48))
            out = model(ids, output_hidden_states=True)
            expected["input_ids"] = ids
            expected["logits"] = out.logits
    for i, state in enumerate(out.hidden_states):
        expected[f"hidden_states.{i}"] = state
    save_file({k: v.clone().contiguous() for k, v in expected.items()}, folder / "expected.safetensors")
    print(name, sorted(path.name for path in folder.iterdir()))
