"""Make the flights example: which US flights arrive late, given distance, hour, weekday and airports?

    python data/make_flights.py flights-3m.parquet                 # data/flights.zarr: small, for tests
    python data/make_flights.py flights-3m.parquet --full          # ./flights-full.zarr: 48 MB decoded
    python data/make_flights.py flights-3m.parquet --full --dense  # and its dense rows: 5.8 GB decoded

These are Zarr v3 groups of arrays over the same rows, in date order: distance, the codes of hour, weekday, origin and
destination, late (0 or 1) and delay (minutes), and X, the same features as dense float32 rows. README.md describes them
and says where to get the parquet file. Needs pandas and pyarrow (the extra `data`).
"""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

import numpy as np
import pandas as pd
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

LATE = 15  # minutes: the US Department of Transportation's own threshold
WEEKDAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
REFERENCE_HOUR = 6  # the busiest: were it a rare one, such as 3, the others would all but sum to an intercept
TARGET_CHUNK = 50_000  # rows; a multiple of X's, so that no chunk of X spans two of a target's

# No shuffle: rows that are nearly all zero bytes already compress better, and faster, as they are.
CODECS = {
    "none": [],
    "lz4": [BloscCodec(cname="lz4", clevel=5, shuffle="noshuffle")],
    "zstd": [BloscCodec(cname="zstd", clevel=7, shuffle="noshuffle")],
}


def busiest_first(codes: pd.Series) -> list[str]:
    """All airports, busiest first."""
    counts = codes.value_counts().to_dict()
    return sorted(counts, key=lambda airport: (-counts[airport], airport))


def airports(codes: pd.Series, top: int | None) -> list[str]:
    """The airports that get a column, busiest first: the `top` busiest, or (None) all but the busiest."""
    ranked = busiest_first(codes)
    return ranked[1:] if top is None else ranked[:top]


def encode(flights: pd.DataFrame, top: int | None) -> tuple[list[str], np.ndarray]:
    """The names of X's columns and, per row and factor, which column holds a 1 (-1: none, the reference)."""
    factors = {
        "hour": (flights["date"].dt.hour, [hour for hour in range(24) if hour != REFERENCE_HOUR]),
        "weekday": (flights["date"].dt.day_of_week.map(dict(enumerate(WEEKDAYS))), WEEKDAYS[1:]),
        "origin": (flights["origin"], airports(flights["origin"], top)),
        "destination": (flights["destination"], airports(flights["destination"], top)),
    }
    names, ones = ["distance"], []
    for factor, (values, levels) in factors.items():
        position = pd.Index(levels).get_indexer(values)
        ones.append(np.where(position < 0, -1, position + len(names)))
        names += [f"{factor}={level}" for level in levels]
    return names, np.stack(ones, axis=1)


def codes_of(flights: pd.DataFrame) -> dict[str, tuple[list, np.ndarray]]:
    """The levels of each factor, the reference first, and the code of each row's level."""
    hours = [REFERENCE_HOUR, *(hour for hour in range(24) if hour != REFERENCE_HOUR)]
    factors = {
        "hour": (flights["date"].dt.hour, hours),
        "weekday": (flights["date"].dt.day_of_week.map(dict(enumerate(WEEKDAYS))), WEEKDAYS),
        "origin": (flights["origin"], busiest_first(flights["origin"])),
        "destination": (flights["destination"], busiest_first(flights["destination"])),
    }
    return {
        name: (levels, pd.Index(levels).get_indexer(values).astype("uint8"))
        for name, (values, levels) in factors.items()
    }


