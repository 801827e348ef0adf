"""What does a formula cost beside the names of features?

    python benchmarks/formulas.py [--rows N]

Parquet of ten files: two numbers, a month, a factor of 20,000 levels and one of 10. Least squares without a penalty,
in this process: processor seconds of the whole fit, learning included, the least of three in turns. "the same" has
the levels that ``features=`` has; the others have splines, a product of a factor and a number, and knots of as many
distinct values as rows.

Target: "the same" takes at most 1.25 times what ``features=`` takes.
"""

from __future__ import annotations

import resource
from pathlib import Path

import dask.dataframe as dd
import numpy as np
import pandas as pd
from common import arguments, finish, scratch

import dask_gd

MOST = 1.25
FILES = 10
HEADER = ("fit", "columns", "CPU seconds", "of features=")


def write(folder: Path, rows: int) -> None:
    """Write the rows."""
    rng = np.random.default_rng(0)
    each = rows // FILES
    for i in range(FILES):
        frame = pd.DataFrame(
            {
                "y": rng.normal(size=each),
                "x": rng.normal(size=each),
                "month": rng.integers(1, 13, each),
                "wide": rng.integers(0, 20_000, each).astype(str),
                "carrier": rng.choice(list("ABCDEFGHIJ"), each),
            }
        )
        frame.to_parquet(folder / f"{i}.parquet")


def seconds() -> float:
    """Return the processor seconds of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    options = parser.parse_args()
    with scratch(options.directory) as folder:
        write(folder, options.rows)
        frame = dd.read_parquet(folder)
        named = {"features": ["x", "month", "wide", "carrier"], "target": "y", "categorical": ["month"]}
        fits = {
            "features=": lambda: dask_gd.fit(frame, **named),
            "the same": lambda: dask_gd.fit("y ~ x + C(month) + wide + carrier", frame),
            "spline, product": lambda: dask_gd.fit("y ~ x + bs(month, 4) + wide + carrier * month", frame),
            "knots of all": lambda: dask_gd.fit("y ~ bs(x, 5) + carrier", frame),
        }
        took: dict[str, list[float]] = {name: [] for name in fits}
        columns = {}
        for _ in range(3):
            for name, fit in fits.items():
                before = seconds()
                columns[name] = len(fit().weights)
                took[name].append(seconds() - before)
    least = {name: min(each) for name, each in took.items()}
    rows = [(name, columns[name], f"{each:.2f}", f"{each / least['features=']:.2f}") for name, each in least.items()]
    verdicts = {f"at most {MOST} times what features= takes": least["the same"] <= MOST * least["features="]}
    finish(f"Formulas of {options.rows:,} rows", HEADER, rows, verdicts, options.output)


if __name__ == "__main__":
    main()
