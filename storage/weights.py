"""Arrays and weights of networks as plain HDF5, checked by name, shape and type before anything is read."""

import numpy as np

from storage.files import InputError
from storage.hdf5 import atomic_hdf5, open_hdf5, plain_dataset

ADVICE = "train again, or fetch the checkpoint again"


def save_arrays(path, arrays, packed=False, **attributes):
    """Writes {name: array} as one HDF5 file, atomically, `packed` by HDF5's own gzip; same arrays, same bytes."""
    how = {"compression": "gzip", "shuffle": True} if packed else {}
    with atomic_hdf5(path) as file:
        for name, value in attributes.items():
            file.attrs[name] = value
        for name, array in arrays.items():
            file.create_dataset(name, data=np.asarray(array), **how)


def load_arrays(path, expected):
    """Reads the arrays of `save_arrays`.

    Args:
        path: the file.
        expected: {name: (shape, dtype)} of all the arrays that it must hold.

    Returns:
        {name: array} and the file's attributes as a dict.

    Raises:
        InputError: an array is missing, or has another shape or type; or the file holds others. Checked before any
            array is read.
    """
    with open_hdf5(path, ADVICE) as file:
        others = sorted(set(file) - set(expected))
        if others:
            raise InputError(f"holds '{others[0]}', which the network does not have; is it of another variant?")
        datasets = {name: plain_dataset(file, name) for name in expected}
        for name, (shape, dtype) in expected.items():
            found = datasets[name]
            if found.shape != tuple(shape) or found.dtype != dtype:
                raise InputError(f"'{name}' is {found.dtype} {found.shape}, the network needs {dtype} {tuple(shape)}")
        return {name: dataset[()] for name, dataset in datasets.items()}, dict(file.attrs)


def weight_arrays(model):
    """{name: array} of a model's weights, such as 'attention_1.audio_query'."""
    return {weight.path.replace("/", "."): np.asarray(weight) for weight in model.weights}


def save_weights(model, path):
    """Writes the weights of a model as plain arrays."""
    save_arrays(path, weight_arrays(model))


def load_weights(model, path):
    """Copies weights written by `save_weights` into a model of the same architecture.

    Raises:
        InputError: names, shapes or types differ, or a value is not finite; the model is then unchanged.
    """
    expected = {name: (array.shape, array.dtype) for name, array in weight_arrays(model).items()}
    arrays, _ = load_arrays(path, expected)
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise InputError(f"{path}: '{name}' has values that are not finite; {ADVICE}")
    for weight in model.weights:
        weight.assign(arrays[weight.path.replace("/", ".")])


def check_size(path, num_rows, what, numbers_each):
    """Refuses, before a network of that size is built, a weight file too small for it.

    Args:
        path: the file.
        num_rows: rows that its largest matrix must have.
        what: what they are.
        numbers_each: float32 numbers of a row.
    """
    if path.stat().st_size < 4 * numbers_each * num_rows:
        raise InputError(f"{path}: too small for the {num_rows} {what}; {ADVICE}")
