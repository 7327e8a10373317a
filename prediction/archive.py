"""A folder of recordings, each with its transcript: on the cores of this machine or the workers of a Dask cluster.

Recordings are found folder by folder and handed out as workers get free, so that memory does not grow with their
number. A worker starts the framework once. A recording that fails, or whose worker dies, is named, and the others go
on; what is finished is skipped the next time.
"""

import contextlib
import csv
import multiprocessing
import os
import re
import signal
import sys
import threading
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, ProcessPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import numpy as np

from data.transcripts import SUFFIXES as TRANSCRIPTS
from data.workers import cluster, interrupts_ignored, progress_bar
from prediction import conversation, page, sound
from prediction.about import checkpoint_said, limits_of
from prediction.output import BEFORE_SHARES_OF_ALL, is_answer, mean_by_time
from storage.files import InputError, atomic_path, made_folder
from storage.runs import read_run

_LANGUAGE = re.compile(r"\.[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{2,8})*")  # "talk.en.vtt", "talk.pt-BR.vtt"
_SUMMARY, _INDEX = "summary.csv", "index.html"
_OF_FOLDER = {os.path.splitext(name)[0] for name in (_SUMMARY, _INDEX)}


def transcripts_in(names):
    """The transcripts among the files of a folder, by the recording that they are of.

    They have its name, or its name and a language ("talk.en.vtt"), with their endings. One that has the name of another
    recording is of that one.

    Args:
        names: of the folder's files.

    Returns:
        {name of a recording, with or without its ending: [(whether with a language, place among TRANSCRIPTS, name)]}.
    """
    sounds = [name for name in names if os.path.splitext(name)[1].lower() in sound.SUFFIXES]
    recordings, found = {*sounds, *(os.path.splitext(name)[0] for name in sounds)}, {}
    for name in names:
        stem, suffix = os.path.splitext(name)
        if suffix.lower() in TRANSCRIPTS:
            place = TRANSCRIPTS.index(suffix.lower())
            found.setdefault(stem, []).append((False, place, name))
            base, language = os.path.splitext(stem)
            if _LANGUAGE.fullmatch(language) and language.lower() not in sound.SUFFIXES and stem not in recordings:
                found.setdefault(base, []).append((True, place, name))
    return found


def find_transcript(recording, transcripts=None):
    """The transcripts beside a recording, the best first; never what predict.py has written there.

    Args:
        recording: its path.
        transcripts: of `transcripts_in` its folder, if known.

    Returns:
        Paths.
    """
    recording = Path(recording)
    if transcripts is None:
        transcripts = transcripts_in(sorted(path.name for path in recording.parent.iterdir() if path.is_file()))
    found = sorted([*transcripts.get(recording.stem, ()), *transcripts.get(recording.name, ())])
    paths = [recording.parent / name for *_, name in found]
    return [path for path in paths if not is_answer(path)]


def job_of(recording, transcript=None):
    """The `conversation.Job` of a recording.

    Raises:
        InputError: it has no transcript, or is no file.
    """
    recording = Path(recording)
    found = [Path(transcript)] if transcript else find_transcript(recording)
    if recording.exists() and not recording.is_file():
        raise InputError(f"{recording}: is no file (a pipe?), and a recording is read more than once; save it first")
    if not found:
        raise InputError(
            f"{recording}: no transcript beside it ({recording.stem}.vtt, .srt, .json, .TextGrid, .eaf, .cha or .csv); "
            f"make one with a recogniser ('whisperx {recording.name}' or 'whisper {recording.name} "
            "--word_timestamps True --output_format json') or by hand in ELAN or Praat, or name it with --transcript"
        )
    return conversation.Job(recording.stem, found[0], recording, tuple(found[1:]))


