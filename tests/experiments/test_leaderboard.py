"""The ranking from made-up results: who stands where, and what is refused."""

import json

import pytest

from experiments import cli
from experiments.leaderboard import Leaderboard, leaderboard


def gain(mean, low=None):
    return {"mean": mean, "low": mean - 0.1 if low is None else low, "high": mean + 0.1, "count": 5}


def measured(**gains):
    return {
        metric: {"mean": 5.0, "mean_by_width": [5.0], "gain": gain(each)} if isinstance(each, float) else each
        for metric, each in gains.items()
    }


def sheet(title="BSD100", generator="g", scale=4, widths=(0.2, 1.3, 2.6), recipes=None, **policies):
    true = {"niqe": {"mean": 5.0, "mean_by_width": [5.0] * len(widths), "gain": gain(0.0)}}
    for of_metric in policies.values():
        for entry in of_metric.values():
            entry["mean_by_width"] = [5.0] * len(widths)
    return {
        "set": title,
        "generator": generator,
        "architecture": {"scale": scale},
        "widths": list(widths),
        "policies": {"true-code": true, **policies},
        "recipes": recipes or {},
    }


@pytest.fixture
def write(tmp_path):
    def write(**files):
        for name, figures in files.items():
            content = {"figures": figures, "config": {"action": "code"}}
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
        return str(tmp_path)

    return write


def test_the_best_stands_first_with_its_price(write):
    folder = write(
        a=sheet(
            poor=measured(niqe=-0.2, psnr=0.1),
            good=measured(niqe=0.05, psnr=-1.5, grid=0.002),
            best=measured(niqe=0.3),
        )
    )
    lines = leaderboard(Leaderboard(results=folder)).splitlines()
    assert lines[0].startswith("BSD100, g, actions code, widths 0.2, 1.3, 2.6:") and lines[1].split() == [
        "niqe",
        "psnr",
        "grid,",
        "1e-3",
    ]
    assert lines[2].split() == ["1*", "best", "+0.300", "[+0.200,", "+0.400]"]
    assert lines[3].split() == ["2", "good", "+0.050", "[-0.050,", "+0.150]", "-1.5000", "+2.0000"]
    assert lines[4].split()[:3] == ["3", "poor", "-0.200"] and lines[4].split()[-1] == "+0.1000"
    assert lines[-1].endswith("+0.578")


def test_who_broke_the_metric_stands_behind_who_did_not(write):
    some = measured(niqe=0.4)
    some["niqe"]["broken"] = 1
    none = measured(niqe=float("nan"))
    lines = leaderboard(
        Leaderboard(results=write(a=sheet(some=some, none=none, poor=measured(niqe=-0.2))))
    ).splitlines()
    assert [line.split()[1] for line in lines[2:5]] == ["poor", "some", "none"]


def test_seeds_of_a_recipe_stand_once_and_together(write):
    metrics = {"niqe": {"gain": gain(0.2), "broken": 2}}
    recipe = {"agents": ["r 0", "r 1"], "metrics": metrics}
    seeds = {name: measured(niqe=0.2) for name in recipe["agents"]}
    lines = leaderboard(Leaderboard(results=write(a=sheet(recipes={"r": recipe}, **seeds)))).splitlines()
    assert lines[3].strip().startswith("*:"), "the seeds have no places of their own"
    assert leaderboard(Leaderboard(results=write(a=sheet(recipes={"r": recipe | {"agents": ["r 0"]}}, **seeds)))).count(
        "r, 1 seed "
    )
    assert "r, 2 seeds (2 pictures broken and left out)" in lines[2]


def test_boards_of_sets_generators_and_scales_are_apart_and_can_be_chosen(write, capsys):
    folder = write(
        a=sheet(p=measured(niqe=-0.4)),
        b=sheet(generator="h", p=measured(niqe=0.2)),
        c=sheet(scale=2, p=measured(niqe=0.3)),
        d=sheet("mine", p=measured(niqe=0.4)),
    )
    heads = [line for line in leaderboard(Leaderboard(results=folder)).splitlines() if "actions code" in line]
    assert [head.split(", actions")[0] for head in heads] == ["BSD100, g", "BSD100, h", "BSD100, g, x2", "mine, g"]
    capsys.readouterr()
    assert cli.main(["leaderboard", "--results", folder, "--set", "BSD100", "--generator", "h"]) == 0
    assert "+0.200" in (chosen := capsys.readouterr().out) and "-0.400" not in chosen and "mine" not in chosen
    twice = [part for part in leaderboard(Leaderboard(results=folder, set="BSD100")).split("\n\n") if ", x2" in part]
    assert len(twice) == 1 and "paper" not in twice[0]


