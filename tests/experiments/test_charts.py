"""Charts from made-up results: the figures drawn are those of the files."""

import json
import warnings

import numpy as np
import pytest

from blindsr_env import images
from experiments import charts, cli, paper
from experiments.charts import Plot, plot
from experiments.sheets import Result


def interval(mean):
    return {"mean": mean, "low": mean - 0.1, "high": mean + 0.2, "count": 5}


def entry(by_width, gain=0.0):
    return {"mean": float(np.mean(by_width)), "mean_by_width": by_width, "gain": interval(gain)}


WIDTHS = [0.2, 1.3, 2.6]
SHEET = {
    "set": "Set5",
    "generator": "amnet",
    "widths": WIDTHS,
    "policies": {
        "true-code": {"psnr": entry([32.0, 32.1, 31.9]), "niqe": entry([5.0, 5.0, 5.0])},
        "agent": {"psnr": entry([31.0, 31.0, 31.0], -1.0), "niqe": entry([4.5, 4.5, 4.5], 0.5)},
    },
}
HACKED = {"reward": interval(1.5), "gain": {"psnr": interval(-0.5)}, "scores": {"grid": 7e-3}}
HACK = {
    "kind": "hack",
    "metric": "niqe",
    "generators": {
        "plain": {"true_code": {"grid": 3e-5}, "actions": {"code": HACKED, "free-code": HACKED}},
        "hard": {"true_code": {"grid": 3e-5}, "actions": {"code": HACKED}},
    },
}


def result(figures):
    return Result("r.json", figures, {"action": "code"})


def test_psnr_by_width_joins_a_generators_files_and_shows_the_paper():
    other = {**SHEET, "widths": [1.8], "policies": {"true-code": {"psnr": entry([32.05])}}}
    more = {**SHEET, "widths": [1.8, 3.0], "policies": {"true-code": {"psnr": entry([32.05, 31.0])}}}
    figure = charts.true_code([result(SHEET), result(more), result(other)], Plot())
    lines = {line.get_label(): line.get_xydata().tolist() for line in figure.axes[0].lines}
    assert lines["amnet"] == [[0.2, 32.0], [1.3, 32.1], [1.8, 32.05], [2.6, 31.9], [3.0, 31.0]]
    assert lines["AMNet, the paper"] == [list(pair) for pair in paper.AMNET_PSNR["Set5"].items()]
    assert charts.true_code([result(other)], Plot()) is None, "one width is no curve"


def test_fifty_generators_differ_beside_a_legend_that_hides_no_panel():
    several = [{**SHEET, "set": title, "generator": f"g{i}"} for title in ("Set5", "Set14") for i in range(50)]
    figure = charts.true_code([result(sheet) for sheet in several], Plot())
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    looks = []
    for axes in figure.axes:
        assert box.x0 > axes.get_window_extent().x1 and box.y0 > 0 and box.y1 < figure.bbox.y1
        ours = [line for line in axes.lines if line.get_label().startswith("g")]
        looks.append({line.get_label(): (str(line._dash_pattern), line.get_color()) for line in ours})
    assert looks[0] == looks[1] and len(set(looks[0].values())) == 50, "the same in every panel"
    assert {text.get_text() for text in legend.get_texts()} >= {*looks[0], "AMNet, the paper"}


def shown(axes):
    """Give the points of a price chart, in the order drawn."""
    return [line for line in axes.lines if len(line.get_xdata()) == 1 and line.get_marker() not in ("+", "|", "_")]


def named(axes):
    """Give the names that a legend shows."""
    return set(axes.get_legend_handles_labels()[1])


def test_price_has_a_point_a_policy_with_its_intervals():
    (axes,) = charts.price([result(SHEET)], Plot()).axes
    (bars,) = axes.containers
    _, _, (across, up) = bars.lines
    (point,) = shown(axes)
    assert point.get_xydata().tolist() == [[-1.0, 0.5]] and point.get_markerfacecolor() == "white", "a single agent"
    np.testing.assert_allclose(across.get_segments()[0], [[-1.1, 0.5], [-0.8, 0.5]])
    np.testing.assert_allclose(up.get_segments()[0], [[-1.0, 0.4], [-1.0, 0.7]])


