"""Supervised training: exact resume, what breaks a run and what does not, the schedule, the batches."""

import dataclasses
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from host_reads import HostReads, no_wait_for_the_gpu
from states import assert_same_state, last_state
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch._inductor.exc import InductorError, InvalidCxxCompiler

import generators
from agents import checkpoints
from blindsr_env import degradation, images, kernels
from blindsr_env.images import ImageError, Photo
from blindsr_env.pool import PhotoPool
from experiments import cli
from experiments.batches import Batches
from experiments.devices import pick_device
from experiments.run_folder import RunFolder
from experiments.train_agent import TrainAgent, train_agent
from experiments.train_generator import GeneratorTrainer, TrainGenerator, train_generator
from experiments.train_predictor import PredictorTrainer, TrainPredictor, train_predictor
from experiments.trainer import fuse
from generators.compiled import CompileError


def test_resume_is_exact(settings, tmp_path):
    """Six steps at once equal three and three, to the bit."""
    straight, halves = str(tmp_path / "straight"), str(tmp_path / "halves")
    train_generator(settings(output=straight))
    # A run stopped early keeps the schedule of its `steps`, so stop it by the back door.
    trainer = GeneratorTrainer(settings(output=halves))
    for _ in range(3):
        trainer.step()
    RunFolder(halves).save_state(trainer.done, trainer.state(), {"figures": {}})
    path = train_generator(settings(output=halves))
    state = assert_same_state(straight, halves)
    # and what ships is the EMA
    for name, tensor in generators.load(path).state_dict().items():
        assert torch.equal(tensor, state[f"ema/{name}"]), name


def test_a_run_of_another_kind_of_device_goes_on_with_crops_drawn_anew(settings, tmp_path, capsys):
    """As a CPU's, with the random state that a CUDA generator has."""
    path = train_generator(settings(steps=2))
    stream = RunFolder(path.parent).states()[-1] / "rng.safetensors"
    _, metadata = generators.checkpoint.read(stream)
    generators.checkpoint.save(stream, {"stream": torch.zeros(16, dtype=torch.uint8)}, metadata)
    train_generator(settings(steps=3))
    assert "the run goes on on another kind of device: its crops are drawn anew" in capsys.readouterr().out
    assert last_state(path.parent)[1]["step"] == 3


def test_a_run_leaves_config_results_and_log(settings, tmp_path, data, held_out):
    path = train_generator(settings(validation=held_out, validation_widths=(0.2, 2.0), steps=2))
    run = tmp_path / "run"
    assert path == run / "generator.safetensors"
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["steps"] == 2 and config["data"] == [data] and config["validation_widths"] == [0.2, 2.0]
    results = json.loads((run / "results.json").read_text())
    assert results["figures"]["steps"] == 2 and results["seed"] == 0 and results["config"] == config
    speed = {"patches_per_second", "matmul_share", "matmul_rate"}
    assert set(results["figures"]) == {"steps", "psnr_width_0.2", "psnr_width_2"} | speed
    assert "torch" in results["environment"]["packages"] and "commit" in results
    assert [state.name for state in RunFolder(run).states()] == ["state-000000002"]
    assert list((run / "tensorboard").iterdir())
    _, metadata = generators.checkpoint.read(path)
    assert metadata["training"]["steps"] == 2 and metadata["training"]["settings"]["arch"] == "amnet_s"


def test_a_checkpoint_says_what_it_started_from(settings, tmp_path):
    """Also when the run goes on without being told again; by name only, since paths tell of a machine."""
    start = train_generator(settings(output=str(tmp_path / "start"), steps=1))
    parent = generators.checkpoint.read(start)[1]["training"]
    assert "init" not in parent
    for steps, init in ((1, str(start)), (2, None)):
        path = train_generator(settings(steps=steps, init=init))
        training = generators.checkpoint.read(path)[1]["training"]
        assert training["init"] == {"name": "generator.safetensors", "steps": 1, "commit": parent["commit"]}
        assert training["steps"] == steps and str(tmp_path) not in json.dumps(training)


