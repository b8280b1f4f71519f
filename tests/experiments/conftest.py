"""Fixtures for trainings that last a moment."""

import numpy as np
import pytest

from blindsr_env import images
from experiments.train_generator import TrainGenerator


def noise(folder, seed, count):
    rng = np.random.default_rng(seed)
    for i in range(count):
        images.write(folder / f"p{i}.png", rng.integers(0, 256, (40 + i, 50, 3), dtype=np.uint8))
    return str(folder)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder of three small photos of noise."""
    return noise(tmp_path_factory.mktemp("photos"), seed=0, count=3)


@pytest.fixture(scope="session")
def held_out(tmp_path_factory):
    """A folder of another such photo."""
    return noise(tmp_path_factory.mktemp("held-out"), seed=1, count=1)


@pytest.fixture
def settings(data, tmp_path):
    """Makes settings of a training of six steps."""

    def make(kind=TrainGenerator, **changes):
        base = {"data": [data], "output": str(tmp_path / "run"), "steps": 6, "arch": "amnet_s", "device": "cpu"}
        return kind(**{**base, "patch_size": 8, "batch_size": 2, "warmup": 2, **changes})

    return make
