"""What imported or stated timings are of, as options name it: the key of such a profile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from smartprof import __version__
from smartprof.errors import InputError
from smartprof.models.naming import find_shape
from smartprof.profile.describe import made_of
from smartprof.profile.schema import DeviceKey, Dtype, Execution, Key, ModelKey, SoftwareKey

NOT_STATED = "not stated"  # versions of what ran: a key needs them, nobody here knows them
DEFAULT_DTYPE = {"cuda": "bfloat16", "cpu": "float32"}
GIBIBYTE = 2**30


@dataclass(frozen=True)
class Subject:
    """Options. target: what `find_shape` knows, else any name together with `parameters`."""

    device: str
    device_kind: str
    memory_gib: float | None
    capability: str | None
    threads: int | None
    target: str
    parameters: int | None
    dtype: str | None
    execution: str
    capture_sizes: tuple[int, ...] = ()


def subject_key(subject: Subject) -> Key:
    """The key. Raises InputError for an option that is missing or unknown, ModelError for a target
    that cannot be read.
    """
    _require_one_of("--device-kind", subject.device_kind, tuple(DEFAULT_DTYPE))
    dtype = subject.dtype or DEFAULT_DTYPE[subject.device_kind]
    _require_one_of("--dtype", dtype, get_args(Dtype))
    _require_one_of("--execution", subject.execution, get_args(Execution))
    if subject.memory_gib is None or not 0 < subject.memory_gib < 1e6:
        given = "none" if subject.memory_gib is None else f"{subject.memory_gib:g}"
        raise InputError(
            f"expected --memory-gib, the memory of {subject.device} in GiB, got {given}"
        )
    with made_of("device and target"):
        return Key(
            device=DeviceKey(
                kind=subject.device_kind,  # type: ignore[arg-type]
                name=subject.device,
                uuid_digest=None,
                memory_bytes=round(subject.memory_gib * GIBIBYTE),
                capability=subject.capability,
                driver=None,
                threads=subject.threads,
            ),
            software=SoftwareKey(
                python=NOT_STATED, torch=NOT_STATED, smartprof=__version__, cuda=None
            ),
            target=_target(subject),
            dtype=dtype,  # type: ignore[arg-type]
            execution=subject.execution,  # type: ignore[arg-type]
            capture_sizes=list(subject.capture_sizes),
        )


def _target(subject: Subject) -> ModelKey:
    if subject.parameters is not None:
        if subject.parameters < 1:
            raise InputError(f"expected --parameters from 1, got {subject.parameters}")
        return ModelKey(name=subject.target, digest=NOT_STATED, parameters=subject.parameters)
    shape = find_shape(subject.target)
    if shape is None:
        raise InputError(
            f"expected --target as a named shape, a fetched model, a directory with config.json, a "
            f".gguf file or a Hub id, got {subject.target!r}: name one, or state --parameters, how "
            "many weights it has"
        )
    return ModelKey(name=shape.name, digest=shape.digest, parameters=shape.parameters)


def _require_one_of(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(f"expected {option} {', '.join(known)}, got {value!r}")
