"""Markdown tables from made-up results: the right figure in the right place."""

import json

import pytest

from blindsr_env.kernels import GAUSSIAN8
from experiments import cli, paper
from experiments.intervals import Interval
from experiments.tables import Tables, tables


def interval(mean):
    return {"mean": mean, "low": mean - 0.01, "high": mean + 0.02, "count": 5}


def entry(by_width, gain=0.0):
    return {"mean": sum(by_width) / len(by_width), "mean_by_width": list(by_width), "gain": interval(gain)}


def sheet(title, generator, psnr, widths=(0.2, 1.3, 2.6), modulation="amlayer", **policies):
    architecture = {"blocks": 1, "width": 8, "scale": 4, "modulation": modulation}
    policies = {"true-code": {"psnr": entry(psnr)}, **policies}
    return {
        "set": title,
        "generator": generator,
        "architecture": architecture,
        "widths": list(widths),
        "policies": policies,
    }


@pytest.fixture
def make(tmp_path):
    """Writes results files and gives the tables made of them, as rows of cells."""

    def make(**files):
        for name, figures in files.items():
            content = figures if "config" in figures else {"figures": figures, "config": {"action": "code"}}
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
        made = tables(Tables(results=str(tmp_path), output=str(tmp_path / "out")))
        for name, text in made.items():
            assert (tmp_path / "out" / f"{name}.md").read_text() == text
        return {
            name: [
                [cell.strip() for cell in line.strip("|").split("|")]
                for line in text.splitlines()
                if line.startswith("|")
            ]
            for name, text in made.items()
        }

    make.folder = tmp_path
    return make


def check_layout(rows):
    assert all(len(row) == len(rows[0]) for row in rows) and set(rows[1]) == {"---"}


def test_table1_lays_the_papers_figures_beside_ours(make):
    sheets = [sheet("BSD100", "amnet", [27.5, 27.67, 28.0]), sheet("Set5", "amnet", [32.0, 32.5, 32.46])]
    sheets.append(sheet("Set5", "srmdnf in tiles of 64", [31.9, 32.0, 31.7]))
    rows = make(ours={"sheets": sheets, "differences": []})["table1"]
    check_layout(rows)
    assert rows[2:] == [
        ["Set5", "SRMDNF, published", "31.96", "32.00", "31.77", ""],
        ["Set5", "AMNet, the paper", "32.28", "32.39", "32.46", ""],
        ["Set5", "amnet, ours", "32.00", "32.50", "32.46", "-0.28 / +0.11 / +0.00"],
        ["Set5", "srmdnf in tiles of 64, its authors' weights", "31.90", "32.00", "31.70", "-0.38 / -0.39 / -0.76"],
        ["BSD100", "AMNet, the paper", "27.60", "27.67", "27.65", ""],
        ["BSD100", "amnet, ours", "27.50", "27.67", "28.00", "-0.10 / +0.00 / +0.35"],
    ]


def test_generators_lie_between_bicubic_and_the_original(make):
    one, other = (sheet("Set5", name, psnr) for name, psnr in (("amnet", [32.0, 32.5, 32.46]), ("amgan", [31.0] * 3)))
    one["references"] = {"bicubic": {"psnr": entry([28.4, 27.6, 25.7])}, "original": {"grid": entry([2e-4] * 3)}}
    other["policies"]["true-code"]["grid"] = entry([5e-5] * 3)
    at_one_width = sheet("Set5", "amnet", [32.1], widths=(1.8,))
    at_one_width["references"] = {"bicubic": {"psnr": entry([27.0])}}
    made = make(a=at_one_width, b={"sheets": [one, other], "differences": []})
    check_layout(made["metrics"])
    assert made["metrics"] == [
        ["set", "pictures", "PSNR, dB", "grid, 1e-3"],
        ["---"] * 4,
        ["Set5", "bicubic", "27.23", ""],
        ["Set5", "amnet", "32.32", ""],
        ["Set5", "amgan", "31.00", "0.0500"],
        ["Set5", "original", "", "0.2000"],
    ]
    assert ["Set5", "bicubic", "28.40", "27.60", "25.70", ""] in made["table1"]


