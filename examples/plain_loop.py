"""A compute-optimal stop in a plain PyTorch loop: `make_plan`, `Meter` and `decide`, without a Trainer.

    python examples/plain_loop.py

Under several ranks, give the `Meter` the world size and call `meter.sync(reduce)` before `decide`.
"""

import torch
from torch import nn

from scalestop import Meter, ParametricLaw, count_params, decide, make_plan
from scalestop.laws.base import LawInfo

LAW = ParametricLaw(
    LawInfo("example", "total", "made up for a model of bytes"), E=1.0, A=50, B=200, alpha=0.5, beta=0.5
)


def train(model: nn.Module, batches, budget: str, law=LAW, tokens_per_step: int | None = None):
    """Train until the rule says stop; return the decision and what was used."""
    plan = make_plan(budget, law, count_params(model).by(law.info.n_counts), tokens_per_step)
    print(plan)
    meter = Meter(plan.flops_per_token)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    decision = decide(plan, meter.usage)  # an oversized model is refused here, at no cost
    for ids, labels in batches:
        if decision.stop:
            break
        loss = nn.functional.cross_entropy(model(ids).flatten(0, 1), labels.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        meter.add(ids.numel(), samples=len(ids))
        meter.step()
        decision = decide(plan, meter.usage)
    print(f"{decision.reason}: {decision.message}")
    return decision, meter.usage


if __name__ == "__main__":
    torch.manual_seed(0)
    text = (torch.randint(0, 16, (4, 17)) for _ in iter(int, 1))
    model = nn.Sequential(nn.Embedding(16, 8), nn.Linear(8, 16))
    train(model, ((rows[:, :-1], rows[:, 1:]) for rows in text), "7.5e6 FLOPs", tokens_per_step=64)
