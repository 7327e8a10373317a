"""What `forked` has loaded before it forks: packages alone, in the order in which they start beside each other."""

import opensmile  # noqa: F401 (before the framework: data.audio._opensmile says why)

import jinja2  # noqa: F401  # isort: skip
import joblib  # noqa: F401  # isort: skip
import keras  # noqa: F401  # isort: skip
import matplotlib.pyplot  # noqa: F401  # isort: skip
import pydantic  # noqa: F401  # isort: skip
import scipy.stats  # noqa: F401  # isort: skip
import sklearn.metrics  # noqa: F401  # isort: skip
import tensorboardX  # noqa: F401  # isort: skip