def test_files_from_before_sets_had_names_and_runs_at_more_widths(make):
    old = sheet("", "amnet_s", [31.0, 31.1, 30.7])
    del old["set"], old["architecture"]
    new = sheet("Set5", "amnet", [32.0, 32.1, 32.2, 32.3], widths=(0.2, 1.3, 1.8, 2.6))
    rows = make(a={"figures": old, "config": {"images": "Set5"}}, b=new)["table1"]
    assert rows[4][1:5] == ["amnet_s, ours", "31.00", "31.10", "30.70"]
    assert rows[5][1:5] == ["amnet, ours", "32.00", "32.10", "32.30"], "width 1.8 left out"


def test_figures_that_disagree_are_refused_and_equal_ones_stand_once(make):
    assert (
        len(make(a=sheet("Set5", "g", [31.0, 31.0, 31.0]), b=sheet("Set5", "g", [31.0, 31.0, 31.001]))["table1"]) == 5
    )
    both = "g, true-code, on Set5 at width 1.3 has psnr 31 in .*/a.json and 31.5 in .*/c.json"
    with pytest.raises(ValueError, match=both):
        make(c=sheet("Set5", "g", [31.0, 31.5, 31.0]))


@pytest.mark.parametrize(("metric", "values"), [("niqe", (5.0, 4.9)), ("grid", (3e-5, 7e-5))])
def test_two_agents_called_the_same_are_refused(make, metric, values):
    one, two = (sheet("Set5", "g", [31.0] * 3, **{"agent.safetensors": {metric: entry([v] * 3)}}) for v in values)
    with pytest.raises(ValueError, match=f"g, agent.safetensors, on Set5 at width 0.2 has {metric} .* remove one, or"):
        make(a=one, b=two)
    # of other widths, or in the other action space, they are other measurements
    other = sheet("Set5", "g", [31.0], widths=(1.8,), **{"agent.safetensors": {metric: entry([values[1]])}})
    make(b={"figures": two, "config": {"action": "free-code"}}, c=other)


def test_some_photos_of_a_set_do_not_stand_beside_the_paper(make):
    whole, some = sheet("Set5", "amnet", [32.0, 32.0, 32.0]), sheet("Set5", "amgan", [31.0, 31.0, 31.0])
    whole["photos"], some["photos"] = list("abcde"), list("ab")
    made = make(a=whole, b=some)
    assert [row[1] for row in made["table1"][4:]] == ["amnet, ours"]


def test_other_scales_do_not_stand_beside_the_paper(make):
    twice = sheet("Set5", "x2", [37.0, 37.0, 37.0])
    twice["architecture"]["scale"] = 2
    made = make(a=sheet("Set5", "amnet", [32.0, 32.0, 32.0]), b=twice)
    assert [row[1] for row in made["table1"][4:]] == ["amnet, ours"]


def test_searches(make):
    def start(reward):
        one = {"reward": [interval(reward), interval(1.2)], "normalised": [interval(reward / 1.5), None]}
        return {**one, "price": {"start": {"psnr": interval(-0.25)}, "found": {"psnr": interval(-1.5)}}}

    figures = {
        "kind": "search",
        "photos": ["a", "b"],
        "scenes": 8,
        "generator": "amnet",
        "action": "code",
        "metric": "niqe",
        "budgets": [1, 200],
        "best": interval(1.5),
        "starts": {"true-code": start(0.0), "agent.safetensors": start(0.6)},
    }
    make(search=figures)
    text = tables(Tables(results=str(make.folder), output=None))["search"]
    assert "amnet, actions code, niqe, 8 scenes of 2 photos" in text
    rewards, price, share = (line.split() for line in text.splitlines() if line.startswith("agent.safetensors"))
    assert share == ["agent.safetensors", *str(Interval(**interval(0.4))).split()]
    assert rewards == ["agent.safetensors", "+0.600", "+1.200", "|", "0.40", "-"]
    assert price == ["agent.safetensors", "psnr", "-0.25", "then", "-1.5"]
    unseen = {key: interval(0.1) for key in ("start", "found", "more", "normalised")}
    for of in figures["starts"].values():
        of["unseen"] = unseen
    for best, shown in (({"low": 0.1}, 3), ({"low": -0.1}, 0)):  # of what may be nothing, nothing is a share
        make(search={**figures, "best": interval(1.5) | best, "best_unseen": interval(0.5) | best})
        text = tables(Tables(results=str(make.folder), output=None))["search"]
        (rewards, _, share, there) = (line for line in text.splitlines() if line.startswith("agent.safetensors"))
        found = [" 0.40 " in rewards, "[+0.390" in share, there.endswith("[+0.090, +0.120]")]
        assert sum(found) == shown and (shown or share.split()[1] == there.split()[-1] == "-")


