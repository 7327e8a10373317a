"""The preparation command as users run it: results, restart after a kill, refusals, and the fidelity table."""

import os
import shutil
import signal
import time

import joblib
import numpy as np
import pytest
from conftest import ROOT, run_script
from forked import Program
from tiny_release import folder_bytes, tone, write_tiny_release, write_wav

from data import extraction
from data.build import Options, check_out, prepare, prepare_sample
from data.corpus import read_corpus
from data.fidelity import PUBLISHED, fidelity_table
from data.iemocap import read_release
from data.utterance import Sound
from storage.files import InputError, locked


def run_prepare(*arguments):
    return run_script("-m", "data.prepare", *arguments)


def prepare_tiny(release, out, **options):
    options = Options(**{"jobs": 1, "progress": False} | options)
    prepare(read_release(release, options.audio != "none"), out, options)
    return read_corpus(out)


def test_the_command_prepares_a_release(tmp_path):
    release, out = write_tiny_release(tmp_path), tmp_path / "corpus.h5"
    done = run_prepare("iemocap", "--release", tmp_path, "--out", out, "--jobs", "2")
    assert done.returncode == 0, done.stderr
    corpus = read_corpus(out)
    assert (corpus.name, len(corpus), corpus.audio.shape, corpus.audio_feature_set) == (
        "IEMOCAP",
        10,
        (10, 46),
        "egemaps_lld",
    )
    assert corpus.utterance_id[:2].tolist() == ["Ses01F_impro01_M000", "Ses01F_impro01_F000"]
    assert corpus.transcript[:2].tolist() == ["Good day.", "Excuse me."]
    assert "difference: utterances: 10 instead of 10039: training or test has other" in done.stdout
    assert "10/10" in done.stderr and " utterances" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [release.name, out.name], "the cache is removed"
    # Refused from now on, until the user insists.
    before = out.read_bytes()
    done = run_prepare("iemocap", "--release", release, "--out", out)
    assert (done.returncode, done.stderr) == (2, f"error: {out}: there already; give --overwrite to replace it\n")
    assert out.read_bytes() == before


def test_mistakes_are_one_line(tmp_path):
    for arguments, message in (
        (("--release", tmp_path, "--out", tmp_path / "a.h5"), "not an IEMOCAP release"),
        (("--release", tmp_path, "--out", tmp_path / "nowhere" / "a.h5"), "no such folder for the corpus file"),
        (("--release", tmp_path, "--out", tmp_path), "a folder; give the name of a file"),
    ):
        done = run_prepare("iemocap", *arguments)
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr.startswith("error: ") and message in done.stderr and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    for name in ("a.h5.text", "a.h5.features.jsonl", "a.h5.notes.txt"):
        (tmp_path / name).write_text("mine\n")
        for there in (False, True):
            if there:
                (tmp_path / "a.h5").touch()
            with pytest.raises(InputError, match=f"{name}: there already, and its name is needed; move it"):
                check_out(tmp_path / "a.h5", overwrite=there)
        assert (tmp_path / name).read_text() == "mine\n"
        (tmp_path / name).unlink()
        (tmp_path / "a.h5").unlink()
    (tmp_path / "a.h5.features.jsonl").write_text('\n{"key": "of ours')
    check_out(tmp_path / "a.h5", overwrite=False)
    (tmp_path / "release.zip").touch()
    with pytest.raises(InputError, match="release.zip: a file; unpack it, and give the folder IEMOCAP_full_release"):
        read_release(tmp_path / "release.zip")


def test_help_answers_before_anything_heavy_is_imported():
    heavy = ["opensmile", "h5py", "scipy", "joblib", "pandas", "soundfile"]
    code = f"import sys, data.prepare; print([name for name in {heavy} if name in sys.modules])"
    assert run_script("-c", code).stdout == "[]\n"
    done = run_prepare("--help")
    assert done.returncode == 0 and "iemocap" in done.stdout and "sample" in done.stdout


def test_order_on_disk_makes_no_difference(tmp_path):
    for name, order in (("one", (1, 2, 3, 4, 5)), ("two", (4, 2, 5, 3, 1))):
        (tmp_path / name).mkdir()
        prepare_tiny(write_tiny_release(tmp_path / name, order), tmp_path / f"{name}.h5")
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()


