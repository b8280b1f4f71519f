"""The README's tables hold what the results files hold, rounded once."""

import re
from pathlib import Path

import pytest

from experiments import paper
from experiments.intervals import Interval
from experiments.sheets import read, sheets

ROOT = Path(__file__).resolve().parents[2]
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in (ROOT / "README.md").read_text().splitlines()]
LONG = "at 72x72, niqe, 16000 renders"

AGENTS = {  # by the README's name, what results call them on amgan_s and on amgan
    "predictor, where all agents start": ("predictor", "predictor"),
    "one constant for all photos": ("constant at 72x72, niqe", f"constant {LONG}"),
    "Stable-Baselines3's PPO": ("sb3 ppo at 72x72, niqe", f"sb3 ppo {LONG}"),
    "Stable-Baselines3's SAC": ("sb3 sac at 72x72, niqe", f"sb3 sac {LONG}"),
    "Stable-Baselines3's TD3": ("sb3 td3 at 72x72, niqe", f"sb3 td3 {LONG}"),
    "group-relative policy gradient": ("group-pg at 72x72, niqe", "group-pg at 72x72, niqe, 24000 renders"),
    "DDPG with the paper's loss": ("ddpg eq11 at 72x72, niqe", f"ddpg eq11 {LONG}"),
    "pathwise": ("pathwise at 72x72, niqe", "pathwise at 72x72, niqe, 24000 renders"),
    "the same in `free-code`": (None, "pathwise at 72x72, niqe, 24000 renders"),
    "pathwise with PSNR in the reward: `amgan_rl_s`, `amgan_rl`": (
        "pathwise at 72x72, niqe+0.2*psnr",
        "pathwise at 72x72, niqe+0.3*psnr, 24000 renders",
    ),
}
GENERATORS = {
    "*SRMDNF, its authors' weights, run here*": "srmdnf",
    "the same in tiles, as `blindsr upscale --self_ensemble` renders": "amnet in tiles of 64, self-ensemble",
    **{f"`{name}`": name for name in ("amnet", "amgan", "amnet_s", "amgan_s")},
}


@pytest.fixture(scope="module")
def found():
    every = sheets(read(str(ROOT / "experiments" / "results")))
    return [sheet for sheet in every if sheet.widths == paper.WIDTHS]


def row(name, columns):
    (cells,) = [cells for cells in ROWS if cells[0] == name and len(cells) == columns]
    return cells[1:]


def check(text, values):
    shown = re.findall(r"-?\d+\.\d+", text)
    assert len(shown) == len(values)
    for number, value in zip(shown, values, strict=True):
        assert abs(float(number) - value) <= 0.005 + 1e-9, f"{number} stands for {value:.5f}"


@pytest.mark.parametrize("name", AGENTS)
def test_gains_of_agents(found, name):
    cells = row(name, 5)
    for generator, policy, (gain, price) in zip(
        ("amgan_s", "amgan"), AGENTS[name], (cells[:2], cells[2:]), strict=True
    ):
        if policy is None:
            assert gain == price == ""
            continue
        place = ("BSD100", generator, "free-code" if "free-code" in name else "code")
        metrics = next(
            each[policy]["metrics"] if each is sheet.recipes else each[policy]
            for sheet in found
            for each in (sheet.recipes, sheet.singles)
            if (sheet.set, sheet.generator, sheet.action) == place and policy in each
        )
        niqe = Interval(**metrics["niqe"]["gain"])
        check(gain, [niqe.mean, niqe.low, niqe.high])
        check(price, [metrics["psnr"]["gain"]["mean"]])
        assert gain.startswith("**") == (niqe.low > 0), "bold where the interval lies above 0"


@pytest.mark.parametrize("name", GENERATORS)
def test_scores_of_generators(found, name):
    _, *psnr, niqe = row(name, 6)
    for title, cell in zip(("Set5", "Set14", "BSD100"), psnr, strict=True):
        sheet = next(sheet for sheet in found if (sheet.set, sheet.generator) == (title, GENERATORS[name]))
        check(cell, [sheet.mean("psnr", width) for width in paper.WIDTHS])
    assert niqe  # of BSD100, the last
    check(niqe, [sheet.policies["true-code"]["niqe"]["mean"]])
