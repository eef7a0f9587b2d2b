# ruff: noqa: B905 - lists of one length by construction
"""Slow textbook versions of the operators, from the papers: loops over flat float64 numbers.

Each takes experts (k, rows, cols) and base (rows, cols) as float32 numpy arrays and the knobs, and
returns float64. Selections are made on float32 task vectors, as the operators see them; sums are
plain. Nothing here shares code with merger/operators.
"""

import math
from itertools import combinations

import numpy as np

GOLDEN = 0x9E3779B97F4A7C15
MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
M64 = 2**64 - 1


def linear(experts, base, *, weight, normalize):
    """Σ w·x / Σ w, entry by entry."""
    total = sum(weight) if normalize else 1.0
    return sum(w * x.astype(float) for w, x in zip(weight, experts)) / total


def passthrough(experts, base, *, scale):
    """One expert times a scale."""
    return experts[0].astype(float) * scale[0]


def task_arithmetic(experts, base, *, weight, normalize, **knobs):
    """Base + λ·Σ w·δ (/ Σ w)."""
    return joined(base, deltas(experts, base), weight, normalize, knobs["lambda"])


def deltas(experts, base):
    """Return float32 task vectors."""
    return [(x - base).astype(np.float32) for x in experts]


def joined(base, changes, weight, normalize, scale):
    """Add all changes."""
    total = sum(w * d.astype(float) for w, d in zip(weight, changes))
    divisor = sum(weight) if normalize and abs(sum(weight)) >= 1e-8 else 1.0
    return base + scale * total / divisor


def top(magnitudes, k):
    """Mask the k largest; of equals the first ones."""
    flat = [(-m, i) for i, m in enumerate(magnitudes.flatten().tolist())]
    mask = np.zeros(magnitudes.size, bool)
    for _, i in sorted(flat)[: max(0, k)]:
        mask[i] = True
    return mask.reshape(magnitudes.shape)


def count(density, n):
    """Trim's k."""
    return n if density >= 1 else max(1, int(density * n)) if density > 0 else 0


def vote(base, changes, weight, votes, normalize, scale):
    """Algorithm 1 of TIES after trimming: elect a sign, then average the changes that share it."""
    out = base.astype(float).copy().flatten()
    flat = [c.flatten().astype(float) for c in changes]
    for i in range(out.size):
        poll = sum(float(np.float32(v) * np.float32(c[i])) for v, c in zip(votes, flat))
        sign = 1 if poll >= 0 else -1
        agree = [(w, c[i]) for w, c in zip(weight, flat) if w * c[i] * sign > 0]
        divisor = sum(w for w, _ in agree) if normalize else 1.0
        if agree:
            out[i] += scale * sum(w * c for w, c in agree) / (divisor or 1.0)
    return out.reshape(base.shape)


def ties(experts, base, *, weight, density, normalize, elect, **knobs):
    """Trim, elect, merge."""
    changes = [
        d * top(np.abs(d), count(rho, d.size)) for d, rho in zip(deltas(experts, base), density)
    ]
    votes = weight if elect == "weighted" else [1.0] * len(weight)
    return vote(base, changes, weight, votes, normalize, knobs["lambda"])


def consensus(experts, base, *, weight, density, scale, consensus):
    """θ = base + s·Σ_A pτ / Σ_A p with τ trimmed among its non-zero entries."""
    changes = []
    for d, rho in zip(deltas(experts, base), density):
        nonzero = int(np.count_nonzero(d))
        k = nonzero if rho >= 1 else max(1, int(rho * nonzero)) if nonzero else 0
        changes.append(d * top(np.abs(d), k))
    if consensus == "mean":
        return joined(base, changes, weight, True, scale)
    if consensus == "sign":
        return vote(base, changes, weight, weight, True, scale)
    out = base.astype(float)
    up = sum(w * c.astype(float) for w, c in zip(weight, changes))
    down = sum(w * (c != 0) for w, c in zip(weight, changes))
    return out + scale * np.divide(up, down, out=np.zeros_like(up), where=down != 0)


