import subprocess
import sys

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from scipy.fft import dctn
from torch.nn import functional

import generators
from agents import critics, networks


def parameter_count(network):
    return sum(p.numel() for p in network.parameters())


def test_predictor_has_the_papers_parameters():
    assert parameter_count(networks.build("predictor")) == 382_627


def test_small_predictor_size_is_fixed():
    assert parameter_count(networks.build("predictor_s")) == 118_287


def test_head_equals_convolution_and_global_average():
    torch.manual_seed(0)
    predictor = networks.Predictor(width=8, blocks=1).double()
    lr = torch.rand(2, 3, 11, 7, dtype=torch.float64)
    weight = predictor.head.weight.view(15, 8, 3, 3)
    linear = functional.conv2d(predictor.trunk(lr), weight, predictor.head.bias, padding=1).mean((2, 3))
    torch.testing.assert_close(predictor(lr), torch.tanh(linear), rtol=0, atol=1e-12)


def test_the_small_predictor_sees_means_of_log_energies_of_cosine_waves():
    """Beside SciPy's transform of every second 8x8 block: of the mean, the mean, weighted by all waves' energy."""
    lr = np.random.default_rng(0).random((2, 3, 13, 18))
    blocks = sliding_window_view(lr.mean(1), (8, 8), axis=(1, 2))[:, ::2, ::2]  # (2, 3, 6, 8, 8)
    energy = dctn(blocks, axes=(-2, -1), norm="ortho").reshape(2, 18, 64)[..., 1:] ** 2
    log, total = np.log(energy + networks.QUIET), energy.sum(2, keepdims=True) + networks.QUIET
    weight = total / total.sum(1, keepdims=True)
    expected = np.concatenate([np.log(energy.mean(1) + networks.QUIET), log.mean(1), (log * weight).sum(1)], 1)
    predictor = networks.build("predictor_s")
    found = predictor.pooled(torch.from_numpy(lr).float())
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=2e-3)  # smallest energies, in float32
    photos = torch.rand(40, 3, 16, 16)
    predictor.calibrate(photos)
    mean, spread = predictor.pooled(photos).mean(0), predictor.pooled(photos).std(0)
    torch.testing.assert_close(mean, torch.zeros(189), rtol=0, atol=1e-4)
    torch.testing.assert_close(spread, torch.ones(189), rtol=0, atol=0.02)


@pytest.mark.parametrize("name", list(networks.PREDICTORS))
@pytest.mark.parametrize("size", [(64, 64), (33, 20), (1, 1)])
def test_any_size_gives_actions_in_the_box(name, size):
    torch.manual_seed(0)
    action = networks.build(name)(torch.rand(2, 3, *size) * 50)
    assert action.shape == (2, 15) and action.abs().max() <= 1 and torch.isfinite(action).all()


def test_a_batch_equals_one_by_one():
    torch.manual_seed(0)
    predictor, lr = networks.build("predictor_s").eval(), torch.rand(3, 3, 16, 16)
    torch.testing.assert_close(predictor(lr), torch.cat([predictor(x[None]) for x in lr]), rtol=0, atol=1e-6)


def test_observations_become_channels_last_floats_without_a_copy_of_order():
    observation = torch.arange(2 * 4 * 5 * 3, dtype=torch.uint8).view(2, 4, 5, 3)
    lr = networks.from_observation(observation)
    assert lr.shape == (2, 3, 4, 5) and lr.is_contiguous(memory_format=torch.channels_last)
    assert lr[1, 2, 3, 4] == observation[1, 3, 4, 2] / 255
    torch.testing.assert_close(networks.from_observation(observation / 255), lr)
    assert torch.equal(networks.from_observation(observation.long()), lr)
    with pytest.raises(ValueError, match="floats go from 0 to 1, not to 119: give uint8, or divide 8-bit ones by 255"):
        networks.from_observation(observation.float())
    with pytest.raises(ValueError, match=r"\(N, H, W, 3\), not \(2, 3, 4, 5\)"):
        networks.from_observation(lr)


