"""Partial files that kills left behind; the rest of atomic writes is tested where they matter, under experiments."""

import os
import time

import pytest

from generators.atomic import LEFT_BEHIND, atomic_write


def test_old_partial_files_of_the_same_path_are_swept(tmp_path):
    def left(name, age):
        path = tmp_path / name
        path.write_text("half")
        os.utime(path, (time.time() - age,) * 2)
        return path

    old = left(".run[1]-0123abcd.json", LEFT_BEHIND + 60)
    kept = [
        left(".run[1]-4567abcd.json", LEFT_BEHIND - 60),  # may still be written to
        left(".run[1]-0123abcd.yaml", LEFT_BEHIND + 60),
        left(".run1-0123abcd.json", LEFT_BEHIND + 60),
        left(".run[1]-settings.json", LEFT_BEHIND + 60),  # somebody else's
        left("run[1]-0123abcd.json", LEFT_BEHIND + 60),
    ]
    with atomic_write(tmp_path / "run[1].json") as partial:
        partial.write_text("whole")
    assert not old.exists() and all(path.exists() for path in kept)
    assert (tmp_path / "run[1].json").read_text() == "whole" and len(list(tmp_path.iterdir())) == len(kept) + 1


def test_names_may_be_as_long_as_the_file_system_allows(tmp_path):
    path = tmp_path / ("é" * 125 + ".json")  # 255 bytes
    with atomic_write(path) as partial:
        partial.write_text("whole")
    assert path.read_text() == "whole" and list(tmp_path.iterdir()) == [path]


def test_a_folder_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "runs").mkdir()
    with pytest.raises(IsADirectoryError, match="runs is a folder: give the name of a file in it$"):
        with atomic_write(tmp_path / "runs"):
            pytest.fail("the work would be lost")
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
