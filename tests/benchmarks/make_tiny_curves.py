"""Curves of many tiny GPTs trained side by side: one stack of weights, one pass per step for all members.

A single TinyGPT of 10,000 parameters spends most of a step on Python; a stack of forty spends it on arithmetic.

    python tests/benchmarks/make_tiny_curves.py OUT [GROUP...]

Writes OUT/<group>.npz with every step's loss, and OUT/tiny_curves.json with what `bench_forecast.py` reads of it: ten
minutes of one thread without the groups of healthy and faulty runs, whose stacks of fifty and more take five each.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from scalestop.lab.corpus import load_corpus
from scalestop.lab.data import FixedWindows, TrainStream, batch_size_for
from scalestop.lab.dims import GPTDims
from scalestop.lab.tiny_gpt import TinyGPT, _rotary_angles, _rotate, default_lr

CONTEXT = 128


def factor(u: np.ndarray, kind: str) -> np.ndarray:
    """Rate as a share of its peak at share `u` of the run."""
    warm = np.minimum(1.0, 0.01 + 0.99 * u / 0.1)
    if kind == "recipe":  # linear, last half
        return np.minimum(warm, np.minimum(1.0, (1 - u) / 0.5))
    if kind == "constant":
        return warm
    if kind == "cosine":
        return np.where(u < 0.1, warm, 0.05 + 0.95 * (1 + np.cos(np.pi * (u - 0.1) / 0.9)) / 2)
    if kind == "wsd":
        return np.minimum(warm, np.where(u > 0.8, 1 - np.sqrt(np.clip((u - 0.8) / 0.2, 0, 1)), 1.0))
    if kind == "linear":
        return np.minimum(warm, 0.02 + 0.98 * (1 - u) / 0.9)
    if kind == "two-stage":
        return np.where(u < 0.1, warm, np.where(u < 0.55, 1.0, 0.25))
    if kind == "no-warmup":
        return np.minimum(1.0, (1 - u) / 0.5)
    raise ValueError(kind)


def forward(w: dict[str, torch.Tensor], ids: torch.Tensor, labels: torch.Tensor, dims: GPTDims) -> torch.Tensor:
    """Mean loss of each member: ids and labels are [members, batch, time]."""
    m, b, t = ids.shape
    d, h = dims.width, dims.num_heads
    rot = _rotary_angles(t, d // h, ids.device)
    offset = 256 * torch.arange(m)[:, None, None]
    table = w["embedding.weight"]
    x = F.embedding((ids + offset).view(m, b * t), table.reshape(m * 256, d))
    norm = lambda x, name: F.layer_norm(x, (d,)) * w[name][:, None]  # noqa: E731
    for i in range(dims.depth):
        p = f"blocks.{i}."
        qkv = torch.bmm(norm(x, p + "attention_norm.weight"), w[p + "qkv.weight"].transpose(1, 2))
        heads = qkv.view(m * b, t, 3 * h, -1)
        qk, v = heads.split((2 * h, h), dim=2)
        q, k = _rotate(qk, rot).split(h, dim=2)
        a = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True)
        x = x + torch.bmm(a.transpose(1, 2).reshape(m, b * t, d), w[p + "attention_out.weight"].transpose(1, 2))
        up = torch.bmm(norm(x, p + "mlp_norm.weight"), w[p + "up.weight"].transpose(1, 2))
        x = x + torch.bmm(F.gelu(up), w[p + "down.weight"].transpose(1, 2))
    logits = torch.bmm(norm(x, "norm.weight"), table.transpose(1, 2))
    loss = F.cross_entropy(logits.view(-1, 256), labels.reshape(-1), reduction="none")
    return loss.view(m, -1).mean(1)


def train(width: int, tokens: int, members: list[dict], out: Path, name: str) -> None:
    """Train one stack; all members have one size and one length."""
    corpus = load_corpus(None)
    dims = GPTDims(width, 3, 1)
    batch = batch_size_for(tokens)
    per_step = batch * CONTEXT
    steps = tokens // per_step
    models = []
    for member in members:
        torch.manual_seed(1000 + member["seed"])
        models.append(TinyGPT(width=width, depth=3, num_heads=1).state_dict())
    names = [k for k in models[0] if k != "head.weight"]
    w = {k: torch.stack([m[k] for m in models]).requires_grad_() for k in names}
    first = {k: torch.zeros_like(v) for k, v in w.items()}
    second = {k: torch.zeros_like(v) for k, v in w.items()}
    peak = np.array([default_lr(width, per_step) * m.get("rate", 1.0) for m in members])
    u = np.arange(steps) / steps
    factors = np.stack([factor(u, m.get("schedule", "recipe")) for m in members])
    rates = torch.tensor(peak[:, None] * factors, dtype=torch.float32)
    streams = [TrainStream(corpus.train, CONTEXT, batch, m["seed"]) for m in members]
    shard = [None if not m.get("shard") else m["shard"] // batch for m in members]
    noise = [m.get("label_noise", 0.0) for m in members]
    gen = torch.Generator().manual_seed(7)
    val = list(FixedWindows(corpus.val, CONTEXT, 32, 65536))
    small = val[:: max(1, len(val) // 3)][:3]
    losses = np.empty((steps, len(members)), dtype=np.float32)
    val_curve = []

    def validate(batches: list) -> list[float]:
        with torch.no_grad():
            sums = torch.zeros(len(members))
            for some in batches:
                ids = some["input_ids"].expand(len(members), -1, -1)
                sums += forward(w, ids, some["labels"].expand(len(members), -1, -1).contiguous(), dims)
        return (sums / len(batches)).tolist()

    began = time.time()
    marks = {round(steps * k / 20) for k in range(1, 20)}
    for step in range(steps):
        got = [s.batch(step if k is None else step % k) for s, k in zip(streams, shard, strict=True)]
        ids = torch.stack([g["input_ids"] for g in got])
        labels = torch.stack([g["labels"] for g in got])
        for j, share in enumerate(noise):
            if share:
                bad = torch.rand(labels[j].shape, generator=gen) < share
                labels[j][bad] = torch.randint(256, (int(bad.sum()),), generator=gen)
        loss = forward(w, ids, labels, dims)
        grads = torch.autograd.grad(loss.sum(), list(w.values()))
        losses[step] = loss.detach().numpy()
        with torch.no_grad():
            c1, c2 = 1 - 0.9 ** (step + 1), 1 - 0.95 ** (step + 1)
            for (k, p), g in zip(w.items(), grads, strict=True):
                lr = rates[:, step].view(-1, *[1] * (p.ndim - 1))
                if p.ndim == 3:
                    p.mul_(1 - 0.1 * lr)
                first[k].lerp_(g, 0.1)
                second[k].mul_(0.95).addcmul_(g, g, value=0.05)
                p.sub_(lr / c1 * first[k] / ((second[k] / c2).sqrt_().add_(1e-8)))
        if step + 1 in marks:
            val_curve.append((step + 1, validate(small)))
    final = validate(val)
    small_final = validate(small)
    np.savez_compressed(
        out / f"{name}.npz",
        losses=losses,
        factors=factors.astype(np.float32),
        peak=peak,
        val_steps=np.array([v[0] for v in val_curve] + [steps]),
        val=np.array([v[1] for v in val_curve] + [small_final], dtype=np.float32),
        final=np.array(final),
        meta=json.dumps({"width": width, "num_params": dims.num_params, "per_step": per_step, "members": members}),
    )
    print(name, dims.num_params, steps, per_step, f"{time.time() - began:.0f}s", np.round(final[:6], 3), flush=True)


SCHEDULES = ("recipe", "constant", "cosine", "wsd", "linear", "two-stage")
FAULTS = [
    *({"rate": 3.0, "fault": "rate x3"},) * 10,
    *({"rate": 1 / 3, "fault": "rate /3"},) * 10,
    *({"label_noise": 0.05, "fault": "label noise"},) * 10,
    *({"shard": 64, "fault": "shard"},) * 10,
    *({"schedule": "no-warmup", "fault": "no warm-up"},) * 10,
]
seeds = lambda n, start: [{"seed": start + i} for i in range(n)]  # noqa: E731
GROUPS = {
    "pilots_8_150k": (8, 150_000, seeds(4, 0)),
    "pilots_8_300k": (8, 300_000, seeds(4, 10)),
    "pilots_12_200k": (12, 200_000, seeds(4, 20)),
    "pilots_12_600k": (12, 600_000, seeds(3, 30)),
    "pilots_16_300k": (16, 300_000, seeds(4, 40)),
    "schedules_8_300k": (8, 300_000, [{"seed": 50 + i, "schedule": s} for i, s in enumerate(SCHEDULES)]),
    "schedules_12_400k": (12, 400_000, [{"seed": 60 + i, "schedule": s} for i, s in enumerate(SCHEDULES)]),
    "schedules_24_1200k": (24, 1_200_000, [{"seed": 70 + i, "schedule": s} for i, s in enumerate(SCHEDULES)]),
    "faults_12_400k": (12, 400_000, [{"seed": 100 + i, **f} for i, f in enumerate(FAULTS)]),
    "faults_8_150k": (8, 150_000, [{"seed": 500 + i, **f} for i, f in enumerate(FAULTS)]),
    "healthy_8_150k": (8, 150_000, seeds(200, 1000)),
    **{f"healthy_12_400k_{k}": (12, 400_000, seeds(50, 200 + 50 * k)) for k in range(4)},
}


def pack(folder: Path, group: str, most: int = 128) -> list[dict]:
    """Return a group's runs as plain data: training loss in some `most` windows, the rate, and validation."""
    found = np.load(folder / f"{group}.npz")
    meta = json.loads(str(found["meta"]))
    losses, per_step = found["losses"].astype(float), meta["per_step"]
    steps = len(losses)
    size = max(1, round(steps / most))
    count = steps // size
    rows = []
    for j, member in enumerate(meta["members"]):
        windows = losses[: count * size, j].reshape(count, size)
        rate = np.append(found["factors"][j], found["factors"][j][-1]).astype(float) * found["peak"][j]
        jumps = np.flatnonzero(np.abs(np.diff(rate)) > 0.05 * rate.max())
        nodes = np.unique(np.concatenate([np.round(np.linspace(0, steps, 120)), jumps, jumps + 1]).astype(int))
        columns = {
            "tokens": (np.arange(count) + 0.5) * size * per_step,
            "loss": windows.mean(1),
            "error": np.maximum(windows.std(1, ddof=1) / np.sqrt(size), 1e-3) if size > 1 else np.full(count, 0.3),
            "path_tokens": nodes * per_step,
            "path_steps": nodes,
            "path_rate": rate[nodes],
            "val_tokens": found["val_steps"].astype(float) * per_step,
            "val_loss": found["val"][:, j].astype(float),
        }
        rows.append(
            {
                "group": group,
                "seed": member["seed"],
                "schedule": member.get("schedule", "recipe"),
                "num_params": meta["num_params"],
                "final_val_loss": float(found["final"][j]),
                **{name: [float(f"{value:.5g}") for value in column] for name, column in columns.items()},
            }
        )
    return rows


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    chosen = sys.argv[2:] or [name for name in GROUPS if name.startswith(("pilots", "schedules"))]
    for group in chosen:
        train(*GROUPS[group], folder, group)
    packed = [row for group in chosen if group.startswith(("pilots", "schedules")) for row in pack(folder, group)]
    (folder / "tiny_curves.json").write_text(json.dumps(packed, separators=(",", ":")), encoding="utf-8")
