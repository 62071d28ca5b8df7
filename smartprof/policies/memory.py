"""What `smart` learns from its own rounds: rates, ratios and whether drafting pays."""

from __future__ import annotations

START_ROUNDS = 4.0  # rounds at the plain rate that a fresh long-run rate already counts
START_DRAFTS = 2.0  # drafted rounds that the optimistic start counts as
OPTIMISM = 1.0  # tokens per request that a drafted round is first expected to gain
DRAFT_HALF_LIFE = 16.0  # drafted rounds
START_RATIO = 0.8  # children's path probability over their parents', before any was seen
START_MASS = 4.0  # parents' path probability that the start counts as
RATIO_HALF_LIFE = 64.0  # draft steps


def keep_of(half_life: float) -> float:
    """The factor per step under which a weight halves in `half_life` steps."""
    return 0.5 ** (1.0 / half_life)


class LongRunRate:
    """Committed tokens per modelled second: exponential averages of both, then their ratio."""

    def __init__(self, half_life: float, batch: int, plain_seconds: float) -> None:
        self._keep = keep_of(half_life)
        self._tokens = START_ROUNDS * batch
        self._seconds = START_ROUNDS * plain_seconds

    def add(self, tokens: float, seconds: float) -> None:
        """Count one round."""
        self._tokens = self._keep * self._tokens + tokens
        self._seconds = self._keep * self._seconds + seconds

    def value(self, plain_rate: float) -> float:
        """Tokens per second, never below plain decoding's."""
        return max(plain_rate, self._tokens / self._seconds)


class DraftingRecord:
    """What drafted rounds of one batch size gained over plain ones, and what they cost.

    Starts optimistic, so that drafting is tried; what optimism can lose is bounded by what it
    claims. Catch-up is kept apart because its size is known before each round.
    """

    def __init__(self, batch: int) -> None:
        self._keep = keep_of(DRAFT_HALF_LIFE)
        self._weight = START_DRAFTS
        self._tokens = START_DRAFTS * OPTIMISM * batch
        self._seconds = 0.0
        self.idle_rounds = 0  # since the last drafted round

    def advantage(self, theta: float, catchup_seconds: float) -> float:
        """Expected tokens, net of seconds at `theta`, that drafting gains in the next round."""
        seconds = self._seconds / self._weight + catchup_seconds
        return self._tokens / self._weight - theta * seconds

    def add(self, tokens: float, seconds: float) -> None:
        """Count a drafted round: tokens and seconds beyond a plain round's, without catch-up."""
        self._weight = self._keep * self._weight + 1.0
        self._tokens = self._keep * self._tokens + tokens
        self._seconds = self._keep * self._seconds + seconds

    def restart(self, tokens: float, seconds: float) -> None:
        """Forget the past: a probe showed that drafting pays again."""
        self._weight = START_DRAFTS
        self._tokens = START_DRAFTS * tokens
        self._seconds = START_DRAFTS * seconds


class ContinuationRatio:
    """Path probability of children over that of their expanded parents, over recent steps."""

    def __init__(self) -> None:
        self._keep = keep_of(RATIO_HALF_LIFE)
        self._parents = START_MASS
        self._children = START_RATIO * START_MASS

    def add(self, parents: float, children: float) -> None:
        """Count one draft step."""
        self._parents = self._keep * self._parents + parents
        self._children = self._keep * self._children + children

    @property
    def value(self) -> float:
        """The ratio, at most 1 up to rounding."""
        return self._children / self._parents
