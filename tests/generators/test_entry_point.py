"""Modules of one's own: which one a name means. The rest is tested where they make something."""

import sys

from generators import entry_point


def test_the_working_directory_comes_first(tmp_path, monkeypatch):
    """To what is imported and to what is fingerprinted alike, whatever else has a module of that name."""
    for name in ("here", "elsewhere"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "of_two_folders.py").write_text(f"def make():\n    return {name!r}\n")
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path / "here")
    try:
        assert entry_point.source_of("of_two_folders:make") == tmp_path / "here" / "of_two_folders.py"
        assert b"'here'" in entry_point.text_of("of_two_folders:make")
        assert entry_point.find("of_two_folders:make", "generator")() == "here"
    finally:
        sys.modules.pop("of_two_folders", None)
