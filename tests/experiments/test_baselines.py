"""The paper's peers: what they may see, how ties are trained, how dev chooses, and their rows in Table 1."""

import csv
import functools
import json

import keras
import numpy as np
import pytest
from fabricated import SEEDS, fabricate, fabricated_corpus, planned, work_of
from test_evaluate import write_untrained_run

from data.corpus import read_corpus
from data.labels import is_tie
from data.task import Task
from experiments.baselines import parse_arguments
from experiments.catalogue import EXPERIMENTS, GRIDS, PEERS, PLAIN_GRIDS
from experiments.pages import PUBLISHED, peers_page
from experiments.peers import BC_LSTM_WINDOW, TRAINERS, labelled, lstm, tfn, untied
from experiments.results import Results
from experiments.tuning import Material, baselines, finished, material_of, plain_material
from settings import Settings
from storage.files import InputError, read_json, sha256
from storage.runs import read_run

POINTS = {
    "svm": {"C": 10.0},
    "random_forest": {"min_samples_leaf": 1},
    "ef_lstm": {"units": 32, "learning_rate": 0.02},
    "bc_lstm": {"units": 16, "learning_rate": 0.02},
    "tfn": {"hidden": 12, "learning_rate": 0.01},
}


def easy_material(path, ties="other"):
    """The fabricated corpus with vectors that say which of three emotions it is; dialogs of 6 and one of 18."""
    corpus = read_corpus(fabricated_corpus(path))
    corpus.dialog_id[:18] = corpus.dialog_id[0]
    rng = np.random.default_rng(7)
    emotion = rng.integers(0, 3, len(corpus))
    corpus.votes_external[:] = np.eye(10, dtype="int16")[emotion]
    vectors = rng.normal(0, 0.3, (len(corpus), 400)).astype("float32")
    vectors[np.arange(len(corpus)), 190 + 10 * emotion] += 4  # one acoustic column, two textual ones
    return Material(Task.of(corpus, Settings()), vectors, ties)


@pytest.mark.parametrize("system", POINTS)
def test_each_learns_and_none_sees_what_comes_after(system, tmp_path):
    material = easy_material(tmp_path / "corpus.h5", "ours" if system == "tfn" else "other")
    task = material.task
    predict, details = TRAINERS[system](material, 0, epochs=12, patience=12, **POINTS[system])
    right = (predict(task.test).argmax(axis=1) == task.shares[task.test].argmax(axis=1)).mean()
    majority = TRAINERS["majority"](material, 0)[0](task.test).argmax(axis=1)
    floor = (majority == task.shares[task.test].argmax(axis=1)).mean()
    assert right > max(0.8, floor + 0.2), details
    rows = np.arange(18)  # the long dialog
    before = predict(rows)
    material.vectors[10] = -material.vectors[10] + 1
    changed = np.abs(predict(rows) - before).max(axis=1) > 1e-6
    assert not changed[:10].any()
    if system in ("ef_lstm", "bc_lstm"):
        assert changed[11:].any()
    if system == "bc_lstm":  # the window
        material.vectors[0] += 1
        again = predict(rows)
        assert np.abs(again - before)[1:10].max() > 1e-6
        material.vectors[10] = -(material.vectors[10] - 1)
        np.testing.assert_allclose(predict(rows)[BC_LSTM_WINDOW:], before[BC_LSTM_WINDOW:], atol=1e-6)


@pytest.mark.parametrize("directions", [1, 2])
def test_an_lstm_of_both_directions_sees_what_comes_after(directions):
    """And padding changes nothing: neither what it reads, nor where a dialog ends."""
    network = lstm(6, 4, "softmax", 9, directions)
    vectors = np.random.default_rng(0).normal(size=(7, 9)).astype("float32")
    alone = network.predict_on_batch(vectors[None])[0]
    np.testing.assert_allclose(
        network.predict_on_batch(keras.utils.pad_sequences([vectors], 16, "float32", "post"))[0][:7], alone, atol=1e-6
    )
    vectors[5] += 1
    changed = np.abs(network.predict_on_batch(vectors[None])[0] - alone).max(axis=1) > 1e-6
    assert changed.tolist() == [directions == 2] * 5 + [True, True]


