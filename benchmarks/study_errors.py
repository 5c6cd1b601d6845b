"""How often a study of two equal models calls them different, by its seeds and the noise of its patients.

    uv run python benchmarks/study_errors.py [--studies 2000] [--patients 200] [--own 0]

Differences are made up: each seed has its own around 0, and each patient adds noise. `compare` gets what a study would
give it: the seeds' differences, and the same in 2,000 resamples of patients. Noise is the standard deviation of the
patients' mean, as a multiple of that of the seeds' mean; --own is the share of its variance that each seed has for
itself, the rest is the same for all seeds. Printed are the shares of studies: both p should be as rare as they say, 0
should lie in 95 of 100 intervals. `t` is a t-test over the seeds' differences, which sees no patients.
"""

import argparse
import time

import numpy as np
import numpy.typing as npt
from scipy.stats import ttest_1samp

from genmed.parts.metrics.comparison import compare, draw_seed_weights
from genmed.parts.metrics.intervals import RESAMPLES

SEEDS = (2, 3, 5, 10)
NOISES = (0.0, 0.5, 1.0, 3.0)
Floats = npt.NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--patients", type=int, default=200)
    parser.add_argument("--own", type=float, default=0.0)
    chosen = parser.parse_args()
    start = time.perf_counter()
    random = np.random.default_rng(0)
    drawn = random.multinomial(chosen.patients, np.full(chosen.patients, 1 / chosen.patients), RESAMPLES)
    shares = drawn / chosen.patients
    print(f"{chosen.studies:,} studies a line, {chosen.patients} patients, {RESAMPLES:,} resamples, own {chosen.own:g}")
    print(f"{'seeds':>5}{'noise':>7}{'p < 0.05':>10}{'p < 0.01':>10}{'holds 0':>10}{'t < 0.05':>10}")
    for seeds in SEEDS:
        weights = draw_seed_weights(0, RESAMPLES, seeds)
        for noise in NOISES:
            counts = np.zeros(4)
            for _ in range(chosen.studies):
                counts += judge(make_study(random, seeds, chosen.patients, noise, chosen.own), shares, weights)
            print(
                f"{seeds:>5}{noise:>7g}" + "".join(f"{share:>10.1%}" for share in counts / chosen.studies), flush=True
            )
    print(f"{time.perf_counter() - start:.0f} s")


def make_study(random: np.random.Generator, seeds: int, patients: int, noise: float, own: float) -> Floats:
    """(patients, seeds): the difference of the two models on each patient. The seeds' mean has variance 1 / seeds."""
    shared = np.sqrt((1 - own) / seeds) * random.normal(size=(patients, 1))
    each = np.sqrt(own) * random.normal(size=(patients, seeds))
    return np.asarray(random.normal(size=seeds) + noise * np.sqrt(patients) * (shared + each))


def judge(study: Floats, shares: Floats, weights: Floats) -> tuple[bool, bool, bool, bool]:
    """shares: (R, patients) of each patient in each resample."""
    gaps, drawn = study.mean(0), (shares @ study).T
    found = compare((gaps, np.zeros_like(gaps)), (drawn, np.zeros_like(drawn)), weights)
    assert found.p is not None
    assert found.low is not None
    assert found.high is not None
    return found.p < 0.05, found.p < 0.01, found.low <= 0 <= found.high, ttest_1samp(gaps, 0).pvalue < 0.05


if __name__ == "__main__":
    main()
