"""Settings without jsonargparse: what is read equals what the `blindsr` command reads."""

import re
from pathlib import Path

import pytest
import torch

from experiments import cli, failure, options
from experiments.data import Data
from experiments.evaluate import Evaluate
from experiments.ship import Ship
from experiments.train_gan import TrainGan
from experiments.train_generator import TrainGenerator, train_generator
from experiments.train_predictor import TrainPredictor

TRAINERS = {"amnet": TrainGenerator, "amgan": TrainGan, "predictor": TrainPredictor}
CONFIGS = sorted(p for name in TRAINERS for p in (Path(cli.__file__).parent / "configs").glob(f"{name}*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_read_the_same(path):
    arguments = ["--config", str(path), "--steps", "7", "--learning_rate", "1e-3", "--betas", "[0.8, 0.9]"]
    kind = TRAINERS[path.stem.partition("_")[0]]
    settings = options.read(kind, arguments)
    assert settings == cli.parse(kind, arguments, prog="")
    assert settings.steps == 7 and settings.learning_rate == 1e-3 and settings.betas == (0.8, 0.9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "[a]", "--stepz", "3"], "unknown setting 'stepz': did you mean 'steps'"),
        (["--images", "a"], "unknown setting 'images': here it is 'data'"),
        (["--data", "[a]", "--ema", "much"], 'setting "ema": expected float, got much'),
        (["--data", "[a]", "--steps", "1.5"], 'setting "steps": expected int, got 1.5'),
        (["--data", "[a]", "--steps", "inf"], 'setting "steps": expected int, got inf'),
        (["--data", "[a]", "--steps", "true"], 'setting "steps": expected int, got True'),
        (["--data", "[a]", "--amp", "much"], 'setting "amp": expected bool, got much'),
        (["--data", "[a]", "--betas", "[0.9]"], 'setting "betas": expected a list, as [A, B], got [0.9]'),
        (["--data", "null"], 'setting "data": expected a list, as [A, B], got None'),
        (["--config", "amnett"], "no file amnett; unknown config 'amnett': did you mean 'amnet'"),
        (["--data", "[007]"], 'setting "data": expected a list, as [A, B], got [7]'),
        (["--data", "[a]", "--schedule", "cosinus"], 'setting "schedule": expected one of cosine, halving, got'),
        (["--data", "[a]", "--compile", "graphs"], 'setting "compile": expected bool or one of default, '),
        (["--data", "[a"], "--data is no YAML: while parsing a flow sequence"),
        (["--data"], "--data: options are --config FILE.yaml and --KEY VALUE"),
        (["stray", "3"], "'stray' belongs to no option"),
        (["--steps", "3"], "missing setting data"),
        (["--data", "[a]", "--steps", "0"], "steps must be at least 1"),
        (["--data", "[a]", "--patch_size", "[48, 0]"], "patch_size must be a whole number above 0, or two of them"),
        (["--data", "[a]", "--patch_size", "[48]"], 'setting "patch_size": expected int or a list, as [A, B], got'),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(ValueError, match="^" + re.escape(message)) as error:
        options.read(TrainGenerator, arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--data", "photos"],
        ["--data=a", "--amp"],
        ["--compile", "--data", "a, b"],
        ["--data", "007"],
        ["--data", "2024"],
        ["--data", "2024-05-01"],
        ["--data", "photos [x]"],
        ["--steps", "7", "--config", "amnet_s"],
        ["--data", "a", "--validation_widths", "1.3"],
        ["--data", "a", "--patch_size", "48"],
        ["--data", "a", "--patch_size", "[80, 120]"],
        ["--config", "amnet"],
        ["--data", "a", "--output", "007"],
        ["--data", "a", "--output", "10:30"],
        ["--data", "a", "--output", "run #1"],
        ["--data", "a", "--output", "2024-01-01"],
        ["--data", "a", "--output", "no", "--validation", "1_000"],
        ["--data", "a", "--batch-size", "3", "--learning-rate=1e-4"],
    ],
)
def test_what_may_be_left_out_is_the_same_in_both(arguments):
    assert options.read(TrainGenerator, arguments) == cli.parse(TrainGenerator, arguments, prog="")


@pytest.mark.parametrize(
    ("arguments", "tiles"),
    [
        (["--tiles", "null"], (None,)),
        (["--tiles", "64"], (64,)),
        (["--tiles", "[null, 64]"], (None, 64)),
        ([], (None,)),
    ],
)
def test_a_list_of_null_may_be_written_as_null(arguments, tiles):
    arguments = ["--images", "photos", *arguments]
    assert options.read(Evaluate, arguments).tiles == tiles == cli.parse(Evaluate, arguments, prog="").tiles


@pytest.mark.parametrize("text", ["", "~", "null", "NULL"])
def test_nothing_is_no_folder(text):
    assert options.read(TrainGenerator, ["--data", "a", "--validation", text]).validation is None


