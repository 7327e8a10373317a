"""The test of the seam: a third system is one more file in systems/, and everything else is as it was."""

import json
import shutil
import signal

import numpy as np
from conftest import ROOT, run_script

# Answers every utterance with the same shares, which it learns: the training utterances' mean, in the end.
MEAN_SHARES = '''
"""Every utterance gets the same learned shares."""

import keras
import numpy as np

from storage.weights import load_weights
from systems.base import Recipe, Recogniser, Stage, StageData, System


def network(num_emotions):
    inputs = keras.Input((1,), name="nothing")
    return keras.Model(inputs, keras.layers.Dense(num_emotions, "softmax", name="shares")(inputs))


class MeanShares(System):
    defaults = {"loss": "cross_entropy", "epochs": 3, "learning_rate": 0.05}

    def stages(self, settings):
        chosen = (settings.epochs, settings.patience, settings.batch_size, settings.learning_rate, settings.loss)
        return (Stage("mean", Recipe(*chosen, settings.seed), settings.seed, answers=True),)

    def work(self, task, glove):
        return Work(task)

    def recogniser(self, file, run, stages, sources):
        model = network(len(run.emotions))
        load_weights(model, file("mean.weights.h5"))
        return Answers(run, {"mean": model}, ())


class Work:
    def __init__(self, task):
        self.task = task

    def files(self):
        return {}

    def network(self, stage):
        return network(len(self.task.emotions))

    def data(self, stage, model):
        task = self.task

        def batch(chosen, order):
            return np.zeros((len(chosen), 1), "float32"), task.targets[task.train][chosen]

        return StageData(
            task.corpus.utterance_id[task.train], batch, lambda: model.predict_on_batch(np.zeros((len(task.dev), 1)))
        )

    def done(self, stage, model):
        pass


class Answers(Recogniser):
    def predict(self, utterances, dialogs, places):
        return {"mean": self.networks["mean"].predict_on_batch(np.zeros((len(places), 1)))}


SYSTEM = MeanShares()
'''


def test_one_more_file_trains_resumes_evaluates_and_loads(miniature, tmp_path):
    project = tmp_path / "project"
    ignored = shutil.ignore_patterns("__pycache__", "checkpoints", "tests", "runs", "results", "docs", ".*")
    shutil.copytree(ROOT, project, ignore=ignored)
    (project / "systems" / "mean_shares.py").write_text(MEAN_SHARES)
    killed, scripts = ROOT / "tests" / "training" / "killed.py", {"cwd": project, "path": project}
    options = ("--corpus", miniature, "--variant", "mean_shares", "--keep-epochs")
    done = run_script("train.py", "--run", tmp_path / "whole", *options, **scripts)
    assert done.returncode == 0, done.stderr
    died = run_script(killed, "step", 7, "--run", tmp_path / "killed", *options, **scripts)
    assert died.returncode == -signal.SIGKILL, died.stderr
    done = run_script("train.py", "--run", tmp_path / "killed", "--resume", **scripts)
    assert done.returncode == 0, done.stderr
    for path in (tmp_path / "whole").rglob("*.weights.h5"):
        assert (tmp_path / "killed" / path.relative_to(tmp_path / "whole")).read_bytes() == path.read_bytes()
    done = run_script("evaluate.py", tmp_path / "killed", **scripts)
    assert done.returncode == 0 and "mean alone" in done.stdout, done.stderr
    results = json.loads((tmp_path / "killed" / "results.json").read_text())
    load = "from checkpoint import load_checkpoint; import sys; "
    load += "print(load_checkpoint(sys.argv[1]).predict_dialog(['Hello.', 'Yes?']).tolist())"
    (tmp_path / "load.py").write_text(load)
    done = run_script(tmp_path / "load.py", tmp_path / "killed", **scripts)
    shares = np.array(json.loads(done.stdout.splitlines()[-1]))
    assert shares.shape == (2, 10) and (shares[0] == shares[1]).all()
    assert np.array(results["confusion_matrix"])[:, shares[0].argmax()].sum() == results["classes_10"]["num_utterances"]
