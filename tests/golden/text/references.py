"""The independent tokenisers that the goldens come from, and the small vocabularies they are made on.

Needs mistral-common, sentencepiece, tokenizers, transformers and gguf. Files, in this folder:
  mistral-v7.vocab.gguf   the whole sentencepiece vocabulary of Mistral v7 (mistral-common's wheel, Apache-2.0)
  tekken-20k.vocab.gguf   Tekken's first 20000 ranks (the same wheel): BPE by rank is consistent on a prefix
  tiny-*.json             byte-level BPE of a few hundred tokens trained on texts.json by the tokenizers package
"""
import base64
import json
import pathlib
import tempfile

import gguf
import mistral_common
import tokenizers
from mistral_common.tokens.tokenizers.base import TokenizerVersion
from mistral_common.tokens.tokenizers.sentencepiece import SentencePieceTokenizer
from mistral_common.tokens.tokenizers.tekken import Tekkenizer
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).parent
DATA = pathlib.Path(mistral_common.__file__).parent / "data"
TEXTS = json.loads((HERE / "texts.json").read_text())

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
TEKKEN_RANKS = 20000

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")  # fmt: skip
QWEN2 = LLAMA3.replace("{1,3}", "")
TEKKEN = json.loads((DATA / "tekken_240718.json").read_text())["config"]["pattern"]
BYTE_LEVEL = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def by_regex(pattern):
    return pre_tokenizers.Split(Regex(pattern), behavior="isolated", invert=False)


# The pre-tokenisers as the models' own tokenizer.json has them, without the mapping to the byte alphabet.
GPT2_SPLIT = by_regex(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
SPLITS = {
    "gpt-2": GPT2_SPLIT,
    "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), GPT2_SPLIT]),
    "llama-bpe": by_regex(LLAMA3),
    "qwen2": by_regex(QWEN2),
    "tekken": by_regex(TEKKEN),
}
CONTROLS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
USER_DEFINEDS = ["<think>", "</think>", "<tool_call>", "  \n"]


def byte_alphabet():
    """GPT-2's byte to character table, computed from its definition."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(0x100 + i) for i, b in enumerate(others)}


def byte_text(data):
    table = byte_alphabet()
    return "".join(table[b] for b in data)


# ---- Mistral


def sentencepiece_path():
    return DATA / "mistral_instruct_tokenizer_241114.model.v7"


def sentencepiece(version="v7"):
    return SentencePieceTokenizer(sentencepiece_path(), tokenizer_version=TokenizerVersion(version))


def tekken(version="v3"):
    data = json.loads((DATA / "tekken_240911.json").read_text())
    data["vocab"] = data["vocab"][:TEKKEN_RANKS]
    data["config"] |= {"default_vocab_size": 1000 + TEKKEN_RANKS, "num_vocab_tokens": TEKKEN_RANKS, "version": version}
    data.pop("image", None)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "tekken.json"
        path.write_text(json.dumps(data))
        return Tekkenizer.from_file(path)


def write_vocabulary(path, model, pre, tokens, kinds, scores=None):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(model)
    if pre:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    if scores:
        writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def write_sentencepiece(source, path):
    """As llama.cpp's converter does it: [REFERENCE_DOC_*], user-defined in the original, come out normal."""
    from sentencepiece import SentencePieceProcessor

    model = SentencePieceProcessor(model_file=str(source))
    ids = range(model.vocab_size())

    def kind(i):
        if model.is_unknown(i):
            return UNKNOWN
        return CONTROL if model.is_control(i) else BYTE if model.is_byte(i) else NORMAL

    write_vocabulary(path, "llama", None, [model.id_to_piece(i) for i in ids], [kind(i) for i in ids],
                     [model.get_score(i) for i in ids])  # fmt: skip


def write_tekken(data, ranks, path):
    specials = [t["token_str"] for t in Tekkenizer.DEPRECATED_SPECIAL_TOKENS]
    specials += [f"<SPECIAL_{i}>" for i in range(len(specials), 1000)]
    tokens = [byte_text(base64.b64decode(t["token_bytes"])) for t in data["vocab"][:ranks]]
    write_vocabulary(path, "gpt2", "tekken", specials + tokens, [CONTROL] * 1000 + [NORMAL] * len(tokens))


# ---- byte-level BPE of the tokenizers package


def tiny(name):
    """A tokeniser whose pre-tokeniser, normaliser and use of merges are those of the models called `name`."""
    out = tokenizers.Tokenizer(models.BPE(ignore_merges=name == "llama-bpe"))
    if name == "qwen2":
        out.normalizer = normalizers.NFC()
    if name in ("gpt-2", "smollm"):
        digits = [pre_tokenizers.Digits(individual_digits=True)] if name == "smollm" else []
        out.pre_tokenizer = pre_tokenizers.Sequence([*digits, BYTE_LEVEL])
    else:
        no_regex = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        out.pre_tokenizer = pre_tokenizers.Sequence([SPLITS[name], no_regex])
    out.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=900, min_frequency=2, special_tokens=CONTROLS, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())  # fmt: skip
    out.train_from_iterator(TEXTS, trainer)
    out.add_tokens([tokenizers.AddedToken(text, normalized=False) for text in USER_DEFINEDS])
    return out


def tiny_document(name, tokenizer):
    """What a GGUF file would say of it, as JSON."""
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    tokens = sorted(vocabulary, key=vocabulary.get)
    assert [vocabulary[t] for t in tokens] == list(range(len(tokens)))
    kinds = [CONTROL if t in CONTROLS else USER_DEFINED if t in USER_DEFINEDS else NORMAL for t in tokens]
    merges = [" ".join(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
    return {"pre": name, "tokens": tokens, "token_type": kinds, "merges": merges}


def smollm2(folder):
    """SmolLM2 as transformers builds it from the GGUF file, with the digits rule that its tokenizer.json has and
    transformers' conversion loses."""
    from transformers import AutoTokenizer

    files = sorted(folder.glob("*.gguf"))
    out = AutoTokenizer.from_pretrained(folder, gguf_file=files[0].name)
    out.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), BYTE_LEVEL]
    )
    return out