def test_a_policy_of_several_files_is_one_point_and_the_eleventh_has_another_marker():
    (name,) = [name for name in SHEET["policies"] if name != "true-code"]
    many = {f"p{i}": SHEET["policies"][name] for i in range(11)} | {"true-code": SHEET["policies"]["true-code"]}
    several = {**SHEET, "set": "Set14"}  # of several sets a legend names the points
    results = [result(SHEET), result({**SHEET, "policies": many}), result(SHEET), result(several)]
    axes, _ = charts.price(results, Plot()).axes
    assert len(axes.containers) == 12
    assert len({(point.get_marker(), point.get_color()) for point in shown(axes)}) == 12
    assert set(axes.get_legend_handles_labels()[1]) >= {"p0", name}, "one generator: it is in the title"
    assert f"on Set5 (generator {SHEET['generator']});" in axes.get_title()
    other = charts.price([result(SHEET), result({**SHEET, "generator": "other"}), result(several)], Plot())
    assert f"other, code: {name}" in other.axes[0].get_legend_handles_labels()[1]


def test_other_widths_have_a_panel_of_their_own_without_the_papers_line():
    narrow = {**SHEET, "widths": [2.6]}
    narrow["policies"] = {
        "true-code": {"psnr": entry([31.9]), "niqe": entry([5.0])},
        "agent": {"psnr": entry([31.0], -3.0), "niqe": entry([4.5], 0.9)},
    }
    of_paper, other = charts.price([result(SHEET), result(narrow)], Plot()).axes
    assert [point.get_xydata().tolist() for axes in (of_paper, other) for point in shown(axes)] == [
        [[-1.0, 0.5]],
        [[-3.0, 0.9]],
    ]
    assert "on Set5 " in of_paper.get_title() and "on Set5, widths 2.6 " in other.get_title()
    dashed = [any(line.get_linestyle() == "--" for line in axes.lines) for axes in (of_paper, other)]
    assert dashed == [True, False]


def seeded(name, seeds, gain):
    gains = {"niqe": {"gain": interval(gain)}, "psnr": {"gain": interval(-0.2)}}
    agents = [f"{name}/{seed}" for seed in seeds]
    policies = {"true-code": SHEET["policies"]["true-code"]} | {agent: SHEET["policies"]["agent"] for agent in agents}
    return result({**SHEET, "policies": policies, "recipes": {name: {"agents": agents, "metrics": gains}}})


def test_a_recipe_is_drawn_with_the_most_of_its_seeds():
    files = [seeded("r", (0, 1), 0.3), seeded("r", (0, 1, 2), 0.4)]
    for results in (files, files[::-1]):
        (axes,) = charts.price(results, Plot(policies=("r",))).axes
        assert [point.get_ydata()[0] for point in shown(axes)] == [0.4]
        assert "r, 3 seeds" in named(axes)


def test_other_seeds_and_a_policy_of_a_recipes_name_are_told_apart():
    agent = {"true-code": SHEET["policies"]["true-code"], "r": SHEET["policies"]["agent"]}
    files = [seeded("r", (0, 1), 0.3), seeded("r", (2, 3), 0.4), result({**SHEET, "policies": agent})]
    (axes,) = charts.price(files, Plot(policies=("r",))).axes
    assert named(axes) >= {"r, seeds 0, 1", "r, seeds 2, 3", "r"}
    assert len({point.get_color() for point in shown(axes)}) == 3
    assert not [line for line in axes.lines if len(line.get_xdata()) > 2], "no shares of one agent"


def test_names_are_no_shares(tmp_path, monkeypatch):
    agent = SHEET["policies"]["agent"]
    sheet = {**SHEET, "policies": {"true-code": SHEET["policies"]["true-code"], "sac@3": agent, "rl@0.5": agent}}
    (tmp_path / "rl@0.5").touch()
    monkeypatch.chdir(tmp_path)
    (axes,) = charts.price([seeded("ddpg@28000", (0, 1), 0.3), result(sheet)], Plot()).axes
    assert named(axes) >= {"ddpg@28000, 2 seeds", "sac@3", "rl"}
    assert [text.get_text() for text in axes.texts] == ["1/2"]


def test_no_two_policies_of_a_price_chart_look_alike():
    agent, true = SHEET["policies"]["agent"], {"true-code": SHEET["policies"]["true-code"]}
    shared = true | {"predictor": agent}
    sheets = [
        {**SHEET, "generator": f"g{i}", "policies": shared | {f"p{i}.{j}": agent for j in range(8)}} for i in range(9)
    ]
    figure = charts.price([result(sheet) for sheet in sheets], Plot())
    (axes,) = figure.axes
    assert len({(point.get_marker(), point.get_color()) for point in shown(axes)}) == len(shown(axes)) == 81
    figure.draw_without_rendering()
    assert figure.legends[0].get_window_extent().x0 > axes.get_tightbbox().x1
    assert figure.legends[0].get_window_extent().y0 > 0, "all of it is there"


