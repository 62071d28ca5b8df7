"""A decoding run: prompts, policies, batch sizes in; lane results, checked against plain, out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from smartprof.decode.equality import Equality, compare
from smartprof.decode.prompts import Prompt
from smartprof.decode.requests import Progress, Request
from smartprof.decode.rounds import Decoder
from smartprof.decode.run import Lane, LaneResult, cycled, run_lanes
from smartprof.decode.target import Target
from smartprof.drafters.base import Drafter
from smartprof.errors import InputError
from smartprof.models.loading import LoadedModel
from smartprof.policies.table import make_policy
from smartprof.profile.cost import CostModel

PLAIN = "plain"


@dataclass(frozen=True)
class Workload:
    """What is decoded: prompts of one split, policies by their text, batch sizes."""

    prompts: Sequence[Prompt]
    policies: Sequence[str]
    batches: Sequence[int]
    max_new_tokens: int
    chat: bool = True


@dataclass(frozen=True)
class Step:
    """Where a run stands, for a progress bar: tokens committed of those asked for at most."""

    batch: int
    category: str
    tokens: int
    most_tokens: int


class Session:
    """One model, one profile and one drafter, decoding workloads.

    costs: prices rounds; its domain must cover the batches and lengths that are asked for.
    make_drafter: a fresh drafter for each lane, so that no policy learns from another's rounds.
    """

    def __init__(
        self, model: LoadedModel, costs: CostModel, make_drafter: Callable[[], Drafter]
    ) -> None:
        self.model, self.costs, self.make_drafter = model, costs, make_drafter
        self.tokenizer = model.tokenizer()

    def run(self, workload: Workload, on_step: Callable[[Step], None]) -> Iterator[LaneResult]:
        """Decode everything; plain decoding always runs along as the reference."""
        labels = list(dict.fromkeys([PLAIN, *workload.policies]))
        for label in labels:
            make_policy(label)  # a misspelt option is refused before anything is decoded
        requests = self._requests(workload)
        for batch in workload.batches:
            self._require_domain(requests, batch)
        for batch in workload.batches:
            targets = {x: self._target(requests, batch) for x in labels}
            for category in dict.fromkeys(x.category for x in requests):
                chosen = [x for x in requests if x.category == category]
                lanes = [self._lane(x, targets[x], chosen, batch) for x in labels]
                most = len(labels) * sum(x.max_new_tokens for _, x in lanes[0].queue)
                run_lanes(lanes, _reporter(on_step, lanes, batch, category, most))
                yield from self._results(lanes, category)

    def _requests(self, workload: Workload) -> list[Request]:
        shape = self.model.source.shape
        requests = []
        for prompt in workload.prompts:
            tokens = tuple(self.tokenizer.chat(prompt.text, chat=workload.chat))
            if len(tokens) + workload.max_new_tokens > shape.max_context:
                raise InputError(
                    f"prompt {prompt.id}: {len(tokens)} tokens and {workload.max_new_tokens} new "
                    f"ones exceed the model's {shape.max_context}: shorten it or --max-new-tokens"
                )
            requests.append(
                Request(prompt.id, prompt.category, prompt.split, tokens, workload.max_new_tokens)
            )
        return requests

    def _require_domain(self, requests: Sequence[Request], batch: int) -> None:
        """Raise DomainError now rather than in the middle of a run."""
        longest = max(len(x.tokens) + x.max_new_tokens for x in requests)
        self.costs.plain_decode(batch, longest)
        self.costs.verify(batch, batch, longest)

    def _target(self, requests: Sequence[Request], batch: int) -> Target:
        longest = max(len(x.tokens) + x.max_new_tokens for x in requests)
        return Target(self.model.transformer, batch, longest + self.costs.most_tokens)

    def _lane(self, label: str, target: Target, requests: Sequence[Request], batch: int) -> Lane:
        decoder = Decoder(
            target, self.make_drafter(), make_policy(label), self.costs, self.tokenizer.eos_ids
        )
        return Lane(label, decoder, batch, cycled(requests, batch))

    def _results(self, lanes: Sequence[Lane], category: str) -> Iterator[LaneResult]:
        exact = self.model.transformer.dtype == torch.float32
        plain = {x.index: x for x in lanes[0].finished}
        for lane in lanes:
            yield LaneResult(
                policy=lane.label,
                drafter=lane.decoder.drafter.name,
                batch=lane.batch,
                split="+".join(sorted({x.request.split for x in lane.finished})),
                category=category,
                records=lane.counted,
                outputs=lane.finished,
                equality=_compare_all(lane, plain) if exact else None,
                prefill_seconds=lane.prefill_seconds,
            )


def _compare_all(lane: Lane, plain: dict[int, Progress]) -> Equality:
    checks = [
        compare(lane.decoder.target, x.request.tokens, x.output, plain[x.index].output)
        for x in lane.finished
    ]
    return sum(checks, Equality(0, 0, 0))


def _reporter(
    on_step: Callable[[Step], None], lanes: Sequence[Lane], batch: int, category: str, most: int
) -> Callable[[Lane], None]:
    return lambda _: on_step(Step(batch, category, sum(x.tokens for x in lanes), most))