def test_unknown_predictor_and_stride_are_refused():
    with pytest.raises(ValueError, match="unknown predictor 'predictor_m': did you mean 'predictor"):
        networks.build("predictor_m")
    with pytest.raises(ValueError, match="unknown kind of predictor 'cmn': did you mean 'cnn'"):
        networks.from_settings({"kind": "cmn"})
    with pytest.raises(ValueError, match="stride is 1 or 2, not 3"):
        networks.Predictor(stride=3)


def test_free_code_conversion_multiplies_by_the_gain():
    torch.manual_seed(0)
    predictor, lr = networks.Predictor(width=8, blocks=1, actions=3), torch.rand(4, 3, 12, 12)
    before = predictor(lr)
    gain = torch.tensor([1.0, 0.3, 1e-3])
    predictor.to_free_code(gain)
    torch.testing.assert_close(predictor(lr), before * gain, rtol=0.02, atol=1e-4)
    torch.testing.assert_close(predictor(lr)[:, 0], before[:, 0])


@pytest.mark.parametrize(
    ("name", "off", "at_the_edge"), [("amnet_s", {7: 0.063, 8: 0.085}, 0.52), ("amnet_s_x2", {6: 0.098}, 0.481)]
)
def test_free_codes_are_as_far_off_as_the_docstring_says(name, off, at_the_edge):
    codec = generators.load(name).codec

    def error(component):
        u = torch.linspace(0, component, 1001, dtype=torch.float64)[:, None].expand(-1, 15)
        predictor = networks.Predictor(width=8, blocks=1).double()
        with torch.no_grad():
            predictor.head.weight.copy_(torch.eye(15, 72))
            predictor.head.bias.zero_()
            predictor.to_free_code(codec.gain)
            code = predictor.act(functional.pad(torch.atanh(u), (0, 72 - 15)))
        return (code - codec.gain * u).abs().amax(0)

    within = error(0.8)
    assert {i: round(within[i].item(), 3) for i in off} == off and within.max() <= max(off.values()) + 5e-4
    assert error(0.999).max().item() == pytest.approx(at_the_edge, abs=1e-3)


@pytest.mark.parametrize("kind", ["cnn", "pooled"])
def test_critics_are_independent_and_depend_on_both_inputs(kind):
    torch.manual_seed(0)
    critic = critics.Critics(2, 4, width=8, hidden=16) if kind == "cnn" else critics.PooledCritics(2, 9, 4, 16)
    seen = torch.rand(5, 3, 8, 8) if kind == "cnn" else torch.rand(5, 9)
    action = torch.rand(5, 4, requires_grad=True)
    q = critic(seen, action)
    assert q.shape == (2, 5) and not torch.allclose(q[0], q[1])
    assert not torch.allclose(q, critic(seen.flip(0), action))
    one_row = torch.autograd.grad(q[0, 3], action)[0]
    assert one_row[3].abs().min() > 0 and one_row[[0, 1, 2, 4]].abs().max() == 0
    torch.testing.assert_close(critic(seen[3:4], action[3:4]), q[:, 3:4])
    with torch.no_grad():
        for name, parameter in critic.named_parameters():
            if "modulations" in name:
                parameter.zero_()
    same = action[:1].detach().expand(5, -1)
    assert critic(seen, same).std(1).min() > 0, "where the action modulates nothing, the photo is seen as it is"


def test_networks_and_replay_import_little_beside_torch():
    loaded = "{name.partition('.')[0] for name in sys.modules}"
    code = f"import sys, torch; before = {loaded}; import agents.networks, agents.replay; print(*({loaded} - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    foreign = {name for name in done.stdout.split() if name not in sys.stdlib_module_names and name[0] != "_"}
    assert {"agents", "generators"} <= foreign <= {"agents", "generators", "numpy", "safetensors"}
