"""What `forked` has loaded before it forks: packages alone, in the order in which they start beside each other."""

import opensmile  # noqa: F401 (before the framework: data.audio._opensmile says why)

import jinja2  # noqa: F401  # isort: skip
import joblib  # noqa: F401  # isort: skip
import keras  # noqa: F401  # isort: skip
import matplotlib.backends.backend_agg  # noqa: F401  # isort: skip
import matplotlib.backends.backend_pdf  # noqa: F401  # isort: skip
import matplotlib.pyplot  # noqa: F401  # isort: skip
import pympi  # noqa: F401  # isort: skip
import scipy.signal  # noqa: F401  # isort: skip
import scipy.stats  # noqa: F401  # isort: skip
import sklearn.metrics  # noqa: F401  # isort: skip
import tensorboardX  # noqa: F401  # isort: skip
from pydantic import BaseModel  # noqa: F401  # isort: skip
