"""The one line that loads a finished run or a provided checkpoint.

    from checkpoint import load_checkpoint
    recogniser = load_checkpoint("checkpoints/iemocap-released")
    shares = recogniser.predict_dialog(transcripts, audio_features)  # (h, 10) vote shares

Nothing in a run folder is executed: the networks are built from the settings, and arrays are copied in after their
names, shapes and types are checked.
"""

import shlex
from pathlib import Path

import opensmile  # noqa: F401 (before the framework, so that a user can extract features: data.audio._opensmile)

import surroundings  # noqa: F401 (before the framework)
from storage.files import InputError
from storage.runs import check_files, read_run
from systems import system_of
from systems.base import WordSources
from training import backend


def check_sources(folder, glove=None, text_encoder=None, audio_encoder=None):
    """Refuses a GloVe file, or the place of an encoder, that a run would not read.

    Returns:
        The `storage.runs.Run` of the folder.

    Raises:
        InputError: says which; or the folder is no run.
    """
    run = read_run(Path(folder))
    read = system_of(run.settings.variant).word_sources(run.settings)
    for given, is_read, what in (
        (glove, "glove" in read, "words of a GloVe file"),
        (text_encoder, "text_encoder" in read, "words through an encoder"),
        (audio_encoder, run.settings.modality != "text" and run.corpus.audio_encoder, "sound through an encoder"),
    ):
        if given and not is_read:
            raise InputError(f"{folder}: this run reads no {what}, and {given} was given for it; leave it out")
    return run


def load_checkpoint(folder, stages=None, glove=None, text_encoder=None):
    """Loads a finished run or a provided checkpoint.

    Args:
        folder: the run folder.
        stages: names of those to load, which the others need not be finished for; None for all of the run.
        glove: a GloVe file that knows more words than the training had, for a system that does not train them; or None.
        text_encoder: where the encoder is that the run reads words through, a folder or a name; None for its own name.

    Returns:
        A `systems.base.Recogniser`.

    Raises:
        InputError: a file is missing, was changed (SHA-256), or does not fit the settings; the run is not finished, or
            reads neither further words nor an encoder.
    """
    if glove and not Path(glove).is_file():
        raise InputError(f"{glove}: {'a folder' if Path(glove).is_dir() else 'no such file'}; give a GloVe file")
    if isinstance(stages, str):
        raise ValueError(f"stages must be a list of names. Received: {stages!r}")
    folder = Path(folder)
    run = check_sources(folder, glove, text_encoder)
    system = system_of(run.settings.variant)
    known = [stage.name for stage in system.stages(run.settings)]
    for stage in run.stages:
        if stage not in known:
            raise InputError(f"{folder / 'run.json'}: 'stages' holds {stage!r:.40}, which is no stage of this run")
    for stage in stages or known:
        if stage not in known:
            raise InputError(f"{folder}: has no stage {stage}; it has {', '.join(known)}")
        if stage not in run.stages:
            raise InputError(
                f"{folder}: not finished ({stage} is not trained); go on with "
                f"'python train.py --run {shlex.quote(str(folder))} --resume'"
            )
    check_files(folder, run, run.files)

    def file(name):
        if name not in run.files:
            check_files(folder, run, [name])  # says so
        return folder / name

    backend.settle()
    return system.recogniser(file, run, tuple(stages or known), WordSources(glove, text_encoder))
