"""What the vectors ask, and why. The answers come from the library; see generate.py."""

from __future__ import annotations

from dataclasses import dataclass

from tests.conformance.subjects import SMILE, WIDE_A


@dataclass(frozen=True)
class Query:
    """Seconds of one pass. drafter: None for the quantities of the target."""

    about: str
    profile: str
    quantity: str
    batch: int
    size: int
    context: float | None = None
    drafter: str | None = None


@dataclass(frozen=True)
class Envelope:
    """Seconds of a verify pass that needs `tokens` and may be padded, and the tokens to run.

    context: measured, or a multiple of 16, because the library rounds others before it pads.
    """

    about: str
    profile: str
    batch: int
    tokens: int
    context: float


def queries() -> list[Query]:
    """In the order of the rule."""
    return [
        *_inside("eager.json"),
        *_inside("graph.json"),
        *_on_curves(),
        *_beyond(),
        *_other_quantities(),
        *_one_valued(),
        Query("a start steeper than work alone", "steep.json", "verify", 2, 2, 64),
        Query("the same for more tokens", "steep.json", "verify", 2, 3, 64),
        *_refused(),
    ]


def _inside(profile: str) -> list[Query]:
    """Both profiles have batches 1 and 4 or 5, and contexts around 300."""
    last = {"eager.json": 5, "graph.json": 4}[profile]
    context = {"eager.json": 100, "graph.json": 128}[profile]

    def ask(about: str, batch: int, size: int, place: float) -> Query:
        return Query(about, profile, "verify", batch, size, place)

    return [
        ask("an anchor", 1, 4, context),
        ask("an anchor, the first of its curve", last, last, context),
        ask("between two knots", 1, 6, context),
        ask("between two batches, on a knot of one", 3, 9, context),
        ask("between two batches and two knots", 3, 12, context),
        ask("between two contexts", 1, 4, context + 77.25),
        ask("between two contexts, batches and knots", 3, 11, context + 200.5),
        ask("fewer tokens than the larger of two batches has", 3, 3, context),
        ask("the same between contexts", 3, 4, context + 150),
        ask("a batch that is no more than its tokens", 2, 2, context + 10),
    ]


def _on_curves() -> list[Query]:
    def ask(about: str, batch: int, size: int, context: float) -> Query:
        return Query(about, "eager.json", "verify", batch, size, context)

    found = [
        ask(f"batch {batch}, size {size}: curves end at different sizes", batch, size, context)
        for batch in (1, 2, 4, 5, 7, 8)
        for size in (9, 20, 33, 40, 64)
        for context in (0, 50, 700)
        if size >= batch
    ]
    return [*found, ask("a knot that is no anchor", 1, 9, 0), ask("context 0", 1, 1, 0)]


def _beyond() -> list[Query]:
    def ask(about: str, batch: int, size: int, context: float, file: str = "eager.json") -> Query:
        return Query(about, file, "verify", batch, size, context)

    found = [
        ask("size above the last knot", 8, 100, 100),
        ask("size at two octaves", 8, 256, 100),
        ask("size above, between batches and contexts", 6, 130, 333.5),
        ask("context at two octaves", 5, 33, 2800),
        ask("batch at two octaves", 32, 33, 100),
        ask("batch, size and context at two octaves", 32, 256, 2800),
        ask("context below the smallest", 4, 16, 16, "graph.json"),
        ask("context 0 below the smallest", 3, 20, 0, "graph.json"),
    ]
    for size in (12, 20, 33, 50):
        for batch, context in ((9, 100), (12, 50), (5, 900), (12, 900), (32, 2500.5)):
            if size >= batch:
                about = f"batch {batch}, context {context}: beyond the largest of one or both"
                found.append(ask(about, batch, size, context))
    for size in (17, 24, 31, 48, 64):
        for context in (128, 1500):
            about = f"batch 20, size {size}, context {context}: beyond the largest"
            found.append(ask(about, 20, max(size, 20), context, "graph.json"))
    return found


def _other_quantities() -> list[Query]:
    def eager(
        about: str,
        quantity: str,
        batch: int,
        size: int,
        context: float | None,
        drafter: str | None = None,
    ) -> Query:
        return Query(about, "eager.json", quantity, batch, size, context, drafter)

    return [
        eager("plain decoding, an anchor", "plain_decode", 2, 2, 100),
        eager("plain decoding between batches and contexts", "plain_decode", 3, 3, 250.5),
        eager("plain decoding above the largest batch", "plain_decode", 20, 20, 100),
        Query("plain decoding above, rising", "steep.json", "plain_decode", 20, 20, 64),
        Query("plain decoding above, falling", "graph.json", "plain_decode", 40, 40, 128),
        eager("overhead has no context", "round_overhead", 2, 9, None),
        eager("a context that overhead does not look at", "round_overhead", 2, 9, 99999),
        eager("overhead between batches", "round_overhead", 3, 12, None),
        eager("overhead below the first knot", "round_overhead", 8, 8, None),
        eager("a draft step of fewer rows than the batch", "draft_step", 8, 4, 100, "ngram"),
        eager("a draft step between all neighbours", "draft_step", 3, 5, 55.5, "ngram"),
        eager("a draft step of another drafter", "draft_step", 16, 24, 256, "eagle3"),
        eager("the same step of the first drafter", "draft_step", 16, 24, 256, "ngram"),
        eager("a catch-up, an anchor", "draft_catchup", 2, 4, 100, "ngram"),
        eager("a catch-up between all neighbours", "draft_catchup", 3, 5, 55.5, "ngram"),
        eager("a catch-up of another drafter", "draft_catchup", 16, 20, 300, "eagle3"),
    ]


