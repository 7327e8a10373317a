"""Writing: a full disk, a read-only folder and a missing permission leave the old file, no rest and one error."""

import os
import re
import resource
import subprocess

import numpy as np
import pytest
from conftest import ROOT, run_script
from test_corpus import small_corpus
from tiny_release import write_tiny_release

from data.corpus import write_corpus
from storage.files import InputError, sha256, write_csv, write_json, write_text
from storage.weights import save_arrays


@pytest.fixture
def full_disk():
    """A function after which no file of this process can grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 300 KB; root alone may make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", folder], capture_output=True)
    if made.returncode:
        pytest.skip("no right to mount a file system")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


WRITERS = {
    "text": lambda path, size: write_text(path, "x" * size),
    "JSON": lambda path, size: write_json(path, ["x"] * (size // 8)),
    "CSV": lambda path, size: write_csv(path, ["a"], [["xxxxxxx"]] * (size // 8)),
    "arrays": lambda path, size: save_arrays(path, {"a": np.zeros(size // 8), "b": np.zeros(size // 8)}),
    "corpus": lambda path, size: write_corpus(path, small_corpus(audio_feature_set="x" * size)),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk_leaves_the_old_file(tmp_path, full_disk, kind):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    full_disk(1000)
    with pytest.raises(InputError, match="cannot be written") as caught:
        WRITERS[kind](path, 16_000)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("kept", [0, 100_000, 150_000, 200_000, 250_000])
def test_a_file_system_that_fills_up_leaves_the_old_file(small_disk, kept):
    """Wherever it fills up: HDF5 left to itself gave other errors at some places, and ended the process at others."""
    write_corpus(small_disk / "file", small_corpus())
    before = sha256(small_disk / "file")
    (small_disk / "taken").write_bytes(bytes(kept))
    large = small_corpus(6552, transcript=np.array(["x" * 90_000] * 3, object))
    with pytest.raises(InputError, match="cannot be written .No space left"):
        write_corpus(small_disk / "file", large)
    assert sha256(small_disk / "file") == before and sorted(os.listdir(small_disk)) == ["file", "taken"]


def test_a_read_only_file_system_is_one_error(small_disk):
    (small_disk / "file").write_bytes(b"old")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(InputError, match="cannot be written .Read-only file system"):
        write_text(small_disk / "file", "new")


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_missing_permission_is_one_error(tmp_path, monkeypatch, failing):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "file").write_bytes(b"old")
    with monkeypatch.context() as patched:
        patched.setattr(os, failing, refuse)
        with pytest.raises(InputError, match="cannot be written .Permission denied"):
            write_text(tmp_path / "file", "new")
    assert (tmp_path / "file").read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]


def test_preparation_on_a_full_disk_keeps_what_is_finished(tmp_path):
    release, out = write_tiny_release(tmp_path), tmp_path / "corpus.h5"
    arguments = ("-m", "data.prepare", "iemocap", "--release", release, "--out", out, "--jobs", 1)
    done = run_script(*arguments, file_bytes=1000)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "corpus.h5.features.jsonl: cannot be written" in done.stderr and "finished so far are kept" in done.stderr
    assert sorted(os.listdir(tmp_path)) == [release.name, "corpus.h5.features.jsonl"]
    done = run_script(*arguments, "--audio", "none", file_bytes=1000)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"error: {out}: cannot be written" in done.stderr and not out.exists()


def test_nothing_in_the_project_unpickles_or_executes():
    """No pickle, no NumPy objects, no Keras model files, no code from data, in any Python file outside the tests."""
    pattern = re.compile(
        r"\bpickle\b(?!s)|allow_pickle=True|\bjoblib\.load|\bnp\.(load|save|savez)\(|(?<![.\w])(eval|exec|compile)\(|"
        r"\bLambda\b|load_model|model_from|marshal|shelve|yaml\.load|safe_mode=False|shell=True|os\.system|"
        r"torch\.load|trust_remote_code=True"
    )
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    files = [*ROOT.glob("*.py"), *(path for folder in folders for path in (ROOT / folder).rglob("*.py"))]
    assert len(files) > 60
    for path in files:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            assert not pattern.search(line), f"{path}:{number}: {line}"
