"""Activations of hosts in plain PyTorch, timed as the bench `harvest` is.

The models are those of the bench, in the operations that a model file of a library has: `linear`,
`rms_norm` or `layer_norm`, `scaled_dot_product_attention`, rotary positions by halves, without a
compiler. Nothing after the hook point is computed. A measurement is one batch; the median of ten times
is written.

    python3 harvest.py --device cpu --hosts smollm2-135m,dinov2-small --out FILE
"""

import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F

BATCH = 16


class Weights:
    """Noise of the size of trained weights."""

    def __init__(self, device, kind):
        self.generator = torch.Generator(device).manual_seed(1)
        self.device, self.kind = device, kind

    def __call__(self, *shape):
        noise = torch.randn(shape, generator=self.generator, device=self.device)
        return (noise / shape[-1] ** 0.5).to(self.kind)

    def ones(self, size):
        return torch.ones(size, device=self.device, dtype=self.kind)

    def zeros(self, size):
        return torch.zeros(size, device=self.device, dtype=self.kind)


class Llama:
    """SmolLM2-135M up to `resid_post.15`."""

    positions, d, heads, kv_heads, mlp, layers, vocabulary = 128, 576, 9, 3, 1536, 16, 49152

    def __init__(self, device, kind):
        w, d, kv = Weights(device, kind), self.d, self.kv_heads * 64
        self.embedding = w(self.vocabulary, d)
        self.blocks = [
            {
                "norm1": w.ones(d), "q": w(d, d), "k": w(kv, d), "v": w(kv, d), "o": w(d, d),
                "norm2": w.ones(d), "gate": w(self.mlp, d), "up": w(self.mlp, d),
                "down": w(d, self.mlp),
            }
            for _ in range(self.layers)
        ]
        shape = (BATCH, self.positions)
        self.input = torch.randint(self.vocabulary, shape, generator=w.generator, device=device)
        frequencies = 100_000.0 ** (-torch.arange(0, 64, 2, device=device) / 64)
        angles = torch.outer(torch.arange(self.positions, device=device), frequencies)
        angles = torch.cat([angles, angles], -1)
        self.cos, self.sin = angles.cos().to(kind), angles.sin().to(kind)

    def rotate(self, x):
        half = torch.cat([-x[..., 32:], x[..., :32]], -1)
        return x * self.cos + half * self.sin

    def __call__(self):
        x = F.embedding(self.input, self.embedding)
        for block in self.blocks:
            h = F.rms_norm(x, (self.d,), block["norm1"], 1e-5)
            split = lambda y, heads: y.view(BATCH, self.positions, heads, 64).transpose(1, 2)
            q = self.rotate(split(F.linear(h, block["q"]), self.heads))
            k = self.rotate(split(F.linear(h, block["k"]), self.kv_heads))
            v = split(F.linear(h, block["v"]), self.kv_heads)
            k, v = (y.repeat_interleave(self.heads // self.kv_heads, 1) for y in (k, v))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + F.linear(y.transpose(1, 2).reshape(x.shape), block["o"])
            h = F.rms_norm(x, (self.d,), block["norm2"], 1e-5)
            h = F.silu(F.linear(h, block["gate"])) * F.linear(h, block["up"])
            x = x + F.linear(h, block["down"])
        return x


class Dinov2:
    """DINOv2-small up to `resid_post.8`."""

    positions, d, heads, mlp, layers = 257, 384, 6, 1536, 9

    def __init__(self, device, kind):
        w, d, mlp = Weights(device, kind), self.d, self.mlp
        self.patches, self.bias = w(d, 3, 14, 14), w.zeros(d)
        self.class_token, self.places = w(1, 1, d), w(1, self.positions, d)
        linear = lambda name, outputs, inputs: {
            name: (w(outputs, inputs), w.zeros(outputs))
        }
        self.blocks = [
            {
                "norm1": (w.ones(d), w.zeros(d)), "norm2": (w.ones(d), w.zeros(d)),
                "scale1": w.ones(d), "scale2": w.ones(d),
                **linear("q", d, d), **linear("k", d, d), **linear("v", d, d),
                **linear("o", d, d), **linear("up", mlp, d), **linear("down", d, mlp),
            }
            for _ in range(self.layers)
        ]
        shape = (BATCH, 3, 224, 224)
        self.input = torch.randn(shape, generator=w.generator, device=device).to(kind)

    def __call__(self):
        x = F.conv2d(self.input, self.patches, self.bias, stride=14).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(BATCH, 1, self.d), x], 1) + self.places
        for block in self.blocks:
            h = F.layer_norm(x, (self.d,), *block["norm1"], 1e-6)
            split = lambda y: y.view(BATCH, self.positions, self.heads, 64).transpose(1, 2)
            q, k, v = (split(F.linear(h, *block[name])) for name in "qkv")
            y = F.scaled_dot_product_attention(q, k, v)
            y = F.linear(y.transpose(1, 2).reshape(x.shape), *block["o"])
            x = x + y * block["scale1"]
            h = F.layer_norm(x, (self.d,), *block["norm2"], 1e-6)
            h = F.gelu(F.linear(h, *block["up"]))
            x = x + F.linear(h, *block["down"]) * block["scale2"]
        return x


HOSTS = {"smollm2-135m": Llama, "dinov2-small": Dinov2}


def synchronize(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def median_ns(host, device, seconds):
    """The median time of a batch."""

    def batches(n):
        synchronize(device)
        start = time.perf_counter()
        for _ in range(n):
            out = host()
        synchronize(device)
        return (time.perf_counter() - start) / n, out

    batches(2)
    n = max(1, int(seconds / 10 / batches(1)[0]))
    samples = [batches(n) for _ in range(10)]
    assert torch.isfinite(samples[-1][1]).all(), "the activations are not finite"
    return 1e9 * statistics.median(sample[0] for sample in samples)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--hosts", required=True, help=", ".join(HOSTS))
    arguments.add_argument("--precisions", default="f32", help="f32, bf16")
    arguments.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    arguments.add_argument("--out", required=True, help="the file of results")
    arguments = arguments.parse_args()
    device = torch.device(arguments.device)
    lines = []
    for name in arguments.hosts.split(","):
        for precision in arguments.precisions.split(","):
            kind, mark = {"f32": (torch.float32, ""), "bf16": (torch.bfloat16, "-bf16")}[precision]
            with torch.inference_mode():
                time_ns = median_ns(HOSTS[name](device, kind), device, arguments.seconds)
            line = f"harvest/{name}{mark}/{arguments.device}"
            lines.append({"id": line, "median_ns": time_ns})
            print(f"{line}: {time_ns / 1e6:.3f} ms", flush=True)
    with open(arguments.out, "w") as file:
        json.dump({"torch": torch.__version__, "steps": lines}, file, indent=2)


if __name__ == "__main__":
    main()
