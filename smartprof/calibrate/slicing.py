"""Depth slicing: seconds of a model that is larger than memory, from a few of its layers.

All layers of a dense model cost the same, so a pass takes a + n c for n layers. A pass over k
layers and one over 2k, timed one right after the other, give c and a; the rest is extrapolated. The
two run on different layers, three sets of k in all, so that a set is read again only after the
others: what stands in caches then is no more than in the full model, if the sets are larger.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from smartprof.calibrate.plan import Point
from smartprof.calibrate.sweep import Bench, BenchTimings, sampler
from smartprof.device import Device, free_bytes
from smartprof.errors import InputError
from smartprof.models.loading import DTYPES, LoadedModel, dtype_name, load_layers, load_model
from smartprof.models.shapes import ModelShape
from smartprof.models.transformer import Transformer
from smartprof.models.weights import resolve_target

SETS = 3
GROWS_WITH_DEPTH = ("verify", "plain_decode")
MEMORY_SHARE = 0.5  # of the free memory that the layers and the embedding may take


class SlicedTimings(BenchTimings):
    """Times points on 2k and on k layers and tells the seconds of all of them.

    deep, shallow: the same drafter and text around 2k and k layers. layers: of the full model.
    What does not run through the target's layers is timed around the deeper one.
    """

    def __init__(self, deep: Bench, shallow: Bench, layers: int) -> None:
        super().__init__(deep)
        self._shallow = shallow
        sliced = shallow.target.model.shape.layers
        self._missing = (layers - 2 * sliced) / sliced

    def sampler(self, point: Point) -> Callable[[], float]:
        """A function that runs the point once on both depths."""
        deep = super().sampler(point)
        if point.quantity not in GROWS_WITH_DEPTH:
            return deep
        shallow = sampler(self._shallow, point)
        return lambda: extrapolated(shallow(), deep(), self._missing)


def extrapolated(shallow: float, deep: float, missing: float) -> float:
    """Seconds of the full depth. missing: layers beyond the deep pass, in sets.

    Noise can make the shallow pass the longer one; more layers never take less time.
    """
    return deep + missing * max(deep - shallow, 0.0)


def halves(model: Transformer, layers: int | None = None) -> tuple[Transformer, Transformer]:
    """Of a model with at least three sets of layers: the first two sets, and the third.

    layers: of a set; default: a third of the model's.
    """
    size = layers or model.shape.layers // SETS
    return model.part(0, 2 * size), model.part(2 * size, SETS * size)


def sliced_shape(shape: ModelShape, layers: int) -> ModelShape:
    """The layers that are held. Raises InputError if they are no fewer than the model's."""
    if layers < 1 or SETS * layers > shape.layers:
        raise InputError(
            f"expected --layers of 1 to {shape.layers // SETS} for {shape.name} with "
            f"{shape.layers} layers ({SETS} times as many are held), got {layers}"
        )
    return replace(shape, layers=SETS * layers)


def load_for_timing(
    name_or_dir: str, device: Device, dtype: str | None, layers: int | None, anew: bool = True
) -> LoadedModel:
    """A target to calibrate: whole where it fits and no `layers` are asked for, else in slices.

    anew: measure how its passes run fastest, and remember that for later loads. Raises InputError
    for more layers than can be cut out, or none that fit.
    """
    source = resolve_target(name_or_dir)
    if layers is None:
        size = DTYPES[dtype_name(dtype, device)].itemsize
        layers = layers_that_fit(source.shape, free_bytes(device.torch_device), size)
    if layers is None:
        return load_model(name_or_dir, device, dtype, anew)
    return load_layers(source, sliced_shape(source.shape, layers), device, dtype, anew)


def layers_that_fit(shape: ModelShape, free_bytes: int, element_bytes: int) -> int | None:
    """None if the whole model fits; else how many layers a set may have. InputError if not one."""
    if shape.weight_bytes(element_bytes) <= free_bytes:
        return None
    layer = element_bytes * shape.layer_matrix_elements
    tables = element_bytes * (1 if shape.tied_embeddings else 2) * shape.vocab * shape.hidden
    fits = int((MEMORY_SHARE * free_bytes - tables) // (SETS * layer))
    if fits < 1:
        raise InputError(
            f"{shape.name}: expected memory for {SETS} layers and the embedding, got "
            f"{free_bytes / 2**30:.1f} GiB: use a smaller shape or a larger device"
        )
    return min(fits, shape.layers // SETS)