def jobs_in(folder, out, audio=True):
    """Yields the `conversation.Job` of each recording under a folder, in order; (name, why) where there is none.

    Args:
        folder: its path.
        out: where answers go, which is passed over.
        audio: whether there are recordings; without, each transcript is a conversation.
    """
    folder, out = Path(folder), Path(out).resolve()
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(one for one in folders if not one.startswith(".") and (Path(here) / one).resolve() != out)
        names = sorted(name for name in names if not name.startswith("."))
        place = Path(here).relative_to(folder)
        wanted = sound.SUFFIXES if audio else TRANSCRIPTS
        mine = [name for name in names if os.path.splitext(name)[1].lower() in wanted]
        if not audio:
            mine = [name for name in mine if not is_answer(Path(here) / name)]
        stems = Counter(os.path.splitext(name)[0].lower() for name in mine)
        whole = {name.lower() for name in mine}  # "talk.wav.mp3" is not called "talk.wav" beside that
        transcripts = transcripts_in(names) if audio else {}
        for name in mine:
            stem = os.path.splitext(name)[0]
            alone = (
                stems[stem.lower()] == 1
                and stem.lower() not in whole
                and (place / stem).as_posix().lower() not in _OF_FOLDER
            )
            called = (place / (stem if alone else name)).as_posix()
            if not audio:
                yield conversation.Job(called, Path(here) / name)
                continue
            found = find_transcript(Path(here) / name, transcripts)
            if found:
                yield conversation.Job(called, found[0], Path(here) / name, tuple(found[1:]))
            else:
                yield called, "no transcript beside it"


def predict_folder(folder, options, out, scheduler=None):
    """Predicts what is not finished yet, and writes summary.csv and index.html.

    Args:
        folder: of recordings, or of transcripts where `options.audio` is off.
        options: `conversation.Options`.
        out: folder for the answers.
        scheduler: HOST:PORT of a Dask cluster's scheduler, or None.

    Returns:
        ({"done", "skipped"}: counts, {name: why} of those that failed).

    Raises:
        InputError: nothing to predict is there, the checkpoint is no run folder, or `out` has a summary.csv or an
            index.html that is not of predict.py.
    """
    total = sum(1 for _ in jobs_in(folder, out, options.audio))
    if not total:
        raise InputError(f"{folder}: no {'recording' if options.audio else 'transcript'} in it")
    for path in (Path(out) / name for name in (_SUMMARY, _INDEX)):
        if path.exists() and not is_answer(path):
            raise InputError(f"{path}: the folder's own {path.name} would take its place; choose another --out")
    made_folder(out)
    counts, failures = {"done": 0, "skipped": 0}, {}
    width = options.jobs or os.cpu_count()
    quiet = replace(options, jobs=1, progress=False)
    bar = progress_bar("conversations", total, "conversations", options.progress)

    def pending():
        for job in jobs_in(folder, out, options.audio):
            if not isinstance(job, conversation.Job):
                failures[job[0]] = job[1]
            elif conversation.finished(job, options, out):
                counts["skipped"] += 1
            else:
                yield job
                continue
            bar.update()

    try:
        with bar, _pools(width, scheduler) as (pool_of, width):
            for job, result in _results(pending(), (_work, quiet, out), pool_of, width):
                bar.update()
                if result is None:
                    counts["done"] += 1
                else:
                    failures[job.name] = conversation.shown(result)
                    bar.write(conversation.shown(f"{job.name}: {result}"), file=sys.stderr)
    finally:
        _summarise(folder, options, out, failures)
    return counts, failures


def _work(job, options, out):
    """Predicts one conversation in a worker process; gives None, or why it failed."""
    try:
        conversation.run(job, options, out)
        return None
    except (InputError, OSError) as error:
        return str(error)
    except SystemExit:  # of `_begin`: what was decoded is gone, and the worker dies, as the parent shall see
        os._exit(1)
    except Exception as error:  # a fault of ours costs this recording alone, and is named
        return f"{type(error).__name__}: {error}"


@contextlib.contextmanager
def _pools(width, scheduler):
    """Yields (function that gives a pool of a worker, or all of a cluster, how many tasks to hand out at once)."""
    if scheduler:
        with cluster(scheduler) as client:
            pool = client.get_executor()
            yield lambda: pool, 2 * sum(client.nthreads().values())
        return
    pools = []

    def pool_of():
        pools.append(ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _begin, (width,)))
        return pools[-1]

    try:
        yield pool_of, width
    except BaseException:
        for process in multiprocessing.active_children():  # they ignore Ctrl-C themselves
            process.terminate()
        raise
    finally:
        for pool in pools:
            pool.shutdown(cancel_futures=True)


