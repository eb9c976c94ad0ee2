"""Peaks from Lightning's table where it is right, and None where it is not."""

import subprocess
import sys

import pytest
import torch

from scalestop.accounting.hardware import device_count, device_name, is_in_table, peak_flops_per_second


@pytest.fixture
def gpu(monkeypatch):
    """A machine whose CUDA device has the given name."""

    def named(name):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: name)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (8, 0))
        return "cuda:0"

    return named


# Dense tensor-core rates of NVIDIA's datasheets: V100 (2020), T4 (2019), A100 (2021), L4 (2023), H100 (2023).
@pytest.mark.parametrize(
    ("name", "precision", "peak"),
    [
        ("Tesla V100-SXM2-16GB", "16-mixed", 125e12),
        ("Tesla V100-PCIE-32GB", "16-mixed", 112e12),
        ("Tesla T4", "16-mixed", 65e12),
        ("Tesla T4", torch.float16, 65e12),
        ("NVIDIA A100-SXM4-40GB", "bf16-mixed", 312e12),
        ("NVIDIA A100 80GB PCIe", "bf16-true", 312e12),
        ("NVIDIA A100-SXM4-80GB", "64-true", 9.7e12),
        ("NVIDIA L4", "bf16-mixed", 121e12),
        ("NVIDIA H100 80GB HBM3", "bf16-mixed", 989.4e12),
        ("NVIDIA H100 PCIe", "16-true", 756e12),
    ],
)
def test_known(gpu, name, precision, peak):
    pytest.importorskip("lightning_fabric")
    assert peak_flops_per_second(gpu(name), precision) == peak


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA L40S",
        "NVIDIA L40",
        "NVIDIA H200",
        "NVIDIA GH200 480GB",
        "NVIDIA B200",
        "NVIDIA H100 NVL",
        "NVIDIA H20",
        "NVIDIA A10G",
        "NVIDIA A40",
        "NVIDIA RTX A4000",
        "NVIDIA RTX A6000",
        "NVIDIA T400",
        "NVIDIA GeForce RTX 4090",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        "AMD Instinct MI300X",
        "",
    ],
)
def test_unknown_is_none(gpu, name):
    assert peak_flops_per_second(gpu(name), "bf16-mixed") is None
    assert not is_in_table(name)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("NVIDIA L40S", 121e12),  # an L4's; the L40S does 362e12
        ("NVIDIA RTX A4000", 37.4e12),  # an A40's without tensor cores
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", 312e12),  # a seventh of the GPU, charged as the whole
        ("NVIDIA H100 NVL", 1978.8e12),  # a pair's
    ],
)
def test_what_the_table_says_unguarded(gpu, name, wrong):
    """The guard is for these answers; when Lightning mends them this fails, and the guard can go."""
    throughput = pytest.importorskip("lightning_fabric.utilities.throughput")
    assert throughput.get_available_flops(torch.device(gpu(name)), torch.bfloat16) == wrong


@pytest.mark.parametrize("precision", ["transformer-engine", "8-true", "nonsense", torch.int32])
def test_a_precision_without_a_known_rate(gpu, precision):
    assert peak_flops_per_second(gpu("NVIDIA A100-SXM4-40GB"), precision) is None


def test_bfloat16_on_a_gpu_without_it(gpu, recwarn):
    assert peak_flops_per_second(gpu("Tesla T4"), "bf16-mixed") is None
    assert not recwarn.list


def test_float32_follows_the_matmul_precision(gpu):
    pytest.importorskip("lightning_fabric")
    device, before = gpu("NVIDIA A100-SXM4-40GB"), torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("highest")
        assert peak_flops_per_second(device, "32-true") == 19.5e12
        torch.set_float32_matmul_precision("high")
        assert peak_flops_per_second(device, "32-true") == 156e12
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("device", ["cpu", "mps", "meta", torch.device("cpu")])
def test_other_devices(device):
    assert peak_flops_per_second(device, "32-true") is None


def test_without_lightning(gpu, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning_fabric.utilities.throughput", None)
    monkeypatch.setitem(sys.modules, "lightning.fabric.utilities.throughput", None)
    assert peak_flops_per_second(gpu("NVIDIA A100-SXM4-40GB"), "bf16-mixed") is None


def test_names_and_counts(gpu):
    assert device_name(gpu("NVIDIA L4")) == device_name(0) == "NVIDIA L4"
    assert device_name("cpu").startswith("cpu")
    assert device_count("cpu") == 1
    assert device_count("cuda") == max(1, torch.cuda.device_count())


def test_accounting_does_not_import_lightning():
    modules = ("params", "tokens", "flops", "hardware", "audit")
    imports = "; ".join(f"import scalestop.accounting.{name}" for name in modules)
    check = "import sys; assert not {'pytorch_lightning', 'lightning', 'lightning_fabric'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", f"{imports}; {check}"], check=True)
