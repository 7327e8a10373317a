"""z-normalisation of features, fitted on the training utterances."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from storage.runs import read_as


class _Stored(BaseModel):
    """scaler.json."""

    model_config = ConfigDict(strict=True)

    names: tuple[str, ...]
    mean: tuple[FiniteFloat, ...]
    scale: tuple[Annotated[FiniteFloat, Field(gt=0)], ...]

    @model_validator(mode="after")
    def _equally_many(self):
        if not len(self.names) == len(self.mean) == len(self.scale):
            raise ValueError(f"mean and scale must be {len(self.names)} numbers each, one for each of the names")
        return self


@dataclass(frozen=True)
class Scaler:
    """`names` are the A features; `mean` and `scale` are (A,) float64, scale 1 where a feature never varies."""

    names: tuple
    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(cls, features, names):
        """On (N, A) features."""
        return cls.fit_parts(lambda: (features,), names)

    @classmethod
    def fit_parts(cls, parts, names):
        """On the parts (n, A) that `parts()` yields, the same ones each time.

        In float64, since emo_large holds values up to 6.6e13; mean first, since the mean of squares would lose digits.
        """
        num, total = 0, 0.0
        for part in parts():
            num, total = num + len(part), total + np.sum(part, axis=0, dtype="float64")
        mean, squares = total / num, 0.0
        for part in parts():
            squares = squares + np.square(np.asarray(part, "float64") - mean).sum(axis=0)
        deviation = np.sqrt(squares / num)
        return cls(tuple(names), mean, np.where(deviation > 0, deviation, 1.0))

    def transform(self, features):
        """(N, A) raw features -> (N, A) float32 standardised ones."""
        return ((np.asarray(features, "float64") - self.mean) / self.scale).astype("float32")

    def to_json(self):
        return {"names": list(self.names), "mean": self.mean.tolist(), "scale": self.scale.tolist()}

    @classmethod
    def from_json(cls, path):
        """Reads what `to_json` gave.

        Raises:
            InputError: the lists are missing, differ in length, or hold what is no finite number, or a scale <= 0.
        """
        stored = read_as(_Stored, path)
        return cls(stored.names, np.array(stored.mean), np.array(stored.scale))
