"""Over several ranks: every rank has the same progress, hence the same rate, at every step."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys

import pytest
from counting import plan_of
from ranks import Ranks
from scheduled import PEAK, Rated
from toys import environment, loader, stopping, train

from scalestop.run.metrics import progress
from scalestop.schedules.budget_lr import budget_factor


@pytest.mark.parametrize("world", [2, 5])
@pytest.mark.parametrize(
    "budget", ["100k tokens", "60M FLOPs", "400 s", ["100k tokens", f"{350 * 5 / 3600} GPU-hours"]]
)
def test_progress_is_the_same_on_every_rank_and_arrives_with_the_run(world, budget):
    """Ranks with batches and clocks of their own; every one of them reduces only where the watch says so."""
    plan, told = plan_of(budget), [[] for _ in range(world)]
    ranks = Ranks(world, plan)

    def draw(rank, watch, step):
        told[rank].append(progress(plan.limits, watch.estimate()))
        rng = random.Random(f"{budget}/{rank}/{step}")
        ranks.clocks[rank].now += rng.uniform(0, 1.0) if step < 100 else rng.uniform(1.0, 2.0)
        return rng.randint(20, 80) * (1 if step < 60 else 2)

    ranks.run(draw)
    assert all(moments == told[0] for moments in told)
    moments, watch = told[0], ranks.watches[0]
    assert len(moments) > 50 and watch.reductions < len(moments) / 2
    assert progress(plan.limits, watch.estimate()) >= 1
    # the last looks come step by step, so the clock has caught up with the counts before the end
    grows = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert 1 - moments[-1] < 3 / len(moments) and max(grows[-10:]) < 5 / len(moments)


# ---- two processes

SCRIPT = """
import json
import pytorch_lightning as pl
import torch
from scheduled import Rated
from toys import loader, stopping

class Noted(Rated):
    def on_train_end(self):
        lines = {{"rates": self.rates, "before": self.before, "left": self.optimizers().param_groups[0]["lr"]}}
        open(f"{folder}/rank{{self.global_rank}}.json", "w").write(json.dumps(lines))

if __name__ == "__main__":
    torch.set_num_threads(1)
    callback = stopping("9000 tokens", tolerance=0.0, oversized="ignore", verbose=False)
    pl.Trainer(
        max_epochs=-1, accelerator="cpu", devices=2, strategy="ddp_spawn", callbacks=[callback], logger=False,
        default_root_dir={folder!r}, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, log_every_n_steps=7, accumulate_grad_batches=2,
    ).fit(Noted(shape="linear", decay=0.5), loader(333, ragged=True), ckpt_path={path!r}, weights_only=True)
"""


@pytest.mark.slow
def test_two_ranks_go_on_from_one_with_the_same_rate_at_every_step(tmp_path):
    first = stopping("9000 tokens", tolerance=0.0, oversized="ignore", job_budget="2000 tokens")
    train(first, tmp_path, Rated(shape="linear", decay=0.5), loader(333, ragged=True))
    script = tmp_path / "ranks.py"
    script.write_text(SCRIPT.format(folder=str(tmp_path), path=str(first.checkpoint_path)))
    variables = environment(PYTHONWARNINGS="ignore")
    done = subprocess.run([sys.executable, script], env=variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    one, other = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    assert one["rates"] == other["rates"] and one["left"] == other["left"] == 0.0
    assert one["before"] != other["before"]  # the ranks did see different batches
    seen = first.usage.tokens_non_padding
    both = [seen + a[1] + b[1] for a, b in zip(one["before"], other["before"], strict=True)]
    true = [PEAK * budget_factor(tokens / 9000, shape="linear", decay=0.5) for tokens in both]
    # between two reductions the count goes on at the last pace, so a ragged step may be off by a part of itself
    assert one["rates"] == pytest.approx(true, abs=0.05 * PEAK)
    assert both[-1] < 9000
