"""Images: which digit is it? A softmax over the pixels of scikit-learn's digits, 8 x 8 each, beside two baselines.

python examples/images.py
"""

import numpy as np
from sklearn.datasets import load_digits

import dask_gd

TRAIN = 1_400
ALPHA = 1e-3


def main() -> None:
    # The first digits are for training; those after them were written by others.
    x, y = load_digits(return_X_y=True)
    x = x / x.max()
    train = slice(0, TRAIN)
    test = slice(TRAIN, None)

    # One set of weights for each digit, fitted together. Prediction gives a probability for each.
    run = dask_gd.fit(x[train], y[train], loss="softmax", penalty=dask_gd.L2(ALPHA), callbacks=[print])
    probability = np.asarray(run.predict(x[test]))

    # The baselines: the digit whose mean is nearest, and the most frequent one.
    means = np.stack([x[train][y[train] == digit].mean(axis=0) for digit in range(10)])
    distances = ((x[test, None] - means) ** 2).sum(axis=2)
    frequent = np.bincount(y[train]).argmax()
    guesses = {
        "softmax": probability.argmax(axis=1),
        "nearest mean of a digit": distances.argmin(axis=1),
        "always the most frequent": np.full(len(y) - TRAIN, frequent),
    }
    print(f"\nof {len(y) - TRAIN} digits that the fit has not seen, right are")
    for name, guess in guesses.items():
        print(f"  {name:26s} {np.mean(guess == y[test]):.1%}")


if __name__ == "__main__":
    main()