def test_bad_audio_stops_nothing_and_is_named(tmp_path, capsys):
    release, out = write_tiny_release(tmp_path), tmp_path / "corpus.h5"
    wavs = release / "Session2/sentences/wav/Ses02F_impro01"
    bad = wavs / "Ses02F_impro01_F000.wav"
    bad.write_bytes(b"no sound")
    wavs = release / "Session5/sentences/wav/Ses05F_impro01"
    write_wav(wavs / "Ses05F_impro01_F000.wav", tone(seconds=0.01))
    write_wav(wavs / "Ses05F_impro01_M000.wav", tone(rate_hz=8000), rate_hz=8000)
    corpus = prepare_tiny(release, out)
    said = capsys.readouterr().out
    assert len(corpus) == 8
    left_out = "left out, without usable audio; the scores cover one utterance fewer"
    assert f"note: Ses02F_impro01_F000 ({bad}: no sound file that is known" in said and f"): {left_out}" in said
    assert "note: Ses05F_impro01_F000 (46 of 46 features are not finite; 10 ms" in said
    assert "note: Ses05F_impro01_M000: resampled from 8000 Hz, nothing above 4000 Hz; kept" in said
    # Mended, only the two files that failed are computed again.
    whole = write_tiny_release(tmp_path / "whole")
    shutil.copy(
        whole / "Session2/sentences/wav/Ses02F_impro01/Ses02F_impro01_F000.wav",
        release / "Session2/sentences/wav/Ses02F_impro01",
    )
    assert len(prepare_tiny(release, out, overwrite=True)) == 9


def test_a_session_without_any_sound_is_refused(tmp_path):
    """Its utterances would all be left out, and the split needs them."""
    release = write_tiny_release(tmp_path)
    for wav in (release / "Session2").rglob("*.wav"):
        wav.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(InputError, match="no usable audio in all of Session2; unpack it anew.*; Ses02F_impro01_M000: "):
        prepare(read_release(release), tmp_path / "corpus.h5", Options(progress=False))
    assert not (tmp_path / "corpus.h5").exists()


def test_without_audio_no_wav_is_needed(tmp_path):
    release = write_tiny_release(tmp_path)
    for session in release.iterdir():
        shutil.rmtree(session / "sentences")
    corpus = prepare_tiny(release, tmp_path / "corpus.h5", audio="none")
    assert corpus.audio.shape == (10, 0) and corpus.audio_feature_set == "none"


def test_finished_utterances_are_not_computed_again(tmp_path, monkeypatch):
    release, cache = write_tiny_release(tmp_path), tmp_path / "cache.jsonl"
    wavs = [Sound(path) for path in sorted(release.glob("Session*/sentences/wav/*/*.wav"))]
    first = extraction.extract_files(wavs[:6], "egemaps_lld", cache, jobs=1, progress=False)
    with open(cache, "rb+") as file:
        file.truncate(cache.stat().st_size - 20)  # as a kill in the middle of a line leaves it
    computed = []
    extract = extraction.extract
    monkeypatch.setattr(extraction, "extract", lambda *arguments: computed.append(1) or extract(*arguments))
    results, names = extraction.extract_files(wavs, "egemaps_lld", cache, jobs=1, progress=False)
    assert len(computed) == 5, "one that was cut short, four that are new"
    assert len(names) == 46 and {(one.note, one.failure, one.file_s) for one in results.values()} == {(None, None, 1.0)}
    assert list(first[0]) == wavs[:6] and set(results) == set(wavs)
    with joblib.parallel_config(backend="multiprocessing"):  # as Ray's, it gives all results at the end
        fresh = extraction.extract_files(wavs, "egemaps_lld", tmp_path / "other.jsonl", jobs=1, progress=False)[0]
    assert all((results[wav].features == fresh[wav].features).all() for wav in wavs)
    # Other bytes under the same name are computed again, whatever the clock says.
    write_wav(wavs[0].path, tone(333))
    changed = extraction.extract_files(wavs[:1], "egemaps_lld", cache, jobs=1, progress=False)[0]
    assert (changed[wavs[0]].features != results[wavs[0]].features).any()


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b"null",
        b'{"key": 1}',
        b'{"key": "k", "note": null, "features": "AAAA"}',
        b"\xff\x00",
        b"[" * 100_000,
    ],
)
def test_a_damaged_cache_is_passed_over(tmp_path, line):
    cache = tmp_path / "cache.jsonl"
    cache.write_bytes(line + b"\n")
    assert extraction._read_cache(cache, 46) == {}


