"""The kernel code: published half-ranges and gains, the basis against NumPy's SVD, and the way there and back."""

import numpy as np
import pytest
import torch

from generators import KernelCodec
from generators.codec import FILL, _isotropic
from generators.kernels import WIDTH_RANGE, gaussian, gaussian_profile

# Half-ranges over the largest, and gains, at scale 4.
HALF_RANGES = [1, 0.288, 0.089, 0.038, 0.017, 0.0058, 0.0020, 0.00081, 0.00034, 0.00012]
GAINS = [1, 1, 1, 1, 1, 1, 1, 0.81, 0.34, 0.12, 0.04]


@pytest.fixture(params=[2, 3, 4])
def codec(request):
    return KernelCodec.isotropic(request.param)


def family(codec, n):
    return gaussian(torch.linspace(*codec.width_range, n, dtype=torch.float64))


def test_published_figures():
    codec = KernelCodec.isotropic(4)
    relative = codec.half_range / codec.half_range.max()
    for value, published in zip(relative.tolist(), HALF_RANGES, strict=False):
        assert value == pytest.approx(published, rel=0.03)
    assert relative[-1].item() == pytest.approx(6e-7, rel=0.1)
    for value, published in zip(codec.gain.tolist(), GAINS, strict=False):
        assert value == pytest.approx(published, abs=0.005)
    assert codec.gain[-1].item() == pytest.approx(6e-4, rel=0.1)
    assert codec.t == 15


def test_definitions(codec):
    identity = torch.eye(15, dtype=torch.float64)
    assert (codec.basis @ codec.basis.T - identity).abs().max() < 1e-10
    assert (codec.half_range.diff() < 0).all()
    assert torch.allclose(codec.gain, (codec.half_range / (1e-3 * codec.half_range[0])).clamp(max=1))
    assert codec.width_range in WIDTH_RANGE.values()
    for name, tensor in codec.state().items():
        assert tensor.dtype == torch.float64, name


def test_true_kernels_fill_four_fifths_of_the_box(codec):
    action = codec.encode(family(codec, 10_000))
    assert action.dtype == torch.float32 and action.shape == (10_000, 15)
    assert np.allclose(action.amax(0), FILL, atol=1e-4) and np.allclose(action.amin(0), -FILL, atol=1e-4)


def test_the_basis_is_numpys():
    codec = KernelCodec.isotropic(4)
    widths = np.linspace(0.2, 4.0, 10_000)
    offset = np.arange(21) - 10
    kernels = np.exp(-(offset[None, :, None] ** 2 + offset[None, None, :] ** 2) / (2 * widths[:, None, None] ** 2))
    kernels = (kernels / kernels.sum(axis=(1, 2), keepdims=True)).reshape(len(widths), -1)
    mean = kernels.mean(axis=0)
    # eigenvectors of the scatter matrix, not an SVD of the kernels: another way to the same directions
    values, vectors = np.linalg.eigh((kernels - mean).T @ (kernels - mean))
    reference = vectors[:, ::-1].T[:7]
    assert np.abs(codec.mean.numpy() - mean).max() < 1e-12
    cosine = np.abs((reference * codec.basis[:7].numpy()).sum(axis=1))
    assert np.all(cosine > 1 - 1e-9)
    singular = np.linalg.svd(kernels - mean, full_matrices=False)[2][:15]
    assert np.all(np.abs((singular * codec.basis.numpy()).sum(axis=1)) > 1 - 1e-6)
    # wide kernels lie on the positive side, in every component
    ends = codec.encode(gaussian(torch.tensor([0.2, 4.0], dtype=torch.float64)))
    assert (ends[1] > ends[0]).all()


def test_there_and_back(codec):
    generator = torch.Generator().manual_seed(0)
    action = torch.rand(64, 15, generator=generator) * 2 - 1
    back = codec.encode(codec.decode(action))
    # decode rounds to float32, which is all of the last components' range; in the code that G sees it is nothing
    assert (back - action)[:, :5].abs().max() < 1e-3
    assert (codec.code(back) - codec.code(action)).abs().max() < 1e-4


def test_kernels_come_back(codec):
    kernels = family(codec, 50)
    back = codec.decode(codec.encode(kernels))
    assert back.dtype == torch.float32 and back.shape == kernels.shape
    assert (back - kernels).abs().max() < 1e-6
    assert (back.sum(dim=(1, 2)) - 1).abs().max() < 1e-5


