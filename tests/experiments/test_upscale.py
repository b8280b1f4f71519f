"""`blindsr upscale`: a user's photos, rendered with the code that a policy chooses."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import generators
from agents import policies
from agents.ddpg import DDPG
from agents.upscaler import Upscaler
from blindsr_env import images
from blindsr_env.core import BlindSRCore
from blindsr_env.env import BlindSREnv
from blindsr_env.kernels import gaussian
from experiments import cli
from experiments.provenance import Provenance
from experiments.upscale import Upscale, upscale
from generators import SelfEnsemble, Tiled, memory


@pytest.fixture
def photos(tmp_path, photo):
    folder = tmp_path / "photos"
    for name, size, seed in (("a.png", (20, 33), 0), ("deep/b.png", (9, 14), 1)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        images.write(folder / name, photo(*size, seed))
    return folder


def expected(checkpoint, pixels, action):
    """The generator's picture, by hand."""
    network = generators.load(checkpoint).eval()
    with torch.no_grad():
        sr = network(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255, action)
    return torch.floor(sr[0].clamp(0, 1) * 255 + 0.5).to(torch.uint8).permute(1, 2, 0).numpy()


def near(one, other):
    difference = np.abs(one.astype(int) - other)
    return difference.max() <= 1 and (difference > 0).mean() < 1e-2


def test_photos_of_a_folder_are_rendered_by_the_predictor(photos, tmp_path, tiny_checkpoint, capsys):
    out = tmp_path / "out"
    written = upscale(Upscale(images=str(photos), output=str(out), generator=tiny_checkpoint, device="cpu"))
    assert [path.relative_to(out).as_posix() for path in written] == ["a_x4.png", "deep/b_x4.png"]
    pixels = images.read(photos / "a.png")
    policy = policies.load("predictor", BlindSREnv(metric="psnr", generator=tiny_checkpoint))
    action = torch.from_numpy(policy.predict(pixels)[0])[None]
    picture = images.read(written[0])
    assert picture.shape == (80, 132, 3) and near(picture, expected(tiny_checkpoint, pixels, action))
    assert "b.png: 14x9 to 56x36" in capsys.readouterr().out


def test_half_precision_is_within_a_grey_level_or_so(tmp_path, photo, tiny_checkpoint):
    images.write(tmp_path / "p.png", photo(30, 40, 0))
    pictures = []
    for dtype in ("float32", "bfloat16"):
        common = dict(images=str(tmp_path / "p.png"), generator=tiny_checkpoint, device="cpu", width=2.0)
        (path,) = upscale(Upscale(**common, dtype=dtype, output=str(tmp_path / f"{dtype}.png")))
        pictures.append(images.read(path).astype(int))
    difference = np.abs(pictures[0] - pictures[1])
    assert 0 < difference.mean() < 1
    with pytest.raises(ValueError, match="did you mean 'bfloat16'"):
        Upscale(images="p.png", dtype="bfloat")


