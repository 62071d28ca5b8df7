"""A stated, synthetic profile like that of an NVIDIA L40S running a model of 7B parameters.

Roofline constants from the data sheet of the L40S (864 GB/s; 362 TFLOP/s in bfloat16, dense) times
efficiencies as they are common, and the shapes of Llama-2-7B with an EAGLE-like head of one layer.
Nothing here was measured.
"""

from __future__ import annotations

from functools import cache

from smartprof.profile.schema import DeviceKey, Key, ModelKey, Profile, Provenance
from tests.profiles import make_key, make_profile

BANDWIDTH = 864e9 * 0.8  # bytes per second
FLOPS = 362e12 * 0.5  # per second
PARAMETERS = 6.74e9
WEIGHT_BYTES = 2 * PARAMETERS
KV_BYTES = 2 * 32 * 4096 * 2  # per token of context: keys and values, 32 layers, 2 bytes
TILE = 64  # tokens that the matrix products are padded to, from the first tile's end on
HEAD_PARAMETERS = 0.33e9  # one layer and the output matrix of the draft head
LAUNCH_SECONDS = 0.3e-3  # of a draft step, whatever its size
OVERHEAD_SECONDS = 1.0e-3  # of a round,
OVERHEAD_PER_REQUEST = 15e-6  # and for each request of it

BATCHES = (1, 4, 8, 16, 32)
CONTEXTS = (128, 512, 2048)
SIZES = (1, 2, 4, 8, 16, 32, *(y for x in range(1, 33) for y in (TILE * x, TILE * x + 1)))


def verify(batch: int, size: int, context: int) -> float:
    """The slower of reading the weights and computing, padded to tiles; then attention."""
    padded = size if size <= TILE else -(-size // TILE) * TILE
    products = max(WEIGHT_BYTES / BANDWIDTH, 2 * PARAMETERS * padded / FLOPS)
    return products + batch * context * KV_BYTES / BANDWIDTH


def draft_step(batch: int, size: int, context: int) -> float:
    """One pass of the head; its attention reads a 32nd of the target's keys and values."""
    products = max(2 * HEAD_PARAMETERS / BANDWIDTH, 2 * HEAD_PARAMETERS * size / FLOPS)
    return LAUNCH_SECONDS + products + batch * context * KV_BYTES / 32 / BANDWIDTH


def overhead(batch: int, size: int, context: int) -> float:
    """Everything else in a round."""
    return OVERHEAD_SECONDS + OVERHEAD_PER_REQUEST * batch


def l40s_key() -> Key:
    """The key of what is stated here."""
    device = DeviceKey(
        kind="cuda",
        name="a stated L40S-like device",
        uuid_digest=None,
        memory_bytes=48 * 10**9,
        capability="8.9",
        driver=None,
        threads=None,
    )
    target = ModelKey(name="llama-2-7b", digest="stated", parameters=int(PARAMETERS))
    changes = {"device": device, "target": target, "dtype": "bfloat16"}
    return make_key().model_copy(update=changes)


@cache
def l40s_profile() -> Profile:
    """For a drafter named eagle3."""
    made = make_profile(
        verify,
        overhead=overhead,
        draft_step=draft_step,
        draft_catchup=draft_step,
        drafters=("eagle3",),
        batches=BATCHES,
        contexts=CONTEXTS,
        sizes=SIZES,
        key=l40s_key(),
    )
    costs = made.drafters["eagle3"].model_copy(update={"kind": "eagle3"})
    provenance = Provenance(kind="analytic", command="tests/l40s.py", note="nothing was measured")
    return made.model_copy(update={"drafters": {"eagle3": costs}, "provenance": provenance})