@pytest.fixture(scope="module")
def long_release(tmp_path_factory):
    """(a release whose sounds are long enough to be stopped in the middle, the bytes of its corpus file)."""
    folder = tmp_path_factory.mktemp("long")
    release = write_tiny_release(folder)
    for number, wav in enumerate(sorted(release.glob("Session*/sentences/wav/*/*.wav"))):
        write_wav(wav, np.tile(tone(100 + number, seconds=3), 2))
    prepare_tiny(release, folder / "fresh.h5")
    return release, (folder / "fresh.h5").read_bytes()


@pytest.mark.parametrize(
    "kind, code, jobs", [(signal.SIGKILL, -signal.SIGKILL, 1), (signal.SIGINT, 130, 1), (signal.SIGINT, 130, 2)]
)
def test_a_stopped_command_goes_on_and_gives_the_same_bytes(long_release, tmp_path, kind, code, jobs):
    (release, fresh), out, cache = long_release, tmp_path / "corpus.h5", tmp_path / "corpus.h5.features.jsonl"
    command = ["-m", "data.prepare", "iemocap", "--release", release, "--out", out, "--jobs", jobs]
    process = Program(command, ROOT, new_session=True)
    while process.poll() is None and (not cache.exists() or cache.read_bytes().count(b'"key"') < 2):
        time.sleep(0.02)
    os.killpg(process.pid, kind)  # as a terminal does: the workers get it, too
    said = "".join(process.communicate(timeout=60))
    assert process.returncode == code, said
    assert "Traceback" not in said and "ignored" not in said, said
    assert not out.exists() and cache.exists()
    finished = cache.read_bytes().count(b"}\n")
    assert 2 <= finished < 10
    prepare_tiny(release, out)
    assert out.read_bytes() == fresh


def test_the_fidelity_table_names_each_difference():
    assert fidelity_table(PUBLISHED, PUBLISHED).splitlines()[-1] == "all 22 numbers are the published ones"
    lines = fidelity_table(PUBLISHED | {"ties in train": 1371, "test support of fear": 6}, PUBLISHED).splitlines()
    assert "ties in train                     1371       1405  differs" in lines
    assert [line.split(":")[1:3] for line in lines if line.startswith("difference")] == [
        [" ties in train", " 1371 instead of 1405"], [" test support of fear", " 6 instead of 7"],
    ]  # fmt: skip
    assert "differ" not in fidelity_table(PUBLISHED)


def test_the_made_up_release_can_be_kept(tmp_path):
    prepare_sample(tmp_path / "one.h5", Options(audio="none"), tmp_path / "kept")
    assert len(folder_bytes(tmp_path / "kept")) > 240
    prepare_sample(tmp_path / "again.h5", Options(audio="none"), tmp_path / "kept")  # as after a stop
    assert (tmp_path / "again.h5").read_bytes() == (tmp_path / "one.h5").read_bytes()
    (tmp_path / "kept" / "IEMOCAP_full_release" / "README.txt").write_text("another one")
    with pytest.raises(InputError, match="there already"):
        prepare_sample(tmp_path / "two.h5", Options(audio="none"), tmp_path / "kept")
    # Two processes would write into one another's unfinished rows.
    with locked(tmp_path / ".two.h5.lock", ""), pytest.raises(InputError, match="two.h5: another data.prepare is at w"):
        prepare(read_release(tmp_path / "kept" / "IEMOCAP_full_release"), tmp_path / "two.h5", Options(audio="none"))
    assert not (tmp_path / "two.h5").exists()
