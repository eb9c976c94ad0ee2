"""The law of a family's loss curves: shape and constants over model size, with what it does not know.

A pilot's curve has a level of its own and shares the rest: the constants of `curve_terms` are linear in log N, and A
also in the log of a step's tokens. The law keeps their estimate, its covariance, how far curves stray from the form,
and by how much its own intervals have to be widened, measured by leaving pilots out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast, get_args

import numpy as np

from scalestop.errors import InputError
from scalestop.laws.curves.rate_path import Array, RatePath
from scalestop.laws.curves.terms import NAMES, Kernel

SCHEMA = "scalestop.curve-law/1"

SHARES = (0.1, 0.2, 0.35, 0.5, 0.7)
"""Shares of a run at which leaving pilots out measures the law's errors."""

SAME_SIZE = 0.1
"""Two N whose logs are nearer than this are one size."""

PRIOR_MEAN = np.array([math.log(0.2), 0.48, math.log(0.13), math.log(0.015), 0.9, 0.5])
"""Constants before any pilot, in the order of `NAMES`, A at the run's own planned end. Rounded from the fits to the 25M
and 100M curves of Luo et al. and to the OLMo ladder, which agree on these within the deviations below."""

PRIOR_SD = np.array([0.6, 0.06, 0.5, 1.5, 0.2, 0.25])
"""Standard deviations of the same."""

SLOPE_MEAN = np.array([0.05, 0.0, 0.08, 0.0, 0.0, 0.0])
"""Growth of each constant with log N before any pilot."""

SLOPE_SD = np.array([0.15, 0.03, 0.12, 0.1, 0.02, 0.02])
"""Standard deviations of the same: they decide what one size alone says of another."""

BATCH_MEAN, BATCH_SD = 0.2, 0.15
"""Growth of log A with the log of a step's tokens: 0 where tokens count, alpha where steps do."""

BETWEEN_SD = np.array([0.04, 0.01, 0.04, 0.15, 0.025, 0.025])
"""How far one run's constants lie from the law's, as far as leaving pilots out does not say otherwise."""

COUNT = len(NAMES)


class Constants(NamedTuple):
    """What the law expects of one run's constants."""

    mean: Array
    """In the order of `NAMES`."""
    covariance: Array
    """Of the same."""


@dataclass(frozen=True)
class Pilot:
    """A finished run's curve."""

    num_params: float
    """N."""
    path: RatePath
    """Its rate from its first token to its last."""
    tokens: Array
    """Tokens at each point, growing."""
    loss: Array
    """Loss at each point, nats per token: training loss or one validation metric, the same in all pilots."""
    error: Array | None = None
    """Standard error of each, nats; None to take it from the scatter of neighbours."""
    name: str = ""
    """What to call it."""

    def __post_init__(self) -> None:
        tokens, loss = np.asarray(self.tokens, dtype=np.float64), np.asarray(self.loss, dtype=np.float64)
        if tokens.shape != loss.shape or tokens.ndim != 1 or len(tokens) < 8:
            raise InputError(
                f"pilot {self.name!r}: at least 8 points of tokens and loss; got {tokens.shape} and {loss.shape}"
            )
        if not (self.num_params > 0 and (np.diff(tokens) > 0).all() and np.isfinite(loss).all()):
            raise InputError(f"pilot {self.name!r}: N above 0, growing tokens and finite losses, please")
        object.__setattr__(self, "tokens", tokens)
        object.__setattr__(self, "loss", loss)

    @property
    def tokens_per_step(self) -> float:
        """Tokens of an optimizer step, on average."""
        return float(self.path.tokens[-1] / max(self.path.steps[-1], 1.0))


@dataclass(frozen=True)
class Widening:
    """How the law's intervals compare with its errors on pilots that it had not seen.

    Ratio of error to the law's own standard deviation, root mean square, at each of `SHARES`; 1 where nothing is known.
    """

    ratio: tuple[float, ...] = (1.0,) * len(SHARES)
    """At each of `SHARES`."""
    degrees: float = 4.0
    """Independent errors behind it, for the t distribution."""
    error: tuple[float | None, ...] = (None,) * len(SHARES)
    """Root mean square of those errors at each of `SHARES`, nats; None where none was measured."""

    def at(self, share: float) -> float:
        """Return the ratio at a share of the run, between the measured ones by interpolation."""
        return float(np.interp(share, SHARES, self.ratio))


