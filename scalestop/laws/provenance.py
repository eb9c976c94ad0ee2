"""What a law's runs were trained on and how, as data; and where a run at hand differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from scalestop.errors import InputError, shown

if TYPE_CHECKING:
    from scalestop.laws.base import ScalingLaw

_COUNTS = ("vocab_size", "context")
_WORDS = {
    "text": "text",
    "text_hash": "text (sha256)",
    "tokenizer": "tokenizer",
    "vocab_size": "vocabulary",
    "context": "context",
    "model": "model",
    "optimizer": "optimizer",
    "learning_rate": "learning rate",
    "schedule": "schedule",
    "batch_rule": "batch",
}
_CONSEQUENCE = dict.fromkeys(("tokenizer", "vocab_size"), "a loss per token is another quantity there")


@dataclass(frozen=True)
class Provenance:
    """What runs were trained on and how. With another text, tokenizer or recipe they would make another law.

    The same class describes a law's runs and a run at hand. None is what nobody stated; it is never compared.
    """

    text: str | None = None
    """The text or data set, in words or by name."""
    text_hash: str | None = None
    """sha256 of the text. Two texts of one hash are one text, whatever they are called."""
    tokenizer: str | None = None
    """The tokenizer, such as `bytes` or `gpt2`."""
    vocab_size: int | None = None
    """Tokens in the vocabulary."""
    context: int | None = None
    """Tokens in a sample."""
    model: str | None = None
    """The architecture, such as a class path."""
    optimizer: str | None = None
    """The optimizer with its constants."""
    learning_rate: str | None = None
    """The rule for the peak learning rate."""
    schedule: str | None = None
    """How the rate rises and falls over a run."""
    batch_rule: str | None = None
    """Tokens per optimizer step, or how they grow with the run."""

    def __post_init__(self) -> None:
        for name, value in self.stated.items():
            if name in _COUNTS:
                if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                    raise InputError(f"{name}: a positive whole number; got {value!r}")
            elif not isinstance(value, str) or not value:
                raise InputError(f"{name}: a text; got {value!r}")

    @property
    def stated(self) -> dict[str, str | int]:
        """What is stated, by the name of the field."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def rows(self) -> list[tuple[str, str]]:
        """Return what is stated, for people: (what, value)."""
        return [(_WORDS[name], _short("", value)) for name, value in self.stated.items()]

    @classmethod
    def from_dict(cls, data: Any, *, where: str = "provenance") -> Provenance:
        """Read what `stated` gave.

        Raises:
            InputError: If it is no JSON object, or a field is unknown or of the wrong kind.
        """
        if not isinstance(data, Mapping):
            raise InputError(f"{where}: expected a JSON object; got {type(data).__name__}")
        known = [field.name for field in fields(cls)]
        if unknown := sorted(shown(name, 40).strip("'") for name in set(data) - set(known)):
            raise InputError(f"{where}: unknown field(s) {', '.join(unknown)}; known are {', '.join(known)}")
        try:
            return cls(**data)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None


def differences(law: ScalingLaw | Provenance | None, run: Provenance | None) -> list[str]:
    """Say where a run at hand differs from the runs that a law was fitted to, one line each.

    Only what both state is compared. A text is compared by its hash where both have one, else by its name.

    Args:
        law: The law, or its provenance.
        run: What is known of the run.
    """
    fitted = law if law is None or isinstance(law, Provenance) else law.info.provenance
    if fitted is None or run is None:
        return []
    here, there = run.stated, fitted.stated
    shared = [name for name in _WORDS if name in here and name in there]
    if "text_hash" in shared:
        same = here["text_hash"] == there["text_hash"]
        shared = [name for name in shared if name not in ("text", "text_hash")]
        if not same:
            # the names say more to people, where they differ as well
            named = all("text" in each for each in (here, there)) and here["text"] != there["text"]
            shared.insert(0, "text" if named else "text_hash")
    lines = []
    for name in shared:
        if here[name] == there[name]:
            continue
        one, other = (_short(name, value) for value in (here[name], there[name]))
        more = f"; {_CONSEQUENCE[name]}" if name in _CONSEQUENCE else ""
        lines.append(f"{_WORDS[name]}: {one} here, {other} behind the law{more}")
    return lines


def _short(name: str, value: str | int) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return value[:12] if name == "text_hash" else value
