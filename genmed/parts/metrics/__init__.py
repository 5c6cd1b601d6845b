"""Metrics, their intervals and comparisons: a new one of a class is in `of_class`, of all classes in `of_all`."""

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32]
Truth = npt.NDArray[np.int8]
