"""What a clone installs and checks: pinned packages, Python versions, the same bytes, complete layers."""

import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
from conftest import ROOT

LOCKS = {
    "requirements.txt": ("cpu",),
    "requirements-cluster.txt": ("cpu", "cluster"),
    "requirements-dev.txt": ("cpu", "cluster", "dev"),
    "requirements-gpu.txt": ("gpu",),
    "requirements-encoders.txt": ("encoders",),  # beside the main one, or the one of a CUDA card
}
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_every_package_as_pyproject_asks_and_names_no_place(lock):
    pins = {}
    for line in (ROOT / lock).read_text().splitlines():
        if not line.startswith("#"):
            name, version = re.fullmatch(r"([a-z0-9-]+)==([\w.]+)(?: ; [\w.<>=!'() ]+)?", line).groups()
            pins.setdefault(name, version)
            assert pins[name] == version  # the same for every Python
    project = PYPROJECT["project"]
    asked = project["dependencies"] + [
        need for extra in LOCKS[lock] for need in project["optional-dependencies"][extra]
    ]
    for need in asked:
        name, version = need.lower().split("==")
        assert pins[name.split("[")[0]] == version
    assert ("tensorflow" in pins) + ("tensorflow-cpu" in pins) == (lock != "requirements-encoders.txt")
    assert "torch" not in pins or not any(name.startswith(("cuda", "nvidia")) for name in pins)  # gigabytes
    main = (ROOT / "requirements.txt").read_text()
    assert all(f"{name}=={pins[name]} " in main for name in re.findall("^[a-z0-9-]+", main, re.M) if name in pins)


@pytest.mark.parametrize("version", [(2, 7), (3, 10), (3, 11), (3, 13), (3, 14)])
def test_another_python_is_refused_in_one_line_before_anything_is_installed(version, tmp_path):
    for name in ("Makefile", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / "python"  # says that it is of that version, and makes no environment
    python.write_text(
        f'#!/bin/sh\n[ "$1" = -c ] && exec {sys.executable} -c "import sys; sys.version_info = {version}; $2"\nexit 7\n'
    )
    python.chmod(0o755)
    # A make above this one, as in `make test`, would have its own lines printed and its options passed on.
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", "PYTHON=./python", ".venv/ready"]
    made = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
    refused = [line for line in made.stderr.splitlines() if not line.startswith("make")]
    if (3, 11) <= version <= (3, 13):
        assert refused == [] and "-m venv" in made.stdout
    else:
        assert made.stdout == "" and len(refused) == 1
        assert re.match(rf"Python 3.11, 3.12 or 3.13 .* {version[0]}\.{version[1]}: make PYTHON=", refused[0])
    assert not (tmp_path / ".venv").exists()


def test_a_clone_that_would_convert_line_ends_gets_the_committed_bytes(tmp_path):
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone")
    clone = ["git", "clone", "--quiet", "-c", "core.autocrlf=true", str(ROOT), str(tmp_path / "clone")]
    subprocess.run(clone, check=True, timeout=60)
    listed = ["git", "-C", str(tmp_path / "clone"), "ls-files", "--eol"]
    lines = subprocess.run(listed, check=True, capture_output=True, text=True, timeout=60).stdout.splitlines()
    assert lines and not any("w/crlf" in line or "w/mixed" in line for line in lines)


def test_every_module_has_its_layer():
    modules = {path.stem for path in ROOT.glob("*.py")} | {path.parent.name for path in ROOT.glob("*/__init__.py")}
    contract = PYPROJECT["tool"]["importlinter"]
    assert set(contract["root_packages"]) == modules
    layers = [name for layer in contract["contracts"][0]["layers"] for name in layer.split(" | ")]
    assert sorted(layers) == sorted(modules)
