"""A forecast written down before its run, with a digest that tells whether it was changed since."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scalestop.errors import InputError
from scalestop.files import read_json
from scalestop.laws import ScalingLaw, get_law
from scalestop.planning.allocation import interval_of_run
from scalestop.units import human_count, human_flops

SCHEMA = "scalestop.forecast/1"


@dataclass(frozen=True)
class Forecast:
    """What one run will end at, said before it begins."""

    law: str
    """The law's name."""
    law_hash: str
    """sha256 of the law: constants, draws, range and all."""
    data_hash: str
    """sha256 of the runs it was fitted to; empty for a law that does not say."""
    law_flops: tuple[float, float] | None
    """Least and most compute of those runs, FLOPs."""
    num_params: int
    """N, counted as `n_counts` says."""
    n_counts: str
    """Which parameters N means."""
    num_tokens: int
    """D at the run's end."""
    loss: float
    """Forecast, nats per token."""
    loss_interval: tuple[float, float] | None
    """Where 90 % of runs should end; None for a law that does not know how its runs scatter."""
    created: str
    """When it was written, UTC, ISO 8601."""
    budget: str = ""
    """The run's budget, where it was given."""
    run: str = ""
    """The run it is for, by name; by N and D if empty."""
    digest: str = ""
    """sha256 of all the rest as canonical JSON: sorted keys, no spaces, ASCII."""
    schema: str = SCHEMA
    """Format of the file."""

    @property
    def flops(self) -> int:
        """6·N·D."""
        return 6 * self.num_params * self.num_tokens

    @property
    def factor(self) -> float | None:
        """The run's compute over the largest that the law was fitted to; None where that is not known."""
        return None if self.law_flops is None else self.flops / self.law_flops[1]

    def computed_digest(self) -> str:
        """Return the digest that this content should have."""
        return sha256({name: value for name, value in self.to_dict().items() if name != "digest"})

    @property
    def intact(self) -> bool:
        """Whether the digest is that of the content."""
        return bool(self.digest) and self.digest == self.computed_digest()

    def __str__(self) -> str:
        span = self.loss_interval
        interval = f" (90 % of runs: {span[0]:.4f} to {span[1]:.4f})" if span is not None else ""
        far = f", x{self.factor:.3g} the largest compute fitted" if self.factor is not None else ""
        return (
            f"forecast  loss {self.loss:.4f} nats/token{interval}\n"
            f"run       N {human_count(self.num_params)} ({self.n_counts}), D {human_count(self.num_tokens)} tokens, "
            f"{human_flops(self.flops)}{far}\n"
            f"law       {self.law} ({self.law_hash[:12]})\n"
            f"sealed    {self.created}, digest {self.digest}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def save(self, path: str | Path) -> Path:
        """Write the forecast to a new file, which may then only be read.

        Raises:
            InputError: If there is a file already: a forecast is not written twice.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(json.dumps(self.to_dict(), indent=2) + "\n")
        except FileExistsError:
            raise InputError(
                f"seal: {path} is there already, and a forecast is not written twice; name another file"
            ) from None
        os.chmod(path, 0o444)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Forecast:
        """Read a forecast, intact or not.

        Raises:
            InputError: If it cannot be read, or is no forecast.
        """
        return cls.from_dict(read_json(Path(path), "seal"), where=str(path))

    @classmethod
    def from_dict(cls, data: Any, *, where: str = "forecast") -> Forecast:
        """Read what `to_dict` returned; whether it is intact is asked of the forecast.

        Raises:
            InputError: Naming the schema, or each unknown, missing or unreadable field.
        """
        if not isinstance(data, Mapping) or data.get("schema") != SCHEMA:
            got = data.get("schema") if isinstance(data, Mapping) else type(data).__name__
            raise InputError(f"{where}: schema: expected {SCHEMA!r}, got {got!r}")
        names = {field.name for field in fields(cls)}
        if missing := sorted(names - {"budget", "run"} - set(data)):
            raise InputError(f"{where}: missing field(s) {', '.join(missing)}")
        if unknown := sorted(set(data) - names):
            raise InputError(f"{where}: unknown field(s) {', '.join(unknown)}")
        values = dict(data)
        try:
            for name in ("law_flops", "loss_interval"):
                if values[name] is not None:
                    low, high = values[name]
                    values[name] = float(low), float(high)
            values["num_params"], values["num_tokens"] = int(values["num_params"]), int(values["num_tokens"])
            values["loss"] = float(values["loss"])
            datetime.fromisoformat(values["created"])
        except (TypeError, ValueError) as error:
            raise InputError(f"{where}: cannot be read: {error}") from None
        return cls(**values)


def seal_forecast(
    law: str | Path | ScalingLaw,
    num_params: int,
    num_tokens: int,
    *,
    budget: str = "",
    run: str = "",
    path: str | Path | None = None,
    now: float | None = None,
) -> Forecast:
    """Forecast the end of a run, and seal it.

    The digest shows that the forecast is as it was written; when it was written is known to those who have seen the
    digest by then. Put it where others keep the date, in a commit or a message, and give it to `score` as `expect`.

    Args:
        law: A law, its name, or its file.
        num_params: N, counted as the law counts it.
        num_tokens: D at the run's end.
        budget: The run's budget, to be written along.
        run: Name of the run that it is for.
        path: Where to save it; not saved if None.
        now: Seconds since 1970; the clock's if None.

    Raises:
        InputError: If the law predicts no loss, an argument cannot be used, or the file is there already.
    """
    law = get_law(law)
    for name, value in (("num_params", num_params), ("num_tokens", num_tokens)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name}: must be a positive whole number; got {value!r}")
    loss = float(law.loss(float(num_params), float(num_tokens)))
    if not math.isfinite(loss):
        raise InputError(f"law: {law.name!r} has no finite loss at N {num_params}, D {num_tokens}")
    known = law.uncertainty
    span = interval_of_run(law, num_params, num_tokens) if known is not None and known.knows_scatter else None
    at = datetime.now(UTC) if now is None else datetime.fromtimestamp(now, UTC)
    forecast = Forecast(
        law=law.name,
        law_hash=sha256(law.to_dict()),
        data_hash=known.data_hash if known is not None else "",
        law_flops=law.info.valid.flops,
        num_params=num_params,
        n_counts=law.info.n_counts,
        num_tokens=num_tokens,
        loss=loss,
        loss_interval=span,
        created=at.isoformat(timespec="seconds"),
        budget=budget,
        run=run,
    )
    forecast = replace(forecast, digest=forecast.computed_digest())
    if path is not None:
        forecast.save(path)
    return forecast


def sha256(data: Any) -> str:
    """Return the sha256 of data as canonical JSON: sorted keys, no spaces, ASCII."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
