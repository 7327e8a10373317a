"""Files that are never half-written, and the one error that users see.

Every file of the project is written beside its place, flushed to disk and renamed, so that a kill, a full disk or a
missing permission leaves either the old file or the new one.
"""

import contextlib
import csv
import fcntl
import hashlib
import io
import json
import os
import zlib
from pathlib import Path


class InputError(Exception):
    """A mistake in what the user gave: the message names the file, line or utterance and says what to do."""


@contextlib.contextmanager
def named(path, what="cannot be read", advice=""):
    """Makes an OSError in the block an `InputError` that names the file."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: {what} ({error.strerror}){advice}") from error


@contextlib.contextmanager
def locked(path, refusal):
    """Yields a lock file, open, that this process alone holds; the kernel drops it when the process dies, however.

    Raises:
        InputError: it cannot be written, or another process holds it: `refusal`.
    """
    with named(path, "cannot be written"):
        file = open(path, "w", encoding="utf-8")  # noqa: SIM115 (closed below)
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            same = os.path.samestat(os.stat(path), os.fstat(file.fileno()))  # not if its holder has just removed it
        except (BlockingIOError, FileNotFoundError) as error:
            raise InputError(refusal) from error
        except OSError as error:
            raise InputError(f"{path}: cannot be locked ({error.strerror}); use another disk") from error
        if not same:
            raise InputError(refusal)
        yield file


def made_folder(path):
    """The folder, made if need be.

    Raises:
        InputError: it cannot be made.
    """
    path = Path(path)
    with named(path, "cannot be made"):
        path.mkdir(parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def atomic_path(path):
    """Yields a temporary path beside `path`; on success it is flushed and renamed to `path`, else removed.

    Args:
        path: where the finished file shall be; its folder must exist.

    Raises:
        InputError: the folder is missing or read-only, or the disk is full; `path` is then as it was.
    """
    path = Path(path)
    name = path.name if len(os.fsencode(path.name)) < 200 else f"{zlib.crc32(os.fsencode(path.name)):08x}"
    temporary = path.with_name(f".{name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _flush_folder(path.parent)
    except OSError as error:
        # HDF5 puts dates and line ends into its messages.
        reason = os.strerror(error.errno) if error.errno else " ".join(str(error).split())
        raise InputError(f"{path}: cannot be written ({reason}); the file is as it was before") from error
    finally:
        with contextlib.suppress(OSError):  # a read-only disk refuses to remove even what is not there
            temporary.unlink(missing_ok=True)


def _flush_folder(folder):
    """Makes a rename durable: without it a power cut may bring the old name back."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path, text):
    """Writes `text` as UTF-8, atomically."""
    try:
        content = text.encode()
    except UnicodeEncodeError as error:  # a file's name, as the system gives bytes that are no text
        start = max(error.start - 40, 0)
        near = text[start : error.end].splitlines()[-1]
        raise InputError(f"{path}: cannot be written: {near!r} is no UTF-8; if it names a file, rename that") from error
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_json(path, value):
    """Writes `value` as indented JSON, atomically; NaN is refused since JSON has none."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_text(path):
    """Reads a file of UTF-8 text.

    Raises:
        InputError: it is missing, or no UTF-8.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error


def read_json(path, read=read_text):
    """Reads a JSON file; `read` gives its text.

    Raises:
        InputError: the file is missing or is no JSON; the message names the file and the line.
    """
    try:
        return json.loads(read(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from error
    except (RecursionError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error


def whole_json(path, *names):
    """The object in a JSON file, {} where there is none that has these names: what is made again if it is damaged."""
    try:
        found = read_json(path)
    except InputError:
        return {}
    return found if isinstance(found, dict) and set(names) <= set(found) else {}


def write_csv(path, header, rows):
    """Writes a header and rows as CSV with Unix line ends, atomically."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def sha256(path):
    """The SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        InputError: it cannot be read.
    """
    with named(path), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
