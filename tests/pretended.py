"""Packages and places that are not there."""

import shutil
import sys
from types import ModuleType


def pretend_package(folder, monkeypatch, name, version):
    """Put a package of one empty module on the path, with what pip notes of it; give the folder that is on the path."""
    folder = folder / f"with {name}"
    shutil.rmtree(folder, ignore_errors=True)  # of another version
    noted = folder / f"{name}-{version}.dist-info"
    for inside in (folder / name, noted):
        inside.mkdir(parents=True)
    (folder / name / "__init__.py").touch()
    (noted / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    (noted / "RECORD").write_text(f"{name}/__init__.py,,\n{noted.name}/METADATA,,\n", encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    return folder


def pretend_torchao(folder, monkeypatch, version):
    """As Colab has it, 0.10.0: peft raises where it meets one before 0.16.0."""
    return pretend_package(folder, monkeypatch, "torchao", version)


def pretend_colab(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
