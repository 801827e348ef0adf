"""A network of two layers on scikit-learn's digits: a model of one's own on the same pass, store and solvers.

    python examples/network.py

Any function that returns the rows' loss and its gradient can be fitted; here both are written out in NumPy.
"""

import tempfile

import dask.array as da
import numpy as np
from sklearn.datasets import load_digits

import dask_gd

HIDDEN, CLASSES, DECAY = 32, 10, 1e-3


def layers(params, x):
    """The hidden layer (n, HIDDEN) and the classes' probabilities (n, CLASSES)."""
    hidden = np.tanh(x @ params["inner"] + params["inner_bias"])
    z = hidden @ params["outer"] + params["outer_bias"]
    exp = np.exp(z - z.max(axis=1, keepdims=True))
    return hidden, exp / exp.sum(axis=1, keepdims=True)


def network(params, x, y, weight):
    """Cross-entropy and its gradient (Rumelhart, Hinton and Williams, 1986), summed over the rows."""
    hidden, share = layers(params, x)
    own = np.arange(len(x)), y.astype(int)
    loss = -np.log(np.maximum(share[own], 1e-300)).sum()
    error = share.copy()
    error[own] -= 1.0
    back = (error @ params["outer"].T) * (1.0 - hidden**2)
    return loss, {
        "inner": x.T @ back,
        "inner_bias": back.sum(axis=0),
        "outer": hidden.T @ error,
        "outer_bias": error.sum(axis=0),
    }


def main() -> None:
    x, y = load_digits(return_X_y=True)
    x = x / 16
    train, test = slice(0, 1400), slice(1400, None)
    rng = np.random.default_rng(0)
    start = {
        "inner": rng.normal(size=(x.shape[1], HIDDEN)) / np.sqrt(x.shape[1]),
        "inner_bias": np.zeros(HIDDEN),
        "outer": rng.normal(size=(HIDDEN, CLASSES)) / np.sqrt(HIDDEN),
        "outer_bias": np.zeros(CLASSES),
    }
    with tempfile.TemporaryDirectory() as store:
        run = dask_gd.fit(
            da.from_array(x[train], chunks=(200, x.shape[1])),
            y[train],
            loss=dask_gd.Model(network, start),
            penalty=dask_gd.L2(DECAY),
            max_iter=60,
            store=store,
            callbacks=[print],
        )
    _, share = layers(run.params, x[test])
    right = (share.argmax(axis=1) == y[test]).mean()
    print(f"{run.n_iter} steps, loss {float(run.history.loss[0]):.3f} -> {float(run.history.loss[-1]):.3f}")
    print(f"{right:.1%} of {len(share)} digits that the fit has not seen are recognised")


if __name__ == "__main__":
    main()
