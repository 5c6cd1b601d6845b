"""What intervals over patients cost: all metrics in 2,000 resamples, beside AUROC and AP alone in a plain loop.

    uv run python benchmarks/bootstrap.py [--resamples 2000] [--looped 20] [--repeats 3]

Scores are made up, in the size of NIH ChestX-ray14's official test: 25,596 images of 2,797 patients, 14 classes as
frequent as they are there. genmed: `estimate`, with all metrics and classes, as `genmed evaluate` calls it. The loop:
for each resample the images of the drawn patients, and scikit-learn's `roc_auc_score` and `average_precision_score` of
each class; as many resamples as --looped says, scaled. By turns in one process; printed are medians and the range of
ratios.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score

from genmed.parts.metrics.intervals import RESAMPLES, estimate
from genmed.parts.metrics.sample import Sample

IMAGES, PATIENTS, SEED = 25_596, 2_797, 0
POSITIVES = {
    "Atelectasis": 3279,
    "Cardiomegaly": 1069,
    "Consolidation": 1815,
    "Edema": 925,
    "Effusion": 4658,
    "Emphysema": 1093,
    "Fibrosis": 435,
    "Hernia": 86,
    "Infiltration": 6112,
    "Mass": 1748,
    "Nodule": 1623,
    "Pleural_Thickening": 1143,
    "Pneumonia": 555,
    "Pneumothorax": 2665,
}
"""Images of the official test that have each class."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resamples", type=int, default=RESAMPLES)
    parser.add_argument("--looped", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    times: dict[str, list[float]] = {"genmed": [], "loop": []}
    for number in range(chosen.repeats):
        sample = make_sample(number)  # anew, for a sample remembers what its resamples share
        times["genmed"].append(measure(lambda sample=sample: estimate(sample, SEED, chosen.resamples)))
        seconds = measure(lambda sample=sample, number=number: loop(sample, number, chosen.looped))
        times["loop"].append(seconds / chosen.looped * chosen.resamples)
    ratios = sorted(slow / fast for fast, slow in zip(times["genmed"], times["loop"], strict=True))
    print(f"{IMAGES:,} images of {PATIENTS:,} patients, {len(POSITIVES)} classes, {chosen.resamples:,} resamples")
    print(f"{len(os.sched_getaffinity(0))} cores, {chosen.repeats} repeats")
    figures = {"genmed": len(estimate(sample, SEED, 1)), "loop": 2 * len(POSITIVES)}
    for way, count in figures.items():
        print(f"{f'{way}, {count} figures':<20}{statistics.median(times[way]):8.1f} s")
    print(f"{'ratio':<20}{statistics.median(ratios):8.0f}    ({ratios[0]:.0f} to {ratios[-1]:.0f})")


def make_sample(number: int) -> Sample:
    """Patients with 1 image or many, as there are; scores that tell something."""
    random = np.random.default_rng(number)
    units = np.sort(np.concatenate([np.arange(PATIENTS), random.integers(0, PATIENTS, IMAGES - PATIENTS)]))
    truth = np.zeros((IMAGES, len(POSITIVES)), np.int8)
    for column, count in enumerate(POSITIVES.values()):
        truth[random.choice(IMAGES, count, replace=False), column] = 1
    scores = 1 / (1 + np.exp(2 - random.normal(1.3 * truth, 1.0)))
    thresholds = dict.fromkeys(POSITIVES, 0.2)
    return Sample(scores.astype(np.float32), truth, units, tuple(POSITIVES), "multi-label", thresholds)


def loop(sample: Sample, number: int, resamples: int) -> npt.NDArray[np.float64]:
    """(resamples, 2, classes): as one would write it."""
    random = np.random.default_rng(number)
    of_patient = np.split(np.arange(IMAGES), np.flatnonzero(np.diff(sample.units)) + 1)
    found = []
    for _ in range(resamples):
        rows = np.concatenate([of_patient[patient] for patient in random.integers(0, PATIENTS, PATIENTS)])
        truth, scores = sample.truth[rows], sample.scores[rows]
        columns = range(truth.shape[1])
        found.append(
            [
                [roc_auc_score(truth[:, column], scores[:, column]) for column in columns],
                [average_precision_score(truth[:, column], scores[:, column]) for column in columns],
            ]
        )
    return np.array(found)


def measure(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
