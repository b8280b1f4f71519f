"""`blindsr search` at a toy budget: its figures follow from the rewards that it writes."""

import json
import shutil

import numpy as np
import pytest
import torch

from agents import checkpoints, networks
from agents.meaning import ActionMeaning
from blindsr_env import images, metrics
from experiments import cli
from experiments import search as module
from experiments.findings import ALWAYS
from experiments.held_out import HeldOut
from experiments.search import Search, search
from experiments.train_agent import TrainAgent, train_agent
from generators import CheckpointError


@pytest.fixture
def settings(tmp_path, photo, tiny_checkpoint):
    for seed in range(2):
        images.write(tmp_path / "photos" / f"p{seed}.png", photo(110, 120, seed))

    def settings(**changes):
        common = dict(
            images=str(tmp_path / "photos"), generator=tiny_checkpoint, metric="psnr", report=("psnr", "grid")
        )
        common |= dict(patch_size=24, scenes=3, budgets=(1, 4, 9), population=4, starts=("mean-code",), device="cpu")
        return Search(**(common | {"output": str(tmp_path / "out" / "search.json")} | changes))

    return settings


def test_figures_follow_from_the_rewards(settings, tmp_path, capsys):
    figures = search(settings())
    saved = json.loads((tmp_path / "out" / "search.json").read_text())
    assert saved["figures"] == figures and {"config", "environment", "seed", "commit"} <= set(saved)
    assert str(tmp_path) not in (tmp_path / "out" / "search.json").read_text(), "no path of this machine"
    assert list(figures["starts"]) == ["true-code", "predictor", "mean-code"]

    def mean(values):  # of three scenes the first and the last are of one photo
        return (np.mean([values[0], values[2]], axis=0) + values[1]) / 2

    ends = {name: np.array(of["rewards"])[:, -1] for name, of in figures["starts"].items()}
    best = np.maximum(ends["true-code"], ends["predictor"])  # the search from scratch has no say
    assert figures["best"]["mean"] == pytest.approx(mean(best))
    for of in figures["starts"].values():
        rewards = np.array(of["rewards"])
        assert rewards.shape == (3, 3) and (np.diff(rewards, axis=1) >= 0).all()
        assert [entry["mean"] for entry in of["reward"]] == pytest.approx(mean(rewards))
        assert all(entry["count"] == 2 for entry in (*of["reward"], *of["normalised"]))
        shares = [entry["mean"] for entry in of["normalised"]]
        assert shares == pytest.approx(mean(rewards) / mean(best))
        assert [of["curve"][i] for i in (0, 3, 8)] == pytest.approx(mean(rewards))
        assert list(of["price"]["found"]) == ["grid"]
    assert np.abs(np.array(figures["starts"]["true-code"]["rewards"])[:, 0]).max() < 1e-3
    picture = images.read(tmp_path / "out" / "search.png")
    assert picture.shape[1] > 500 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 50
    printed = capsys.readouterr().out
    assert "mean-code" in printed and "renders per image" in printed and "price" in printed


def test_starts_bring_their_generator_and_files_their_content(settings, tmp_path, tiny_checkpoint, louder):
    few = dict(scenes=1, budgets=(1,), starts=("mean-code",))
    assert search(settings(generator=None, starts=("amgan_rl",), scenes=1, budgets=(1,)))["generator"] == "amgan"
    assert search(settings(generator=None, predictor="amgan_rl", **few))["generator"] == "amgan"
    assert search(settings(generator=None, **few))["generator"] == "amgan_s"
    with pytest.raises(ValueError, match="amgan_rl learned on amgan, amgan_rl_s on amgan_s: say which one"):
        search(settings(generator=None, starts=("amgan_rl", "amgan_rl_s")))
    given = []
    for place, source in enumerate((tiny_checkpoint, louder)):
        (tmp_path / str(place)).mkdir()
        given.append(str(shutil.copy(source, tmp_path / str(place) / "g.safetensors")))
    output = str(tmp_path / "files.json")
    for generator, found in ((given[0], "files.json"), (given[1], "files_2.json"), (given[0], "files.json")):
        figures = search(settings(generator=generator, output=output, **few))
        saved = json.loads((tmp_path / found).read_text())["figures"]
        assert json.dumps(saved) == json.dumps(figures).replace("NaN", "null"), "JSON has no NaN"
    assert len(list(tmp_path.glob("files*.json"))) == 2


