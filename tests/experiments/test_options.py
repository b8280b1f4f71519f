"""Settings without jsonargparse: what is read equals what the `blindsr` command reads."""

from pathlib import Path

import pytest

from experiments import cli, options
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
        (["--data", "[a]", "--ema", "much"], 'setting "ema": expected float, got much'),
        (["--data"], "--data: options are --config FILE.yaml and --KEY VALUE"),
        (["stray", "3"], "stray: options are"),
        (["--steps", "3"], "missing setting data"),
        (["--data", "[a]", "--steps", "0"], "steps must be at least 1"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(ValueError, match="^" + message.replace("[", r"\[")) as error:
        options.read(TrainGenerator, arguments)
    assert "\n" not in str(error.value)


def test_a_config_without_settings(tmp_path):
    (tmp_path / "c.yaml").write_text("- a\n")
    with pytest.raises(ValueError, match="c.yaml holds no settings"):
        options.read(TrainGenerator, ["--config", str(tmp_path / "c.yaml")])


def test_mistakes_are_one_line_and_exit_code_2(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["train", "--data", "[nowhere]", "--device", "cpu", "--patch_size", "8"])
    with pytest.raises(SystemExit) as end:
        options.main(TrainGenerator, train_generator)
    assert end.value.code == 2 and capsys.readouterr().err == "no image at nowhere: check the path\n"