def test_inputs_that_no_training_has_touched(tmp_path, monkeypatch):
    """Words and sound standardised on the training session; a run without branches will do; ties are left out."""
    corpus, glove = fabricated_corpus(tmp_path / "corpus.h5"), tmp_path / "glove.txt"
    glove.write_text(f"word {' '.join(['0.5'] * 200)}\n")
    run = write_untrained_run(tmp_path / "run", corpus, modality="text")
    with pytest.raises(InputError, match="run: was trained without GloVe or without sound"):
        plain_material(run, corpus)
    content = json.loads((run / "run.json").read_text())
    content["glove"] = {"path": str(glove), "sha256": sha256(glove)}
    (run / "run.json").write_text(json.dumps(content))
    material = plain_material(run, corpus)
    task, sound = material.task, read_corpus(corpus).audio
    scaled = (sound - sound[task.train].mean(axis=0)) / sound[task.train].std(axis=0)
    np.testing.assert_allclose(material.vectors[:, :2], np.clip(scaled, -6, 6), atol=1e-5)
    assert material.vectors.shape == (len(task.corpus), 202)
    seen = []

    def fake(material, seed, **point):
        seen.append((material.ties, material.loss, material.targets))
        return lambda rows: task.shares[rows], {}

    for peer in PLAIN_GRIDS:
        monkeypatch.setitem(TRAINERS, peer, fake)
    printed = baselines(run, corpus, tmp_path / "out", list(PLAIN_GRIDS), seeds=[2])
    assert [ties for ties, *_ in seen[::4]] == ["left-out", "shares"] * 2 and {loss for _, loss, _ in seen} == {
        "cross_entropy"
    }
    np.testing.assert_array_equal(seen[4][2], task.shares)
    tied = is_tie(task.shares)
    assert untied(task, task.train).tolist() == [row for row in task.train if not tied[row]]
    assert (seen[0][2].argmax(axis=1)[~tied] == task.shares[~tied].argmax(axis=1)).all()
    assert printed.count("1.0000") >= 4
    glove.write_text(f"word {' '.join(['0.4'] * 200)}\n")
    with pytest.raises(InputError, match="glove.txt: is not the GloVe file that .*run was trained with"):
        plain_material(run, corpus)


def test_left_out_ties_teach_nothing(tmp_path):
    """Utterances without a majority get other vectors: training is the same, bit for bit."""
    material, answers = easy_material(tmp_path / "corpus.h5", "left-out"), []
    tied = material.task.train[::5]
    material.task.shares[tied] = 0.1
    for targets in (0, 3):
        material.targets[tied] = np.eye(10)[targets]
        train = functools.partial(TRAINERS["lstm_labels"], material, 0, units=4, learning_rate=0.01)
        answers.append(train(epochs=2, patience=2)[0](material.task.test))
    np.testing.assert_array_equal(*answers)


