"""AMGAN: whose step moves whose weights, what a step costs, exact resume, the command."""

import dataclasses
import json

import pytest
import torch
import yaml
from host_reads import HostReads, no_wait_for_the_gpu
from safetensors.torch import save_file
from states import last_state, random_state
from torch.utils.flop_counter import FlopCounterMode

import generators
from blindsr_env.metrics.squeezenet import SqueezeNet
from experiments import cli
from experiments.discriminator import Discriminator
from experiments.run_folder import RunFolder
from experiments.train_gan import TERMS, GanTrainer, TrainGan, train_gan
from experiments.train_generator import GeneratorTrainer, TrainGenerator, train_generator


@pytest.fixture(scope="module")
def squeezenet(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "squeezenet1_1.safetensors"
    save_file(random_state(SqueezeNet()), str(path))
    return str(path)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """An AMNet to start from."""
    path = tmp_path_factory.mktemp("start") / "start.safetensors"
    torch.manual_seed(0)
    generators.save(path, generators.build("amnet_s"), {"data": "none", "steps": 12})
    return str(path)


@pytest.fixture
def settings(settings, squeezenet, start):
    """Makes settings of a training of six steps, of which D learns alone in two."""

    def make(**changes):
        base = {"init": start, "perceptual": squeezenet, "code_noise": 1.0}
        base |= {"discriminator_warmup": 2, "discriminator_width": 4, "outcomes": 5}
        return settings(TrainGan, **{**base, **changes})

    return make


def copies(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def moved(network, before):
    state = network.state_dict()
    return {name for name, tensor in before.items() if not torch.equal(tensor, state[name])}


def test_warmup_leaves_g_as_it_was(settings):
    trainer = GanTrainer(settings(discriminator_warmup=2))
    g, ema, d = copies(trainer.network), copies(trainer.ema), copies(trainer.discriminator)
    for _ in range(2):
        assert trainer.settings.learning_rate_at(trainer.done) == 0
        trainer.step()
    assert not moved(trainer.network, g) and not moved(trainer.ema, ema)
    assert {name for name, _ in trainer.discriminator.named_parameters()} <= moved(trainer.discriminator, d)
    assert not trainer.optimizer.state
    trainer.step()
    assert moved(trainer.network, g) and moved(trainer.ema, ema)


def test_the_average_begins_where_g_does(settings):
    """With a short memory, whatever D learned alone before."""
    trainer = GanTrainer(settings(discriminator_warmup=2, ema=0.9))
    expected = [weight.clone() for weight in trainer.ema.parameters()]
    for step in range(-1, 4):
        trainer.step()
        if step > 0:
            decay = (1 + step) / (10 + step)
            expected = [
                decay * mean + (1 - decay) * own.detach()
                for mean, own in zip(expected, trainer.network.parameters(), strict=True)
            ]
    for mean, own in zip(expected, trainer.ema.parameters(), strict=True):
        torch.testing.assert_close(own, mean, rtol=1e-5, atol=1e-8)


def test_each_step_moves_its_own_weights_only(settings, monkeypatch):
    trainer = GanTrainer(settings(discriminator_warmup=0))
    g, d = copies(trainer.network), copies(trainer.discriminator)
    d = {
        name: d[name] for name, _ in trainer.discriminator.named_parameters()
    }  # its power iterations go on by themselves
    log, update = [], trainer._update

    def watched(optimizer, *arguments):
        update(optimizer, *arguments)
        log.append(
            (optimizer is trainer.optimizer, bool(moved(trainer.network, g)), bool(moved(trainer.discriminator, d)))
        )
        assert all(parameter.grad is None for parameter in trainer.network.parameters())
        assert all(parameter.grad is None for parameter in trainer.discriminator.parameters())

    monkeypatch.setattr(trainer, "_update", watched)
    trainer.step()
    assert log == [(True, True, False), (False, True, True)]


def test_every_term_reaches_g(settings):
    """G's gradient is the weighted sum of its terms'."""
    trainer = GanTrainer(settings())
    trainer.discriminator.eval()
    hr, lr, kernel = next(trainer._stream)
    state = trainer.rng.get_state()

    parts = {"l1_weight": 2.0, "perceptual_weight": 0.3, "adversarial_weight": 0.7, "grid_weight": 0.1}

    def gradient(**weights):
        trainer.settings = settings(**dict.fromkeys(parts, 0.0) | weights)
        trainer.rng.set_state(state)  # of the code's noise
        loss = trainer.loss(hr, lr, kernel)
        return torch.cat([x.flatten() for x in torch.autograd.grad(loss, list(trainer.network.parameters()))])

    alone = [gradient(**{name: weight}) for name, weight in parts.items()]
    assert all(x.abs().sum() > 0 for x in alone)
    torch.testing.assert_close(gradient(**parts), sum(alone), atol=1e-5, rtol=1e-3)


def test_discriminator_learns(settings):
    trainer = GanTrainer(settings(discriminator_warmup=100, discriminator_learning_rate=1e-3, warmup=0, patch_size=10))
    batch = next(trainer._stream)
    trainer._stream = iter(lambda: batch, None)
    for _ in range(90):
        trainer.step()
        if trainer.done == 5:
            first = trainer.report()
    last = trainer.report()
    assert set(last) == {"discriminator", "realness_hr", "realness_sr"}
    assert last["discriminator"] < first["discriminator"] and last["realness_hr"] > last["realness_sr"] + 0.02


def test_operations_are_those_of_both_networks(settings):
    """D judges SR and HR, forward and back to its weights; SR once more, through to G, which renders once."""
    trainer = GanTrainer(settings(perceptual=None, perceptual_weight=0.0, batch_size=3, code_noise=0.0))
    before, stream = copies(trainer.discriminator), trainer.rng.get_state()
    alone = trainer.flops()
    trainer.done = 2
    both = trainer.flops()
    assert not moved(trainer.discriminator, before) and torch.equal(trainer.rng.get_state(), stream)
    assert trainer.discriminator.training and all(p.grad is None for p in trainer.discriminator.parameters())

    plain = GeneratorTrainer(settings(code_noise=0.0))
    hr, lr, kernel = next(plain._stream)

    def count(work):
        with FlopCounterMode(display=False) as counter:
            work()
        return counter.get_total_flops()

    render = count(lambda: plain.render(lr[:1], kernel[:1]))
    sides = [(29 // 2**i) // 2 for i in range(4)]  # after each level; G's 32x32 pixels less 3
    channels = [3, 4, 8, 16, 32]
    first = 2 * sides[0] ** 2 * 16 * 3 * 4
    judge = first + sum(
        2 * side**2 * ((16 * a * b if a > 3 else 0) + 9 * b * b)
        for side, a, b in zip(sides, channels[:-1], channels[1:], strict=True)
    )
    judge += 2 * sides[3] ** 2 * 9 * 32 * 5
    d = 2 * (3 * judge - first)  # its first layer's input needs no gradient
    assert alone == 3 * (d + render)
    assert both == 3 * (d + 2 * judge + plain.flops() // 2)


def test_a_step_does_not_wait_for_the_device(settings):
    trainer = GanTrainer(settings(discriminator_warmup=0))
    trainer.step()
    with HostReads() as reads:
        trainer.step()
    assert reads.found == []


def test_bfloat16_trains_about_the_same(settings):
    full, half = (GanTrainer(settings(amp=amp, discriminator_warmup=1, warmup=0)) for amp in (False, True))
    for _ in range(3):
        assert half.step().item() == pytest.approx(full.step().item(), rel=0.03)
    assert all(p.dtype == torch.float32 and p.isfinite().all() for n in half.networks() for p in n.parameters())


@pytest.mark.slow
def test_compiled_networks_learn_the_same(settings):
    plain, fused = (GanTrainer(settings(compile=mode, discriminator_warmup=1, warmup=0)) for mode in (False, True))
    for _ in range(3):
        assert fused.step().item() == pytest.approx(plain.step().item(), rel=1e-3)
    assert fused.flops() == plain.flops() > 0


@pytest.mark.gpu
def test_a_step_does_not_wait_for_the_gpu(settings):
    trainer = GanTrainer(settings(device="cuda", amp=True, discriminator_warmup=0, batch_size=4))
    trainer.step()
    with no_wait_for_the_gpu():
        loss = trainer.step()
    assert loss.isfinite()


@pytest.mark.gpu
def test_graphs_compute_what_single_kernels_do(settings):
    """Also where several calls of D within a step share their memory."""
    plain, graphs = (
        GanTrainer(settings(device="cuda", compile=mode, discriminator_warmup=1, warmup=0, batch_size=8))
        for mode in (False, "reduce-overhead")
    )
    for _ in range(6):
        assert graphs.step().item() == pytest.approx(plain.step().item(), rel=1e-2)


@pytest.mark.gpu
def test_spectral_norms_are_not_rounded():
    torch.manual_seed(0)
    d = Discriminator(8, 5).cuda().eval()
    seen = []
    wanted = [conv.weight.detach().clone() for conv in d.convolutions]
    with torch.autocast("cuda", torch.bfloat16), pytest.MonkeyPatch.context() as patch:
        conv2d = torch.nn.functional.conv2d
        patch.setattr(torch.nn.functional, "conv2d", lambda x, w, *rest: seen.append(w) or conv2d(x, w, *rest))
        d(torch.rand(1, 3, 32, 32, device="cuda"))
    for got, weight in zip(seen, wanted, strict=False):
        assert torch.equal(got, weight)


def test_perceptual_loss_sees_every_phase(settings, monkeypatch):
    """Over s x s steps, so that a network's strides cannot print a grid on G's pictures."""
    trainer = GanTrainer(settings(scale=4))
    x = torch.arange(32 * 32).reshape(1, 1, 32, 32)
    corners = set()
    for trainer.done in range(16):
        cut = trainer._shifted(x)
        assert cut.shape == (1, 1, 29, 29)
        corners.add(divmod(cut[0, 0, 0, 0].item(), 32))
    assert corners == {(i, j) for i in range(4) for j in range(4)}
    seen = []
    monkeypatch.setattr(trainer, "perceptual", lambda sr, hr: seen.append((sr, hr)) or sr.mean())
    trainer.step()
    assert all(x.shape[-2:] == (29, 29) for x in seen[0])


@pytest.mark.parametrize("stop", [1, 4])
def test_resume_is_exact(settings, tmp_path, stop):
    """Six steps at once equal two stretches, to the bit, whether they meet in D's warm-up or after it."""
    straight, halves = str(tmp_path / "straight"), str(tmp_path / "halves")
    train_gan(settings(output=straight))
    trainer = GanTrainer(settings(output=halves))
    for _ in range(stop):
        trainer.step()
    RunFolder(halves).save_state(trainer.done, trainer.state(), {"figures": {}})
    path = train_gan(settings(output=halves))
    (first, before), (second, after) = last_state(straight), last_state(halves)
    assert before["step"] == after["step"] == 6 and before["figures"] == after["figures"]
    assert set(before["figures"]) == set(TERMS)
    assert set(first) == set(second)
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
    for part in ("moment2/", "discriminator_moment2/"):
        assert any(name.startswith(part) and tensor.abs().sum() > 0 for name, tensor in first.items())
    shipped = generators.load(path)
    assert shipped.name == "amgan_s"
    for name, tensor in shipped.state_dict().items():
        assert torch.equal(tensor, first[f"ema/{name}"]), name


def test_a_run_of_l1_alone_does_not_go_on_with_it(settings, tmp_path):
    own = settings(output=str(tmp_path / "run"), steps=3)
    train_gan(own)
    before = last_state(tmp_path / "run")
    alike = {field.name: getattr(own, field.name) for field in dataclasses.fields(TrainGenerator)}
    with pytest.raises(ValueError, match="holds a run of train-gan, not of train-generator: give another"):
        train_generator(TrainGenerator(**{**alike, "steps": 5}))
    tensors, metadata = last_state(tmp_path / "run")
    assert metadata == before[1] and any(name.startswith("discriminator/") for name in tensors)
    train_generator(TrainGenerator(**{**alike, "output": str(tmp_path / "other")}))
    with pytest.raises(ValueError, match="holds a run of train-generator, not of train-gan: give another"):
        train_gan(settings(output=str(tmp_path / "other"), steps=5))


def test_a_run_with_another_discriminator_is_not_resumed(settings, tmp_path):
    train_gan(settings(steps=1))
    with pytest.raises(ValueError, match="begun with discriminator_width=4, not 8"):
        train_gan(settings(steps=1, discriminator_width=8))
    (tmp_path / "run" / "config.yaml").unlink()
    with pytest.raises(ValueError, match="trains another discriminator: give another output folder"):
        train_gan(settings(steps=1, discriminator_width=8))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"init": None}, "init is missing"),
        ({"perceptual": None}, "perceptual is missing"),
        ({"outcomes": 1}, "outcomes must be at least 2"),
        ({"l1_weight": -1.0}, "l1_weight must be at least 0"),
        ({"discriminator_warmup": -1}, "discriminator_warmup must be at least 0"),
        ({"discriminator_learning_rate": 0.0}, "discriminator_learning_rate must be above 0"),
        ({"discriminator_width": 0}, "discriminator_width must be at least 1"),
        ({"patch_size": 4}, "patch_size must be at least 5, got 4"),
    ],
)
def test_impossible_settings_are_refused(settings, change, message):
    with pytest.raises(ValueError, match=message) as error:
        settings(**change)
    assert "\n" not in str(error.value)


def test_it_goes_on_from_a_network_of_its_own_scale(settings, twice, tmp_path):
    with pytest.raises(ValueError, match="x2.safetensors is for scale 2: give --scale 2, or another init"):
        GanTrainer(settings(init=twice))
    begun = settings(output=str(tmp_path / "run"), steps=1)
    train_gan(begun)
    assert GanTrainer(dataclasses.replace(begun, init=twice)).network.scale == 4, "a run that goes on needs it no more"


def test_learning_rates(settings):
    s = settings(steps=100, warmup=4, discriminator_warmup=10, learning_rate=1e-4, discriminator_learning_rate=3e-4)
    assert [s.learning_rate_at(step) for step in (0, 9)] == [0, 0]
    assert s.learning_rate_at(10) == pytest.approx(s.learning_rate_at(13) / 4, rel=0.05)
    for step in (0, 2, 14, 60, 99):
        d = s.discriminator_learning_rate_at(step)
        assert d == pytest.approx(3 * TrainGan.__base__.learning_rate_at(s, step))
        assert step < 14 or d == pytest.approx(3 * s.learning_rate_at(step))


@pytest.mark.parametrize("alone", [0, 2, 4, 9])
def test_g_warms_up_once(settings, alone):
    """In equal steps, also where D's time alone ends amid the schedule's own warm-up."""
    s = settings(steps=10**6, warmup=4, discriminator_warmup=alone, learning_rate=1e-4)
    rates = [s.learning_rate_at(step) for step in range(alone, alone + 6)]
    assert rates == pytest.approx([0.25e-4, 0.5e-4, 0.75e-4, 1e-4, 1e-4, 1e-4], rel=1e-3)


def test_g_halves_after_its_warm_up(settings):
    s = settings(
        steps=4000, warmup=500, discriminator_warmup=0, learning_rate=1e-4, schedule="halving", halve_every=250
    )
    rates = [1e4 * s.learning_rate_at(step) for step in (0, 100, 249, 250, 499)]
    assert rates == pytest.approx([0.002, 0.202, 0.5, 0.251, 0.5], rel=1e-6)


def test_the_command(settings, tmp_path, held_out, capsys):
    wanted = settings(steps=3, perceptual_weight=0.0, perceptual=None)
    config = tmp_path / "config.yaml"
    keys = ("data", "init", "arch", "steps", "patch_size", "batch_size", "discriminator_width", "outcomes", "warmup")
    values = {key: getattr(wanted, key) for key in (*keys, "perceptual_weight", "discriminator_warmup", "device")}
    config.write_text(yaml.safe_dump(values))
    assert cli.main(["train-gan", "--config", str(config), "--output", wanted.output, "--validation", held_out]) == 0
    assert "finished after 3 steps" in capsys.readouterr().out
    figures = json.loads((tmp_path / "run" / "results.json").read_text())["figures"]
    assert {"l1", "adversarial", "discriminator", "psnr_width_1.3"} <= set(figures) and "perceptual" not in figures
    _, metadata = generators.checkpoint.read(tmp_path / "run" / "generator.safetensors")
    assert metadata["name"] == "amgan_s" and metadata["training"]["steps"] == 3
    assert metadata["training"]["init"] == {"name": "start.safetensors", "steps": 12}
    assert str(tmp_path) not in json.dumps(metadata), "paths tell of a machine"
    assert cli.main(["train-gan", "--config", str(config), "--init", "amgan_q"]) == 2
    assert "unknown generator 'amgan_q'" in capsys.readouterr().err
