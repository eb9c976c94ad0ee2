"""Two ways of counting elements, for small tensors and for large ones, give one answer."""

from __future__ import annotations

import pytest
import torch

from scalestop.accounting.readers import SMALL, count_nonzero, count_not_equal


@pytest.mark.parametrize("rows", [1, SMALL // 8, SMALL // 8 + 1, SMALL])
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
def test_small_and_large_are_counted_alike(rows, dtype):
    tensor = torch.randint(0, 2, (rows, 8), generator=torch.Generator().manual_seed(rows)).to(dtype)
    expected = sum(int(x) for x in tensor.flatten().tolist())
    assert count_nonzero(tensor) == expected
    assert count_not_equal(tensor, 0) == expected
    labels = tensor.to(torch.int64).masked_fill(tensor == 0, -100)
    assert count_not_equal(labels, -100) == expected