def test_price_joins_the_shares_of_an_agent_from_the_prediction_and_labels_them():
    def at(psnr, niqe):
        return {"psnr": entry([31.0] * 3, psnr), "niqe": entry([4.5] * 3, niqe)}

    names = {"predictor": at(-0.1, -0.1), "rl": at(-2.0, 1.0), "rl@0.5": at(-1.0, 0.6), "rl@0.25": at(-0.5, 0.3)}
    sheet = {**SHEET, "policies": {"true-code": SHEET["policies"]["true-code"], **names}}
    (axes,) = charts.price([result(sheet)], Plot()).axes
    (way,) = [line for line in axes.lines if len(line.get_xdata()) == 4]
    assert way.get_xydata().tolist() == [[-0.1, -0.1], [-0.5, 0.3], [-1.0, 0.6], [-2.0, 1.0]]
    labels = {text.get_text(): text.xy for text in axes.texts}
    assert labels == {"1/2": (-1.0, 0.6), "1/4": (-0.5, 0.3)}
    assert named(axes) == {"rl", "predictor", "true code", "the paper's AMGAN-RL: another generator, PSNR unknown"}
    assert axes.get_legend_handles_labels()[1][0] == "rl", "the best NIQE first"
    assert len({point.get_color() for point in shown(axes)}) == 2, "a colour an agent, grey for the predictor"


def test_plot_shows_what_is_asked_for(tmp_path):
    sheets = {f"{kind}{i}": SHEET["policies"]["agent"] for kind in ("a", "b") for i in range(2)}
    one = {**SHEET, "policies": {"true-code": SHEET["policies"]["true-code"], **sheets}}
    results = [result(one), result({**one, "set": "Set14"}), result({**one, "generator": "other"})]
    (axes,) = charts.price(results, Plot(set="Set5", policies=("a0",))).axes
    assert named(axes) >= {"amnet, code: a0", "other, code: a0"}
    (axes,) = charts.price(results, Plot(set="Set5", generator="amnet", policies=("a*", "b1"))).axes
    assert named(axes) >= {"a0", "a1", "b1"} and len(shown(axes)) == 3
    free = Result("free.json", one, {"action": "free-code"})
    (axes,) = charts.price([result(one), free], Plot(action="free-code", policies=("a0",))).axes
    assert "actions free-code" in axes.get_title() and len(shown(axes)) == 1
    (tmp_path / "a.json").write_text(json.dumps({"figures": one, "config": {}}))
    drawn = plot(Plot(results=str(tmp_path), output=str(tmp_path), charts=("price",)))
    assert [path.name for path in drawn] == ["price.png"]
    with pytest.raises(ValueError, match="unknown chart 'prize': did you mean 'price'"):
        Plot(charts=("prize",))


def test_hacking_has_a_bar_a_generator_and_space():
    figure = charts.hacking([result(HACK)], Plot())
    heights = [[bar.get_height() for bar in axes.patches] for axes in figure.axes]
    assert heights == [[1.5] * 3, [-0.5] * 3, [7.0] * 3]
    assert [line.get_ydata() for line in figure.axes[2].lines] == [pytest.approx([0.03, 0.03])] * 2, "the true code's"
    centres = [bar.get_x() + bar.get_width() / 2 for bar in figure.axes[0].patches]
    np.testing.assert_allclose(centres, [-0.2, 0.8, 0.2])
    figure.draw_without_rendering()
    ticks = [label.get_text() for which in ("major", "minor") for label in figure.axes[2].get_yticklabels(which=which)]
    assert "0.1" in ticks and not any("$" in tick for tick in ticks)


def test_hacking_has_a_row_a_metric_and_tells_files_apart():
    louder = {**HACKED, "reward": {**interval(2.5), "low": 2.5000001}}  # an end above the mean, by rounding
    again = {**HACK, "generators": {"plain": {"true_code": {"grid": 3e-5}, "actions": {"code": louder}}}}
    runs = [result(HACK), Result("again.json", again, {}), Result("ssim.json", {**again, "metric": "ssim"}, {})]
    figure = charts.hacking([*runs, Result("copy.json", HACK, {})], Plot())
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[0] == "niqe gain" and titles[3] == "ssim gain" and len(titles) == 6
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["plain", "hard", "plain (again)"]
    assert sorted(bar.get_height() for bar in figure.axes[0].patches) == [1.5, 1.5, 1.5, 2.5]
    with pytest.raises(ValueError, match="two files again.json"):
        other = {**again, "generators": {"plain": HACK["generators"]["hard"]}}
        charts.hacking([*runs[:2], Result("again.json", other, {})], Plot())