def test_photos_that_were_learned_do_not_validate(settings, tmp_path, data, held_out):
    both = tmp_path / "both"
    both.mkdir()
    for i, folder in enumerate((held_out, data)):
        (both / f"photo{i}.png").write_bytes((Path(folder) / "p0.png").read_bytes())
    with pytest.raises(ValueError, match="^the held-out photo photo1 is the training photo p0: hold out other photos$"):
        GeneratorTrainer(settings(validation=str(both)))
    GeneratorTrainer(settings(validation=held_out))


def test_training_lowers_the_loss(settings):
    """On one batch, again and again."""
    trainer = GeneratorTrainer(settings(steps=30, learning_rate=2e-3, ema=0.5))
    batch = next(trainer._stream)
    trainer._stream = iter(lambda: batch, None)
    losses = [trainer.step().item() for _ in range(30)]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:3])
    moved = [not torch.equal(a, b) for a, b in zip(trainer.ema.parameters(), trainer.network.parameters(), strict=True)]
    assert all(moved)


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_the_ema_is_the_weights_running_mean(settings, decay):
    trainer = GeneratorTrainer(settings(steps=5, ema=decay))
    mean = {name: value.double() for name, value in trainer.network.state_dict().items()}
    for step in range(1, 5):
        trainer.step()
        kept = min(decay, (1 + step) / (10 + step))
        for name, value in trainer.network.state_dict().items():
            mean[name] = kept * mean[name] + (1 - kept) * value.double()
    for name, value in trainer.ema.state_dict().items():
        torch.testing.assert_close(value.double(), mean[name], rtol=1e-5, atol=1e-7)


def test_a_seed_fixes_the_run(settings):
    def two_steps(seed):
        trainer = GeneratorTrainer(settings(seed=seed))
        return [trainer.step().item() for _ in range(2)]

    assert two_steps(1) == two_steps(1) != two_steps(2)


def test_a_finished_run_is_not_trained_again(settings):
    path = train_generator(settings(steps=2))
    before, _ = last_state(path.parent)
    train_generator(settings(steps=2))
    after, metadata = last_state(path.parent)
    assert metadata["step"] == 2 and all(torch.equal(after[name], before[name]) for name in before)


def test_a_run_that_is_finished_or_cannot_go_on_decodes_no_photo(settings, tiny_checkpoint, louder, monkeypatch):
    own = dict(steps=2, output=settings().output)
    through = TrainPredictor(
        data=settings().data,
        output=f"{own['output']}-p",
        steps=1,
        patch_size=8,
        batch_size=2,
        loss="code",
        network="predictor_s",
        generator=tiny_checkpoint,
        device="cpu",
    )
    path, predictor = train_generator(settings(**own)), train_predictor(through)
    monkeypatch.setattr(images, "load", lambda *_: pytest.fail("photos were decoded"))
    assert (train_generator(settings(**own)), train_predictor(through)) == (path, predictor)
    with pytest.raises(ValueError, match="was begun with batch_size="):
        train_generator(settings(**own, batch_size=3))
    with pytest.raises(ValueError, match="was begun through tiny, and .*louder.* is not, or no longer, that network"):
        train_predictor(dataclasses.replace(through, generator=louder))
    with RunFolder(own["output"]).taken(), pytest.raises(OSError, match="another process is training"):
        train_generator(settings(**own))


def test_a_finished_run_keeps_its_record(settings, capsys, monkeypatch):
    path = train_generator(settings(steps=2))
    results = path.with_name("results.json")
    record = path.read_bytes(), results.read_bytes()
    monkeypatch.setattr("experiments.training.commit", lambda: "another")
    monkeypatch.setattr("experiments.results_file.commit", lambda: "another")
    assert train_generator(settings(steps=2)) == path
    assert (path.read_bytes(), results.read_bytes()) == record
    assert "is finished already, after 2 steps" in capsys.readouterr().out
    path.unlink()
    train_generator(settings(steps=2))
    assert generators.load(path), "what was lost is written again"
    train_generator(settings(steps=3))
    assert json.loads(results.read_text())["figures"]["steps"] == 3


