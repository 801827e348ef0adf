"""What does it take to hash text to a store of sparse rows, beside scikit-learn's transform in memory?

    python benchmarks/hashing.py
    python benchmarks/hashing.py --rows 16000    # a smaller size

400,000 rows of 40 words, in 16 text files; words follow a power law, words and pairs of neighbours are hashed into 2^20
columns. scikit-learn's `transform` of all rows in memory, one thread, is what cannot be left out. `hash_features`
reads the files on 1 and on 2 workers; how much of its time passes between the last part and the store that is
complete is a row of its own, since this process alone puts the parts together. The last row is a call that goes on
from all parts of a writer that was interrupted just then: rows are read again, and not hashed.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import zarr
from common import arguments, cluster, finish, scratch
from sklearn.feature_extraction.text import HashingVectorizer

import dask_gd
import dask_gd.results.hash_features as writing

HEADER = ("what", "threads", "seconds", "M entries/s")
HASHER = HashingVectorizer(n_features=2**20, ngram_range=(1, 2), norm=None, dtype=np.float32)
FILES = 16
WORDS = 40


def make_files(directory: Path, rows: int) -> list[Path]:
    """Text files with the rows, which are used again where they are there."""
    vocabulary = np.array([f"word{number}" for number in range(50_000)])
    files = []
    for number in range(FILES):
        file = directory / f"text-{rows}-{number}.txt"
        files.append(file)
        if file.exists():
            continue
        rng = np.random.default_rng(number)
        words = np.minimum(rng.zipf(1.3, (rows // FILES, WORDS)), len(vocabulary)) - 1
        file.write_text("".join(" ".join(vocabulary[row]) + "\n" for row in words))
    return files


class Interrupted(Exception):
    """Raised in place of the work after the last part."""


def interrupted(*_, **__):
    raise Interrupted


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--memory", default="2GB", help="of each worker")
    args = parser.parse_args()
    is_full = args.rows >= parser.get_default("rows")
    table = []
    putting = 0.0
    write_blocks = writing.write_blocks

    def timed(*arguments, **options):
        nonlocal putting
        began = time.perf_counter()
        try:
            return write_blocks(*arguments, **options)
        finally:
            putting = time.perf_counter() - began

    with scratch(args.directory) as directory:
        files = make_files(directory, args.rows)
        texts = [line for file in files for line in file.read_text().splitlines()]
        began = time.perf_counter()
        x = HASHER.transform(texts)
        alone = time.perf_counter() - began
        millions = x.nnz / 1e6
        table.append(("scikit-learn, in memory", 1, alone, millions / alone))

        seconds = {}
        for workers in (1, 2):
            with cluster(workers, args.memory) as client:
                client.run(make_ready)
                writing.write_blocks = timed
                path = directory / f"{workers}.zarr"
                began = time.perf_counter()
                dask_gd.hash_features(files, path, HASHER, overwrite=True)
                seconds[workers] = time.perf_counter() - began
                table.append(("hash_features from text files", workers, seconds[workers], millions / seconds[workers]))
                table.append(("  of it putting parts together", 1, putting, millions / putting))
        put_together = putting

        # All parts are there, and nothing else.
        with cluster(2, args.memory) as client:
            client.run(make_ready)
            writing.write_blocks = interrupted
            try:
                dask_gd.hash_features(files, path, HASHER, overwrite=True)
            except Interrupted:
                writing.write_blocks = write_blocks
            began = time.perf_counter()
            dask_gd.hash_features(files, path, HASHER, overwrite=True)
            again = time.perf_counter() - began
            table.append(("going on from all parts", 2, again, millions / again))
        rows = zarr.open_group(path, mode="r")["X"]
        same = all(np.array_equal(rows[name][:], getattr(x, name)) for name in ("data", "indices", "indptr"))

    verdicts = {
        "the store has scikit-learn's entries": same,
        f"putting parts together: {put_together / seconds[2]:.2f} of the time on two workers, at most 0.15": (
            not is_full or put_together <= 0.15 * seconds[2]
        ),
        f"two workers: {seconds[2] / alone:.2f} of scikit-learn's time, at most 0.75": (
            not is_full or seconds[2] <= 0.75 * alone
        ),
    }
    finish(f"Hashed text, {millions:.1f} M entries", HEADER, table, verdicts, args.output)


def make_ready() -> None:
    """Import what the tasks need, in a worker."""
    import sklearn.feature_extraction.text  # noqa: F401

    import dask_gd  # noqa: F401


if __name__ == "__main__":
    main()