@dataclass(frozen=True)
class CurveLaw:
    """The curve of a family of runs over model size and schedule.

    L(t) = L0 + A·(S1/S_ref)^-alpha - B·sum_k (x_{k-1}^p - x_k^p)·G_k(t), see `curve_terms`; L0 is each run's own.
    """

    mean: Array
    """Constants at the references, their growth with log N, and that of log A with log tokens per step: 13 numbers."""
    covariance: Array
    """Of the same, shape (13, 13)."""
    tokens_ref: float | None
    """S_ref, weighted tokens; None takes each run's own planned end."""
    num_params_ref: float
    """N at which the first six constants hold."""
    step_tokens_ref: float
    """Tokens per step at which they hold."""
    kernel: Kernel = "power"
    """How the loss answers a fall of the rate."""
    misfit: float = 0.006
    """Standard deviation of smooth departures of a curve from the form, nats."""
    reach: float = 0.4
    """Over which log-ratio of weighted tokens such a departure is forgotten, by a factor of e."""
    within: Widening = field(default_factory=Widening)
    """For a run of a size that some pilot has."""
    beyond: Widening = field(default_factory=Widening)
    """For a run of another size: measured by leaving whole sizes out."""
    sizes: tuple[float, ...] = ()
    """N of the pilots, each once, growing; empty for a law without pilots."""
    num_pilots: int = 0
    """Curves behind it."""
    residual: float | None = None
    """Root mean square residual of the fit, nats."""

    @classmethod
    def without_pilots(cls, num_params: float, step_tokens: float, kernel: Kernel = "power") -> CurveLaw:
        """Return what is known before any pilot: the run's own curve says the rest, with wide intervals."""
        mean, deviation = prior()
        assumed = Widening((0.7,) * len(SHARES))  # 0.4 on the curves that the prior was rounded from
        return cls(
            mean,
            np.diag(deviation**2),
            None,
            num_params,
            step_tokens,
            kernel,
            misfit=0.01,
            within=assumed,
            beyond=assumed,
        )

    def constants(self, num_params: float, step_tokens: float) -> Constants:
        """Return what to expect of a run's constants, and how surely.

        Args:
            num_params: N.
            step_tokens: Tokens per optimizer step.
        """
        into = design(math.log(num_params / self.num_params_ref), math.log(step_tokens / self.step_tokens_ref))
        between = np.diag(BETWEEN_SD**2)
        return Constants(into @ self.mean, into @ self.covariance @ into.T + between)

    def widening(self, num_params: float) -> Widening:
        """Return how the interval of a run of this size is to be widened."""
        near = any(abs(math.log(num_params / size)) < SAME_SIZE for size in self.sizes)
        return self.within if near or not self.sizes else self.beyond

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data, some 5 kB; `from_dict` reads it back."""
        half = self.covariance[np.tril_indices(len(self.mean))]
        return {
            "schema": SCHEMA,
            "kernel": self.kernel,
            "constants": list(NAMES),
            "mean": [float(f"{x:.8g}") for x in self.mean],
            "covariance_lower": [float(f"{x:.8g}") for x in half],
            "tokens_ref": self.tokens_ref,
            "num_params_ref": self.num_params_ref,
            "step_tokens_ref": self.step_tokens_ref,
            "misfit": self.misfit,
            "reach": self.reach,
            "within": {name: _listed(value) for name, value in vars(self.within).items()},
            "beyond": {name: _listed(value) for name, value in vars(self.beyond).items()},
            "sizes": list(self.sizes),
            "num_pilots": self.num_pilots,
            "residual": self.residual,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, where: str = "curve law") -> CurveLaw:
        """Read what `to_dict` returned.

        Raises:
            InputError: If it is something else.
        """
        if not isinstance(data, Mapping) or data.get("schema") != SCHEMA:
            got = data.get("schema") if isinstance(data, Mapping) else type(data).__name__
            raise InputError(f"{where}: schema: expected {SCHEMA!r}, got {got!r}")
        try:
            mean = np.array(data["mean"], dtype=np.float64)
            if mean.shape != (2 * COUNT + 1,) or data["kernel"] not in get_args(Kernel):
                raise ValueError(f"mean of shape {mean.shape}, kernel {data['kernel']!r}")
            covariance = np.zeros((len(mean), len(mean)))
            covariance[np.tril_indices(len(mean))] = data["covariance_lower"]
            covariance += np.tril(covariance, -1).T
            widen = {
                name: Widening(
                    tuple(map(float, data[name]["ratio"])),
                    float(data[name]["degrees"]),
                    tuple(None if x is None else float(x) for x in data[name]["error"]),
                )
                for name in ("within", "beyond")
            }
            if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
                raise ValueError("numbers that are not finite")
            return cls(
                mean=mean,
                covariance=covariance,
                tokens_ref=None if data["tokens_ref"] is None else float(data["tokens_ref"]),
                num_params_ref=float(data["num_params_ref"]),
                step_tokens_ref=float(data["step_tokens_ref"]),
                kernel=cast(Kernel, data["kernel"]),
                misfit=float(data["misfit"]),
                reach=float(data["reach"]),
                sizes=tuple(map(float, data["sizes"])),
                num_pilots=int(data["num_pilots"]),
                residual=None if data["residual"] is None else float(data["residual"]),
                **widen,
            )
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            raise InputError(f"{where}: cannot be read: {error!r}") from None


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def prior() -> tuple[Array, Array]:
    """Return mean and standard deviation of the law's 13 numbers before any pilot."""
    return (
        np.concatenate([PRIOR_MEAN, SLOPE_MEAN, [BATCH_MEAN]]),
        np.concatenate([PRIOR_SD, SLOPE_SD, [BATCH_SD]]),
    )


def design(log_size: float, log_step: float) -> Array:
    """Return the matrix that takes the law's 13 numbers to a run's 6 constants."""
    into = np.zeros((COUNT, 2 * COUNT + 1))
    into[:, :COUNT] = np.eye(COUNT)
    into[:, COUNT : 2 * COUNT] = log_size * np.eye(COUNT)
    into[0, -1] = log_step
    return into