def test_results_of_an_earlier_end_are_not_those_of_a_later_one(settings, monkeypatch):
    """A kill may come between the last state and the results."""
    path = train_generator(settings(steps=1))
    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(RunFolder, "write_results", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        train_generator(settings(steps=2))
    train_generator(settings(steps=2))
    assert json.loads(path.with_name("results.json").read_text())["figures"]["steps"] == 2


@pytest.mark.parametrize(
    "change", [{"arch": "amnet"}, {"modulation": "adain"}, {"scale": 2}, {"batch_size": 1}, {"seed": 5}]
)
def test_a_run_under_other_settings_is_not_resumed(settings, change):
    path = train_generator(settings(steps=1))
    config, weights = (path.parent / "config.yaml").read_bytes(), path.read_bytes()
    with pytest.raises(ValueError, match="was begun with .*: give another output folder") as error:
        train_generator(settings(**change))
    assert "\n" not in str(error.value)
    assert (path.parent / "config.yaml").read_bytes() == config and path.read_bytes() == weights


class Blows(torch.autograd.Function):
    """0 with a gradient that is infinite."""

    @staticmethod
    def forward(ctx, x):
        return x.sum() * 0

    @staticmethod
    def backward(ctx, gradient):
        return gradient * math.inf


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda trainer, *batch: trainer.network.tail.bias.sum() * math.nan, "the loss is nan"),
        (lambda trainer, *batch: Blows.apply(trainer.network.tail.bias.sum()), "the gradient's norm is (inf|nan)"),
    ],
    ids=["loss", "gradient"],
)
def test_a_number_that_is_none_stops_the_run(settings, monkeypatch, loss, message):
    """And no weights that it broke replace good ones, whether the loss shows it or only the gradient."""
    path = train_generator(settings(steps=2))
    monkeypatch.setattr(GeneratorTrainer, "loss", loss)
    with pytest.raises(FloatingPointError, match=f"{message} at step 3: lower learning_rate") as error:
        train_generator(settings(checkpoint_seconds=0))
    assert "\n" not in str(error.value)
    state, metadata = last_state(path.parent)
    assert metadata["step"] == 2 and all(tensor.isfinite().all() for tensor in state.values()), "good weights replaced"
    assert all(parameter.isfinite().all() for parameter in generators.load(path).parameters())


@pytest.mark.parametrize("schedule", ["cosine", "halving"])
def test_a_step_does_not_wait_for_the_device(settings, schedule):
    trainer = GeneratorTrainer(settings(code_noise=1.0, soften=0.6, schedule=schedule))
    trainer.step()
    with HostReads() as reads:
        loss = trainer.step()
    assert reads.found == []
    with reads:
        loss.item()
    assert reads.found, "the test sees nothing"


@pytest.mark.gpu
def test_a_step_does_not_wait_for_the_gpu(settings):
    trainer = GeneratorTrainer(settings(device="cuda", amp=True, code_noise=1.0, soften=0.6))
    trainer.step()
    with no_wait_for_the_gpu():
        loss = trainer.step()
    assert loss.isfinite()


@pytest.mark.gpu
def test_graphs_compute_what_single_kernels_do(settings):
    plain, graphs = (
        GeneratorTrainer(settings(device="cuda", compile=mode, batch_size=8)) for mode in (False, "reduce-overhead")
    )
    for _ in range(6):
        assert graphs.step().item() == pytest.approx(plain.step().item(), rel=1e-3)


