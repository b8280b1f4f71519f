"""Scores of policies on whole photos: the table's figures against a plain computation."""

import functools
import importlib
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

import generators
from agents import checkpoints, networks
from agents.checkpoints import SHIPPED_AGENTS, SHIPPED_PREDICTORS
from agents.meaning import ActionMeaning
from blindsr_env import degradation, images, kernels, metrics
from experiments import digests, results_file, scoring
from experiments import evaluate as module
from experiments.evaluate import Evaluate, evaluate, table, table_of_differences
from experiments.held_out import HeldOut
from experiments.results_file import vacant, write_results
from experiments.scoring import _entry, _mean, differences
from generators import SelfEnsemble, Tiled


@pytest.fixture
def folder(tmp_path, photo):
    for seed, shape in enumerate([(101, 130), (120, 98)]):
        images.write(tmp_path / "photos" / f"p{seed}.png", photo(*shape, seed))
    return tmp_path / "photos"


def psnr_y(sr, hr, border):
    weight = np.array([65.481, 128.553, 24.966])

    def y(x):
        return (x @ weight + 16)[border:-border, border:-border]

    return 10 * np.log10(255**2 / np.mean((y(sr) - y(hr)) ** 2))


def test_scores_are_those_of_a_plain_loop(folder, tiny_checkpoint, tmp_path):
    widths = (0.7, 2.0)
    output = tmp_path / "results.json"
    figures = evaluate(
        Evaluate(
            policies=("mean-code",),
            images=str(folder),
            widths=widths,
            metrics=("psnr",),
            generator=tiny_checkpoint,
            output=str(output),
            device="cpu",
        )
    )
    generator = generators.load(tiny_checkpoint)
    for row, path in enumerate(images.find(folder)):
        pixels = images.read(path)
        height, width = (side // 4 * 4 for side in pixels.shape[:2])
        hr = torch.from_numpy(pixels[:height, :width]).permute(2, 0, 1)[None].float() / 255
        for column, sigma in enumerate(widths):
            kernel = kernels.gaussian(torch.tensor([sigma], dtype=torch.float64))
            lr = degradation.degrade(hr, kernel.float(), 4)
            sr = degradation.quantize(generator(lr, generator.codec.encode(kernel)))
            expected = psnr_y(*(x[0].permute(1, 2, 0).numpy().astype(np.float64) for x in (sr, hr)), border=4)
            found = figures["policies"]["true-code"]["psnr"]["scores"][row][column]
            assert found == pytest.approx(expected, abs=0.01)
    saved = json.loads(output.read_text())
    assert saved["figures"]["policies"]["mean-code"]["psnr"]["gain"]["count"] == 2
    assert {"figures", "config", "environment", "seed", "commit"} <= set(saved)


def test_true_code_gains_nothing_and_the_sign_follows_the_metric(folder, tiny_checkpoint):
    figures = evaluate(
        Evaluate(
            policies=("true-code", "random"),
            images=str(folder),
            widths=(2.0,),
            metrics=("psnr", "grid"),
            generator=tiny_checkpoint,
            output=None,
            device="cpu",
        )
    )
    for metric, zeta in (("psnr", 1), ("grid", -1)):
        true, random = (figures["policies"][name][metric] for name in ("true-code", "random"))
        assert true["gain"]["mean"] == 0
        assert random["gain"]["mean"] == pytest.approx(zeta * (random["mean"] - true["mean"]), abs=1e-6)


def test_a_predictor_file_is_a_policy(folder, tiny_checkpoint, tiny_generator, tmp_path):
    path = tmp_path / "predictor.safetensors"
    meaning = ActionMeaning("code", 4, tiny_generator.codec.fingerprint, "tiny")
    checkpoints.save_predictor(path, networks.build("predictor_s"), meaning, {})
    common = dict(images=str(folder), widths=(1.0,), metrics=("psnr",), generator=tiny_checkpoint, output=None)
    figures = evaluate(Evaluate(policies=(str(path), "predictor"), predictor=str(path), device="cpu", **common))
    own, named = (figures["policies"][name] for name in (f"{tmp_path.name}/predictor.safetensors", "predictor"))
    assert own == named and np.isfinite(own["psnr"]["mean"])
    shipped = evaluate(Evaluate(policies=("predictor",), device="cpu", **common))["policies"]["predictor"]
    assert shipped["psnr"]["scores"] != own["psnr"]["scores"]


def test_policies_choose_in_the_action_space_asked_for(folder, tiny_checkpoint, tmp_path, monkeypatch):
    """An action of 0.5 is the kernel of width 0.2 + 0.75 * 3.8: at that width it is the true code."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "half_policy.py").write_text(
        "import numpy as np\n\n\ndef policy(env):\n    return lambda seen: np.full((len(seen), 1), 0.5, np.float32)\n"
    )
    settings = dict(images=str(folder), widths=(2.0, 3.05), metrics=("psnr",), generator=tiny_checkpoint, output=None)
    figures = evaluate(Evaluate(policies=("half_policy:policy",), action="width", device="cpu", **settings))
    own, true = (np.array(entry["psnr"]["scores"]) for entry in reversed(figures["policies"].values()))
    assert own[:, 1] == pytest.approx(true[:, 1], abs=1e-3) and (np.abs(own - true)[:, 0] > 1e-2).all()


def test_the_seed_is_that_of_chance_and_of_the_intervals(folder, tiny_checkpoint, monkeypatch):
    bootstrap, seeds, found = scoring.bootstrap, [], []
    monkeypatch.setattr(scoring, "bootstrap", lambda values, seed: seeds.append(seed) or bootstrap(values, seed))
    common = dict(images=str(folder), widths=(2.0,), metrics=("psnr",), generator=tiny_checkpoint, output=None)
    for seed in (7, 8):
        figures = evaluate(Evaluate(policies=("random",), tiles=(None, 20), seed=seed, device="cpu", **common))
        assert set(seeds) == {seed}
        seeds.clear()
        found.append(figures["sheets"][0]["policies"]["random"]["psnr"]["scores"])
    assert found[0] != found[1]


def test_without_photos_the_held_out_ones_of_the_package_are_scored(tiny_checkpoint, monkeypatch):
    def stops(core, photos, *_, **__):
        raise KeyboardInterrupt(*(photo.name for photo in photos))

    monkeypatch.setattr(module, "scored", stops)
    with pytest.raises(KeyboardInterrupt) as stopped:
        evaluate(Evaluate(generator=tiny_checkpoint, metrics=("psnr",), output=None, device="cpu"))
    assert list(stopped.value.args) == [photo.name for photo in images.builtin("test")]


def test_a_policy_called_as_a_recipes_agent_is_not_taken_for_it(folder, tiny_checkpoint, tiny_generator, tmp_path):
    meaning = ActionMeaning.of_generator(tiny_generator)
    places = [str(tmp_path / place / "predictor.safetensors") for place in ("sac/0", "td3/0", "other")]
    for place in places:
        checkpoints.save_predictor(place, networks.build("predictor_s"), meaning, {})
    settings = Evaluate(
        policies=tuple(str(tmp_path / place) for place in ("sac/0", "td3/0")),
        recipes={"sac": places[2:]},
        images=str(folder),
        generator=tiny_checkpoint,
        output=None,
    )
    with pytest.raises(ValueError, match="policy or seed of a recipe 'sac/0' is given twice"):
        evaluate(settings)


def test_a_folder_called_as_a_built_in_policy_is_not_taken_for_it(folder, tiny_checkpoint, tiny_generator, tmp_path):
    meaning = ActionMeaning("code", 4, tiny_generator.codec.fingerprint, "tiny")
    network = networks.build("predictor_s")
    for name in ("true-code", "predictor"):
        checkpoints.save_predictor(tmp_path / "runs" / name / "predictor.safetensors", network, meaning, {})
    common = {"images": str(folder), "widths": (1.0,), "metrics": ("psnr",), "generator": tiny_checkpoint}
    named = tuple(str(tmp_path / "runs" / name) for name in ("true-code", "predictor"))
    found = evaluate(Evaluate(policies=(*named, "predictor"), output=None, device="cpu", **common))["policies"]
    assert list(found) == ["true-code", "runs/true-code", "runs/predictor", "predictor"]
    alone = evaluate(Evaluate(policies=("predictor",), output=None, device="cpu", **common))["policies"]
    assert found["true-code"] == alone["true-code"] and found["predictor"] == alone["predictor"]
    assert found["runs/true-code"]["psnr"]["scores"] == found["runs/predictor"]["psnr"]["scores"]


def test_a_metric_of_large_pictures_needs_large_photos_and_no_patches(tmp_path, photo, tiny_checkpoint, monkeypatch):
    images.write(tmp_path / "photos" / "p.png", photo(304, 320, 0))
    monkeypatch.setitem(metrics._factories, "wide", lambda scale: Wide())
    settings = {"images": str(tmp_path / "photos"), "generator": tiny_checkpoint, "device": "cpu", "metrics": ("wide",)}
    output = str(tmp_path / "results.json")
    figures = evaluate(Evaluate(policies=("true-code",), widths=(1.0,), output=output, **settings))
    assert figures["policies"]["true-code"]["wide"]["mean"] > 0
    held_out = HeldOut.whole(
        images.load(tmp_path / "photos"), [1.0], metric="wide", report=(), environment={"generator": tiny_checkpoint}
    )
    assert held_out.true_scores["wide"].shape == (1,)


def test_generators_with_predictors_of_their_own_are_told(folder, capsys):
    settings = dict(images=str(folder), widths=(1.0,), metrics=("psnr",), output=None, device="cpu")
    evaluate(Evaluate(generators=["amnet_s", "amnet_s_open"], policies=("predictor",), **settings))
    assert "predictor is predictor_s for amnet_s, predictor_s_open for amnet_s_open\n" in capsys.readouterr().out
    evaluate(Evaluate(generators=["amnet_s", "amgan_s"], policies=("predictor",), **settings))
    assert "predictor is" not in capsys.readouterr().out


class Wide:
    name, lower_is_better, needs_reference, min_size = "wide", False, False, 300

    def __call__(self, sr, hr=None):
        return sr.std(dim=(1, 2, 3))


def test_photos_too_small_for_the_metric_are_named(tmp_path, photo, tiny_checkpoint):
    images.write(tmp_path / "small.png", photo(60, 60, 0))
    with pytest.raises(images.ImageError, match="small is 60x60"):
        evaluate(Evaluate(images=str(tmp_path), metrics=("niqe",), generator=tiny_checkpoint, output=None))


def test_what_does_not_fit_is_refused_before_the_first_picture(folder, photo, tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "scored", lambda *_, **__: pytest.fail("it scored"))
    images.write(tmp_path / "small" / "small.png", photo(60, 60, 0))
    settings = dict(policies=("true-code",), metrics=("niqe",), generator=tiny_checkpoint, output=None, device="cpu")
    with pytest.raises(images.ImageError, match="small is 60x60"):
        evaluate(Evaluate(images=[str(folder), str(tmp_path / "small")], **settings))
    monkeypatch.setitem(metrics._factories, "made", lambda scale: Made("made"))
    images.write(tmp_path / "tiny" / "tiny.png", photo(11, 30, 0))
    with pytest.raises(images.ImageError, match="tiny of 28x8 is too small to blur: remove it"):
        evaluate(Evaluate(images=[str(folder), str(tmp_path / "tiny")], **settings | {"metrics": ("made",)}))


def test_a_sets_random_actions_do_not_hang_on_the_sets_before_it(folder, photo, tiny_checkpoint, tmp_path):
    images.write(tmp_path / "more" / "q.png", photo(90, 110, 5))
    settings = dict(policies=("random",), widths=(2.0,), metrics=("psnr",), generator=tiny_checkpoint, device="cpu")
    alone, both = (
        evaluate(Evaluate(images=places, output=None, **settings))
        for places in (str(tmp_path / "more"), [str(folder), str(tmp_path / "more")])
    )
    first, second = (found["policies"]["random"]["psnr"]["scores"] for found in (alone, both["sheets"][1]))
    assert first == second


def test_unknown_policy_lists_the_nearest(tiny_checkpoint, folder):
    with pytest.raises(ValueError, match="true-code"):
        evaluate(Evaluate(policies=("true-cod",), images=str(folder), generator=tiny_checkpoint, output=None))


def test_several_generators_on_several_sets(folder, tiny_checkpoint, louder, photo, tmp_path, capsys):
    images.write(tmp_path / "more" / "q.png", photo(90, 110, 5))
    images.write(tmp_path / "more" / "r.png", photo(100, 90, 6))
    common = dict(policies=("true-code",), widths=(0.7, 2.0), metrics=("psnr", "grid"), device="cpu")
    output = tmp_path / "results.json"
    both = Evaluate(
        generators=[tiny_checkpoint, louder],
        images={"A": str(folder), "B": str(tmp_path / "more")},
        output=str(output),
        **common,
    )
    figures = evaluate(both)
    assert [(sheet["set"], sheet["generator"]) for sheet in figures["sheets"]] == [
        ("A", "tiny (tiny)"),
        ("B", "tiny (tiny)"),
        ("A", "tiny (louder)"),
        ("B", "tiny (louder)"),
    ]
    alone = evaluate(Evaluate(generator=louder, images=str(tmp_path / "more"), output=None, **common))
    assert alone["set"] == "more" and alone["generator"] == "tiny"
    assert alone["policies"] == figures["sheets"][3]["policies"], "together as alone"
    saved = output.read_text()
    assert json.loads(saved)["figures"] == figures and str(tmp_path) not in saved, "no path of this machine"
    assert json.loads(saved)["config"]["images"] == {"A": "photos", "B": "more"}
    plain, loud = (figures["sheets"][i]["policies"]["true-code"] for i in (1, 3))
    second = figures["differences"][1]
    assert (second["set"], second["generator"], second["against"]) == ("B", "tiny (louder)", "tiny (tiny)")
    for metric, zeta in (("psnr", 1), ("grid", -1)):
        gain = zeta * (np.array(loud[metric]["scores"]) - np.array(plain[metric]["scores"]))  # (2 photos, 2 widths)
        found = second["policies"]["true-code"][metric]
        assert found["mean"] == pytest.approx(gain.mean())
        assert [width["mean"] for width in found["by_width"]] == pytest.approx(gain.mean(0).tolist())
    assert "tiny (louder) over tiny (tiny), B, true-code: psnr" in capsys.readouterr().out


def test_differences_are_paired():
    # Photos differ by 10 dB, generators by 0.1, 0.2 and 0.3 dB on each: mean 0.2, standard error 0.1 / sqrt(3),
    # Student's t with two degrees of freedom 4.303 (tables).
    def sheet(name, scores):
        policies = {"true-code": {"psnr": {"scores": scores}}}
        return {"set": "S", "generator": name, "widths": [1.0], "policies": policies}

    (found,) = differences(
        [
            sheet("a", [[20.0], [30.0], [40.0], [50.0], [np.inf]]),
            sheet("b", [[20.1], [30.2], [40.3], [np.nan], [60.0]]),
        ],
        {"psnr": 1.0},
        seed=0,
    )
    psnr = found["policies"]["true-code"]["psnr"]
    half = 4.303 * 0.1 / np.sqrt(3)
    assert [psnr["low"], psnr["mean"], psnr["high"]] == pytest.approx([0.2 - half, 0.2, 0.2 + half], abs=1e-4)
    assert psnr["by_width"][0]["high"] == pytest.approx(psnr["high"])
    assert psnr["broken"] == 1 and psnr["count"] == 3
    assert "b over a, S, true-code: psnr +0.200" in (text := table_of_differences([found])) and "1 broken" in text


def test_a_score_that_is_no_number_on_one_side_is_left_out_of_both():
    own = np.array([[1.0, 2.0], [np.inf, 5.0], [7.0, 9.0]])  # (photos, widths)
    true = np.array([[0.0, np.nan], [1.0, 1.0], [2.0, 2.0]])
    entry = _entry(own, true, zeta=-1.0, seed=0)
    assert entry["mean"] == pytest.approx((1 + 5 + (7 + 9) / 2) / 3) and entry["mean_by_width"] == [4.0, 7.0]
    assert entry["gain"]["mean"] == pytest.approx(-(1 + 4 + (5 + 7) / 2) / 3)
    assert entry["interval_by_width"][0]["count"] == 2 and entry["broken"] == 1
    alone = _entry(true, true, zeta=-1.0, seed=0)
    assert _mean(true, seed=0) == {key: alone[key] for key in ("mean", "mean_by_width", "interval")}


def test_a_metric_without_any_number_is_refused(folder, tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(Made, "__call__", lambda self, sr, hr=None: sr.mean((1, 2, 3)) * torch.nan)
    monkeypatch.setitem(metrics._factories, "blank", lambda scale: Made("blank"))
    settings = dict(policies=("true-code",), images=str(folder), widths=(2.0,), generator=tiny_checkpoint, output=None)
    with pytest.raises(ValueError, match="^blank is no finite number for any picture of the true code: leave it out"):
        evaluate(Evaluate(metrics=("psnr", "blank"), device="cpu", **settings))


def test_a_sheet_is_told_in_the_units_of_each_metric():
    def entry(mean, gain, broken=0):
        interval = {"mean": gain, "low": gain - 1e-5, "high": gain + 1e-5, "count": 4}
        return {"mean": mean, "gain": interval, "broken": broken}

    policies = {"true-code": {"grid": entry(2e-4, 0.0)}, "mine": {"grid": entry(3.5e-4, -1.5e-4, 2)}}
    head, *lines = table({"set": "S", "generator": "g", "photos": ["p"], "widths": [0.2], "policies": policies}).split(
        "\n"
    )
    assert head == "g, S, 1 photos, widths 0.2; gain over the true code [95% interval], positive is better"
    assert lines == [
        "grid, 1e-3  true-code      0.200",
        "            mine           0.350  -0.150 [-0.160, -0.140]  (2 broken and left out)",
    ]


def test_grid_is_told_in_thousandths():
    entry = {"mean": 2e-5, "low": 1e-5, "high": 3e-5, "count": 4, "by_width": [], "broken": 0}
    each = {"set": "S", "generator": "b", "against": "a", "policies": {"true-code": {"grid": entry}}}
    assert table_of_differences([each]) == "b over a, S, true-code: grid, 1e-3 +0.020 [+0.010, +0.030]\n"


def test_intervals_of_the_means_are_over_photos(folder, tiny_checkpoint):
    settings = Evaluate(
        policies=("true-code",),
        images=str(folder),
        widths=(0.7, 2.0),
        metrics=("psnr",),
        generator=tiny_checkpoint,
        output=None,
        device="cpu",
    )
    entry = evaluate(settings)["policies"]["true-code"]["psnr"]
    scores = np.array(entry["scores"])  # two photos: Student's t with one degree of freedom is 12.706 (tables)
    by_photo = scores.mean(1)
    half = 12.706 * np.abs(np.diff(by_photo))[0] / 2
    assert entry["interval"]["mean"] == pytest.approx(entry["mean"]) == pytest.approx(by_photo.mean())
    assert entry["interval"]["high"] == pytest.approx(by_photo.mean() + half, rel=1e-4)
    assert entry["interval_by_width"][1]["mean"] == pytest.approx(entry["mean_by_width"][1])


class Made:
    """A metric that breaks on the first picture of the calls that it is told of."""

    lower_is_better, needs_reference, min_size = True, False, 1

    def __init__(self, name, breaks_at=()):
        self.name, self.breaks_at, self.calls = name, breaks_at, 0

    def __call__(self, sr, hr=None):
        scores = sr.mean((1, 2, 3))
        if self.calls in self.breaks_at:
            scores[0] = torch.nan
        self.calls += 1
        return scores


def test_what_a_policy_breaks_is_counted_and_left_out_on_both_sides(folder, tiny_checkpoint, monkeypatch, capsys):
    # Calls: true code, policy, bicubic and original of the first photo, then of the second; NaN at width 0.7 of the
    # policy's second.
    monkeypatch.setitem(metrics._factories, "fragile", lambda scale: Made("fragile", breaks_at=[5]))
    settings = dict(images=str(folder), widths=(0.7, 2.0), metrics=("fragile",), output=None, device="cpu")
    figures = evaluate(Evaluate(policies=("mean-code",), generator=tiny_checkpoint, **settings))
    true, own = (figures["policies"][name]["fragile"] for name in ("true-code", "mean-code"))
    assert (true["broken"], own["broken"]) == (0, 1)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "mean-code" in line]
    assert line.endswith("(1 broken and left out)")
    difference = np.subtract(own["scores"], true["scores"])  # (2 photos, 2 widths)
    assert np.isnan(difference[1, 0])
    by_photo = [difference[0].mean(), difference[1, 1]]
    assert own["gain"]["mean"] == pytest.approx(-np.mean(by_photo), abs=1e-7) and own["gain"]["count"] == 2
    assert own["mean_by_width"] == pytest.approx([own["scores"][0][0], np.mean(np.array(own["scores"])[:, 1])])
    monkeypatch.setitem(metrics._factories, "fragile", lambda scale: Made("fragile", breaks_at=[1, 5]))
    figures = evaluate(Evaluate(policies=("mean-code",), generator=tiny_checkpoint, **settings))
    assert figures["policies"]["mean-code"]["fragile"]["interval_by_width"][0]["count"] == 0, "no such width is left"


def test_metrics_are_called_by_their_own_names(folder, tiny_checkpoint, monkeypatch, tmp_path):
    monkeypatch.setattr(metrics, "Lpips", lambda folder: Made("lpips"))
    monkeypatch.setattr(metrics, "Iqa", lambda name, weights: Made(f"pyiqa:{name}"))
    weights = str(tmp_path / "weights")
    output = tmp_path / "results.json"
    given = (f"lpips@{weights}", f"pyiqa:musiq@{weights}", f"grid+0.5*lpips@{weights}")
    settings = dict(policies=("mean-code",), images=str(folder), widths=(2.0,), device="cpu")
    figures = evaluate(Evaluate(metrics=given, generator=tiny_checkpoint, output=str(output), **settings))
    assert list(figures["policies"]["mean-code"]) == ["lpips", "pyiqa:musiq", "grid+0.5*lpips"]
    assert json.loads(output.read_text())["config"]["metrics"] == ["lpips", "pyiqa:musiq", "grid+0.5*lpips"]
    assert str(tmp_path) not in output.read_text()
    for content, place in (("one", "r.json"), ("other", "r_2.json"), ("one", "r.json")):
        (tmp_path / "weights").mkdir(exist_ok=True)
        (tmp_path / "weights" / "w.pth").write_text(content)
        own = dict(metrics=given[:1], generator=tiny_checkpoint, output=str(tmp_path / "r.json"))
        evaluate(Evaluate(**own, **settings))
        assert (tmp_path / place).exists()
    assert len(list(tmp_path.glob("r*.json"))) == 3, "results, r and r_2: other weights are another run"


def test_what_was_scored_is_kept_when_stopped(folder, tiny_checkpoint, louder, tmp_path, monkeypatch):
    from experiments import scoring as module

    score_policies, calls = module.score_policies, []

    def stops(*arguments):
        calls.append(arguments)
        if len(calls) > 3:  # two photos of each generator
            raise KeyboardInterrupt
        return score_policies(*arguments)

    monkeypatch.setattr(module, "score_policies", stops)
    output = tmp_path / "results.json"
    settings = dict(policies=("true-code",), images=str(folder), widths=(2.0,), metrics=("psnr",), device="cpu")
    with pytest.raises(KeyboardInterrupt):
        evaluate(Evaluate(generators=[tiny_checkpoint, louder], output=str(output), **settings))
    kept = json.loads(output.read_text())["figures"]
    assert kept["generator"] == "tiny (tiny)" and np.isfinite(kept["policies"]["true-code"]["psnr"]["scores"]).all()
    calls[:] = []
    monkeypatch.setattr(module, "score_policies", score_policies)
    evaluate(Evaluate(generators=[tiny_checkpoint, louder], output=str(output), **settings))
    whole = output.read_text()
    assert len(json.loads(whole)["figures"]["sheets"]) == 2
    monkeypatch.setattr(module, "score_policies", stops)
    with pytest.raises(KeyboardInterrupt):
        evaluate(Evaluate(generators=[tiny_checkpoint, louder], output=str(output), **settings))
    assert output.read_text() == whole, "a stopped repetition must not replace what was whole"


def test_another_version_of_ones_own_policy_gets_a_file_of_its_own(folder, tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for version in (0.0, 0.5, 0.5):
        code = f"return lambda seen: np.full((len(seen), 15), {version}, np.float32)"
        (tmp_path / "own_policy.py").write_text(f"import numpy as np\n\n\ndef policy(env):\n    {code}\n")
        for name in [each for each in sys.modules if each == "own_policy"]:
            del sys.modules[name]
        importlib.invalidate_caches()
        settings = dict(images=str(folder), widths=(2.0,), metrics=("psnr",), generator=tiny_checkpoint, device="cpu")
        evaluate(Evaluate(policies=("own_policy:policy@0.5", "true-code"), output="r.json", **settings))
    assert sorted(path.name for path in tmp_path.glob("r*.json")) == ["r.json", "r_2.json"]


def test_the_predictor_of_the_scale_is_what_a_run_is_known_by(folder, tmp_path):
    output = tmp_path / "r.json"
    settings = dict(images=str(folder), widths=(2.0,), metrics=("psnr",), device="cpu")
    evaluate(Evaluate(generator="amnet_s_x2", policies=("predictor",), output=str(output), **settings))
    of = {scale: digests.of_checkpoint(path) for scale, path in SHIPPED_PREDICTORS.items()}
    identity = json.loads(output.read_text())["identity"]
    assert identity["policies"] == [of[2]] and identity["predictor"] == of[2] != of[4]


def test_generators_with_predictors_of_their_own_are_known_by_each(
    folder, tiny_checkpoint, tiny_generator, tmp_path, monkeypatch
):
    mine = tmp_path / "mine.safetensors"
    meaning = ActionMeaning.of_generator(tiny_generator)
    checkpoints.save_predictor(mine, networks.build("predictor_s"), meaning, {})
    monkeypatch.setitem(checkpoints.OWN_PREDICTORS, (tiny_generator.name, 4), mine)
    settings = dict(images=str(folder), widths=(2.0,), metrics=("psnr",), policies=("predictor", "mean-code"))
    evaluate(Evaluate(generators=[tiny_checkpoint, "amnet_s"], output=str(tmp_path / "r.json"), **settings))
    both = [digests.of_checkpoint(path) for path in (mine, SHIPPED_PREDICTORS[4])]
    identity = json.loads((tmp_path / "r.json").read_text())["identity"]
    assert identity["policies"] == [both, None] and identity["predictor"] == both and len(set(both)) == 2


def test_widths_are_in_one_order():
    assert Evaluate(widths=(2.6, 0.2, 1.3)).widths == (0.2, 1.3, 2.6)


def test_generators_of_other_scales_are_not_compared(tiny_checkpoint, twice, folder):
    with pytest.raises(ValueError, match="x2 is for scale 2, tiny for 4: compare them apart"):
        evaluate(Evaluate(generators=[tiny_checkpoint, twice], images=str(folder), metrics=("psnr",), output=None))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"generator": "a", "generators": ["b"]}, "not both"),
        ({"images": []}, "at least one"),
        ({"widths": ()}, "at least one"),
        ({"images": ["/data/Set5", "/data/Set5/"]}, "the folder of photos 'Set5' is given twice"),
        ({"policies": ("predictor", "predictor")}, "the policy 'predictor' is given twice"),
        ({"widths": (1.3, 2.0, 1.3)}, "the width '1.3' is given twice"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        Evaluate(**settings)


def test_results_of_other_settings_are_not_replaced(tmp_path):
    path = tmp_path / "r.json"
    for config, place in (
        ({"a": 1}, "r.json"),
        ({"a": (2, 3)}, "r_2.json"),
        ({"a": 4}, "r_3.json"),
        ({"a": 1}, "r.json"),
    ):
        found = vacant(path, config)
        assert found.name == place
        write_results(found, {}, config, 0)
    assert vacant(path, {"a": [2, 3]}).name == "r_2.json", "the same run again"
    path.write_text("mine")
    assert vacant(path, {"a": 1}).name == "r_4.json"


def test_results_files_get_their_ending_and_settings_that_change_nothing_do_not_count(tmp_path):
    assert vacant(tmp_path / "mine", {"a": 1}) == tmp_path / "mine.json", "tables would not find it"
    for name in ("v1.2", "plot.png"):
        assert vacant(tmp_path / name, {"a": 1}) == tmp_path / f"{name}.json"
    write_results(tmp_path / "mine.json", {}, {"a": 1}, seed=0)
    assert vacant(tmp_path / "mine", {"a": 1, "cuda_graphs": True}) == tmp_path / "mine.json"
    later = {"tiles": (None,), "self_ensemble": (False,), "views": 1, "compile": False}
    assert vacant(tmp_path / "mine", {"a": 1} | later) == tmp_path / "mine.json"
    assert vacant(tmp_path / "mine", {"a": 1, "tiles": (64,)}) == tmp_path / "mine_2.json"
    assert vacant(tmp_path / "mine", {"a": 2}) == tmp_path / "mine_2.json"


@pytest.mark.parametrize("place", ["outdir/", "outdir", "."])
def test_a_folder_is_no_results_file(tmp_path, monkeypatch, place):
    (tmp_path / "outdir").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=rf"^{re.escape(place)} is a folder: name the results file in it"):
        results_file.ResultsFile(place, {}, 0, {})
    assert not list(tmp_path.rglob("*.json"))


def test_the_commit_is_that_of_this_source_and_not_of_a_checkout_around_it(tmp_path, monkeypatch):
    place = tmp_path / "experiments" / "results_file.py"
    place.parent.mkdir()
    place.write_text("")
    (tmp_path / "own.py").write_text("")
    who = ["-c", "user.name=me", "-c", "user.email=me@example.org"]

    def git(*arguments):
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    git("init")
    git("add", "own.py")
    git("commit", "-m", "theirs")
    commit = results_file.commit.__wrapped__
    monkeypatch.setattr(results_file, "__file__", str(place))
    assert commit() is None
    git("add", ".")
    git("commit", "-m", "ours")
    assert len(ours := commit()) == 12
    (tmp_path / "untracked.py").write_text("")
    assert commit() == ours
    place.write_text("changed")
    assert commit() == ours + "+"


def test_the_commit_is_that_of_the_works_beginning(tmp_path, monkeypatch):
    at = iter("ab")
    monkeypatch.setattr(results_file, "commit", functools.cache(lambda: next(at)))
    output = results_file.ResultsFile(tmp_path / "results.json", {}, 0, {})
    next(at)  # the source goes on
    output.keep({}, whole=True)
    assert json.loads((tmp_path / "results.json").read_text())["commit"] == "a"


def test_results_of_other_files_of_the_same_name_are_not_replaced(tmp_path):
    path, config = tmp_path / "r.json", {"policies": ["predictor.safetensors"]}
    for identity, place in (({"policies": ["aa"]}, "r.json"), ({"policies": ["bb"]}, "r_2.json")):
        for _ in range(2):
            assert (found := vacant(path, config, identity)).name == place
            write_results(found, {}, config, 0, identity)
    assert vacant(path, config).name == "r_3.json"
    write_results(path, {}, config, 0)
    assert vacant(path, config, {"policies": ["cc"]}).name == "r.json", "an older file has its config alone"


def test_a_run_is_known_by_what_its_files_hold(folder, tiny_checkpoint, louder, tiny_generator, photo, tmp_path):
    def predictor(place, seed):
        torch.manual_seed(seed)
        meaning = ActionMeaning.of_generator(tiny_generator)
        checkpoints.save_predictor(tmp_path / place / "p.safetensors", networks.build("predictor_s"), meaning, {})
        return str(tmp_path / place / "p.safetensors")

    def copied(source, place):
        (tmp_path / place).mkdir()
        return str(shutil.copy(source, tmp_path / place / "g.safetensors"))

    images.write(tmp_path / "other" / "photos" / "p0.png", photo(101, 130, 7))
    first, again, other = predictor("1", 1), predictor("2", 1), predictor("3", 2)
    generator = copied(tiny_checkpoint, "4")
    common = dict(images=str(folder), widths=(2.0,), metrics=("psnr",), device="cpu", output=str(tmp_path / "r.json"))
    runs = [
        (dict(policies=(first,), generator=generator), "r.json"),
        (dict(policies=(other,), generator=generator), "r_2.json"),
        (dict(policies=(again,), generator=generator), "r.json"),
        (dict(policies=(first,), generator=copied(louder, "5")), "r_3.json"),
        (dict(policies=(first,), generator=generator, images=str(tmp_path / "other" / "photos")), "r_4.json"),
        (dict(policies=("predictor",), predictor=first, generator=generator), "r_5.json"),
        (dict(policies=("predictor",), predictor=other, generator=generator), "r_6.json"),
    ]
    for changes, place in runs:
        figures = evaluate(Evaluate(**common | changes))
        content = (tmp_path / place).read_text()
        saved = json.loads(content)["figures"]
        assert json.dumps(saved) == json.dumps(figures).replace("NaN", "null"), "JSON has no NaN"
        assert str(tmp_path) not in content, "no path of this machine"
    assert len(list(tmp_path.glob("r*.json"))) == 6


def test_agents_act_where_they_learned(folder, tmp_path, tiny_checkpoint, capsys):
    common = dict(images=str(folder), widths=(2.0,), metrics=("psnr",), output=None, device="cpu")
    assert evaluate(Evaluate(policies=("amgan_rl_s@0.5",), **common))["generator"] == "amgan_s"
    agent = str(SHIPPED_AGENTS["amgan_rl_s"])
    assert evaluate(Evaluate(policies=("true-code",), recipes={"one": [agent]}, **common))["generator"] == "amgan_s"
    found = evaluate(Evaluate(policies=("predictor",), predictor="amgan_rl_s", **common))
    assert found["generator"] == "amgan_s"
    assert evaluate(Evaluate(policies=("mean-code",), **common))["generator"] == "amnet"
    with pytest.raises(ValueError, match="^amgan_rl_s learned on amgan_s, amgan_rl on amgan: say which one with --gen"):
        evaluate(Evaluate(policies=("predictor", "amgan_rl_s", "amgan_rl"), **common))
    with pytest.warns(UserWarning, match="learned what amgan_s's pictures are worth"):
        assert evaluate(Evaluate(policies=("amgan_rl_s",), generator=tiny_checkpoint, **common))["generator"] == "tiny"


def test_widths_that_no_kernel_has_are_refused(tiny_checkpoint, folder, monkeypatch):
    monkeypatch.setattr(module, "scored", lambda *_, **__: pytest.fail("it scored"))
    with pytest.raises(ValueError, match="width must lie in 0.2 to 4, as tiny's kernels do, got 9"):
        evaluate(Evaluate(generator=tiny_checkpoint, images=str(folder), widths=(9.0,), metrics=("psnr",), output=None))


@pytest.mark.parametrize(
    ("ways", "name", "wrapped"),
    [
        ({"tiles": (None, 20)}, "tiny in tiles of 20", lambda g: Tiled(g, 20)),
        ({"self_ensemble": (False, True)}, "tiny, self-ensemble", SelfEnsemble),
    ],
)
def test_ways_of_rendering_are_compared_with_whole_photos(folder, tiny_checkpoint, capsys, ways, name, wrapped):
    common = dict(policies=("true-code",), images=str(folder), widths=(0.7,), metrics=("psnr",), output=None)
    figures = evaluate(Evaluate(generator=tiny_checkpoint, **ways, device="cpu", **common))
    assert [sheet["generator"] for sheet in figures["sheets"]] == ["tiny", name]
    (difference,) = figures["differences"]
    assert difference["generator"] == name and difference["against"] == "tiny"
    whole, tiled = (np.array(s["policies"]["true-code"]["psnr"]["scores"]) for s in figures["sheets"])
    network = wrapped(generators.load(tiny_checkpoint))
    for path, score in zip(images.find(folder), tiled[:, 0], strict=True):
        pixels = images.read(path)
        height, width = (side // 4 * 4 for side in pixels.shape[:2])
        hr = torch.from_numpy(pixels[:height, :width]).permute(2, 0, 1)[None].float() / 255
        kernel = kernels.gaussian(torch.tensor([0.7], dtype=torch.float64))
        sr = degradation.quantize(network(degradation.degrade(hr, kernel.float(), 4), network.codec.encode(kernel)))
        assert score == pytest.approx(metrics.get("psnr", scale=4)(sr, hr).item(), abs=0.01)
    assert difference["policies"]["true-code"]["psnr"]["mean"] == pytest.approx((tiled - whole).mean())
    assert f"{name} over tiny" in capsys.readouterr().out


def test_each_generator_is_compared_with_the_first_and_its_further_ways_with_itself(folder, tiny_checkpoint, louder):
    common = dict(policies=("true-code",), images=str(folder), widths=(0.7,), metrics=("psnr",), output=None)
    figures = evaluate(Evaluate(generators=[tiny_checkpoint, louder], tiles=(None, 20), device="cpu", **common))
    pairs = [(each["generator"], each["against"]) for each in figures["differences"]]
    first, second = (sheet["generator"] for sheet in figures["sheets"][::2])
    tiled = [f"{name} in tiles of 20" for name in (first, second)]
    assert pairs == [(tiled[0], first), (second, first), (tiled[1], second)]
    figures = evaluate(
        Evaluate(generator=tiny_checkpoint, tiles=(None, 20), self_ensemble=(False, True), device="cpu", **common)
    )
    names = ["tiny, self-ensemble", "tiny in tiles of 20", "tiny in tiles of 20, self-ensemble"]
    assert [each["generator"] for each in figures["differences"]] == names
    assert {each["against"] for each in figures["differences"]} == {"tiny"}
    with pytest.raises(ValueError, match="the tile '20' is given twice"):
        Evaluate(tiles=(20, 20))
