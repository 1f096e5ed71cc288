"""Makes variants.json: tiny models with other metadata, and the logits that transformers then computes.

    /work/peers/venv/bin/python tests/golden/model/make_variants.py

A variant is a tiny-*.gguf of make_tiny.py with some keys set and others removed. Its logits are transformers' with the
configuration that the keys stand for, on the same weights (variant-*.logits.f32), or the unchanged model's where the
keys are only another way to say the same. A variant that would not show if the keys were ignored fails the script.
"""

import json
import math

import numpy as np
import torch

from make_tiny import HERE, TOLERANCE, VISIBLE, difference, logits_of, make

RENORMALISED = 2.5


def rope_parameters(model, **change):
    """The same rotary embedding with other parameters; None removes one."""
    parameters = {k: v for k, v in (model.config.rope_parameters | change).items() if v is not None}
    model.config.rope_parameters = parameters
    model.model.rotary_emb = type(model.model.rotary_emb)(model.config)


def not_renormalised(model):
    for layer in model.model.layers:
        layer.mlp.gate.norm_topk_prob = False


def scaled_experts(model):
    """What DeepSeek calls routed_scaling_factor: Qwen3-MoE has none, so its chosen weights are scaled here."""
    for layer in model.model.layers:
        gate = layer.mlp.gate

        def forward(x, plain=gate.forward):
            logits, weights, chosen = plain(x)
            return logits, weights * RENORMALISED, chosen

        gate.forward = forward


# name: (tiny model, keys set, keys removed, change of the transformers model; or None: the logits stay; or the name of
# the variant that has the same logits)
VARIANTS = {
    "experts-not-renormalised": ("tiny-qwen3moe", {"qwen3moe.expert_weights_norm": False}, [], not_renormalised),
    "experts-renormalised": ("tiny-qwen3moe", {"qwen3moe.expert_weights_norm": True}, [], None),
    "experts-scaled": ("tiny-qwen3moe", {"qwen3moe.expert_weights_scale": RENORMALISED}, [], scaled_experts),
    "linear-without-type": ("tiny-linear", {}, ["llama.rope.scaling.type"], None),
    "linear-of-2023": ("tiny-linear", {"llama.rope.scale_linear": 4.0},
                       ["llama.rope.scaling.type", "llama.rope.scaling.factor"], None),
    "factor-of-zero": ("tiny-llama", {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 0.0}, [], None),
    "yarn-without-original-context": ("tiny-yarn", {}, ["llama.rope.scaling.original_context_length"],
                                      lambda m: rope_parameters(m, original_max_position_embeddings=None)),
    "yarn-attention-factor": ("tiny-yarn", {"llama.rope.scaling.yarn_attn_factor": 1.0}, [],
                              lambda m: rope_parameters(m, attention_factor=1.0)),
    # As llama.cpp writes a model whose factors were not given.
    "yarn-factors-not-given": ("tiny-yarn", {"llama.rope.scaling.yarn_ext_factor": -1.0,
                                             "llama.rope.scaling.yarn_attn_factor": 1.0}, [], None),
    # Another way to say that there is no correction.
    "yarn-correction-cancelled": ("tiny-yarn", {"llama.rope.scaling.attn_factor": 1 / (1 + 0.1 * math.log(4))}, [],
                                  "yarn-attention-factor"),
}


def main():
    index = []
    for name, (base, keys, removed, change) in VARIANTS.items():
        model, tokens, _ = make(base)
        plain = np.frombuffer((HERE / f"{base}.logits.f32").read_bytes(), "<f4").reshape(len(tokens), -1)
        if difference(logits_of(model, tokens), plain) > TOLERANCE / 10:
            raise SystemExit(f"{base}: this transformers gives other logits than {base}.logits.f32 holds")
        entry = {"name": name, "model": f"{base}.gguf", "set": keys, "removed": removed, "tokens": tokens,
                 "vocab": plain.shape[1], "file": f"{base}.logits.f32"}
        if isinstance(change, str):
            entry["file"] = f"variant-{change}.logits.f32"
        elif change is not None:
            change(model)
            logits = logits_of(model, tokens)
            entry["file"] = f"variant-{name}.logits.f32"
            entry["differs_from_the_model_by"] = difference(logits, plain)
            if entry["differs_from_the_model_by"] < VISIBLE:
                raise SystemExit(f"{name}: differs by only {entry['differs_from_the_model_by']}")
            (HERE / entry["file"]).write_bytes(logits.astype("<f4").tobytes())
        index.append(entry)
        print(name, entry.get("differs_from_the_model_by", "the same"))
    (HERE / "variants.json").write_text("[\n" + ",\n".join(json.dumps(entry) for entry in index) + "\n]\n")


if __name__ == "__main__":
    main()