def test_modes_of_compilation(settings, monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "compile", lambda function, mode: asked.append(mode) or function)
    for value in (False, True, "default", "reduce-overhead", "max-autotune"):
        assert fuse(abs, settings(compile=value))(-3) == 3
        assert cli.parse(TrainGenerator, ["--data", "[a]", "--compile", str(value)], prog="").compile == value
    assert asked == [None, "default", "reduce-overhead", "max-autotune"]
    with pytest.raises(ValueError, match="compile must be one of False, True, default, .*, got 'graphs'"):
        settings(compile="graphs")


@pytest.mark.parametrize("way", ["forward", "backward"])
def test_what_cannot_be_compiled_is_said_in_one_line(settings, monkeypatch, uncompilable, way):
    def broken(function, mode):
        def call(*inputs):
            if way == "forward":
                raise InductorError(InvalidCxxCompiler(), None)
            return uncompilable(function(*inputs))

        return call

    monkeypatch.setattr(torch, "compile", broken)
    monkeypatch.setattr("experiments.training._meter", lambda trainer: None)  # it counts what is not compiled
    with pytest.raises(CompileError, match=r"there is no C\+\+ compiler\): install one, .*, or give --compile false$"):
        train_generator(settings(compile=True))


@pytest.mark.slow
def test_a_compiled_network_learns_the_same(settings):
    plain, fused = (GeneratorTrainer(settings(compile=mode)) for mode in (False, True))
    for _ in range(3):
        assert fused.step().item() == pytest.approx(plain.step().item(), rel=1e-4)
    assert fused.flops() == plain.flops() > 0


@pytest.mark.slow
def test_a_compiled_prediction_and_rendering_learn_the_same(tmp_path, data, tiny_checkpoint):
    common = dict(data=[data], network="predictor_s", loss="image", generator=tiny_checkpoint, steps=3, patch_size=8)
    common |= dict(batch_size=2, warmup=1, device="cpu", output=str(tmp_path / "run"))
    generator = generators.load(tiny_checkpoint)
    plain, fused = (
        PredictorTrainer(TrainPredictor(**common, compile=mode), generator)  # type: ignore[arg-type]
        for mode in (False, True)
    )
    for _ in range(3):
        assert fused.step().item() == pytest.approx(plain.step().item(), rel=1e-4)


def test_learning_rates():
    cosine = TrainGenerator(data=["x"], learning_rate=1e-3, steps=1100, warmup=100)
    rate = [cosine.learning_rate_at(step) for step in range(1101)]
    assert rate[0] == pytest.approx(1e-5) and rate[99] == pytest.approx(1e-3) and rate[49] == pytest.approx(5e-4)
    for step in range(100, 1101):
        expected = 1e-5 + (1e-3 - 1e-5) * math.cos(math.pi * (step - 100) / 2000) ** 2
        assert rate[step] == pytest.approx(expected)
    assert rate[1100] == pytest.approx(1e-5) and cosine.learning_rate_at(5000) == pytest.approx(1e-5)
    halving = TrainGenerator(data=["x"], learning_rate=2e-4, schedule="halving")
    assert [halving.learning_rate_at(s) for s in (0, 199_999, 200_000, 400_000)] == [2e-4, 2e-4, 1e-4, 5e-5]


@pytest.mark.parametrize(
    "change",
    [
        *({"steps": 0}, {"batch_size": 0}, {"patch_size": 0}, {"halve_every": 0}, {"learning_rate": 0.0}, {"ema": 1.0}),
        *({"shrink": (0.5, 1.0)}, {"shrink": (0.0,)}, {"clip_norm": 0.0}, {"clip_norm": -1.0}, {"soften": -0.1}),
        *({"validation_widths": ()}, {"validation_widths": (1.0, math.nan)}, {"learning_rate": math.inf}),
        *({"betas": (1.5, 2.0)}, {"betas": (-0.1, 0.9)}, {"warmup": -1}, {"soften": math.inf}),
        *({"checkpoint_seconds": -1.0}, {"checkpoint_seconds": math.nan}, {"seed": 2**32}, {"seed": -1}),
    ],
)
def test_impossible_settings_are_refused(change):
    with pytest.raises(ValueError, match=f"{next(iter(change))} must (be|hold)"):
        TrainGenerator(data=["x"], **change)


