"""FLOPs per token of published architectures: the committed table, its page, and the conventions against each other."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers")

EXAMPLE = Path(__file__).parent.parent / "examples" / "flops_conformance.py"
spec = importlib.util.spec_from_file_location("flops_conformance", EXAMPLE)
assert spec is not None and spec.loader is not None
conformance = importlib.util.module_from_spec(spec)
sys.modules["flops_conformance"] = conformance  # its dataclass looks itself up
spec.loader.exec_module(conformance)

ROWS = {row.model: row for row in conformance.read()}
DENSE = [name for name in ROWS if name.startswith(("GPT-2", "Llama", "Mistral", "Gemma", "T5", "ViT"))]
QUICK = ("Llama 2 7B", "ViT-L/16")


def test_the_page_shows_the_committed_table():
    assert list(ROWS) == list(conformance.MODELS)
    assert len(ROWS) >= 12
    assert conformance.table(ROWS.values()) in EXAMPLE.with_suffix(".md").read_text()


@pytest.mark.parametrize("name", DENSE)
def test_measured_is_torchs_counter_where_that_counts_all(name):
    assert ROWS[name].measured == pytest.approx(ROWS[name].counter, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "looked_up"),
    [
        ("GPT-2 XL", 2048 * 1600),  # positions; the words' table is the head too
        ("Llama 2 7B", 32_000 * 4096),
        ("Llama 3 8B (grouped queries)", 128_256 * 4096),
        ("Mixtral 8x7B", 32_000 * 4096),
        ("Qwen3 30B-A3B", 151_936 * 2048),
        ("DeepSeek V2 Lite (latent attention)", 102_400 * 2048),
    ],
)
def test_measured_is_6n_with_attention_less_what_is_looked_up(name, looked_up):
    row = ROWS[name]
    assert row.measured == pytest.approx(row.six_n_attention - 6 * looked_up, rel=0.01)


def test_the_two_numbers_of_one_mixture_of_experts_are_two_conventions():
    """37.6 and 192.9 GFLOP: torchtitan's formula at a context of 8,192, and PaLM's at 4,096."""
    row = ROWS["Qwen3 30B-A3B"]
    a_token = 12 * 48 * 32 * 128
    assert row.torchtitan + (8192 - row.context) * a_token == pytest.approx(37.6e9, rel=1e-3)
    assert row.palm + (4096 - row.context) * a_token == pytest.approx(192.9e9, rel=1e-3)


def test_a_state_space_model_costs_6n():
    row = ROWS["Mamba 2.8B"]
    assert row.six_n_attention is None
    assert row.measured == pytest.approx(row.six_n, rel=0.01)
    assert row.counter > 1.8 * row.measured


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_a_row_is_counted_anew(name):
    assert conformance.count(name) == ROWS[name]
