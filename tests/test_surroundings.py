"""Settings of the surroundings that a user did not mean for us change no result and no answer."""

import json
import os
import signal
import time

import numpy as np
import pytest
from conftest import run_script

from scoring.figures import confusion_figure
from surroundings import run_program

STRANGE = {
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "PYTHONIOENCODING": "ascii",
    "LC_ALL": "C",
    "DISPLAY": "",
}

# One start of Python for the programs: the packages read the environment as they are imported.
ONE_AFTER_ANOTHER = """
import json, runpy, sys
for sys.argv in json.loads(sys.argv[1]):
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_old_configurations_notebooks_and_plain_terminals_change_nothing(miniature, tmp_path):
    """keras.json of Theano and 64 bits, a notebook's Matplotlib, a terminal without Unicode: the same bytes."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "keras.json").write_text('{"backend": "theano", "floatx": "float64", "epsilon": 0.01}')
    strange, weights = STRANGE | {"KERAS_HOME": str(tmp_path / "home")}, []
    options = ("--corpus", miniature, "--modality", "audio", "--epochs", 1, "--loss", "cross_entropy")
    for name in ("plain", "stränge"):
        train = ("train.py", "--run", tmp_path / name, *options)
        programs = json.dumps([list(map(str, train)), ["evaluate.py", str(tmp_path / name)]])
        one_after_another = ("-c", ONE_AFTER_ANOTHER, programs)
        done = run_script(*train) if name == "plain" else run_script(*one_after_another, env=strange)
        assert done.returncode == 0, done.stderr
        weights.append((tmp_path / name / "audio.weights.h5").read_bytes())
    assert weights[0] == weights[1]
    evaluated = done.stdout.partition("acc:")[2]
    assert "written to" in evaluated and "str\\xe4nge" in evaluated
    assert json.loads((tmp_path / "stränge" / "results.json").read_text())["num_utterances"] > 0


def test_dollar_signs_in_names_are_no_formulas(tmp_path):
    confusion_figure(np.eye(2, dtype=int), ("joy$_x", r"$\frac$"), "corpus $", tmp_path / "matrix.png")
    assert (tmp_path / "matrix.pdf").stat().st_size > 1000


def test_sigterm_tidies_up_as_ctrl_c_does(capsys):
    """As `timeout`, Slurm and `docker stop` send it; its handler is gone afterwards."""
    done, before = [], signal.getsignal(signal.SIGTERM)

    def main():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        finally:
            done.append("tidied up")

    with pytest.raises(SystemExit) as ended:
        run_program(main, "nothing is lost")
    assert (ended.value.code, done, capsys.readouterr().err) == (143, ["tidied up"], "nothing is lost\n")
    assert signal.getsignal(signal.SIGTERM) == before
