"""Makes the tiny random models and their reference logits: tiny-*.gguf, tiny-*.logits.f32 and tiny.json.

    /work/peers/venv/bin/python tests/golden/model/make_tiny.py

The logits are transformers' in float32 with eager attention, [rows, vocab] little-endian, for every position of the
tokens in tiny.json. Each model is also read by llama.cpp, and each is perturbed in the ways a wrong forward pass might
be wrong (a permutation left out, an expert mixed up, ...): tiny.json records by how much the logits move, and the
script fails if a mistake would hide in the test's tolerance.
"""

import copy
import json
from pathlib import Path

import numpy as np
import torch
import transformers as hf

from gguf_export import VOCAB, gguf_tensors, llama_cpp_logits, permuted, write_gguf

HERE = Path(__file__).parent
ROWS = 24
EPSILON = 1e-2         # far from any real model's, so that one assumed shows
TOLERANCE = 1e-3       # what the C++ tests allow
VISIBLE = 50 * TOLERANCE  # what a mistake must move at least one logit by
ROUTER_GAP = 1e-2      # between the last expert chosen and the first one not, in every layer and position
LLAMA_CPP = 2e-4       # llama.cpp with F32 KV

torch.set_num_threads(1)
torch.set_grad_enabled(False)


def rope(kind="default", **more):
    return {"rope_type": kind, "rope_theta": 10000.0, **more}


def shape(hidden, layers, heads, kv_heads, head_dim, ff, **more):
    return dict(vocab_size=VOCAB, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
                num_key_value_heads=kv_heads, head_dim=head_dim, intermediate_size=ff, rms_norm_eps=EPSILON,
                max_position_embeddings=256, rope_parameters=rope(), tie_word_embeddings=False, bos_token_id=1,
                eos_token_id=2, attn_implementation="eager", dtype="float32") | more


def llama(**more):
    return hf.LlamaForCausalLM(hf.LlamaConfig(**shape(48, 2, 2, 1, 24, 56, **more)))


MIXTRAL = dict(num_local_experts=8, num_experts_per_tok=2, sliding_window=None,
               rope_parameters=rope() | {"rope_theta": 1e6})