def write(
    flights: pd.DataFrame, output: Path, top: int | None, chunk: int, codes_chunk: int, codec: str, dense: bool
) -> zarr.Group:
    """Write the store, with X in chunks of `chunk` rows and codes in chunks of `codes_chunk`, and return it."""
    distance = flights["distance"].to_numpy() / 1000
    delay = flights["delay"].to_numpy()

    # Replace a Zarr store, but never anything else that happens to have this name.
    group = zarr.open_group(output, mode="w" if (output / "zarr.json").exists() else "w-", zarr_format=3)
    group.attrs.update(
        {
            "title": "US flights, January to June 2001, and which of them arrived late",
            "source": "US Bureau of Transportation Statistics; flights-3m.parquet of npm vega-datasets 3.2.1",
            "licence": "US government reporting data (14 CFR Part 234), open",
            "distance": "in thousands of miles",
            "hour, weekday": "of departure, codes; the attribute levels has what they stand for",
            "origin, destination": "airports, codes; the attribute levels has what they stand for",
            "X": "distance in thousands of miles, then 0/1 columns factor=level (hour, weekday of departure)",
            "late": f"1 where the flight arrived {LATE} minutes late or more, else 0",
            "delay": "delay on arrival in minutes, negative where early",
        }
    )
    # The checksum goes last, so that it covers the bytes as stored. Chunks of nothing but zeros are written
    # too, so that a missing chunk is always a fault.
    options = {"compressors": [*CODECS[codec], Crc32cCodec()], "config": {"write_empty_chunks": True}}

    for name, target in {"late": (delay >= LATE).astype("int8"), "delay": delay.astype("float32")}.items():
        group.create_array(name, data=target, chunks=(TARGET_CHUNK,), dimension_names=("row",), **options)

    columns = {"distance": (None, distance.astype("float32")), **codes_of(flights)}
    for name, (levels, values) in columns.items():
        attributes = {} if levels is None else {"levels": levels}
        group.create_array(
            name, data=values, chunks=(codes_chunk,), dimension_names=("row",), attributes=attributes, **options
        )
    if dense:
        write_dense(group, flights, top, chunk, distance, options)
    else:
        del group.attrs["X"]
    return group


def write_dense(
    group: zarr.Group, flights: pd.DataFrame, top: int | None, chunk: int, distance: np.ndarray, options: dict
) -> None:
    """Write the features as dense rows."""
    names, ones = encode(flights, top)
    X = group.create_array(
        "X",
        shape=(len(flights), len(names)),
        chunks=(chunk, len(names)),
        dtype="float32",
        dimension_names=("row", "feature"),
        attributes={"feature_names": names},
        **options,
    )
    for start in range(0, len(flights), chunk):  # so that only one chunk is ever dense in memory
        rows = slice(start, start + chunk)
        columns = ones[rows]
        block = np.zeros((len(columns), len(names)), dtype="float32")
        block[:, 0] = distance[rows]
        row, factor = np.nonzero(columns >= 0)
        block[row, columns[row, factor]] = 1
        X[rows] = block


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("parquet", type=Path, help="flights-3m.parquet")
    parser.add_argument("--full", action="store_true", help="all flights and airports, not a sample")
    parser.add_argument("--dense", action="store_true", help="with --full: the dense rows too, which the small one has")
    parser.add_argument("--output", type=Path, help="where to write (default: as above)")
    parser.add_argument("--codec", choices=CODECS, default="zstd", help="compression (default: %(default)s)")
    parser.add_argument("--rows", type=int, help="only the first so many of the rows")
    args = parser.parse_args()

    if args.full:
        output, every, top, chunk, codes_chunk = Path("flights-full.zarr"), 1, None, 5_000, 100_000
    else:
        output, every, top, chunk, codes_chunk = Path(__file__).with_name("flights.zarr"), 10, 40, 10_000, 10_000
    output = args.output or output
    flights = pd.read_parquet(args.parquet).iloc[::every].iloc[: args.rows]
    group = write(flights, output, top, chunk, codes_chunk, args.codec, args.dense or not args.full)

    stored = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    decoded = sum(array.nbytes for _, array in group.arrays())
    print(f"{output}: {len(flights):,} flights, {decoded / 1e6:.0f} MB; stored {stored / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