def test_no_folder_of_photos_is_refused_with_the_setting():
    with pytest.raises(ValueError, match=r"^data must name at least one folder of photos, as \[photos\]$"):
        TrainGenerator(data=[])


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (TrainGenerator, {"schedule": "cosinus"}, "schedule must be one of cosine, halving, got 'cosinus'"),
        (TrainGenerator, {"modulation": "film"}, "modulation must be one of amlayer, adain, got 'film'"),
        (TrainPredictor, {"loss": "codes"}, "loss must be one of image, psnr, code, got 'codes'"),
    ],
)
def test_choices_are_checked(kind, change, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        kind(data=["x"], **change)


def test_devices():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("gpu", "meta", "mps", "xpu", ""):
        with pytest.raises(ValueError, match=f"device must be auto, cpu or cuda, got '{name}'"):
            pick_device(name)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no CUDA GPU"):
            pick_device("cuda")


@pytest.mark.parametrize("loss", ["image", "code"])
def test_the_predictor_trains_and_resumes(data, tmp_path, tiny_checkpoint, loss):
    base = {"data": [data], "network": "predictor_s", "generator": tiny_checkpoint, "loss": loss, "device": "cpu"}
    base |= {"patch_size": 8, "batch_size": 2}
    path = train_predictor(TrainPredictor(output=str(tmp_path), steps=2, **base))
    assert path.is_file()
    train_predictor(TrainPredictor(output=str(tmp_path), steps=3, **base))
    assert last_state(tmp_path)[1]["step"] == 3
    base |= {"network": "predictor", "init": str(path), "output": str(tmp_path / "other")}
    with pytest.raises(ValueError, match="is no predictor: give --network predictor_s, or leave init out"):
        train_predictor(TrainPredictor(steps=1, **base))


def test_a_predictor_goes_on_without_the_file_that_it_began_from(data, tmp_path, tiny_checkpoint):
    base = {"data": [data], "network": "predictor_s", "generator": tiny_checkpoint, "loss": "code", "device": "cpu"}
    base |= {"patch_size": 8, "batch_size": 2}
    start = train_predictor(TrainPredictor(output=str(tmp_path / "start"), steps=1, **base))
    base |= {"init": str(start), "output": str(tmp_path / "run")}
    path = train_predictor(TrainPredictor(steps=1, **base))
    begun = generators.checkpoint.read(path)[1]["training"]["init"]
    start.unlink()
    train_predictor(TrainPredictor(steps=2, **base))
    assert last_state(path.parent)[1]["step"] == 2
    assert generators.checkpoint.read(path)[1]["training"]["init"] == begun
    with pytest.raises(generators.CheckpointError, match="^no checkpoint at .*start"):
        train_predictor(TrainPredictor(steps=2, **{**base, "output": str(tmp_path / "new")}))


def test_a_predictor_goes_on_through_its_own_generator(data, tmp_path, tiny_checkpoint, louder):
    base = {"data": [data], "network": "predictor_s", "device": "cpu", "output": str(tmp_path / "run")}
    base |= {"patch_size": 8, "batch_size": 2}
    path = train_predictor(TrainPredictor(steps=1, generator=tiny_checkpoint, **base))
    assert checkpoints.load_predictor(path)[1].weights == generators.load(tiny_checkpoint).fingerprint
    with pytest.raises(ValueError, match="was begun through tiny, and .*louder.safetensors is not, or no longer"):
        train_predictor(TrainPredictor(steps=2, generator=louder, **base))
    moved = shutil.copy(tiny_checkpoint, tmp_path / "moved.safetensors")
    train_predictor(TrainPredictor(steps=2, generator=str(moved), **base))
    for file in RunFolder(path.parent).states()[-1].iterdir():  # as it was before the generator was kept
        tensors, metadata = generators.checkpoint.read(file)
        assert metadata.pop("meaning")["generator"] == "tiny"
        generators.checkpoint.save(file, tensors, metadata)
    train_predictor(TrainPredictor(steps=3, generator=louder, **base))
    assert last_state(path.parent)[1]["step"] == 3


# Batches


CODED = np.zeros((90, 120, 3), dtype=np.uint8)  # each pixel says where it is
CODED[..., 0], CODED[..., 1] = np.mgrid[:90, :120]


def batches(pool=None, seed=0, **changes):
    settings = {"scale": 2, "patch_size": 16, "batch_size": 200, "width_range": (0.2, 2.0), **changes}
    rng = torch.Generator().manual_seed(seed)
    return iter(Batches(pool or PhotoPool([Photo("coded", CODED)]), rng=rng, **settings))


def test_batches_are_degraded_crops():
    hr, lr, kernel = next(batches())
    assert hr.shape == (200, 3, 32, 32) and lr.shape == (200, 3, 16, 16) and kernel.shape == (200, 21, 21)
    assert hr.dtype == lr.dtype == torch.float32 and kernel.dtype == torch.float64
    where = (hr * 255).round().to(torch.int64)
    across = where[:, 1, 0, 1] != where[:, 1, 0, 0]  # not transposed
    assert 50 < across.sum() < 150, "half of the crops should be transposed"
    seen, corners = set(), []
    for row, column in where[:, :2]:
        corners.append((row.min().item(), column.min().item()))
        assert row.max() - row.min() == 31 and column.max() - column.min() == 31, "a crop leaves its photo"
        turned = bool(row[0, 0] != row[0, 1])
        down, right = (row.T, column.T) if turned else (row, column)
        seen.add((turned, bool(down[0, 0] > down[1, 0]), bool(right[0, 0] > right[0, 1])))
    assert len(seen) == 8, "all flips and turns"
    top, left = np.array(corners).T
    assert top.min() < 6 and top.max() > 52 and left.min() < 8 and left.max() > 80, "crops from everywhere"
    assert top.max() <= 58 and left.max() <= 88
    steps = degradation.degrade(hr.double(), kernel, 2)
    assert ((steps - lr).abs() * 255).max() < 1.5  # a ramp halved has halves, which fall either way


def test_patches_that_are_no_squares_cover_photos_whichever_way_they_fit():
    high = CODED.transpose(1, 0, 2).copy()
    high[..., 2] = 1
    photos = [Photo("wide", CODED), Photo("high", high), Photo("small", CODED[:50, :50])]
    hr, lr, _ = next(batches(PhotoPool(photos), patch_size=(25, 50), batch_size=300))
    assert hr.shape == (300, 3, 50, 100) and lr.shape == (300, 3, 25, 50)
    row, column, photo = (hr * 255).round().to(torch.int64).unbind(1)
    assert 100 < photo[:, 0, 0].sum() < 200 and torch.equal(photo, photo[:, :1, :1].expand_as(photo))
    # The high one, turned, lies as the wide one does upright: its codes run down and across.
    assert (row[:, :, 0] == row[:, :, -1]).all() and (column[:, 0] == column[:, -1]).all()
    assert ((row[:, 0, 0] - row[:, -1, 0]).abs() == 49).all() and (
        (column[:, 0, 0] - column[:, 0, -1]).abs() == 99
    ).all()


def test_widths_are_uniform():
    pool = PhotoPool([Photo("p", CODED)])
    kernel = next(batches(pool, scale=4, patch_size=3, batch_size=4000, width_range=(0.2, 4.0)))[2]
    ratio = kernel[:, 10, 11] / kernel[:, 10, 10]
    width = (-0.5 / ratio.log()).sqrt().sort().values  # the Gaussian's own, from two neighbours
    uniform = 0.2 + 3.8 * (torch.arange(4000) + 0.5) / 4000
    assert (width - uniform).abs().max() < 3.8 * 0.03  # Kolmogorov-Smirnov, 1e-3


def test_batches_follow_their_seed():
    first, again, other = batches(seed=3), batches(seed=3), batches(seed=4)
    for _ in range(2):
        a, b, c = next(first), next(again), next(other)
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
        assert not torch.equal(a[0], c[0])


def test_photos_count_by_their_pixels_and_small_ones_are_left_out():
    grey = [np.full((side, 40, 3), level, np.uint8) for side, level in ((31, 10), (32, 20), (40, 30), (20, 40))]
    pool = PhotoPool([Photo(str(i), pixels) for i, pixels in enumerate(grey)])
    hr = next(batches(pool, batch_size=1000))[0]
    level = (hr[:, 0, 0, 0] * 255).round()
    assert set(level.tolist()) == {20, 30}
    assert 390 < (level == 20).sum() < 500  # 1280 pixels against 1600


def test_crops_reach_every_edge():
    hr = next(batches(PhotoPool([Photo("coded", CODED[:33, :34])])))[0]
    row, column = (hr[:, :2].amin((2, 3)) * 255).round().unbind(1)  # of a crop's top left corner in its photo
    assert set(row.tolist()) == {0, 1} and set(column.tolist()) == {0, 1, 2}


def test_half_of_the_crops_are_softened():
    """The others, and where all are taken from, are as without."""
    pool = PhotoPool([Photo("noise", np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8))])
    sharp, soft = (next(batches(pool, soften=amount))[0] for amount in (0.0, 0.8))
    assert torch.equal(soft[100:], sharp[100:])
    widths = torch.tensor([0.1, 0.8], dtype=torch.float64)
    contrast = soft[:100].std((1, 2, 3)) / sharp[:100].std((1, 2, 3))
    most = degradation.blur(sharp[:100], kernels.gaussian_profile(widths[1:])).std((1, 2, 3)) / sharp[:100].std(
        (1, 2, 3)
    )
    assert (contrast <= 1 + 1e-5).all() and (contrast >= most - 1e-5).all(), "softer than asked for"
    assert contrast.max() > 0.95 and contrast.min() < most.max() + 0.1, "widths from everywhere"


