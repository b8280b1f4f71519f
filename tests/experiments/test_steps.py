"""What a training step computes, against the same written out: Adam, rates, clipping, losses, precision, validation."""

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

import generators
from blindsr_env import degradation, images, kernels, metrics
from experiments.train_gan import GanTrainer, TrainGan
from experiments.train_generator import GeneratorTrainer, train_generator
from experiments.train_predictor import MSE_FLOOR, PredictorTrainer, TrainPredictor, train_predictor
from experiments.validation import Validation


def test_steps_are_adams_with_the_scheduled_rate_and_clipped_gradients(settings):
    made = settings(learning_rate=1e-3, warmup=3, betas=(0.7, 0.95), clip_norm=0.05, steps=10)
    trainer = GeneratorTrainer(made)
    weights = list(trainer.network.parameters())
    first = [np.zeros(weight.shape) for weight in weights]
    second = [np.zeros(weight.shape) for weight in weights]
    batch = next(trainer._stream)
    trainer._stream = iter(lambda: batch, None)
    for step in range(5):
        found = torch.autograd.grad(trainer.loss(*batch), weights)
        gradients = [gradient.double().numpy() for gradient in found]
        norm = np.sqrt(sum(np.square(gradient).sum() for gradient in gradients))
        assert norm > 0.05, "nothing is clipped"
        rate = 1e-3 * (step + 1) / 3 if step < 3 else 1e-3 * (0.01 + 0.99 * (1 + np.cos(np.pi * (step - 3) / 7)) / 2)
        before = [weight.detach().double().numpy().copy() for weight in weights]
        trainer.step()
        for i, weight in enumerate(weights):
            clipped = gradients[i] * 0.05 / norm
            first[i] = 0.7 * first[i] + 0.3 * clipped
            second[i] = 0.95 * second[i] + 0.05 * clipped**2
            mean, square = first[i] / (1 - 0.7 ** (step + 1)), second[i] / (1 - 0.95 ** (step + 1))
            moved = weight.detach().double().numpy() - before[i]
            expected = -rate * mean / (np.sqrt(square) + 1e-8)
            # Weights are float32: what they move by is rounded.
            np.testing.assert_allclose(moved, expected, rtol=0.02, atol=2e-6)
            kept = trainer.optimizer.state[weight]["exp_avg"]
            np.testing.assert_allclose(kept, first[i], rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("amp", [False, True])
def test_mixed_precision_is_that_of_the_convolutions(settings, amp):
    trainer = GeneratorTrainer(settings(amp=amp))
    seen = set()
    for layer in trainer.network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda layer, inputs, output: seen.add(output.dtype))
    loss = trainer.step()
    assert seen == {torch.bfloat16 if amp else torch.float32} and loss.dtype == torch.float32
    assert all(weight.dtype == torch.float32 for weight in trainer.network.parameters())


def test_training_begins_at_the_generator_that_is_named(settings, tmp_path):
    start = train_generator(settings(output=str(tmp_path / "start"), steps=2, seed=5))
    loaded = generators.load(start)
    trainer = GeneratorTrainer(settings(init=str(start), seed=6))
    for network in (trainer.network, trainer.ema):
        assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in network.state_dict().items())


def test_a_run_goes_on_without_the_file_that_it_began_from(settings, tmp_path):
    start = train_generator(settings(output=str(tmp_path / "start"), steps=1))
    train_generator(settings(init=str(start), steps=1))
    start.unlink()
    train_generator(settings(init=str(start), steps=2))
    train_generator(settings(steps=3))
    with pytest.raises(generators.CheckpointError, match="^no checkpoint at .*start"):
        train_generator(settings(init=str(start), output=str(tmp_path / "new")))


def psnr(generator, action, hr, lr):
    """By the metric, of the picture as a viewer sees it."""
    with torch.no_grad():
        return metrics.get("psnr")(degradation.quantize(generator(lr, action)), hr).numpy()


def test_validation_is_the_psnr_of_whole_photos_with_the_true_code_or_a_predicted_one(tmp_path, tiny_generator, photo):
    widths, every = (0.4, 2.0), {"true": [], "predicted": []}
    for i in range(2):
        images.write(tmp_path / f"{i}.png", photo(42 + i, 51, i))
    predicted = torch.full((2, 15), 0.3)
    for i in range(2):
        hr = torch.from_numpy(photo(42 + i, 51, i)[:40, :48]).permute(2, 0, 1)[None].float().expand(2, -1, -1, -1) / 255
        kernel = kernels.gaussian(torch.tensor(widths, dtype=torch.float64))
        lr = degradation.degrade(hr, kernel.float(), 4)
        every["true"].append(psnr(tiny_generator, tiny_generator.codec.encode(kernel), hr, lr))
        every["predicted"].append(psnr(tiny_generator, predicted, hr, lr))
    validation = Validation(str(tmp_path), widths, tiny_generator, torch.device("cpu"))
    for found, own in (
        (validation(tiny_generator), every["true"]),
        (validation(tiny_generator, lambda lr: predicted), every["predicted"]),
    ):
        assert list(found) == ["psnr_width_0.4", "psnr_width_2"]
        np.testing.assert_allclose(list(found.values()), np.mean(own, axis=0), atol=2e-3)
    assert not np.allclose(every["true"], every["predicted"], atol=0.01)