def test_table4_pairs_the_layers_at_its_width(make):
    widths = (1.3, paper.ADAIN_WIDTH)
    sheets = [
        sheet("Set5", "amnet", [32.0, 31.5], widths),
        sheet("Set5", "amnet_adain", [32.0, 31.2], widths, modulation="adain"),
    ]
    psnr = {**interval(-0.1), "by_width": [interval(0.0), interval(-0.3)]}
    difference = {
        "set": "Set5",
        "generator": "amnet_adain",
        "against": "amnet",
        "widths": list(widths),
        "policies": {"true-code": {"psnr": psnr}},
    }
    sheets.append(sheet("Set5", "srmdnf", [31.9, 31.8], widths, modulation=None))
    made = make(both={"sheets": sheets, "differences": [difference]})
    rows = made["table4"]
    check_layout(rows)
    assert rows[0] == ["set", "generator", "layer", "PSNR, dB", "PSNR difference, dB"], "no column stays empty"
    assert rows[2] == ["Set5", "amnet", "AMLayer", "31.50", ""]
    paired = "-0.300 [-0.310, -0.280] over amnet"
    assert rows[3] == ["Set5", "amnet_adain", "AdaIN", "31.20", paired]
    assert len(rows) == 4, "a network with neither layer is none of the table's"
    assert made["generators"][2] == ["Set5", "amnet_adain", "amnet", "1.3, 1.8", "psnr", "-0.100 [-0.110, -0.080]"]
    alone = make(both={"sheets": sheets[::2], "differences": [difference]})
    assert "table4" not in alone and "generators" in alone, "one layer alone is no comparison"


def test_generators_are_compared_once_and_in_the_order_of_the_sets(make):
    widths = [0.2, 1.3, 2.6]
    gains = {"psnr": interval(-0.1), "grid": {**interval(2e-3), "broken": 1}}
    differences = [
        {"set": title, "generator": "b", "against": "a", "widths": widths, "policies": {"true-code": gains}}
        for title in ("BSD100", "Set5")
    ]
    run = {"sheets": [sheet("Set5", "a", [31.0] * 3)], "differences": differences}
    rows = make(run=run, copy=run)["generators"]
    check_layout(rows)
    shown = [["psnr", "-0.100 [-0.110, -0.080]"], ["grid (1 pictures broken and left out)", "+2.000 [-8.000, +22.000]"]]
    assert rows[2:] == [[title, "b", "a", *each] for title in ("Set5", "BSD100") for each in shown]


