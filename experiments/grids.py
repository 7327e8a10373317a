"""The paper's peers (Table 1) and the grid over which each is tuned: every point is trained and scored on dev."""

import itertools


def _grid(**values):
    return [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]


GRIDS = {
    "majority": [{}],
    "svm": _grid(C=(0.1, 1.0, 10.0, 100.0)),
    "random_forest": _grid(min_samples_leaf=(1, 3, 10, 30)),
    "ef_lstm": _grid(units=(100, 300), learning_rate=(1e-3, 3e-4)),
    "bc_lstm": _grid(units=(100, 300), learning_rate=(1e-3, 3e-4)),
    "tfn": _grid(hidden=(32, 128), learning_rate=(1e-3, 3e-4)),
}
NAMES = {
    "majority": "majority class",
    "svm": "SVM",
    "random_forest": "RF",
    "ef_lstm": "EF-LSTM",
    "bc_lstm": "BC-LSTM",
    "tfn": "TFN",
}
