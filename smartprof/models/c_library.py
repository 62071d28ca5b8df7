"""A C file of this package as a library of this process: compiled once, kept in the user's cache.

It is compiled for the processor at hand and runs in the OpenMP threads that are there already: a
second runtime beside torch's would spin on the same cores. Where that cannot be had (no compiler, a
system other than Linux) there is no library, and nothing depends on one. Knows no tensors.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import secrets
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from smartprof.models.user_cache import cache_dir

FOLDER = "libraries"
LANES = 8  # of lanes.h; what is done by so many numbers at once has multiples of it
FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fPIC", "-fopenmp")
COMPILER_VARIABLE = "CC"
MOST_SECONDS = 60  # for a compiler that hangs
OPENMP = ("libgomp", "libiomp5")  # both have the functions that gcc's code calls
CPU_LINES = ("model name", "flags", "Features")  # of /proc/cpuinfo: what "native" depends on


def load_c_library(source: Path) -> ctypes.CDLL | None:
    """The compiled file; None where it cannot be compiled or run."""
    try:
        code = b"\0".join(x.read_bytes() for x in (source, *sorted(source.parent.glob("*.h"))))
        processor, openmp = _processor(), _openmp()
        name = hashlib.sha256(b"\0".join([code, " ".join(FLAGS).encode(), processor])).hexdigest()
        path = cache_dir() / FOLDER / f"{source.stem}-{name[:16]}.so"
        ctypes.CDLL(openmp, mode=ctypes.RTLD_GLOBAL)
        with contextlib.suppress(OSError):  # missing, or empty after a crash
            return ctypes.CDLL(str(path))
        _compile(source, path)
        return ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError):
        return None


def _processor() -> bytes:
    """What the compiled code may run on."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return "\n".join(sorted({x for x in lines if x.startswith(CPU_LINES)})).encode()


def _openmp() -> str:
    """The OpenMP runtime that this process has loaded. Raises OSError if there is none."""
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        path = line.split(maxsplit=5)[-1]
        if Path(path).name.startswith(OPENMP):
            return path
    raise OSError("no OpenMP runtime")


def _compile(source: Path, path: Path) -> None:
    """Raises OSError or SubprocessError."""
    compiler = shlex.split(os.environ.get(COMPILER_VARIABLE, "cc"))
    if not compiler or shutil.which(compiler[0]) is None:
        raise FileNotFoundError("no compiler")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        compiled, linked = Path(folder) / "code.o", path.with_suffix(f".{secrets.token_hex(4)}")
        _run([*compiler, *FLAGS, "-c", str(source), "-o", str(compiled)])
        try:
            # Without -fopenmp: its functions are those of the runtime that is loaded already.
            _run([*compiler, "-shared", str(compiled), "-o", str(linked)])
            os.replace(linked, path)
        finally:
            linked.unlink(missing_ok=True)


def _run(command: list[str]) -> None:
    subprocess.run(
        command, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=MOST_SECONDS
    )
