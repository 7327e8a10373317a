"""Checkpoints from strangers: each hostile or damaged file is refused by name, before anything of it is used."""

import json
import math
import os

import h5py
import numpy as np
import pytest
from conftest import ROOT
from hypothesis import example, given
from hypothesis import strategies as st

import model
from checkpoint import load_checkpoint
from data.scaling import Scaler
from settings import Settings
from storage.files import InputError, sha256, write_json
from storage.runs import _LATER, Run, check_files, read_history, read_run
from storage.weights import save_arrays, save_weights, weight_arrays
from systems import system_of
from training.run import _surroundings, check_branches, check_surroundings, resume_run

NAMES = ("pitch", "energy", "rate")
RUN = {
    "format": "mcaf-run",
    "format_version": 1,
    "settings": Settings(modality="audio").model_dump(mode="json"),
    "emotions": ["neutral", "angry"],
    "context_length": 9,
    "corpus": {
        "name": "tiny", "path": "tiny.h5", "sha256": "0" * 64, "audio_feature_set": "egemaps_lld",
        "num_audio_features": 3,
    },
    "glove": None,
    "branches": None,
    "stages": {"audio": {"epochs": 1, "best_epoch": 1, "best_dev_loss": 0.5, "seconds": 1.0}},
    "files": {},
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """{file name: bytes} of a finished run of the audio branch alone."""
    folder = tmp_path_factory.mktemp("whole")
    save_weights(model.audio_branch(3, 2), folder / "audio.weights.h5")
    write_json(folder / "scaler.json", Scaler(NAMES, np.zeros(3), np.ones(3)).to_json())
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(whole, tmp_path):
    """The run, to be damaged; `sealed` writes its run.json."""
    path = tmp_path / "run"
    path.mkdir()
    for name, content in whole.items():
        (path / name).write_bytes(content)
    return path


def sealed(folder, **changes):
    files = {path.name: sha256(path) for path in folder.glob("*.*") if path.is_file() and path.name != "run.json"}
    (folder / "run.json").write_text(json.dumps(RUN | {"files": files} | changes))


def refused(folder, message):
    with pytest.raises(InputError, match=message) as caught:
        load_checkpoint(folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_a_whole_checkpoint_is_loaded(folder):
    sealed(folder)
    shares = load_checkpoint(folder).predict_dialog(["Yes.", "No."], np.ones((2, 3)))
    assert shares.shape == (2, 2) and np.isfinite(shares).all()


def test_files_that_are_missing_changed_or_unlisted_are_refused(folder):
    for name in ("audio.weights.h5", "scaler.json"):
        sealed(folder)
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        refused(folder, f"{name}: changed since it was written .SHA-256")
        (folder / name).unlink()
        refused(folder, f"{name}: missing")
        (folder / name).mkdir()
        refused(folder, f"{name}: missing")
        (folder / name).rmdir()
        os.mkfifo(folder / name)  # reading it would wait for ever
        refused(folder, f"{name}: missing")
        (folder / name).unlink()
        sealed(folder)
        (folder / name).write_bytes(content)
        refused(folder, f"{name}: run.json lists no SHA-256 of it")
    (folder / "run.json").unlink()
    refused(folder, "not a run folder")


def weights(change):
    """A change of the arrays of the weight file."""

    def changed(folder):
        arrays = weight_arrays(model.audio_branch(3, 2))
        change(arrays)
        save_arrays(folder / "audio.weights.h5", arrays)

    return changed


def inside(change):
    """A change of the weight file as HDF5."""

    def changed(folder):
        with h5py.File(folder / "audio.weights.h5", "r+") as file:
            change(file, "emotions.bias")

    return changed


def replaced(make):
    def change(file, name):
        del file[name]
        make(file, name)

    return inside(change)


def virtual(file, name):
    layout = h5py.VirtualLayout((2,), "f4")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "x", (2,))
    file.create_virtual_dataset(name, layout)


def scaler(**changes):
    content = {"names": list(NAMES), "mean": [0.0] * 3, "scale": [1.0] * 3} | changes
    return lambda folder: (folder / "scaler.json").write_text(json.dumps(content))


HOSTILE = {
    "a pickle": (lambda folder: (folder / "audio.weights.h5").write_bytes(b"\x80\x04x." * 9999), "not a readable HDF5"),
    "truncated": (lambda folder: os.truncate(folder / "audio.weights.h5", 99_999), "not a readable HDF5"),
    "a name less": (weights(lambda arrays: arrays.pop("emotions.bias")), "'emotions.bias' is missing"),
    "a name more": (weights(lambda arrays: arrays.update(extra=np.zeros(2))), "holds 'extra'"),
    "another name": (
        weights(lambda arrays: arrays.update(other=arrays.pop("emotions.bias"))), "holds 'other'"),
    "another shape": (
        weights(lambda arrays: arrays.update({"emotions.bias": np.zeros(3, "float32")})), r"float32 \(3,\)"),
    "another type": (
        weights(lambda arrays: arrays.update({"emotions.bias": np.zeros(2)})), "'emotions.bias' is float64"),
    "text": (
        weights(lambda arrays: arrays.update({"emotions.bias": np.array([b"a", b"b"])})), "the network needs float32"),
    "not a number": (
        weights(lambda arrays: arrays.update({"emotions.bias": np.full(2, np.nan, "float32")})), "not finite"),
    "infinite": (
        weights(lambda arrays: arrays.update({"emotions.bias": np.full(2, np.inf, "float32")})), "not finite"),
    "a link out": (
        replaced(lambda file, name: file.__setitem__(name, h5py.ExternalLink("/etc/passwd", "x"))), "is a link"),
    "a link inside": (
        replaced(lambda file, name: file.__setitem__(name, h5py.SoftLink("/vector.bias"))), "is a link"),
    "a link to itself": (
        replaced(lambda file, name: file.__setitem__(name, h5py.SoftLink(f"/{name}"))), "is a link"),
    "a virtual dataset": (replaced(virtual), "keeps its data in another file"),
    "data outside": (
        replaced(lambda file, name: file.create_dataset(name, (2,), "f4", external=[("/etc/passwd", 0, 8)])),
        "keeps its data in another file"),
    "a group": (replaced(lambda file, name: file.create_group(name)), "is not a dataset"),
    "a terabyte": (
        replaced(lambda file, name: file.create_dataset(name, (10**12,), "f4", chunks=(1000,))),
        "more than the file can hold"),
    "objects": (
        replaced(lambda file, name: file.create_dataset(name, (2,), h5py.string_dtype())), "the network needs float32"),
    "references": (
        replaced(lambda file, name: file.create_dataset(name, (2,), h5py.ref_dtype)), "the network needs float32"),
    "no scaler": (lambda folder: (folder / "scaler.json").write_text("[]"), "scaler.json: "),
    "names as text": (scaler(names="abc"), "scaler.json: names: "),
    "names as numbers": (scaler(names=[1, 2, 3]), "scaler.json: names.0: "),
    "numbers as text": (scaler(mean=["1", "2", "3"]), "scaler.json: mean.0: "),
    "true": (scaler(mean=[True] * 3), "scaler.json: mean.0: "),
    "lists": (scaler(mean=[[1.0]] * 3), "scaler.json: mean.0: "),
    "a number too large": (scaler(mean=[10**400] * 3), "scaler.json: mean.0: must be a finite number"),
    "no finite mean": (scaler(mean=[math.nan] * 3), "mean.0: must be a finite number"),
    "no finite scale": (scaler(scale=[math.inf] * 3), "scale.0: must be a finite number"),
    "scale zero": (scaler(scale=[0.0] * 3), "scale.0: must be greater than 0"),
    "too few": (scaler(scale=[1.0] * 2), "must be 3 numbers each"),
    "a wide scaler": (
        scaler(names=["x"] * 90_000, mean=[0] * 90_000, scale=[1] * 90_000), "too small for the 90000 features"),
    "another width": (scaler(names=["x"] * 4, mean=[0] * 4, scale=[1] * 4), "the network needs float32"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_even_with_the_right_hash(folder, name):
    change, message = HOSTILE[name]
    change(folder)
    sealed(folder)
    refused(folder, message)


@pytest.mark.parametrize("vocabulary", ["{}", '"words"', "[1]", "[null]", '["a", "a"]', "[", json.dumps(["x"] * 3)])
def test_hostile_vocabularies_are_refused(folder, vocabulary):
    (folder / "vocabulary.json").write_text(vocabulary)
    (folder / "text.weights.h5").write_bytes(b"x" * 99)
    settings = RUN["settings"] | {"modality": "text"}
    sealed(folder, settings=settings, stages={"text": RUN["stages"]["audio"]})
    refused(folder, "vocabulary.json")


def test_a_vocabulary_larger_than_its_weights_is_refused_before_a_network_is_built(folder, monkeypatch):
    (folder / "vocabulary.json").write_text(json.dumps([f"w{number}" for number in range(50_000)]))
    (folder / "text.weights.h5").write_bytes(b"x" * 99)
    sealed(folder, settings=RUN["settings"] | {"modality": "text"}, stages={"text": RUN["stages"]["audio"]})
    monkeypatch.setattr(model, "text_branch", None)
    refused(folder, "too small for the 50000 words")


@pytest.mark.parametrize(
    "name", ["../run.json", "..", "", ".", "/etc/passwd", "a/b", "a\0b", "x" * 5000, ".lock", "\ud800"]
)
def test_tricks_with_file_names_are_refused(folder, name):
    sealed(folder, files={name: "0" * 64})
    refused(folder, "no name of a file in the folder" if name != "\ud800" else "run.json: invalid JSON")


@pytest.mark.parametrize("name", sorted(RUN))
@pytest.mark.parametrize("value", [None, True, 7, -1.5, "x", [], {}, [None], {"x": None}, 10**400])
def test_fields_of_another_type_are_refused(tmp_path, name, value):
    content = RUN | {name: value}
    (tmp_path / "run.json").write_text(json.dumps(content))
    if (name, value) in (("glove", None), ("branches", None), ("branches", "x"), ("stages", {}), ("files", {})):
        assert read_run(tmp_path) == Run.model_validate_json(json.dumps(content))
    elif (name, value) != ("context_length", 7):
        with pytest.raises(InputError, match="run.json"):
            read_run(tmp_path)


# Any whole number could be a session, and any name an emotion or a system.
MAY_BE = [("dev_session", -1), ("test_session", -1), ("emotion", "x"), ("variant", "x")]


@pytest.mark.parametrize("name", sorted(RUN["settings"]))
@pytest.mark.parametrize("value", ["missing", None, "x", [], {}, [True], -1, math.inf, math.nan])
def test_settings_that_train_could_not_give_are_refused(tmp_path, name, value):
    """Runs of earlier versions lack a few; what they did is the default."""
    settings = RUN["settings"] | {name: value}
    if value == "missing":
        del settings[name]
    (tmp_path / "run.json").write_text(json.dumps(RUN | {"settings": settings}))
    if value == "missing" and name in _LATER:
        assert getattr(read_run(tmp_path).settings, name) == Settings.model_fields[name].default
    elif (name, value) not in MAY_BE:
        with pytest.raises(InputError, match="run.json"):
            read_run(tmp_path)


def test_an_unknown_system_or_stage_is_refused(folder):
    sealed(folder, settings=RUN["settings"] | {"variant": "../x"})
    with pytest.raises(InputError, match="variant '../x' is none of causal, lstm, paper, released"):
        load_checkpoint(folder)
    sealed(folder, stages=RUN["stages"] | {"fusion": RUN["stages"]["audio"]})
    refused(folder, "'fusion', which is no stage of this run")


def test_a_network_is_not_loaded_without_those_it_reads():
    folder = ROOT / "checkpoints" / "iemocap-released"
    with pytest.raises(InputError, match="stage fusion reads what text and audio make of an utterance: load all three"):
        load_checkpoint(folder, ["audio", "fusion"])


def checked_branches(**changes):
    """Compares a run with the given changes against the finished run that its "branches" name."""
    run = Run.model_validate_json(json.dumps(RUN | {"stages": {}} | changes))
    check_branches(run, system_of("released").stages(run.settings))


def test_other_folders_branches_are_checked_too(folder):
    sealed(folder)
    checked_branches(branches=str(folder))
    with open(folder / "audio.weights.h5", "ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match="audio.weights.h5: changed"):
        checked_branches(branches=str(folder))
    with pytest.raises(InputError, match="lists no SHA-256"):
        check_files(folder, Run.model_validate_json(json.dumps(RUN)), ["audio.weights.h5"])


def test_branches_may_have_been_trained_longer_or_faster_but_not_otherwise(folder):
    """Epochs, patience and learning rate of a run with --branches are its fusion's; the rest must be the same."""
    sealed(folder)

    def with_settings(**changes):
        checked_branches(branches=str(folder), settings=RUN["settings"] | changes)

    with_settings(epochs=3, patience=2, learning_rate=0.5)
    for name, value in (("batch_size", 3), ("seed", 9), ("targets", "categorical")):
        with pytest.raises(InputError, match=f"was trained with {name} .*, this run has {value}"):
            with_settings(**{name: value})


def test_a_run_goes_on_with_its_backend_alone(capsys):
    """Another one would compute other digits under the run.json of the first; what else differs is said."""
    run = Run.model_validate_json(json.dumps(RUN)).model_copy(update=_surroundings())
    check_surroundings(run, "runs/a")
    assert capsys.readouterr().out == ""
    with pytest.raises(InputError, match="runs/a: was begun on another, .* set .* KERAS_BACKEND=another"):
        check_surroundings(run.model_copy(update={"backend": "another"}), "runs/a")
    check_surroundings(run.model_copy(update={"software": {"keras": "2"}, "devices": ("cpu:0", "cpu:1")}), "runs/a")
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(" of")[0] for line in said] == ["note: devices", "note: software"]


@pytest.mark.parametrize("changed", ["corpus", "glove"])
def test_a_run_does_not_go_on_with_other_files(folder, tmp_path, changed):
    files = {}
    for name in ("corpus", "glove"):
        (tmp_path / name).write_text(name)
        files[name] = RUN["corpus"] | {"path": str(tmp_path / name), "sha256": sha256(tmp_path / name)}
    sealed(folder, **files)
    (tmp_path / changed).write_text("other")
    with pytest.raises(InputError, match=f"{changed}: is not the file that the run began with"):
        resume_run(folder)


@pytest.mark.parametrize("content", ["", "stage\naudio\n", "a\naudio,x,1,1,1\n", "a\naudio,2,1,1,1\n", "\0", None])
def test_damaged_histories_are_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "history.csv").write_text(content)
    with pytest.raises(InputError, match="history.csv.*; put it back from a copy, or train again"):
        read_history(tmp_path, Run.model_validate_json(json.dumps(RUN)))


def test_a_history_that_is_cut_off_is_refused(tmp_path):
    """Within the last number, too, where what is left looks whole."""
    rows = ["stage,epoch,train_loss,dev_loss,dev_accuracy", "audio,1,0.125,0.25,0.5", ""]
    (tmp_path / "history.csv").write_text("\n".join(rows))
    assert len(read_history(tmp_path, Run.model_validate_json(json.dumps(RUN)))) == 1
    (tmp_path / "history.csv").write_text("\n".join(rows)[:-2])
    with pytest.raises(InputError, match=r"history\.csv: is damaged or cut off"):
        read_history(tmp_path, Run.model_validate_json(json.dumps(RUN)))


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)


@st.composite
def damaged_runs(draw):
    """run.json with a few values anywhere in it replaced or taken out, or other bytes altogether."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=60))
    content = json.loads(json.dumps(RUN))
    for _ in range(draw(st.integers(1, 3))):
        place, key = content, draw(st.sampled_from(sorted(content)))
        while isinstance(place.get(key), dict) and place[key] and draw(st.booleans()):
            place = place[key]
            key = draw(st.sampled_from(sorted(place)))
        if draw(st.booleans()):
            place[key] = draw(JSON)
        else:
            place.pop(key, None)
        if not content:
            break
    return json.dumps(content).encode()


@pytest.mark.fuzz
@given(damaged_runs())
@example(b"\xff")
@example(b"[" * 100_000)
@example(b"9" * 5000)
def test_any_run_json_gives_a_sound_run_or_a_named_error(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp()
    (folder / "run.json").write_bytes(content)
    try:
        run = read_run(folder)
    except InputError as error:
        assert str(folder) in str(error)
        return
    assert run.settings.modality in ("text+audio", "text", "audio") and run.settings.epochs > 0
    assert len(set(run.emotions)) > 1 and 1 <= run.context_length <= 10_000_000
    assert isinstance(run.corpus.path, str) and (run.glove is None or run.glove.path is not None)
    assert all("/" not in name and isinstance(digest, str) for name, digest in run.files.items())
