"""The wav reader and the feature sets: what each kind of odd or damaged audio gives, and openSMILE itself beside it."""

import io
import struct
import sys
import types
import warnings

import numpy as np
import opensmile
import pytest
import soundfile
from hypothesis import example, given
from hypothesis import strategies as st
from tiny_release import tone, write_wav

from data import audio
from data.audio import edit_emo_large, extract, feature_config, feature_names
from data.sound import read_sound
from storage.files import InputError

RATE_HZ = 16_000
# 56 bands, their deltas and the deltas of those, 39 functionals of each: the shape of emo_large in a few lines.
STAND_IN = r"""; a stand-in with the three places that are edited
[componentInstances:cComponentManager]
instance[dataMemory].type=cDataMemory
instance[waveIn].type=cWaveSource
instance[fr1].type=cFramer
instance[w1].type=cWindower
instance[fft1].type=cTransformFFT
instance[fftmp1].type=cFFTmagphase
instance[lld].type=cMelspec
instance[delta1].type=cDeltaRegression
instance[delta2].type=cDeltaRegression
instance[functL1].type=cFunctionals
nThreads=1

[waveIn:cWaveSource]
writer.dmLevel=wave
filename=\cm[inputfile(I){test.wav}:name of input file]
monoMixdown=1

[fr1:cFramer]
reader.dmLevel=wave
writer.dmLevel=frames
frameSize = 0.0250
frameStep = 0.010
frameCenterSpecial = center

[w1:cWindower]
reader.dmLevel=frames
writer.dmLevel=winframe
winFunc = ham

[fft1:cTransformFFT]
reader.dmLevel=winframe
writer.dmLevel=fftc

[fftmp1:cFFTmagphase]
reader.dmLevel=fftc
writer.dmLevel=fftmag

[lld:cMelspec]
reader.dmLevel=fftmag
writer.dmLevel=lld
writer.levelconf.isRb=0
writer.levelconf.growDyn=1
nBands = 56

[delta1:cDeltaRegression]
reader.dmLevel=lld
writer.dmLevel=lld_de
writer.levelconf.isRb=0
writer.levelconf.growDyn=1

[delta2:cDeltaRegression]
reader.dmLevel=lld_de
writer.dmLevel=lld_dede
writer.levelconf.isRb=0
writer.levelconf.growDyn=1

[functL1:cFunctionals]
reader.dmLevel=lld;lld_de;lld_dede
writer.dmLevel=func
frameMode = full
functionalsEnabled=Percentiles
Percentiles.quartiles = 0
Percentiles.iqr = 0
PERCENTILES
\{../shared/standard_data_output.conf.inc}
"""
STAND_IN = STAND_IN.replace(
    "PERCENTILES", "\n".join(f"Percentiles.percentile[{n}] = {(n + 1) / 40}" for n in range(39))
)


@pytest.fixture
def wav(tmp_path):
    return tmp_path / "utterance.wav"


@pytest.mark.parametrize(
    "subtype, step", [("PCM_U8", 2**-7), ("PCM_16", 0), ("PCM_24", 0), ("PCM_32", 0), ("FLOAT", 0), ("DOUBLE", 0)]
)
@pytest.mark.parametrize("container", ["WAV", "WAVEX"])
def test_every_uncompressed_encoding_gives_the_same_signal(wav, subtype, step, container):
    expected = (tone() / 32768).astype("float32")
    soundfile.write(wav, expected, RATE_HZ, subtype=subtype, format=container)
    signal, note = read_sound(wav)
    assert note is None
    assert signal.dtype == np.float32
    np.testing.assert_allclose(signal, expected, rtol=0, atol=step)


def test_channels_are_averaged(wav):
    left, right = tone(150), tone(210)
    write_wav(wav, np.stack([left, right], axis=1), channels=2)
    signal, note = read_sound(wav)
    assert note == "2 channels averaged to one"
    np.testing.assert_allclose(signal, (left / 32768 + right / 32768) / 2, atol=1e-7)