def crumbs(experts, base, density, gamma, rescale):
    """Mask both tails."""
    changes = []
    for d, rho, g in zip(deltas(experts, base), density, gamma):
        n, kept = d.size, count(rho, d.size)
        outliers = 0 if rho >= 1 else min(int(g * n), n - kept)
        mask = top(np.abs(d), kept + outliers) & ~top(np.abs(d), outliers)
        changes.append(l1(d, mask) if rescale else d * mask)
    return changes


def breadcrumbs(experts, base, *, weight, density, gamma, normalize, rescale, **knobs):
    """Middling changes, added."""
    changes = crumbs(experts, base, density, gamma, rescale)
    return joined(base, changes, weight, normalize, knobs["lambda"])


def breadcrumbs_ties(experts, base, *, weight, density, gamma, normalize, rescale, **knobs):
    """Middling changes, elected."""
    changes = crumbs(experts, base, density, gamma, rescale)
    return vote(base, changes, weight, weight, normalize, knobs["lambda"])


def l1(change, mask):
    """Give back the L1 norm that a mask takes."""
    before, after = np.abs(change).sum(dtype=float), np.abs(change * mask).sum(dtype=float)
    factor = before / after if min(before, after) >= 1e-7 else 1.0
    return change.astype(float) * mask * factor


def draw(seed, key, n):
    """Draw n numbers in [0, 1) by SplitMix64's finaliser over a counter, in plain integers."""
    k = (key & M64) ^ ((seed * GOLDEN + MIX[0]) & M64)
    for factor in MIX:
        k = ((k ^ (k >> 31)) * factor) & M64
    k ^= k >> 29
    out = []
    for i in range(n):
        z = (i * GOLDEN + k) & M64
        z = ((z ^ (z >> 30)) * MIX[0]) & M64
        z = ((z ^ (z >> 27)) * MIX[1]) & M64
        out.append(((z ^ (z >> 31)) >> 11) / 2**53)
    return np.array(out)


def dare(experts, base, density, rescale, seed):
    """Drop at random; `keys` of the experts are 0, 1, …."""
    changes = []
    for key, (d, rho) in enumerate(zip(deltas(experts, base), density)):
        mask = draw(seed, key, d.size).reshape(d.shape) < rho
        changes.append(l1(d, mask) if rescale else d * mask)
    return changes


def dare_linear(experts, base, *, weight, density, normalize, rescale, seed, **knobs):
    """Drop and add."""
    changes = dare(experts, base, density, rescale, seed)
    return joined(base, changes, weight, normalize, knobs["lambda"])


def dare_ties(experts, base, *, weight, density, normalize, rescale, seed, **knobs):
    """Drop and elect."""
    changes = dare(experts, base, density, rescale, seed)
    return vote(base, changes, weight, weight, normalize, knobs["lambda"])


def della_changes(experts, base, density, epsilon, rescale, seed):
    """Drop by rank within each row."""
    changes = []
    for key, (d, rho, eps) in enumerate(zip(deltas(experts, base), density, epsilon)):
        draws = draw(seed, key, d.size).reshape(d.shape)
        keep = np.zeros(d.shape, bool)
        for r, row in enumerate(np.abs(d)):
            order = sorted(range(len(row)), key=lambda i: (row[i], i))
            for place, i in enumerate(order):
                share = place / (len(row) - 1) if len(row) > 1 else 0.5
                keep[r, i] = draws[r, i] < (1 if rho >= 1 else rho - eps + 2 * eps * share)
        changes.append(l1(d, keep) if rescale else d * keep)
    return changes


def della(experts, base, *, weight, density, epsilon, normalize, rescale, seed, **knobs):
    """Drop by rank and elect."""
    changes = della_changes(experts, base, density, epsilon, rescale, seed)
    return vote(base, changes, weight, weight, normalize, knobs["lambda"])


