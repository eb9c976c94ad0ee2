"""The studies of examples/studies: their arms are what they say, and what is written of them is what was measured."""

import importlib.util
import statistics
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "examples" / "studies"


@pytest.fixture(scope="module")
def studies():
    spec = importlib.util.spec_from_file_location("studies", FOLDER / "studies.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["studies"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["studies"]


@pytest.mark.parametrize("study", ["balance", "shape", "advice"])
def test_the_arms_of_a_study_spend_the_same(studies, study):
    spent = {arm.flops for arm in studies.STUDIES[study]()}
    assert max(spent) == pytest.approx(min(spent))
    for rows in studies.arms_of(study).values():
        assert all(float(row["flops"]) == pytest.approx(max(spent), rel=0.01) for row in rows)


def test_shapes_have_one_size_and_repeats_one_length(studies):
    sizes = [arm.dims.num_params for arm in studies.shape()]
    assert max(sizes) / min(sizes) < 1.08
    arms = studies.repeats()
    assert len({arm.tokens for arm in arms}) == 1
    assert [round(arm.tokens / arm.unique) for arm in arms] == [1, 4, 16, 64]


def test_repeated_text_is_as_short_as_it_says_and_comes_from_all_over(studies):
    data = studies.Text(100_000, batch_size=1)
    whole = studies.TextData(batch_size=1)
    stream = data.train_dataloader()
    assert len(stream) * 128 == pytest.approx(100_000, rel=0.05)
    assert len(whole.corpus.train) > 20 * 100_000
    # its last batch is no part of the text's first tenth
    first = bytes(whole.corpus.train[: len(whole.corpus.train) // 10].tolist())
    windows = [bytes(stream.batch(i)["input_ids"][0].tolist()) for i in range(20)]
    assert sum(window in first for window in windows) < 10


@pytest.mark.parametrize("study", ["balance", "repeats", "shape", "converged", "advice"])
def test_the_note_holds_the_table_of_what_was_measured(studies, study):
    assert studies.table(study) in (FOLDER / "README.md").read_text()
    assert (FOLDER / f"{study}.png").read_bytes()[:4] == b"\x89PNG"


def test_balance_beats_both_extremes_by_more_than_seeds_differ(studies):
    arms = studies.arms_of("balance")
    losses = {name: [float(row["loss"]) for row in rows] for name, rows in arms.items()}
    assert max(losses["balanced"]) < min(losses["oversized"]) < min(losses["undersized"])
    assert all(len(values) == 3 for values in losses.values())
    gap = statistics.mean(losses["oversized"]) - statistics.mean(losses["balanced"])
    assert gap > 5 * statistics.stdev(losses["balanced"])


def test_the_plan_needs_a_fraction_of_the_compute_of_training_until_nothing_improves(studies):
    rows = {arm: runs[0] for arm, runs in studies.arms_of("converged").items()}
    waited, planned = rows["until it stops"], rows["planned for its loss"]
    assert float(planned["loss"]) <= float(waited["loss"])
    assert float(waited["flops"]) / float(planned["flops"]) == pytest.approx(23, abs=0.5)
    same = rows["planned for its compute"]
    assert float(same["flops"]) == pytest.approx(float(waited["flops"]), rel=0.01)
    assert float(waited["loss"]) - float(same["loss"]) == pytest.approx(0.61, abs=0.005)