def test_code_is_the_damped_action(codec):
    action = torch.ones(2, 15)
    assert torch.equal(codec.code(action), codec.gain.float().expand(2, 15))
    assert codec.code(action.double()).dtype == torch.float64


@pytest.mark.parametrize("shape", [(1, 19, 19), (1, 441, 1), (21, 21), (1, 1, 21, 21)])
def test_other_kernel_sizes_are_refused(shape):
    with pytest.raises(ValueError, match=r"\(N, 21, 21\)"):
        KernelCodec.isotropic(4).encode(torch.zeros(shape))


@pytest.mark.parametrize(
    ("kernels", "told"),
    [
        (torch.rand(15, 21, 21), r"M above 15, got \(15, 21, 21\): add kernels"),
        (torch.rand(40, 441), r"must be \(M, k, k\)"),
        (torch.zeros(40, 21, 21), "differ in fewer than 15 directions"),
        (gaussian(torch.tensor([1.0, 2.0, 3.0]).double()).repeat(20, 1, 1), "differ in fewer than 15 directions"),
    ],
)
def test_families_without_fifteen_directions_are_refused(kernels, told):
    with pytest.raises(ValueError, match=told):
        KernelCodec.fit(kernels, (0.2, 4.0))


def test_other_scales_are_refused():
    with pytest.raises(ValueError, match="scale must be one of"):
        KernelCodec.isotropic(8)


def test_fingerprints_tell_bases_apart():
    prints = {KernelCodec.isotropic(scale).fingerprint for scale in WIDTH_RANGE}
    assert len(prints) == 3
    kernels = gaussian(torch.linspace(0.3, 4.0, 200, dtype=torch.float64))
    assert KernelCodec.fit(kernels, (0.3, 4.0)).fingerprint not in prints


def test_fingerprints_do_not_hang_on_the_last_bits(codec):
    noisy = {name: tensor * (1 + 1e-13) for name, tensor in codec.state().items()}
    assert KernelCodec.from_state(noisy, codec.width_range).fingerprint == codec.fingerprint


def test_one_codec_a_process():
    assert KernelCodec.isotropic(4) is KernelCodec.isotropic(4)


def test_a_codec_first_used_for_inference_serves_training_too():
    with torch.inference_mode():
        fitted = _isotropic.__wrapped__(4)  # not the kept one
    action = torch.zeros(1, 15, requires_grad=True)
    (fitted.decode(action) * torch.arange(441.0).view(21, 21).sin()).sum().backward()
    assert (action.grad != 0).all()


@pytest.mark.gpu
def test_the_gpu_encodes_as_the_cpu():
    codec = KernelCodec.isotropic(4)
    kernels = family(codec, 9)
    with torch.inference_mode():
        action = codec.encode(kernels.cuda())
    assert (action.cpu() - codec.encode(kernels)).abs().max() < 1e-4
    trained = action.clone().requires_grad_()
    codec.code(trained).sum().backward()


def test_profiles_make_the_kernels():
    widths = torch.tensor([0.2, 1.3, 4.0], dtype=torch.float64)
    profile, kernel = gaussian_profile(widths), gaussian(widths)
    for i, width in enumerate(widths.tolist()):
        offset = np.arange(-10, 11)
        reference = np.exp(-(offset[:, None] ** 2 + offset[None] ** 2) / (2 * width**2))
        assert np.abs(kernel[i].numpy() - reference / reference.sum()).max() < 1e-15
        assert np.allclose(np.outer(profile[i], profile[i]), kernel[i], atol=1e-16)
    assert gaussian(1.3).dtype == torch.float32 and gaussian(2).shape == (1, 21, 21)
    with pytest.raises(ValueError, match="odd"):
        gaussian(1.3, size=20)


def test_another_default_device_changes_nothing():
    """A GPU is meant, as scripts set it; what went to this one would be lost."""
    fingerprint, width = KernelCodec.isotropic(4).fingerprint, torch.tensor([1.3], dtype=torch.float64)
    with torch.device("meta"):
        codec = _isotropic.__wrapped__(4)
        assert codec.fingerprint == fingerprint
        assert gaussian(width).device == width.device
