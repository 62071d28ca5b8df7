"""Stop strings: which token ends an output, and what of it is read."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartprof.decode.requests import Progress, Request
from smartprof.decode.stops import MARGIN, StopFinder, check_stops, text_before_stop
from smartprof.errors import InputError
from tests.tiny_decoding import (
    OracleDrafter,
    WholeTree,
    decoded,
    loud_model,
    outputs,
    random_requests,
    truth_of,
)
from tests.tiny_model import byte_tokenizer

BYTES = byte_tokenizer()
SPECIAL = BYTES.token_to_id("<|im_end|>")


def text_of(tokens: Sequence[int]) -> str:
    return str(BYTES.decode(list(tokens), skip_special_tokens=True))


def tokens_of(text: str) -> list[int]:
    """One token per byte."""
    return list(BYTES.encode(text).ids)


def commit_in_parts(text: str, stops: tuple[str, ...], sizes: Sequence[int]) -> Progress:
    """Commit the bytes of a text, in parts of these sizes, until the request ends."""
    tokens = tokens_of(text)
    request = Request("p", "c", "s", (1,), 10 * len(tokens) + 1, stop=stops)
    progress = Progress(request, 0, finder=StopFinder(stops, text_of))
    turn = 0
    while tokens and not progress.ended:
        size = sizes[turn % len(sizes)]
        progress.commit(tokens[:size], frozenset())
        tokens, turn = tokens[size:], turn + 1
    return progress


@pytest.mark.parametrize("sizes", [(1,), (2,), (3, 1), (7,), (100,)])
@pytest.mark.parametrize(
    ("text", "stops", "kept"),
    [
        ("abc. def. ghi", (". d",), "abc. d"),  # spans tokens
        ("abc. def. ghi", ("ghi", "ef"), "abc. def"),  # the first of several
        ("12 € und 3 €!", ("€!",), "12 € und 3 €!"),  # the sign has three bytes
        ("ein 🙂 und 🙃 da", ("🙃",), "ein 🙂 und 🙃"),  # emojis that share three of four bytes
        ("aaab", ("aab",), "aaab"),
        ("nothing here", ("there",), None),
    ],
)
def test_an_output_ends_with_the_token_that_completes_a_stop_string(
    text: str, stops: tuple[str, ...], kept: str | None, sizes: tuple[int, ...]
) -> None:
    progress = commit_in_parts(text, stops, sizes)
    assert progress.stopped is progress.ended is (kept is not None)
    assert text_of(progress.output) == (text if kept is None else kept)


@given(
    text=st.text(alphabet="ab€🙂é", max_size=80),
    stops=st.lists(st.text(alphabet="ab€🙂é", min_size=1, max_size=5), min_size=1, max_size=3),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5),
)
def test_ends_are_where_searching_the_whole_text_finds_them(
    text: str, stops: list[str], sizes: list[int]
) -> None:
    ends = [text.index(x) + len(x) for x in stops if x in text]
    progress = commit_in_parts(text, tuple(stops), sizes)
    assert text_of(progress.output) == text[: min(ends, default=len(text))]
    assert progress.stopped is bool(ends)


def test_only_a_bounded_tail_is_detokenised() -> None:
    lengths = []

    def counted(tokens: Sequence[int]) -> str:
        lengths.append(len(tokens))
        return text_of(tokens)

    finder = StopFinder(["€end"], counted)
    assert finder.tokens_until(tokens_of("x" * 5000), tokens_of("yy")) is None
    assert lengths == [len("€end".encode()) + MARGIN + 2]


def test_special_tokens_within_a_stop_string_do_not_hide_it() -> None:
    finder = StopFinder(["ab"], text_of)
    before = [*tokens_of("a"), *[SPECIAL] * 10]
    assert finder.tokens_until(before, tokens_of("b")) == 1


def test_an_end_of_sequence_before_the_stop_string_wins() -> None:
    request = Request("p", "c", "s", (1,), 50, stop=("cd",))
    progress = Progress(request, 0, finder=StopFinder(("cd",), text_of))
    eos = frozenset(tokens_of("b"))
    assert text_of(progress.commit(tokens_of("abcd"), eos)) == "ab"
    assert progress.ended
    assert not progress.stopped


def test_the_user_reads_what_is_before_the_stop_string() -> None:
    assert text_before_stop("one. two. three", (". th", ". ")) == "one"
    assert text_before_stop("one", ("two",)) == "one"
    assert text_before_stop("one", ()) == "one"


def letters(tokens: Sequence[int]) -> str:
    """Three characters for every token of the tiny model."""
    return "".join(f"{x:03d}" for x in tokens)


def test_a_stop_string_inside_an_accepted_path_ends_the_output() -> None:
    requests = random_requests(6, seed=4)
    plain = outputs(decoded(loud_model(), "plain", requests, 3))
    stops = (letters(plain[0][7:9])[1:5], letters(plain[3][10:13])[2:8])
    stopping = random_requests(6, seed=4, stop=stops)
    wanted = [_until_stop(x, stops) for x in plain]
    assert outputs(decoded(loud_model(), "plain", stopping, 3, detokenise=letters)) == wanted
    drafter = OracleDrafter(truth_of(stopping, plain), 1)
    lane = decoded(loud_model(), WholeTree(), stopping, 3, drafter, detokenise=letters)
    assert outputs(lane) == wanted
    assert any(len(x) < 40 for x in wanted)
    ended_early = [x for x in lane.finished if x.stopped]
    assert len(ended_early) == sum(len(x) < 40 for x in wanted)
    assert lane.tokens == sum(len(x) for x in wanted)  # nothing behind an end was counted


def _until_stop(output: list[int], stops: tuple[str, ...]) -> list[int]:
    """The shortest beginning of an output whose text holds a stop string."""
    ends = [x for x in range(1, len(output) + 1) if any(y in letters(output[:x]) for y in stops)]
    return output[: ends[0]] if ends else output


def test_stop_strings_without_a_tokenizer_or_without_text_are_refused() -> None:
    with pytest.raises(InputError, match="has stop strings"):
        decoded(loud_model(), "plain", random_requests(1, stop=("x",)), 1)
    for stop in ("", "a\ufffd"):
        with pytest.raises(InputError, match=r"at least one character, and none of them U\+FFFD"):
            check_stops(("a", stop))


def test_tokens_of_the_byte_tokenizer_are_parts_of_characters() -> None:
    assert len(tokens_of("€")) == 3
    assert text_of(tokens_of("€")[:2]) != "€"
