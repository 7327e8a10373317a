"""The state of a stage in memory and, in two generations, on disk: what a killed run goes on from, byte for byte."""

import hashlib
import sys

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from settings import said_of
from storage.files import InputError
from storage.weights import load_arrays, save_arrays


class Progress(BaseModel):
    """Where training stands: `step` steps into epoch `epoch` (from 0), and what led there.

    `history` has a row for each epoch: its number, training loss, dev loss, dev accuracy.
    """

    model_config = ConfigDict(strict=True, extra="forbid", ser_json_inf_nan="constants")

    epoch: int = Field(0, ge=0)
    step: int = Field(0, ge=0)
    loss_sum: float = 0.0
    best_epoch: int = Field(0, ge=0)
    best_dev_loss: float = float("inf")
    seconds: float = 0.0
    saves: int = Field(0, ge=0)
    history: list[tuple[int, float, float, float | None]] = []

    @model_validator(mode="after")
    def _whole(self):
        if len(self.history) != self.epoch or self.best_epoch > self.epoch:
            raise ValueError(f"no history of {self.epoch} epochs")
        return self


class StageState:
    """The state of one stage in memory and, in two generations, on disk.

    A file holds all variables of the network and of its optimizer, the best weights, and the `Progress`, with a
    SHA-256 over all of it. The older of the two files is replaced, so a damaged newest one costs an epoch, not a run.
    """

    def __init__(self, stage, network, folder):
        self.stage = stage
        self.network = network
        self.paths = [folder / f"{stage}.state-{generation}.h5" for generation in (0, 1)]
        self.keep_best()

    def keep_best(self):
        self.best = [np.array(weight) for weight in self.network.weights]

    def restore_best(self):
        for weight, value in zip(self.network.weights, self.best, strict=True):
            weight.assign(value)

    def _variables(self):
        return {f"network.{i:03d}": v for i, v in enumerate(self.network.variables)} | {
            f"optimizer.{i:03d}": v for i, v in enumerate(self.network.optimizer.variables)
        }

    def save(self, progress):
        arrays = {name: np.asarray(variable) for name, variable in self._variables().items()}
        arrays |= {f"best.{i:03d}": value for i, value in enumerate(self.best)}
        text = progress.model_dump_json()
        save_arrays(self.paths[progress.saves % 2], arrays, progress=text, sha256=_digest(arrays, text))
        progress.saves += 1

    def load(self):
        """Takes up the newest state that is whole; a fresh start where there is none."""
        there = [path for path in self.paths if path.exists()]
        found = [state for path in there if (state := self._read(path))]
        if not found:
            if there:
                print(f"no whole state is left: {self.stage} begins again", file=sys.stderr)
            return Progress()
        progress, arrays = max(found, key=lambda state: state[0].saves)
        if progress.saves and len(there) == 1:
            print(f"one of the two states is missing, {there[0]} is used", file=sys.stderr)
        for name, variable in self._variables().items():
            variable.assign(arrays[name])
        self.best = [arrays[f"best.{i:03d}"] for i in range(len(self.best))]
        progress.saves += 1
        return progress

    def _read(self, path):
        expected = {name: (tuple(v.shape), str(v.dtype)) for name, v in self._variables().items()}
        expected |= {f"best.{i:03d}": (value.shape, str(value.dtype)) for i, value in enumerate(self.best)}
        try:
            arrays, attributes = load_arrays(path, expected)
            text = str(attributes.get("progress"))
            if str(attributes.get("sha256")) != _digest(arrays, text):
                raise InputError(f"{path}: its SHA-256 is not the one it was written with")
            progress = Progress.model_validate_json(text)
            if not all(np.isfinite(array).all() for array in arrays.values()):
                raise InputError(f"{path}: holds values that are not finite")
        except (InputError, ValidationError) as error:
            said = said_of(error) if isinstance(error, ValidationError) else error
            print(f"damaged state {path.name} left aside, another is used: {said}", file=sys.stderr)
            return None
        return progress, arrays

    def delete(self):
        for path in self.paths:
            path.unlink(missing_ok=True)


def _digest(arrays, text):
    digest = hashlib.sha256(text.encode())
    for name, array in arrays.items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()
