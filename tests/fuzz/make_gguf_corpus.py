#!/usr/bin/env python3
"""Writes the seeds of tests/fuzz/corpus/gguf: small files by the gguf package, and lies made from them."""
import pathlib
import struct

import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter

HERE = pathlib.Path(__file__).parent / "corpus" / "gguf"


def write(name, fill):
    writer = GGUFWriter(HERE / name, "llama")
    fill(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return (HERE / name).read_bytes()


def vocabulary(writer):
    writer.add_token_list(["<unk>", "<s>", "</s>", "▁a"])
    writer.add_token_scores([0.0, 0.0, 0.0, -1.0])
    writer.add_token_types([2, 3, 3, 1])
    writer.add_bos_token_id(1)
    writer.add_add_bos_token(True)


def every_value(writer):
    kinds = GGUFValueType
    for kind in kinds:
        if kind not in (kinds.ARRAY, kinds.STRING):
            writer.add_key_value(f"one.{kind.name}", 1, kind)
            writer.add_key_value(f"many.{kind.name}", [1, 0, 1], kinds.ARRAY, kind)


def tensors(writer):
    writer.add_tensor("a.weight", np.arange(16, dtype=np.float32).reshape(2, 8))
    writer.add_tensor("b.weight", np.zeros((3, 18), np.uint8), raw_dtype=GGMLQuantizationType.Q4_0)
    writer.add_tensor("c.weight", np.zeros((1, 144), np.uint8), raw_dtype=GGMLQuantizationType.Q4_K)


def newest_types(writer):
    writer.add_tensor("a.weight", np.zeros((2, 36), np.uint8), raw_dtype=GGMLQuantizationType.NVFP4)
    writer.add_tensor("b.weight", np.zeros((2, 18), np.uint8), raw_dtype=GGMLQuantizationType.Q1_0)


def aligned(writer):
    writer.add_custom_alignment(64)
    tensors(writer)


def part(writer):
    writer.add_uint16("split.count", 2)
    writer.add_uint16("split.no", 1)
    writer.add_int32("split.tensors.count", 3)
    tensors(writer)


def main():
    HERE.mkdir(parents=True, exist_ok=True)
    write("vocabulary", vocabulary)
    write("every_value", every_value)
    write("aligned", aligned)
    write("part", part)
    write("newest_types", newest_types)
    good = write("tensors", tensors)
    (HERE / "version2").write_bytes(good[:4] + struct.pack("<I", 2) + good[8:])
    (HERE / "escape").write_bytes(good.replace(b"b.weight", "b.\u009bight".encode()))
    vocabulary_bytes = (HERE / "vocabulary").read_bytes()
    at = vocabulary_bytes.index(b"tokenizer.ggml.tokens") + len(b"tokenizer.ggml.tokens") + 8
    (HERE / "many_strings").write_bytes(vocabulary_bytes[:at] + struct.pack("<Q", 1 << 26) + bytes(256))
    (HERE / "truncated").write_bytes(good[: len(good) // 2])
    (HERE / "many_tensors").write_bytes(good[:8] + struct.pack("<Q", 1 << 19) + good[16:])
    at = good.index(b"b.weight") + len(b"b.weight") + 4
    (HERE / "overflow").write_bytes(good[:at] + struct.pack("<Q", 1 << 63) + good[at + 8 :])


if __name__ == "__main__":
    main()