def test_the_running_mean_is_what_is_validated(settings, held_out, monkeypatch):
    validated = []
    call = Validation.__call__
    monkeypatch.setattr(
        Validation, "__call__", lambda self, *networks: validated.append(networks) or call(self, *networks)
    )
    path = train_generator(settings(validation=held_out, steps=2, ema=0.9))
    state = validated[-1][0].state_dict()
    assert all(torch.equal(value, state[name]) for name, value in generators.load(path).state_dict().items())


@pytest.mark.parametrize("loss", ["psnr", "code", "image"])
def test_predictors_losses_are_what_they_say(data, tmp_path, tiny_checkpoint, loss):
    base = {"data": [data], "network": "predictor_s", "generator": tiny_checkpoint, "device": "cpu", "patch_size": 8}
    trainer = PredictorTrainer(
        TrainPredictor(output=str(tmp_path), loss=loss, batch_size=4, **base), generators.load(tiny_checkpoint)
    )
    assert not torch.equal(trainer.network.centre, torch.zeros_like(trainer.network.centre)), "it is calibrated"
    hr, lr, kernel = next(trainer._stream)
    hr[0] /= 4  # one whose error is another than the others'
    with torch.no_grad():
        action = trainer.network(lr)
        sr, codec = trainer.generator(lr, action), trainer.generator.codec
        found = trainer.loss(hr, lr, kernel).item()
    error = (sr - hr).double().numpy()
    expected = {
        "psnr": np.mean(10 * np.log10(np.square(error).mean(axis=(1, 2, 3)) + MSE_FLOOR)),  # minus the mean PSNR
        "image": np.abs(error).mean(),
        "code": np.square((codec.gain * (action - codec.encode(kernel))).double().numpy()).mean(),
    }
    assert found == pytest.approx(expected[loss], rel=1e-4)


def test_a_predictor_trains_by_psnr(data, tmp_path, tiny_checkpoint):
    base = {"data": [data], "network": "predictor_s", "generator": tiny_checkpoint, "device": "cpu", "loss": "psnr"}
    assert train_predictor(TrainPredictor(output=str(tmp_path), steps=2, patch_size=8, batch_size=2, **base)).is_file()


def test_gan_steps_have_both_schedules_rates_and_one_power_iteration(settings, tmp_path, monkeypatch):
    torch.manual_seed(0)
    start = tmp_path / "start.safetensors"
    generators.save(start, generators.build("amnet_s"), {"data": "none", "steps": 1})
    made = settings(
        TrainGan,
        init=str(start),
        perceptual_weight=0.0,
        discriminator_warmup=1,
        discriminator_width=4,
        outcomes=5,
        steps=9,
    )
    trainer = GanTrainer(made)
    iterations = []
    kind = nn.utils.parametrizations._SpectralNorm
    power = kind._power_method
    monkeypatch.setattr(kind, "_power_method", lambda self, *args: iterations.append(self) or power(self, *args))
    normed = sum(isinstance(module, kind) for module in trainer.discriminator.modules())
    for step in range(4):
        iterations.clear()
        trainer.step()
        assert len(iterations) == normed > 0
        rates = [each.param_groups[0]["lr"] for each in (trainer.optimizer, trainer.discriminator_optimizer)]
        assert rates == [made.learning_rate_at(step), made.discriminator_learning_rate_at(step)]
    assert len({made.learning_rate_at(step) for step in range(4)}) > 2


def test_losses_are_logged_as_means_since_the_last(settings, tmp_path, monkeypatch):
    step = GeneratorTrainer.step

    def told(trainer):
        step(trainer)
        return torch.tensor(float(trainer.done))

    monkeypatch.setattr(GeneratorTrainer, "step", told)
    monkeypatch.setattr("experiments.training.LOG_EVERY", 2)
    train_generator(settings(steps=5))
    log = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [(each.step, each.value) for each in log.Scalars("train/loss")] == [(2, 1.5), (4, 3.5), (5, 5.0)]


def test_a_validation_photo_too_small_to_blur_is_named(tmp_path, photo, tiny_generator):
    for name, side in (("a", 12), ("b", 11)):
        images.write(tmp_path / f"{name}.png", photo(side, 30, 0))
    with pytest.raises(images.ImageError, match="^b of 30x11 is too small to blur: remove it, each side .* least 12$"):
        Validation(str(tmp_path), (1.0,), tiny_generator, torch.device("cpu"))
