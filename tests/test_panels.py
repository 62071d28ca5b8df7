from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from smartprof.models import c_library, panels
from smartprof.models.block import Norm
from smartprof.models.c_library import FOLDER, load_c_library
from smartprof.models.panels import SOURCE, Panels, load_panels
from smartprof.models.user_cache import CACHE_VARIABLE
from tests.compilers import needs_compiler

FOUND = load_panels()
TOKENS = (1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 24, 25, 40, 1025)


@pytest.fixture
def library() -> Panels:
    assert FOUND is not None
    return FOUND


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@needs_compiler
@pytest.mark.parametrize("outputs", [1, 31, 32, 64, 200], ids="{} outputs".format)
@pytest.mark.parametrize("tokens", TOKENS, ids="{} tokens".format)
def test_products_are_those_of_torch(library: Panels, tokens: int, outputs: int) -> None:
    x, weight = random(tokens, 50), random(outputs, 50)
    laid_out = library.lay_out(weight)
    bias, other = random(outputs), random(tokens, 2 * outputs)[:, ::2]
    expected = F.linear(x, weight)
    for added, wanted in ((None, expected), (bias, expected + bias), (other, expected + other)):
        found = library.product(x, laid_out, outputs, added=added)
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-5)


@needs_compiler
def test_norms_are_those_that_a_norm_before_the_product_makes(library: Panels) -> None:
    x, weight, eps = random(9, 48) * torch.logspace(-4, 3, 9)[:, None], random(40, 48), 1e-5
    found = library.product(x, library.lay_out(weight), 40, eps=48 * eps)
    expected = F.linear(Norm(None, eps)(x), weight)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@needs_compiler
def test_what_a_token_gets_depends_on_no_other_token(library: Panels) -> None:
    """Bit for bit, so that a verify pass rounds as plain decoding does."""
    x, weight, other = random(40, 96), random(130, 96), random(40, 130)
    laid_out = library.lay_out(weight)
    everything = library.product(x, laid_out, 130, added=other, eps=1e-5)
    for tokens in range(1, 40):
        some = slice(40 - tokens, 40)
        found = library.product(x[some], laid_out, 130, added=other[some], eps=1e-5)
        assert torch.equal(found, everything[some])


@needs_compiler
def test_rows_may_lie_apart_and_results_go_where_they_are_told_to(library: Panels) -> None:
    wide, weight = random(5, 70), random(33, 30)
    laid_out, out = library.lay_out(weight), torch.full((6, 33), 7.0)
    for x in (wide[:, 40:], wide[:, 10:40], wide.T[:30, :5].T):
        found = library.product(x, laid_out, 33, out[:5])
        assert found.data_ptr() == out.data_ptr()
        torch.testing.assert_close(found, F.linear(x, weight), atol=1e-4, rtol=1e-5)
        assert torch.equal(out[5], torch.full((33,), 7.0))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    return tmp_path / FOLDER


@needs_compiler
def test_a_library_is_compiled_once_unless_it_is_empty_and_needs_no_compiler_then(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_c_library(SOURCE) is not None
    (made,) = cache.iterdir()
    made.unlink()  # never written to while it is loaded
    made.touch()
    assert load_c_library(SOURCE) is not None
    monkeypatch.setenv("CC", "no-such-compiler")
    assert load_c_library(SOURCE) is not None
    monkeypatch.setattr(c_library, "_processor", lambda: b"another")
    assert load_c_library(SOURCE) is None
    assert list(cache.iterdir()) == [made]


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false", "true", "", sys.executable])
def test_without_a_working_compiler_there_is_no_library(
    cache: Path, monkeypatch: pytest.MonkeyPatch, compiler: str
) -> None:
    monkeypatch.setenv("CC", compiler)
    assert load_c_library(SOURCE) is None
    assert not cache.exists() or not list(cache.iterdir())


@needs_compiler
def test_a_file_that_does_not_compile_leaves_nothing(cache: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.c"
    wrong.write_text("int f(void) { return missing; }")
    assert load_c_library(wrong) is None
    assert list(cache.iterdir()) == []


def test_without_openmp_or_in_a_damaged_cache_there_is_no_library(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(c_library, "OPENMP", ("no-such-runtime",))
    assert load_c_library(SOURCE) is None
    cache.parent.joinpath("file").touch()
    monkeypatch.undo()
    monkeypatch.setenv(CACHE_VARIABLE, str(cache.parent / "file"))
    assert load_c_library(SOURCE) is None


def test_no_second_openmp_runtime_comes_in() -> None:
    code = (
        "from smartprof.models.c_library import _openmp\n"
        "from pathlib import Path\n"
        "from smartprof.models.panels import load_panels\n"
        "first = _openmp()\n"
        "load_panels()\n"
        "lines = Path('/proc/self/maps').read_text().splitlines()\n"
        "found = {x.split()[-1] for x in lines if 'libgomp' in x or 'libiomp5' in x}\n"
        "assert found == {first}, found\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert panels.load_panels() is FOUND
