"""One process at a time, by locks on files that end with the process."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from smartprof.errors import SmartprofError

UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


@contextmanager
def one_at_a_time(path: Path, busy: str | None = None) -> Iterator[None]:
    """Hold the lock on a file, made if absent, where the system and its file system have locks.

    busy: the SmartprofError where another process holds it; without one, wait for it. The holder
    may remove the file. Raises OSError if it cannot be opened.
    """
    lock = path.open("a")
    try:
        while not _taken(lock, path, busy):
            lock.close()
            lock = path.open("a")
        yield
    finally:
        lock.close()


def _taken(lock: IO[str], path: Path, busy: str | None) -> bool:
    """Whether the lock is held now; False if its file was removed meanwhile, and is another's."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX if busy is None else fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(lock.fileno()), path.stat())
    except BlockingIOError:
        raise SmartprofError(busy) from None
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno in UNSUPPORTED:
            return True
        raise