def test_peers_on_plain_inputs_are_a_table(branches, tmp_path, monkeypatch):
    corpus = branches.parent / "corpus.h5"
    fabricate(planned("plain-peers", corpus, tmp_path), corpus)
    work = work_of("plain-peers", corpus, tmp_path)
    given = parse_arguments([str(argument) for argument in work.tuning()[1].arguments])
    assert given.run == tmp_path / "full-seed1" and given.systems == list(PLAIN_GRIDS)
    material = easy_material(tmp_path / "easy.h5")
    monkeypatch.setattr("experiments.tuning.plain_material", lambda run, path, glove: Material(
        Task.of(read_corpus(corpus), Settings()), material.vectors, "shares", read_run(run)))  # fmt: skip
    for peer in PLAIN_GRIDS:
        trainer = lambda material, seed, **_: (lambda rows: material.task.shares[rows], {})  # noqa: E731
        monkeypatch.setitem(TRAINERS, peer, trainer)
    for seed in SEEDS:
        baselines(tmp_path / f"full-seed{seed}", corpus, tmp_path / "baselines", list(PLAIN_GRIDS), [seed])
    assert not work.tuning()
    run = tmp_path / "full-seed0" / "run.json"
    kept = run.read_text()
    run.write_text(kept.replace(read_json(run)["glove"]["sha256"], "0" * 64))  # trained again with other words
    assert len(work.tuning()) == 1 and set(map(len, work.peers().values())) == {1}
    run.write_text(kept)
    done = tmp_path / "baselines" / "lstm_labels-seed0"
    protocol = read_json(done / "results.json")["protocol"]
    own = {name: protocol[name] for name in ("system", "seed", "test", "task", "glove_sha256")}
    assert finished(done, own) and protocol["task"]["train_sessions"] == [1, 2, 5]
    for name, value in (("test", "session 5"), ("task", protocol["task"] | {"dev_session": 2}), ("glove_sha256", "0")):
        with pytest.raises(InputError, match=f"holds results with another {name}"):
            finished(done, own | {name: value})
    assert work.write_tables(work.experiment, work.planned(work.experiment)) == ["plain-peers"]
    page = (tmp_path / "plain-peers.md").read_text()
    assert "| LSTM of both directions, vote shares | 2 | \u2013 / **100.0**" in page.replace("–", "\u2013")
    assert "LSTM, one emotion: grid units 100, 300; learning_rate 0.001, 0.0003; chosen per seed" in page


def test_ef_lstm_reads_prefixes():
    network = lstm(7, 4)
    vectors = np.random.default_rng(0).normal(size=(9, 400)).astype("float32")
    whole = network.predict_on_batch(keras.utils.pad_sequences([vectors], 16, "float32", "post"))[0]
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
    run = write_untrained_run(folder / "run", fabricated_corpus(folder / "corpus.h5"))
    content = json.loads((run / "run.json").read_text())
    del content["stages"]["fusion"], content["files"]["fusion.weights.h5"]
    (run / "run.json").write_text(json.dumps(content))
    (run / "fusion.weights.h5").unlink()
    return run


def test_ties_are_other_or_left_out(branches, untraced):
    paper, ours = (material_of(branches, None, ties) for ties in ("other", "ours"))
    task = paper.task
    tied, other = is_tie(task.shares), task.emotions.index("other")
    assert tied[task.train].any() and (paper.targets[tied].argmax(axis=1) == other).all()
    assert (labelled(paper)[0] == task.train).all()
    assert labelled(ours)[0].tolist() == [row for row in task.train if not tied[row]]
    np.testing.assert_array_equal(ours.targets, task.shares)
    assert paper.vectors.shape == (len(task.corpus), 400)
    means, deviations = paper.vectors[task.train].mean(axis=0), paper.vectors[task.train].std(axis=0)
    np.testing.assert_allclose(means, 0, atol=1e-4)
    np.testing.assert_allclose(deviations[deviations > 1e-3], 1, rtol=1e-3)


