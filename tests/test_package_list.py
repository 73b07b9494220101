"""pyproject.toml lists every package: setuptools cannot find them where folders are mapped to other names."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]


def test_every_folder_with_modules_is_a_listed_package() -> None:
    found = set()
    for package, folder in SETUPTOOLS["package-dir"].items():
        top = ROOT / folder
        for path in top.rglob("*.py"):
            found.add(".".join([package, *path.parent.relative_to(top).parts]))
    listed = set(SETUPTOOLS["packages"])
    assert found <= listed, "add these to [tool.setuptools] packages"
    assert listed - found == {"emotivetalk.checkpoints"}
