"""Recommendation: how will a student rate a lecturer? From who both are, as codes of categories.

    python examples/recommendation.py

Fits the 60,000 ratings of data/lectures.zarr that come first by a ridge regression on four columns of codes: the
student, the lecturer, and two crossings of what is known of them, such as the student's semester x the lecturer's
department. They are 4,168 features, which are nowhere written out. The other 13,421 ratings are predicted.
"""

from pathlib import Path

import numpy as np
import zarr

import dask_gd

LECTURES = Path(__file__).parents[1] / "data" / "lectures.zarr"
COLUMNS = ["student", "lecturer", "semester x department", "age x service"]
TRAIN = slice(0, 60_000)
TEST = slice(60_000, None)
#: A student or lecturer is moved towards the mean as if by so many ratings that are average.
AVERAGE_RATINGS = 10


def error(predicted, rating) -> float:
    """The root mean square error."""
    return float(np.sqrt(np.mean((predicted - rating) ** 2)))


def main() -> None:
    train = dask_gd.open(LECTURES, x=COLUMNS, y="rating", rows=TRAIN)
    test = dask_gd.open(LECTURES, x=COLUMNS, y="rating", rows=TEST)
    print(train)

    # All levels have a feature: the penalty says which of their many equal sums is meant.
    penalty = dask_gd.L2(AVERAGE_RATINGS / train.shape[0])
    run = dask_gd.fit(train, loss="squared", penalty=penalty)
    predicted = run.predict(test).compute()

    group = zarr.open_group(LECTURES, mode="r")
    rating = group["rating"][:].astype(float)
    lecturer = group["lecturer"][:]
    mean = rating[TRAIN].mean()
    # A lecturer that nobody has rated yet would have the mean of all.
    levels = len(group["lecturer"].attrs["levels"])
    counts = np.bincount(lecturer[TRAIN], minlength=levels)
    above = np.bincount(lecturer[TRAIN], rating[TRAIN] - mean, minlength=levels) / np.maximum(counts, 1)

    print(f"{run.reason} in {run.n_iter} steps; of {len(predicted):,} ratings from 1 to 5, the root mean square error:")
    print(f"  student, lecturer, crossings  {error(predicted, rating[TEST]):.4f}")
    print(f"  mean of all and of lecturer   {error(mean + above[lecturer[TEST]], rating[TEST]):.4f}")
    print(f"  mean of all                   {error(mean, rating[TEST]):.4f}")

    best = run.weights.sel(feature=[name for name in run.weights.feature.values if name.startswith("lecturer=")])
    print(f"from the worst lecturer to the best: {float(best.min()):+.2f} to {float(best.max()):+.2f}")


if __name__ == "__main__":
    main()
