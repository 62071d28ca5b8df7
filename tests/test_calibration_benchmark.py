"""The benchmark of calibration keeps up with the options of `decode` and prints what was found."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from smartprof.decode.acceptance import AcceptanceRequest
from smartprof.trees.reliability import Reliability
from tests.benchmark_scripts import load_benchmark


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_benchmark("calibration")


def test_both_splits_are_decoded_with_the_options_given(script: ModuleType) -> None:
    arguments = script.parse(["--profile", "p.json", "--drafter", "ngram", "--batch", "1,4"])
    for split in ("development", "held-out"):
        acceptance = AcceptanceRequest(Path("a.json"), freeze=True)
        request = script.decode_request(arguments, split, acceptance)
        assert (request.split, request.drafter, request.batches) == (split, "ngram", (1, 4))
        assert request.acceptance is acceptance


def test_reliability_is_printed_by_bins(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    right = np.array([True, True, False, True])
    script.print_reliability(Reliability.of(np.array([0.95, 0.95, 0.1, 0.95]), right))
    lines = [x.split() for x in capsys.readouterr().out.splitlines()]
    assert lines[1] == ["0.07-0.13", "1", "0.100", "0.000"]
    assert lines[2] == ["0.93-1.00", "3", "0.950", "1.000"]