def della_linear(experts, base, *, weight, density, epsilon, normalize, rescale, seed, **knobs):
    """Drop by rank and add."""
    changes = della_changes(experts, base, density, epsilon, rescale, seed)
    return joined(base, changes, weight, normalize, knobs["lambda"])


def slerp(experts, base, *, t):
    """Shoemake's formula on the vectors as they are; a straight line where they are parallel."""
    a, b = base.astype(float).flatten(), experts[0].astype(float).flatten()
    na, nb = np.linalg.norm(a), np.linalg.norm(b)
    cosine = a @ b / ((na if na > 1e-8 else 1) * (nb if nb > 1e-8 else 1))
    if abs(cosine) > 0.9995:
        made = (1 - t) * a + t * b
    else:
        w = math.acos(cosine)
        made = (math.sin((1 - t) * w) * a + math.sin(t * w) * b) / math.sin(w)
    return made.reshape(base.shape)


def turn(a, b, t):
    """Interpolate two vectors on the sphere, or on the line they share."""
    na, nb = (max(np.linalg.norm(v), 1e-7) for v in (a, b))
    w = math.acos(max(-1.0, min(1.0, float(a @ b / (na * nb)))))
    if abs(math.sin(w)) < 1e-8:
        return (1 - t) * a + t * b
    return (math.sin((1 - t) * w) * a + math.sin(t * w) * b) / math.sin(w)


def nuslerp(experts, base, *, weight, nuslerp_flatten, nuslerp_row_wise):
    """Turn as a whole, by rows, or by columns."""
    total = sum(weight)
    t = 0.5 if abs(total) < 1e-6 else weight[1] / total
    a, b = (x.astype(float) if base is None else (x - base).astype(float) for x in experts)
    if nuslerp_flatten:
        made = turn(a.flatten(), b.flatten(), t).reshape(a.shape)
    elif nuslerp_row_wise and a.shape[0] > 1:
        made = np.stack([turn(x, y, t) for x, y in zip(a.T, b.T)]).T
    else:
        made = np.stack([turn(x, y, t) for x, y in zip(a, b)])
    return made if base is None else made + base


def multislerp(experts, base, *, weight, normalize_weights, eps):
    """Mean direction, tangent step and exponential map, as published."""
    given = experts if base is None else [x - base for x in experts]
    flat = [x.astype(float).flatten() for x in given]
    w = np.array(weight) / (sum(weight) if normalize_weights else 1)
    norms = [np.linalg.norm(v) for v in flat]
    units = [v / n if n > eps else 0 * v for v, n in zip(flat, norms)]
    mean = sum(a * u for a, u in zip(w, units))
    mean = mean / np.linalg.norm(mean) if np.linalg.norm(mean) else mean
    tangent = sum(a * (u - (u @ mean) * mean) for a, u in zip(w, units))
    length = np.linalg.norm(tangent) + eps
    made = mean * math.cos(length) + tangent * math.sin(length) / length
    made = (made * sum(a * n for a, n in zip(w, norms))).reshape(experts[0].shape)
    return made if base is None else made + base


def karcher(experts, base, *, max_iter, tol):
    """Walk to the point of the sphere where the logarithms of all unit vectors cancel."""
    flat = [x.astype(float).flatten() for x in experts]
    norms = [np.linalg.norm(v) for v in flat]
    units = [v / n for v, n in zip(flat, norms) if n > tol]
    if not units:
        return experts[0] * 0.0
    mean = sum(units)
    mean = mean / np.linalg.norm(mean) if np.linalg.norm(mean) / len(units) > tol else units[0]
    for _ in range(max_iter):
        logs = []
        for u in units:
            c = max(-1.0, min(1.0, float(u @ mean)))
            w = math.acos(c)
            logs.append(0 * u if w < tol else (u - c * mean) * w / math.sin(w))
        step = sum(logs) / len(units)
        length = np.linalg.norm(step)
        if length < tol:
            break
        mean = math.cos(length) * mean + math.sin(length) * step / length
        mean /= np.linalg.norm(mean)
    scale = sum(n for n in norms if n > tol) / len(norms)
    return (scale * mean).reshape(experts[0].shape)


