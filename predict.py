"""The emotions in a recording of your own: vote shares for each utterance, as files and as a page to look at.

docs/predicting.md says what counts as an utterance, which files are read, and what is written.

    python predict.py talk.wav                        with talk.vtt, .srt, .json, .TextGrid, .eaf, .cha or .csv beside
    python predict.py talk.mp4 --transcript talk.json --out emotions/
    python predict.py talk.vtt --audio none           words alone
    python predict.py recordings/ --jobs 2            each recording with its transcript; what is finished is skipped
    python predict.py archive/ --scheduler HOST:PORT  on the workers of a Dask cluster
    python predict.py --demo                          a made-up conversation, its sound included
"""

import argparse
import sys
from pathlib import Path

from storage.files import InputError
from surroundings import check_backend, run_program

ROOT = Path(__file__).resolve().parent
DOCUMENTS = (".txt", ".doc", ".docx", ".odt", ".pdf", ".rtf")  # meant as transcripts, which say why they are none


def main():
    parser = command_line()
    arguments = parser.parse_args()
    if arguments.demo == bool(arguments.recording):
        parser.error("give a recording, a folder of them, a transcript with --audio none, or --demo")
    if arguments.jobs is not None and arguments.jobs < 1:
        parser.error(f"--jobs {arguments.jobs}: must be 1 or more")
    check_backend()
    # The framework takes seconds, and --help needs none.
    from checkpoint import check_sources
    from prediction import archive, conversation, demo

    options = conversation.Options(
        checkpoint=arguments.checkpoint,
        glove=arguments.glove,
        text_encoder=arguments.text_encoder,
        audio_encoder=arguments.audio_encoder,
        audio=arguments.audio != "none",
        speaker_channels=tuple(arguments.speaker_channels or ()),
        emo_large_conf=arguments.emo_large_conf,
        jobs=arguments.jobs,
        progress=not arguments.no_progress,
    )
    if len(set(options.speaker_channels)) < len(options.speaker_channels):
        raise InputError("--speaker-channels: a name is there twice; each channel has a speaker of its own")
    check_sources(arguments.checkpoint, arguments.glove, arguments.text_encoder, arguments.audio_encoder)
    recording = demo.write(arguments.out or Path("runs/demo")) if arguments.demo else arguments.recording
    if not recording.exists():
        raise InputError(f"{recording}: no such file or folder")
    out = arguments.out or (recording if recording.is_dir() else recording.parent) / "emotions"
    if recording.is_dir() or arguments.scheduler:
        sys.exit(predict_folder(archive, recording, arguments, options, out))
    job = job_of(archive, conversation, arguments, recording)
    answer = conversation.run(job, options, out)
    print(said(answer))
    files = ", ".join(f"{job.name}{suffix}" for suffix in conversation.SUFFIXES)
    print(f"written to {out}: {files}")


def job_of(archive, conversation, arguments, recording):
    """The one conversation that the command line asks for."""
    if arguments.audio == "none":
        transcript = arguments.transcript or recording
        if not arguments.transcript and recording.suffix.lower() not in (*archive.TRANSCRIPTS, *DOCUMENTS):
            transcript = archive.job_of(recording).transcript
        return conversation.Job(transcript.stem, transcript)
    if recording.suffix.lower() in archive.TRANSCRIPTS:
        raise InputError(
            f"{recording}: a transcript; give the recording, with --transcript {recording.name}, or add --audio none "
            "to answer from the words alone"
        )
    return archive.job_of(recording, arguments.transcript)


def predict_folder(archive, folder, arguments, options, out):
    """Predicts a folder; gives the exit status: 0, 1 where some failed, 2 where all did."""
    if arguments.transcript:
        raise InputError("--transcript is for one recording; in a folder each has its own beside it")
    if not folder.is_dir():
        raise InputError(f"{folder}: --scheduler is for a folder of recordings")
    counts, failures = archive.predict_folder(folder, options, out, arguments.scheduler)
    print(f"{counts['done']} predicted, {counts['skipped']} finished before, {len(failures)} failed")
    for name, why in list(failures.items())[:20]:
        print(f"failed: {archive.conversation.shown(name)}: {why}")
    if len(failures) > 20:
        print(f"and {len(failures) - 20} more; summary.csv names all")
    print(f"written to {out}: index.html, summary.csv, and four files for each conversation")
    return (1 if sum(counts.values()) else 2) if failures else 0


def said(answer):
    """What the terminal shows of a conversation."""
    from prediction.output import note_line
    from prediction.page import prevails

    lines = [f"{answer.name}: {len(answer.answers)} utterances, {len(answer.speakers())} speakers"]
    for name, one in answer.speakers().items():
        lines.append(f"  {name}, {one['seconds']:.0f} s: {prevails(one['shares'], answer.emotions)}")
    return "\n".join(lines + [f"note: {note_line(*note)}" for note in answer.notes.items()] + [answer.limits])


def command_line():
    """The parser."""
    parser = argparse.ArgumentParser(description="The emotions in a recording of your own.")
    parser.add_argument("recording", type=Path, nargs="?", help="sound or video file, a folder, or a transcript")
    parser.add_argument("--transcript", type=Path, help="default: the file of the same name beside the recording")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        default=ROOT / "checkpoints" / "iemocap-causal",
        help="run folder of train.py, or a provided checkpoint; default: checkpoints/iemocap-causal",
    )
    parser.add_argument("--glove", type=Path, help="GloVe file, for the words that our systems do not know")
    parser.add_argument("--text-encoder", metavar="PATH_OR_NAME", help="where the checkpoint's text encoder is")
    parser.add_argument("--audio-encoder", metavar="PATH_OR_NAME", help="where the checkpoint's audio encoder is")
    parser.add_argument("--audio", choices=("none",), help="read no sound, and answer from the words alone")
    parser.add_argument(
        "--speaker-channels",
        nargs="+",
        metavar="NAME",
        help="the speaker on each channel of the recording, in order; where the transcript names nobody, the channel "
        "that is loudest tells who speaks",
    )
    parser.add_argument("--emo-large-conf", type=Path, help="openSMILE's emo_large.conf, for a run on those features")
    parser.add_argument("--out", type=Path, help="folder for the answers; default: 'emotions' beside the recording")
    parser.add_argument("--jobs", type=int, metavar="N", help="processes, 1 or more; default: all cores")
    parser.add_argument("--scheduler", metavar="HOST:PORT", help="a Dask cluster's scheduler, for a folder")
    parser.add_argument("--demo", action="store_true", help="make up a conversation, and predict that")
    parser.add_argument("--no-progress", action="store_true", help="show no progress bar")
    return parser


if __name__ == "__main__":
    run_program(main, "interrupted; nothing is half-written, and in a folder the same command goes on from there")
