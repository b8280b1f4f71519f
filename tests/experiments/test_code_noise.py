"""Noise on the code's unused components: what it reaches, and what it teaches."""

import pytest
import torch

import generators
from experiments.train_generator import GeneratorTrainer
from generators.growth import ignore_unused


def first_losses(trainer, steps=1):
    return [trainer.step().item() for _ in range(steps)]


def test_a_generator_that_starts_from_another_hears_no_noise(settings):
    """It ignores unused components, so its first loss is that of such a network without noise, to the bit."""
    noisy = GeneratorTrainer(settings(init="amnet_s", code_noise=1.0))
    quiet = GeneratorTrainer(settings(init="amnet_s"))
    ignore_unused(quiet.network)
    assert first_losses(noisy) == first_losses(quiet)


def test_noise_reaches_a_network_that_hears(settings):
    noisy, quiet = GeneratorTrainer(settings(code_noise=1.0)), GeneratorTrainer(settings())
    assert first_losses(noisy) != first_losses(quiet)


def test_training_with_noise_makes_a_network_ignore_it(settings):
    """The weights of the unused components shrink; without noise they stay."""

    def heard(code_noise):
        trainer = GeneratorTrainer(settings(code_noise=code_noise, steps=40, learning_rate=1e-2))
        with torch.no_grad():  # a generator that listens to the unused components only
            for layer in trainer.network.modules():
                if hasattr(layer, "embed"):
                    layer.embed.weight[:, 7:] = 1.0
        before = heard_by(trainer.network)
        first_losses(trainer, 40)
        return heard_by(trainer.network) / before

    def heard_by(network):
        with torch.no_grad():
            lr, code = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.zeros(4, 15)
            unused = (network.gain < 1).float()
            return float((network.render(lr, code + unused) - network.render(lr, code - unused)).std())

    assert heard(1.0) < 0.5 * heard(0.0)


def test_negative_noise_is_refused(settings):
    with pytest.raises(ValueError, match="code_noise must be at least 0, got -1"):
        settings(code_noise=-1.0)


def test_shipped_architectures_have_eight_unused_components():
    assert int((generators.build("amnet_s").gain < 1).sum()) == 8