def model_stock(experts, base, *, filter_wise):
    """The ratio t from the mean pairwise cosine, of the tensor or of each row."""
    d = [c.astype(float) for c in deltas(experts, base)]
    rows = [[c[r] for c in d] for r in range(base.shape[0])]
    sets = rows if filter_wise else [[c.flatten() for c in d]]
    k, ratios = len(d), []
    for vectors in sets:
        cosines = [
            max(-1.0, min(1.0, x @ y / max(np.linalg.norm(x) * np.linalg.norm(y), 1e-6)))
            for x, y in combinations(vectors, 2)
        ]
        c = sum(cosines) / len(cosines)
        pole = 1 + (k - 1) * c
        ratios.append(0.0 if abs(pole) < 1e-6 else k * c / pole)
    t = np.array(ratios)[:, None] if filter_wise else ratios[0]
    return base + t * sum(d) / k


def sce(experts, base, *, select_topk):
    """Select by variance, weigh by energy, erase minorities."""
    d = deltas(experts, base)
    if select_topk < 1:
        mean = np.float32(0)
        for c in d:
            mean = mean + c
        mean = (mean / np.float32(len(d))).astype(np.float32)
        var = np.float32(0)
        for c in d:
            var = var + (c - mean) ** 2
        var = (var / np.float32(len(d))).astype(np.float32)
        mask = top(var, int(select_topk * np.count_nonzero(var)))
        d = [c * mask for c in d]
    d = [c.astype(float) for c in d]
    energy = [float((c**2).mean()) for c in d]
    total = sum(energy)
    w = [1 / len(d)] * len(d) if total < 1e-6 else [e / total for e in energy]
    sign = np.where(sum(d) >= 0, 1, -1)
    agree = [np.sign(c) == sign for c in d]
    up = sum(a * b * c for a, b, c in zip(w, agree, d))
    down = sum(a * b for a, b in zip(w, agree))
    return base + up / np.maximum(down, 1e-6)


def nearswap(experts, base, *, t):
    """Take w·b + (1 − w)·a with w = clamp(t / |a − b|)."""
    a, b = base.astype(float), experts[0].astype(float)
    w = np.clip(t / np.maximum(np.abs(a - b), 1e-6), 0, 1)
    return w * b + (1 - w) * a


def ram(experts, base, *, epsilon, factors=None):
    """Own changes whole, shared ones averaged."""
    d = deltas(experts, base)
    active = [np.abs(c) > np.float32(epsilon) for c in d]
    number = sum(a.astype(int) for a in active)
    out = base.astype(float)
    for i, (c, a) in enumerate(zip(d, active)):
        own = (factors[i] if factors else 1.0) * (number == 1) + (number != 1)
        out = out + c.astype(float) * a * own / np.maximum(number, 1)
    return out


def ramplus_tl(experts, base, *, r, alpha, epsilon):
    """RAM with own changes raised by the share of shared ones."""
    active = [np.abs(c) > np.float32(epsilon) for c in deltas(experts, base)]
    number = sum(a.astype(int) for a in active)
    factors = []
    for a in active:
        shared, own = int((a & (number > 1)).sum()), int((a & (number == 1)).sum())
        factors.append(1 + r * min(max(shared / own, 0), alpha) if own else 1.0)
    return ram(experts, base, epsilon=epsilon, factors=factors)


def norm_weighted(experts, base, *, weight, normalize, **knobs):
    """Task vectors of one length, averaged."""
    d = [c.astype(float) for c in deltas(experts, base)]
    norms = [np.linalg.norm(c) for c in d]
    mean = sum(norms) / len(norms)
    scaled = [c * mean / n if n else c * 0 for c, n in zip(d, norms)]
    return joined(base, scaled, weight, normalize, knobs["lambda"])
