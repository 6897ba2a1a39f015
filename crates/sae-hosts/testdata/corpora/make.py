"""Makes the files of this folder: corpora as other tools write them, and chats as transformers writes them out.

pip install pyarrow numpy zstandard transformers; python3 make.py [SmolLM2-135M-Instruct.Q4_1.gguf]
"""

import gzip
import json
import struct
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from transformers.utils import chat_template_utils

TEXTS = [f"Document {i}: {'naïve café ' * (i % 5)}end." for i in range(20)] + ["", "a\nb", "Document 3: again"]
IDS = [[(i * 37 + j) % 90 for j in range(i % 7)] for i in range(len(TEXTS))]
CHATS = [
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "  What is 2 < 3? "},
        {"role": "assistant", "content": "True."},
        {"role": "user", "content": "Thanks"},
        {"role": "assistant", "content": "Bye"},
    ],
    [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "im_end"}],
]

table = pa.table({
    "number": pa.array(range(len(TEXTS)), pa.int64()),
    "text": pa.array(TEXTS, pa.string()),
    "long": pa.array(TEXTS, pa.large_string()),
    "ids": pa.array(IDS, pa.list_(pa.int32())),
    "wide": pa.array(IDS, pa.large_list(pa.int64())),
    "inner": pa.array([{"text": text} for text in TEXTS], pa.struct([("text", pa.string())])),
    "messages": pa.array([CHATS[i % 2] for i in range(len(TEXTS))]),
    "score": pa.array([0.5] * len(TEXTS)),
})
for codec in ["none", "snappy", "gzip", "zstd", "brotli", "lz4"]:
    version = "2.0" if codec in ("zstd", "none") else "1.0"
    pq.write_table(table, f"{codec}.parquet", compression=codec, row_group_size=9, data_page_version=version,
                   data_page_size=64, write_page_checksum=True, use_dictionary=codec != "gzip")
holes = pa.table({
    "text": pa.array(["a", None, "c"]),
    "bytes": pa.array([b"a", b"b\xff", b"c"], pa.binary()),
    "ids": pa.array([[1, 2], None, [3]], pa.list_(pa.int64())),
    "nulls": pa.array([[1], [2, None], []], pa.list_(pa.int64())),
    "large": pa.array([[1], [1 << 40], [-1]], pa.list_(pa.int64())),
})
pq.write_table(holes, "holes.parquet")
pq.write_table(table.slice(0, 0), "empty.parquet")

lines = "".join(json.dumps({"id": i, "text": text, "meta": {"ids": ids}}, ensure_ascii=i % 2 == 0) + "\n"
                for i, (text, ids) in enumerate(zip(TEXTS, IDS)))
middle = lines.index("\n", len(lines) // 2) + 1
first, second = lines[:middle].encode(), lines[middle:].encode()
open("lines.jsonl", "wb").write(first + b"\n" + second)
# Two members and two frames, one after another.
open("lines.jsonl.gz", "wb").write(gzip.compress(first, mtime=0) + gzip.compress(second, mtime=0))
compress = zstandard.ZstdCompressor().compress
open("lines.jsonl.zst", "wb").write(compress(first) + compress(second))

stream = np.array([id for ids in IDS for id in [*ids, 99]])
for name, dtype in [("u2", "<u2"), ("u4", "<u4"), ("i4", "<i4"), ("i8", "<i8"), ("big", ">u2"), ("float", "<f4")]:
    np.save(f"stream-{name}.npy", stream.astype(dtype))
np.save("rows.npy", np.arange(60, dtype="<u2").reshape(6, 10))
stream.astype("<u2").tofile("stream-u2.bin")
stream.astype("<u4").tofile("stream-u4.bin")

TEMPLATES = {
    "marks": "{% for message in messages %}\n    {{- '<|' + message['role'] + '|>' + '\\n' }}\n"
    "    {% generation %}{{ message.content | trim }}{% endgeneration %}\n    {{ eos_token }}\n{% endfor %}\n"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}",
    "strict": "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'].strip() %}"
    "{% set loop_messages = messages[1:] %}{% else %}{% set system = none %}{% set loop_messages = messages %}"
    "{% endif %}{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}{% endif %}{% if message['role'] == 'user' %}"
    "[INST] {% if loop.first and system is not none %}{{ system + '\\n\\n' }}{% endif %}{{ message['content'].strip() }}"
    " [/INST]{% else %} {{ message['content'].strip() }}{{ eos_token }}{% endif %}{% endfor %}",
    "tools": "{%- set ns = namespace(n=0) %}\n{%- for message in messages %}\n  {%- set ns.n = ns.n + 1 %}\n"
    "  {%- if message.role == 'system' %}\n    {%- continue %}\n  {%- endif %}\n"
    "  {{- ns.n }} {{ loop.last }} {{ message.tool_calls is defined }} {{ message | tojson }}\n"
    "  {%- for key, value in message.items() %}\n    {{- key.upper() }}={{ value.split(' ')[0].title() }};\n  {%- endfor %}\n"
    "{%- endfor %}\n{{- messages[0] | tojson(indent=2) }}\n{{- 1.0 }} {{ 7 // 2 }} {{ none }} {{ 'a' if tools else 'b' }}",
}
if len(sys.argv) > 1:
    data = open(sys.argv[1], "rb").read(4 << 20)
    at = data.index(b"tokenizer.chat_template") + len(b"tokenizer.chat_template")
    kind, length = struct.unpack("<IQ", data[at:at + 12])
    assert kind == 8
    TEMPLATES["smollm2"] = data[at + 12:at + 12 + length].decode()
tokens = {"bos_token": "<s>", "eos_token": "</s>"}
chats = []
for name, template in TEMPLATES.items():
    used = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"} if name == "smollm2" else tokens
    texts, _ = chat_template_utils.render_jinja_template(conversations=CHATS, chat_template=template, **used)
    case = {"name": name, "texts": texts}
    if name != "smollm2":
        case["template"] = template
    chats.append(case)
open("chats.jsonl", "w").writelines(json.dumps({"messages": messages}) + "\n" for messages in CHATS)
expected = {"texts": TEXTS, "ids": IDS, "rendered": chats}
json.dump(expected, open("expected.json", "w"), ensure_ascii=False, indent=1)