def test_other_widths_are_another_board_and_not_beside_the_paper(write):
    folder = write(a=sheet(p=measured(niqe=0.1)), b=sheet(widths=[2.6], p=measured(niqe=0.9)))
    first, second = leaderboard(Leaderboard(results=folder)).split("\n\n")
    assert "+0.100 " in first and "+0.900" not in first and "paper" in first
    assert "widths 2.6:" in second and "paper" not in second


def test_what_one_file_left_out_is_no_other_policy(write):
    some = measured(niqe=0.1, psnr=0.2)
    some["niqe"]["broken"] = 3
    text = leaderboard(Leaderboard(results=write(a=sheet(p=measured(niqe=0.1)), b=sheet(p=some))))
    assert text.count(" p ") == 1 and "3 pictures broken" in text


def test_the_file_with_more_metrics_wins(write):
    few, more = sheet(p=measured(niqe=0.1)), sheet(p=measured(niqe=0.1, lpips=0.02))
    for first, second in ((few, more), (more, few)):
        text = leaderboard(Leaderboard(results=write(a=first, b=second)))
        assert text.count("+0.100 ") == 1 and "+0.0200" in text


def test_ranked_by_another_metric_the_rest_is_its_price(write):
    figures = sheet(
        low=measured(grid=0.002, ssim=0.1, mine=0.3, niqe=-0.2), high=measured(grid=0.003, mine=0.4, psnr=0.5)
    )
    figures["policies"]["true-code"]["grid"] = {"mean": 5.0, "mean_by_width": [5.0] * 3, "gain": gain(0.0)}
    _, heads, first, second, *more = leaderboard(Leaderboard(results=write(a=figures), metric="grid")).splitlines()
    assert heads.split() == ["grid,", "1e-3", "psnr", "ssim", "niqe", "mine"]
    assert first.split() == ["1", "high", "+3.000", "[-97.000,", "+103.000]", "+0.5000", "+0.4000"]
    assert second.split() == ["2", "low", "+2.000", "[-98.000,", "+102.000]", "+0.1000", "-0.2000", "+0.3000"]
    assert not more, "the paper's figure is of NIQE"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": "nique"}, "no policy with a score in 'nique'.*run blindsr evaluate"),
        ({"set": "BSD10"}, "did you mean 'BSD100'"),
        ({"generator": "gg"}, "did you mean 'g'"),
    ],
)
def test_what_is_not_there_is_said(write, changes, message):
    with pytest.raises(ValueError, match=message):
        leaderboard(Leaderboard(results=write(a=sheet(p=measured(niqe=0.1))), **changes))


def test_other_seeds_of_a_recipe_in_another_file_stand_beside_it(write):
    def of(*agents, mean):
        recipe = {"agents": list(agents), "metrics": {"niqe": {"gain": gain(mean), "broken": 0}}}
        return sheet(recipes={"r": recipe}, **{name: measured(niqe=mean) for name in agents})

    folder = write(a=of("r/0", "r/1", mean=0.1), b=of("r/2", "r/3", mean=0.3), c=of("r/4", mean=0.2))
    lines = leaderboard(Leaderboard(results=folder)).splitlines()
    assert [line.split("  ")[0] for line in (each[6:] for each in lines[2:5])] == [
        "r, seeds 2, 3",
        "r, 1 seed",
        "r, seeds 0, 1",
    ]


def test_the_order_of_seeds_makes_no_other_entry_and_broken_pictures_no_other_recipe(write):
    def of(*agents, broken=0):
        recipe = {"agents": list(agents), "metrics": {"niqe": {"gain": gain(0.1), "broken": broken}}}
        return sheet(recipes={"r": recipe}, **{name: measured(niqe=0.1) for name in agents})

    folder = write(a=of("r/0", "r/1"), b=of("r/1", "r/0"))
    assert leaderboard(Leaderboard(results=folder)).count("r, 2 seeds") == 1
    found = leaderboard(Leaderboard(results=write(b=of("r/2", "r/3", broken=1))))
    assert "r, seeds 0, 1 " in found and "r, seeds 2, 3 (1 pictures broken" in found
