"""Writes rope.txt: rotary frequencies, and the cosines and sines that follow from them, as transformers computes them.

Run with a Python that has transformers (5.23) and torch:  python make_rope.py

A case is one line of words: name, rotated, base, scaling (none, linear, yarn), factor, original_context, beta_fast,
beta_slow, attention_factor, the rope_freqs.weight that llama.cpp's converter would write (a count, then values), the
frequencies [rotated / 2], then for each of POSITIONS the position, the cosines and the sines [rotated / 2].
"""

import math
import pathlib

import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

HERE = pathlib.Path(__file__).parent
POSITIONS = [0, 1, 17, 4099]
CASES = {
    "default": (64, 10000.0, {"rope_type": "default"}),
    "default_mixtral": (128, 1000000.0, {"rope_type": "default"}),
    "linear": (64, 10000.0, {"rope_type": "linear", "factor": 4.0}),
    "yarn": (128, 1000000.0, {"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 16384}),
    "yarn_qwen": (128, 1000000.0, {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}),
    "yarn_betas": (64, 10000.0, {"rope_type": "yarn", "factor": 128.0, "original_max_position_embeddings": 8192,
                                 "beta_fast": 16.0, "beta_slow": 2.0}),
    "yarn_without_correction": (64, 10000.0, {"rope_type": "yarn", "factor": 8.0, "attention_factor": 1.0,
                                              "original_max_position_embeddings": 4096}),
    "yarn_low_is_high": (32, 10000.0, {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 6}),
    "yarn_high_is_the_last": (32, 100.0, {"rope_type": "yarn", "factor": 2.0, "beta_fast": 4096.0,
                                          "original_max_position_embeddings": 1000000}),
    "llama3": (128, 500000.0, {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                               "original_max_position_embeddings": 8192}),
}


def llama3_factors(dim: int, base: float, scaling: dict) -> list[float]:
    """rope_freqs.weight, as convert_hf_to_gguf.py derives it from the four parameters of llama-3 scaling."""
    factors = []
    long_wave = scaling["original_max_position_embeddings"] / scaling["low_freq_factor"]
    short_wave = scaling["original_max_position_embeddings"] / scaling["high_freq_factor"]
    for i in range(dim // 2):
        wave = 2 * math.pi * base ** (2 * i / dim)
        if wave < short_wave:
            factors.append(1.0)
        elif wave > long_wave:
            factors.append(scaling["factor"])
        else:
            smooth = scaling["original_max_position_embeddings"] / wave - scaling["low_freq_factor"]
            smooth /= scaling["high_freq_factor"] - scaling["low_freq_factor"]
            factors.append(1 / ((1 - smooth) / scaling["factor"] + smooth))
    return torch.tensor(factors, dtype=torch.float32).tolist()


def main() -> None:
    with open(HERE / "rope.txt", "w") as out:
        for name, (dim, base, scaling) in CASES.items():
            factor = scaling.get("factor", 1.0)
            config = LlamaConfig(head_dim=dim, hidden_size=dim * 4, num_attention_heads=4,
                                 max_position_embeddings=int(scaling.get("original_max_position_embeddings", 4096) * factor),
                                 rope_parameters={"rope_theta": base, **scaling})
            rotary = LlamaRotaryEmbedding(config)
            kind = scaling["rope_type"]
            factors = llama3_factors(dim, base, scaling) if kind == "llama3" else []
            words = [name, dim, base, kind if kind in ("linear", "yarn") else "none", factor,
                     scaling.get("original_max_position_embeddings", 0), scaling.get("beta_fast", 32),
                     scaling.get("beta_slow", 1), rotary.attention_scaling, len(factors), *factors,
                     *rotary.inv_freq.tolist()]
            for position in POSITIONS:
                cos, sin = rotary(torch.zeros(1), torch.tensor([[position]]))
                words += [position, *cos[0, 0, : dim // 2].tolist(), *sin[0, 0, : dim // 2].tolist()]
            out.write(" ".join(f"{word:.9g}" if isinstance(word, float) else str(word) for word in words) + "\n")


if __name__ == "__main__":
    main()
