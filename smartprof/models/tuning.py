"""How the passes of a model run fastest on this device: recalled, else measured and remembered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from smartprof.models.attention_probe import measure_attention
from smartprof.models.inputs import InputLayout
from smartprof.models.kernel_memory import Choice, KernelMemory, Passes
from smartprof.models.kernels import Kernels
from smartprof.models.packing import Linear, can_prepack, lay_out, settle, warm_up
from smartprof.models.probing import measure_kernels
from smartprof.models.ragged import load_ragged
from smartprof.models.shapes import ModelShape


def tune(
    linears: Sequence[Linear], shape: ModelShape, like: Tensor, memory: KernelMemory | None
) -> InputLayout:
    """Let products run as is fastest, and tell how attention does.

    linears: in the order of a pass; those that are not of CPUs and float32 stay plain. shape: of
    the layers. like: any of the weights. memory: None measures, and keeps nothing.
    """
    group = shape.heads // shape.kv_heads
    if like.device.type != "cpu":
        return InputLayout(group, shape.window)
    prepacked = linears if can_prepack(like) else []
    passes = Passes(
        dtype=str(like.dtype).removeprefix("torch."),
        linears=tuple(x.size for x in prepacked),
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
    )
    choice = None if memory is None else memory.recall(passes)
    if choice is not None and lay_out(prepacked, choice.kernels):
        settle(prepacked, choice.kernels)
        warm_up(prepacked)
    else:
        attention = measure_attention(shape, like.dtype)
        choice = Choice(measure_kernels(prepacked), attention)
        if not lay_out(prepacked, choice.kernels):  # right where it was probed, but not everywhere
            choice = Choice(dict.fromkeys(choice.kernels, Kernels()), attention)
        settle(prepacked, choice.kernels)
        if memory is not None:
            memory.keep(passes, choice)
    costs = choice.attention
    if costs.ragged is not None and load_ragged() is None:
        costs = replace(costs, ragged=None)
    return InputLayout(group, shape.window, costs)
