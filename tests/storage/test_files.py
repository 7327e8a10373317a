"""Writing: a full disk, a read-only folder and a missing permission leave the old file, no rest and one error."""

import io
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, run_script
from test_corpus import small_corpus
from tiny_release import write_tiny_release

from data.corpus import write_corpus
from storage.files import InputError, sha256, write_csv, write_json, write_text
from storage.weights import save_arrays


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


def write_on_full_disk(folder):
    """Tries each writer where no file can grow beyond 1,000 bytes. Its process writes nothing else."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    for kind, write in WRITERS.items():
        path = Path(folder, kind)
        path.write_bytes(b"old")
        try:
            write(path, 16_000)
        except InputError as error:
            print(error)


def test_a_full_disk_leaves_the_old_files(tmp_path):
    """The program then ends by itself: HDF5 once freed at its end what Python had freed before, and crashed."""
    code = "import sys; folder, *sys.path = sys.argv[1:]; import test_files; test_files.write_on_full_disk(folder)"
    done = run_script("-c", code, tmp_path, *sys.path)
    assert (done.returncode, done.stderr) == (0, "")
    said = [f"{tmp_path / kind}: cannot be written (File too large); the file is as it was before" for kind in WRITERS]
    assert done.stdout.splitlines() == said
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == dict.fromkeys(WRITERS, b"old")


def test_ctrl_c_while_hdf5_writes_leaves_the_old_file(tmp_path, monkeypatch):
    class Interrupted(io.FileIO):
        def write(self, content):
            raise KeyboardInterrupt

    (tmp_path / "file").write_bytes(b"old")
    monkeypatch.setattr("storage.hdf5.open", lambda path, *_, **__: Interrupted(path, "w+"), raising=False)
    with pytest.raises(KeyboardInterrupt):
        write_corpus(tmp_path / "file", small_corpus())
    assert (tmp_path / "file").read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]


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


def test_a_name_that_is_no_text_is_one_error(tmp_path):
    with pytest.raises(InputError, match=r"a.json: cannot be written: .*mine\\udcff.* is no UTF-8; if it names a file"):
        write_json(tmp_path / "a.json", {"path": "mine\udcff.h5"})
    assert not list(tmp_path.iterdir())


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
