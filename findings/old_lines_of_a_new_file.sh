#!/usr/bin/env bash
# `dask.bag.read_text` names its tasks by the path alone: to persist a file again, after it has changed, gives the lines
# that it had before.
#
# Guess, before the first run: a file of another size and time has other keys, as it has for `dask.dataframe`.
# Versions: dask 2026.8.0, distributed 2026.8.0, fsspec 2026.9.0, Python 3.11.
# Seen: without a `blocksize`, which is the default, keys follow from the path, and neither from the file's size nor from
# its time. Where a line such as `lines = read_text(path).persist()` runs again, as a cell of a notebook does, the cluster
# still has the keys, reads nothing, and `lines` are the old ones; so is what is persisted of them, a `count()`. No
# warning. Another client of the scheduler, in another process, gets them too. `compute()` of the same bag gives the new
# lines, since its tasks are fused to others: two answers about one file. With a `blocksize` keys change with the file.
# Hurts: whoever reads a file that grows or is replaced (logs, daily exports) and keeps its lines on a cluster.
# Do: `read_text(path, blocksize="64MB")`, or `del lines` before the file is read again.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    dask==2026.8.0 distributed==2026.8.0 fsspec==2026.9.0
cat > "$folder/show.py" <<'PY'
import os
import subprocess
import sys

import dask.bag as db
from distributed import Client

PATH = "lines.txt"
OLD = ["monday\n"]
NEW = ["tuesday\n", "wednesday\n"]

OTHER_CLIENT = """
import sys
import dask.bag as db
from distributed import Client

with Client(sys.argv[1]):
    print(db.read_text(sys.argv[2]).persist().compute())
"""


def write(lines, seconds):
    with open(PATH, "w") as file:
        file.writelines(lines)
    os.utime(PATH, (seconds, seconds))


def again(blocksize):
    """Persist the lines of a file, change the file and persist it again: lines persisted, counted and computed."""
    write(OLD, 1_000_000)
    lines = db.read_text(PATH, blocksize=blocksize).persist()
    count = db.read_text(PATH, blocksize=blocksize).count().persist()
    assert (lines.compute(), count.compute()) == (OLD, len(OLD))
    write(NEW, 2_000_000)
    lines = db.read_text(PATH, blocksize=blocksize).persist()
    count = db.read_text(PATH, blocksize=blocksize).count().persist()
    return lines.compute(), count.compute(), db.read_text(PATH, blocksize=blocksize).compute()


if __name__ == "__main__":
    with Client(processes=False, n_workers=1, dashboard_address=None):
        persisted, count, computed = again(blocksize=None)
        print(f"by default: persisted again {persisted}, counted {count}, computed {computed}")
        assert (persisted, count, computed) == (OLD, len(OLD), NEW)
        persisted, count, computed = again(blocksize=1_000_000)
        print(f"with a blocksize: persisted again {persisted}, counted {count}, computed {computed}")
        assert (persisted, count, computed) == (NEW, len(NEW), NEW)
    with Client(n_workers=1, threads_per_worker=1, dashboard_address=None) as client:
        write(OLD, 1_000_000)
        lines = db.read_text(PATH).persist()
        assert lines.compute() == OLD
        write(NEW, 2_000_000)
        command = [sys.executable, "-c", OTHER_CLIENT, client.scheduler.address, PATH]
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        print(f"persisted by another client, in another process: {found}")
        assert found == str(OLD)
PY
cd "$folder"
venv/bin/python show.py