@pytest.mark.parametrize(
    "rate_hz, note", [(8_000, "resampled from 8000 Hz, nothing above 4000 Hz"), (44_100, "resampled from 44100 Hz")]
)
def test_other_sample_rates_are_resampled(wav, rate_hz, note):
    time_s = np.arange(rate_hz) / rate_hz
    write_wav(wav, (10_000 * np.sin(2 * np.pi * 440 * time_s)).astype("<i2"), rate_hz)
    signal, said = read_sound(wav)
    assert said == note
    assert len(signal) == RATE_HZ
    inside = slice(1000, -1000)  # the filter rings at the edges
    expected = 10_000 / 32768 * np.sin(2 * np.pi * 440 * np.arange(RATE_HZ) / RATE_HZ)
    np.testing.assert_allclose(signal[inside], expected[inside], atol=1e-3)


def test_full_scale_float_does_not_wrap(wav):
    soundfile.write(wav, np.array([1.0, -1.0, 0.5], "float32"), RATE_HZ, subtype="FLOAT")
    signal, note = read_sound(wav)
    assert note is None
    assert (signal * 32768).astype(np.int16).tolist() == [32767, -32768, 16384]
    soundfile.write(wav, np.array([1.5, -7.0, 0.5], "float32"), RATE_HZ, subtype="FLOAT")
    signal, note = read_sound(wav)
    assert note == "samples beyond full scale clipped"
    assert (signal * 32768).astype(np.int16).tolist() == [32767, -32768, 16384]


