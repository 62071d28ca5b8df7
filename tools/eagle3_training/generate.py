"""Training data from the target itself: it answers instructions, and is watched while it does.

The reference decoder does the work, many requests at once, without drafts; the features are those
that it keeps beside its keys, so no second pass is needed.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eagle3_training.instructions import Instruction, Seeds
from eagle3_training.shards import Example, ShardEntry, ShardFolder
from smartprof.calibrate.synthetic import EvenDrafter, Unpriced
from smartprof.decode.choosers import Chooser, greedy
from smartprof.decode.requests import Progress, Request
from smartprof.decode.rounds import Decoder
from smartprof.decode.sampling import Sampling
from smartprof.decode.target import Target
from smartprof.errors import InputError
from smartprof.models.eagle3_config import default_taps
from smartprof.models.loading import LoadedModel
from smartprof.models.tokenizer import Tokenizer
from smartprof.policies.table import make_policy
from smartprof.report.summary import loops
from smartprof.trees.packed import PackedTrees

TEMPERATURES = (0.0, 0.0, 0.6)  # of answers
ASKING = 1.0  # temperature of the messages that the target writes
LONGEST_MESSAGE = 64  # tokens that it may write; most that are longer never end
TOP = 8  # probabilities kept
LEAST_ANSWER = 8  # tokens; shorter ones teach nothing below the first step
LOOK_FOR_LOOPS = 16  # rounds between two looks
MOST_UNFIT = 2_000  # instructions in a row of which none may be asked
MARK = "\u2402"


@dataclass(frozen=True)
class DataOptions:
    """How data are made.

    batch: requests at once. shortest, longest: tokens of a prompt; others are not asked, so that
    runs over prompts of like length waste less on padding. answer: most tokens of an answer.
    shard: sequences per file.
    """

    seed: int = 0
    batch: int = 128
    shortest: int = 2
    longest: int = 256
    answer: int = 128
    shard: int = 256


class WatchedTarget(Target):
    """A target that keeps what it found most probable after each token of an answer."""

    top: tuple[Tensor, Tensor]  # log-probability float16 and id int32, [M, TOP]; of the last pass

    @torch.inference_mode()
    def verify(
        self,
        trees: PackedTrees,
        context_lens: NDArray[np.int64],
        pad_to: int,
        choose: Chooser = greedy,
    ) -> NDArray[np.int64]:
        """As the target's own; no pass is padded."""
        logits = self.scores(trees, context_lens).float()
        best = logits.topk(min(TOP, logits.shape[1]))
        log_prob = best.values - logits.logsumexp(-1, keepdim=True)
        self.top = log_prob.half().cpu(), best.indices.int().cpu()
        return choose(logits).cpu().numpy()


