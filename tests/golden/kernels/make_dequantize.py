"""Writes dequantize.bin and tensor_types.txt: what the gguf package and ggml say about GGUF's tensor types.

Run with a Python that has gguf (0.19.0) and llama-cpp-python (0.3.36):  python make_dequantize.py

dequantize.bin holds records {u32 type, u32 blocks, block bytes, f32 values}, little-endian. tensor_types.txt has a line
"number name block_size block_bytes" for each type; the sizes are asked of ggml itself (the package's table has
Q8_1 in an old layout).
"""

import ctypes
import pathlib
import struct

import gguf
import llama_cpp
import numpy as np
from gguf import GGMLQuantizationType as Type

HERE = pathlib.Path(__file__).parent
COMPUTABLE = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K",
              "IQ4_NL", "IQ4_XS", "MXFP4"]
# Byte offsets of a block's f16 scales.
SCALES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": []}
# Zero of both signs, smallest and largest subnormal, smallest normal, largest, and ordinary ones.
EXTREMES = np.array([0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x7BFF, 0xFBFF, 0x2E66, 0xA111], dtype=np.uint16)


def random_blocks(name: str, count: int, random: np.random.Generator) -> np.ndarray:
    """[count, block bytes]: every byte random, each scale finite, the extreme scales first."""
    size = gguf.GGML_QUANT_SIZES[Type[name]][1]
    blocks = random.integers(0, 256, (count, size), dtype=np.uint8)
    for offset in SCALES[name]:
        scales = random.normal(0, 0.02, count).astype(np.float16).view(np.uint16)
        scales[: len(EXTREMES)] = random.permutation(EXTREMES)[:count]
        blocks[:, offset : offset + 2] = scales.view(np.uint8).reshape(count, 2)
    if name == "MXFP4":
        blocks[:6, 0] = [0, 1, 2, 127, 254, 255]
    return blocks


def float_values(name: str, random: np.random.Generator) -> np.ndarray:
    """[n, element bytes]: ordinary values and the edges of the format."""
    if name == "F32":
        values = np.concatenate([random.normal(0, 1, 60), [0.0, -0.0, 1e-45, 3.4028235e38, np.inf, -np.inf]])
        return values.astype(np.float32).view(np.uint8).reshape(-1, 4)
    edges = {"F16": [*EXTREMES, 0x7C00, 0xFC00], "BF16": [0x0000, 0x8000, 0x0001, 0x807F, 0x0080, 0x7F7F, 0xFF80]}[name]
    bits = random.integers(0, 0x7800, 60, dtype=np.uint16) | random.integers(0, 2, 60, dtype=np.uint16) << 15
    return np.concatenate([bits, np.array(edges, dtype=np.uint16)]).view(np.uint8).reshape(-1, 2)


def main() -> None:
    random = np.random.default_rng(20261123)
    with open(HERE / "dequantize.bin", "wb") as out:
        for name in COMPUTABLE:
            block_size = gguf.GGML_QUANT_SIZES[Type[name]][0]
            if name in SCALES:
                blocks = random_blocks(name, 12 if block_size == 32 else 10, random)
            else:
                blocks = float_values(name, random)
            with np.errstate(all="ignore"):
                values = gguf.quants.dequantize(blocks.reshape(1, -1), Type[name]).astype(np.float32).ravel()
            assert len(values) == len(blocks) * block_size and not np.isnan(values).any()
            out.write(struct.pack("<II", Type[name], len(blocks)) + blocks.tobytes() + values.tobytes())

    ggml = llama_cpp.llama_cpp._lib
    ggml.ggml_blck_size.restype = ctypes.c_int64
    ggml.ggml_type_size.restype = ctypes.c_size_t
    with open(HERE / "tensor_types.txt", "w") as out:
        for number in sorted(set(Type)):
            out.write(f"{number} {number.name} {ggml.ggml_blck_size(int(number))} {ggml.ggml_type_size(int(number))}\n")


if __name__ == "__main__":
    main()
