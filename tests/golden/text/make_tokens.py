"""Writes the vocabularies and tokens.json, splits.json: what the references make of texts.json.

Run in a venv with the packages that references.py names:
  python3 make_tokens.py [FOLDER_WITH_SMOLLM2_GGUF]
"""
import json
import pathlib
import sys

from references import (DATA, HERE, SPLITS, TEKKEN_RANKS, TEXTS, sentencepiece, sentencepiece_path, smollm2, tekken, tiny,
                        tiny_document, write_sentencepiece, write_tekken)  # fmt: skip


def dump(name, value):
    """One line for each entry, so that a change shows which text it is about."""
    parts = ",\n".join(f"{json.dumps(k)}: [\n" + ",\n".join(json.dumps(v, separators=(",", ":")) for v in values) + "\n]"
                       for k, values in value.items())  # fmt: skip
    (HERE / name).write_text("{" + parts + "}\n")


def main():
    write_sentencepiece(sentencepiece_path(), HERE / "mistral-v7.vocab.gguf")
    write_tekken(json.loads((DATA / "tekken_240911.json").read_text()), TEKKEN_RANKS, HERE / "tekken-20k.vocab.gguf")

    mistral, tekken_20k = sentencepiece(), tekken()
    tokens = {
        "mistral-v7": [mistral.encode(t, bos=False, eos=False) for t in TEXTS],
        "tekken-20k": [tekken_20k.encode(t, bos=False, eos=False) for t in TEXTS],
    }
    for name in ("gpt-2", "smollm", "llama-bpe", "qwen2"):
        tokenizer = tiny(name)
        (HERE / f"tiny-{name}.json").write_text(json.dumps(tiny_document(name, tokenizer), indent=0) + "\n")
        for special in (False, True):
            tokenizer.encode_special_tokens = not special
            key = f"tiny-{name}" + ("/special" if special else "")
            tokens[key] = [tokenizer.encode(t, add_special_tokens=False).ids for t in TEXTS]
    if len(sys.argv) > 1:
        real = smollm2(pathlib.Path(sys.argv[1])).backend_tokenizer
        for special in (False, True):
            real.encode_special_tokens = not special
            key = "smollm2" + ("/special" if special else "")
            tokens[key] = [real.encode(t, add_special_tokens=False).ids for t in TEXTS]
    dump("tokens.json", tokens)

    # The pieces as lengths in bytes: together they are the whole text.
    splits = {}
    for name, split in SPLITS.items():
        splits[name] = [[len(piece.encode()) for piece, _ in split.pre_tokenize_str(t)] for t in TEXTS]
    dump("splits.json", splits)


main()
