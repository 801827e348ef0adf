"""Distributed linear regression, step by step: workers sum their gradients, the sums are added and divided once.

    python examples/seed_linear_regression.py

10,000 rows of 10 features with a little noise, split 80/20, on 4 workers: 100 iterations of gradient descent at a
learning rate of 0.01. That rate is safe and slow: after 100 iterations the weights have gone about 63 % of their way
from zero. A rate found from the data's curvature gets to the true ones in the same number of iterations.
"""

import dask.array as da
import numpy as np
from dask.distributed import Client, LocalCluster
from sklearn.datasets import make_regression

import dask_gd


def main() -> None:
    x, y, true = make_regression(10_000, 10, noise=0.1, coef=True, random_state=0)
    train, test = slice(0, 8_000), slice(8_000, None)
    # In pieces of uneven size on purpose: sums are exact for any.
    x_train, y_train = da.from_array(x[train], chunks=(1_500, -1)), da.from_array(y[train], chunks=1_500)

    def fit(learning_rate, **options):
        solver = dask_gd.GradientDescent(learning_rate=learning_rate)
        return dask_gd.fit(x_train, y_train, loss="squared", solver=solver, max_iter=100, tol=1e-9, **options)

    def report(run):
        error = np.abs(run.weights.values / true - 1).max()
        rmse = np.sqrt(np.mean((run.predict(x[test]) - y[test]) ** 2))
        passes = int(run.history.passes.sum())
        print(f"{run.n_iter} iterations from {passes} pass over the data, stopped by {run.reason}")
        print(f"largest error of a weight {error:.3%}; root mean square error on the test rows {rmse:.4g}\n")

    with (
        LocalCluster(n_workers=4, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        print(f"Dask's dashboard: {client.dashboard_link}\n\nlearning rate 0.01")
        slow = fit(0.01, callbacks=[lambda event: print(" ", event)])
        report(slow)
        print("The weights are on their way: 100 steps of 0.01 leave about (1 - 0.01)^100 = 37% of the distance.\n")
        print("learning rate 'auto', one over the largest curvature")
        report(fit("auto"))
    print(f"{'true weight':>12s} {'at 0.01':>12s}")
    for a, b in zip(true, slow.weights.values, strict=True):
        print(f"{a:12.4f} {b:12.4f}")


if __name__ == "__main__":
    main()
