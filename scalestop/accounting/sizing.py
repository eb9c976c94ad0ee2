"""What a model is, to its budget: how many parameters, and what a token costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scalestop.accounting.flops import FlopsPerToken, flops_per_token
from scalestop.accounting.params import ParamCount, count_params
from scalestop.accounting.tokens import CountTokens
from scalestop.errors import InputError


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

    def count(self, module: Any) -> ParamCount | None:
        """Count the module's parameters; a second call returns the first one's answer.

        Returns:
            The count. None where it cannot be known yet, as of a lazy layer, and N was given.

        Raises:
            InputError: If it cannot be known, and N was not given.
        """
        if self.params is None:
            try:
                self.params = count_params(module, active_experts=self.active_experts)
            except InputError:
                if self.num_params is None:
                    raise
        return self.params

    def recount(self, module: Any) -> bool:
        """Count again, as other parameters may train by now; whether that changes anything.

        A module that has been sharded since it was first counted cannot be counted, and keeps its count.
        """
        before = self.params
        if before is None:
            return False
        try:
            found = count_params(module, active_experts=self.active_experts)
        except InputError:
            return False
        if found.total != before.total or found == before:
            return False
        self.params = found
        return True

    @property
    def needs_batch(self) -> bool:
        """Whether the way of pricing has to see a batch."""
        return self.flops_spec in ("6N+attention", "measured") or callable(self.flops_spec)

    def price(self, module: Any, convention: str, batch: Any = None) -> FlopsPerToken:
        """Find what a token costs.

        Args:
            module: The model.
            convention: What the law's N counts.
            batch: A batch. Where one is needed and not there yet, 6N stands in.
        """
        self.cost = flops_per_token(
            "6N" if self.needs_batch and batch is None else self.flops_spec,
            self.num_params or self.count(module),
            convention,
            module=module,
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

    @property
    def token_rule(self) -> str:
        """How tokens are counted, in words."""
        return "by shape and mask" if self.count_tokens is None else "own function"