@pytest.mark.parametrize("tile", [24, None])
def test_large_photos_are_rendered_in_tiles(tmp_path, photo, tiny_checkpoint, tile):
    """With one code for all of them, which the policy chooses for the whole photo."""
    pixels = photo(70, 40, 3)
    images.write(tmp_path / "large.png", pixels)
    common = dict(images=str(tmp_path / "large.png"), generator=tiny_checkpoint, device="cpu", tile=tile)
    (path,) = upscale(Upscale(output=str(tmp_path / "out"), **common))
    policy = policies.load("predictor", BlindSREnv(metric="psnr", generator=tiny_checkpoint))
    action = torch.from_numpy(policy.predict(pixels)[0])[None]
    whole, network = expected(tiny_checkpoint, pixels, action), generators.load(tiny_checkpoint)
    if tile is None:
        assert near(images.read(path), whole)
        return
    with torch.no_grad():
        sr = Tiled(network, tile)(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255, action)[0]
    assert near(images.read(path), (sr.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())
    assert not near(images.read(path), whole)
    with pytest.raises(ValueError, match="tile must be above 16, got 16"):
        Upscale(**common | {"tile": 16})


def test_the_generator_can_be_compiled(tmp_path, photo, tiny_checkpoint, compiled):
    images.write(tmp_path / "p.png", photo(30, 40, 0))
    pictures = []
    for fused in (False, True):
        settings = {"images": str(tmp_path / "p.png"), "output": str(tmp_path / f"{fused}.png"), "device": "cpu"}
        (path,) = upscale(Upscale(**settings, generator=tiny_checkpoint, compile=fused))
        pictures.append(images.read(path))
        assert len(compiled) == fused
    assert np.array_equal(*pictures)


def test_eight_views_are_averaged(tmp_path, photo, tiny_checkpoint):
    pixels = photo(20, 14, 3)
    images.write(tmp_path / "own" / "p.png", pixels)
    common = dict(
        images=str(tmp_path / "own"), output=str(tmp_path / "out"), generator=tiny_checkpoint, device="cpu", width=1.0
    )
    (path,) = upscale(Upscale(self_ensemble=True, **common))
    network = generators.load(tiny_checkpoint)
    code = network.codec.encode(gaussian(torch.tensor([1.0], dtype=torch.float64)))
    with torch.no_grad():
        sr = SelfEnsemble(network)(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255, code)[0]
    assert near(images.read(path), (sr.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())
    with pytest.raises(ValueError, match="self_ensemble"):
        upscale(Upscale(**common))  # pictures of another kind are there


def test_a_known_width_asks_nobody(photos, tmp_path, tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(policies, "load", None)
    common = dict(images=str(photos / "a.png"), generator=tiny_checkpoint, device="cpu")
    pixels = images.read(photos / "a.png")
    codec = generators.load(tiny_checkpoint).codec
    pictures = []
    for width in (0.4, 3.0):
        (path,) = upscale(Upscale(output=str(tmp_path / str(width)), width=width, **common))
        pictures.append(images.read(path))
        action = codec.encode(gaussian(torch.tensor([width], dtype=torch.float64)))
        assert near(pictures[-1], expected(tiny_checkpoint, pixels, action))
    assert not np.array_equal(*pictures)


def test_a_policy_chooses_in_the_action_space_asked_for(photos, tmp_path, tiny_checkpoint, monkeypatch):
    """An action of 0.5 is the kernel of width 0.2 + 0.75 * 3.8."""
    monkeypatch.chdir(tmp_path)
    code = "return lambda seen: np.full((len(seen), 1), 0.5, np.float32)"
    (tmp_path / "halfway.py").write_text(f"import numpy as np\n\n\ndef policy(env):\n    {code}\n")
    common = dict(images=str(photos / "a.png"), generator=tiny_checkpoint, device="cpu")
    ways = {"chosen.png": dict(policy="halfway:policy", action="width"), "known.png": dict(width=3.05)}
    chosen, known = (images.read(*upscale(Upscale(output=name, **way, **common))) for name, way in ways.items())
    assert near(chosen, known)
    common |= dict(images=str(photos), policy="halfway:policy", output="out")
    upscale(Upscale(action="width", **common))
    with pytest.raises(ValueError, match="made by other settings .action width, not code"):
        upscale(Upscale(action="code", **common))
    (tmp_path / "halfway.py").write_text((tmp_path / "halfway.py").read_text().replace("0.5", "0.6"))
    with pytest.raises(ValueError, match="made by other settings .policy_file "):
        upscale(Upscale(action="width", **common))


def test_nothing_is_overwritten_unasked(photos, tmp_path, tiny_checkpoint, photo):
    common = dict(generator=tiny_checkpoint, device="cpu")
    own = tmp_path / "a_x4.png"
    images.write(own, photo(5, 5, 3))
    again = Upscale(images=str(photos / "a.png"), output=str(tmp_path), **common)
    with pytest.raises(ValueError, match=r"a_x4.png is there already: give another output, or --overwrite"):
        upscale(again)
    assert images.read(own).shape == (5, 5, 3)
    upscale(Upscale(images=str(photos / "a.png"), output=str(tmp_path), overwrite=True, **common))
    assert images.read(own).shape == (80, 132, 3)
    with pytest.raises(ValueError, match="the picture of .*a.png would replace it"):
        upscale(Upscale(images=str(photos / "a.png"), output=str(photos / "a.png"), overwrite=True, **common))


def test_photos_that_differ_in_their_endings_keep_them(photos, tmp_path, tiny_checkpoint, photo):
    for name, size in (("a.bmp", (6, 6)), ("a.png.bmp", (7, 7))):
        images.write(photos / name, photo(*size, 0))
    common = dict(generator=tiny_checkpoint, device="cpu")
    written = upscale(Upscale(images=str(photos), output=str(tmp_path / "out"), **common))
    names = [path.relative_to(tmp_path / "out").as_posix() for path in written]
    assert names == ["a.bmp_x4.png", "a.png_x4.png", "a.png.bmp_x4.png", "deep/b_x4.png"]
    assert [images.read(path).shape[0] for path in written] == [24, 80, 28, 36]


def test_a_stopped_folder_goes_on(photos, tmp_path, tiny_checkpoint, capsys):
    out = tmp_path / "out"
    common = dict(images=str(photos), output=str(out), generator=tiny_checkpoint, device="cpu")
    first = upscale(Upscale(**common))
    images.write(first[0], np.zeros((3, 3, 3), np.uint8))
    first[1].unlink()
    capsys.readouterr()
    assert upscale(Upscale(**common)) == first[1:]
    assert "1 of 2 pictures are there already and kept: --overwrite renders them again" in capsys.readouterr().out
    assert images.read(first[0]).shape == (3, 3, 3)
    later = first[1].stat().st_mtime + 10
    os.utime(photos / "deep" / "b.png", (later, later))
    assert upscale(Upscale(**common)) == [], "the photo is the same"
    stat = (photos / "deep" / "b.png").stat()
    images.write(photos / "deep" / "b.png", np.full(images.read(photos / "deep" / "b.png").shape, 9, np.uint8))
    os.utime(photos / "deep" / "b.png", (stat.st_mtime, stat.st_mtime))
    assert upscale(Upscale(**common)) == first[1:], "the photo is another one than before"
    assert upscale(Upscale(overwrite=True, **common)) == first and images.read(first[0]).shape == (80, 132, 3)


def test_pictures_that_something_else_made_are_not_kept(photos, tmp_path, tiny_checkpoint, louder, monkeypatch):
    out = tmp_path / "out"
    common = dict(images=str(photos), output=str(out), generator=tiny_checkpoint, device="cpu")
    first = [path.read_bytes() for path in upscale(Upscale(**common))]
    images.write(tmp_path / "elsewhere" / "a.png", np.zeros((5, 6, 3), np.uint8))
    others = {
        "another photo called a.png": dict(images=str(tmp_path / "elsewhere")),
        "policy predictor, not mean-code": dict(policy="mean-code"),
        "width None, not 2.0": dict(width=2.0),
        "weights ": dict(generator=louder),
        "tile 64, not None": dict(tile=None),
        "dtype float32, not bfloat16": dict(dtype="bfloat16"),
    }
    for changed, other in others.items():
        with pytest.raises(ValueError, match="out has pictures made by other settings .*: give another") as error:
            upscale(Upscale(**common | other))
        assert changed in str(error.value)
    assert [path.read_bytes() for path in sorted(out.rglob("*.png"))] == first

    def stop(core, *rest):
        raise KeyboardInterrupt

    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(Upscaler, "__call__", stop)
        upscale(Upscale(**common | dict(width=2.0, overwrite=True)))
    assert upscale(Upscale(**common)) == [], "what was not replaced yet is what it was"
    with pytest.raises(ValueError, match="made by other settings .policy predictor, not None"):
        upscale(Upscale(**common | dict(width=2.0)))
    second = [path.read_bytes() for path in upscale(Upscale(**common | dict(width=2.0, overwrite=True)))]
    assert second != first and upscale(Upscale(**common | dict(width=2.0))) == []


def test_a_kill_leaves_no_picture_with_anothers_entry(photos, tmp_path, tiny_checkpoint, monkeypatch):
    """Neither before nor after a picture is written: the note cannot be mended then."""
    out = tmp_path / "out"
    common = dict(images=str(photos), output=str(out), generator=tiny_checkpoint, device="cpu")
    upscale(Upscale(**common))
    noted = []

    def spied(path, pixels):
        noted.append(json.loads((out / "made_by.json").read_text()))
        write(path, pixels)
        noted.append(json.loads((out / "made_by.json").read_text()))

    write = images.write
    monkeypatch.setattr(images, "write", spied)
    upscale(Upscale(**common | dict(width=2.0, overwrite=True)))
    assert noted == [{}] * 4, "until all are replaced, nobody knows which one a picture is"
    noted.clear()
    (out / "a_x4.png").unlink()
    upscale(Upscale(**common | dict(width=2.0)))
    assert all(sorted(each) == ["a_x4.png", "deep/b_x4.png"] for each in noted) and len(noted) == 2
    assert all(entry["width"] == 2.0 for each in noted for entry in each.values())


def test_a_kill_leaves_a_changed_photo_to_be_rendered(photos, tmp_path, photo, tiny_checkpoint, monkeypatch):
    """Whether its picture was replaced by then or not."""
    common = dict(images=str(photos), output=str(tmp_path / "out"), generator=tiny_checkpoint, device="cpu")
    first = upscale(Upscale(**common))
    images.write(photos / "a.png", photo(7, 5, 0))

    def spied(path, pixels):
        write(path, pixels)
        noted.append((tmp_path / "out" / "made_by.json").read_text())

    write, noted = images.write, [(tmp_path / "out" / "made_by.json").read_text()]
    with monkeypatch.context() as context:
        context.setattr(images, "write", spied)
        assert upscale(Upscale(**common)) == first[:1]
    for killed in noted:
        (tmp_path / "out" / "made_by.json").write_text(killed)
        assert upscale(Upscale(**common)) == first[:1]
    assert upscale(Upscale(**common)) == []


def test_a_photo_that_took_anothers_place_is_rendered(photos, tmp_path, photo, tiny_checkpoint):
    common = dict(images=str(photos), output=str(tmp_path / "out"), generator=tiny_checkpoint, device="cpu")
    first = upscale(Upscale(**common))
    old = tmp_path / "old.png"
    images.write(old, photo(7, 5, 0))
    os.utime(old, (1e9, 1e9))
    shutil.copy2(old, photos / "a.png")  # keeps the date of 2001
    assert upscale(Upscale(**common)) == first[:1] and images.read(first[0]).shape == (28, 20, 3)


def test_a_photo_from_the_future_is_rendered_once(photos, tmp_path, tiny_checkpoint):
    common = dict(images=str(photos), output=str(tmp_path / "out"), generator=tiny_checkpoint, device="cpu")
    os.utime(photos / "a.png", (4e9, 4e9))
    first = upscale(Upscale(**common))
    assert len(first) == 2 and upscale(Upscale(**common)) == []


def test_photos_of_one_size_and_date_are_told_apart(tmp_path, photo, tiny_checkpoint):
    common = dict(output=str(tmp_path / "out"), generator=tiny_checkpoint, device="cpu")
    for folder, seed in (("A", 0), ("B", 1)):
        images.write(tmp_path / folder / "0001.bmp", photo(12, 12, seed))
        os.utime(tmp_path / folder / "0001.bmp", (1e9, 1e9))
    upscale(Upscale(images=str(tmp_path / "A"), **common))
    with pytest.raises(ValueError, match="another photo called 0001.bmp"):
        upscale(Upscale(images=str(tmp_path / "B"), **common))


def test_pictures_may_go_above_the_photos(photos, tmp_path, tiny_checkpoint):
    common = dict(images=str(photos), output=str(tmp_path), generator=tiny_checkpoint, device="cpu")
    assert len(upscale(Upscale(**common))) == 2 and upscale(Upscale(**common)) == []


def test_a_photos_picture_beside_it_is_no_photo(photos, tiny_checkpoint, capsys):
    common = dict(generator=tiny_checkpoint, device="cpu")
    upscale(Upscale(images=str(photos / "a.png"), output=str(photos), **common))
    written = upscale(Upscale(images=str(photos), output=str(photos / "x"), **common))
    assert [path.name for path in written] == ["a_x4.png", "b_x4.png"]


def test_folders_may_move_and_the_note_does_not_tell_where_they_were(photos, tmp_path, photo, tiny_checkpoint):
    common = dict(generator=tiny_checkpoint, device="cpu")
    upscale(Upscale(images=str(photos), output=str(tmp_path / "out"), **common))
    moved = photos.rename(tmp_path / "moved")
    out = (tmp_path / "out").rename(tmp_path / "elsewhere")
    assert upscale(Upscale(images=str(moved), output=str(out), **common)) == []
    images.write(moved / "a.png", photo(7, 5, 0))
    (changed,) = upscale(Upscale(images=str(moved), output=str(out), **common))
    assert changed == out / "a_x4.png" and images.read(changed).shape == (28, 20, 3)
    assert str(tmp_path) not in (out / "made_by.json").read_text()


def test_a_policys_run_may_move_and_the_note_does_not_tell_where_it_was(photos, tmp_path, tiny_checkpoint):
    (tmp_path / "runs" / "a").mkdir(parents=True)
    DDPG(BlindSREnv(metric="psnr", generator=tiny_checkpoint)).save(tmp_path / "runs" / "a" / "agent.safetensors")
    common = dict(images=str(photos), output=str(tmp_path / "out"), generator=tiny_checkpoint, device="cpu")
    upscale(Upscale(policy=str(tmp_path / "runs" / "a"), **common))
    note, now = tmp_path / "out" / "made_by.json", str((tmp_path / "runs").rename(tmp_path / "moved") / "a")
    assert str(tmp_path) not in note.read_text() and upscale(Upscale(policy=now, **common)) == []
    older = note.read_text().replace('"policy": "a"', f'"policy": "{tmp_path}/runs/a"')
    note.write_text(older)
    assert str(tmp_path) in older
    assert upscale(Upscale(policy=now, **common)) == [] and str(tmp_path) not in note.read_text()
    with pytest.raises(ValueError, match="made by other settings .policy a, not a@0.5"):
        upscale(Upscale(policy=f"{now}@0.5", **common))


def test_whenever_it_is_killed_no_picture_has_anothers_entry(tmp_path):
    def entry(place="here", width=1.0):
        return {"photo": {"name": "p", "content": "c", "place": place}, "width": width}

    note, now = Provenance(tmp_path), {"same": entry(), "wider": entry(width=2.0), "moved": entry("there")}
    now |= {"new": entry(), "gone": entry(), "unknown": entry(), "failed": entry(width=2.0)}
    pictures = {name: tmp_path / f"{name}.png" for name in now}
    for name in now.keys() - {"new", "gone"}:
        pictures[name].touch()
    before = {f"{name}.png": entry() for name in ("same", "gone", "wider", "moved", "failed")}
    note.path.write_text(json.dumps(before))
    with note.rendering({pictures[name]: each for name, each in now.items()}) as written:
        amid = json.loads(note.path.read_text())
        assert amid == {f"{name}.png": entry() for name in ("same", "gone", "new")}, (
            "true before and after each is replaced"
        )
        note.path.write_text(json.dumps({**amid, "anothers.png": entry()}))  # another program's
        written |= {pictures["wider"], pictures["moved"]}
    expected = {"same.png": entry(), "anothers.png": entry(), "failed.png": entry()}
    assert note._read() == {**expected, "wider.png": now["wider"], "moved.png": now["moved"]}


def test_older_notes_hold_the_path_of_a_photo(photos, tmp_path, tiny_checkpoint):
    out = tmp_path / "out"
    common = dict(images=str(photos), output=str(out), generator=tiny_checkpoint, device="cpu")
    first = upscale(Upscale(**common))
    note = json.loads((out / "made_by.json").read_text())
    for name, path in (("a_x4.png", "a.png"), ("deep/b_x4.png", "deep/b.png")):
        note[name]["photo"] = str(photos.resolve() / path)
    older = json.dumps(note)
    (out / "made_by.json").write_text(older)
    assert upscale(Upscale(**common)) == [] and str(photos) not in (out / "made_by.json").read_text()
    (out / "made_by.json").write_text(older)
    later = first[1].stat().st_mtime + 10
    os.utime(photos / "deep" / "b.png", (later, later))
    assert upscale(Upscale(**common)) == first[1:]
    (out / "made_by.json").write_text(older)
    os.utime(first[1], (1e9, 1e9))
    os.utime(photos / "deep" / "b.png", (0, 0))  # as of a copy that keeps the time of what it is of
    assert upscale(Upscale(**common)) == first[1:]
    (out / "made_by.json").write_text(older)
    with pytest.raises(ValueError, match="another photo called a.png"):
        upscale(Upscale(**common | dict(images=str(shutil.copytree(photos, tmp_path / "copy")))))


def test_odd_names_stop_nothing(photos, tmp_path, photo, tiny_checkpoint):
    for name in ("n" * 245, os.fsdecode(b"caf\xe9"), "$5_to_$6"):
        images.write(photos / "odd.png", photo(5, 6, 1))
        os.rename(photos / "odd.png", photos / f"{name}.png")
    arguments = ["--images", str(photos), "--output", str(tmp_path / "out"), "--generator", tiny_checkpoint]
    assert cli.main(["upscale", *arguments]) == 0
    assert len(list((tmp_path / "out").rglob("*.png"))) == 5


def test_single_photos_from_anywhere_may_become_neighbours(tmp_path, photo, tiny_checkpoint):
    common = dict(output=str(tmp_path / "out"), generator=tiny_checkpoint, device="cpu")
    for folder, changes in (("a", {}), ("b", {"width": 2.0})):
        (tmp_path / folder).mkdir()
        images.write(tmp_path / folder / f"{folder}.png", photo(8, 9, 0))
        upscale(Upscale(images=str(tmp_path / folder / f"{folder}.png"), **common, **changes))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a_x4.png", "b_x4.png", "made_by.json"]
    assert upscale(Upscale(images=str(tmp_path / "a"), **common)) == [], "the folder's run goes on, whoever lies beside"
    with pytest.raises(ValueError, match="a_x4.png"):
        upscale(Upscale(images=str(tmp_path / "a" / "a.png"), **common))


def test_a_folder_goes_on_after_one_of_its_photos_unless_that_was_made_otherwise(photos, tmp_path, tiny_checkpoint):
    common = dict(generator=tiny_checkpoint, device="cpu")
    (one,) = upscale(Upscale(images=str(photos / "a.png"), output=str(tmp_path / "out"), **common))
    rest = upscale(Upscale(images=str(photos), output=str(tmp_path / "out"), **common))
    assert one.name == "a_x4.png" and "a_x4.png" not in [path.name for path in rest] and rest
    upscale(Upscale(images=str(photos / "a.png"), output=str(tmp_path / "out"), width=3.0, overwrite=True, **common))
    with pytest.raises(ValueError, match="has pictures made by other settings"):
        upscale(Upscale(images=str(photos), output=str(tmp_path / "out"), **common))
    (tmp_path / "out" / "made_by.json").unlink()
    with pytest.raises(ValueError, match="out has a_x4.png already, of which made_by.json says nothing: give another"):
        upscale(Upscale(images=str(photos), output=str(tmp_path / "out"), **common))


def test_an_agent_brings_its_generator_and_names_its_folder(tmp_path, photo, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    images.write(tmp_path / "a.png", photo(8, 9, 0))
    (agents,) = upscale(Upscale(images="a.png", policy="amgan_rl_s", device="cpu"))
    assert agents.as_posix() == "upscaled/amgan_s_amgan_rl_s/a_x4.png"
    assert "amgan_s renders, amgan_rl_s chooses the code" in capsys.readouterr().out
    (larger,) = upscale(Upscale(images="a.png", policy="amgan_rl", device="cpu"))
    assert larger.as_posix() == "upscaled/amgan_amgan_rl/a_x4.png"
    with pytest.raises(ValueError, match="give policy or width, not both"):
        Upscale(images="a.png", width=2.0, policy="amgan_rl_s")
    (known,) = upscale(Upscale(images="a.png", width=2.0, device="cpu"))
    assert known.as_posix() == "upscaled/amnet_width_2/a_x4.png"
    (half,) = upscale(Upscale(images="a.png", width=2.0, self_ensemble=True, dtype="bfloat16", device="cpu"))
    assert half.as_posix() == "upscaled/amnet_width_2_self_ensemble_bfloat16/a_x4.png"
    with pytest.warns(UserWarning, match="amgan_rl_s learned what amgan_s's pictures are worth, amnet_s renders here"):
        (other,) = upscale(Upscale(images="a.png", policy="amgan_rl_s", generator="amnet_s", device="cpu"))
    assert other.as_posix() == "upscaled/amnet_s_amgan_rl_s/a_x4.png"


def test_folders_tell_the_agents_of_two_runs_apart(tmp_path, photo, tiny_checkpoint, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images.write(tmp_path / "a.png", photo(8, 9, 0))
    for run in ("runs/lr_0.1", "runs/lr_0.2"):
        Path(run).mkdir(parents=True)
        DDPG(BlindSREnv(metric="psnr", generator=tiny_checkpoint)).save(f"{run}/agent.safetensors")
    folders = []
    for policy in ("lr_0.1", "lr_0.2/agent.safetensors", "lr_0.2/agent.safetensors@0.5", "lr_0.2@0.50"):
        settings = Upscale(images="a.png", policy=f"runs/{policy}", generator=tiny_checkpoint, device="cpu")
        folders.append(upscale(settings)[0].parent.name)
    assert folders == ["tiny_runs_lr_0.1", *(f"tiny_runs_lr_0.2{share}" for share in ("", "@0.5", "@0.50"))]
    monkeypatch.chdir("runs/lr_0.1")
    settings = Upscale(images="../../a.png", policy=".", generator=tiny_checkpoint, device="cpu")
    assert upscale(settings)[0].parent.name == "tiny_runs_lr_0.1"


def test_a_generator_of_ones_own_is_told_from_the_shipped_one_whose_name_it_bears(tmp_path, photo, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    images.write(tmp_path / "a.png", photo(8, 9, 0))
    for file in ("runs/mine/generator.safetensors", "runs/theirs/amnet_s.safetensors", "further.safetensors"):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        generators.save(file, generators.load("amnet_s"), {})
        (picture,) = upscale(Upscale(images="a.png", width=1.0, generator=file, device="cpu"))
        called = {"mine": "amnet_s_mine", "theirs": "amnet_s_theirs"}.get(Path(file).parent.name, "amnet_s_further")
        assert picture.as_posix() == f"upscaled/{called}_width_1/a_x4.png"
        assert f"{called} renders" in capsys.readouterr().out


def test_a_policy_in_part_depends_on_the_predictor(photos, tmp_path, tiny_checkpoint, monkeypatch):
    path = tmp_path / "mine.safetensors"
    DDPG(BlindSREnv(metric="psnr", generator=tiny_checkpoint)).save(path)
    common = dict(images=str(photos), generator=tiny_checkpoint, device="cpu")
    for policy, output in ((f"{path}@0.5", "part"), (str(path), "whole")):
        assert len(upscale(Upscale(**common, policy=policy, output=str(tmp_path / output)))) == 2
    monkeypatch.setattr("experiments.upscale.shipped_predictor_file", lambda generator: path)
    assert upscale(Upscale(**common, policy=str(path), output=str(tmp_path / "whole"))) == []
    with pytest.raises(ValueError, match="made by other settings .predictor_file "):
        upscale(Upscale(**common, policy=f"{path}@0.5", output=str(tmp_path / "part")))
    note = tmp_path / "part" / "made_by.json"  # as older versions wrote it
    note.write_text(re.sub(r'\n *"predictor_file": "\w+",', "", note.read_text()))
    assert "predictor_file" not in note.read_text()
    assert upscale(Upscale(**common, policy=f"{path}@0.5", output=str(tmp_path / "part"))) == []


def test_an_agent_whose_generator_does_not_ship_needs_its_file(tmp_path, photo, tiny_checkpoint):
    env = BlindSREnv(metric="psnr", generator=tiny_checkpoint)
    DDPG(env).save(tmp_path / "mine.safetensors")
    common = dict(images=str(tmp_path / "a.png"), output=str(tmp_path), policy=str(tmp_path / "mine.safetensors"))
    images.write(tmp_path / "a.png", photo(8, 9, 0))
    with pytest.raises(ValueError, match=r"learned on tiny of weights that do not ship: give that as --generator"):
        upscale(Upscale(device="cpu", **common))
    assert upscale(Upscale(device="cpu", generator=tiny_checkpoint, **common))


def test_one_photo_may_name_its_file_and_grey_stays_grey(tmp_path, tiny_checkpoint, photo):
    grey = photo(8, 11, 0)[..., :1].repeat(3, axis=2)
    images.write(tmp_path / "g.png", grey)
    made = Upscale(
        images=str(tmp_path / "g.png"), output=str(tmp_path / "new" / "sharp.png"), generator=tiny_checkpoint
    )
    (path,) = upscale(made)
    picture = images.read(path)
    assert path.name == "sharp.png" and picture.shape == (32, 44, 3) and (picture == picture[..., :1]).all()


def test_a_folder_may_be_called_as_pictures_are(photos, tmp_path, tiny_checkpoint):
    (tmp_path / "o.png").mkdir()
    common = dict(output=str(tmp_path / "o.png"), generator=tiny_checkpoint, device="cpu")
    upscale(Upscale(images=str(photos / "a.png"), **common))
    upscale(Upscale(images=str(photos), **common))
    assert sorted(path.name for path in (tmp_path / "o.png").iterdir()) == ["a_x4.png", "deep", "made_by.json"]


def test_pictures_may_go_into_the_folder_of_photos(photos, tiny_checkpoint, monkeypatch, capsys):
    """As those of the default output do where one stands in that folder; they are no photos of the next run."""
    monkeypatch.chdir(photos)
    common = dict(images=".", generator=tiny_checkpoint, device="cpu")
    first = upscale(Upscale(**common))
    assert [path.as_posix() for path in first] == [f"upscaled/tiny_predictor/{name}_x4.png" for name in ("a", "deep/b")]
    assert "left out" not in capsys.readouterr().out
    assert upscale(Upscale(**common)) == [] and len(upscale(Upscale(**common, width=2.0))) == 2
    assert "left out: 2 in folders with a made_by.json (pictures made before)\n" in capsys.readouterr().out
    assert len(upscale(Upscale(**common | dict(images="upscaled/tiny_width_2", output="again")))) == 2, "if asked for"
    with pytest.raises(images.ImageError, match="upscaled holds only pictures made before"):
        upscale(Upscale(**common | dict(images="upscaled")))


def test_files_that_are_no_photos_are_told(photos, tmp_path, tiny_checkpoint, capsys):
    for name in ("c.HEIC", "deep/d.heic", "deep/notes", ".hidden.txt", ".thumbnails/e.gif"):
        (photos / name).parent.mkdir(exist_ok=True)
        (photos / name).touch()
    upscale(Upscale(images=str(photos), output=str(tmp_path / "out"), generator=tiny_checkpoint, device="cpu"))
    assert "left out: 2 .heic, 1 without an ending (photos end in .bmp, " in capsys.readouterr().out


def fail_on_b(monkeypatch, error):
    """Let the rendering of b.png, whose height is 9, fail."""
    render = BlindSRCore.render

    def failing(core, seen, action):
        if seen.shape[1] == 9:
            raise error
        return render(core, seen, action)

    monkeypatch.setattr(BlindSRCore, "render", failing)


def test_an_illegal_access_is_no_want_of_memory():
    assert memory.exhausted(MemoryError()) and memory.exhausted(RuntimeError("CUDA out of memory. Tried to allocate"))
    assert not memory.exhausted(RuntimeError("CUDA error: an illegal memory access was encountered"))


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_what_cannot_be_rendered_is_named_after_the_rest_is_done(photos, tmp_path, tiny_checkpoint, monkeypatch, error):
    (photos / "broken.png").write_bytes(b"no picture")
    fail_on_b(monkeypatch, error)
    for tile, cure in ((192, "cut it in parts"), (None, "leave tiles in")):
        message = f"2 of 3 photos .*broken.png is not a readable.*b.png needs more memory than there is: {cure}"
        settings = dict(output=str(tmp_path / cure), tile=tile, generator=tiny_checkpoint, device="cpu")
        with pytest.raises(ValueError, match=message):
            upscale(Upscale(images=str(photos), **settings))
        assert [path.name for path in (tmp_path / cure).rglob("*.png")] == ["a_x4.png"]


def test_a_picture_that_could_not_be_replaced_is_not_said_to_be(photos, tmp_path, tiny_checkpoint, louder, monkeypatch):
    settings = {"images": str(photos), "output": str(tmp_path / "out"), "device": "cpu"}
    upscale(Upscale(**settings, generator=tiny_checkpoint))
    fail_on_b(monkeypatch, MemoryError())
    with pytest.raises(ValueError, match="1 of 2 photos could not be rendered"):
        upscale(Upscale(**settings, generator=louder, overwrite=True))
    monkeypatch.undo()
    with pytest.raises(ValueError, match="--overwrite to render all again"):
        upscale(Upscale(**settings, generator=louder))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "missing setting images"),
        (["--images", "{photos}", "--policy", "true-code"], "'true-code' cannot choose for a photo alone"),
        (["--images", "{photos}", "--policy", "predicter"], "unknown policy 'predicter': did you mean 'predictor'"),
        (["--images", "{photos}", "--width", "-1"], "width must lie in 0.2 to 4, as tiny's kernels do, got -1"),
        (["--images", "{photos}", "--output", "{photos}"], "holds photos of "),
        (["--images", "{photos}", "--output", "{photos}/deep"], "photos/deep holds photos of "),
        (["--images", "{photos}/none.png"], "no image at"),
        (["--images", "{photos}", "--output", "one.png"], "is one picture, "),
        (["--images", "{photos}", "--output", "{photos}/../file"], "is a file: give a folder"),
        (["--images", "{photos}/a.png", "--output", "a.gif"], "a.gif would be a folder: pictures are written as"),
        (["--images", ""], "--images is given an empty value: a shell variable that is not set?"),
    ],
)
def test_mistakes(photos, tmp_path, tiny_checkpoint, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    given = [argument.format(photos=photos) for argument in arguments]
    assert cli.main(["upscale", "--generator", tiny_checkpoint, *given]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not (tmp_path / "upscaled").exists()


@pytest.mark.parametrize("name", ["true-code", "random@0.5", "true-code@0.5"])
def test_policies_that_need_more_than_the_photo_are_refused_in_part_too(name):
    with pytest.raises(ValueError, match="cannot choose for a photo alone"):
        Upscale(images="photo.png", policy=name)


def test_a_photo_that_fails_leaves_a_folders_note_alone(photos, tmp_path, tiny_checkpoint, capsys):
    whole = ["upscale", "--images", str(photos), "--output", str(tmp_path / "out"), "--generator", tiny_checkpoint]
    assert cli.main(whole) == 0
    note = (tmp_path / "out" / "made_by.json").read_text()
    (tmp_path / "bad.png").write_text("no picture")
    one = ["upscale", "--images", str(tmp_path / "bad.png"), "--output", str(tmp_path / "out"), "--width", "1.3"]
    assert cli.main([*one, "--generator", tiny_checkpoint]) == 2
    assert (tmp_path / "out" / "made_by.json").read_text() == note and cli.main(whole) == 0
    (tmp_path / "out" / "made_by.json").write_text("{")
    capsys.readouterr()
    assert cli.main(whole) == 2
    assert "made_by.json is damaged: give another output, or remove it" in capsys.readouterr().err
    assert cli.main([*one[:2], str(photos / "a.png"), *one[3:], "--generator", tiny_checkpoint]) == 2
    assert "pictures go to" not in capsys.readouterr().out.splitlines()[-1:]


def test_a_link_to_a_photo_is_no_place_for_a_picture(photos, tmp_path, tiny_checkpoint):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a_x4.png").symlink_to(photos / "deep" / "b.png")
    settings = Upscale(images=str(photos), output=str(tmp_path / "out"), generator=tiny_checkpoint, overwrite=True)
    with pytest.raises(ValueError, match="the picture of .*a.png would replace the photo b.png: give another output"):
        upscale(settings)
