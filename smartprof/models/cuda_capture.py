"""Recording a function as a CUDA graph. The only file that records or replays one.

Written for torch 2.6 to 2.13. A recording keeps the addresses of all that the function reads and
writes; whoever records it must keep those tensors alive and in place.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import torch

WARM_UPS = 2  # runs before a recording: libraries set themselves up, and may not while recording


class CudaCapture:
    """Records functions of one GPU into graphs that share one memory pool and one stream.

    What a graph computes on the way lies in the pool, and the next graph to run overwrites it.
    """

    def __init__(self, device: torch.device) -> None:
        """Raises RuntimeError where not even the smallest graph can be recorded."""
        self.device = device
        # Not in inference mode: torch makes the state of its random generator here, once, and must
        # be able to update it from outside.
        with torch.inference_mode(False), torch.cuda.device(device):
            self._stream = torch.cuda.Stream(device)
            self._pool = torch.cuda.graph_pool_handle()
            self._number = torch.zeros(1, device=device)
            # Kept for good: a pool that no graph uses any more must not be used again.
            self._anchor = self(lambda: self._number.add_(1))

    def __call__(self, run: Callable[[], object]) -> Callable[[], None]:
        """Record `run`, which has no effect but on fixed tensors; returns what replays it.

        `run` is called a few times before, and replayed once. Raises RuntimeError when it cannot be
        recorded; the current stream is then what it was.
        """
        with torch.cuda.device(self.device):
            current = torch.cuda.current_stream()
            with torch.cuda.stream(current):  # a recording that fails leaves its own stream behind
                try:
                    return self._record(run, current)
                except RuntimeError:
                    self._unwind()
                    raise

    def _record(self, run: Callable[[], object], current: torch.cuda.Stream) -> Callable[[], None]:
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            for _ in range(WARM_UPS):
                run()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        ):
            run()
        graph.replay()  # the first replay uploads the graph
        torch.cuda.synchronize()
        return graph.replay

    def _unwind(self) -> None:
        """After a recording failed, have torch allocate and free as before it.

        Versions before the repair of 2026 (pull requests 180395 and 190308 of pytorch) go on
        allocating for the recording, and freeing what the allocator keeps is then an error.
        """
        names = (
            "_cuda_endAllocateToPool",
            "_cuda_endAllocateCurrentStreamToPool",
        )  # 2.8 on, before
        end = next((getattr(torch._C, x) for x in names if hasattr(torch._C, x)), None)
        if end is not None:
            with suppress(RuntimeError):  # nothing to end
                end(torch.cuda.current_device(), self._pool)
        with suppress(RuntimeError):  # reports the failure once more
            torch.cuda.synchronize()
