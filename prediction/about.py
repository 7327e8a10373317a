"""What a reader of answers has to know of the checkpoint that gave them."""

from pathlib import Path

from storage.files import read_json, sha256
from storage.runs import read_run

_ABOUT = {
    "IEMOCAP": "ten actors who talk in pairs, acted or improvised, in American English and a quiet room",
    "MELD": "scenes of an American television series",
}


def checkpoint_said(folder):
    """{"name", "sha256", "trained_on"} of a run folder."""
    run = read_run(folder)
    return {"name": Path(folder).resolve().name, "sha256": sha256(folder / "run.json"), "trained_on": run.corpus.name}


def limits_of(folder):
    """What a reader has to know of a checkpoint, in a sentence or two."""
    run = read_run(folder)
    about = next((f", {text}" for name, text in _ABOUT.items() if run.corpus.name.startswith(name)), "")
    said = f"The answers are guesses of a network that learned from {run.corpus.name}{about}."
    if "results.json" in run.files:
        accuracy = read_json(folder / "results.json").get("accuracy_10")
        if isinstance(accuracy, float):
            said += (
                f" There it names the raters' majority for {100 * accuracy:.0f} of 100 utterances that it never saw."
            )
    return said + " Other voices, rooms, languages and everyday talk are harder."
