"""Numbers and names as the fields of a profile hold them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

Quantity = Literal["verify", "plain_decode", "round_overhead", "draft_step", "draft_catchup"]
SizeAxis = Literal["tokens", "rows", "accepted", "batch"]
Dtype = Literal["float32", "bfloat16", "float16"]
Execution = Literal["eager", "cuda_graph"]

# The lower bound keeps every ratio and weighted mean of seconds far from underflow; no pass of a
# model takes less than a picosecond.
LEAST_SECONDS = 1e-12
MOST_SECONDS = 1e5
MOST_COUNT = 100_000_000

Seconds = Annotated[float, Field(ge=LEAST_SECONDS, le=MOST_SECONDS)]
Width = Annotated[float, Field(ge=0, le=MOST_SECONDS)]
Slope = Annotated[float, Field(ge=-MOST_SECONDS, le=MOST_SECONDS)]
Count = Annotated[int, Field(strict=True, ge=1, le=MOST_COUNT)]
Tally = Annotated[int, Field(strict=True, ge=0, le=MOST_COUNT)]
Bytes = Annotated[int, Field(strict=True, ge=1, le=10**18)]
Percent = Annotated[float, Field(ge=0, le=1e12)]
# JSON knows no tuples: a list of two is one.
CountRange = Annotated[tuple[Count, Count], Field(strict=False)]
TallyRange = Annotated[tuple[Tally, Tally], Field(strict=False)]
# Bounds of free tokens; null: beyond the last knot.
FreeRange = Annotated[tuple[Count | None, Count | None], Field(strict=False)]
# Names are printed in one-line messages and tables, so they hold no control characters.
Name = Annotated[str, Field(min_length=1, max_length=300, pattern=r"^[^\x00-\x1f\x7f]*$")]
Remark = Annotated[str, Field(max_length=4000, pattern=r"^[^\x00-\x1f\x7f]*$")]