def test_niqe_gains_beside_the_papers(make):
    agent = {"niqe": entry([4.0, 4.0, 4.0], 0.4), "psnr": entry([30.0, 30.0, 30.0], -0.5)}
    one = sheet("Set5", "amgan", [31.0, 31.0, 31.0], agent=agent)
    one["policies"]["true-code"]["niqe"] = entry([5.0, 5.0, 5.0])
    narrow = sheet("Set5", "amgan", [31.0], widths=(1.8,), agent={"niqe": entry([4.0], 0.9)})
    narrow["policies"]["true-code"]["niqe"] = entry([5.0])
    rows = make(agents=one, narrow=narrow)["niqe_gains"]
    check_layout(rows)
    assert len(rows) == 4, "of other widths elsewhere"
    assert rows[2] == ["Set5", "AMGAN, the paper", "unbounded", "AMGAN-RL", "+0.226", "", ""], (
        "no column without figures"
    )
    agent["niqe"]["broken"] = 2
    assert make(agents=one)["niqe_gains"][3][3] == "agent (2 pictures broken and left out)"
    gain, cost = "**+0.400 [+0.390, +0.420]**", "-0.500 [-0.510, -0.480]"  # in bold where the interval is above 0
    assert rows[3] == ["Set5", "amgan", "code", "agent", gain, "+0.174", cost]
    del agent["niqe"]["broken"]
    more = {**one, "policies": {**one["policies"], "agent": {**agent, "ssim": entry([0.9] * 3, 0.01)}}}
    more["policies"]["true-code"] = {**one["policies"]["true-code"], "ssim": entry([0.9] * 3)}
    both = make(a=one, b=more, agents=one)["niqe_gains"]  # once, with all that is known of it
    assert both[3:] == [["Set5", "amgan", "code", "agent", gain, "+0.174", cost, "+0.010 [+0.000, +0.030]"]]


def test_niqe_gains_are_ranked_within_generator_and_space(make):
    def scored(generator, **gains):
        made = sheet(
            "Set5", generator, [31.0] * 3, **{name: {"niqe": entry([4.0] * 3, g)} for name, g in gains.items()}
        )
        made["policies"]["true-code"]["niqe"] = entry([5.0] * 3)
        return made

    nothing = float("nan")
    rows = make(one=scored("g", low=0.1, none=nothing, high=0.3), two=scored("h", best=0.9), three=scored("g", mid=0.2))
    ranked = [(row[1], row[3]) for row in rows["niqe_gains"][2:]]
    assert ranked[0] == ("AMGAN, the paper", "AMGAN-RL")
    assert ranked[1:] == [*[("g", name) for name in ("high", "mid", "low", "none")], ("h", "best")]


def test_recipes_stand_for_their_seeds(make):
    def scored(gain):
        return {"niqe": entry([4.0] * 3, gain), "grid": entry([1e-4] * 3, gain / 1e3)}

    one = sheet("Set5", "amgan", [31.0] * 3, **{"a/0": scored(0.3), "a/1": scored(0.5), "other": scored(0.1)})
    one["policies"]["true-code"] |= {"niqe": entry([5.0] * 3), "grid": entry([1e-4] * 3)}

    def recipe(gain, **more):
        of = {"gain": interval(gain), "gain_by_width": [interval(gain)] * 3, "gain_by_seed": [gain, gain], "over": more}
        small = {
            "gain": interval(gain / 1e3),
            "gain_by_width": [interval(gain / 1e3)] * 3,
            "gain_by_seed": [0, 0],
            "over": {name: interval(each["mean"] / 1e3) for name, each in more.items()},
        }
        return {"agents": ["a/0", "a/1"], "metrics": {"niqe": of, "grid": small}}

    one["recipes"] = {"a": recipe(0.4), "b": recipe(0.2, a=interval(0.2))}
    made = make(agents=one)
    check_layout(made["niqe_gains"])
    assert [row[3] for row in made["niqe_gains"][3:]] == ["a, 2 seeds", "b, 2 seeds", "other"]
    (best,) = (row for row in made["niqe_gains"] if row[3] == "a, 2 seeds")
    assert best[4:6] == ["**+0.400 [+0.390, +0.420]**", "+0.174"]
    assert best[-1] == "+0.400 [-9.600, +20.400]"  # grid in thousandths
    rows = [row for row in made["recipes"] if row[0] == "Set5"]
    assert [row[3:7] for row in rows[:4:2]] == [
        ["a", "2", "niqe", "**+0.400 [+0.390, +0.420]**"],
        ["b", "2", "niqe", "**+0.200 [+0.190, +0.220]**"],
    ]
    assert rows[1][5] == "grid, 1e-3" and rows[0][7] == "; ".join(["**+0.400 [+0.390, +0.420]**"] * 3)
    assert rows[1][7] == "; ".join(["+0.400 [-9.600, +20.400]"] * 3)
    assert [row[3:] for row in rows[4:]] == [
        ["b", "a", "2 / 2", "niqe", "**+0.200 [+0.190, +0.220]**"],
        ["b", "a", "2 / 2", "grid, 1e-3", "+0.200 [-9.800, +20.200]"],
    ]
    narrow = sheet("Set5", "amgan", [31.0], widths=(1.8,), **{"a/0": {}, "a/1": {}}) | {"recipes": one["recipes"]}
    rows = make(agents=one, narrow=narrow)["recipes"]
    assert rows[0][3:5] == ["widths", "recipe"] and {row[3] for row in rows if row[4] == "a"} == {"", "1.8"}
    (make.folder / "narrow.json").unlink()
    one["recipes"]["a"]["agents"] = ["a/0"]
    one["recipes"]["lr 1e-3 | wide"] = recipe(0.2, a=interval(0.2))
    rows = [row for row in make(agents=one)["recipes"] if row[0] == "Set5"]
    assert rows[-2][-4:] == ["a", "2 / 1", "niqe", "+0.200 [+0.190, +0.220]"], "no bold where one has a single seed"
    assert r"| lr 1e-3 \| wide | a |" in (make.folder / "out" / "recipes.md").read_text()


