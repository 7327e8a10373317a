"""Rows of numbers that stay in a file until they are asked for: a corpus of podcasts is larger than memory.

Letters of the shape comments: N rows, D numbers of a row.
"""

import numpy as np

from storage.hdf5 import open_hdf5

# Rows of at most so many bytes are read at once, which is quicker; IEMOCAP's 6,552 columns are 262 MB.
MOST_IN_MEMORY = 2**29
# Of what is read, computed or predicted at a time.
BLOCK_ROWS = 2**14


class Rows:
    """(N, D) float32 numbers behind a reader; indexed by rows it gives an array, `take` gives such rows unread.

    Args:
        read: function from places, a range or an array, to their (n, D) float32 numbers.
        places: those of these rows, in this order.
        width: D.
    """

    ndim, dtype = 2, np.dtype("float32")

    def __init__(self, read, places, width):
        self._read, self._places, self._width = read, places, width

    @property
    def shape(self):
        return len(self._places), self._width

    def __len__(self):
        return len(self._places)

    def __getitem__(self, rows):
        if isinstance(rows, (int, np.integer)):
            return self._read(np.array([self._places[rows]]))[0]
        return self._read(self._chosen(rows))

    def __array__(self, dtype=None, copy=None):
        return self[:].astype(dtype or self.dtype, copy=False)

    def take(self, rows):
        """These of the rows, for a slice or an array of places or of truth values."""
        return Rows(self._read, self._chosen(rows), self._width)

    def _chosen(self, rows):
        places = self._places
        if isinstance(places, range) and not isinstance(rows, slice):
            places = np.arange(places.start, places.stop, places.step)
        return places[rows]


def rows_of_dataset(path, name, shape):
    """The `Rows` of a dataset of a corpus file, which was checked before.

    Raises, when they are read:
        InputError: the file is gone, or damaged.
    """

    def read(places):
        with open_hdf5(path, "prepare it again") as file:
            dataset = file[name]
            return joined(lambda rows: dataset[rows], places, shape[1])

    return Rows(read, range(shape[0]), shape[1])


def joined(read, places, width):
    """(n, D) float32 of places from a reader of slices, which is slow where single rows are asked for."""
    if isinstance(places, range) and places.step == 1:
        return np.asarray(read(slice(places.start, places.stop)), "float32")
    places = np.asarray(places, "int64")
    found = np.empty((len(places), width), "float32")
    ends = np.flatnonzero(np.diff(places) != 1) + 1
    for start, stop in zip([0, *ends], [*ends, len(places)], strict=True):
        if stop > start:
            found[start:stop] = read(slice(places[start], places[start] + stop - start))
    return found


def blocks(num, size=BLOCK_ROWS):
    """Slices of at most `size` that cover `num` rows."""
    return [slice(start, min(start + size, num)) for start in range(0, num, size)]


def dialog_blocks(dialogs, size=BLOCK_ROWS):
    """Slices that follow each other, in lists of about `size` rows; a longer dialog is a list of its own.

    Slices without rows are left out.
    """
    lists, num = [], size
    for rows in dialogs:
        if rows.stop == rows.start:
            continue
        if num + rows.stop - rows.start > size:
            lists.append([])
            num = 0
        lists[-1].append(rows)
        num += rows.stop - rows.start
    return lists
