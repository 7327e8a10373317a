"""Sound files to the signal that openSMILE shall see, whole or a stretch of them: through soundfile, else ffmpeg.

openSMILE itself passes several damaged files silently: it reads channel 0 of a stereo file, takes 8 kHz for what it
is, and wraps a float sample of +1.0 to -1.0. Each of these is mended, noted or refused here, so that no feature vector
is wrong without a word. A file is told by its content, not by its name, and may refer to nothing but itself: ffmpeg's
playlists could name other files and addresses.
"""

import contextlib
import functools
import math
import os
import re
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import resample_poly

from data.audio import SAMPLE_RATE_HZ
from data.reading import what_it_is
from storage.files import InputError

# Beyond these a header is damaged, and resampling from its rate could take all memory.
_LOWEST_RATE_HZ, _HIGHEST_RATE_HZ = 4_000, 384_000
# Largest sample that 16 bits hold; +1.0 would wrap to -1.0 in openSMILE.
_FULL_SCALE = np.float32(32767 / 32768)
# Bytes of a sample, where a file's length tells how many there are.
_UNCOMPRESSED = {"PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8, "ULAW": 1, "ALAW": 1}
# How the files begin that soundfile reads; the last one is MP3 without tags.
_KNOWN = re.compile(
    rb"RIFF....WAVE|RIFX....WAVE|RF64....WAVE|riff|fLaC|OggS|FORM....AIF|\.snd|caff|ID3|\xff[\xe2-\xef\xf2-\xf7\xfa-\xff]",
    re.DOTALL,
)
_ENDLESS = 0x7FFF0000  # bytes of audio, or more, that programs declare which write to a pipe
_LONGEST_UTTERANCE_S = 600
_SLACK_S = 0.5  # that a stretch may end behind its recording: times are rounded
_LONGEST_DECODING_S = 3600
_SHORTEST_GAP_S, _LONGEST_GAPS_S = 0.1, 3600  # of sound that is missing; a longer one is a broken clock


def read_sound(path):
    """The sound of a file as the signal that openSMILE shall see.

    Channels are averaged and other sample rates brought to 16 kHz, both with a note.

    Args:
        path: a file that soundfile reads (wav, flac, mp3, ogg, ...), or whose first audio stream ffmpeg does.

    Returns:
        (signal, note): (T,) float32 mono at 16 kHz in [-1, 1), and what was done to it, sentences with "; " between,
        or None.

    Raises:
        InputError: as `opened` and `Recording.signal`.
    """
    with opened(path) as recording:
        return recording.signal()


@contextlib.contextmanager
def opened(path, channels_apart=False, by_clock=False):
    """Yields the `Recording` in a file, in which any stretch can be read at once; what ffmpeg decodes is on disk.

    Args:
        path: the file.
        channels_apart: whether channels will be asked for; ffmpeg else mixes them.
        by_clock: whether stretches are meant by the clock of a file that ffmpeg decodes: silence then fills what is
            missing where its sound begins late or pauses. Else it is read without a pause.

    Raises:
        InputError: the file is missing, is shorter than its header says, or holds no sound that is known here.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            head = file.read(512)
    except OSError as error:
        if path.exists():
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        near = _names(path.parent).get(path.stem.casefold())
        raise InputError(f"{path}: missing{f'; {near} is there' if near else ''}") from error
    if kind := what_it_is(head):
        raise InputError(f"{path}: {kind}")
    with tempfile.TemporaryDirectory(prefix="sound_") as folder, contextlib.ExitStack() as stack:
        file, notes = None, []
        if _KNOWN.match(head):
            readable, num_bytes = path, None
            if head[:4] in (b"RIFF", b"RIFX"):
                readable, num_bytes, notes = _whole_wav(path, head[:4], Path(folder))
            elif path.suffix.lower() == ".wav" and head[:4] not in (b"RF64", b"riff"):
                notes = ["no wav file in spite of its name, read as what it is"]
            try:
                file = stack.enter_context(soundfile.SoundFile(os.fsencode(readable)))
            except soundfile.SoundFileError as error:
                said = str(error).rpartition(": ")[2]
                if not shutil.which("ffmpeg"):
                    raise InputError(f"{path}: not a readable sound file ({said})") from error
            if file and num_bytes is not None and file.subtype in _UNCOMPRESSED:
                num_declared = num_bytes // (_UNCOMPRESSED[file.subtype] * file.channels)
                if file.frames != num_declared:
                    raise InputError(
                        f"{path}: {file.frames} samples in it, the header declares {num_declared}; it is damaged"
                    )
        if file is None:
            wav = Path(folder) / "decoded.wav"
            notes += _decode(path, wav, channels_apart, by_clock)
            file = stack.enter_context(soundfile.SoundFile(os.fsencode(wav)))
        if not _LOWEST_RATE_HZ <= file.samplerate <= _HIGHEST_RATE_HZ:
            raise InputError(
                f"{path}: sample rate {file.samplerate} Hz is no speech recording's; the header is damaged"
            )
        is_mp3 = file.format == "MP3"
        if not file.seekable() or is_mp3:  # GSM, too, is decoded right from its beginning alone
            wav = os.fsencode(Path(folder) / "unrolled.wav")
            form = {"subtype": "PCM_16", "format": "RF64"}  # a WAV ends at 4 GiB
            try:
                with soundfile.SoundFile(wav, "w", file.samplerate, file.channels, **form) as whole:
                    while len(block := _block(path, file)):
                        whole.write(np.clip(block, -1, _FULL_SCALE))
            except soundfile.SoundFileError as error:
                raise InputError(f"{path}: cannot be decoded to {folder} ({error}); is the disk full?") from error
            file = stack.enter_context(soundfile.SoundFile(wav))
        yield Recording(path, file, notes, is_mp3)


def needs_ffmpeg(path):
    """Whether a file is none that soundfile reads, whatever its name; false for one that cannot be opened at all."""
    try:
        with open(path, "rb") as file:
            if not _KNOWN.match(file.read(512)):
                return True
        with soundfile.SoundFile(os.fsencode(path)):
            return False
    except soundfile.SoundFileError:
        return True
    except OSError:
        return False


def _block(path, file):
    """The next samples of an open file, (n, channels)."""
    try:
        return file.read(1 << 16, dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise InputError(f"{path}: damaged, it cannot be read to its end ({error})") from error


@functools.lru_cache(maxsize=8)
def _names(folder):
    """{name without case and suffix: a file's name} of a folder, for the name that was meant."""
    return {Path(name).stem.casefold(): name for name in (os.listdir(folder) if folder.is_dir() else ())}


class Recording:
    """An open sound file.

    `seconds` is its length, `num_channels` what `Recording.signal` can choose from, `readable` the path of the file
    that is read, decoded or as it was, as long as this one is open; `is_mp3` says whether the user's file is MP3.
    """

    def __init__(self, path, file, notes, is_mp3):
        self._path, self._file, self._notes, self.is_mp3 = path, file, notes, is_mp3
        self.readable = Path(os.fsdecode(file.name))
        self.seconds, self.num_channels = file.frames / file.samplerate, file.channels

    def signal(self, start_s=None, end_s=None, channel=None):
        """A stretch as the signal that openSMILE shall see.

        Args:
            start_s, end_s: the stretch; None for all of it.
            channel: counted from 1; None for the mean of all.

        Returns:
            As `read_sound`.

        Raises:
            InputError: no such stretch or channel, more than an utterance, or no samples or samples that are no
                numbers.
        """
        path, file, notes = self._path, self._file, list(self._notes)
        first, last = 0, file.frames
        if start_s is not None:
            first, last = (round(time_s * file.samplerate) for time_s in (start_s, end_s))
            if first >= file.frames or last > file.frames + _SLACK_S * file.samplerate:
                raise InputError(
                    f"{path}: it ends at {self.seconds:.6g} s, and {start_s:g} to {end_s:g} s are asked for"
                )
            last = min(last, file.frames)
        if last - first > _LONGEST_UTTERANCE_S * file.samplerate:
            raise InputError(
                f"{path}: {(last - first) / file.samplerate:.0f} s are no utterance (at most {_LONGEST_UTTERANCE_S}); "
                "if it is a dialog, each of its utterances needs a start and an end of its own"
            )
        if channel is not None and channel > self.num_channels:
            raise InputError(f"{path}: channel {channel} is asked for, and it has {self.num_channels}")
        try:
            file.seek(first)
            samples = file.read(last - first, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            raise InputError(f"{path}: damaged ({error})") from error
        if len(samples) != last - first:
            raise InputError(f"{path}: damaged, {len(samples)} samples can be read of {last - first}")
        if not len(samples):
            raise InputError(f"{path}: no samples in it")
        if channel is not None:
            samples = samples[:, channel - 1 : channel]
        try:
            signal, said = prepared(samples, file.samplerate)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        return signal, "; ".join(notes + [said] * bool(said)) or None


def prepared(samples, rate_hz):
    """Samples as the signal that openSMILE shall see.

    Args:
        samples: (T, channels) float32.
        rate_hz: their rate.

    Returns:
        (signal, note) as `read_sound`.

    Raises:
        InputError: samples that are no numbers; without a file's name.
    """
    if not np.isfinite(samples).all():
        raise InputError("samples that are no numbers (NaN or infinite); the file is damaged")
    signal, notes = samples[:, 0], []
    if samples.shape[1] > 1:
        signal = samples.mean(axis=1)
        num_silent = samples.shape[1] - int(samples.any(axis=0).sum())
        cancel = ", which cancel each other" * (num_silent < samples.shape[1] and not signal.any())
        silent = f", {num_silent} of them silent" * (0 < num_silent < samples.shape[1])
        notes.append(f"{samples.shape[1]} channels averaged to one{silent}{cancel}")
    if rate_hz != SAMPLE_RATE_HZ:
        signal = _resample(signal, rate_hz)
        lost = f", nothing above {rate_hz // 2} Hz" if rate_hz < SAMPLE_RATE_HZ else ""
        notes.append(f"resampled from {rate_hz} Hz{lost}")
    if (np.abs(signal) > 1).any():
        notes.append("samples beyond full scale clipped")
    if not signal.any():
        notes.append("silent, all samples are zero")
    signal = np.clip(signal, -1, _FULL_SCALE).astype("float32")
    return signal, "; ".join(notes) or None


def _whole_wav(path, name, folder):
    """(path to read, bytes of audio in it, notes) of a RIFF file; one written to a pipe is copied with its true length.

    Raises:
        InputError: it holds less than it declares.
    """
    endian = "<" if name == b"RIFF" else ">"
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(12)
        while len(chunk := file.read(8)) == 8:
            name, length = struct.unpack(f"{endian}4sI", chunk)
            if name != b"data":
                file.seek(length + length % 2, os.SEEK_CUR)  # chunks are padded to even lengths
                continue
            start = file.tell()
            held = size - start
            # Other chunks may follow audio of no length.
            empty = length == 0 and (held < 8 or file.read(4).strip().isalnum())
            if length <= held and (length or empty):
                return path, length, []
            if 0 < length < _ENDLESS:
                raise InputError(f"{path}: truncated, the header declares {length} bytes of audio and {held} are there")
            copy = folder / "whole.wav"
            with open(copy, "wb") as whole:
                file.seek(0)
                header = bytearray(file.read(start))
                struct.pack_into(f"{endian}I", header, 4, min(start + held - 8, 0xFFFFFFFF))
                struct.pack_into(f"{endian}I", header, start - 4, min(held, 0xFFFFFFFF))
                whole.write(header)
                shutil.copyfileobj(file, whole)
            said = "its header does not say how long it is (written to a pipe?), all that is there is read"
            return copy, held, [said]
    raise InputError(f"{path}: truncated, it ends before its audio")


def _resample(signal, rate_hz):
    """(T,) signal brought to 16 kHz through a polyphase low-pass."""
    common = math.gcd(rate_hz, SAMPLE_RATE_HZ)
    return resample_poly(signal.astype("float64"), SAMPLE_RATE_HZ // common, rate_hz // common)


def _decode(path, wav, channels_apart, by_clock):
    """Decodes the first audio stream to a wav file at 16 kHz; gives what is odd, in a list.

    Raises:
        InputError: ffmpeg is not installed, or finds no sound that it knows.
    """
    path = path.absolute()
    if not shutil.which("ffmpeg"):
        raise InputError(f"{path}: no sound file that is known; ffmpeg, which knows more, is not installed")
    command = ["ffmpeg", "-nostdin", "-v", "error", "-protocol_whitelist", "file", "-i", f"file:{path}"]
    command += ["-map", "0:a:0", *(() if channels_apart else ("-ac", "1")), "-ar", str(SAMPLE_RATE_HZ)]
    missing_s = _missing_s(path) if by_clock else 0
    fills = _SHORTEST_GAP_S < missing_s <= _LONGEST_GAPS_S
    command += ["-af", "aresample=async=1:first_pts=0"] * fills
    command += ["-c:a", "pcm_s16le", "-bitexact", "-y", wav]
    try:
        # A session of its own, so that Ctrl-C in the terminal does not make a good clip look broken.
        done = subprocess.run(command, capture_output=True, timeout=_LONGEST_DECODING_S, start_new_session=True)
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{path}: ffmpeg did not end within {_LONGEST_DECODING_S} s") from error
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    if done.returncode and any("matches no streams" in line for line in said):
        raise InputError(f"{path}: no sound in it, as in a video without an audio track")
    said = (said[-1 if done.returncode else 0] if said else f"status {done.returncode}").removeprefix(f"file:{path}: ")
    if done.returncode or not Path(wav).is_file():
        raise InputError(f"{path}: no sound file that is known, damaged or cut off (ffmpeg says: {said[:200]})")
    notes = [f"ffmpeg says: {said[:200]}"] if done.stderr.strip() else []
    if fills:
        notes.append(f"its sound begins late or pauses, {missing_s:.1f} s in all: silence is put there")
    elif missing_s > _LONGEST_GAPS_S:
        notes.append(f"its clock leaps by {missing_s:.0f} s, which is not followed")
    return notes


def _missing_s(path):
    """Seconds of the first audio stream's time, from the file's beginning, that no packet holds; 0 without ffprobe."""
    command = ["ffprobe", "-v", "error", "-protocol_whitelist", "file", "-select_streams", "a:0", "-of", "csv=p=0"]
    command += ["-show_entries", "packet=pts_time,duration_time:format=start_time", f"file:{path}"]
    if not shutil.which("ffprobe"):
        return 0.0
    done = subprocess.run(command, capture_output=True, start_new_session=True)
    rows = [re.findall(r"-?\d+\.\d+", line) for line in done.stdout.decode("ascii", "replace").splitlines()]
    packets = [(float(row[0]), float(row[1])) for row in rows if len(row) > 1]
    begins_s = next((float(row[0]) for row in rows[::-1] if len(row) == 1), 0.0)
    if not packets:
        return 0.0
    return max(start_s + length_s for start_s, length_s in packets) - max(begins_s, 0) - sum(one for _, one in packets)


def ffmpeg():
    """The path of the program.

    Raises:
        InputError: it is not installed.
    """
    path = shutil.which("ffmpeg")
    if path is None:
        raise InputError(
            "ffmpeg is not installed, and decodes the sound of videos and other files: install it (apt-get install "
            "ffmpeg), or leave audio out with --audio none"
        )
    return path


@functools.lru_cache(maxsize=1)
def ffmpeg_version():
    """The first line of `ffmpeg -version`: another version may decode to other samples."""
    return subprocess.run([ffmpeg(), "-version"], capture_output=True).stdout.decode("utf-8", "replace").split("\n")[0]