def test_gaussian8(make):
    blind = {"psnr": entry([31.0] * 8, -1.0)}
    rows = make(g8=sheet("Set5", "amnet", [32.0] * 8, GAUSSIAN8, predictor=blind))["gaussian8"]
    check_layout(rows)
    assert rows[2][2:4] == ["AMNet-RL", "32.27"]
    assert rows[3][2:] == ["true-code", "32.00", "", "-0.27"]
    assert rows[4][2:] == ["predictor", "31.00", "-1.000 [-1.010, -0.980]", "-1.27"]


def test_hacking(make):
    def generator(niqe):
        result = {
            "reward": interval(niqe),
            "gain": {"psnr": interval(-0.5)},
            "scores": {"niqe": 4, "psnr": 29.5, "grid": 7e-3},
        }
        true = {"niqe": 5.0, "psnr": 30.0, "grid": 3e-5}
        return {"true_code": true, "actions": {"free-code": result}}

    figures = {
        "kind": "hack",
        "metric": "niqe",
        "photos": ["a", "b"],
        "scenes": 8,
        "renders": 16,
        "generators": {"plain": generator(1.5), "hard": generator(0.3)},
        "differences": [
            {
                "generator": "hard",
                "against": "plain",
                "true_psnr": interval(-0.04),
                "reward": {"free-code": interval(-1.2)},
            }
        ],
    }
    other = {**figures, "generators": {"third": generator(0.1)}, "differences": []}
    rows = make(hack=figures, later=other)["hacking"]
    gain = "+1.500 [+1.490, +1.520]"
    assert rows[2] == ["plain", "free-code", gain, "-0.500 [-0.510, -0.480]", "7.000", "0.030", "30.00"]
    assert [row[0] for row in rows[2:5]] == ["plain", "hard", "third"], "one table for all runs alike"
    assert (make.folder / "out" / "hacking.md").read_text().count("was learned to improve niqe") == 1
    assert rows[7][:4] == ["hard", "plain", "PSNR of the true code, dB", "-0.040 [-0.050, -0.020]"]
    assert rows[8][2:] == ["niqe gain in free-code", "-1.200 [-1.210, -1.180]", "0.20"]
    nothing = {**figures, "renders": 32, "generators": {"plain": generator(-0.3), "hard": generator(0.3)}}
    again = make(hack=figures, later=nothing)["hacking"]
    assert (make.folder / "out" / "hacking.md").read_text().count("was learned to improve niqe") == 2, "other budgets"
    assert [row[4] for row in again if row[:2] == ["hard", "plain"]] == ["", "0.20", "", ""], "no share of a loss"
    small = generator(1.5e-4)
    small["actions"]["free-code"]["reward"] = {"mean": 1.5e-4, "low": 1e-4, "high": 2e-4, "count": 2}
    told, old = {"held_out": "Set5", "patch_size": [72, 96]}, {"held_out": None, "patch_size": 64}
    others = [{**other, **told}, {**other, **told, "patch_size": 64}, {**other, **told, "photos": ["c", "d"]}]
    by_config = {"figures": other, "config": old}
    make(hack=by_config, later=by_config, **{f"o{number}": each for number, each in enumerate(others)})
    text = (make.folder / "out" / "hacking.md").read_text()
    assert text.count("2 photos of built-in, patches of 64 x 64; gains") == 1, "one table, as its config tells"
    assert text.count("2 photos of Set5, patches of 72 x 96; gains") == 2, "of other photos another table"
    assert text.count("2 photos of Set5, patches of 64 x 64; gains") == 1
    for number in range(len(others)):
        (make.folder / f"o{number}.json").unlink()
    rows = make(hack={**figures, "metric": "grid", "generators": {"plain": small}, "differences": []})["hacking"]
    assert rows[0][2] == "grid, 1e-3 gain" and rows[2][2] == "+0.150 [+0.100, +0.200]"


