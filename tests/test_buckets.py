from __future__ import annotations

from itertools import pairwise, product

import pytest

from smartprof.models.buckets import (
    CAPTURE_SIZES,
    Bucket,
    Grid,
    aligned_capacity,
    capture_sizes,
    context_sizes,
)

COLUMNS = 1088


def bucket(grid: Grid, batch: int, tokens: int, width: int, context: int) -> Bucket | None:
    return grid.bucket(
        batch=batch,
        tokens=tokens,
        width=width,
        span=width,
        context=context,
        one_each=tokens == batch,
    )


def test_capture_sizes_ascend_from_the_batch_in_steps_that_widen() -> None:
    assert list(CAPTURE_SIZES) == sorted(set(CAPTURE_SIZES))
    steps = [y - x for x, y in pairwise(CAPTURE_SIZES)]
    assert steps == sorted(steps)
    assert capture_sizes(7)[:3] == (7, 8, 12)
    assert capture_sizes(8)[:2] == (8, 12)
    assert capture_sizes(600) == (600,)


@pytest.mark.parametrize("columns", [64, 256, 257, 384, 1024, 1088, 5000])
def test_contexts_ascend_to_the_whole_cache_by_at_most_half(columns: int) -> None:
    sizes = context_sizes(columns)
    assert sizes[-1] == columns
    assert list(sizes) == sorted(set(sizes))
    assert all(y <= 1.5 * x for x, y in pairwise(sizes))


def test_every_pass_that_fits_gets_the_smallest_shape_that_holds_it() -> None:
    """Brute force over all token counts, and contexts on both sides of every edge."""
    grid = Grid(COLUMNS)
    contexts = sorted({y for x in context_sizes(COLUMNS) for y in (x - 1, x, x + 1)} - {1089})
    for batch, context in product((1, 2, 3, 8, 17), (1, *contexts)):
        for tokens in range(batch, 513):
            width = -(-tokens // batch)
            found = bucket(grid, batch, tokens, width, context)
            assert found is not None
            assert found.rows == batch
            fitting = [x for x in (batch, *CAPTURE_SIZES) if x >= max(tokens, batch)]
            assert found.tokens == min(fitting)
            assert found.context == min(x for x in context_sizes(COLUMNS) if x >= context)
            assert width <= found.width <= max(found.tokens, 2 * width)
            assert found.span >= found.width


def test_a_shape_never_shrinks_when_a_pass_grows() -> None:
    for batch, rows in product((1, 3, 8), (1, 8)):
        grid = Grid(COLUMNS, rows)
        sizes = [bucket(grid, batch, x, x - batch + 1, 300) for x in range(batch, 513)]
        for one, other in pairwise(sizes):
            assert one is not None
            assert other is not None
            assert one.tokens <= other.tokens
            assert one.width <= other.width
            assert one.span <= other.span


def test_what_no_shape_holds_gets_none() -> None:
    grid = Grid(COLUMNS)
    assert bucket(grid, 2, 513, 300, 300) is None
    assert bucket(grid, 2, 16, 8, COLUMNS + 1) is None


def test_smaller_batches_are_padded_to_the_least_number_of_requests() -> None:
    found = bucket(Grid(COLUMNS, rows=8), 3, 3, 1, 40)
    assert found == Bucket(8, 8, 1, 1, 256, mapped=True)
    assert bucket(Grid(COLUMNS, rows=8), 9, 9, 1, 40) == Bucket(9, 9, 1, 1, 256, mapped=False)


def test_places_are_mapped_unless_each_request_has_its_own_run_of_them() -> None:
    grid = Grid(COLUMNS)
    assert bucket(grid, 1, 5, 5, 40) == Bucket(1, 8, 8, 8, 256, mapped=False)
    assert bucket(grid, 4, 4, 1, 40) == Bucket(4, 4, 1, 1, 256, mapped=False)
    assert bucket(grid, 4, 5, 2, 40) == Bucket(4, 8, 2, 2, 256, mapped=True)
    some = grid.bucket(batch=4, tokens=3, width=1, span=1, context=40, one_each=False)
    assert some == Bucket(4, 4, 1, 1, 256, mapped=True)


@pytest.mark.parametrize("capacity", [1, 62, 63, 64, 1000])
def test_an_aligned_capacity_is_the_next_whose_slots_are_a_multiple(capacity: int) -> None:
    found = aligned_capacity(capacity)
    assert capacity <= found < capacity + 64
    assert (found + 1) % 64 == 0