def test_search_has_a_line_a_start_and_its_policy_alone_dotted():
    start = {"reward": [interval(0.5), interval(1.0)], "curve": [0.5, 0.7, 1.0]}
    figures = {"kind": "search", "generator": "g", "action": "code", "metric": "niqe", "budgets": [1, 3]}
    figures |= {"photos": ["a", "b"], "starts": {"true-code": start, "agent.safetensors": start}}
    (axes,) = charts.searches([result(figures)], Plot()).axes
    lines = {line.get_label(): line for line in axes.lines}
    assert lines["search from agent.safetensors"].get_xydata().tolist() == [[1, 0.5], [2, 0.7], [3, 1.0]]
    assert lines["agent.safetensors alone"].get_linestyle() == ":" and "true-code alone" not in lines
    crops = {**figures, "patch_size": [72, 96], "widths": [0.2, 1.3], "views": 4}
    whole = {**figures, "patch_size": None, "widths": [0.2, 1.3, 2.6]}
    runs = [Result("a.json", crops, {"images": "Set5"}), Result("b.json", whole, {}), Result("c.json", crops, {})]
    figure = charts.searches(runs, Plot())
    titles = [axes.get_title().replace("\n", " ") for axes in figure.axes]
    assert "g, code, 2 photos of Set5, patches of 72 x 96, widths 0.2, 1.3: best" in titles[0]
    assert "2 photos of built-in, whole photos, widths 0.2, 1.3, 2.6: best" in titles[1]
    figure.draw_without_rendering()
    boxes = [axes.title.get_window_extent() for axes in figure.axes]
    assert not any(one.overlaps(other) for one, other in zip(boxes, boxes[1:], strict=False))


def test_offsets_and_searches_are_chosen_by_set_generator_and_space_too(tmp_path):
    start = {"reward": [interval(0.5)], "curve": [0.5]}
    search = {"kind": "search", "generator": "amgan", "action": "free-code", "metric": "niqe", "budgets": [1]}
    search |= {"photos": ["a"], "starts": {"true-code": start}}
    runs = [Result("a.json", search, {"images": "Set5"}), Result("b.json", search, {}), result(HACK)]
    assert len(charts.searches(runs, Plot()).axes) == 2
    for chosen, title in (({"set": "Set5"}, "photos of Set5"), ({"set": "built-in"}, "photos of built-in")):
        (axes,) = charts.searches(runs, Plot(**chosen)).axes
        assert title in axes.get_title()
    assert charts.searches(runs, Plot(generator="plain")) is None is charts.hacking(runs, Plot(set="Set5"))
    learned_elsewhere = Result("r.json", HACK, {"images": "Set14", "held_out": "Set5"})
    assert charts.hacking([learned_elsewhere], Plot(set="Set14")) is None
    assert charts.hacking([learned_elsewhere], Plot(set="Set5"))
    figure = charts.hacking(runs, Plot(action="free-code"))
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["plain"]
    assert len(figure.axes[0].patches) == 1
    for name, figures in (("s", search), ("h", HACK)):
        (tmp_path / f"{name}.json").write_text(json.dumps({"figures": figures, "config": {"images": "Set5"}}))
    drawn = plot(Plot(results=str(tmp_path), output=str(tmp_path), generator="amgan"))
    assert [path.name for path in drawn] == ["searches.png"]
    with pytest.raises(ValueError, match="unknown generator 'amgen': did you mean 'amgan'"):
        plot(Plot(results=str(tmp_path), output=str(tmp_path), generator="amgen"))


def test_who_broke_a_metric_on_every_picture_has_no_place_in_the_price_chart():
    agent, nothing = SHEET["policies"]["agent"], {**entry([4.5] * 3), "gain": dict.fromkeys(interval(0), float("nan"))}
    broken = {"niqe": nothing, "psnr": nothing}
    sheet = {**SHEET, "policies": {"true-code": SHEET["policies"]["true-code"], "rl@0.5": agent, "rl": broken}}
    (axes,) = charts.price([result(sheet)], Plot()).axes
    assert [point.get_xydata().tolist() for point in shown(axes)] == [[[-1.0, 0.5]]]
    assert charts.price([result(sheet)], Plot(policies=("rl",))) is None


def test_other_scales_do_not_stand_beside_the_paper():
    twice = {**SHEET, "architecture": {"scale": 2}}
    assert charts.true_code([result(twice)], Plot()) is None


