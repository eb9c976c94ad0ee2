"""How large a batch, and where to start with the learning rate: published laws side by side, each with its range."""

from __future__ import annotations

from dataclasses import dataclass

from scalestop.errors import InputError
from scalestop.laws import ScalingLaw, critical_batch_tokens
from scalestop.planning.advice.basis import Answer, Basis, amount, basis_of, block
from scalestop.units import human_count

FAR = 2.0
"""A batch of over so many times the largest critical batch is far past it."""

_ZHANG_SEQUENCE = 512
"""Tokens in a sequence of Zhang et al. 2024, in which their batches are counted."""
_MERRILL_DOCUMENT = 4096
"""Tokens in a document of Merrill et al. 2025, in which their batches are counted."""
_STEP_PARAMS, _STEP_TOKENS = (5.9e7, 1.07e9), 1e11
"""Smallest and largest N, and the most tokens, behind Step Law."""


def zhang_critical_batch(num_tokens: float) -> float:
    """Return the critical batch in tokens: 22.91·D^0.47 sequences of 512 tokens, D in millions of tokens.

    Zhang et al. 2024 (arXiv 2410.21676), fit at fixed N: the batch that needs 20 % more steps than linear scaling;
    85M-1.2B parameters on C4. It grows with the data and hardly with the size. That D is in millions is inferred: with
    D in billions it would contradict their fit at fixed D, 621.34·N^0.087 sequences, in any unit of N.

    Args:
        num_tokens: D, tokens.
    """
    return float(22.91 * (amount(num_tokens, "num_tokens") / 1e6) ** 0.47 * _ZHANG_SEQUENCE)


def merrill_critical_batch(num_tokens: float) -> tuple[float, float | None]:
    """Return between which batches, in tokens, the critical one was measured at this point of a run.

    Merrill et al. 2025 (arXiv 2505.23971), section 4.2 and figure 2, OLMo 1B and 7B by branched training: near 0 at the
    start, past 2,048 documents of 4,096 tokens at 168B tokens, past 4,096 documents at 503B, and flat about there. They
    fit no law, so this is a pair of marks and no formula.

    Args:
        num_tokens: Tokens trained on so far.

    Returns:
        The lower and the upper mark; 0 where none was passed yet, None above the last.
    """
    low, high = 2048.0 * _MERRILL_DOCUMENT, 4096.0 * _MERRILL_DOCUMENT
    seen = amount(num_tokens, "num_tokens")
    return (0.0, low) if seen < 168e9 else (low, high) if seen < 503e9 else (high, None)


def step_law(num_params: float, num_tokens: float) -> tuple[float, float]:
    """Return Step Law's learning rate and batch: 1.79·N^-0.713·D^0.307, and 0.58·D^0.571 tokens.

    Li et al. 2025 (arXiv 2503.04715, the last row of their table of published laws): AdamW, cosine to a fixed last rate
    of 1e-5, N without the vocabulary; 59M-1B parameters, up to 100B tokens. Their own check, 1B parameters on 100B
    tokens: the loss there is 0.094 % above the best of an exhaustive grid.

    Args:
        num_params: N without embeddings and head.
        num_tokens: D, tokens.
    """
    n, d = amount(num_params, "num_params"), amount(num_tokens, "num_tokens")
    return float(1.79 * n**-0.713 * d**0.307), float(0.58 * d**0.571)


@dataclass(frozen=True)
class Estimate:
    """What one source says of the critical batch."""

    source: str
    low: float
    """Tokens; the estimate itself where `high` is the same."""
    high: float | None
    """Tokens; None where it is only known to be above `low`."""
    basis: str
    """What it was measured on, and what is outside."""

    def __str__(self) -> str:
        if self.high == self.low:
            return f"{human_count(self.low)} tokens"
        if self.high is None:
            return f"{human_count(self.low)} tokens or a little more"
        low = f"{human_count(self.low)} to {human_count(self.high)} tokens"
        return low if self.low else f"up to {human_count(self.high)}"


