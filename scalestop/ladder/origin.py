"""What a ladder's runs were trained on and how, for its law: with another text or recipe it would be another law."""

from __future__ import annotations

from dataclasses import replace

from scalestop.lab.corpus import provenance_of
from scalestop.lab.tiny_gpt import WEIGHT_DECAY, TinyGPT
from scalestop.ladder.settings import TINY_GPT, LadderSettings
from scalestop.ladder.show import describe_recipe
from scalestop.ladder.store import Ladder
from scalestop.laws import Provenance, ScalingLaw
from scalestop.schedules.budget_lr import describe_shares


def with_origin(law: ScalingLaw, ladder: Ladder) -> ScalingLaw:
    """Return the law with the text and the recipe of its runs, as data and in its notes: others make another law.

    Args:
        law: The ladder's law.
        ladder: The ladder.
    """
    settings = ladder.settings
    notes = []
    if text := ladder.text():
        notes.append("Text: " + ", ".join(f"{name} {value}" for name, value in text.items() if value is not None) + ".")
    notes.append(f"Recipe: {settings.model['class_path']}, context {settings.context}, {describe_recipe(settings)}.")
    return replace(law, info=replace(law.info, notes=law.info.notes + tuple(notes), provenance=provenance(ladder)))


def provenance(ladder: Ladder) -> Provenance:
    """Return text and recipe as data, as far as they are known."""
    settings = ladder.settings
    text = ladder.text()
    own = settings.model["class_path"] == TINY_GPT
    decay = (settings.model.get("init_args") or {}).get("weight_decay", WEIGHT_DECAY) if own else None
    return Provenance(
        **(provenance_of(text) if text.get("num_files") else {}),  # type: ignore[arg-type]
        context=settings.context,
        model=settings.model["class_path"],
        optimizer=TinyGPT.describe_optimizer(decay) if decay is not None else None,
        learning_rate=_rate_rule(settings),
        schedule=describe_shares(settings.warmup, settings.decay),
        batch_rule=f"for {settings.steps:,} steps" if settings.steps else "growing as D^0.6",
    )


def _rate_rule(settings: LadderSettings) -> str:
    power = "" if settings.lr_power == 1 else f"^{settings.lr_power:g}"
    return (
        f"{settings.lr_scale:g} / width{power} at {settings.lr_tokens:,.0f} tokens a step, growing as "
        f"batch^{settings.lr_batch_power:g}"
    )