def test_smaller_copies_are_trained_on_as_well(settings, tmp_path, monkeypatch):
    """A ramp's slope tells a copy of half the size, 3200 pixels, from the photo, 12800."""
    folder = tmp_path / "ramp"
    folder.mkdir()
    images.write(folder / "ramp.png", np.repeat(np.arange(160, dtype=np.uint8), 80 * 3).reshape(160, 80, 3))
    trainer = GeneratorTrainer(settings(data=[str(folder)], shrink=(0.5,), patch_size=8, batch_size=400))
    seen = []
    monkeypatch.setattr(trainer, "loss", lambda hr, lr, kernel: seen.append(hr) or trainer.network.tail.bias.sum())
    trainer.step()
    grey = seen[0][:, 0] * 255
    slope = (grey[:, 4] - grey[:, 3] + grey[:, :, 4] - grey[:, :, 3]).abs().mean(1).round()
    assert set(slope.tolist()) == {1, 2}
    assert 50 < (slope == 2).sum() < 114  # a fifth of 400, four deviations
    with pytest.raises(ImageError, match="no photo shrunk by 0.3 is as large as 32x32: .*leave 0.3 out"):
        GeneratorTrainer(settings(data=[str(folder)], shrink=(0.5, 0.3), patch_size=8))


def test_a_run_of_before_a_setting_existed_goes_on(settings, tmp_path):
    path = train_generator(settings(steps=1)).parent / "config.yaml"
    config = yaml.safe_load(path.read_text())
    assert config.pop("shrink") == []
    path.write_text(yaml.safe_dump(config))
    train_generator(settings(steps=2))
    with pytest.raises(ValueError, match=r"was begun with shrink=\[\], not \[0.9\]"):
        train_generator(settings(steps=3, shrink=(0.9,)))


