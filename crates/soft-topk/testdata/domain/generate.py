"""Writes domain.tsv: soft top-k of short rows over the whole domain, by mpmath.

    python3 generate.py > domain.tsv

Of each row: the precision, k, alpha, x, then p, ln p and dp/dk of each entry, rounded to f64. Exponents of
x, k and alpha are uniform over the range of the precision. 700 digits hold the sum of the largest and
the smallest number of f64 in units of the smallest; theta is checked by the definition of the weights.
"""

import random
import struct

from mpmath import exp, hypot, inf, log, log1p, mp, mpf, sqrt

mp.dps = 700

RANGES = {"f32": (-126, 127, 24), "f64": (-1022, 1023, 53)}
HOTTEST = {"f32": mpf(2) ** 128 * (1 - mpf(2) ** -24) / 128, "f64": mpf(2) ** 1024 * (1 - mpf(2) ** -53) / 1024}


def round_to(precision, value):
    return struct.unpack("f", struct.pack("f", value))[0] if precision == "f32" else float(value)


def number(rng, precision, low, high):
    return round_to(precision, rng.uniform(1, 1.999) * 2.0 ** rng.randint(low, high))


def threshold(x, k, alpha):
    """theta by the closed form between each two entries."""
    order = sorted(x, reverse=True)
    for above in range(len(order) + 1):
        first = order[above - 1] if above else None
        last = order[above] if above < len(order) else None
        upper = sum(exp((first - e) / alpha) for e in order[:above]) if above else mpf(0)
        lower = sum(exp((e - last) / alpha) for e in order[above:]) if above < len(order) else mpf(0)
        excess = above - k
        if first is None:
            theta = last + alpha * log(lower / (2 * k))
        elif last is None:
            theta = first + alpha * log(2 * excess / upper)
        else:
            root = hypot(excess, sqrt(upper * lower) * exp((last - first) / alpha / 2))
            if excess >= 0:
                theta = first + alpha * log((excess + root) / upper)
            else:
                theta = last - alpha * log((root - excess) / lower)
        if (last is None or theta >= last) and (first is None or theta <= first):
            return theta
    raise ValueError("no threshold")


def solve(x, k, alpha):
    x, k, alpha = [mpf(e) for e in x], mpf(k), mpf(alpha)
    theta = threshold(x, k, alpha)
    z = [(e - theta) / alpha for e in x]
    tails = [exp(-abs(e)) / 2 for e in z]
    p = [1 - t if e > 0 else t for e, t in zip(z, tails)]
    assert abs(sum(p) - k) <= k * mpf(10) ** -60, (x, k, alpha)
    logs = [log1p(-t) if e > 0 else e - log(2) for e, t in zip(z, tails)]
    return p, logs, [t / sum(tails) for t in tails]


def problem(rng, precision):
    low, high, digits = RANGES[precision]
    n = rng.randint(2, 9)
    kind = rng.randrange(5)
    # Around one exponent, over all of them, or equal up to the last digits.
    centre = rng.randint(low, high - 1)
    spread = [0, 3, 40, 3000, 0][kind]
    exponents = lambda: (max(low, centre - spread), min(high - 1, centre + spread))
    x = [rng.choice([-1, 1]) * number(rng, precision, *exponents()) for _ in range(n)]
    if kind == 4:
        x = [round_to(precision, x[0] * (1 + rng.randint(0, 3) * 2.0 ** (1 - digits))) for _ in range(n)]
    if rng.random() < 0.3:
        x[rng.randrange(n)] = rng.choice([0.0, x[0]])
    if rng.random() < 0.6:
        largest = max(abs(e) for e in x) or 1.0
        alpha = number(rng, precision, -12, 8) * 2.0 ** rng.randint(-digits, 0)
        alpha = largest * alpha if largest * alpha != float("inf") else 1.0
    else:
        alpha = number(rng, precision, low, high)
    alpha = round_to(precision, min(max(alpha, 2.0**low), float(HOTTEST[precision])))
    least = n * 2.0 ** (low + digits - 1)
    k = rng.choice([
        float(rng.randint(1, n - 1)),
        rng.uniform(0.01, n - 0.01),
        2.0 ** rng.uniform(low + digits + 4, 0),
        n - 2.0 ** rng.uniform(2 - digits, 0),
    ])
    k = round_to(precision, k)
    return x, min(max(k, least), round_to(precision, n * (1 - 2.0 ** (1 - digits)))), alpha


def named():
    yield "f64", [1e26, 1.0, -1e26, 5.0], 1.0, 1e-290
    yield "f64", [1e17, 3.0, 1.0, 0.0], 1.0, 1.0
    yield "f64", [1.7e308, -1.7e308, 0.0], 1.0, 1e-300
    yield "f64", [1.7e308, -1.7e308, 1.0], 1.5, 1e305
    yield "f64", [1.0, 1.0 + 2**-52, 3.0], 2.0, 1e-300
    for k in (1.0, 1.5, 0.25):
        yield "f32", [round_to("f32", e) for e in (3e38, -3e38, 1.0)], k, round_to("f32", 2.6e36)
    yield "f32", [round_to("f32", e) for e in (1e20, 3.0, 1.0, 0.0)], 1.0, round_to("f32", 2e-38)
    yield "f32", [round_to("f32", e) for e in (1e12, 3.0, 1.0, 0.0)], 1.0, 1.0


def main():
    rng = random.Random(7)
    rows = list(named())
    for precision in RANGES:
        rows += [(precision, *problem(rng, precision)) for _ in range(400)]
    for precision, x, k, alpha in rows:
        p, logs, shares = solve(x, k, alpha)
        text = lambda values: " ".join(repr(float(e)) for e in values)
        print(precision, repr(k), repr(alpha), text(x), text(p), text(logs), text(shares), sep="\t")


if __name__ == "__main__":
    main()
