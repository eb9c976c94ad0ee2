"""`scalestop audit`: a model's analytic FLOP count beside the measured one, module by module."""

from __future__ import annotations

from collections.abc import Sequence

from scalestop.commands._parser import build, new_parser, parse
from scalestop.errors import InputError


def run(words: Sequence[str]) -> int:
    """Print the audit of a model on one batch of its data."""
    import pytorch_lightning as pl

    from scalestop.accounting.audit import audit

    parser = new_parser("audit", "Hold the analytic FLOP count of a model against the measured one, per module.")
    parser.add_subclass_arguments(pl.LightningModule, "model", required=False, help="any LightningModule by class_path")
    parser.add_subclass_arguments(pl.LightningDataModule, "data", required=False, help="any datamodule by class_path")
    parser.set_defaults(
        {
            "model": {"class_path": "scalestop.lab.tiny_gpt.TinyGPT"},
            "data": {"class_path": "scalestop.lab.data.TextData"},
        }
    )
    options = parse(parser, words)
    built = build(lambda: parser.instantiate_classes(options))
    built.data.prepare_data()
    built.data.setup("fit")
    batch = next(iter(built.data.train_dataloader()), None)
    if batch is None:
        raise InputError("data: its loader gives no batch to count")
    print(audit(built.model, batch).text())
    return 0
