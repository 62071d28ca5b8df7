"""Settings of how the target's own next token is chosen. Knows nothing about torch or trees."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

from smartprof.errors import InputError

TEMPERATURES = (0.01, 100.0)  # beyond these float32 logits overflow or all become alike
PENALTIES = (0.01, 100.0)
MOST_TOP_K = 1 << 31
MOST_SEED = 2**63 - 1


@dataclass(frozen=True)
class Sampling:
    """How one request's tokens are chosen; `GREEDY` unless told otherwise.

    The settings act in this order, each on what the one before left: repetition penalty,
    temperature, top-k, top-p, min-p.

    temperature: divides the logits; 0 takes the most probable token.
    top_k: only tokens whose logit is at least the k-th largest; None: all.
    top_p: only the most probable tokens, as few as have this probability together; 1: all.
    min_p: only tokens at least this fraction as probable as the best; 0: all.
    repetition_penalty: divides positive and multiplies negative logits of the tokens in the text so
        far, prompt included (Keskar et al., arXiv 1909.05858); 1: none.
    seed: of all requests of a run; each draws from it its own, by its place in the arrival order.

    Raises:
        InputError: a value is out of bounds, or would change nothing because decoding is greedy.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        hottest, strongest = TEMPERATURES[1], PENALTIES[1]
        # written so that NaN is refused as well
        _require(
            self.temperature == 0 or TEMPERATURES[0] <= self.temperature <= hottest,
            f"temperature to be 0 (greedy) or {TEMPERATURES[0]:g} to {hottest:g}",
            self.temperature,
        )
        _require(
            self.top_k is None or 1 <= self.top_k <= MOST_TOP_K,
            "top-k to be at least 1",
            self.top_k,
        )
        _require(0 < self.top_p <= 1, "top-p to be above 0 and at most 1", self.top_p)
        _require(0 <= self.min_p <= 1, "min-p to be 0 to 1", self.min_p)
        _require(
            PENALTIES[0] <= self.repetition_penalty <= strongest,
            f"repetition penalty to be {PENALTIES[0]:g} to {strongest:g}",
            self.repetition_penalty,
        )
        _require(0 <= self.seed <= MOST_SEED, "seed to be 0 to 2^63 - 1", self.seed)
        _require(
            not (self.greedy and self.truncates),
            "a temperature above 0 with top-k, top-p or min-p, which change nothing without one",
            self.temperature,
        )

    @property
    def greedy(self) -> bool:
        """Whether the most probable token is taken, after the repetition penalty."""
        return self.temperature == 0

    @property
    def is_argmax(self) -> bool:
        """Whether the choice is the largest logit as the model gave it."""
        return self.greedy and self.repetition_penalty == 1

    @property
    def truncates(self) -> bool:
        """Whether some tokens are left out."""
        return self.top_k is not None or self.top_p < 1 or self.min_p > 0

    @property
    def stretch(self) -> float:
        """The most by which a difference of two logits grows through penalty and temperature."""
        penalty = max(self.repetition_penalty, 1 / self.repetition_penalty)
        return penalty / (self.temperature or 1.0)

    def request_seed(self, index: int) -> int:
        """Seed of the request with this place in the arrival order: 0 ... 2^63 - 1.

        Copies of one prompt differ; the same request under another policy does not.
        """
        digest = blake2b(f"{self.seed}/{index}".encode(), digest_size=8).digest()
        return int.from_bytes(digest) & MOST_SEED

    def describe(self) -> str:
        """The settings that are not the default, for headings."""
        parts = ["greedy" if self.greedy else f"temperature {self.temperature:g}"]
        if self.top_k is not None:
            parts.append(f"top-k {self.top_k}")
        if self.top_p < 1:
            parts.append(f"top-p {self.top_p:g}")
        if self.min_p > 0:
            parts.append(f"min-p {self.min_p:g}")
        if self.repetition_penalty != 1:
            parts.append(f"repetition penalty {self.repetition_penalty:g}")
        if not self.greedy:
            parts.append(f"seed {self.seed}")
        return ", ".join(parts)


def _require(fits: bool, expected: str, found: float | None) -> None:
    if not fits:
        raise InputError(f"expected {expected}, got {found}")


GREEDY = Sampling()
