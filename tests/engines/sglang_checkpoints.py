"""Checkpoints for SGLang's tests. Nothing here needs SGLang."""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from samples import Stored, stored, write

DTYPES = ("BF16", "F16", "F32", "F8_E4M3", "F8_E5M2", "I8", "U8", "I32", "I64", "BOOL")
# A mixture of 8 experts in one layer, as DeepSeek V2's, small.
EXPERTS = 8
DEEPSEEK = {
    "architectures": ["DeepseekV2ForCausalLM"], "model_type": "deepseek_v2", "torch_dtype": "bfloat16",
    "hidden_size": 64, "intermediate_size": 128, "moe_intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 4, "n_routed_experts": EXPERTS, "n_shared_experts": 1,
    "num_experts_per_tok": 2, "first_k_dense_replace": 1, "moe_layer_freq": 1, "kv_lora_rank": 16,
    "q_lora_rank": None, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 16, "vocab_size": 128,
    "n_group": 1, "topk_group": 1, "topk_method": "greedy", "scoring_func": "softmax", "norm_topk_prob": False,
    "routed_scaling_factor": 1.0, "max_position_embeddings": 5120, "rms_norm_eps": 1e-6, "hidden_act": "silu",
    "rope_theta": 10000, "tie_word_embeddings": False, "rope_scaling": {
        "type": "yarn", "factor": 40, "beta_fast": 32, "beta_slow": 1, "mscale": 0.707, "mscale_all_dim": 0.707,
        "original_max_position_embeddings": 128,
    },
}  # fmt: skip


def shards(folder: Path, count: int = 3, seed: int = 7) -> Path:
    """A folder with an index and `count` files: every element type, up to 800 KB, empty ones, scalars."""
    folder.mkdir(parents=True, exist_ok=True)
    shuffled = random.Random(seed)
    files: list[dict[str, Stored]] = [{} for _ in range(count)]
    for number, dtype in enumerate(DTYPES * 3):
        rows, columns = shuffled.randrange(1, 200), shuffled.randrange(1, 500)
        tensor = stored(dtype, [rows, columns], seed + number)
        files[number % count][f"model.layers.{number}.{dtype.lower()}.weight"] = tensor
    for number, dtype in enumerate(DTYPES):
        files[number % count][f"empty.{dtype}"] = stored(dtype, [0, 5])
        files[number % count][f"scalar.{dtype}"] = stored(dtype, [], seed + number)
    weight_map = {}
    for number, tensors in enumerate(files):
        name = f"model-{number + 1:05}-of-{count:05}.safetensors"
        write(folder / name, tensors, {"format": "pt"}, padding=number)
        weight_map |= dict.fromkeys(tensors, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def truncate(path: Path, missing_bytes: int) -> None:
    """Cuts a file's end off."""
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - missing_bytes)


def write_checkpoints(folder: Path, minilm: Path) -> None:
    """All checkpoints of the cases, before any rank starts."""
    shards(folder / "shards", 5)
    torch.manual_seed(11)
    other = {
        name: tensor * 1.25 + 0.01 if tensor.is_floating_point() else tensor
        for name, tensor in load_file(minilm / "model.safetensors").items()
    }
    names = sorted(other)
    for home in ("other", "broken"):
        (folder / home).mkdir()
        for file in minilm.iterdir():
            if file.is_file() and file.suffix != ".safetensors":
                (folder / home / file.name).write_bytes(file.read_bytes())
        weight_map = {}
        for number in range(3):
            name = f"model-{number + 1:05}-of-00003.safetensors"
            save_file({n: other[n] for n in names[number::3]}, folder / home / name)
            weight_map |= dict.fromkeys(names[number::3], name)
        (folder / home / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    truncate(folder / "broken" / "model-00003-of-00003.safetensors", 1000)
    deepseek(folder / "deepseek")


def deepseek(folder: Path) -> None:
    """A checkpoint with its experts one by one, as DeepSeek's are."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(DEEPSEEK))
    tensors = {
        "model.embed_tokens.weight": (128, 64), "model.norm.weight": (64,), "lm_head.weight": (128, 64),
        "model.layers.0.mlp.gate_proj.weight": (128, 64), "model.layers.0.mlp.up_proj.weight": (128, 64),
        "model.layers.0.mlp.down_proj.weight": (64, 128), "model.layers.1.mlp.gate.weight": (EXPERTS, 64),
    }  # fmt: skip
    for layer in range(2):
        tensors |= {
            f"model.layers.{layer}.self_attn.{name}.weight": shape
            for name, shape in {
                "q_proj": (96, 64), "kv_a_proj_with_mqa": (24, 64), "kv_b_proj": (128, 16), "o_proj": (64, 64),
                "kv_a_layernorm": (16,),
            }.items()
        }  # fmt: skip
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"model.layers.{layer}.{name}.weight"] = (64,)
    for owner in (*(f"experts.{number}" for number in range(EXPERTS)), "shared_experts"):
        for name, shape in {"gate_proj": (32, 64), "up_proj": (32, 64), "down_proj": (64, 32)}.items():
            tensors[f"model.layers.1.mlp.{owner}.{name}.weight"] = shape
    values = {name: torch.randn(shape).to(torch.bfloat16) for name, shape in tensors.items()}
    for number in range(2):
        save_file(dict(list(values.items())[number::2]), folder / f"model-{number}.safetensors")
