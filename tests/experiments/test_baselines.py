"""The paper's peers: what they may see, how ties are trained, how dev chooses, and their rows in Table 1."""

import csv
import json

import keras
import numpy as np
import pytest
from test_evaluate import write_untrained_run
from test_reproduce import SEEDS, fabricated, fabricated_corpus  # noqa: F401 (the first is a fixture by its name)

import baselines
import reproduce
from experiments.baselines import BC_LSTM_WINDOW, GRIDS, NAMES, TRAINERS, Task, ef_lstm, labelled, pad, tfn
from data.corpus import dialog_slices, read_corpus
from storage.files import InputError
from data.labels import is_tie, split_sessions
from experiments.tables import TABLE_1, Results, table_1

POINTS = {
    "svm": {"C": 10.0},
    "random_forest": {"min_samples_leaf": 1},
    "ef_lstm": {"units": 32, "learning_rate": 0.01},
    "bc_lstm": {"units": 16, "learning_rate": 0.01},
    "tfn": {"hidden": 6, "learning_rate": 0.003},
}


def easy_task(path, ties="other"):
    """The fabricated corpus with vectors that say which of three emotions it is; dialogs of 6 and one of 18."""
    fabricated_corpus(path)
    corpus = read_corpus(path)
    dialog_id = corpus.dialog_id.copy()
    dialog_id[:18] = dialog_id[0]
    rng = np.random.default_rng(7)
    emotion = rng.integers(0, 3, len(corpus))
    shares = np.eye(10, dtype="float32")[emotion]
    vectors = rng.normal(0, 0.3, (len(corpus), 400)).astype("float32")
    vectors[np.arange(len(corpus)), 190 + 10 * emotion] += 4  # one acoustic column, two textual ones
    parts = split_sessions(corpus.session).values()
    return Task({"settings": {}}, corpus, vectors, shares, shares, *parts, dialog_slices(dialog_id), ties)


@pytest.mark.parametrize("system", POINTS)
def test_each_learns_and_none_sees_what_comes_after(system, tmp_path):
    task = easy_task(tmp_path / "corpus.h5", "ours" if system == "tfn" else "other")
    predict, details = TRAINERS[system](task, 0, epochs=40, patience=40, **POINTS[system])
    right = (predict(task.test).argmax(axis=1) == task.shares[task.test].argmax(axis=1)).mean()
    majority = TRAINERS["majority"](task, 0)[0](task.test).argmax(axis=1)
    floor = (majority == task.shares[task.test].argmax(axis=1)).mean()
    assert right > max(0.8, floor + 0.2), details
    rows = np.arange(18)  # the long dialog
    before = predict(rows)
    task.vectors[10] = -task.vectors[10] + 1
    changed = np.abs(predict(rows) - before).max(axis=1) > 1e-6
    assert not changed[:10].any()
    if system in ("ef_lstm", "bc_lstm"):
        assert changed[11:].any()
    if system == "bc_lstm":  # the window
        task.vectors[0] += 1
        again = predict(rows)
        assert np.abs(again - before)[1:10].max() > 1e-6
        task.vectors[10] = -(task.vectors[10] - 1)
        np.testing.assert_allclose(predict(rows)[BC_LSTM_WINDOW:], before[BC_LSTM_WINDOW:], atol=1e-6)


def test_ef_lstm_reads_prefixes():
    network = ef_lstm(7, 4)
    vectors = np.random.default_rng(0).normal(size=(9, 400)).astype("float32")
    whole = network.predict_on_batch(pad([vectors], multiple=16))[0]
    for length in (1, 4, 9):
        np.testing.assert_allclose(
            network.predict_on_batch(vectors[None, :length])[0, -1], whole[length - 1], atol=1e-6
        )


