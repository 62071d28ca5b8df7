"""What NVIDIA's data sheets say of a device. Peaks, never reached; measured here by nobody.

Dense bfloat16 with float32 accumulation: where a sheet states the figure with sparsity, half of it.
`sustained` is the share of that peak which large matrix products keep up within the power limit:
the float16 figures of https://github.com/neuralinternet/SN27-opencompute (config.yaml,
GPU_TFLOPS_FP16) over the peak, rounded to 0.05; "assumed" where it has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from smartprof.errors import InputError

GIGA, TERA, MEBI = 10**9, 10**12, 2**20


@dataclass(frozen=True)
class DeviceSheet:
    """One device: FLOP/s, bytes per second, bytes.

    name: as the driver tells it. sms: streaming multiprocessors, each with its own tile in flight.
    sustained: share of `flops` that large products keep up.
    """

    name: str
    flops: float
    bandwidth: float
    memory_bytes: int
    sms: int
    l2_bytes: int
    capability: str
    sustained: float


DEVICES: Mapping[str, DeviceSheet] = {
    # NVIDIA A100 Tensor Core GPU data sheet (nvidia-a100-datasheet-us-nvidia-1758950-r4-web.pdf):
    # 312 TFLOP/s; 1,555 GB/s. SMs and L2: NVIDIA A100 Tensor Core GPU Architecture, white paper.
    "a100-40": DeviceSheet(
        name="NVIDIA A100-SXM4-40GB",
        flops=312 * TERA,
        bandwidth=1555 * GIGA,
        memory_bytes=40 * GIGA,
        sms=108,
        l2_bytes=40 * MEBI,
        capability="8.0",
        sustained=0.80,
    ),
    # The same sheet, SXM with 80 GB: 2,039 GB/s.
    "a100": DeviceSheet(
        name="NVIDIA A100-SXM4-80GB",
        flops=312 * TERA,
        bandwidth=2039 * GIGA,
        memory_bytes=80 * GIGA,
        sms=108,
        l2_bytes=40 * MEBI,
        capability="8.0",
        sustained=0.75,
    ),
    # NVIDIA H100 Tensor Core GPU data sheet, SXM: 1,979 TFLOP/s with sparsity, 3.35 TB/s. SMs and
    # L2: NVIDIA H100 Tensor Core GPU Architecture, white paper (989.4 TFLOP/s dense).
    "h100": DeviceSheet(
        name="NVIDIA H100 80GB HBM3",
        flops=989.4 * TERA,
        bandwidth=3350 * GIGA,
        memory_bytes=80 * GIGA,
        sms=132,
        l2_bytes=50 * MEBI,
        capability="9.0",
        sustained=0.60,
    ),
    # NVIDIA H200 Tensor Core GPU data sheet, SXM: 4.8 TB/s, 141 GB, products as H100.
    "h200": DeviceSheet(
        name="NVIDIA H200",
        flops=989.4 * TERA,
        bandwidth=4800 * GIGA,
        memory_bytes=141 * GIGA,
        sms=132,
        l2_bytes=50 * MEBI,
        capability="9.0",
        sustained=0.60,
    ),
    # NVIDIA L40S data sheet: 362.05 TFLOP/s (733 with sparsity), 864 GB/s, 18,176 CUDA cores, which
    # are 142 SMs. L2: NVIDIA Ada GPU Architecture, white paper, the L40 of the same chip.
    "l40s": DeviceSheet(
        name="NVIDIA L40S",
        flops=362.05 * TERA,
        bandwidth=864 * GIGA,
        memory_bytes=48 * GIGA,
        sms=142,
        l2_bytes=96 * MEBI,
        capability="8.9",
        sustained=0.45,
    ),
    # NVIDIA RTX PRO 6000 Blackwell Workstation Edition data sheet: 96 GB, 1,792 GB/s, 24,064 CUDA
    # cores, which are 188 SMs. Products and L2: NVIDIA RTX Blackwell PRO GPU Architecture, white
    # paper. Sustained: assumed.
    "rtx-pro-6000": DeviceSheet(
        name="NVIDIA RTX PRO 6000 Blackwell Workstation Edition",
        flops=503.8 * TERA,
        bandwidth=1792 * GIGA,
        memory_bytes=96 * GIGA,
        sms=188,
        l2_bytes=128 * MEBI,
        capability="12.0",
        sustained=0.70,
    ),
    # NVIDIA L4 Tensor Core GPU data sheet: 242 TFLOP/s with sparsity, 300 GB/s. SMs and L2: NVIDIA
    # Ada GPU Architecture, white paper.
    "l4": DeviceSheet(
        name="NVIDIA L4",
        flops=121 * TERA,
        bandwidth=300 * GIGA,
        memory_bytes=24 * GIGA,
        sms=58,
        l2_bytes=48 * MEBI,
        capability="8.9",
        sustained=0.40,
    ),
    # NVIDIA A10 Tensor Core GPU data sheet: 125 TFLOP/s, 600 GB/s. SMs (9,216 CUDA cores) and L2:
    # NVIDIA Ampere GA102 GPU Architecture, white paper. Sustained: assumed, at 150 W.
    "a10": DeviceSheet(
        name="NVIDIA A10",
        flops=125 * TERA,
        bandwidth=600 * GIGA,
        memory_bytes=24 * GIGA,
        sms=72,
        l2_bytes=6 * MEBI,
        capability="8.6",
        sustained=0.50,
    ),
    # NVIDIA Ada GPU Architecture, white paper, GeForce RTX 4090: 165.2 TFLOP/s, 1,008 GB/s.
    "rtx-4090": DeviceSheet(
        name="NVIDIA GeForce RTX 4090",
        flops=165.2 * TERA,
        bandwidth=1008 * GIGA,
        memory_bytes=24 * GIGA,
        sms=128,
        l2_bytes=72 * MEBI,
        capability="8.9",
        sustained=0.95,
    ),
}


def find_sheet(name: str) -> DeviceSheet:
    """The device of that name, the table's or the driver's. Raises InputError with the names."""
    for known, sheet in DEVICES.items():
        if name.lower() in (known, sheet.name.lower()):
            return sheet
    raise InputError(
        f"--device {name}: expected one of {', '.join(DEVICES)}, or the peaks of another device by "
        "--flops, --bandwidth and --memory"
    )