def test_files_are_written_for_what_is_there(tmp_path, capsys):
    (tmp_path / "a.json").write_text(json.dumps({"figures": SHEET, "config": {}}))
    drawn = plot(Plot(results=str(tmp_path), output=str(tmp_path / "out")))
    assert [path.name for path in drawn] == ["true_code.png", "price.png"]
    assert all(images.read(path).std() > 10 for path in drawn)
    with pytest.raises(ValueError, match="unknown set 'Set4': did you mean 'Set5'"):
        plot(Plot(results=str(tmp_path), output=str(tmp_path / "out"), set="Set4"))
    (tmp_path / "a.json").write_text(json.dumps({"figures": {**SHEET, "generator": "from $5_to_$6"}, "config": {}}))
    assert len(plot(Plot(results=str(tmp_path), output=str(tmp_path / "out")))) == 2
    (tmp_path / "a.json").write_text(json.dumps({"figures": {"timesteps": 3}, "config": {}}))
    assert cli.main(["plot", "--results", str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    assert "no figures for a chart" in capsys.readouterr().err
    assert cli.main(["plot", "--results", str(tmp_path), "--set", "Set5"]) == 2
    assert "no figures for a chart" in capsys.readouterr().err


def test_nothing_to_draw():
    assert all(draw([result({"timesteps": 3})], Plot()) is None for draw in charts.CHARTS.values())


def test_dozens_of_learning_curves_differ_beside_a_legend_that_hides_none():
    def recipe(renders):
        curve = {"metric": "niqe", "generator": "g", "renders": [10.0, renders], "by_seed": [[0.0, 1.0]]}
        return {"agents": ["agent"], "metrics": {}, "curves": {"reward": curve}}

    many = {**SHEET, "recipes": {f"recipe {i}": recipe(1e3 if i else 1e5) for i in range(45)}}
    figure = charts.learning([result(many)], Plot())
    (axes,) = figure.axes
    assert len({(str(line._dash_pattern), line.get_color()) for line in axes.lines}) == 45
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # layout given up
        figure.draw_without_rendering()
    legend, whole = axes.get_legend().get_window_extent(), figure.bbox
    assert legend.x0 >= axes.get_window_extent().x1 and legend.y0 > whole.y0 and legend.x1 < whole.x1
    assert axes.get_xscale() == "log" and not any("$" in tick.get_text() for tick in axes.get_xticklabels())


def test_learning_curves_and_prices_of_recipes():
    curve = {
        "metric": "niqe",
        "generator": "amgan",
        "renders": [10.0, 20.0, 30.0],
        "by_seed": [[0.0, 1.0, 2.0], [2.0, None, 4.0]],
    }
    gains = {"niqe": {"gain": interval(0.7)}, "psnr": {"gain": interval(-0.2)}}
    recipe = {"agents": ["agent", "agent/1"], "metrics": gains, "curves": {"reward": curve}}
    results = [Result("a.json", {**SHEET, "recipes": {"ours": recipe}}, {})]
    (axes,) = charts.learning(results, Plot()).axes
    assert axes.lines[0].get_xydata().tolist() == [[10.0, 1.0], [30.0, 3.0]]  # where all seeds have a figure
    (band,) = axes.collections
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices.tolist()}
    assert corners == {(10.0, 0.0), (10.0, 2.0), (30.0, 2.0), (30.0, 4.0)}, "from the least seed to the most"
    assert axes.get_legend().get_texts()[0].get_text() == "amgan, code: ours, 2 seeds"
    assert axes.get_title() == "reward, niqe, while training"
    (axes,) = charts.price(results, Plot()).axes
    (point,) = shown(axes)
    assert point.get_xydata().tolist() == [[-0.2, 0.7]]  # the recipe, and not its seeds
    assert point.get_markerfacecolor() == point.get_color(), "filled: several seeds"
    assert charts.learning([Result("a.json", SHEET, {})], Plot()) is None
    nothing = {"reward": {**curve, "by_seed": [[0.0, 0.0, 0.0]] * 2}}
    other = Result("b.json", {**SHEET, "recipes": {"ours": {**recipe, "curves": nothing}}}, {})
    with pytest.warns(UserWarning, match="different learning curves of amgan, code: ours, the first is drawn"):
        (axes,) = charts.learning([*results, other], Plot()).axes
    assert axes.lines[0].get_xydata().tolist() == [[10.0, 1.0], [30.0, 3.0]]
    three = {"reward": {**curve, "by_seed": [*curve["by_seed"], [4.0, 4.0, 6.0]]}}
    more = {**recipe, "agents": [*recipe["agents"], "agent/2"], "curves": three}
    both = [*results, Result("c.json", {**SHEET, "recipes": {"ours": more}}, {})]
    for found in (both, both[::-1]):
        (axes,) = charts.learning(found, Plot()).axes
        assert axes.lines[0].get_xydata().tolist() == [[10.0, 2.0], [30.0, 4.0]], "that of more seeds, unremarked"