def test_searches_are_asked_for_what_the_settings_say(settings, monkeypatch):
    asked, codes = [], module.search_codes
    monkeypatch.setattr(module, "search_codes", lambda *given, **how: asked.append(how) or codes(*given, **how))
    search(settings(scenes=18, seed=5, views=2, budgets=(1, 3), starts=("mean-code", "random"), output=None))
    assert [(how["step"], how["seed"]) for how in asked] == [
        (step, seed) for step in (1.0, 1.0, 3.0, 3.0) for seed in (5, 5 + 16)
    ], "wider where nothing is known of the scene, and no two batches by the same random numbers"
    assert {(how["renders"], how["population"], len(how["views"])) for how in asked} == {(3, 4, 1)}


def test_a_run_is_known_by_what_its_files_hold(settings, tmp_path, photo, tiny_generator, tiny_checkpoint, louder):
    def write(what, seed):
        torch.manual_seed(seed)
        path = tmp_path / f"{what}.safetensors"
        if what == "metrics":
            (tmp_path / "weights").write_text(str(seed))
        elif what == "images":
            images.write(tmp_path / "photos" / "p0.png", photo(110, 120, seed))
        elif what == "generator":
            shutil.copy((tiny_checkpoint, louder)[seed], path)
        else:
            meaning = ActionMeaning.of_generator(tiny_generator)
            checkpoints.save_predictor(path, networks.build("predictor_s"), meaning, {})
        return str(path)

    files = {what: write(what, 0) for what in ("images", "generator", "metrics", "predictor", "starts")}
    names = {"generator": files["generator"], "predictor": files["predictor"], "starts": (files["starts"],)}
    made = settings(report=("psnr", f"lpips@{tmp_path / 'weights'}"), **names)
    for what in files:
        before, _ = module._identity(made, 4), write(what, 1)
        after = module._identity(made, 4)
        assert before.keys() == files.keys() and {key for key in files if before[key] != after[key]} == {what}


def test_one_is_the_better_search_of_each_scene(settings, monkeypatch):
    # What each search ends at, made up: the prediction's is better in the second scene, the third start's in all.
    ends = iter([[1.0, 2.0, 1.0, 0.0], [0.0, 4.0, 1.0, 0.0], [9.0, 9.0, 9.0, 9.0]])

    def climbs(scenes, views, begun, made, step):
        return torch.zeros(begun.action.shape), np.array(next(ends))[:, None]

    monkeypatch.setattr("experiments.search._climb", climbs)
    figures = search(settings(budgets=(1,), scenes=4, output=None))
    assert figures["best"]["mean"] == pytest.approx((1 + 4 + 1 + 0) / 4)
    shares = {name: of["normalised"][0]["mean"] for name, of in figures["starts"].items()}
    assert shares == pytest.approx({"true-code": 4 / 6, "predictor": 5 / 6, "mean-code": 36 / 6})


def test_the_best_code_is_not_picked_by_the_views_that_judge_it(settings, monkeypatch):
    """Or the luck of their pixels would count as skill."""
    searched = iter([[1.0, 0.0], [0.0, 1.0]])  # the true code's search, then the prediction's
    judged = iter([[0.0, 0.0], [0.1, 0.2], [0.0, 0.0], [5.0, 0.4]])  # of each its start, then what it found
    monkeypatch.setattr(
        module, "_climb", lambda _, __, begun, *___: (torch.tensor(begun.action), np.array(next(searched))[:, None])
    )
    monkeypatch.setattr(module, "_rewards", lambda *_: np.array(next(judged)))
    figures = search(settings(budgets=(1,), scenes=2, starts=(), output=None))
    assert figures["best_unseen"]["mean"] == pytest.approx((0.1 + 0.4) / 2)


