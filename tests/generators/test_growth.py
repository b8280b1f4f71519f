import pytest
import torch

from generators import AMNet, Architecture, KernelCodec
from generators.growth import grow, ignore_unused


def network(modulation="amlayer", blocks=2, width=4, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        small = AMNet(Architecture(blocks, width, 4, modulation), KernelCodec.isotropic(4), "small")
    return small


def scenes(seed=1):
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(2, 3, 12, 10, generator=rng), torch.rand(2, 15, generator=rng) * 2 - 1


@pytest.mark.parametrize("modulation", ["amlayer", "adain"])
@pytest.mark.parametrize("blocks, width", [(2, 4), (2, 12), (5, 4), (5, 8)])
def test_the_larger_network_renders_the_same(modulation, blocks, width):
    small = network(modulation).double()
    lr, action = scenes()
    large = grow(small, Architecture(blocks, width, 4, modulation), "large", torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = small(lr.double(), action.double())
        after = large.double()(lr.double(), action.double())
    assert (large.architecture.blocks, large.architecture.width, large.name) == (blocks, width, "large")
    # The new weights are float32.
    torch.testing.assert_close(after, before, atol=2e-6, rtol=1e-5)


def test_copies_of_a_channel_part_in_training():
    large = grow(network(), Architecture(2, 8), "large", torch.Generator().manual_seed(0))
    lr, action = scenes()
    large(lr, action).square().mean().backward()
    gradient = large.body[0].conv1.weight.grad
    assert not torch.allclose(gradient[:4], gradient[4:], rtol=0.1)


def test_new_blocks_learn():
    large = grow(network(), Architecture(4, 4), "large", torch.Generator().manual_seed(0))
    new = large.body[1]
    lr, action = scenes()
    large(lr, action).square().mean().backward()
    assert new.modulate2.gamma.weight.grad.abs().max() > 0
    with torch.no_grad():
        for parameter in large.parameters():
            parameter -= 0.1 * parameter.grad
    large.zero_grad()
    large(lr, action).square().mean().backward()
    assert new.conv1.weight.grad.abs().max() > 0


def test_the_smaller_network_and_the_callers_random_numbers_stay():
    small = network()
    before = {name: tensor.clone() for name, tensor in small.state_dict().items()}
    state = torch.get_rng_state()
    first, second = (grow(small, Architecture(3, 8), "large", torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in small.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize(
    "architecture, cause",
    [
        (Architecture(2, 6), "multiple"),
        (Architecture(1, 4), "fewer"),
        (Architecture(2, 4, modulation="adain"), "modulation amlayer, the new network adain"),
    ],
)
def test_what_does_not_hold_the_smaller_one_is_refused(architecture, cause):
    with pytest.raises(ValueError, match=cause):
        grow(network(), architecture, "large", torch.Generator())


def test_another_scale_keeps_the_features_and_brings_its_own_code():
    small = network()
    other = grow(small, Architecture(2, 4, scale=2), "other", torch.Generator().manual_seed(0))
    kept = {name for name, tensor in small.state_dict().items() if torch.equal(other.state_dict()[name], tensor)}
    assert set(small.state_dict()) - kept == {"tail.weight", "tail.bias"}
    assert torch.equal(other.gain, AMNet(other.architecture, KernelCodec.isotropic(2)).gain)
    lr, action = scenes()
    assert other(lr, action).shape == (2, 3, 24, 20)


@pytest.mark.parametrize("modulation", ["amlayer", "adain"])
def test_features_grow_across_scales(modulation):
    small, lr = network(modulation).double(), scenes()[0].double()
    large = grow(small, Architecture(3, 8, 2, modulation), "large", torch.Generator().manual_seed(0)).double()
    code = torch.rand(2, 15, generator=torch.Generator().manual_seed(2)).double()
    features = []
    for each in (small, large):
        each.tail.register_forward_pre_hook(lambda module, inputs: features.append(inputs[0].clone()))
        with torch.no_grad():
            each.train().render(lr, code)
    torch.testing.assert_close(features[1], features[0].repeat(1, 2, 1, 1), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("modulation", ["amlayer", "adain"])
def test_a_network_told_so_ignores_the_unused_components(modulation):
    muted = network(modulation)
    ignore_unused(muted)
    lr, code = scenes()
    unused = (muted.gain < 1).float()
    with torch.no_grad():
        before, after = muted.render(lr, code), muted.render(lr, code + unused)
        moved = muted.render(lr, code + 1 - unused)
    assert unused.sum() == 8
    assert torch.equal(after, before)
    assert not torch.allclose(moved, before)