def test_a_folder_may_be_named_in_other_ways_when_a_run_goes_on(settings, data, monkeypatch):
    train_generator(settings(steps=1))
    monkeypatch.chdir(Path(data).parent)
    train_generator(settings(steps=2, data=[f"{data}/"]))
    path = train_generator(settings(steps=3, data=[f"./{Path(data).name}"]))
    with pytest.raises(ValueError, match=r"was begun with data=.*, not \['elsewhere'\]"):
        RunFolder(path.parent).check_config(settings(data=["elsewhere"]))


@pytest.mark.parametrize("content", [b"a: [", b"", b"- a\n", b"\xff\xfe\x00"])
def test_a_damaged_config_is_one_line_with_a_cure(settings, content):
    path = train_generator(settings(steps=1)).with_name("config.yaml")
    path.write_bytes(content)
    with pytest.raises(generators.CheckpointError, match="config.yaml is damaged: copy it again, or") as error:
        train_generator(settings(steps=2))
    assert "\n" not in str(error.value)
    path.unlink()
    train_generator(settings(steps=2))
    assert last_state(path.parent)[1]["step"] == 2


def test_an_output_that_is_a_file_is_refused_by_name(settings, tmp_path):
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file", tmp_path / "file" / "deep"):
        with pytest.raises(OSError, match=f"^cannot make the folder {output} .*: give another output$"):
            train_generator(settings(output=str(output)))