def _one_valued() -> list[Query]:
    def ask(about: str, quantity: str, batch: int, size: int, context: float) -> Query:
        return Query(about, "single.json", quantity, batch, size, context)

    def draft(about: str, quantity: str, batch: int, size: int, context: float) -> Query:
        return Query(about, "single.json", quantity, batch, size, context, WIDE_A)

    return [
        ask("the anchor of one batch and context", "verify", 16, 16, 256),
        ask("between knots of one curve", "verify", 16, 30, 256),
        ask("above the one context", "verify", 16, 24, 1000),
        ask("below the one context", "verify", 16, 24, 10),
        ask("above the one batch", "verify", 40, 50, 256),
        ask("below the one batch", "verify", 5, 24, 256),
        ask("below the one batch and its first knot", "verify", 4, 4, 256),
        ask("one batch of plain decoding", "plain_decode", 16, 16, 256),
        ask("above the one batch of plain decoding", "plain_decode", 30, 30, 256),
        ask("below the one batch of plain decoding", "plain_decode", 4, 4, 256),
        Query("the same in another writing", "rewritten.json", "verify", 16, 30, 256),
        Query("the same in a file of version 1", "version-1.json", "verify", 16, 30, 256),
        draft("one knot", "draft_step", 2, 6, 0),
        draft("below one knot", "draft_step", 2, 2, 0),
        draft("above one knot", "draft_step", 2, 20, 0),
        draft("above context 0", "draft_step", 2, 6, 4),
        draft("two knots, one that is no anchor or is", "draft_catchup", 2, 5, 0),
        Query(
            "a drafter whose name lies beyond 16 bits",
            "single.json",
            "draft_step",
            16,
            16,
            256,
            SMILE,
        ),
    ]


def _refused() -> list[Query]:
    def ask(about: str, batch: int, size: int, context: float | None) -> Query:
        return Query(about, "eager.json", "verify", batch, size, context)

    return [
        ask("batch beyond two octaves", 33, 33, 100),
        ask("size beyond two octaves", 1, 257, 100),
        ask("context beyond two octaves", 1, 4, 2800.5),
        ask("a context below 0", 1, 4, -1),
        ask("no context", 1, 4, None),
        ask("fewer than one token per request", 5, 4, 100),
        ask("no batch", 0, 4, 100),
        ask("a size of 0", 1, 0, 100),
        Query("batch below a quarter", "single.json", "verify", 3, 24, 256),
        Query("size below a quarter", "single.json", "draft_step", 4, 3, 256, SMILE),
        Query("size above four times", "single.json", "draft_step", 2, 25, 0, WIDE_A),
        Query("rows below a quarter", "single.json", "draft_step", 2, 1, 0, WIDE_A),
        Query("above four times context 0", "single.json", "draft_step", 2, 6, 5, WIDE_A),
        Query("plain decoding beyond", "eager.json", "plain_decode", 33, 33, 100),
        Query("fewer accepted than requests", "eager.json", "draft_catchup", 5, 4, 100, "ngram"),
        Query("a catch-up beyond", "eager.json", "draft_catchup", 1, 1000, 100, "ngram"),
        Query("overhead beyond", "eager.json", "round_overhead", 1, 1000),
        Query("overhead of fewer tokens", "eager.json", "round_overhead", 4, 3),
        Query("plain decoding of two tokens each", "eager.json", "plain_decode", 2, 4, 100),
        Query("an unknown drafter", "eager.json", "draft_step", 2, 4, 100, "lm"),
        Query("no drafter", "eager.json", "draft_step", 2, 4, 100),
        Query("an unknown quantity", "eager.json", "prefill", 2, 4, 100),
    ]


def envelopes() -> list[Envelope]:
    """Every length at a few places, then the edges of the rule."""
    found = [
        Envelope(f"{tokens} tokens, batch {batch}, context {context}", file, batch, tokens, context)
        for file, places, last in (
            ("graph.json", ((1, 128), (3, 512), (4, 3200), (7, 128), (18, 1024)), 48),
            ("steep.json", ((2, 64), (4, 64), (5, 64), (6, 64), (7, 64)), 32),
            ("eager.json", ((1, 0), (2, 64), (3, 704), (8, 700), (12, 1600)), 64),
        )
        for batch, context in places
        for tokens in range(batch, last + 1, 3 if file == "eager.json" else 1)
    ]
    return [
        *found,
        Envelope("below the smallest context", "graph.json", 4, 15, 0),
        Envelope("longer than the overhead was measured", "graph.json", 4, 44, 128),
        Envelope("longer than all was measured", "graph.json", 4, 60, 128),
        Envelope("a fall that goes on beyond 4096 tokens", "long.json", 1, 4000, 64),
        Envelope("a fall beyond 4096 tokens", "long.json", 1, 4097, 64),
        Envelope("one batch and context", "single.json", 16, 20, 256),
        Envelope("a file of version 1", "version-1.json", 16, 20, 256),
        Envelope("fewer than one token per request", "graph.json", 4, 3, 128),
        Envelope("beyond two octaves", "graph.json", 4, 193, 128),
        Envelope("context beyond two octaves", "graph.json", 4, 8, 4112),
    ]
