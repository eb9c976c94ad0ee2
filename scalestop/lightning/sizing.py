"""What a model is, to its budget: how many parameters, and what a token costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scalestop.accounting.flops import FlopsPerToken, flops_per_token
from scalestop.accounting.params import ParamCount, count_params
from scalestop.accounting.tokens import CountTokens
from scalestop.laws import ScalingLaw
from scalestop.lightning import trainer as _trainer
from scalestop.run.records import law_fingerprint


@dataclass
class Sizing:
    """Counts a module once, before it is wrapped, and prices its tokens."""

    num_params: int | None
    """N as the user gave it; None counts."""
    flops_spec: str | float | Callable[[Any, Any], float]
    """How tokens are priced; see `flops_per_token`."""
    active_experts: int | None
    """Experts a token passes, where the model does not say."""
    count_tokens: CountTokens | None
    """The user's rule for a batch's tokens."""
    params: ParamCount | None = None
    """Parameters by role, once counted."""
    cost: FlopsPerToken | None = None
    """What a token costs, once priced."""

    def count(self, pl_module: Any) -> ParamCount:
        """Count the module's parameters; a second call returns the first one's answer."""
        if self.params is None:
            self.params = count_params(pl_module, active_experts=self.active_experts)
        return self.params

    def price(self, trainer: Any, pl_module: Any, convention: str) -> FlopsPerToken:
        """Find what a token costs; only some ways of counting need to see a batch."""
        batch = None
        if self.flops_spec in ("6N+attention", "measured") or callable(self.flops_spec):
            batch = _trainer.peek_batch(trainer)
        self.cost = flops_per_token(
            self.flops_spec,
            self.num_params or self.count(pl_module),
            convention,
            module=pl_module,
            batch=batch,
            count_tokens=self.count_tokens,
        )
        return self.cost

    def size(self, convention: str) -> int:
        """Return N as a law counts it; of a mixture of experts, what one token passes."""
        if self.num_params is not None:
            return self.num_params
        assert self.params is not None
        return self.params.by(convention) - (self.params.total - self.params.active)

    def fingerprint(self, law: ScalingLaw) -> dict[str, Any]:
        """Return what a run's counts rest on, as plain data: a resume under another one is told.

        Args:
            law: The law that plans the run.
        """
        return {
            "num_params": self.size(law.info.n_counts),
            "n_counts": law.info.n_counts,
            "law": law_fingerprint(law),
            "flops_per_token": self.cost.model if self.cost else None,
            "token_rule": "by shape and mask" if self.count_tokens is None else "own function",
        }
