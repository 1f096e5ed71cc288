#!/usr/bin/env python3
"""Writes the golden files of tests/unit/gguf with the gguf package (0.19), which is independent of our reader and writer.

    make_golden.py            writes every_type.gguf and split-*.gguf beside this script
    make_golden.py FILE.gguf  prints what the package reads from FILE, to compare with ours by eye
"""
import pathlib
import sys

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter
from gguf.constants import GGML_QUANT_SIZES

HERE = pathlib.Path(__file__).parent
# They hold activations and never stand in a file.
NOT_IN_FILES = {"Q8_1", "Q8_K"}


def bytes_of(count, seed):
    """The bytes that test code makes again: (7 i + seed) mod 256."""
    return ((np.arange(count, dtype=np.int64) * 7 + seed) % 256).astype(np.uint8)


def add(writer, name, shape, kind, seed):
    """shape in the file's order: the width of a row first."""
    block, size = GGML_QUANT_SIZES[kind]
    row = shape[0] // block * size
    data = bytes_of(row * int(np.prod(shape[1:], dtype=np.int64)), seed).reshape(list(reversed(shape[1:])) + [row])
    writer.add_tensor(name, data, raw_dtype=kind)


def every_type():
    writer = GGUFWriter(HERE / "every_type.gguf", "llama")
    writer.add_uint8("test.a_u8", 200)
    writer.add_int8("test.b_i8", -100)
    writer.add_uint16("test.c_u16", 60000)
    writer.add_int16("test.d_i16", -30000)
    writer.add_uint32("test.e_u32", 4000000000)
    writer.add_int32("test.f_i32", -2000000000)
    writer.add_float32("test.g_f32", 0.5)
    writer.add_bool("test.h_bool", True)
    writer.add_string("test.i_string", "Grüße, 世界")
    writer.add_uint64("test.j_u64", 2**64 - 1)
    writer.add_int64("test.k_i64", -(2**62))
    writer.add_float64("test.l_f64", 1e300)
    writer.add_key_value("test.m_bools", [True, False, True], GGUFValueType.ARRAY, GGUFValueType.BOOL)
    writer.add_key_value("test.n_floats", [1.0, -2.5], GGUFValueType.ARRAY, GGUFValueType.FLOAT32)
    writer.add_key_value("test.o_ints", [1, -2, 3], GGUFValueType.ARRAY, GGUFValueType.INT32)
    writer.add_key_value("test.p_strings", ["a", "", "ç"], GGUFValueType.ARRAY, GGUFValueType.STRING)
    kinds = [k for k in GGMLQuantizationType if k.name not in NOT_IN_FILES]
    for i, kind in enumerate(kinds):
        add(writer, f"tensor.{kind.name}", [256, 2], kind, i)
    add(writer, "tensor.cube", [3, 5, 2], GGMLQuantizationType.F32, 100)
    add(writer, "tensor.four", [32, 2, 3, 2], GGMLQuantizationType.Q8_0, 101)
    finish(writer)


def split():
    for part in range(3):
        writer = GGUFWriter(HERE / f"split-{part + 1:05}-of-00003.gguf", "llama")
        if part == 0:
            writer.add_uint32("llama.block_count", 2)
        writer.add_uint16("split.count", 3)
        writer.add_uint16("split.no", part)
        writer.add_int32("split.tensors.count", 4)
        if part < 2:
            add(writer, f"blk.{part}.a.weight", [32, 2], GGMLQuantizationType.Q4_0, part)
            add(writer, f"blk.{part}.b.weight", [5], GGMLQuantizationType.F32, 10 + part)
        finish(writer)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def show(path):
    reader = GGUFReader(path)
    for field in reader.fields.values():
        print(field.name, [t.name for t in field.types], field.contents())
    for tensor in reader.tensors:
        print(tensor.name, tensor.tensor_type.name, list(map(int, tensor.shape)), tensor.data_offset, tensor.n_bytes)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        show(sys.argv[1])
    else:
        every_type()
        split()
