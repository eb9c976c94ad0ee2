"""What can be wrong without a model is refused when the callback is made, not after the queue."""

from __future__ import annotations

import pytest

from scalestop import ComputeOptimalStopping, InputError


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"tolerance": "x"}, "tolerance: a number, such as 0.1; got 'x'"),
        ({"tolerance": None}, "tolerance: a number"),
        ({"oversize_factor": [2]}, r"oversize_factor: a number, such as 2.0; got \[2\]"),
        ({"stop_at": []}, "stop_at: one of earliest, median, latest"),
        ({"flops_per_token": "7N"}, "flops_per_token='7N' is none of '6N'"),
        ({"flops_per_token": -1}, "flops_per_token = -1"),
        ({"flops_per_token": 10**400}, "flops_per_token = 1000"),
        ({"flops_per_token": None}, "flops_per_token = None"),
        ({"count_tokens": 3}, "count_tokens=3 is not a function"),
        ({"mfu": 10**400}, "mfu: must be positive and finite"),
        ({"records": 5}, "records: files, folders, globs or run records; got 5"),
        ({"records": "/dev/null"}, "no run records at '/dev/null'"),
        ({"law": "~nobody-at-all"}, "law: '~nobody-at-all': there is no such user"),
        ({"law": "a" * 300}, "no law and no file is called 'aaa"),
        ({"job_budget": [["1h"]]}, "a list of limits, not of lists"),
    ],
)
def test_refused_at_once(arguments, text):
    with pytest.raises(InputError, match=text):
        ComputeOptimalStopping("1e18 FLOPs", **arguments)
