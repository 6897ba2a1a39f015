"""What transformers does with folders of small tokenizers: leading tokens, ids and special tokens.

Run once for each version, without torch; the results of each lie in a file of its own:

    pip install transformers==4.57.6 && python generate.py cases.json transformers4.json
    pip install transformers==5.24.0 && python generate.py cases.json transformers5.json
"""

import json
import os
import sys
import tempfile

os.environ["TRANSFORMERS_VERBOSITY"] = "critical"
os.environ["HF_HUB_OFFLINE"] = "1"
from transformers import AutoTokenizer

TOKENS = "<unk> <s> </s> <x> <y> a b c A x y s Ġ Ġa Ġb Ġ< < > / ab".split()
VOCABULARY = {token: id for id, token in enumerate(TOKENS)}


def flags(**given):
    names = ["single_word", "lstrip", "rstrip", "normalized", "special"]
    return {name: given.get(name, False) for name in names}


def added(content, **given):
    return {"id": VOCABULARY[content], "content": content, **flags(**given)}


def template(*tokens):
    single = [{"SpecialToken": {"id": token, "type_id": 0}} for token in tokens]
    special = {t: {"id": t, "ids": [VOCABULARY[t]], "tokens": [t]} for t in tokens}
    a = {"Sequence": {"id": "A", "type_id": 0}}
    b = {"Sequence": {"id": "B", "type_id": 1}}
    return {"type": "TemplateProcessing", "single": [*single, a], "pair": [a, b], "special_tokens": special}


def tokenizer(x=None, normalizer=None, post_processor=None):
    """What differs from `BASE`."""
    parts = {}
    if x:
        parts["added_tokens"] = [*BASE["added_tokens"], x]
    if normalizer:
        parts["normalizer"] = normalizer
    if post_processor:
        parts["post_processor"] = post_processor
    return parts


BASE = {
    "version": "1.0", "truncation": None, "padding": None,
    "added_tokens": [added(token, special=True) for token in ["<unk>", "<s>", "</s>"]],
    "normalizer": None,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    "post_processor": None, "decoder": None,
    "model": {
        "type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": "",
        "end_of_word_suffix": "", "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
        "vocab": VOCABULARY, "merges": [["Ġ", "a"], ["Ġ", "b"], ["Ġ", "<"], ["a", "b"]],
    },
}


def cases():
    for name in ["PreTrained", "Llama", "CodeLlama", "Gemma", "Cohere", "GPT2", "GPTNeoX", "Qwen2"]:
        for puts in [None, template("<s>")]:
            for adds in [None, True, False]:
                config = {"tokenizer_class": f"{name}TokenizerFast", "bos_token": "<s>", "unk_token": "<unk>"}
                if adds is not None:
                    config["add_bos_token"] = adds
                label = f"bos: {name}, {'one' if puts else 'none'}, add_bos_token {adds}"
                yield label, {"tokenizer.json": tokenizer(post_processor=puts), "tokenizer_config.json": config}

    def case(label, json, config=None, **files):
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>", **(config or {})}
        names = {"map": "special_tokens_map.json", "added": "added_tokens.json"}
        files = {names[name]: content for name, content in files.items()}
        return label, {"tokenizer.json": json, "tokenizer_config.json": config, **files}

    def listed(content="<x>", **given):
        return {"added_tokens_decoder": {str(VOCABULARY[content]): {"content": content, **flags(**given)}}}

    plain, lower = added("<x>"), {"type": "Lowercase"}
    yield case("flags: none listed", tokenizer(plain))
    for flag in ["single_word", "lstrip", "rstrip", "normalized", "special"]:
        yield case(f"flags: {flag} listed", tokenizer(plain), listed(**{flag: True}))
        yield case(f"flags: {flag} not listed", tokenizer(added("<x>", **{flag: True})), listed())
        yield case(f"flags: {flag} new", tokenizer(), listed(**{flag: True}))
    yield case("flags: normalized listed, lower", tokenizer(plain, lower), listed(normalized=True))
    yield case("flags: normalized not listed, lower", tokenizer(added("<x>", normalized=True), lower), listed())
    yield case("flags: both normalized, lower", tokenizer(added("<x>", normalized=True), lower), listed(normalized=True))
    yield case("roles: bos string", tokenizer(plain), {"bos_token": "<x>"})
    yield case("roles: bos object", tokenizer(plain), {"bos_token": {"__type": "AddedToken", "content": "<x>", **flags(lstrip=True)}})
    yield case("roles: bos string of the vocabulary", tokenizer(), {"bos_token": "<x>"})
    yield case("roles: pad", tokenizer(plain), {"pad_token": "<x>"})
    yield case("roles: additional", tokenizer(), {"additional_special_tokens": ["<x>", "<y>"]})
    yield case("roles: named", tokenizer(), {"extra_special_tokens": {"image_token": "<y>"}})
    yield case("roles: listed without special", tokenizer(plain), {"bos_token": "<x>", **listed()})
    yield case("map: additional", tokenizer(plain), map={"additional_special_tokens": ["<y>"]})
    yield case("map: bos object", tokenizer(), map={"bos_token": {"__type": "AddedToken", "content": "<x>", **flags(lstrip=True)}})
    yield case("map: bos of both", tokenizer(plain), {"bos_token": "<s>"}, map={"bos_token": "<x>"})
    yield case("map: bos of both, listed", tokenizer(plain), {"bos_token": "<s>", **listed()}, map={"bos_token": "<x>"})
    yield case("map: pad, listed", tokenizer(), listed(), map={"pad_token": "<y>"})
    yield case("added: y", tokenizer(plain), added={"<y>": VOCABULARY["<y>"]})
    yield case("added: y, listed", tokenizer(plain), listed(), added={"<y>": VOCABULARY["<y>"]})
    yield case("split special", tokenizer(added("<x>", special=True)), {"split_special_tokens": True})


def result(files):
    with tempfile.TemporaryDirectory() as folder:
        whole = {**BASE, **files["tokenizer.json"]}
        others = {"tokenizer.json": whole, "config.json": {"model_type": "gpt2"}}
        for name, content in {**files, **others}.items():
            with open(os.path.join(folder, name), "w") as file:
                json.dump(content, file)
        loaded = AutoTokenizer.from_pretrained(folder)
    ids = [loaded(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    full = loaded("ab", add_special_tokens=True)["input_ids"]
    own = loaded("ab", add_special_tokens=False)["input_ids"]
    state = json.loads(loaded.backend_tokenizer.to_str())["added_tokens"]
    special = {token["id"] for token in state if token["special"]} | set(loaded.all_special_ids)
    return {
        "lead": full[: len(full) - len(own)],
        "ids": ids,
        "special": sorted(special),
        "bos": loaded.bos_token_id,
    }


TEXTS = ["a <x> b<x>ba<x> a A", "<y> a<y>b a<X>b", "<s>a </s> <x>"]

if __name__ == "__main__":
    to_cases, to_results = sys.argv[1:]
    listed = list(cases())
    for path, content in [
        (to_cases, {"texts": TEXTS, "base": BASE, "folders": dict(listed)}),
        (to_results, {label: result(files) for label, files in listed}),
    ]:
        with open(path, "w") as file:
            text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
            file.write(text.replace('},"', '},\n"') + "\n")