def test_what_a_crashed_stretch_logged_is_shown_no_more(settings, tmp_path, monkeypatch):
    """Steps 3 and 4 came after the last state, and are taken again."""
    monkeypatch.setattr("experiments.training.LOG_EVERY", 1)
    train_generator(settings(steps=2))
    crashed = RunFolder(tmp_path / "run").log(2)
    for step in (3, 4):
        crashed.add_scalar("train/loss", 99.0, step)
    crashed.close()
    train_generator(settings(steps=4))
    log = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [each.step for each in log.Scalars("train/loss")] == [1, 2, 3, 4]
    assert all(each.value < 99 for each in log.Scalars("train/loss"))


def test_half_of_an_odd_batch_is_not_softened(settings):
    with pytest.raises(ValueError, match="half of the crops are softened, of an odd number, 3 a process: make it even"):
        GeneratorTrainer(settings(batch_size=3, soften=0.6))
    GeneratorTrainer(settings(batch_size=3))


def test_another_commands_run_is_not_replaced(settings, tmp_path, data, held_out, tiny_checkpoint):
    common = {"generator": tiny_checkpoint, "images": data, "held_out": held_out, "patch_size": 8, "device": "cpu"}
    agent = TrainAgent(algorithm="pathwise", metric="psnr", total_timesteps=16, held_out_scenes=1, **common)
    folders = {name: tmp_path / name for name in ("agent", "generator")}
    train_agent(dataclasses.replace(agent, output=str(folders["agent"])))
    train_generator(settings(output=str(folders["generator"]), steps=1))
    before = {path: path.read_bytes() for folder in folders.values() for path in folder.iterdir() if path.is_file()}
    with pytest.raises(ValueError, match="agent holds a run of train-agent, not of train-generator: give another"):
        train_generator(settings(output=str(folders["agent"]), steps=1))
    with pytest.raises(ValueError, match="generator holds a run of train-generator, not of train-agent: give another"):
        train_agent(dataclasses.replace(agent, output=str(folders["generator"])))
    assert all(path.read_bytes() == content for path, content in before.items()) and len(before) > 5


def test_photos_that_are_all_too_small_are_refused(settings):
    pool = PhotoPool([Photo("small", CODED[:31])])
    with pytest.raises(ImageError, match="no photo is as large as 32x32: lower patch_size or give larger photos"):
        next(batches(pool))
    with pytest.raises(ImageError, match="256x256"):
        train_generator(settings(patch_size=64))
