"""Samples that come again."""

from __future__ import annotations

import json

import numpy as np

from scalestop.run.repeats import RepeatWatch


def test_repeats_are_found_and_passes_are_allowed():
    fresh, stuck = RepeatWatch(), RepeatWatch()
    generator = np.random.default_rng(0)
    hashes = [int(value) for value in generator.integers(0, 2**60, 20_000)]
    fresh.see(hashes)
    stuck.see(hashes[:64] * 3)
    assert not fresh.check(0.5).repeated and fresh.again == 0 and len(fresh.known) <= 4_096
    assert stuck.check(0.01).repeated and stuck.again == 128
    assert not stuck.check(3.0).repeated
    assert RepeatWatch.from_state(json.loads(json.dumps(stuck.state_dict()))) == stuck
