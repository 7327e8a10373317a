"""Sound files to the signal that openSMILE shall see: a strict reader of wav files, and ffmpeg for all others.

openSMILE itself passes several damaged files silently: it reads channel 0 of a stereo file, takes 8 kHz for what it
is, and wraps a float sample of +1.0 to -1.0. Each of these is mended, noted or refused here, so that no feature vector
is wrong without a word. A clip may refer to nothing but itself: ffmpeg's playlists could name other files and
addresses.
"""

import functools
import math
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import resample_poly

from data.audio import SAMPLE_RATE_HZ
from storage.files import InputError

# Beyond these a header is damaged, and resampling from its rate could take all memory.
_LOWEST_RATE_HZ, _HIGHEST_RATE_HZ = 4_000, 384_000
# Largest sample that 16 bits hold; +1.0 would wrap to -1.0 in openSMILE.
_FULL_SCALE = np.float32(32767 / 32768)
# What is read, and the bytes of a sample.
_UNCOMPRESSED = {"PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8, "ULAW": 1, "ALAW": 1}
_LONGEST_S = 600  # of decoding one clip


def read_wav(path):
    """Reads a wav file as the signal that openSMILE shall see.

    Read are 8 to 32-bit PCM, float, A-law and mu-law, plain or WAV extensible. Channels are averaged and other sample
    rates brought to 16 kHz, both with a note.

    Args:
        path: a RIFF wav file.

    Returns:
        (signal, note): (T,) float32 mono at 16 kHz in [-1, 1), and a sentence on what was done to it, or None.

    Raises:
        InputError: the file cannot be read, is no wav file, is shorter than its header says, or has no samples or
            samples that are no numbers.
    """
    num_bytes = _check_riff(path)
    try:
        with soundfile.SoundFile(path) as file:
            if file.subtype not in _UNCOMPRESSED:
                raise InputError(f"{path}: compressed wav ({file.subtype}); convert it to 16-bit PCM")
            rate_hz = file.samplerate
            samples = file.read(dtype="float32", always_2d=True)
            num_declared = num_bytes // (_UNCOMPRESSED[file.subtype] * file.channels)
    except (soundfile.SoundFileError, OSError) as error:
        raise InputError(f"{path}: not a readable wav file ({error})") from error
    if len(samples) != num_declared:
        raise InputError(f"{path}: {len(samples)} samples decoded, the header declares {num_declared}; it is damaged")
    if not len(samples):
        raise InputError(f"{path}: no samples in it")
    try:
        return prepared(samples, rate_hz)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def prepared(samples, rate_hz):
    """Samples as the signal that openSMILE shall see.

    Args:
        samples: (T, channels) float32.
        rate_hz: their rate.

    Returns:
        (signal, note) as `read_wav`.

    Raises:
        InputError: samples that are no numbers, or a rate that no speech recording has; without a file's name.
    """
    if not np.isfinite(samples).all():
        raise InputError("samples that are no numbers (NaN or infinite); the file is damaged")
    if not _LOWEST_RATE_HZ <= rate_hz <= _HIGHEST_RATE_HZ:
        raise InputError(f"sample rate {rate_hz} Hz is no speech recording's; the header is damaged")
    signal, notes = samples[:, 0], []
    if samples.shape[1] > 1:
        signal = samples.mean(axis=1)
        notes.append(f"{samples.shape[1]} channels averaged to one")
    if rate_hz != SAMPLE_RATE_HZ:
        signal = _resample(signal, rate_hz)
        lost = f", nothing above {rate_hz // 2} Hz" if rate_hz < SAMPLE_RATE_HZ else ""
        notes.append(f"resampled from {rate_hz} Hz{lost}")
    clipped = int((np.abs(signal) > 1).sum())
    if clipped:
        notes.append(f"{clipped} samples beyond full scale clipped")
    if not signal.any():
        notes.append("silent, all samples are zero")
    signal = np.clip(signal, -1, _FULL_SCALE).astype("float32")
    return signal, "; ".join(notes) or None


def _check_riff(path):
    """The bytes of audio that the header declares; decoders would take what is there.

    Raises:
        InputError: no RIFF wav file, or one that holds less than it declares.
    """
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            header = file.read(12)
            if len(header) < 12 or header[:4] != b"RIFF" or header[8:] != b"WAVE":
                raise InputError(f"{path}: not a wav file (no RIFF header)")
            while len(chunk := file.read(8)) == 8:
                name, length = struct.unpack("<4sI", chunk)
                if name == b"data":
                    held = size - file.tell()
                    if length > held:
                        raise InputError(
                            f"{path}: truncated, the header declares {length} bytes of audio and {held} are there"
                        )
                    return length
                file.seek(length + length % 2, 1)  # chunks are padded to even lengths
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    raise InputError(f"{path}: truncated, it ends before its audio")


def _resample(signal, rate_hz):
    """(T,) signal brought to 16 kHz through a polyphase low-pass."""
    common = math.gcd(rate_hz, SAMPLE_RATE_HZ)
    return resample_poly(signal.astype("float64"), SAMPLE_RATE_HZ // common, rate_hz // common)


def is_clip(path):
    """Whether a sound file needs ffmpeg."""
    return Path(path).suffix.lower() != ".wav"


def read_sound(path):
    """`data.audio.read_wav` for any sound file that ffmpeg reads.

    Args:
        path: a wav file, or a clip with sound in its first audio stream.

    Returns:
        (signal, note) as `read_wav`; what ffmpeg complained of is in the note.

    Raises:
        InputError: the file is missing, broken or has no sound; or ffmpeg is not installed.
    """
    if not is_clip(path):
        return read_wav(path)
    with tempfile.TemporaryDirectory(prefix="clip_") as folder:
        wav = Path(folder) / "sound.wav"
        complaint = _decode(path, wav)
        try:
            signal, note = read_wav(wav)
        except InputError as error:
            raise InputError(f"{path}: no usable sound in it ({str(error).removeprefix(f'{wav}: ')})") from error
    return signal, "; ".join(filter(None, (complaint, note))) or None


def _decode(clip, wav):
    """Decodes the first audio stream; gives what ffmpeg complained of, or None."""
    clip = Path(clip).absolute()
    if not clip.is_file():
        raise InputError(f"{clip}: missing")
    command = [ffmpeg(), "-nostdin", "-v", "error", "-protocol_whitelist", "file", "-i", f"file:{clip}"]
    command += ["-map", "0:a:0", "-ac", "1", "-ar", str(SAMPLE_RATE_HZ), "-c:a", "pcm_s16le", "-bitexact", "-y", wav]
    try:
        # A session of its own, so that Ctrl-C in the terminal does not make a good clip look broken.
        done = subprocess.run(command, capture_output=True, timeout=_LONGEST_S, start_new_session=True)
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{clip}: ffmpeg did not end within {_LONGEST_S} s") from error
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    said = said[-1 if done.returncode else 0].removeprefix(f"file:{clip}: ")[:200] if said else ""
    if done.returncode:
        raise InputError(f"{clip}: ffmpeg cannot decode its sound ({said or f'status {done.returncode}'})")
    return f"ffmpeg says: {said}" if said else None


def ffmpeg():
    """The path of the program.

    Raises:
        InputError: it is not installed.
    """
    path = shutil.which("ffmpeg")
    if path is None:
        raise InputError(
            "ffmpeg is not installed, and decodes the sound of clips: install it (apt-get install ffmpeg), "
            "or leave audio out with --audio none"
        )
    return path


@functools.lru_cache(maxsize=1)
def ffmpeg_version():
    """The first line of `ffmpeg -version`: another version may decode to other samples."""
    return subprocess.run([ffmpeg(), "-version"], capture_output=True).stdout.decode("utf-8", "replace").split("\n")[0]