def what(read):
    """Give what a parser reads, or that it refuses it."""
    try:
        return read()
    except ValueError as error:
        assert "\n" not in str(error)
        return "refused"


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        *(("steps", "010", 10), ("steps", "0x10", 16), ("steps", "1_000", 1000), ("steps", "-3", "refused")),
        *(("steps", "1e5", "refused"), ("steps", "5.0", "refused"), ("steps", "null", "refused")),
        *(("patch_size", "048", 48), ("patch_size", "48.0", "refused"), ("patch_size", "[48.0, 48]", "refused")),
        *(("learning_rate", "010", 10.0), ("learning_rate", "1e-3", 1e-3), ("learning_rate", "inf", "refused")),
        *(("clip_norm", "inf", "refused"), ("clip_norm", ".inf", "refused"), ("soften", "1e400", "refused")),
        *(("checkpoint_seconds", "nan", "refused"), ("validation_widths", "[nan]", "refused")),
        *(("betas", "[.nan, 0.9]", "refused"), ("betas", "[1.5, 2]", "refused"), ("betas", "[1e-1, 0]", (0.1, 0.0))),
        *(("output", "'x y'", "'x y'"), ("output", "null", "null"), ("output", "[a]", "[a]"), ("output", "'x", "'x")),
        *(("validation", "~", None), ("validation", "'null'", "'null'"), ("validation", "{a", "{a")),
        *(("data", "[a, 7]", "refused"), ("data", "[2024-01-01]", ["2024-01-01"]), ("data", "null", "refused")),
        *(("amp", "yes", True), ("amp", "1", "refused"), ("shrink", ".5", (0.5,))),
    ],
)
def test_both_read_or_refuse_the_same(key, text, value):
    arguments = [f"--{key}={text}", *([] if key == "data" else ["--data", "a"])]
    assert what(lambda: getattr(options.read(TrainGenerator, arguments), key)) == value
    assert what(lambda: getattr(cli.parse(TrainGenerator, arguments, prog=""), key)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("output: 7", "refused"), ("output: 2024-01-01", "2024-01-01"), ("output: null", "refused")),
        *(("steps: 5.0", "refused"), ("steps: 1e5", "refused"), ("learning_rate: .inf", "refused")),
        *(("learning_rate: 1e-3", 1e-3), ("patch_size: 010", 8)),
    ],
)
def test_both_read_or_refuse_the_same_config(tmp_path, text, value):
    config = tmp_path / "config.yaml"
    config.write_text(f"data: [a]\n{text}\n")
    key, arguments = text.partition(":")[0], ["--config", str(config)]
    assert what(lambda: getattr(options.read(TrainGenerator, arguments), key)) == value
    assert what(lambda: getattr(cli.parse(TrainGenerator, arguments, prog=""), key)) == value


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "a", "b"], "'b' belongs to no option: write --data '[a, b]'"),
        (["--data=a", "b", "c"], "'b' belongs to no option: write --data '[a, b]'"),
        (["--data", "a", "--patch_size", "80", "120"], "'120' belongs to no option: write --patch_size '[80, 120]'"),
        (["--data", "[a, b]", "c"], "'c' belongs to no option: write --KEY c"),
        (["--data", "a", "--steps", "3", "4"], "'4' belongs to no option: write --KEY 4"),
        (["--data", "a", "--data", "b"], "--data is given twice: write all its values as --data '[A, B]'"),
        (["--data", "a", "--batch_size", "2", "--batch-size=3"], "--batch_size is given twice: write it once"),
    ],
)
def test_several_values_are_not_lost(arguments, message):
    for read in (options.read, lambda *given: cli.parse(*given, prog="")):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            read(TrainGenerator, arguments)


def test_a_list_may_be_added_to(tmp_path):
    arguments = ["--data", "a", "--data+", "b", "--data+", "c"]
    assert cli.parse(TrainGenerator, arguments, prog="").data == ["a", "b", "c"]


def test_values_become_of_their_type():
    arguments = ["--data", "[a, b]", "--steps", "100000", "--clip_norm", "2", "--betas", "[5e-1, 0]", "--output", "7"]
    settings = options.read(TrainGenerator, [*arguments, "--compile", "true", "--validation_widths", "[1]"])
    assert (settings.steps, settings.clip_norm, settings.betas) == (100_000, 2.0, (0.5, 0.0))
    assert isinstance(settings.steps, int) and isinstance(settings.clip_norm, float)
    assert (settings.data, settings.output, settings.compile) == (["a", "b"], "7", True)
    assert settings.validation is None and settings.validation_widths == (1.0,)


def test_settings_without_a_required_one_are_read():
    assert options.read(Data, ["--patch_sizes", "[48]", "--scale", "2"]) == Data(patch_sizes=(48,), scale=2)


def test_ship_has_no_photos_of_its_own():
    with pytest.raises(ValueError, match="missing setting images"):
        options.read(Ship, ["--tolerance", "1e-2"])
    assert options.read(Ship, ["--images", "photos"]) == Ship(images="photos")


def test_a_config_without_settings(tmp_path):
    (tmp_path / "c.yaml").write_text("- a\n")
    with pytest.raises(ValueError, match="c.yaml holds no settings"):
        options.read(TrainGenerator, ["--config", str(tmp_path / "c.yaml")])
    (tmp_path / "c.yaml").write_text("steps: [1\n")
    with pytest.raises(ValueError, match="c.yaml is no YAML: while parsing") as error:
        options.read(TrainGenerator, ["--config", str(tmp_path / "c.yaml")])
    assert "\n" not in str(error.value)


def test_mistakes_are_one_line_and_exit_code_2(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["train", "--data", "[nowhere]", "--device", "cpu", "--patch_size", "8"])
    with pytest.raises(SystemExit) as end:
        options.main(TrainGenerator, train_generator)
    assert end.value.code == 2 and capsys.readouterr().err == "no image at nowhere: check the path\n"


def test_want_of_memory_is_no_traceback(monkeypatch, capsys):
    def too_large(settings):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr("sys.argv", ["ship", "--images", "photos"])
    with pytest.raises(SystemExit) as end:
        options.main(Ship, too_large)
    assert end.value.code == 2 and capsys.readouterr().err == f"{failure.TOO_LARGE}\n"


def test_ctrl_c_is_no_traceback(monkeypatch, capsys):
    def interrupted(settings):
        raise KeyboardInterrupt

    monkeypatch.setattr("sys.argv", ["ship", "--images", "photos"])
    with pytest.raises(SystemExit) as end:
        options.main(Ship, interrupted)
    assert end.value.code == 130 and capsys.readouterr().err == "interrupted\n"