@dataclass(frozen=True)
class BatchAdvice(Answer):
    """Critical batch and starting point of one run."""

    num_params: float
    """N, counted as the law counts it."""
    num_tokens: float
    """D, tokens."""
    loss: float | None
    """Loss at its end by the law, nats per token."""
    critical: tuple[Estimate, ...]
    """What each source says, in tokens per optimizer step at the run's end."""
    learning_rate: float
    """Step Law's peak rate."""
    batch: float
    """Step Law's batch, tokens per step."""
    step_law_outside: str | None
    """How the run lies outside the runs of Step Law; None inside."""
    tokens_per_step: float | None
    """The batch that was asked about, tokens per step."""
    basis: Basis

    @property
    def range(self) -> tuple[float, float]:
        """The least and the largest of the estimates that are numbers, tokens."""
        values = [value for e in self.critical for value in (e.low, e.high) if value]
        return min(values), max(values)

    @property
    def trade(self) -> tuple[float, float] | None:
        """What the batch asked about costs: compute over the least, and steps over the fewest; None without one.

        At batch B a run takes 1 + B/B_crit times the least compute and 1 + B_crit/B times the fewest steps, with
        Kaplan's B_crit (Kaplan et al. 2020, eq. 5.4-5.5, after McCandlish et al. 2018). Zhang's is defined otherwise.
        """
        if self.tokens_per_step is None or self.loss is None:
            return None
        critical = float(critical_batch_tokens(self.loss))
        return 1 + self.tokens_per_step / critical, 1 + critical / self.tokens_per_step

    @property
    def warning(self) -> str | None:
        """What to think of the batch that was asked about; None where it is below the least estimate."""
        if self.tokens_per_step is None or self.tokens_per_step <= self.range[0]:
            return None
        times, asked = self.tokens_per_step / self.range[1], human_count(self.tokens_per_step)
        if times > FAR:
            return (
                f"{asked} tokens a step is {times:.2g}x the largest of these critical batches: most of the compute "
                f"beyond it buys no progress"
            )
        return f"{asked} tokens a step is past some of these critical batches, not far past all"

    def __str__(self) -> str:
        rows = [("run", f"{human_count(self.num_params)} x {human_count(self.num_tokens)}"
                        + ("" if self.loss is None else f", loss {self.loss:.3f}"))]  # fmt: skip
        rows += [("critical", f"{e} by {e.source}; {e.basis}") for e in self.critical]
        text = (
            f"peak rate {self.learning_rate:.2g}, {human_count(self.batch)} tokens a step by Step Law (Li et al. 2025)"
        )
        text += f"; outside its runs: {self.step_law_outside}" if self.step_law_outside else "; inside its runs"
        rows.append(("start with", text))
        if self.trade is not None:
            text = f"{self.trade[0]:.2f}x the least compute, {self.trade[1]:.2f}x the fewest steps, by Kaplan's"
            rows.append(("your batch", text))
        if self.warning:
            rows.append(("warning", self.warning))
        return block([*rows, ("law", str(self.basis))])


def advise_batch(
    law: ScalingLaw,
    num_params: float,
    num_tokens: float,
    *,
    tokens_per_step: float | None = None,
    body_params: float | None = None,
) -> BatchAdvice:
    """Return the critical batch of a run by the published laws, and Step Law's starting point.

    Args:
        law: The law that says what loss the run ends at, which Kaplan's critical batch goes by.
        num_params: N, counted as the law counts it.
        num_tokens: D, tokens.
        tokens_per_step: The batch to judge, tokens per optimizer step over all ranks.
        body_params: N without embeddings and head, for Step Law; `num_params` if None.

    Raises:
        InputError: If a number is not positive.
    """
    n, d = amount(num_params, "num_params"), amount(num_tokens, "num_tokens")
    body = n if body_params is None else amount(body_params, "body_params")
    if body > n:
        raise InputError(f"body_params: part of num_params, {n:g}; got {body:g}")
    loss = float(law.loss(n, d)) if law.has_loss else None
    estimates = []
    if loss is not None:
        batch = float(critical_batch_tokens(loss))
        basis = "from the loss, 2e8·L^(-1/0.21); WebText2, another tokenizer shifts it"
        estimates.append(Estimate("Kaplan et al. 2020, eq. 5.3", batch, batch, basis))
    batch = zhang_critical_batch(d)
    basis = "from the tokens: a fifth more steps than linear scaling; 85M-1.2B parameters on C4, context 512"
    estimates.append(Estimate("Zhang et al. 2024", batch, batch, basis))
    low, high = merrill_critical_batch(d)
    basis = "measured, no formula; OLMo 1B and 7B; near 0 at the start of a run"
    estimates.append(Estimate("Merrill et al. 2025, figure 2", low, high, basis))
    rate, start = step_law(body, d)
    return BatchAdvice(
        num_params=n,
        num_tokens=d,
        loss=loss,
        critical=tuple(estimates),
        learning_rate=rate,
        batch=start,
        step_law_outside=_outside_step_law(body, d, body_params is None and law.info.n_counts == "total"),
        tokens_per_step=None if tokens_per_step is None else amount(tokens_per_step, "tokens_per_step"),
        basis=basis_of(law, n, d, 6 * n * d),
    )


def _outside_step_law(body: float, num_tokens: float, unsure: bool) -> str | None:
    low, high = _STEP_PARAMS
    parts = []
    if not low * 0.999 <= body <= high * 1.001:
        parts.append(f"N {human_count(body)}, they had {human_count(low)} to {human_count(high)}")
    if num_tokens > _STEP_TOKENS * 1.001:
        parts.append(f"D {human_count(num_tokens)}, they had up to {human_count(_STEP_TOKENS)}")
    if parts and unsure:
        parts.append("their N leaves the vocabulary out, this one does not")
    return "; ".join(parts) or None
