"""Every parser, loader and counter under fuzz: what comes out is an answer or a documented error, and nothing else."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from fuzzing import amounts, odd, scalars, spoiled
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scalestop import Budget, RunRecord, Speed, StopRule, get_law, list_laws, make_plan
from scalestop.accounting.flops import check_flops_spec
from scalestop.accounting.meter import Meter
from scalestop.accounting.tokens import TokenCounter, check_count_tokens
from scalestop.cli import main
from scalestop.commands.laws import describe_law
from scalestop.errors import InputError
from scalestop.fitting.tables.read import read_runs
from scalestop.ladder.plan import plan_ladder
from scalestop.ladder.rung import Rung
from scalestop.ladder.settings import LadderSettings
from scalestop.ladder.store import Ladder
from scalestop.laws.base import law_from_dict
from scalestop.laws.registry import KINDS
from scalestop.planning.speed import parse_flops_per_second
from scalestop.run.gate import Gate
from scalestop.schedules.undecayed import read_records
from scalestop.units import Dimension, format_quantity, parse_quantity

TOTAL = 100_000
"""Inputs of the slow suite, all targets together."""
FAST = 2_000
"""Inputs of the fast one."""

EXAMPLES = ("1e18 FLOPs", "2B tokens", "12h")
LAWS = [get_law(name).to_dict() for name in list_laws()]
RECORD = RunRecord(10**6, 2 * 10**7, 12 * 10**13, 3.1, "COMPUTE_OPTIMAL", "besiroglu", "1e14 FLOPs",
                   curve=((10, 4.0), (20, 3.5)), seed=1, run="a", plan={"stop_step": 3}).to_dict()  # fmt: skip
ROW = {"params": 1e6, "tokens": 2e7, "loss": 3.0, "flops": 1.2e14, "unique_tokens": 1e7, "run": "a", "seed": 0,
       "weight": 1.0, "n_counts": "total", "lr_decayed": True, "held_out": False,
       "curve": [[1e6, 4.0], [2e6, 3.9]]}  # fmt: skip
LADDER = {"target": "1e12 FLOPs", "budgets": ["1e9", "3e9"], "num_sizes": 2, "seeds": [1], "lr_factors": [],
          "flops_per_second": "1 GFLOP/s", "trainer": {"devices": 1}, "model_args": None, "valley": None,
          "held_out": ["9e9"], "spread": 2.0, "steps": None, "share": 0.1, "num_budgets": 2, "context": 128,
          "model": {"class_path": "scalestop.lab.tiny_gpt.TinyGPT"}, "law": "stdlib-bytes", "trunk": False,
          "lr_power": 1.0, "warmup": 0.1, "decay": 0.5, "budget_ratio": 3.0, "name": "x"}  # fmt: skip
RUNG = Rung("1.00e09-n4408-s0", 4408, 37888, 1002000000, 10**9, 0, 0.02, 1, 128, "8x3", 8,
            model_args={"width": 8}, points=(128,)).to_dict()  # fmt: skip


# ---- what is tried on each input; an InputError is an answer


def read_amount(text: Any) -> None:
    found = parse_quantity(text, argument="budget", examples=EXAMPLES)
    assert isinstance(found.dimension, Dimension)
    if found.dimension in (Dimension.FLOPS, Dimension.TOKENS):
        exact = math.floor(found.value)
        again = parse_quantity(format_quantity(exact, found.dimension), argument="budget", examples=EXAMPLES)
        assert again.value == exact


def read_budget(value: Any) -> None:
    budget = Budget.parse(value)
    assert Budget.parse(str(budget)) == budget


def read_settings_of_a_run(values: tuple[Any, ...]) -> None:
    checks: tuple[Callable[[], Any], ...] = (
        lambda: StopRule(tolerance=values[0], oversize_factor=values[1]),
        lambda: StopRule(oversized=values[0], stop_at=values[1]),
        lambda: Speed(values[0], values[1], values[2], values[3]),
        lambda: parse_flops_per_second(values[0]) if isinstance(values[0], str) else None,
        lambda: check_flops_spec(values[0]),
        lambda: check_count_tokens(values[0]),
        lambda: Meter(values[0]),
        lambda: Meter(6).load_state_dict({name: values[0] for name in Meter(6).state_dict()}),
        lambda: Gate.parse(values[1]),
    )
    for check in checks:
        with contextlib.suppress(InputError):
            check()


def read_law(data: Any) -> None:
    law = law_from_dict(data, KINDS)
    describe_law(law)
    assert law_from_dict(law.to_dict(), KINDS).constants == law.constants
    str(make_plan("1e18 FLOPs", law, 10**8, 4096))


def read_record(data: Any) -> None:
    record = RunRecord.from_dict(data)
    record.to_dict()


def read_table(rows: Any) -> None:
    if any(isinstance(row, str | bytes) for row in (rows if isinstance(rows, list | tuple) else [rows])):
        return  # a path, such as / or *: whatever lies there is no input of ours
    table = read_runs(rows)
    assert len(table) >= 1 and len(table.loss) == len(table.run)
    assert np.isfinite(table.params).all() and (table.params > 0).all()


class Files(NamedTuple):
    """Texts of files, written where the loaders look for them."""

    folder: Path

    def write(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path


FILES: Files


def read_file(given: tuple[str, bytes]) -> None:
    name, content = given
    path = FILES.write(name, content)
    for load in (read_runs, read_records, get_law, RunRecord.load):
        with contextlib.suppress(InputError):
            load(path)
    path.unlink()


def read_ladder(data: Any) -> None:
    FILES.write("ladder.json", json.dumps(data, default=str).encode())
    Ladder.load(FILES.folder)


def plan_a_ladder(values: Any) -> None:
    plan_ladder(LadderSettings(**{key: value for key, value in values.items() if key in LADDER}))


def read_rung(data: Any) -> None:
    rung = Rung.from_dict(data)
    assert "/" not in rung.name and ".." not in rung.name and rung.name not in ("", ".")


COUNTER: TokenCounter


def count_batch(batch: Any) -> None:
    for counter in (COUNTER, TokenCounter(encoder_decoder=True), TokenCounter(lambda _: batch)):
        with contextlib.suppress(InputError):
            count = counter(batch).read()
            assert count.processed >= 0 and count.samples >= 0
    assert len(COUNTER._readers) <= COUNTER.MOST_READERS


def run_command(words: list[str]) -> None:
    if words[:1] == ["fit"] and any(os.path.exists(word) or any(c in word for c in "*?[") for word in words[1:]):
        return  # whatever lies on this machine is no input of ours
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(words)
        except SystemExit as error:  # --help
            code = int(error.code or 0)
    assert code in (0, 2)
    if code == 2:
        said = err.getvalue()
        assert said.startswith("scalestop: error: ") and said.count("\n") == 1 and len(said) < 2000


# ---- inputs

tensors = st.builds(
    lambda shape, dtype, kind: _tensor(shape, dtype, kind),
    st.lists(st.integers(0, 3), max_size=4),
    st.sampled_from([torch.int64, torch.int32, torch.uint8, torch.bool, torch.float32, torch.bfloat16]),
    st.sampled_from(["plain"] * 8 + ["nested", "jagged", "sparse", "grad"]),
)


def _tensor(shape, dtype, kind):
    found = torch.ones(shape).to(dtype)
    if kind in ("nested", "jagged"):
        layout = {"nested": torch.strided, "jagged": torch.jagged}[kind]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], dtype=dtype, layout=layout)
    if kind == "sparse":
        return found.to_sparse()
    return found.requires_grad_() if kind == "grad" and dtype.is_floating_point else found


names = st.sampled_from(
    [
        *("input_ids", "tokens", "x", "labels", "y", "attention_mask", "inputs_embeds", "decoder_input_ids"),
        "pixels",
        0,
        1,
    ]
)
parts = st.one_of(tensors, tensors, scalars)
flat = st.one_of(parts, st.dictionaries(names, parts, max_size=4), st.lists(parts, max_size=3), st.tuples(parts, parts))
batches = st.one_of(flat, st.dictionaries(st.sampled_from("abc"), flat, max_size=3), st.lists(flat, max_size=3), flat)

json_texts = st.one_of(
    st.text(max_size=20),
    st.builds(lambda data: json.dumps(data, default=str), st.one_of(spoiled(RECORD), spoiled(ROW), spoiled(LAWS[0]))),
    st.integers(1, 3).map(lambda n: "[" * 10**n * 20 + "]" * 10**n * 20),
    st.sampled_from(["", "null", "[]", "{}", "1" * 5000, "NaN", '{"a":' * 3000, '"' + "x" * 200_000 + '"']),
)
cells = st.sampled_from(["1e6", "3", "abc", "", '"', "9" * 400, "nan", "-1", "1 2", "\r", "\x1c"]) | st.text(max_size=3)
csv_texts = st.lists(st.lists(cells, max_size=5).map(",".join), max_size=4).map(
    lambda lines: "\n".join(["params,tokens,loss,seed,curve", *lines])
)
contents = st.one_of(json_texts, csv_texts).map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(
    max_size=30
)
files = st.tuples(st.sampled_from(["r.json", "r.jsonl", "r.csv", "scalestop.json", "r.txt", "noext"]), contents)

flags = [
    *(
        "--budget",
        "--law",
        "--params",
        "--tokens_per_step",
        "--tolerance",
        "--oversized",
        "--stop_at",
        "--peak",
        "--mfu",
    ),
    *("--devices", "--usd_per_device_hour", "--json", "--config", "--nope", "--oversize_factor", "--help"),
]
texts = st.one_of(
    amounts, st.sampled_from([*list_laws(), "~nouser", "a" * 300, "/dev/null", "[", "{a: b", "null", "--", "-1"])
)
commands = st.builds(
    lambda command, pairs: [command, *[word for pair in pairs for word in pair]],
    st.sampled_from(["plan"] * 6 + ["laws", "fit", "ladder", "nope"]),
    st.lists(st.tuples(st.sampled_from(flags), texts), max_size=4),
).filter(lambda words: words[0] != "ladder") | st.builds(
    lambda command, text: [*command, text],
    st.sampled_from([["laws", "show"], ["fit"], ["ladder", "fit"], ["plan", "--budget"], ["laws"], []]),
    texts,
)

rows = st.one_of(
    st.lists(spoiled(ROW) | odd, min_size=1, max_size=3),
    st.dictionaries(st.sampled_from(["params", "tokens", "loss", "seed"]), odd, max_size=4),
    spoiled(ROW),
    odd,
)

TARGETS: dict[str, tuple[Any, Callable[[Any], None], float]] = {
    # inputs, what is tried on each, share of all inputs
    "amounts": (amounts | scalars, read_amount, 0.29),
    "budgets": (amounts | odd, read_budget, 0.16),
    "settings": (st.tuples(odd | amounts, odd, odd, odd), read_settings_of_a_run, 0.06),
    "laws": (st.sampled_from(LAWS).flatmap(spoiled) | odd, read_law, 0.05),
    "records": (spoiled(RECORD) | odd, read_record, 0.1),
    "tables": (rows, read_table, 0.08),
    "files": (files, read_file, 0.06),
    "ladders": (spoiled({"schema": "scalestop.ladder/1", "settings": LADDER, "target_flops": 10**12, "rungs": [RUNG]}),
                read_ladder, 0.05),
    "ladder plans": (spoiled(LADDER), plan_a_ladder, 0.01),
    "rungs": (spoiled(RUNG), read_rung, 0.07),
    "batches": (batches, count_batch, 0.065),
    "commands": (commands, run_command, 0.005),
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _folder(tmp_path_factory):
    global FILES, COUNTER
    FILES, COUNTER = Files(tmp_path_factory.mktemp("fuzz")), TokenCounter()


def fuzz(target: str, examples: int) -> int:
    """Try a target on so many inputs; return how many there were."""
    inputs, tried, _ = TARGETS[target]
    count = 0

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(inputs)
    def once(value):
        nonlocal count
        count += 1
        with warnings.catch_warnings(), contextlib.suppress(InputError):
            warnings.simplefilter("ignore")
            tried(value)

    once()
    return count


def test_the_shares_are_of_one_whole():
    assert sum(share for _, _, share in TARGETS.values()) == pytest.approx(1)


@pytest.mark.parametrize("target", TARGETS)
def test_only_documented_errors_come_out(target):
    assert fuzz(target, math.ceil(FAST * TARGETS[target][2])) > 0


@pytest.mark.slow
def test_a_hundred_thousand_inputs():
    counts = {target: fuzz(target, math.ceil(TOTAL * share)) for target, (_, _, share) in TARGETS.items()}
    print(counts)
    assert sum(counts.values()) >= TOTAL
