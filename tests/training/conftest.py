from __future__ import annotations

from pathlib import Path

import pytest

from slidefusion.training.corpus import write_corpus


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two small phantoms with their truths."""
    return write_corpus(
        tmp_path_factory.mktemp("corpus"), 2, side_px=128, planes=5, z_step_um=1.5, density=2.0
    )
