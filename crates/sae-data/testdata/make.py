"""Writes the reference files beside this script, with numpy 2.4 and safetensors 0.8.

Values are x[i, j] = (4 i + j) / 8, which every float type here holds exactly.
"""

import json
import os

import numpy as np
from safetensors.numpy import save_file

here = os.path.dirname(os.path.abspath(__file__))
x = (np.arange(20) / 8).reshape(5, 4)


def at(name):
    return os.path.join(here, name)


# .npy: each version of the header, and what numpy writes that is not read.
for version in [(1, 0), (2, 0), (3, 0)]:
    with open(at(f"version_{version[0]}.npy"), "wb") as file:
        np.lib.format.write_array(file, x.astype("<f4"), version=version)
np.save(at("f2.npy"), x.astype("<f2"))
np.save(at("f8.npy"), x.astype("<f8"))
np.save(at("big_endian.npy"), x.astype(">f4"))
np.save(at("fortran.npy"), np.asfortranarray(x.astype("<f4")))
np.save(at("int.npy"), (8 * x).astype("<i4"))
np.save(at("bool.npy"), x > 1)
np.save(at("complex.npy"), x.astype("<c8"))
np.save(at("structured.npy"), np.zeros(5, dtype=[("a", "<f4"), ("b", "<f4")]))
np.save(at("object.npy"), np.array([[1.0, None]], dtype=object), allow_pickle=True)
np.save(at("one_dimension.npy"), x.astype("<f4").reshape(-1))
np.save(at("three_dimensions.npy"), x.astype("<f4").reshape(5, 2, 2))
np.save(at("no_rows.npy"), np.zeros((0, 4), "<f4"))
np.save(at("too_large.npy"), np.array([[1.0, 2.0], [3.0, -1e39]]))
np.save(at("too_small.npy"), np.array([[1.0, 1e-60], [0.0, 1e-60]]))
np.savez(at("archive.npz"), x=x)

# Plain safetensors; numpy has no bf16, so its bytes are the upper halves of f32.
for dtype in ["f2", "f4", "f8"]:
    save_file({"activations": x.astype("<" + dtype)}, at(f"{dtype}.safetensors"))
save_file({"x": x.astype("<f4")}, at("metadata.safetensors"), metadata={"format": "pt"})
bf16 = (x.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
header = json.dumps({"a": {"dtype": "BF16", "shape": [5, 4], "data_offsets": [0, 40]}}).encode()
with open(at("bf16.safetensors"), "wb") as file:
    file.write(len(header).to_bytes(8, "little") + header + bf16)
save_file({"a": x.astype("<f4"), "b": x.astype("<f4")}, at("two.safetensors"))
save_file({"x": (8 * x).astype("<i4")}, at("int.safetensors"))
save_file({"x": x.astype("<f4").reshape(5, 2, 2)}, at("three_dimensions.safetensors"))

# saev: 5 examples of [CLS] and 2 patches, 2 examples a shard, so that the last one is half empty.
saev = at("saev")
os.makedirs(saev, exist_ok=True)
acts = np.arange(5 * 1 * 3 * 4, dtype="<f4").reshape(5, 1, 3, 4)
shards = []
for i in range(3):
    name = f"acts{i:06}.bin"
    shard = np.memmap(os.path.join(saev, name), mode="w+", dtype="<f4", shape=(2, 1, 3, 4))
    part = acts[2 * i : 2 * i + 2]
    shard[: len(part)] = part
    shard.flush()
    shards.append({"name": name, "n_examples": len(part)})
metadata = {
    "family": "fake-clip",
    "ckpt": "hf-hub:someone/vit",
    "layers": [7],
    "content_tokens_per_example": 2,
    "cls_token": True,
    "d_model": 4,
    "n_examples": 5,
    "max_tokens_per_shard": 8,
    "data": "",
    "dataset": "/images",
    "pixel_agg": None,
    "dtype": "float32",
    "protocol": "2.1",
}
for name, value in [("metadata.json", metadata), ("shards.json", shards)]:
    with open(os.path.join(saev, name), "w") as file:
        json.dump(value, file, indent=2)