def encoded(samples, rate_hz=RATE_HZ, **format_):
    """The bytes of a wav file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, **{"format": "WAV", "subtype": "PCM_16"} | format_)
    return file.getvalue()


def with_field(content, name, offset, value):
    """The wav file with four bytes at `offset` behind the chunk name `name` replaced."""
    place = content.index(name) + 4 + offset
    return content[:place] + struct.pack("<I", value) + content[place + 4 :]


TONE = tone() / np.float32(32768)
STEREO = np.stack([TONE, -TONE / 2], axis=1)
BROKEN = np.where(np.arange(len(TONE)) == 7, np.nan, TONE)
# What each lie of an audio file gives: a note ("" for none) beside 46 finite features, or the error that names it.
LIES = {
    "as it should be": (encoded(TONE), ""),
    "24 bits": (encoded(TONE, subtype="PCM_24"), ""),
    "WAV extensible": (encoded(TONE, format="WAVEX"), ""),
    "float": (encoded(TONE, subtype="FLOAT"), ""),
    "full-scale float": (encoded(np.sign(TONE), subtype="FLOAT"), ""),
    "float beyond full scale": (encoded(9 * TONE, subtype="FLOAT"), "samples beyond full scale clipped"),
    "mu-law": (encoded(TONE, subtype="ULAW"), ""),
    "stereo": (encoded(STEREO), "2 channels averaged to one"),
    "channels that cancel": (encoded(np.stack([TONE, -TONE], axis=1), subtype="FLOAT"), "silent, all samples are zero"),
    "8 kHz": (encoded(TONE, 8_000), "resampled from 8000 Hz, nothing above 4000 Hz"),
    "48 kHz stereo": (encoded(np.tile(STEREO, (3, 1)), 48_000), "2 channels averaged to one; resampled from 48000 Hz"),
    "silence": (encoded(0 * TONE), "silent, all samples are zero"),
    "a chunk behind the audio": (encoded(TONE) + b"LIST\4\0\0\0INFO", ""),
    "zero samples": (encoded(TONE[:0]), InputError("no samples in it")),
    "zero samples and a chunk": (encoded(TONE[:0]) + b"LIST\4\0\0\0INFO", InputError("no samples in it")),
    "declared longer": (with_field(encoded(TONE), b"data", 0, 99_999), InputError("declares 99999 bytes")),
    "cut in the audio": (encoded(TONE)[:-1000], InputError("truncated, the header declares 9600 bytes")),
    "cut in the header": (encoded(TONE)[:30], InputError("truncated, it ends before its audio")),
    "not a number": (encoded(BROKEN, subtype="FLOAT"), InputError("no numbers")),
    "infinite": (encoded(np.where(np.isnan(BROKEN), np.inf, TONE), subtype="DOUBLE"), InputError("no numbers")),
    "1 Hz": (with_field(encoded(TONE), b"fmt ", 8, 1), InputError("sample rate 1 Hz")),
    "a telephone's ADPCM": (encoded(TONE, 8_000, subtype="IMA_ADPCM"), "resampled from 8000 Hz, nothing above 4000 Hz"),
    "a telephone's GSM": (encoded(TONE / 2, 8_000, subtype="GSM610"), "resampled from 8000 Hz, nothing above 4000 Hz"),
    "big-endian": (encoded(TONE, endian="BIG"), ""),
    "RF64": (encoded(TONE, format="RF64"), ""),
    "W64": (encoded(TONE, format="W64"), ""),
    "FLAC": (encoded(TONE, format="FLAC"), "no wav file in spite of its name, read as what it is"),
    "MP3": (
        encoded(TONE, format="MP3", subtype="MPEG_LAYER_III"),
        "no wav file in spite of its name, read as what it is",
    ),
    "text": (b"RIFF, as in jazz\n" * 9, InputError("no sound file that is known")),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\n", InputError("a pointer of Git LFS, not the file")),
    "a web page": (b"<!DOCTYPE html><html>", InputError("a web page, not the file")),
    "nothing": (b"", InputError("empty")),
    "too short for a frame": (encoded(TONE[:100]), InputError("not finite; 6 ms are too short")),
}


# What programs write that do not know yet how long the sound will be.
for length in (0, 0x7FFFFFFF, 0x7FFFF000, 0x80000000, 0xFFFFFFFF):
    piped = with_field(with_field(encoded(TONE), b"data", 0, length), b"RIFF", 0, length)
    LIES[f"written to a pipe, {length:#x}"] = piped, "(written to a pipe?), all that is there is read"


@pytest.mark.parametrize("name", LIES)
def test_audio_that_lies_gives_features_with_a_note_or_a_named_error(wav, name):
    content, expected = LIES[name]
    wav.write_bytes(content)
    with feature_config("egemaps_lld") as config:
        if isinstance(expected, InputError):
            with pytest.raises(InputError, match=str(expected)):
                extract(read_sound(wav)[0], "egemaps_lld", config)
            return
        signal, note = read_sound(wav)
        features = extract(signal, "egemaps_lld", config)
    assert (note or "").endswith(expected) and bool(note) == bool(expected)
    assert features.shape == (46,) and np.isfinite(features).all()


def test_silence_is_noted(wav):
    write_wav(wav, np.zeros(1600, "<i2"))
    assert read_sound(wav)[1] == "silent, all samples are zero"


def test_damaged_files_are_refused_by_name(wav):
    def refuses(message):
        with pytest.raises(InputError, match=message) as caught:
            read_sound(wav)
        assert str(caught.value).startswith(str(wav)) and "\n" not in str(caught.value)

    refuses("missing")
    wav.write_bytes(b"")
    refuses("empty")
    wav.write_bytes(b"ID3\x04 this is music" * 9)
    refuses("not a readable sound file|no sound file that is known")
    write_wav(wav, np.zeros(0, "<i2"))
    refuses("no samples in it")
    write_wav(wav, tone())
    whole = wav.read_bytes()
    wav.write_bytes(whole[:-1000])
    refuses("truncated, the header declares 9600 bytes of audio and 8600 are there")
    wav.write_bytes(whole[:30])
    refuses("truncated, it ends before its audio")
    wav.write_bytes(whole[:24] + struct.pack("<I", 4_000_000_000) + whole[28:])
    refuses(wav.name)  # a rate that no decoder or no check lets pass
    soundfile.write(wav, np.array([0.1, np.nan, 0.2], "float32"), RATE_HZ, subtype="FLOAT")
    refuses("no numbers")
    wav.unlink()
    wav.mkdir()
    refuses("cannot be read")


HEADER = struct.pack(
    "<4sI4s4sIHHIIHH4sI", b"RIFF", 44, b"WAVE", b"fmt ", 16, 1, 1, RATE_HZ, 2 * RATE_HZ, 2, 16, b"data", 8
)


@pytest.mark.fuzz
@given(st.binary(max_size=80), st.integers(0, len(HEADER)), st.integers(0, 43), st.integers(0, 255))
@example(b"\x00" * 8, len(HEADER), 22, 0)
def test_any_header_gives_a_sound_signal_or_a_named_error(tmp_path_factory, tail, kept, position, value):
    path = tmp_path_factory.getbasetemp() / "fuzzed.wav"
    header = bytearray(HEADER)
    header[position] = value
    path.write_bytes(bytes(header[:kept]) + tail)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data.sound.shutil.which", lambda name: None)  # ffmpeg's start takes longer than all of this
        try:
            signal, _ = read_sound(path)
        except InputError as error:
            assert str(error).startswith(str(path))
            return
    assert signal.ndim == 1 and len(signal) > 0
    assert np.isfinite(signal).all() and signal.min() >= -1 and signal.max() < 1


def test_egemaps_lld_is_what_opensmile_gives(wav):
    write_wav(wav, tone(seconds=0.8))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frames = opensmile.Smile(opensmile.FeatureSet.eGeMAPS, opensmile.FeatureLevel.LowLevelDescriptors).process_file(
            str(wav)
        )
    with feature_config("egemaps_lld") as config:
        names = feature_names("egemaps_lld", config)
        features = extract(read_sound(wav)[0], "egemaps_lld", config)
    expected = {f"{name}_mean": frames[name].mean() for name in frames} | {
        f"{name}_std": frames[name].std(ddof=1) for name in frames
    }
    assert names == tuple(expected) and len(names) == 46
    np.testing.assert_allclose(features, list(expected.values()), rtol=1e-5, atol=1e-6)
    assert np.ptp(features) > 100


def test_audio_too_short_for_a_frame_is_refused():
    message = "46 of 46 features are not finite; 50 ms are too short"
    with feature_config("egemaps_lld") as config, pytest.raises(InputError, match=message):
        extract(tone(seconds=0.05) / np.float32(32768), "egemaps_lld", config)


def test_emo_large_from_the_users_configuration(tmp_path, wav):
    conf = tmp_path / "user" / "emo_large.conf"
    conf.parent.mkdir()
    conf.write_text(STAND_IN)
    write_wav(wav, tone())
    with feature_config("emo_large", conf) as config:
        names = feature_names("emo_large", config)
        features = extract(read_sound(wav)[0], "emo_large", config)
    assert len(names) == len(features) == 6552 == audio.NUM_FEATURES["emo_large"]
    assert np.isfinite(features).all() and features.any()
    # Percentiles of one band do not fall; the first is that of the first band.
    assert (np.diff(features[:39]) >= 0).all()
    assert [path.name for path in conf.parent.iterdir()] == ["emo_large.conf"]
    assert conf.read_text() == STAND_IN


def test_emo_large_with_another_number_of_columns_is_refused(tmp_path):
    conf = tmp_path / "emo_large.conf"
    conf.write_text(STAND_IN.replace("nBands = 56", "nBands = 55"))
    with feature_config("emo_large", conf) as config, pytest.raises(InputError, match="6435 features instead of 6552"):
        feature_names("emo_large", config)


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("instance[waveIn].type=cWaveSource\n", "", "the instance waveIn is there 0 times"),
        ("[waveIn:cWaveSource]", "[other:cWaveSource]", "the section waveIn is there 0 times"),
        ("standard_data_output", "other", "the output include is there 0 times"),
    ],
)
def test_another_configuration_is_refused(tmp_path, old, new, message):
    conf = tmp_path / "emo_large.conf"
    conf.write_text(STAND_IN.replace(old, new))
    with pytest.raises(InputError, match=message):
        edit_emo_large(conf)


def test_choices_that_do_not_fit_are_refused(tmp_path):
    for chosen, conf, message in (
        ("emo_large", None, "needs openSMILE's config"),
        ("emo_large", tmp_path / "nowhere.conf", "cannot be read"),
        ("egemaps_lld", tmp_path / "emo_large.conf", "choose emo_large"),
        ("emo_small", None, "unknown feature set 'emo_small'"),
    ):
        with pytest.raises(InputError, match=message), feature_config(chosen, conf):
            pass


def test_opensmile_after_tensorflow_is_refused_instead_of_aborting(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", types.ModuleType("tensorflow"))
    monkeypatch.delitem(sys.modules, "opensmile")
    with pytest.raises(RuntimeError, match="import opensmile before TensorFlow"):
        audio.config_hash("egemaps_lld")
