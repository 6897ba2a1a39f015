"""Writes dequantize.safetensors and tokenizers.json beside this file.

    pip install gguf==0.19.0 sentencepiece==0.2.3 tokenizers safetensors numpy
    python generate.py TEXT_FILE

The weights are what gguf's numpy code makes of random blocks. The tokens are those of the
tokenizers and sentencepiece libraries, trained on the text file. The patterns that split words are
those that llama.cpp has for each value of `tokenizer.ggml.pre`.
"""

import io
import json
import pathlib
import sys

import gguf
import numpy as np
import sentencepiece
import tokenizers
from safetensors.numpy import save_file
from tokenizers import decoders, models, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).parent
N_BLOCKS = 3


def weights():
    rng = np.random.default_rng(0)
    # Where each type has f16 scales; random bits there would often be NaN.
    scales = {
        "F32": [], "F16": [], "BF16": [], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0],
        "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2],
        "Q5_K": [0, 2], "Q6_K": [208],
    }
    tensors = {}
    for name, offsets in scales.items():
        kind = gguf.GGMLQuantizationType[name]
        n_weights, n_bytes = gguf.GGML_QUANT_SIZES[kind]
        if offsets:
            packed = rng.integers(0, 256, (N_BLOCKS, n_bytes), dtype=np.uint8)
            for offset in offsets:
                scale = rng.normal(0, 0.1, (N_BLOCKS, 1)).astype("<f2")
                packed[:, offset : offset + 2] = scale.view(np.uint8)
            expected = gguf.dequantize(packed, kind)
        else:
            expected = rng.normal(0, 1, (N_BLOCKS, 32)).astype(np.float32)
            packed = gguf.quantize(expected, kind).view(np.uint8)
            expected = gguf.dequantize(packed if name == "BF16" else packed.view("<f2" if name == "F16" else "<f4"), kind)
        tensors[f"{name}.bytes"] = packed.reshape(-1)
        tensors[f"{name}.weights"] = np.ascontiguousarray(expected, dtype=np.float32).reshape(-1)
    save_file(tensors, HERE / "dequantize.safetensors")


TEXTS = [
    "Hello, world! It's 2024 and we've 1234567 reasons; they'LL see that I'D go.\n",
    "  two spaces,   three, \ttabs\t\tand \n\n blank lines\r\n\r\n  end   ",
    "naïve façade, Größe ΑΒΓ привет 你好世界 こんにちは 한국어 🙂👩‍👩‍👧 x²+½=Ⅻ\u00a0\u3000|",
    "def f(x):\n    if x > 0:\n        return [x**2 for _ in range(10)]  # done\n\n\n",
    "a     b          c\n\n\n\n\n\nd",
    "</s> <s>ordinary <|endoftext|>after<unk>",
    "▁ and <0x41> spelled out",
    " ",
    "",
    "'s 'S don't DON'T ''quoted'' `ticks` -- ... !?!? #hash @at 3.14159 1,000,000",
]

CONTRACTIONS = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
LLAMA3 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def split(*patterns):
    splits = [pre_tokenizers.Split(tokenizers.Regex(p), "isolated") for p in patterns]
    return pre_tokenizers.Sequence(
        [*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )


PRES = {
    "gpt-2": (split(GPT2), False),
    "smollm": (split(r"\p{N}", GPT2), False),
    "llama-bpe": (split(LLAMA3), True),
    "qwen2": (split(QWEN2), False),
}


def byte_level(pre, text, texts, n_tokens):
    splitter, whole_words = PRES[pre]
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=n_tokens,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    if whole_words:
        # A word that is a token, but that no merges make.
        whole = json.loads(tokenizer.to_str())
        model = whole["model"]
        model["vocab"]["xylograph"] = len(model["vocab"])
        model["ignore_merges"] = True
        tokenizer = tokenizers.Tokenizer.from_str(json.dumps(whole))
        texts = [*texts, "xylograph xylograph"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    return {
        "model": "gpt2",
        "pre": pre,
        "tokens": tokens,
        "types": [3 if token == "<|endoftext|>" else 1 for token in tokens],
        "merges": [" ".join(merge) for merge in model["merges"]],
        "texts": [{"text": t, "ids": tokenizer.encode(t).ids} for t in texts],
    }


def sentence_piece(prefix, text, texts, n_tokens):
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text.splitlines()),
        model_writer=out,
        vocab_size=n_tokens,
        model_type="bpe",
        byte_fallback=True,
        character_coverage=0.999,
        add_dummy_prefix=prefix,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        allow_whitespace_only_pieces=True,
        split_digits=True,
        minloglevel=2,
    )
    model = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
    ids = range(model.get_piece_size())

    def kind(i):
        tests = [model.is_unknown, model.is_control, model.is_unused, model.is_byte]
        return next((k for k, test in zip([2, 3, 5, 6], tests) if test(i)), 1)

    # Control tokens in a text are found here and not there.
    plain = [t for t in texts if "<s>" not in t]
    return {
        "model": "llama",
        "prefix": prefix,
        "tokens": [model.id_to_piece(i) for i in ids],
        "types": [kind(i) for i in ids],
        "scores": [model.get_score(i) for i in ids],
        "texts": [{"text": t, "ids": model.encode(t)} for t in plain],
    }


def tokens(text, texts, n_tokens):
    found = [byte_level(pre, text, texts, n_tokens) for pre in PRES]
    found += [sentence_piece(prefix, text, texts, n_tokens) for prefix in (True, False)]
    return found


if __name__ == "__main__":
    weights()
    text = pathlib.Path(sys.argv[1]).read_text()[:400_000]
    found = tokens(text, TEXTS, 480)
    (HERE / "tokenizers.json").write_text(json.dumps(found, ensure_ascii=False))
