"""Events: one shape for fits and searches, and one way to follow them."""

import json
import pickle

import numpy as np
import pytest

import dask_gd
from dask_gd.errors import CallbackWarning, DataError
from dask_gd.events import (
    Ended,
    Failed,
    FitEnded,
    FitStarted,
    IterationEnded,
    Listener,
    RoundEnded,
    SearchEnded,
    SearchStarted,
    Started,
    Stepped,
    StopFit,
    event_of,
)

EVENTS = [
    FitStarted("a", "rows", "Squared()", "none", "adam", 10, None, 300, 2400, "runs/a", 1e-6, 8, 1),
    IterationEnded(1, np.float64(0.5), np.float32(0.25), 1.0, 0.5, 150, 1200, 0.1, "a"),
    FitEnded("converged", np.int64(3), np.float64(0.5), "a"),
    SearchStarted("b", "rows", "Squared()", 3, 5, 18, 300, 2400, None, 2),
    RoundEnded(2, 7, 18, 3, 0.1, "b"),
    SearchEnded("b", "{'alpha': 0.1}", 2.5),
    Failed("a", "DataError: nan"),
    Failed("b", "DataError: nan", "search"),
]
KINDS = ["fit", "fit", "fit", "search", "search", "search", "fit", "search"]


def problem():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 8))
    return x, x[:, 0] + rng.normal(size=300)


class Recorder(Listener):
    """A listener that notes what it hears: the method, the kind and the name of the run."""

    def __init__(self):
        self.heard = []

    def started(self, event):
        self.heard.append(("started", event.kind, event.run, event.rows, event.resumed_from))

    def stepped(self, event):
        self.heard.append(("stepped", event.kind, event.run, event.seconds > 0))

    def ended(self, event):
        self.heard.append(("ended", event.kind, event.run, event.outcome))

    def failed(self, event):
        self.heard.append(("failed", event.kind, event.run, event.error))


def test_a_listener_hears_a_fit_and_a_search_by_the_same_methods():
    x, y = problem()
    recorder = Recorder()
    run = dask_gd.fit(x, y, solver="adam", max_iter=3, callbacks=[recorder])
    name = recorder.heard[0][2]
    first, *steps, last = recorder.heard
    assert first == ("started", "fit", name, 300, None)
    assert steps == [("stepped", "fit", name, True)] * 4
    assert last == ("ended", "fit", name, run.reason)

    recorder = Recorder()
    found = dask_gd.search(x, y > 0, loss="logistic", alphas=[0.1, 1.0], folds=3, callbacks=[recorder])
    name = recorder.heard[0][2]
    first, *steps, last = recorder.heard
    assert first == ("started", "search", name, 300, None)
    assert set(steps) == {("stepped", "search", name, True)}
    assert last == ("ended", "search", name, f"best {found.best}")


@pytest.mark.parametrize("kind", ["fit", "search"])
def test_a_listener_hears_which_kind_of_run_has_failed(kind):
    x, y = problem()
    x[7, 3] = np.nan
    recorder = Recorder()
    options = {} if kind == "fit" else {"alphas": [0.1, 1.0]}
    with pytest.raises(DataError):
        getattr(dask_gd, kind)(x, y, callbacks=[recorder], **options)
    started, failed = recorder.heard
    assert started[:3] == ("started", kind, failed[2])
    assert failed[:2] == ("failed", kind)
    assert failed[3].startswith("NonFiniteError: nan in row 7")


def test_a_listener_of_nothing_changes_nothing():
    x, y = problem()
    np.testing.assert_array_equal(dask_gd.fit(x, y, callbacks=[Listener()]).parameters, dask_gd.fit(x, y).parameters)


def test_a_listener_ends_a_fit_as_any_callback_does():
    class Enough(Listener):
        def stepped(self, event):
            if event.iteration == 2:
                raise StopFit("enough")

    run = dask_gd.fit(*problem(), solver="adam", max_iter=9, callbacks=[Enough()])
    assert (run.reason, run.n_iter) == ("enough", 2)


def test_what_a_listener_raises_is_warned_of_once_and_its_start_is_the_fits():
    class Broken(Listener):
        def stepped(self, event):
            raise RuntimeError("mine")

    class BrokenStart(Listener):
        def started(self, event):
            raise RuntimeError("mine")

    with pytest.warns(CallbackWarning, match=r"The callback .*Broken object.* raised RuntimeError: mine") as caught:
        run = dask_gd.fit(*problem(), solver="adam", max_iter=3, callbacks=[Broken()])
    assert len(caught) == 1
    assert run.n_iter == 3
    with pytest.raises(RuntimeError, match="mine"):
        dask_gd.fit(*problem(), callbacks=[BrokenStart()])


@pytest.mark.parametrize(("event", "kind"), list(zip(EVENTS, KINDS, strict=True)))
def test_the_message_of_an_event_is_plain_json_from_which_the_event_comes_back(event, kind):
    message = event.as_message()
    assert (event.kind, message["kind"], message["event"]) == (kind, kind, type(event).__name__)
    sent = json.loads(json.dumps(message))
    assert sent == message
    assert event_of({**sent, "time": 12.0, "client": "c"}) == event
    assert pickle.loads(pickle.dumps(event)) == event


def test_events_keep_their_base_and_their_fields_in_order():
    bases = [Started, Stepped, Ended, Started, Stepped, Ended, Failed, Failed]
    for event, base in zip(EVENTS, bases, strict=True):
        assert isinstance(event, base)
        assert sum(isinstance(event, each) for each in (Started, Stepped, Ended, Failed)) == 1
    # What users' callbacks print: the kind is in the name of the class, or follows from the run.
    assert [repr(event) for event in EVENTS[2:]] == [
        "FitEnded(reason='converged', n_iter=np.int64(3), loss=np.float64(0.5), run='a')",
        "SearchStarted(run='b', data='rows', loss='Squared()', candidates=3, folds=5, fits=18, rows=300, nbytes=2400, "
        "store=None, resumed_from=2, label='')",
        "RoundEnded(passes=2, running=7, fits=18, candidates=3, seconds=0.1, run='b', full_passes=2)",
        "SearchEnded(run='b', best=\"{'alpha': 0.1}\", passes=2.5, full_passes=2.0)",
        "Failed(run='a', error='DataError: nan')",
        "Failed(run='b', error='DataError: nan')",
    ]
    assert str(EVENTS[-1]) == "b failed: DataError: nan"
