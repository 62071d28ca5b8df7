"""A decoding run: prompts, policies, batch sizes in; lane results, checked against plain, out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from smartprof.decode.domain import largest_tree, require_domain
from smartprof.decode.equality import compare
from smartprof.decode.prompts import Prompt
from smartprof.decode.record import Recorder, TraceSize
from smartprof.decode.records import Equality
from smartprof.decode.requests import Progress, Request
from smartprof.decode.rounds import Decoder
from smartprof.decode.run import Lane, LaneResult, cycled, run_lanes
from smartprof.decode.sampling import GREEDY, Sampling
from smartprof.decode.target import Target
from smartprof.drafters.base import Drafter
from smartprof.errors import InputError, ModelError
from smartprof.models.execution import EAGER, Execution
from smartprof.models.loading import LoadedModel
from smartprof.policies.table import make_policy
from smartprof.profile.cost import CostModel
from smartprof.trees.recording import Facts, Recording

PLAIN = "plain"
MIXED = "mixed"


@dataclass(frozen=True)
class Workload:
    """What is decoded: prompts, policies by their text, batch sizes, and how tokens are chosen.

    mixed: prompts of all categories share batches, as in a server; a category then has no speedup
    of its own. Otherwise each category is decoded by itself.
    """

    prompts: Sequence[Prompt]
    policies: Sequence[str]
    batches: Sequence[int]
    max_new_tokens: int
    chat: bool = True
    mixed: bool = False
    sampling: Sampling = GREEDY
    stop: tuple[str, ...] = ()


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
    execution: how verify passes run; all lanes share its memory.
    """

    def __init__(
        self,
        model: LoadedModel,
        costs: CostModel,
        make_drafter: Callable[[], Drafter],
        execution: Execution = EAGER,
    ) -> None:
        self.model, self.costs, self.make_drafter = model, costs, make_drafter
        self.execution = execution
        self.tokenizer = model.tokenizer()

    def run(self, workload: Workload, on_step: Callable[[Step], None]) -> Iterator[LaneResult]:
        """Decode everything; plain decoding always runs along as the reference."""
        labels = list(dict.fromkeys([PLAIN, *workload.policies]))
        requests = self._requests(workload)
        drafter, longest = self.make_drafter(), _longest(requests)
        for batch in workload.batches:
            for label in labels:
                require_domain(self.costs, make_policy(label), batch, longest, drafter.sources)
        for batch in workload.batches:
            targets = {x: self._target(requests, batch, x, drafter.taps) for x in labels}
            for category in dict.fromkeys(x.category for x in requests):
                chosen = [x for x in requests if x.category == category]
                lanes = [self._lane(x, targets[x], chosen, batch) for x in labels]
                most = len(labels) * sum(x.max_new_tokens for _, x in lanes[0].queue)
                run_lanes(lanes, _reporter(on_step, lanes, batch, category, most))
                yield from self._results(lanes, targets, category)

    def record(
        self,
        workload: Workload,
        size: TraceSize,
        profile: str,
        on_step: Callable[[Step], None],
    ) -> Recording:
        """Trees at every output position of each prompt, decoded once, at the largest batch.

        Requests of all categories share the batch; where tokens are sampled, a request's seed is
        by its place among all prompts. profile: its checksum.
        """
        requests, batch = self._requests(workload), max(workload.batches)
        drafter = self.make_drafter()
        target = self._target(requests, batch, PLAIN, drafter.taps)
        recorder = Recorder(target, drafter, self.costs, self.tokenizer.eos_ids, size, self.text)
        lane = Lane("record", recorder, batch, deque(enumerate(requests)))
        most = sum(x.max_new_tokens for x in requests)
        run_lanes([lane], _reporter(on_step, [lane], batch, "recording", most))
        facts = Facts(
            target=self.model.source.shape.name,
            drafter=drafter.name,
            digest=drafter.digest,
            sampling=workload.sampling.describe(),
            workload="+".join(sorted({x.split for x in workload.prompts})) + " prompts",
            width=size.width,
            depth=size.depth,
            profile=profile,
        )
        return recorder.recording(lane.finished, facts)

    def _requests(self, workload: Workload) -> list[Request]:
        shape = self.model.source.shape
        requests = []
        for prompt in workload.prompts:
            category = MIXED if workload.mixed else prompt.category
            tokens = tuple(self.tokenizer.chat(prompt.text, chat=workload.chat))
            if not tokens or max(tokens) >= shape.vocab:
                found = f"token {max(tokens)}" if tokens else "no token"
                raise ModelError(
                    f"prompt {prompt.id}: expected tokens below {shape.vocab}, got {found}: the "
                    "tokenizer beside the weights is not that of the model"
                )
            if len(tokens) + workload.max_new_tokens > shape.max_context:
                raise InputError(
                    f"prompt {prompt.id}: {len(tokens)} tokens and {workload.max_new_tokens} new "
                    f"ones exceed the model's {shape.max_context}: shorten it or --max-new-tokens"
                )
            requests.append(
                Request(
                    prompt.id,
                    category,
                    prompt.split,
                    tokens,
                    workload.max_new_tokens,
                    workload.sampling,
                    workload.stop,
                )
            )
        return requests

    def _target(
        self, requests: Sequence[Request], batch: int, label: str, taps: Sequence[int]
    ) -> Target:
        tree = largest_tree(make_policy(label), batch)
        capacity = _longest(requests) + (self.costs.most_tokens if tree is None else tree)
        return Target(self.model.transformer, batch, capacity, taps, self.execution)

    def _lane(self, label: str, target: Target, requests: Sequence[Request], batch: int) -> Lane:
        policy, drafter = make_policy(label), self.make_drafter()
        if not policy.calibrated:
            drafter.uncalibrate()
        decoder = Decoder(
            target,
            drafter,
            policy,
            self.costs,
            self.tokenizer.eos_ids,
            self.text,
        )
        return Lane(label, decoder, batch, cycled(requests, batch))

    def text(self, tokens: Sequence[int]) -> str:
        """What a user reads of these tokens."""
        return self.tokenizer.decode(tokens, skip_special=True)

    def _results(
        self, lanes: Sequence[Lane], targets: dict[str, Target], category: str
    ) -> Iterator[LaneResult]:
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
                equality=_compare_all(lane, targets[lane.label], plain) if exact else None,
                prefill_seconds=lane.prefill_seconds,
                acceptance=lane.decoder.drafter.record(),
            )


def _longest(requests: Sequence[Request]) -> int:
    """Most tokens that one of the requests will have committed."""
    return max(len(x.tokens) + x.max_new_tokens for x in requests)


def _compare_all(lane: Lane, target: Target, plain: dict[int, Progress]) -> Equality:
    checks = [compare(target, x, plain[x.index].output, lane.decoder.eos) for x in lane.finished]
    return sum(checks, Equality(0, 0, 0))


def _reporter(
    on_step: Callable[[Step], None], lanes: Sequence[Lane], batch: int, category: str, most: int
) -> Callable[[Lane], None]:
    return lambda _: on_step(Step(batch, category, sum(x.tokens for x in lanes), most))
