"""Writes a transformers Llama, Mistral, Mixtral or Qwen3-MoE model as a GGUF file, after llama.cpp's conventions.

Shared by make_tiny.py and make_quantised.py. Own code on purpose: the names, keys and row orders below are what the
goldens defend; llama.cpp reading the same file and giving the same logits is the proof that they are the common ones.
"""

import gguf
import numpy as np

LETTERS = [chr(c) for c in range(ord("a"), ord("z") + 1)]
# Each is two earlier or single-letter pieces joined, best merge first.
MERGES = ["▁t", "he", "▁a", "in", "▁the", "on", "er", "▁s", "re", "at", "en", "▁w", "or", "es", "▁c", "is", "▁o", "▁b",
          "an", "al", "▁in", "▁an", "ing", "▁p", "▁m", "▁f", "▁d", "▁re", "st", "le", "ar", "▁on", "▁h", "▁st"]
# <unk> <s> </s>, 256 bytes, 34 merges, the word mark, 26 letters
PIECES = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] + MERGES + ["▁"] + LETTERS
VOCAB = len(PIECES)
assert VOCAB == 320


def add_tokenizer(writer):
    types = [gguf.TokenType.UNKNOWN] + [gguf.TokenType.CONTROL] * 2 + [gguf.TokenType.BYTE] * 256
    types += [gguf.TokenType.NORMAL] * (VOCAB - len(types))
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(PIECES)
    writer.add_token_scores([0.0] * 259 + [-float(i) for i in range(VOCAB - 259)])
    writer.add_token_types(types)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(True)


def add_metadata(writer, config):
    rope = config.rope_parameters
    writer.add_name(f"tiny {config.model_type}, random weights")
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(rope["rope_theta"])
    # Dense llama files leave the head size out where it is d / heads; qwen3moe always has it, and no rope width.
    if config.model_type == "qwen3_moe" or config.head_dim * config.num_attention_heads != config.hidden_size:
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
    if config.model_type != "qwen3_moe":
        writer.add_rope_dimension_count(config.head_dim)
    if getattr(config, "sliding_window", None):
        writer.add_sliding_window(config.sliding_window)
    if config.model_type == "mixtral":
        writer.add_expert_count(config.num_local_experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
    if config.model_type == "qwen3_moe":
        writer.add_expert_count(config.num_experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])


def permuted(weight, heads):
    """[heads * head_dim, d] rows from transformers' halves (i, i + head_dim / 2) to GGUF's pairs (2i, 2i + 1)."""
    head_dim = weight.shape[0] // heads
    return weight.reshape(heads, 2, head_dim // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def expert_tensors(prefix, gate_up, down, style):
    """gate_up: [E, 2 ff, d], gate rows first; down: [E, d, ff]. Yields (name, array) in one of three layouts."""
    gate, up = np.split(gate_up, 2, axis=1)
    if style == "merged":  # three tensors a layer, as written since 2024-04
        yield f"{prefix}.ffn_gate_exps.weight", gate
        yield f"{prefix}.ffn_up_exps.weight", up
        yield f"{prefix}.ffn_down_exps.weight", down
    elif style == "fused":  # gate and up in one, as newer converters may write
        yield f"{prefix}.ffn_gate_up_exps.weight", gate_up
        yield f"{prefix}.ffn_down_exps.weight", down
    elif style == "per-expert":  # the first Mixtral files
        for e in range(gate.shape[0]):
            yield f"{prefix}.ffn_gate.{e}.weight", gate[e]
            yield f"{prefix}.ffn_down.{e}.weight", down[e]
            yield f"{prefix}.ffn_up.{e}.weight", up[e]


def gguf_tensors(model, expert_style="merged"):
    """Yields (GGUF name, float32 array); an array's shape is the reverse of the order in the file."""
    config = model.config
    state = {name: p.detach().numpy() for name, p in model.named_parameters()}  # a tied lm_head is not repeated
    yield "token_embd.weight", state["model.embed_tokens.weight"]
    yield "output_norm.weight", state["model.norm.weight"]
    if "lm_head.weight" in state:
        yield "output.weight", state["lm_head.weight"]
    if config.rope_parameters["rope_type"] == "llama3":
        plain = config.rope_parameters["rope_theta"] ** -(np.arange(0, config.head_dim, 2) / config.head_dim)
        scaled = model.model.rotary_emb.inv_freq.numpy().astype(np.float64)
        yield "rope_freqs.weight", (plain / scaled).astype(np.float32)
    normal_rope = config.model_type != "qwen3_moe"
    for n in range(config.num_hidden_layers):
        prefix = f"model.layers.{n}."
        layer = {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}
        q, k = layer["self_attn.q_proj.weight"], layer["self_attn.k_proj.weight"]
        yield f"blk.{n}.attn_norm.weight", layer["input_layernorm.weight"]
        yield f"blk.{n}.attn_q.weight", permuted(q, config.num_attention_heads) if normal_rope else q
        yield f"blk.{n}.attn_k.weight", permuted(k, config.num_key_value_heads) if normal_rope else k
        yield f"blk.{n}.attn_v.weight", layer["self_attn.v_proj.weight"]
        yield f"blk.{n}.attn_output.weight", layer["self_attn.o_proj.weight"]
        if "self_attn.q_norm.weight" in layer:
            yield f"blk.{n}.attn_q_norm.weight", layer["self_attn.q_norm.weight"]
            yield f"blk.{n}.attn_k_norm.weight", layer["self_attn.k_norm.weight"]
        yield f"blk.{n}.ffn_norm.weight", layer["post_attention_layernorm.weight"]
        if "mlp.gate.weight" in layer:
            yield f"blk.{n}.ffn_gate_inp.weight", layer["mlp.gate.weight"]
            yield from expert_tensors(f"blk.{n}", layer["mlp.experts.gate_up_proj"], layer["mlp.experts.down_proj"],
                                      expert_style)
        else:
            for name in ("gate", "up", "down"):
                yield f"blk.{n}.ffn_{name}.weight", layer[f"mlp.{name}_proj.weight"]


def write_gguf(path, model, tensors, types=None):
    """tensors: (name, float32 array) pairs; those named in types: {name: type} hold that type's blocks as bytes."""
    types = types or {}
    architecture = "qwen3moe" if model.config.model_type == "qwen3_moe" else "llama"
    writer = gguf.GGUFWriter(path, architecture)
    add_metadata(writer, model.config)
    if not types:
        writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    add_tokenizer(writer)
    for name, array in tensors:
        writer.add_tensor(name, np.ascontiguousarray(array), raw_dtype=types.get(name))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def llama_cpp_logits(path, tokens):
    """[rows, vocab] logits of every position by llama.cpp with F32 KV; None where it cannot load the file."""
    import llama_cpp

    try:
        # One token at a time: batches of quantised rows crash llama-cpp-python 0.3.36 on a machine with AMX.
        llama = llama_cpp.Llama(str(path), n_ctx=max(64, len(tokens)), n_batch=1, logits_all=True, type_k=0, type_v=0,
                                flash_attn=False, n_threads=1, n_threads_batch=1, verbose=False)
    except ValueError:
        return None
    llama.eval(tokens)
    return np.array(llama.scores[: len(tokens)])
