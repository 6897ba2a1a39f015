"""A training step of TopK and BatchTopK in plain PyTorch, timed as the bench `train-step` is.

The step is that of published trainers: encoder and ReLU, `topk`, a decoder, autograd, the part of the
decoder's gradient along its rows taken away, clipping, fused Adam, unit norm, and a count of the
rows since each feature was active. Codes are decoded by a dense product, and those of TopK also by
`embedding_bag`. A measurement is the time from the first of many queued steps until the device has done
the last; the median of ten is written.

    python3 train_step.py --device cuda:0 --shapes 2048x768x16384x64 --precisions f32,bf16 --out FILE
"""

import argparse
import contextlib
import json
import statistics
import time

import torch
import torch.nn.functional as F

# The rule, and how its codes are decoded.
STEPS = [("topk", "dense"), ("topk", "bag"), ("batch-topk", "dense")]


class Step:
    """A model, its optimiser and one batch."""

    def __init__(self, shape, rule, decode, precision, device):
        rows, d, features, self.k = shape
        self.rule, self.decode, self.device, self.precision = rule, decode, device, precision
        generator = torch.Generator(device).manual_seed(1)
        random = lambda *size: torch.randn(size, generator=generator, device=device)
        self.x = random(rows, d) / d**0.5
        decoder = F.normalize(random(features, d), dim=1)
        self.encoder = torch.nn.Parameter(decoder.clone())
        self.decoder = torch.nn.Parameter(decoder)
        self.b_enc = torch.nn.Parameter(torch.zeros(features, device=device))
        self.b_dec = torch.nn.Parameter(torch.zeros(d, device=device))
        self.parameters = [self.encoder, self.decoder, self.b_enc, self.b_dec]
        self.adam = torch.optim.Adam(self.parameters, lr=1e-4, fused=True)
        self.silent = torch.zeros(features, dtype=torch.int64, device=device)

    def encode_and_decode(self):
        """The reconstruction, and the places of the codes in the dictionary."""
        z = F.relu(F.linear(self.x - self.b_dec, self.encoder, self.b_enc))
        rows, features = z.shape
        if self.rule == "topk":
            values, at = z.topk(self.k, dim=1, sorted=False)
            if self.decode == "bag":
                table = self.decoder.to(values.dtype)
                bags = F.embedding_bag(at, table, per_sample_weights=values, mode="sum")
                return bags + self.b_dec, at
            codes = torch.zeros_like(z).scatter(1, at, values)
        else:
            values, at = z.flatten().topk(self.k * rows, sorted=False)
            codes = torch.zeros_like(z).flatten().scatter(0, at, values).view(z.shape)
            at = at % features
        return F.linear(codes, self.decoder.t(), self.b_dec), at

    def __call__(self):
        half = self.precision == "bf16"
        cast = torch.autocast(self.device.type, torch.bfloat16) if half else contextlib.nullcontext()
        with cast:
            x_hat, at = self.encode_and_decode()
        loss = (x_hat.float() - self.x).square().sum(1).mean()
        loss.backward()
        with torch.no_grad():
            gradient = self.decoder.grad
            gradient -= (gradient * self.decoder).sum(1, keepdim=True) * self.decoder
            torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.adam.step()
            self.adam.zero_grad()
            self.decoder /= self.decoder.norm(dim=1, keepdim=True)
            self.silent += self.x.shape[0]
            self.silent[at.flatten()] = 0
        return loss


def synchronize(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def median_ns(step, device, seconds):
    """The median time of a step."""

    def steps(n):
        synchronize(device)
        start = time.perf_counter()
        for _ in range(n):
            loss = step()
        synchronize(device)
        return (time.perf_counter() - start) / n, loss

    steps(3)
    n = max(1, int(seconds / 10 / steps(2)[0]))
    samples = [steps(n) for _ in range(10)]
    assert torch.isfinite(samples[-1][1]), "the loss is not finite"
    return 1e9 * statistics.median(sample[0] for sample in samples)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--shapes", required=True, help="B x D x F x k, comma-separated")
    arguments.add_argument("--precisions", default="f32", help="f32, bf16")
    arguments.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    arguments.add_argument("--out", required=True, help="the file of results")
    arguments = arguments.parse_args()
    device = torch.device(arguments.device)
    suffix = "" if device.type == "cpu" else f"/{arguments.device}"
    lines = []
    for shape in arguments.shapes.split(","):
        sizes = [int(size) for size in shape.split("x")]
        for precision in arguments.precisions.split(","):
            for rule, decode in STEPS:
                step = Step(sizes, rule, decode, precision, device)
                mark = "-bf16" if precision == "bf16" else ""
                name = f"train-step/{rule}{mark}/{shape}{suffix}"
                time_ns = median_ns(step, device, arguments.seconds)
                lines.append({"id": name, "decode": decode, "median_ns": time_ns})
                print(f"{name} ({decode}): {time_ns / 1e6:.3f} ms", flush=True)
                del step
    with open(arguments.out, "w") as file:
        json.dump({"torch": torch.__version__, "steps": lines}, file, indent=2)


if __name__ == "__main__":
    main()
