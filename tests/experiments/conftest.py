"""Fixtures for trainings that last a moment."""

import numpy as np
import pytest

from blindsr_env import images
from experiments.train_generator import TrainGenerator


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder of three small photos of noise."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(3):
        images.write(folder / f"p{i}.png", rng.integers(0, 256, (40 + i, 50, 3), dtype=np.uint8))
    return str(folder)


@pytest.fixture
def settings(data, tmp_path):
    """Makes settings of a training of six steps."""

    def make(**changes):
        base = {"data": [data], "output": str(tmp_path / "run"), "steps": 6, "arch": "amnet_s", "device": "cpu"}
        return TrainGenerator(**{**base, "patch_size": 8, "batch_size": 2, "warmup": 2, **changes})

    return make