class Generator:
    """Keeps a batch of requests going and yields finished answers."""

    def __init__(
        self,
        model: LoadedModel,
        tokenizer: Tokenizer,
        seeds: Seeds,
        options: DataOptions,
        forbidden: Collection[str] = (),
    ) -> None:
        """forbidden: messages that must not be asked, those of evaluations."""
        self.seeds, self.options, self.tokenizer = seeds, options, tokenizer
        self.forbidden = {_plain(x) for x in forbidden}
        taps = default_taps(model.transformer.shape)
        capacity = options.longest + options.answer + 1
        self.target = WatchedTarget(model.transformer, options.batch, capacity, taps)
        drafter, plain = EvenDrafter(1), make_policy("plain")
        self.decoder = Decoder(self.target, drafter, plain, Unpriced(), tokenizer.eos_ids)
        self._ask = chat_prefix(tokenizer)
        self._tops: dict[int, list[tuple[Tensor, Tensor]]] = {}
        self._waiting: list[tuple[int, Instruction]] = []
        self._asked: set[int] = set()  # numbers whose message is still being written
        self._greedy: set[str] = set()  # messages that were answered at temperature 0
        self._known: set[bytes] = set()
        self.dropped = {"loop": 0, "short": 0, "repeated": 0}

    def step(self, number: int) -> tuple[int, list[tuple[int, Example]]]:
        """Fill the batch from instruction `number` on and decode one token of each request.

        Returns the next number, and what was finished. Raises InputError if no prompt is of the
        length that is asked for.
        """
        unfit = 0
        while self.decoder.batch < self.options.batch:
            if unfit > MOST_UNFIT:
                raise InputError(
                    f"expected prompts of {self.options.shortest} to {self.options.longest} "
                    f"tokens, got none in {MOST_UNFIT} instructions: allow others, or add material"
                )
            if self._waiting:
                admitted, instruction = self._waiting.pop()
            else:
                admitted, instruction = number, self.seeds.draw(number, self.options.seed)
                number += 1
            unfit = 0 if self._admit(admitted, instruction) else unfit + 1
        self.decoder.round()
        for row, progress in enumerate(self.decoder.rows):
            log_prob, token = (x[row] for x in self.target.top)
            self._tops.setdefault(progress.index, []).append((log_prob, token))
            if len(progress.output) % LOOK_FOR_LOOPS == 0 and loops(progress.output):
                progress.ended = True
        done = [self._finish(x, y) for x, y in enumerate(self.decoder.rows) if y.ended]
        self.decoder.retire()
        return number, [x for x in done if x is not None]

    def _admit(self, number: int, instruction: Instruction) -> bool:
        """Whether it is asked now."""
        if instruction.complete:
            if _plain(instruction.text) in self.forbidden:
                return False
            tokens = self.tokenizer.chat(instruction.text)
            temperature = self._temperature(number, instruction.text)
            sampling = Sampling(temperature, seed=self.options.seed + 1)
            most = self.options.answer
        else:
            text = self._ask + instruction.text
            tokens = self.tokenizer.encode(text, add_special=False)
            sampling = Sampling(ASKING, seed=self.options.seed)
            most = LONGEST_MESSAGE
        if not self.options.shortest <= len(tokens) <= self.options.longest:
            return False
        kind = instruction.kind
        request = Request(instruction.text, kind, "training", tuple(tokens), most)
        self.decoder.admit(replace(request, sampling=sampling), number)
        if not instruction.complete:
            self._asked.add(number)
        return True

    def _temperature(self, number: int, text: str) -> float:
        """Of the answer to a message; the most probable answer is given once."""
        chosen = random.Random(f"{self.options.seed}/{number}/answer").choice(TEMPERATURES)
        if chosen == 0 and text in self._greedy:
            return max(TEMPERATURES)
        self._greedy |= {text} if chosen == 0 else set()
        return chosen

    def _finish(self, row: int, progress: Progress) -> tuple[int, Example] | None:
        """The example of an ended request, or None: dropped, or to be asked now."""
        number, output = progress.index, progress.output
        tops = self._tops.pop(number)
        ended = output[-1] in self.tokenizer.eos_ids
        if number in self._asked:
            self._asked.discard(number)
            text = progress.request.prompt_id + self.tokenizer.decode(output, skip_special=True)
            if ended and text.strip():
                self._waiting.append((number, Instruction(progress.request.category, text.strip())))
            return None
        tokens = torch.tensor([*progress.request.tokens, *output], dtype=torch.int32)
        reason = self._reason(output, tokens)
        if reason is not None:
            self.dropped[reason] += 1
            return None
        cache = self.target.cache
        start = row * cache.columns
        features = cache.features[start : start + len(tokens) - 1]
        kept = features.to("cpu", torch.bfloat16, copy=True)  # the row goes to the next request
        log_prob, ids = (torch.stack(x) for x in zip(*tops, strict=True))
        return number, Example(tokens, len(progress.request.tokens), kept, ids, log_prob)

    def _reason(self, output: Sequence[int], tokens: Tensor) -> str | None:
        if loops(output):
            return "loop"
        if len(output) < LEAST_ANSWER:
            return "short"
        return None if self.remember(tokens) else "repeated"

    def remember(self, tokens: Tensor) -> bool:
        """Note the tokens of prompt and answer; False if they were known."""
        known = len(self._known)
        self._known.add(hashlib.sha256(tokens.numpy().tobytes()).digest())
        return len(self._known) > known


def make_data(
    generator: Generator,
    folder: ShardFolder,
    until: Callable[[int], bool],
    report: Callable[[ShardEntry, float], None],
) -> None:
    """Write shards until there are enough: `until` is told the answer tokens on disk.

    report: gets each new shard and the answer tokens per second of this run so far.
    """
    number = folder.entries[-1].last + 1 if folder.entries else 0
    known = sum(x.answer_tokens for x in folder.entries)
    for example in folder.examples():
        generator.remember(example.tokens)
    start, last, fresh = time.monotonic(), number, 0
    pending: list[Example] = []
    enough = until(known)
    while not enough:
        number, done = generator.step(number)
        pending += [x for _, x in done]
        last = max([last, *(x for x, _ in done)])
        enough = until(known + fresh)
        if pending and (enough or len(pending) >= generator.options.shard):
            entry = folder.add(pending, last)
            pending, fresh = [], fresh + entry.answer_tokens
            report(entry, fresh / (time.monotonic() - start))


def chat_prefix(tokenizer: Tokenizer) -> str:
    """What a chat has before the first word of the user's message."""
    text = tokenizer.decode(tokenizer.chat(MARK))
    return text[: text.index(MARK)]


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def options_of(model: LoadedModel, options: DataOptions) -> dict[str, Any]:
    """What a folder of data is made with: all that must not change when more is added."""
    shape = model.transformer.shape
    return {"target": shape.name, "digest": shape.digest, "dtype": model.dtype} | {
        "taps": list(default_taps(shape)),
        "top": TOP,
        "answer": options.answer,
        "seed": options.seed,
    }
