"""Runs as reports have them: records and logs of runs that nobody trained."""

from __future__ import annotations

from pathlib import Path

from scalestop import RunRecord, get_law

LAW = get_law("stdlib-bytes")


def record(flops: float = 1e12, size: float = 1.0, off: float = 1.0, **changes) -> RunRecord:
    """A run of so many N_opt of a budget, whose loss is so many times what the law forecasts."""
    best = LAW.optimal(flops)
    n = round(float(best.num_params) * size)
    d = round(flops / (6 * n))
    forecast = float(LAW.loss(n, d))
    values = {
        "num_params": n,
        "num_tokens": d,
        "flops": 6 * n * d,
        "loss": forecast * off,
        "loss_name": "val_loss",
        "stop_reason": "BUDGET_EXHAUSTED",
        "message": "the budget is spent",
        "law": "stdlib-bytes",
        "budget": f"{flops:g} FLOPs",
        "plan": {
            "flops": flops,
            "optimal_params": float(best.num_params),
            "stop_tokens": d,
            "stop_step": 1000,
            "stop_reason": "BUDGET_EXHAUSTED",
            "loss_at_stop": forecast,
            "loss_interval": [forecast * 0.98, forecast * 1.02],
        },
        "usage": {"optimizer_steps": 1000, "seconds": 60.0, "validation_flops": flops / 20},
        "run": f"toy-{size:g}",
        "seed": 0,
        "lr_decayed": True,
        "exact": True,
    }
    return RunRecord(**{**values, **changes})


def write_run(folder: Path, found: RunRecord, ended: bool = True, points: int = 20) -> Path:
    """A run's folder, with the log that Lightning's CSVLogger would have written."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["epoch,scalestop/budget_used,scalestop/device_hours,scalestop/eta_seconds,scalestop/flops,"
             "scalestop/goodput,scalestop/tokens,step,train_loss,val_loss"]  # fmt: skip
    for i in range(1, points + 1):
        share, step = i / points, 50 * i - 1
        tokens, loss = found.num_tokens * share, (found.loss or 2.0) * (1 + 0.5 * (1 - share))
        lines.append(f",{share},{share / 60},{60 * (1 - share)},{found.flops * share},0.9,{tokens},{step},,")
        lines.append(f"0,,,,,,,{step},{loss},")
    lines.append(f"0,,,,,,,{50 * points - 1},,{found.loss}")
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    if ended:
        found.save(folder / "scalestop.json")
    return folder
