"""Generators: parameter counts, layers and whole networks against the paper's formulas, shapes, codes and actions."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import generators
from generators import AMNet, Architecture
from generators.amnet import AMRB, MODULATION, AdaIN, AMLayer
from generators.codec import CODE_LENGTH


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def conv(inputs, outputs):
    return 9 * inputs * outputs + outputs


@pytest.mark.parametrize(("arch", "parameters"), [("amnet", 1_598_704), ("amnet_l", 3_120_368), ("amnet_s", 229_648)])
def test_parameter_counts_are_the_papers(arch, parameters):
    assert count(generators.build(arch)) == parameters


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("modulation", ["amlayer", "adain"])
def test_parameter_counts_follow_from_the_text(modulation, scale):
    layer = {"adain": 2 * (15 * 32 + 32), "amlayer": (15 * 16 + 16) + 2 * ((16 + 32) * 32 + 32)}[modulation]
    blocks = 8 * (2 * conv(32, 32) + 2 * layer)
    network = generators.build("amnet_s", scale=scale, modulation=modulation)
    assert count(network) == conv(3, 32) + blocks + conv(32, 32) + layer + conv(32, 3 * scale**2)


@pytest.fixture
def features():
    rng = np.random.default_rng(0)
    return rng.normal(0.3, 2.0, (3, 8, 5, 7)), rng.normal(size=(3, CODE_LENGTH))


def randomise(module):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(generator=generator)
    return module.double()


def statistics(plane):
    """Eq. 5 and 6 of one plane, as sums."""
    mu = sum(plane.flat) / plane.size
    return mu, (sum((value - mu) ** 2 for value in plane.flat) / plane.size + 1e-5) ** 0.5


def test_amlayer_is_equation_7(features):
    x, code = features
    layer = randomise(AMLayer(8))
    weight = {name: parameter.detach().numpy() for name, parameter in layer.named_parameters()}
    expected = np.empty_like(x)
    for n in range(len(x)):
        mu, sigma = np.array([statistics(plane) for plane in x[n]]).T
        e = weight["embed.weight"] @ code[n] + weight["embed.bias"]
        gamma = weight["gamma.weight"] @ np.concatenate([e, sigma]) + weight["gamma.bias"]
        beta = weight["beta.weight"] @ np.concatenate([e, mu]) + weight["beta.bias"]
        for c in range(8):
            expected[n, c] = gamma[c] * (x[n, c] - mu[c]) / sigma[c] + beta[c]
    assert np.abs(layer(torch.from_numpy(x), torch.from_numpy(code)).detach().numpy() - expected).max() < 1e-12


def test_adain_is_equation_4(features):
    x, code = features
    layer = randomise(AdaIN(8))
    weight = {name: parameter.detach().numpy() for name, parameter in layer.named_parameters()}
    expected = np.empty_like(x)
    for n in range(len(x)):
        gamma = weight["gamma.weight"] @ code[n] + weight["gamma.bias"]
        beta = weight["beta.weight"] @ code[n] + weight["beta.bias"]
        for c in range(8):
            mu, sigma = statistics(x[n, c])
            expected[n, c] = gamma[c] * (x[n, c] - mu) / sigma + beta[c]
    assert np.abs(layer(torch.from_numpy(x), torch.from_numpy(code)).detach().numpy() - expected).max() < 1e-12


def test_a_fresh_amlayer_hardly_changes_its_input(features):
    x, code = (torch.from_numpy(array).float() for array in features)
    torch.manual_seed(0)
    change = (AMLayer(8)(x, code) - x).detach()
    assert change.std() < 0.1 * x.std()


def test_a_fresh_adain_normalises(features):
    x = torch.from_numpy(features[0]).float()
    variance, mean = torch.var_mean(AdaIN(8)(x, torch.zeros(3, CODE_LENGTH)).detach(), dim=(2, 3), correction=0)
    assert mean.abs().max() < 1e-5 and (variance - 1).abs().max() < 1e-4


def test_a_fresh_block_is_near_the_identity():
    torch.manual_seed(0)
    x, block = torch.randn(2, 32, 9, 8), AMRB(32, "amlayer")
    assert (block(x, actions(2)) - x).detach().std() < 0.1


@pytest.mark.parametrize(("modulation", "scale"), [("amlayer", 4), ("adain", 3)])
def test_a_network_is_figure_1(modulation, scale):
    """Convolutions, the layers above, ReLU, skips, and a shuffle of pixels by its definition."""
    network = AMNet(Architecture(2, 6, scale, modulation), generators.KernelCodec.isotropic(scale))
    randomise(network)
    lr, code = photos(2, 5, 7).double(), actions(2).double()

    def conv(layer, x):
        return F.conv2d(x, layer.weight, layer.bias, padding=1)

    head = x = conv(network.head, lr)
    for block in network.body:
        y = block.modulate1(conv(block.conv1, x), code).relu()
        x = x + block.modulate2(conv(block.conv2, y), code)
    tail = conv(network.tail, head + network.modulate(conv(network.conv, x), code))
    expected = lr.repeat_interleave(scale, 2).repeat_interleave(scale, 3)  # nearest neighbours
    for c, i, j in np.ndindex(3, scale, scale):
        expected[:, c, i::scale, j::scale] += tail[:, c * scale**2 + i * scale + j]
    sr = network.eval().render(lr, code)
    assert tail.std() > 1 and (sr - expected).abs().max() < 1e-9 * tail.abs().max()


@pytest.mark.parametrize("modulation", ["amlayer", "adain"])
def test_flat_features_give_finite_values(modulation):
    layer = {"amlayer": AMLayer, "adain": AdaIN}[modulation](4)
    x = torch.full((2, 4, 6, 6), 0.7, requires_grad=True)
    y = layer(x, torch.zeros(2, CODE_LENGTH))
    y.sum().backward()
    assert y.isfinite().all() and x.grad.isfinite().all()


def actions(n, seed=0):
    return torch.rand(n, CODE_LENGTH, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def photos(n, height, width, seed=0):
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (5, 9)])
def test_shapes(scale, size):
    network = AMNet(Architecture(1, 4, scale), generators.KernelCodec.isotropic(scale))
    sr = network(photos(2, *size), actions(2))
    assert sr.shape == (2, 3, scale * size[0], scale * size[1]) and sr.dtype == torch.float32
    assert network.scale == scale
    sr = network(photos(2, *size).double(), actions(2).double())  # in the photos' dtype, whatever the network's
    assert sr.dtype == torch.float64


def test_an_action_is_rendered_as_its_code(tiny_generator):
    lr, action = photos(2, 8, 8), actions(2)
    sr = tiny_generator(lr, action)
    assert torch.equal(sr, tiny_generator.render(lr, tiny_generator.codec.code(action)))
    assert torch.equal(sr, tiny_generator.render(lr, tiny_generator.codec.gain.float() * action))
    assert (sr - tiny_generator.render(lr, action)).abs().max() > 0, "the last components should be damped"


def test_the_code_changes_the_picture(tiny_generator):
    lr = photos(1, 8, 8)
    assert (tiny_generator(lr, actions(1, 0)) - tiny_generator(lr, actions(1, 1))).abs().max() > 1e-4


def test_a_batch_equals_one_by_one(tiny_generator):
    lr, action = photos(3, 7, 9), actions(3)
    together = tiny_generator(lr, action)
    alone = torch.cat([tiny_generator(lr[i : i + 1], action[i : i + 1]) for i in range(3)])
    assert (together - alone).abs().max() < 1e-5


def test_half_precision_keeps_what_the_small_layers_name(tiny_checkpoint):
    whole, half, double = (
        generators.load(tiny_checkpoint, dtype=t) for t in (torch.float32, torch.bfloat16, torch.float64)
    )
    for name, weight in half.named_parameters():
        kind = torch.float32 if "modulate" in name else torch.bfloat16
        assert weight.dtype == kind, name
        assert kind == torch.bfloat16 or torch.equal(weight, whole.get_parameter(name)), name
    assert torch.equal(half.gain, whole.gain)
    assert {weight.dtype for weight in (*double.parameters(), double.gain)} == {torch.float64}


def test_bfloat16_runs_near_float32(tiny_checkpoint, tiny_generator):
    half = generators.load(tiny_checkpoint, dtype=torch.bfloat16)
    lr, action = photos(2, 8, 8), actions(2)
    sr = half(lr.bfloat16(), action)  # actions may stay float32
    assert sr.dtype == torch.bfloat16
    expected = tiny_generator(lr, action)
    assert (sr.float() - expected).abs().mean() < 0.01
    # A float32 photo keeps its precision: only what is added to it is rounded.
    near = half(lr, action)
    assert near.dtype == torch.float32
    assert (near - expected).abs().mean() < 0.25 * (sr.float() - expected).abs().mean()


@pytest.mark.parametrize("modulation", ["amlayer", "adain"])
def test_a_modulation_after_its_convolution_is_both_in_turn(modulation):
    torch.manual_seed(0)
    conv, layer = torch.nn.Conv2d(5, 8, 3, padding=1), MODULATION[modulation](8)
    for parameter in (*conv.parameters(), *layer.parameters()):
        torch.nn.init.normal_(parameter, std=0.3)
    x, code = torch.randn(2, 5, 6, 7), actions(2)
    torch.testing.assert_close(layer.after(conv, x, code), layer(conv(x), code), rtol=1e-4, atol=1e-4)


def test_gradients_reach_the_action(tiny_generator):
    action = actions(1).requires_grad_()
    tiny_generator(photos(1, 8, 8), action).square().sum().backward()
    assert action.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": 5}, "scale must be"),
        ({"modulation": "film"}, "adain"),
        ({"blocks": 0}, "at least 1"),
        ({"width": 0}, "at least 1"),
    ],
)
def test_impossible_architectures_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Architecture(**settings)


def test_a_network_may_have_a_code_of_its_own():
    codec = generators.KernelCodec.isotropic(2)
    assert generators.build("amnet_s", scale=4, codec=codec).codec is codec


def test_an_unknown_architecture_lists_the_nearest():
    with pytest.raises(ValueError, match=r"'amnet_x': did you mean .*'amnet'"):
        generators.build("amnet_x")


@pytest.mark.gpu
def test_the_gpu_gives_the_cpus_picture(tiny_checkpoint, tiny_generator, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    lr, action = photos(2, 16, 16), actions(2)
    sr = generators.load(tiny_checkpoint, device="cuda")(lr.cuda(), action.cuda())
    assert (sr.cpu() - tiny_generator(lr, action)).abs().max() < 1e-4
