#!/usr/bin/env bash
# distributed: `wait(futures, timeout=...)` that runs into its timeout keeps all that its callers had, and with them their
# futures' results on the workers, until Python's garbage collector comes by; `Future.result(timeout=...)` does not.
#
# Guess, before the first run: the TimeoutError is gone at the end of its except block, as any exception, and so are the
# locals of the function once it has returned: whoever looks at a fit's progress now and then has at most the results of
# the step at hand.
# Versions: distributed 2026.8.0, dask 2026.8.0, Python 3.11.
# Seen: 20 steps, each of which makes an array of 8 MB on a worker, waits for a second task with a timeout that passes
# once, and returns. With `wait` all 20 arrays are on the worker at the end, 160 MB, and the client holds their futures;
# after `gc.collect()` none is. With `result(timeout=...)` in place of it the worker has two at most. The error,
# raised again in the thread that waits, is a local of frames of distributed that its own traceback refers to; the
# traceback ends in the frame that called `wait`, and a finished frame keeps those that called it.
# Hurts: loops that watch a cluster while they wait. The collector runs after so many new objects, and a loop that only
# waits makes few: at some MB a step a worker spills or is paused for results that no variable has.
# Do: set the error's `__traceback__` to None where it is caught (`traceback.clear_frames` is not enough: frames that still
# run are not cleared), or catch it in a coroutine, `client.sync(...)`; both are shown.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check distributed==2026.8.0 dask==2026.8.0 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import gc
import time

import numpy as np
from distributed import Client, wait

STEPS = 20


def by_wait(future):
    try:
        wait([future], timeout=0.05)
    except TimeoutError:
        pass


def without_traceback(future):
    try:
        wait([future], timeout=0.05)
    except TimeoutError as error:
        error.__traceback__ = None


async def quietly(future):
    try:
        await wait([future], timeout=0.05)
    except TimeoutError:
        pass


def in_coroutine(future):
    future.client.sync(quietly, future)


def by_result(future):
    try:
        future.result(timeout=0.05)
    except TimeoutError:
        pass


def step(client, look):
    """Make an array on the worker, and look once at a task that takes longer."""
    array = client.submit(np.ones, 1_000_000, pure=False)
    later = client.submit(time.sleep, 0.15, pure=False)
    look(later)
    wait([array, later])
    return array.status


def on_worker(client):
    """Return how many arrays the worker has."""
    time.sleep(1.0)
    sizes = client.run(lambda dask_worker: [getattr(value, "nbytes", 0) for value in dask_worker.data.values()])
    return sum(size == 8_000_000 for found in sizes.values() for size in found)


def main():
    with Client(n_workers=1, threads_per_worker=2, dashboard_address=None) as client:
        kept = {}
        for look in (by_result, without_traceback, in_coroutine, by_wait):
            gc.collect()
            gc.disable()
            for _ in range(STEPS):
                assert step(client, look) == "finished"
            kept[look.__name__] = on_worker(client)
            gc.collect()
            after = on_worker(client)
            print(f"{look.__name__}: {kept[look.__name__]} arrays on the worker, {after} after gc.collect()", flush=True)
            assert after == 0, after
            gc.enable()
    assert kept.pop("by_wait") == STEPS
    assert max(kept.values()) <= 2, kept


if __name__ == "__main__":
    main()
PY
"$folder/venv/bin/python" "$folder/show.py"
