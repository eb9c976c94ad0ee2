"""What the devices could do at best, where that is known, and which share of it a run delivers."""

from __future__ import annotations

import platform
import re
import sys
import warnings
from collections.abc import Callable
from importlib import import_module

import torch

# Device names for which the table of Lightning Fabric (2.6) holds the dense tensor-core rate that the maker publishes:
# NVIDIA's datasheets of V100, T4, A100, L4 and H100. Whole names, because its own reading is by parts of names, and
# takes an L40 or L40S for an L4, a T400 for a T4, a RTX A4000 for an A40, a MIG slice for its whole GPU, and a laptop's
# chip for the desktop's. Left out on purpose, as the table's number is another one than the dense tensor-core rate:
# H100 NVL (a pair's), H200 (with sparsity), A10G (the A10's), and A40, RTX and Quadro (without tensor cores).
_KNOWN = re.compile(
    r"(Tesla V100(-SXM[23]|S?-PCIE)-(16|32)GB(-LS)?"
    r"|(Tesla |NVIDIA )?T4"
    r"|(NVIDIA )?A100-(SXM4?|PCIE|PCI)-(40|80)GB|(NVIDIA )?A100 80GB PCIe"
    r"|NVIDIA L4"
    r"|NVIDIA H100 80GB HBM3|NVIDIA H100 PCIe|NVIDIA H100 80GB HBM2e)"
)
_DTYPES = {"64": torch.float64, "32": torch.float32, "16": torch.float16, "bf16": torch.bfloat16}


def peak_flops_per_second(device: torch.device | str | int, precision: str | torch.dtype = "32-true") -> float | None:
    """Peak of one device, where it is known for certain.

    From the table of Lightning Fabric, for those device names only whose entry agrees with the maker's datasheet
    (dense, tensor cores). Unknown stays unknown: the L40S, H200, B200, GH200, consumer cards, CPUs and Apple's give
    None, never a neighbour's number. Give the peak yourself then.

    Args:
        device: One device: ``torch.device``, its name, or a CUDA index.
        precision: Of the matmuls: a dtype, or a Lightning precision such as ``"bf16-mixed"``. Matmuls of float32 run
            at the TF32 rate where ``torch.get_float32_matmul_precision()`` allows that.

    Returns:
        FLOP/s of one device, or None.
    """
    device = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    dtype = precision if isinstance(precision, torch.dtype) else _compute_dtype(precision)
    if dtype is None or device.type not in ("cuda", "xla"):
        return None
    if device.type == "cuda" and not is_in_table(device_name(device)):
        return None
    get_available_flops = _lightnings_table()
    if get_available_flops is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # unknown is an answer here, not a warning
            peak = get_available_flops(device, dtype)
    except (KeyError, ImportError, RuntimeError):  # a TPU whose environment does not name its type
        return None
    return float(peak) if peak else None


def is_in_table(name: str) -> bool:
    """Whether a CUDA device of this name is one whose entry in Lightning's table agrees with its datasheet."""
    return _KNOWN.fullmatch(name.strip()) is not None


def _compute_dtype(precision: str) -> torch.dtype | None:
    """The matmuls' dtype under a Lightning precision; None for one that names none (transformer-engine, ...)."""
    return _DTYPES.get(str(precision).removesuffix("-true").removesuffix("-mixed"))


def device_name(device: torch.device | str | int) -> str:
    """Name of a device (or its name, or a CUDA index) for people: the GPU's model, or kind of device and processor."""
    device = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    processor = platform.processor() or platform.machine()
    return f"{device.type} ({processor})" if device.type == "cpu" and processor else device.type


def _lightnings_table() -> Callable[[torch.device, torch.dtype], int | None] | None:
    """Find Lightning's table in the package that is imported already: importing the other would set up its logger."""
    packages = ["lightning_fabric", "lightning.fabric"]
    for package in sorted(packages, key=lambda name: name not in sys.modules):
        try:
            found = import_module(f"{package}.utilities.throughput").get_available_flops
        except ImportError:
            continue
        return found
    return None


def device_count(device_type: str) -> int:
    """Devices of a type, such as ``"cuda"``, on this machine: a CPU counts as one."""
    module = getattr(torch, torch.device(device_type).type, None)
    count = getattr(module, "device_count", None)
    return max(1, int(count())) if callable(count) else 1
