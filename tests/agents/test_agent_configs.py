"""The presets are settings that the algorithms know, and the paper's are the paper's."""

from importlib.resources import files

import numpy as np
import pytest
import yaml

from agents.policies import ALGORITHMS


def preset(name):
    return yaml.safe_load((files("experiments") / "configs" / f"{name}.yaml").read_text())


@pytest.mark.parametrize(
    "name", ["ddpg_paper", "ddpg_cpu", "group_pg_cpu", "pathwise", "pathwise_cpu", "sb3_cpu", "constant_cpu"]
)
def test_presets_fit_their_algorithm(name):
    run = preset(name)
    config = ALGORITHMS[run["algorithm"]].config_class.from_dict(run["agent"])
    assert config.actor_lr > 0 and run["num_envs"] % run["repeats"] == 0


def test_the_papers_settings():
    run = preset("ddpg_paper")
    config = ALGORITHMS["ddpg"].config_class.from_dict(run["agent"])
    assert (config.batch_size, config.actor_lr, config.critic_lr, config.lr_final) == (96, 1e-5, 1e-4, 1e-2)
    assert run["total_timesteps"] // run["num_envs"] == 5000


def test_numpys_numbers_are_numbers():
    config = ALGORITHMS["ddpg"].config_class(
        batch_size=np.int64(64), noise=np.full(15, 0.25), critic_lr=np.float32(0.5)
    )
    assert (config.batch_size, config.noise, config.critic_lr) == (64, (0.25,) * 15, 0.5)
    assert type(config.batch_size) is int
    with pytest.raises(ValueError, match="batch_size in DDPGConfig must be a whole number, got .*6.5"):
        ALGORITHMS["ddpg"].config_class(batch_size=np.float64(6.5))
