"""What an installation holds: every package, with its weights and configs."""

import configparser
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_package_is_installed():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    listed = settings["options"]["packages"].split()
    rooms = ("agents", "blindsr_env", "experiments", "generators")
    found = [path.parent for room in rooms for path in (ROOT / room).rglob("__init__.py")]
    assert sorted(listed) == sorted(".".join(folder.relative_to(ROOT).parts) for folder in found)
