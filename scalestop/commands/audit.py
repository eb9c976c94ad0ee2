"""`scalestop audit`: a model's analytic FLOP count beside the measured one, module by module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from scalestop.commands._json import as_json
from scalestop.commands._parser import build, new_parser, parse
from scalestop.errors import InputError

if TYPE_CHECKING:
    from scalestop.accounting.audit import Audit


def run(words: Sequence[str]) -> int:
    """Print the audit of a model on one batch of its data."""
    import pytorch_lightning as pl

    from scalestop.accounting.audit import audit

    parser = new_parser("audit", "Hold the analytic FLOP count of a model against the measured one, per module.")
    parser.add_subclass_arguments(pl.LightningModule, "model", required=False, help="any LightningModule by class_path")
    parser.add_subclass_arguments(pl.LightningDataModule, "data", required=False, help="any datamodule by class_path")
    parser.add_argument("--json", action="store_true", help="print JSON")
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
    found = audit(built.model, batch)
    print(as_json(audit_to_dict(found)) if options.json else found.text())
    return 0


def audit_to_dict(found: Audit) -> dict[str, Any]:
    """Return an audit as plain data, its gaps included."""
    rows = [{**asdict(row), "gap": row.gap} for row in found.rows]
    return {**asdict(found), "rows": rows, "gaps": {rule: found.charge_gap(rule) for rule in found.charges}}
