"""What AMGAN is trained by: realness loss against its formula, discriminator, perceptual loss."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from states import random_state

from blindsr_env.metrics.squeezenet import SqueezeNet
from experiments.discriminator import BOX, Discriminator
from experiments.perceptual import VGG19, PerceptualLoss
from experiments.realness import Realness, anchors

# Realness


def softmax(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def kl(p, q):
    """KL(p || q) over axis 1, mean over the rest."""
    return (p * np.log(p / q)).sum(axis=1).mean()


def test_anchors_are_mirrored_skew_normals():
    fake, real = anchors(11)
    assert real.sum() == pytest.approx(1) and torch.equal(fake.flip(0), real) and (real > 0).all()
    from scipy.stats import skewnorm

    density = skewnorm.pdf(np.linspace(-1, 1, 11), 2, scale=0.7)
    np.testing.assert_allclose(real.numpy(), density / density.sum(), rtol=1e-6, atol=1e-15)
    assert (real * torch.linspace(-1, 1, 11)).sum() > 0.3


@pytest.mark.parametrize("shape", [(4, 7), (2, 7, 3, 5)])
def test_realness_losses_are_the_papers(shape):
    rng = np.random.default_rng(0)
    real, fake = rng.normal(0, 2, (2, *shape))
    a0, a1 = (a.numpy().reshape(1, 7, *[1] * (len(shape) - 2)) for a in anchors(7))
    loss = Realness(7)
    d = loss.discriminator_loss(torch.tensor(real), torch.tensor(fake))
    assert d.item() == pytest.approx(kl(a1, softmax(real)) + kl(a0, softmax(fake)), rel=1e-5)
    g = loss.generator_loss(torch.tensor(real), torch.tensor(fake))
    assert g.item() == pytest.approx(kl(softmax(real), softmax(fake)) - kl(a0, softmax(fake)), rel=1e-5)
    level = (softmax(real) * np.linspace(-1, 1, 7).reshape(a0.shape)).sum(axis=1).mean()
    assert loss.mean_level(torch.tensor(real)).item() == pytest.approx(level, rel=1e-4)


def test_realness_losses_at_their_ends():
    loss = Realness(9)
    fake, real = (a.log()[None] for a in anchors(9))
    assert loss.discriminator_loss(real, fake).item() == pytest.approx(0, abs=1e-5)
    assert loss.generator_loss(real, real).item() == pytest.approx(
        -kl(*(a.numpy()[None] for a in anchors(9))), rel=1e-4
    )
    assert loss.generator_loss(real, real) < loss.generator_loss(real, fake)


def test_who_gets_a_gradient():
    """G's loss pulls D(G) by A0 - D(x), the sum of both terms' gradients, and leaves D(x) alone."""
    real, fake = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(0)).requires_grad_().unbind()
    loss = Realness(6)
    wanted, none = torch.autograd.grad(loss.generator_loss(real, fake), (fake, real), allow_unused=True)
    assert none is None
    torch.testing.assert_close(wanted, (loss.fake - real.softmax(1)) / 3, atol=1e-6, rtol=1e-5)
    for gradient in torch.autograd.grad(loss.discriminator_loss(real, fake), (fake, real)):
        assert gradient.abs().sum() > 0


@pytest.mark.parametrize("outcomes", [0, 1])
def test_one_level_is_no_distribution(outcomes):
    with pytest.raises(ValueError, match="outcomes must be at least 2"):
        Realness(outcomes)


# Discriminator and perceptual loss


def test_discriminator_judges_patches_by_their_detail():
    torch.manual_seed(0)
    d = Discriminator(4, 5).eval()
    x = torch.rand(2, 3, 160, 176)
    logits = d(x)
    assert logits.shape == (2, 5, 10, 11)
    torch.testing.assert_close(d(x[:1]), logits[:1])
    torch.testing.assert_close(d(x + 0.2), logits, atol=1e-4, rtol=1e-4)  # shading is not its business
    changed = x.clone()
    changed[:, :, :4, :4] = 0
    far = (d(changed) - logits).abs().amax((0, 1)) > 1e-6
    assert far[0, 0] and not far[6:].any() and not far[:, 6:].any()
    assert d(x[..., :16, :16]).shape == (2, 5, 1, 1) and BOX % 2 == 1


def test_discriminator_cannot_grow_steep():
    """Weights that grow a hundredfold change nothing but the last layer."""
    torch.manual_seed(0)
    d = Discriminator(4, 5)
    x = torch.rand(1, 3, 32, 32)
    for _ in range(30):
        d(x)  # power iterations
    before = d.eval()(x)
    with torch.no_grad():
        for conv in d.convolutions:
            conv.parametrizations.weight.original.mul_(100)
    torch.testing.assert_close(d(x), before, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", ["squeezenet1_1", "vgg19"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_perceptual_loss_knows_its_network(tmp_path, kind, suffix):
    if kind == "vgg19" and suffix == ".safetensors":
        pytest.skip("80 MB: one ending is enough")
    path = tmp_path / f"w{suffix}"
    state = random_state(SqueezeNet() if kind == "squeezenet1_1" else VGG19())
    state["classifier.0.bias"] = torch.zeros(3)  # a whole file holds the classifier, too
    save_file(state, str(path)) if suffix == ".safetensors" else torch.save(state, path)
    loss = PerceptualLoss(path)
    assert loss.name == kind
    rng = torch.Generator().manual_seed(1)
    hr = torch.rand(1, 3, 32, 32, generator=rng)
    sr = (hr + 0.1 * torch.randn(hr.shape, generator=rng)).requires_grad_()
    value = loss(sr, hr)
    value.backward()
    assert loss(hr, hr) == 0 and 0.01 < value < 2 and sr.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in loss.network.parameters())
    wanted, got = loss.features(hr), loss.features(sr.detach())
    parts = [((g - w).abs().mean() / w.abs().mean()).item() for g, w in zip(got, wanted, strict=True)]
    assert value.item() == pytest.approx(np.mean(parts), rel=1e-5)
    assert any((w < 0).any() for w in wanted), "before the activation"
    assert len(wanted) == (4 if kind == "squeezenet1_1" else 5)


def test_perceptual_weights_of_something_else(tmp_path):
    save_file({"a": torch.zeros(1)}, str(tmp_path / "a.safetensors"))
    for name, message in (("a.safetensors", "neither VGG19's nor SqueezeNet"), ("b.pth", "no weight file at")):
        with pytest.raises(ValueError, match=message) as error:
            PerceptualLoss(tmp_path / name)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="is no weight file"):
        PerceptualLoss(tmp_path / "c.npz")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="holds no state dict"):
        PerceptualLoss(tmp_path / "list.pth")
