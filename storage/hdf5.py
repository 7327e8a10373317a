"""HDF5 files: written whole or not at all; from strangers, only plain datasets are read, and never more than the
file can hold.
"""

import contextlib

import h5py

from storage.files import InputError, atomic_path

# gzip cannot shrink by more than about 1,030; a file that declares more is a bomb or damaged.
LARGEST_RATIO = 1100


class _Remembering:
    """A file to write that keeps its first error, `error`, to itself: HDF5 cannot bear one, a full disk or Ctrl-C."""

    def __init__(self, file):
        self.file, self.error = file, None

    def __getattr__(self, name):
        return getattr(self.file, name)

    def _tried(self, function, *arguments):
        try:
            return function(*arguments)
        except BaseException as error:
            self.error = self.error or error
            return None

    def write(self, content):
        left = memoryview(content).cast("B")
        while len(left) and not self.error:  # a write may take a part
            left = left[self._tried(self.file.write, left) or 0 :]
        return len(content)

    def truncate(self, size):
        self._tried(self.file.truncate, size)
        return size

    def flush(self):
        self._tried(self.file.flush)

    def readinto(self, buffer):
        read = self._tried(self.file.readinto, buffer) or 0
        memoryview(buffer).cast("B")[read:] = bytes(len(buffer) - read)  # what could not be written
        return len(buffer)


@contextlib.contextmanager
def atomic_hdf5(path):
    """Yields a new HDF5 file, which on success stands at `path` as with `storage.files.atomic_path`.

    The oldest layout allows no attribute over 64 KiB, and the names of 6,552 columns are longer; the next one stores
    when the file was made unless told not to, and equal content should give equal files.

    Raises:
        InputError: see `atomic_path`.
    """
    creation, access = h5py.h5p.create(h5py.h5p.FILE_CREATE), h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    creation.set_obj_track_times(False)
    access.set_libver_bounds(h5py.h5f.LIBVER_V18, h5py.h5f.LIBVER_V18)
    with atomic_path(path) as temporary, open(temporary, "w+b", buffering=0) as opened:
        content = _Remembering(opened)
        access.set_fileobj_driver(h5py.h5fd.fileobj_driver, content)
        try:
            try:
                with h5py.File(h5py.h5f.create(b"content", h5py.h5f.ACC_TRUNC, creation, access)) as file:
                    yield file
            except Exception:
                if not content.error:  # else HDF5 stumbled over what an error that it was not told of has left
                    raise
            if content.error:
                raise content.error
        finally:
            # An error holds the frames that hold this list. What HDF5 itself frees later, while it writes another file
            # or Python ends, ends the process.
            content.error = None
            access.close()


@contextlib.contextmanager
def open_hdf5(path, advice):
    """Opens a file for reading; whatever goes wrong while it is open becomes an InputError that names it.

    So what is raised in the block need not name the file again.

    Args:
        path: the file.
        advice: what the user can do about a missing or damaged file.
    """
    try:
        with h5py.File(path, "r") as file:
            yield file
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; {advice}") from error
    except PermissionError as error:
        raise InputError(f"{path}: no permission to read it") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: a folder, not a file; {advice}") from error
    except Exception as error:  # h5py raises many types on damaged files
        reason = " ".join(str(error).split())  # HDF5 puts the date, with a line end, into some
        raise InputError(f"{path}: not a readable HDF5 file, or truncated ({reason}); {advice}") from error


def plain_item(file, name):
    """The group or dataset `name`, reached without following a link.

    Raises:
        InputError: it is missing, or a link is on the way.
    """
    item = file
    for part in name.split("/"):  # each group on the way could be a link, too
        link = item.get(part, getlink=True) if isinstance(item, h5py.Group) else None
        if link is None:
            raise InputError(f"'{name}' is missing")
        if not isinstance(link, h5py.HardLink):
            raise InputError(f"'{name}' is a link; links are refused")
        item = item[part]
    return item


def plain_dataset(file, name):
    """The dataset `name`, after checks that need no memory: no link, no outside data, no impossible size.

    Raises:
        InputError: says what is wrong with it.
    """
    dataset = plain_item(file, name)
    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
        raise InputError(f"'{name}' is not a dataset")
    if dataset.is_virtual or dataset.external:
        raise InputError(f"'{name}' keeps its data in another file; such files are refused")
    if dataset.size * dataset.dtype.itemsize > LARGEST_RATIO * max(file.id.get_filesize(), 1):
        raise InputError(f"'{name}' declares {dataset.shape} values, more than the file can hold; it is damaged")
    return dataset