def test_tensor_fusion_by_hand():
    network = tfn(5, 3)
    rng = np.random.default_rng(0)
    inputs = {name: rng.normal(size=(2, 200)).astype("float32") for name in ("audio", "text")}
    weights = {layer.name: layer.get_weights() for layer in network.layers if layer.get_weights()}
    relu = lambda x: np.maximum(x, 0)  # noqa: E731
    sides = {}
    for name in ("text", "audio"):
        kernel, bias = weights.pop(f"{name}_dense")
        sides[name] = np.concatenate([relu(inputs[name] @ kernel + bias), np.ones((2, 1))], axis=1)
    assert (sides["text"].shape, sides["audio"].shape) == ((2, 129), (2, 33))
    fused = np.stack([np.outer(text, audio).ravel() for text, audio in zip(*sides.values(), strict=True)])
    *hidden, last = weights.values()
    for kernel, bias in hidden:
        fused = relu(fused @ kernel + bias)
    np.testing.assert_allclose(network.predict_on_batch(inputs), fused @ last[0] + last[1], rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def branches(tmp_path_factory):
    """A run of two untrained branches on the fabricated corpus, whose fusion is not trained yet."""
    folder = tmp_path_factory.mktemp("branches")
    run = write_untrained_run(folder / "run", fabricated_corpus_at(folder / "corpus.h5"))
    content = json.loads((run / "run.json").read_text())
    del content["stages"]["fusion"], content["files"]["fusion.weights.h5"]
    (run / "run.json").write_text(json.dumps(content))
    (run / "fusion.weights.h5").unlink()
    return run


def fabricated_corpus_at(path):
    fabricated_corpus(path)
    return path


def test_ties_are_other_or_left_out(branches):
    paper, ours = (baselines.prepare(branches, None, ties) for ties in ("other", "ours"))
    tied = is_tie(paper.shares)
    other = paper.corpus.emotions.index("other")
    assert tied[paper.train].any() and (paper.targets[tied].argmax(axis=1) == other).all()
    assert (labelled(paper)[0] == paper.train).all()
    assert labelled(ours)[0].tolist() == [row for row in ours.train if not tied[row]]
    np.testing.assert_array_equal(ours.targets, ours.shares)
    assert paper.vectors.shape == (len(paper.corpus), 400)
    means, deviations = paper.vectors[paper.train].mean(axis=0), paper.vectors[paper.train].std(axis=0)
    np.testing.assert_allclose(means, 0, atol=1e-4)
    np.testing.assert_allclose(deviations[deviations > 1e-3], 1, rtol=1e-3)


def test_dev_chooses_and_what_is_done_is_kept(branches, tmp_path, monkeypatch, capsys):
    task = baselines.prepare(branches, None, "other")
    trained = []

    def fake(task, seed, C, **_):
        """Right on dev in C utterances of ten; on the test utterances always right for the worst point alone."""
        trained.append(C)
        wrong = np.roll(task.shares, 1, axis=1)

        def predict(rows):
            if set(rows) <= set(task.test):
                return (task.shares if C == 1 else wrong)[rows]
            return np.where((np.arange(len(rows)) % 10 < C)[:, None], task.shares[rows], wrong[rows])

        return predict, {}

    monkeypatch.setitem(TRAINERS, "svm", fake)
    monkeypatch.setitem(GRIDS, "svm", [{"C": 1}, {"C": 8}, {"C": 5}])
    options = {"out": tmp_path, "systems": ["svm"], "seeds": [4]}
    printed = baselines.baselines(branches, **options)
    results = json.loads((tmp_path / "svm-seed4" / "results.json").read_text())
    protocol = results["protocol"]
    assert protocol["chosen"]["point"] == {"C": 8} and [one["point"]["C"] for one in protocol["points"]] == [1, 8, 5]
    assert results["accuracy_9"] < 0.5, "the test utterances have no say"
    assert (protocol["test"], protocol["ties"], protocol["raters"]) == ("session 4", "other", "all")
    assert f"{results['accuracy_9']:.4f}" in printed and "C 8" in printed
    with open(tmp_path / "svm-seed4" / "predictions.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert [row[0] for row in rows[1:]] == task.corpus.utterance_id[task.test].tolist()
    assert baselines.baselines(branches, **options) == printed and trained == [1, 8, 5]
    with pytest.raises(InputError, match="svm-seed4: holds results with another ties; choose another --out"):
        baselines.baselines(branches, **options, ties="ours")


def test_a_run_without_branches_is_refused(tmp_path):
    run = write_untrained_run(tmp_path / "run", fabricated_corpus_at(tmp_path / "corpus.h5"), modality="text")
    with pytest.raises(InputError, match="has no audio branch; train one with --modality text.audio"):
        baselines.baselines(run)


def test_peers_are_rows_of_table_1(fabricated, branches, tmp_path, monkeypatch):  # noqa: F811
    out, corpus = fabricated
    for system in POINTS:
        monkeypatch.setitem(GRIDS, system, [POINTS[system], dict(POINTS[system])])
        monkeypatch.setitem(TRAINERS, system, lambda task, seed, **_: (lambda rows: task.shares[rows], {}))
    baselines.baselines(branches, corpus, tmp_path, seeds=SEEDS)
    peers = {system: [tmp_path / f"{system}-seed{seed}" for seed in SEEDS] for system in GRIDS}
    folders = {system: [out / f"{system}-seed{seed}" for seed in SEEDS] for system in ("full", "categorical")}
    table_1(Results(folders, corpus, baselines=peers), tmp_path / "table1")
    with open(tmp_path / "table1.csv", encoding="utf-8", newline="") as file:
        rows = {row["system"]: row for row in csv.DictReader(file) if row["score"] == "accuracy"}
    for name, system in (("SVM", "svm"), ("RF", "random_forest"), ("BC-LSTM", "bc_lstm"), ("TFN", "tfn")):
        assert NAMES[system] == name and float(rows[name]["paper"]) == TABLE_1[name][0]
        assert float(rows[name]["mean"]) == 100 and float(rows[name]["full_minus_this"]) == 0
    assert float(rows["majority class"]["mean"]) < 50 and rows["MARN (paper only)"]["mean"] == ""
    page = (tmp_path / "table1.md").read_text()
    assert "MARN is not rebuilt: it reads words" in page and "C-MKL is not rebuilt" in page
    assert (
        f"BC-LSTM reads the last {BC_LSTM_WINDOW} utterances" in page
        and "SVM: grid C 10; chosen per seed 10, 10" in page
    )


def test_reproduce_tunes_peers_once_for_each_run(fabricated, tmp_path):  # noqa: F811
    out, corpus = fabricated
    arguments = ["table1", "--corpus", str(corpus), "--out", str(tmp_path), "--seeds", "0", "1"]
    arguments = reproduce.parse_arguments(arguments)
    runs = [run for run in reproduce.planned_runs(arguments, corpus) if run.system == "full"]
    for run in runs:
        run.folder.mkdir()
        (run.folder / "run.json").write_text('{"files": {"text.weights.h5": "t"}}')
    for system in GRIDS:  # of seed 0
        folder = tmp_path / "baselines" / f"{system}-seed0"
        folder.mkdir(parents=True)
        (folder / "results.json").write_text('{"protocol": {"branches_sha256": {"text.weights.h5": "t"}}}')

    class Recorded:
        calls = []

        def run(self, what, log, script, *options):
            self.calls.append((script, *map(str, options)))

    reproduce.tune_baselines(arguments, corpus, runs, Recorded())
    assert reproduce.finished_baselines(arguments)["tfn"] == [tmp_path / "baselines" / "tfn-seed0"]
    (call,) = Recorded.calls
    assert call[:4] == ("baselines.py", str(tmp_path / "full-seed1"), "--seeds", "1")
    parsed = baselines.parse_arguments(call[1:])
    assert (parsed.out, parsed.corpus, parsed.ties) == (tmp_path / "baselines", corpus, "other")


def test_same_seed_same_bits(tmp_path):
    task = easy_task(tmp_path / "corpus.h5")
    keras.utils.set_random_seed(5)  # what ran before does not matter
    one = TRAINERS["tfn"](task, 1, epochs=2, patience=2, **POINTS["tfn"])[0](task.test)
    other = TRAINERS["tfn"](task, 1, epochs=2, patience=2, **POINTS["tfn"])[0](task.test)
    assert (one == other).all()
    assert (TRAINERS["tfn"](task, 2, epochs=2, patience=2, **POINTS["tfn"])[0](task.test) != one).any()
