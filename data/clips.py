"""Video clips and sound of other formats, through ffmpeg, to the signal that openSMILE shall see.

A wav file is read by `data.audio.read_wav` alone; whatever else is decoded by the program ffmpeg into a temporary
16 kHz mono wav file. A clip may refer to nothing but itself: ffmpeg's playlists could name other files and addresses.
"""

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

from data.audio import SAMPLE_RATE_HZ, read_wav
from storage.files import InputError

_LONGEST_S = 600  # of decoding one clip


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
