"""Throttled visits do not count; a power cap that lasts is told. By stand-ins: no GPU is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import Any, ClassVar

import pytest
import torch

from smartprof.calibrate import timing
from smartprof.calibrate.clocks import ClockWatch
from smartprof.calibrate.measure import measure
from smartprof.calibrate.plan import Plan, make_plan
from smartprof.calibrate.schedule import HOT_RETRIES
from smartprof.device import NvmlReading
from smartprof.models.shapes import named_shape
from tests.synthetic_device import QUIET, SyntheticDevice

COOL: tuple[str, ...] = ()
HOT = ("HwThermalSlowdown",)
CAPPED = ("SwPowerCap",)


def reading(events: tuple[str, ...] | None) -> NvmlReading:
    missing = {} if events is not None else {"clock_events": "Not Supported"}
    return NvmlReading("570.1", 1_980_000_000, None, None, 60, 300.0, events, missing)


def watch_of(events: Iterator[tuple[str, ...] | None]) -> ClockWatch:
    return ClockWatch(lambda: reading(next(events)))


def plan() -> Plan:
    return make_plan("quick", named_shape("SmolLM2-135M"), 1 << 50, 4, 8192, ("ngram",))


class HotDevice(SyntheticDevice):
    """Twice as slow while it is hot; `events` say when, one a visit."""

    def __init__(self, hot: Iterator[bool]) -> None:
        super().__init__(0, QUIET)
        self._hot, self.is_hot = hot, False

    def sampler(self, point: Any) -> Callable[[], float]:
        self.is_hot = next(self._hot)
        sample = super().sampler(point)
        return lambda: (2.0 if self.is_hot else 1.0) * sample()

    def read(self) -> NvmlReading:
        return reading(HOT if self.is_hot else COOL)


def test_samples_of_throttled_visits_are_measured_again() -> None:
    hot = chain([False, True, True, False, True], repeat(False))
    heated, cool = HotDevice(hot), HotDevice(repeat(False))
    watch = ClockWatch(heated.read)
    first = measure(plan(), 20.0, heated, [], lambda _: None, watch)
    second = measure(plan(), 20.0, cool, [], lambda _: None)
    assert watch.discarded == 3
    same = set(first.fitted) & set(second.fitted)
    assert len(same) >= len(plan().fitted)
    for point in same:
        assert first.fitted[point].median == pytest.approx(second.fitted[point].median)
    assert watch.warnings() == ["3 visits were throttled by heat and measured again"]


def test_a_device_that_stays_hot_is_measured_and_said_to_be() -> None:
    device = HotDevice(repeat(True))
    watch = ClockWatch(device.read)
    found = measure(plan(), 0.0, device, [], lambda _: None, watch)
    assert set(found.fitted) == set(plan().fitted)
    assert watch.discarded == HOT_RETRIES * len(found.samples)
    assert "throttled by heat: let it cool" in watch.warnings()[0]


@pytest.mark.parametrize(("capped", "told"), [(9, True), (3, False)])
def test_a_power_cap_is_a_state_only_where_it_lasts(capped: int, told: bool) -> None:
    watch = watch_of(chain(repeat(CAPPED, capped), repeat(COOL, 10 - capped)))
    assert not any(watch.throttled() for _ in range(10))
    assert any("power limit" in x for x in watch.warnings()) == told


def test_what_cannot_be_read_is_not_taken_for_cool() -> None:
    watch = watch_of(repeat(None))
    assert not watch.throttled()
    assert watch.warnings() == ["throttling could not be read from NVML (Not Supported)"]
    assert watch_of(repeat(None)).warnings() == []


class Event:
    """A CUDA event on a clock that the test moves."""

    clock = 0.0
    log: ClassVar[list[str]] = []

    def __init__(self, enable_timing: bool = False) -> None:
        assert enable_timing
        self.at: float | None = None

    def record(self) -> None:
        self.at = Event.clock
        Event.log.append("record")

    def synchronize(self) -> None:
        Event.log.append("synchronize")

    def elapsed_time(self, end: Event) -> float:
        assert self.at is not None and end.at is not None
        return 1e3 * (end.at - self.at)


class OnDevice:
    """Stands for torch.cuda.device."""

    def __init__(self, device: torch.device) -> None:
        assert device.type == "cuda"

    def __enter__(self) -> None:
        Event.log.append("enter")

    def __exit__(self, *_: object) -> None:
        Event.log.append("exit")


def test_cuda_work_is_timed_between_two_events_of_its_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "device", OnDevice)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: Event.log.append("idle"))
    Event.log.clear()

    def replay() -> None:
        Event.log.append("run")
        Event.clock += 0.0125

    assert timing.time_call(replay, torch.device("cuda:0")) == pytest.approx(0.0125)
    expected = ["enter", "idle", "record", "run", "record", "synchronize", "exit"]
    assert Event.log == expected


def test_on_a_cpu_the_clock_is_that_of_the_machine() -> None:
    assert 0 < timing.time_call(lambda: sum(range(1000)), torch.device("cpu")) < 1