def _begin(width):
    """A worker takes its share of the cores; the framework reads this when it starts."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that decoded sound is not left on the disk
    if parent := multiprocessing.parent_process():
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // width))


def _end_with(parent):
    """Ends this process when its parent is gone, killed perhaps: it would wait for work for ever."""
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _results(jobs, call, pool_of, width):
    """Yields (job, result) in the order in which they end.

    A job whose worker dies is tried once more when all others are done: alone it has all of the memory.
    """
    died = []
    for job, result in _side_by_side(jobs, call, pool_of, width):
        if isinstance(result, BrokenExecutor):
            died.append(job)
        else:
            yield job, result
    for job, result in _side_by_side(iter(died), call, pool_of, 1):
        dead = "its worker died, perhaps for want of memory; with fewer --jobs each has more"
        yield job, dead if isinstance(result, BrokenExecutor) else result


def _side_by_side(jobs, call, pool_of, width):
    """`_results`, with a BrokenExecutor for a job whose worker died; each of the `width` has a pool of its own."""
    work, *arguments = call
    pools, running = [None] * width, {}

    def submitted(slot, job):
        pools[slot] = pools[slot] or pool_of()
        with interrupts_ignored():
            return pools[slot].submit(work, job, *arguments)

    while True:
        for slot in sorted(set(range(width)) - {slot for _, slot in running.values()}):
            if (job := next(jobs, None)) is None:
                break
            try:
                future = submitted(slot, job)
            except BrokenExecutor:  # the worker died between two jobs
                pools[slot] = None
                future = submitted(slot, job)
            running[future] = job, slot
        if not running:
            return
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            job, slot = running.pop(future)
            try:
                yield job, future.result()
            except BrokenExecutor as error:
                pools[slot] = None
                yield job, error
            except Exception as error:  # a Dask worker that died
                yield job, f"its worker died ({type(error).__name__}: {error})"


def _summarise(folder, options, out, failures):
    """Writes summary.csv and index.html from the answers that are there, one at a time."""
    out = Path(out)
    names, checkpoint, rows, total = read_run(options.checkpoint).emotions, checkpoint_said(options.checkpoint), [], 0
    with atomic_path(out / _SUMMARY) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        header = [*BEFORE_SHARES_OF_ALL, *names, "top", "failure"]
        writer = csv.DictWriter(file, header, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for job in jobs_in(folder, out, options.audio):
            path = job.name if isinstance(job, conversation.Job) else job[0]
            entry = {"name": conversation.shown(path), "failure": failures.get(path)}
            if not entry["failure"]:
                answer = conversation.read_answer(out / f"{path}.json")
                if not answer or answer.get("checkpoint") != checkpoint:
                    continue  # was not reached yet
                entry |= _summary(answer) | {"link": quote(os.fsencode(f"{path}.html"))}
            total += 1
            if len(rows) < page.MOST_ROWS:
                rows.append(entry)
            cells = entry | {"conversation": entry["name"]}
            if (shares := entry.get("shares")) is not None:
                cells |= {name: f"{one:.6f}" for name, one in zip(names, shares, strict=True)}
                cells["top"] = names[int(np.argmax(shares))]
            writer.writerow(cells)
    page.write_index(out / _INDEX, rows, total, limits_of(options.checkpoint))


def _summary(answer):
    """What the summary says of one conversation, from its NAME.json."""
    shares = [one["shares"] for one in answer["utterances"]]
    return {
        "duration_s": answer["duration_s"],
        "speakers": len(answer["speakers"]),
        "utterances": len(shares),
        "unanswered": shares.count(None),
        "emotions": answer["emotions"],
        "shares": mean_by_time(shares, [one["end_s"] - one["start_s"] for one in answer["utterances"]]),
    }
