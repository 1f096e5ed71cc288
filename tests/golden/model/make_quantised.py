"""Makes a tiny model of each tensor type that Sirocco computes: quant-*.gguf, quant-*.logits.f32 and quant.json.

    /work/peers/venv/bin/python tests/golden/model/make_quantised.py

ggml packs the weights (its ggml_quantize_chunk, through llama-cpp-python), gguf.quants, which is numpy and shares no
code with it, expands them, and transformers computes float32 logits with the expanded weights. What a forward pass
with float32 activations gives is thus known to rounding; llama.cpp, whose activations have 8 bits, differs by
tenths.
"""

import ctypes
import json
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
import torch
import transformers as hf

from gguf_export import VOCAB, gguf_tensors, llama_cpp_logits, write_gguf
from make_tiny import ROUTER_GAP, difference, logits_of, router_gap, scale_weights, shape

HERE = Path(__file__).parent
ROWS = 8
LLAMA_CPP_MEDIAN = 0.03  # of the logits' standard deviation; weights read wrongly would give about 1
Type = gguf.GGMLQuantizationType


def dense(width):
    return lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**shape(width, 1, 4, 1, width // 4, width,
                                                              tie_word_embeddings=True)))


def mixture():
    return hf.MixtralForCausalLM(hf.MixtralConfig(**shape(64, 1, 4, 2, 16, 96, num_local_experts=4, sliding_window=None,
                                                          num_experts_per_tok=2, tie_word_embeddings=True)))


# name: (constructor, type of the weights, type of the down projections, which real files often keep larger)
MODELS = {f"quant-{t.lower()}": (dense(64), Type[t], Type[t])
          for t in ("F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL", "MXFP4")}
MODELS |= {f"quant-{t.lower()}": (dense(256), Type[t], Type[t])  # blocks of 256
           for t in ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS")}
MODELS |= {"quant-moe-q4_0-q5_1": (mixture, Type.Q4_0, Type.Q5_1),
           "quant-moe-mxfp4-q8_0": (mixture, Type.MXFP4, Type.Q8_0)}

ggml = ctypes.CDLL(str(Path(llama_cpp.__file__).parent / "lib" / "libggml-base.so"))
ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3,
                                     ctypes.c_void_p]


class TypeTraits(ctypes.Structure):  # the head of ggml.h's struct ggml_type_traits
    _fields_ = [("name", ctypes.c_char_p), ("block", ctypes.c_int64), ("interleave", ctypes.c_int64),
                ("bytes", ctypes.c_size_t), ("is_quantised", ctypes.c_bool),
                ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64))]


ggml.ggml_get_type_traits.restype = ctypes.POINTER(TypeTraits)


def expand(packed, kind):
    """[..., bytes of a row] uint8 to [..., width] float32, by gguf.quants and by ggml, which must agree to the bit."""
    expanded = gguf.quants.dequantize(packed, kind).astype(np.float32)
    theirs = np.zeros_like(expanded)
    traits = ggml.ggml_get_type_traits(kind).contents
    assert traits.name.decode().lower() == kind.name.lower()
    traits.to_float(packed.ctypes.data, theirs.ctypes.data, expanded.size)
    assert np.array_equal(expanded, theirs), f"{kind.name}: gguf and ggml differ by {np.abs(expanded - theirs).max()}"
    return expanded


def pack(weight, kind):
    """[..., width] float32 to [..., bytes of a row] uint8."""
    block, size = gguf.GGML_QUANT_SIZES[kind]
    source = np.ascontiguousarray(weight, np.float32)
    packed = np.zeros((*source.shape[:-1], source.shape[-1] // block * size), np.uint8)
    rows = source.size // source.shape[-1]
    written = ggml.ggml_quantize_chunk(kind, source.ctypes.data, packed.ctypes.data, 0, rows, source.shape[-1], None)
    assert written == packed.size, f"{kind.name}: {written} bytes, expected {packed.size}"
    return packed


def is_packed(name):
    """Norms and routers stay F32, as llama.cpp leaves them."""
    return "norm" not in name and "ffn_gate_inp" not in name and "mlp.gate.weight" not in name


def expand_in_place(model, kind, down):
    for name, p in model.named_parameters():
        if is_packed(name):
            chosen = down if "down_proj" in name else kind
            p.copy_(torch.from_numpy(expand(pack(p.numpy(), chosen), chosen)))


def write(path, model, kind, down):
    """Packs the model's weights into `path`, and expands them in the model."""
    types = {name: down if "ffn_down" in name else kind for name, _ in gguf_tensors(model) if is_packed(name)}
    write_gguf(path, model, [(name, pack(array, types[name]) if name in types else array)
                             for name, array in gguf_tensors(model)], types)
    expand_in_place(model, kind, down)
    expanded = dict(gguf_tensors(model))
    for tensor in gguf.GGUFReader(path).tensors:
        stored = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        assert np.array_equal(stored, expanded[tensor.name]), f"{path.name}: {tensor.name} was not computed with"


def make(name):
    constructor, kind, down = MODELS[name]
    for seed in range(1, 1000):
        model = constructor().eval()
        scale_weights(model, seed)
        tokens = [1] + torch.randint(3, VOCAB, (ROWS - 1,), generator=torch.Generator().manual_seed(seed)).tolist()
        write(HERE / f"{name}.gguf", model, kind, down)
        if not hasattr(model.config, "num_experts_per_tok") or router_gap(model, tokens) > 10 * ROUTER_GAP:
            return model, tokens, seed
    raise SystemExit(f"{name}: no seed below 1000 keeps its experts {10 * ROUTER_GAP} apart")


def main():
    index = []
    for name, (_, kind, down) in MODELS.items():
        model, tokens, seed = make(name)
        path = HERE / f"{name}.gguf"
        logits = logits_of(model, tokens)
        (HERE / f"{name}.logits.f32").write_bytes(logits.astype("<f4").tobytes())
        peer = llama_cpp_logits(path, tokens)
        median = round(float(np.median(np.abs(peer - logits))), 6)
        if median > LLAMA_CPP_MEDIAN * logits.std():
            raise SystemExit(f"{name}: llama.cpp differs by {median}: the file does not mean what was computed")
        index.append({"model": path.name, "type": kind.name, "down_type": down.name, "tokens": tokens, "vocab": VOCAB,
                      "rows": ROWS, "file": f"{name}.logits.f32", "seed": seed,
                      "llama_cpp_difference": difference(peer, logits), "llama_cpp_median_difference": median})
        print(f"{name}: {path.stat().st_size} bytes, logits std {logits.std():.2f}, llama.cpp at most "
              f"{index[-1]['llama_cpp_difference']}, median {median}")
    (HERE / "quant.json").write_text("[\n" + ",\n".join(json.dumps(entry) for entry in index) + "\n]\n")


if __name__ == "__main__":
    main()
