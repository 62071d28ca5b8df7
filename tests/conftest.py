from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from smartprof.models.user_cache import CACHE_VARIABLE, cache_dir


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's fetched models, but none of the kernels that the user's calibrations chose."""
    models = cache_dir() / "models"
    models.mkdir(parents=True, exist_ok=True)
    folder = tmp_path_factory.mktemp("cache")
    (folder / models.name).symlink_to(models.resolve())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(folder))
        yield folder