def test_finished_searches_are_kept_when_stopped(settings, tmp_path, monkeypatch):
    climb, calls = module._climb, []

    def stops(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return climb(*arguments)

    monkeypatch.setattr(module, "_climb", stops)
    with pytest.raises(KeyboardInterrupt):
        search(settings())
    saved = json.loads((tmp_path / "out" / "search.json").read_text())
    assert saved["whole"] is False and list(saved["figures"]["starts"]) == ["true-code", "predictor"]
    figures = search(settings())
    saved = json.loads((tmp_path / "out" / "search.json").read_text())
    assert "whole" not in saved and saved["figures"] == figures and len(figures["starts"]) == 3


def test_what_does_not_fit_is_refused_before_the_first_search(settings, monkeypatch):
    monkeypatch.setattr(module, "_climb", lambda *_: pytest.fail("it searched"))
    with pytest.raises(CheckpointError, match="trained for action space 'code', not 'width'"):
        search(settings(action="width"))


def test_a_place_that_cannot_be_written_to_is_known_before_the_first_render(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_held_out", lambda *_: pytest.fail("it rendered"))
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write into the folder .*/file"):
        search(settings(output=str(tmp_path / "file" / "out" / "search.json")))


def test_a_population_is_refused_before_the_first_render(settings):
    with pytest.raises(ValueError, match="population must be an even number of 2 or more, got 0"):
        settings(population=0)


def test_the_table_is_printed_also_where_it_cannot_be_written(settings, monkeypatch, capsys):
    def full(self, figures, *, whole):
        if whole:
            raise OSError("no space left on device")

    monkeypatch.setattr(module.ResultsFile, "keep", full)
    with pytest.raises(OSError, match="no space"):
        search(settings())
    assert "mean-code" in capsys.readouterr().out


def test_the_generator_can_be_compiled(settings, compiled):
    plain, fused = (search(settings(budgets=(1,), output=None, compile=each)) for each in (False, True))
    assert len(compiled) == 1 and plain["starts"] == fused["starts"]


def test_the_precision_is_the_one_asked_for(settings):
    plain, half = (
        search(settings(budgets=(1,), output=None, dtype=dtype))["starts"]["mean-code"]["rewards"]
        for dtype in ("float32", "bfloat16")
    )
    assert plain != half and np.array(plain) == pytest.approx(np.array(half), abs=0.3)


def test_the_start_alone_earns_what_the_policy_earns(settings):
    from agents import policies

    made = settings(output=None, scenes=18)  # more than one batch of scenes
    figures = search(made)
    environment = dict(images=made.images, generator=made.generator, patch_size=24, split="test", device="cpu")
    held_out = HeldOut.crops(18, metric="psnr", report=(), environment=environment)
    scored = held_out.score(policies.load("mean-code", held_out.env))
    assert np.array(figures["starts"]["mean-code"]["rewards"])[:, 0] == pytest.approx(scored.reward, abs=1e-4)


def test_whole_photos_are_those_of_evaluate(settings):
    from experiments.evaluate import Evaluate, evaluate

    made = settings(output=None, patch_size=None, widths=(0.5, 1.8), scenes=4, budgets=(1, 3))
    figures = search(made)
    assert figures["photos"] == ["p0", "p1"] and figures["scenes"] == 4 and figures["patch_size"] is None
    common = dict(images=made.images, generator=made.generator, device="cpu", output=None)
    scored = evaluate(Evaluate(policies=("mean-code",), metrics=("psnr", "grid"), widths=(0.5, 1.8), **common))
    own, true = (np.array(scored["policies"][name]["psnr"]["scores"]) for name in ("mean-code", "true-code"))
    rewards = np.array(figures["starts"]["mean-code"]["rewards"])
    assert rewards[:, 0] == pytest.approx((own - true).ravel(), abs=1e-4)
    assert (rewards[:, 1] >= rewards[:, 0]).all()
    price = figures["starts"]["mean-code"]["price"]["start"]["grid"]
    assert price["mean"] == pytest.approx(scored["policies"]["mean-code"]["grid"]["gain"]["mean"], abs=1e-9)


def test_crops_have_the_widths_asked_for(settings, monkeypatch):
    from experiments import search as module

    seen = []
    crops = HeldOut.crops

    def watched(*arguments, **named):
        seen.append(crops(*arguments, **named))
        return seen[-1]

    monkeypatch.setattr(module.HeldOut, "crops", watched)
    search(settings(output=None, widths=(0.5, 1.75), scenes=8, budgets=(1,)))
    assert set(torch.cat([part.width for part in seen[0].parts]).tolist()) == {0.5, 1.75}


def test_whole_photos_have_all_their_widths(settings, capsys):
    assert cli.main(["search", "--patch_size", "null", "--scenes", "4"]) == 2
    assert "whole photos have 3 scenes each, one a width: take 3 scenes, not 4" in capsys.readouterr().err
    with pytest.raises(ValueError, match="there are 2 photos: take at most 6 scenes"):
        search(settings(patch_size=None, scenes=9))


@pytest.mark.parametrize("views", [1, 4])
def test_transposed_views_judge_what_was_found(settings, capsys, monkeypatch, views):
    """Photos turned by NumPy, codes as they are; the best known one is picked by the views that were searched."""
    from experiments import search as module

    made, found = settings(output=None, patch_size=None, widths=(0.5, 1.8), scenes=4, views=views), []
    climb = module._climb

    def watched(held_out, others, begun, settings, step):
        action, curve = climb(held_out, others, begun, settings, step)
        assert len(others) == views - 1
        found.append((torch.from_numpy(begun.action), action, curve[:, -1].copy()))
        return action, curve

    monkeypatch.setattr(module, "_climb", watched)
    figures = search(made)
    environment = dict(generator=made.generator, split="test", device="cpu")

    def judged(action, flips):
        rewards = []
        for flip in flips:
            turned = []
            for photo in images.load(made.images):
                pixels = photo.pixels[:108, :120][
                    :: 1 - (flip & 2), :: 1 - 2 * (flip & 1)
                ]  # to a multiple of the scale
                turned.append(images.Photo(photo.name, pixels.transpose(1, 0, 2) if flip & 4 else pixels))
            held_out = HeldOut.whole(turned, (0.5, 1.8), metric="psnr", report=(), environment=environment)
            parts = zip(held_out.parts, action.split(2), strict=True)
            rewards.append(torch.cat([held_out.core.play(part, own)[0] for part, own in parts]).numpy())
        return np.mean(rewards, axis=0)

    whole = HeldOut.whole(
        images.load(made.images), (0.5, 1.8), metric="psnr", report=("grid",), environment=environment
    )

    def price(action):
        parts = zip(whole.parts, action.split(2), strict=True)
        return torch.cat([whole.core.play(part, own)[1]["gain_grid"] for part, own in parts]).mean().item()

    for (start, end, last), of in zip(found, figures["starts"].values(), strict=True):
        assert last == pytest.approx(judged(end, range(views)), abs=2e-3)  # LR may differ by a rounding
        rewards = np.stack([judged(start, range(4, 8)), judged(end, range(4, 8))], axis=1)
        for which, action in (("start", start), ("found", end)):
            assert of["price"][which]["grid"]["mean"] == pytest.approx(price(action), abs=1e-6)
        unseen = of["unseen"]
        assert np.array(unseen["rewards"]) == pytest.approx(rewards, abs=2e-3)
        assert [unseen[key]["mean"] for key in ("start", "found")] == pytest.approx(rewards.mean(0), abs=2e-3)
        assert unseen["more"]["mean"] == pytest.approx(unseen["found"]["mean"] - unseen["start"]["mean"])
    of_true, of_predicted = (np.array(figures["starts"][name]["unseen"]["rewards"]) for name in ALWAYS)
    best = np.where(found[1][2] > found[0][2], of_predicted[:, 1], of_true[:, 1])
    assert figures["best_unseen"]["mean"] == pytest.approx(best.mean()) and figures["invalid"] == 0
    share = figures["starts"]["predictor"]["unseen"]["normalised"]
    assert (
        share is None if best.mean() < 1e-3 else share["mean"] == pytest.approx(of_predicted[:, 0].mean() / best.mean())
    )
    printed = capsys.readouterr().out
    assert "photos transposed" in printed and ("each render covers 4 views" in printed) == (views == 4)


def test_a_scene_without_a_score_on_some_view_counts_nowhere(settings, monkeypatch):
    turned = HeldOut.turned

    def broken(self, flip):
        view = turned(self, flip)
        if flip == 6:
            with torch.inference_mode():
                view.parts[0].true_scores[1, 0] = torch.nan
        return view

    monkeypatch.setattr(HeldOut, "turned", broken)
    figures = search(settings(output=None, scenes=4))
    assert figures["invalid"] == 1
    for of in figures["starts"].values():
        for rewards in (of["rewards"], of["unseen"]["rewards"]):
            assert np.isnan(rewards)[1].all() and np.isfinite(rewards)[[0, 2, 3]].all()
        assert all(np.isfinite(of["unseen"][key]["mean"]) for key in ("start", "found", "more"))

    def lost(self, flip):
        view = turned(self, flip)
        with torch.inference_mode():
            view.parts[0].true_scores.fill_(torch.nan)
        return view

    monkeypatch.setattr(HeldOut, "turned", lost)
    with pytest.raises(ValueError, match="psnr has no finite score of any scene's true code"):
        search(settings(output=None))


def test_nothing_won_has_no_share(settings, monkeypatch):
    def climbs(scenes, views, begun, made, step):
        return torch.zeros(begun.action.shape), np.full((3, 1), 1e-5)

    monkeypatch.setattr("experiments.search._climb", climbs)
    figures = search(settings(budgets=(1,), output=None))
    assert figures["starts"]["predictor"]["normalised"] == [None]


def test_of_one_photo_no_share_is_shown(settings, capsys):
    figures = search(settings(scenes=3, patch_size=None, widths=(1.0, 2.0, 3.0), output=None))
    printed = capsys.readouterr().out
    assert "3 scenes of 1 whole photo, widths 1, 2, 3\n" in printed
    assert figures["best"]["low"] is None or not figures["best"]["low"] > 0
    (row,) = [line for line in printed.splitlines() if line.startswith("mean-code") and "|" in line]
    assert row.partition("|")[2].split() == ["-"] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--budgets", "[4, 1]"], "budgets must be rising numbers of renders, 1 or more, got [4, 1]"),
        (["--budgets", "[]"], "budgets must be rising"),
        (["--widths", "[1.0, 1.0]"], "widths must be one or several, each given once"),
        (["--widths", "[6.0]"], "width must lie in 0.2 to 4, as tiny's kernels do, got 6: give another"),
        (["--scenes", "0"], "scenes must be at least 1"),
        (["--starts", "[predicter]"], "unknown policy 'predicter': did you mean 'predictor'"),
        (["--metric", "niqe+0.1*pnsr"], "unknown metric 'pnsr': did you mean 'psnr'"),
        (["--population", "3"], "population must be an even number"),
        (["--starts", "[mean-code, mean-code]"], "the start 'mean-code' is given twice: give each once"),
        (["--views", "5"], "views must be 1 to 4, got 5"),
    ],
)
def test_mistakes_on_the_command_line(capsys, tiny_checkpoint, tmp_path, arguments, message):
    scenes = [] if "--scenes" in arguments else ["--scenes", "1"]
    metric = [] if "--metric" in arguments else ["--metric", "psnr"]
    fixed = ["--generator", tiny_checkpoint, "--patch_size", "16", "--output", str(tmp_path / "search.json")]
    assert cli.main(["search", *fixed, *scenes, *metric, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


@pytest.mark.parametrize("written", ["grid+0.5*psnr", "{grid: 1, psnr: 0.5}"])
@pytest.mark.parametrize(("settings_class", "name"), [(Search, "search"), (TrainAgent, "train-agent")])
def test_mixtures_are_settings(written, settings_class, name):
    made = cli.parse(settings_class, ["--metric", written], prog=f"blindsr {name}")
    assert [(weight, part.name) for weight, part in metrics.get(made.metric).parts] == [(1, "grid"), (0.5, "psnr")]


@pytest.mark.parametrize(("algorithm", "patch"), [("group-pg", 24), ("ddpg", (24, 28)), ("sb3-sac", (24, 28))])
def test_an_agent_learns_and_is_scored_on_a_mixture(
    settings, tmp_path, photo, tiny_checkpoint, compiled, algorithm, patch
):
    for seed in range(2):
        images.write(tmp_path / "train" / f"t{seed}.png", photo(110, 120, 10 + seed))
    made = [
        TrainAgent(
            algorithm=algorithm,
            total_timesteps=steps,
            num_envs=4,
            repeats=2,
            metric={"grid": 1.0, "psnr": 0.5},
            images=str(tmp_path / "train"),
            held_out=settings().images,
            held_out_scenes=3,
            generator=tiny_checkpoint,
            patch_size=patch,
            output=str(tmp_path / "run"),
            device="cpu",
            compile=steps > 8,
        )
        for steps in (8, 16)
    ]
    path = train_agent(made[0])
    assert train_agent(made[1]) == path and compiled  # goes on, faster
    figures = json.loads((tmp_path / "run" / "results.json").read_text())["figures"]
    gain = figures["gain"]
    assert figures["reward"]["mean"] == pytest.approx(gain["grid"]["mean"] + 0.5 * gain["psnr"]["mean"], abs=1e-5)
    searched = search(settings(metric="grid+0.5*psnr", starts=(str(path),), output=None, patch_size=patch, views=4))
    assert searched["metric"] == "grid+0.5*psnr" and list(searched["starts"])[2:] == ["run/agent.safetensors"]