def test_what_is_not_ours_in_a_folder_is_passed_over(make):
    (make.folder / "c.json").mkdir()
    for name, text in (("made_by.json", '{"a.png": {"figures": 1}}'), ("list.json", "[1]"), ("cut.json", "{")):
        (make.folder / name).write_text(text)
    with pytest.warns(UserWarning) as warned:
        made = make(a=sheet("Set5", "amnet", [32.0, 32.1, 32.2]))
    assert ["Set5", "amnet, ours"] in [row[:2] for row in made["table1"]]
    said = [str(each.message) for each in warned if "passed over" in str(each.message)]
    assert [message.split("/")[-1].split()[0] for message in said] == ["cut.json", "list.json", "made_by.json"]


@pytest.mark.parametrize("lost", ["generator", "widths", "policies", "gain", "width", "recipe"])
def test_a_damaged_results_file_is_named(tmp_path, capsys, lost):
    damaged = sheet("Set5", "amnet", [32.0, 32.1, 32.2])
    if lost in damaged:
        del damaged[lost]
    psnr = damaged.get("policies", {"true-code": {"psnr": {}}})["true-code"]["psnr"]
    if lost == "gain":
        del psnr["gain"]
    if lost == "width":
        psnr["mean_by_width"].pop()
    if lost == "recipe":
        damaged["recipes"] = {"r": {"agents": ["r/0"], "metrics": {"psnr": {}}}}
    figures = {"sheets": [damaged], "differences": []}
    (tmp_path / "a.json").write_text(json.dumps({"figures": figures, "config": {}}))
    for place in (tmp_path, tmp_path / "a.json"):
        assert cli.main(["tables", "--results", str(place), "--output", "null"]) == 2
        assert "a.json holds no results of a blindsr command: remove it, or run it again" in capsys.readouterr().err


def test_null_is_read_as_a_number_that_is_none(make):
    agent = {"niqe": entry([4.0] * 3, 0.4)}
    agent["niqe"]["gain"] |= {"low": None, "high": None}
    one = sheet("Set5", "amgan", [31.0] * 3, agent=agent)
    one["policies"]["true-code"] |= {"niqe": entry([5.0] * 3)}
    assert make(a=one)["niqe_gains"][3][4] == "+0.400 [?]"


def test_mistakes_are_named(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.json").write_text("[1]")
    for place, message in (("empty", "no figures"), ("list.json", "no results"), ("none.json", "no results file")):
        assert cli.main(["tables", "--results", str(tmp_path / place), "--output", "null"]) == 2
        assert message in capsys.readouterr().err