MODELS = {
    # name: (what it is, constructor)
    "tiny-llama": ("dense, grouped-query attention, tied embeddings, ff no multiple of 64",
                   lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**shape(
                       64, 3, 4, 2, 16, 160, tie_word_embeddings=True)))),
    "tiny-llama31": ("llama-3 scaling through rope_freqs.weight, with pairs kept, blended and interpolated",
                     lambda: llama(max_position_embeddings=4096, rope_parameters=rope(
                         "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                         original_max_position_embeddings=512))),
    "tiny-yarn": ("YaRN, with pairs kept, blended and interpolated",
                  lambda: llama(max_position_embeddings=4096, tie_word_embeddings=True, rope_parameters=rope(
                      "yarn", factor=4.0, original_max_position_embeddings=1024))),
    "tiny-linear": ("linear scaling", lambda: llama(max_position_embeddings=1024, tie_word_embeddings=True,
                                                    rope_parameters=rope("linear", factor=4.0))),
    "tiny-mistral": ("sliding window 7, shorter than the prompt; head_dim 24 where hidden / heads is 12",
                     lambda: hf.MistralForCausalLM(hf.MistralConfig(**shape(
                         48, 2, 4, 2, 24, 72, sliding_window=7, tie_word_embeddings=True)))),
    "tiny-mixtral": ("8 experts, 2 used",
                     lambda: hf.MixtralForCausalLM(hf.MixtralConfig(**shape(32, 3, 4, 2, 8, 20, **MIXTRAL)))),
    "tiny-qwen3moe": ("16 experts, 4 used, Q/K norm per head, neox rope, head_dim 32 where hidden / heads is 8",
                      lambda: hf.Qwen3MoeForCausalLM(hf.Qwen3MoeConfig(**shape(
                          32, 2, 4, 2, 32, 40, num_experts=16, num_experts_per_tok=4, moe_intermediate_size=16,
                          norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[])))),
}
# The same weights as tiny-mixtral, and so the same logits, in the other two layouts of experts.
LAYOUTS = {"tiny-mixtral-per-expert": "per-expert", "tiny-mixtral-fused": "fused"}


def scale_weights(model, seed):
    """Weights large enough that attention and routing are decided, norms away from 1, logits of a few units."""
    generator = torch.Generator().manual_seed(seed)
    tied = model.config.tie_word_embeddings
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        if "norm" in name:
            p.copy_(1 + 0.25 * noise)
        elif "embed_tokens" in name:
            p.copy_((0.4 if tied else 1.0) * noise)
        else:
            gain = 3.0 if name.endswith("mlp.gate.weight") else 1.6  # the router's logits well apart
            p.copy_(gain * noise / p.shape[-1] ** 0.5)


def logits_of(model, tokens, positions=None):
    ids = torch.tensor([tokens])
    position_ids = None if positions is None else torch.tensor([positions])
    return model(ids, position_ids=position_ids, use_cache=False).logits[0].numpy()


def router_gap(model, tokens):
    """The smallest distance between the last expert chosen and the first one not."""
    routers = model(torch.tensor([tokens]), use_cache=False, output_router_logits=True).router_logits
    used = model.config.num_experts_per_tok
    ordered = torch.stack([layer.reshape(len(tokens), -1) for layer in routers]).sort(descending=True).values
    return float((ordered[..., used - 1] - ordered[..., used]).min())


def make(name):
    """The model and its tokens; for experts the first seed without near-ties, which no rounding decides alike."""
    for seed in range(1, 1000):
        model = MODELS[name][1]().eval()
        scale_weights(model, seed)
        drawn = torch.randint(3, VOCAB, (ROWS - 1,), generator=torch.Generator().manual_seed(seed)).tolist()
        tokens = [1] + drawn
        if not hasattr(model.config, "num_experts_per_tok") or router_gap(model, tokens) > ROUTER_GAP:
            return model, tokens, seed
    raise SystemExit(f"{name}: no seed below 1000 keeps its experts {ROUTER_GAP} apart")


def mistakes(config):
    """{name: change(model) -> positions or None}: what a wrong forward pass might do, and the logits must betray."""
    heads, kv_heads, head_dim = config.num_attention_heads, config.num_key_value_heads, config.head_dim

    def permute_q_and_k(m):
        for layer in m.model.layers:
            for linear, n in ((layer.self_attn.q_proj, heads), (layer.self_attn.k_proj, kv_heads)):
                linear.weight.copy_(torch.from_numpy(permuted(linear.weight.numpy(), n).copy()))

    def deal_heads(m):  # head h reads kv head h % kv_heads: the same as dealing q's heads and the output's columns so
        dealt = torch.arange(heads).view(heads // kv_heads, kv_heads).T.flatten()
        for layer in m.model.layers:
            q, o = layer.self_attn.q_proj.weight, layer.self_attn.o_proj.weight
            q.copy_(q.view(heads, head_dim, -1)[dealt].reshape(q.shape))
            o.copy_(o.view(-1, heads, head_dim)[:, dealt].reshape(o.shape))

    def assume_epsilon(m):
        for module in m.modules():
            if hasattr(module, "variance_epsilon"):
                module.variance_epsilon = 1e-5

    def swap_norms(m):
        swap(m.model.layers[-1].input_layernorm.weight, m.model.layers[-1].post_attention_layernorm.weight)

    found = {
        "rope pairs in the other order": permute_q_and_k,
        "second half one position late": lambda m: [i + (i >= ROWS // 2) for i in range(ROWS)],
        "epsilon of 1e-5 assumed": assume_epsilon,
        "attention and feed-forward norms swapped": swap_norms,
    }
    if kv_heads > 1:
        found["head h reads kv head h % kv_heads"] = deal_heads
    if getattr(config, "sliding_window", None):
        found["window one longer"] = lambda m: set_window(m, config.sliding_window + 1)
        found["window one shorter"] = lambda m: set_window(m, config.sliding_window - 1)
        found["window left out"] = lambda m: set_window(m, None)
    if config.model_type == "qwen3_moe":
        found["Q and K norms swapped"] = lambda m: swap(m.model.layers[-1].self_attn.q_norm.weight,
                                                        m.model.layers[-1].self_attn.k_norm.weight)
    return found | rope_mistakes(config) | feed_forward_mistakes(config)


def rope_mistakes(config):
    def plain_frequencies(m):
        exponents = torch.arange(0, config.head_dim, 2) / config.head_dim
        m.model.rotary_emb.inv_freq.copy_(config.rope_parameters["rope_theta"] ** -exponents)

    kind = config.rope_parameters["rope_type"]
    found = {}
    if kind != "default":
        found["rope scaling left out"] = plain_frequencies
    if kind == "yarn":
        found["attention factor left out"] = lambda m: setattr(m.model.rotary_emb, "attention_scaling", 1.0)
    return found


def feed_forward_mistakes(config):
    if not hasattr(config, "num_experts_per_tok"):
        return {"gate and up swapped": lambda m: swap(m.model.layers[-1].mlp.gate_proj.weight,
                                                      m.model.layers[-1].mlp.up_proj.weight)}

    def shift_experts(m):
        for p in m.model.layers[-1].mlp.experts.parameters():
            p.copy_(p.roll(1, dims=0).clone())

    def swap_gate_and_up(m):
        gate_up = m.model.layers[-1].mlp.experts.gate_up_proj
        swap(gate_up[:, : gate_up.shape[1] // 2], gate_up[:, gate_up.shape[1] // 2 :])

    def use_one_fewer(m):
        m.model.layers[-1].mlp.gate.top_k -= 1

    def softmax_over_all(m):  # the chosen experts' weights not renormalised
        gate = m.model.layers[-1].mlp.gate

        def forward(x):
            logits = torch.nn.functional.linear(x.reshape(-1, config.hidden_size), gate.weight)
            weights, chosen = torch.topk(logits.softmax(-1), gate.top_k)
            return logits, weights, chosen

        gate.forward = forward

    return {
        "experts moved by one": shift_experts,
        "down of two experts swapped": lambda m: swap(m.model.layers[-1].mlp.experts.down_proj[0],
                                                      m.model.layers[-1].mlp.experts.down_proj[1]),
        "gate and up swapped": swap_gate_and_up,
        "one expert fewer": use_one_fewer,
        "chosen weights not renormalised": softmax_over_all,
    }


def set_window(model, window):
    model.config.sliding_window = window


def swap(a, b):
    kept = a.clone()
    a.copy_(b)
    b.copy_(kept)


def difference(a, b):
    return round(float(np.abs(a - b).max()), 6)


def perturbed(model, tokens, change):
    wrong = copy.deepcopy(model)
    return logits_of(wrong, tokens, change(wrong))


def check_mistakes(name, model, tokens, logits):
    moved = {mistake: difference(perturbed(model, tokens, change), logits)
             for mistake, change in mistakes(model.config).items()}
    least = min(moved, key=moved.get)
    if moved[least] < VISIBLE:
        raise SystemExit(f"{name}: {least} moves the logits by only {moved[least]}; give the weights more scale")
    return moved


def check_llama_cpp(name, path, model, tokens, logits):
    """llama.cpp's largest difference, or why there is none. It ignores the llama architecture's sliding window, so
    a model with one is compared with the window left out: that proves the weights; the window is transformers' word."""
    other = llama_cpp_logits(path, tokens)
    if other is None:
        return "does not load this layout"
    if getattr(model.config, "sliding_window", None):
        logits = perturbed(model, tokens, lambda m: set_window(m, None))
    found = difference(other, logits)
    if found > LLAMA_CPP:
        raise SystemExit(f"{name}: llama.cpp differs by {found}: the file does not mean what transformers computed")
    return found


def main():
    index = []
    for name, (what, _) in MODELS.items():
        model, tokens, seed = make(name)
        logits = logits_of(model, tokens)
        (HERE / f"{name}.logits.f32").write_bytes(logits.astype("<f4").tobytes())
        entry = {"what": what, "tokens": tokens, "vocab": VOCAB, "rows": ROWS, "file": f"{name}.logits.f32",
                 "seed": seed}
        moved = check_mistakes(name, model, tokens, logits)
        layouts = {name: "merged"} | (LAYOUTS if name == "tiny-mixtral" else {})
        for file, style in layouts.items():
            path = HERE / f"{file}.gguf"
            write_gguf(path, model, gguf_tensors(model, style))
            peer = check_llama_cpp(file, path, model, tokens, logits)
            index.append({"model": path.name} | entry | {"llama_cpp_difference": peer})
            if hasattr(model.config, "num_experts_per_tok"):
                index[-1] |= {"experts_stored": style, "router_gap": round(router_gap(model, tokens), 6)}
            index[-1]["mistakes_move_logits_by"] = moved
            print(f"{file}: {path.stat().st_size} bytes, seed {seed}, logits std {logits.std():.2f}, llama.cpp {peer}, "
                  f"least visible mistake {min(moved, key=moved.get)} {min(moved.values())}")
    (HERE / "tiny.json").write_text("[\n" + ",\n".join(json.dumps(entry) for entry in index) + "\n]\n")


if __name__ == "__main__":
    main()