def test_dev_chooses_and_what_is_done_is_kept(branches, tmp_path, monkeypatch, capsys, untraced):
    task, trained = material_of(branches, None, "other").task, []

    def fake(material, seed, C, **_):
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
    printed = baselines(branches, **options)
    results = json.loads((tmp_path / "svm-seed4" / "results.json").read_text())
    protocol = results["protocol"]
    assert protocol["chosen"]["point"] == {"C": 8} and [one["point"]["C"] for one in protocol["points"]] == [1, 8, 5]
    assert results["accuracy_9"] < 0.5, "the test utterances have no say"
    assert (protocol["test"], protocol["ties"], protocol["raters"]) == ("session 4", "other", "all")
    assert f"{results['accuracy_9']:.4f}" in printed and "C 8" in printed
    with open(tmp_path / "svm-seed4" / "predictions.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert [row[0] for row in rows[1:]] == task.corpus.utterance_id[task.test].tolist()
    assert baselines(branches, **options) == printed and trained == [1, 8, 5]
    with pytest.raises(InputError, match="svm-seed4: holds results with another ties; choose another --out"):
        baselines(branches, **options, ties="ours")


def test_a_run_without_branches_is_refused(tmp_path):
    run = write_untrained_run(tmp_path / "run", fabricated_corpus(tmp_path / "corpus.h5"), modality="text")
    with pytest.raises(InputError, match="has no stage audio; it has"):
        baselines(run)


def test_peers_are_rows_of_table_1(branches, tmp_path, monkeypatch):
    """Those of one full run are tuned by one program each, those that are done are not tuned again."""
    corpus = branches.parent / "corpus.h5"
    fabricate(planned("table1", corpus, tmp_path), corpus)
    work = work_of("table1", corpus, tmp_path)
    programs = work.tuning()
    assert [program.script for program in programs] == [("-m", "experiments.baselines")] * 2
    given = parse_arguments([str(argument) for argument in programs[1].arguments])
    assert (given.run, given.seeds, given.ties) == (tmp_path / "full-seed1", [1], "other")
    assert (given.out, given.corpus, given.epochs) == (tmp_path / "baselines", corpus, 50)

    for system in POINTS:
        monkeypatch.setitem(GRIDS, system, [POINTS[system], dict(POINTS[system])])
        trainer = lambda material, seed, **_: (lambda rows: material.task.shares[rows], {})  # noqa: E731
        monkeypatch.setitem(TRAINERS, system, trainer)
    baselines(branches, corpus, tmp_path / "baselines", seeds=SEEDS)
    assert work.peers() == {}, "of other branches than the full run's"
    files = json.loads((branches / "run.json").read_text())["files"]
    for seed in SEEDS:
        content = json.loads((tmp_path / f"full-seed{seed}" / "run.json").read_text())
        content["files"] = files
        (tmp_path / f"full-seed{seed}" / "run.json").write_text(json.dumps(content))
    peers, results = work.peers(), tmp_path / "baselines" / "svm-seed1" / "results.json"
    assert not work.tuning() and peers["tfn"] == [tmp_path / "baselines" / f"tfn-seed{seed}" for seed in SEEDS]
    results.rename(tmp_path / "kept")
    assert [program.what for program in work.tuning()] == ["baselines seed 1"] and len(work.peers()["svm"]) == 1
    (tmp_path / "kept").rename(results)

    folders = {system: [tmp_path / f"{system}-seed{seed}" for seed in SEEDS] for system in ("full", "categorical")}
    peers_page(EXPERIMENTS["table1"], Results(folders, read_corpus(corpus), peers=peers), tmp_path / "table1")
    of_regression = Results({"categorical": [], "full": folders["full"]}, read_corpus(corpus), peers=peers)
    assert len(of_regression.predictions("svm")) == 2, "the task is that of the runs that are there"
    with open(tmp_path / "table1.csv", encoding="utf-8", newline="") as file:
        rows = {row["system"]: row for row in csv.DictReader(file) if row["score"] == "accuracy"}
    for name, system in (("SVM", "svm"), ("RF", "random_forest"), ("BC-LSTM", "bc_lstm"), ("TFN", "tfn")):
        assert PEERS[system] == name and float(rows[name]["paper"]) == PUBLISHED["table1"][name][0]
        assert float(rows[name]["mean"]) == 100 and float(rows[name]["full_minus_this"]) == 0
    assert float(rows["majority class"]["mean"]) < 50 and rows["MARN (paper only)"]["mean"] == ""
    page = (tmp_path / "table1.md").read_text()
    assert "MARN is not rebuilt: it reads words" in page and "C-MKL is not rebuilt" in page
    assert f"BC-LSTM reads the last {BC_LSTM_WINDOW} utterances" in page
    assert "SVM: grid C 10; chosen per seed 10, 10" in page and "trained as 'other', with cross-entropy" in page


def test_same_seed_same_bits(tmp_path):
    material = easy_material(tmp_path / "corpus.h5")
    rows = material.task.test
    keras.utils.set_random_seed(5)  # what ran before does not matter
    one = TRAINERS["tfn"](material, 1, epochs=1, patience=1, **POINTS["tfn"])[0](rows)
    other = TRAINERS["tfn"](material, 1, epochs=1, patience=1, **POINTS["tfn"])[0](rows)
    assert (one == other).all()
