"""The agents that come with the package: whole, of the shipped generators' language, and each with its card."""

from pathlib import Path

import numpy as np
import pytest

import agents
import generators
from agents.checkpoints import (
    OWN_PREDICTORS,
    SHIPPED_AGENTS,
    SHIPPED_PREDICTORS,
    load_predictor,
    shipped_predictor_file,
)
from agents.ddpg import DDPG
from blindsr_env.env import BlindSREnv
from generators.checkpoint import CheckpointError

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.parametrize("name", SHIPPED_AGENTS)
def test_shipped_agents_act_by_name(name):
    home = name.partition("_rl")[0] + ("_s" if name.endswith("_s") else "")
    env = BlindSREnv(metric="psnr", generator=home)
    observation, info = env.reset(seed=0)
    action, _ = agents.load(name, env).predict(observation)
    assert action.shape == (15,)
    assert np.abs(action - info["true_action"]).max() > 0.05  # it is no predictor any more
    _, meaning = load_predictor(SHIPPED_AGENTS[name])
    generator = generators.load(home)
    assert (meaning.basis, meaning.scale, meaning.generator) == (generator.codec.fingerprint, 4, home)
    assert meaning.weights == generator.fingerprint
    card = SHIPPED_AGENTS[name].with_suffix(".md").read_text()
    assert card.startswith(f"# {name}")
    assert (
        all(word in card for word in ("research use", "| training |", "NIQE gain", "Limits:")) and "TABLE" not in card
    )
    assert f"(agents/weights/{name}.md)" in README.read_text()


@pytest.mark.parametrize(
    ("scale", "path"), [*SHIPPED_PREDICTORS.items(), *((scale, path) for (_, scale), path in OWN_PREDICTORS.items())]
)
def test_shipped_predictors_speak_their_scales_language_and_have_cards(scale, path):
    network, meaning = load_predictor(path)
    assert (meaning.kind, meaning.scale) == ("code", scale)
    assert meaning.basis == generators.KernelCodec.isotropic(scale).fingerprint
    card = path.with_suffix(".md").read_text()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert card.startswith(f"# {path.stem}\n") and f"{parameters:,}" in card
    assert all(word in card for word in ("**Licence**", "| training", "device", "Limits:"))
    assert f"(agents/weights/{path.stem}.md)" in README.read_text()


def test_what_was_trained_without_research_only_photos_brings_no_predictor_that_was():
    for name in generators.names():
        cards = [generators.find(name), shipped_predictor_file(generators.load(name))]
        free = ["**Licence**: Apache-2.0" in path.with_suffix(".md").read_text() for path in cards]
        assert free[0] == free[1] == (name in ("amnet_s_open", "amnet_s_x2")), name


@pytest.mark.parametrize("name", SHIPPED_AGENTS)
def test_an_actor_starts_at_a_shipped_agent_by_its_name(name):
    env = BlindSREnv(metric="psnr", generator="amgan_s" if name.endswith("_s") else "amgan")
    observation, _ = env.reset(seed=0)
    np.testing.assert_array_equal(
        DDPG(env, actor=name).predict(observation)[0], agents.load(name, env).predict(observation)[0]
    )


def test_shipped_agents_refuse_other_languages(tiny_generator):
    other = generators.AMNet(tiny_generator.architecture, generators.KernelCodec.isotropic(2), name="other")
    with pytest.raises(CheckpointError):
        agents.load("amgan_rl_s", BlindSREnv(metric="psnr", generator=other.eval().requires_grad_(False)))
    with pytest.raises(ValueError, match="amgan_rl_s"):
        agents.load("amgan_r")
