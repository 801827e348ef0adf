"""How long do dask_gd and its peers take to the same objective, on the same data?

    python benchmarks/run.py --quick
    python benchmarks/run.py --directory scratch --output result.json --picture result.png
    python benchmarks/run.py --directory scratch --flights flights-full.zarr --cases flights
    python benchmarks/run.py --directory scratch --flights flights-full.zarr --cases flights-logistic flights-squared

Every contestant of peers.py in every case, each fit in a process of its own, taken in turns, in medians of --repeat,
with the files in the page cache.
All minimise the mean loss with an intercept (and for the lasso a penalty) to a relative suboptimality of 1e-8 against
an optimum found by Newton steps in NumPy (float64, also for float32 data; that of the lasso by scikit-learn).
To be fair to everyone, a search that is not measured first finds each one's loosest tolerance that gets there (with
--repeat 1 its best fit is the measurement). Who never gets there, as SGD, is shown with what it reached and is not
compared; nor is who takes longer than --limit, runs out of memory, or is not installed. peers.py says what is timed and
how each peer is run.

Cases:

logistic  1,000,000 x 100 float64, 20 chunks of 40 MB, 2 workers of 1 GB
flights   late, of the store made by `python data/make_flights.py flights-3m.parquet --full`: 3,000,000 rows of a number
          and the codes of four categories, with an L2 penalty of 1e-5; peers in memory have categories or sparse rows
flights-logistic, flights-squared
          late and delay, of the dense rows that --dense adds to that store: 3,000,000 x 485 float32, more than the
          workers' 2 GB
rows      62,500 to 1,000,000 rows x 100: does the time grow more than the data?
workers   dask_gd on logistic's data with 1 and with 2 workers
lasso     the squared loss on logistic's features, with a penalty of 0.05 times the coefficients' absolute values
softmax   10 classes on logistic's features
chunks    overhead.py: what many small chunks cost

The data, the optima and what each tolerance reaches are kept in --directory, if given, and used again. Peers that need
other versions of packages run with another interpreter: --python "Spark MLlib=PATH". Needs the extra `bench`, and Java
for Spark; whatever is missing is reported as such. --quick takes small data, fewer peers and every third tolerance, to
see that all of it works: its times say nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median

import numpy as np
import overhead
import zarr
from coded import Flights, copy_rows
from common import arguments, finish, make_classes, make_problem, scratch, table
from peers import DENSE, LADDERS, NOT_OF_CODES, PEERS, Problem, family, write_parquet

SUBOPTIMALITY, AUTO = 1e-8, "dask_gd auto"
#: At least this many times dask_gd auto's seconds, in the case logistic; the fastest of those whose name starts so.
TARGETS = {"dask-glm": 7.0, "Spark MLlib, second fit": 8.0, "scikit-learn lbfgs": 1.0}
#: And in the case flights, of all in memory.
FLIGHTS_TARGETS = {"glum": 3.0, "scikit-learn newton-cg": 10.0}
PASSES = {"dask_gd newton": 3.0, "dask_gd lbfgs": 10.0}
SLOPE, TOO_LONG, LASSO, RIDGE = 1.0, "more than", 0.05, 1e-5
SMALL_FLIGHTS = Path(__file__).parents[1] / "data" / "flights.zarr"
QUICK_ROWS = 40_000
HEADER = (
    "case",
    "fit",
    "setting",
    "passes, steps",
    "suboptimality",
    "load s",
    "fit s",
    "total s",
    "times auto",
    "note",
)
FLIGHTS = {"flights-logistic": ("logistic", "late"), "flights-squared": ("squared", "delay")}
CASES = ("logistic", "lasso", "softmax", "flights", *FLIGHTS, "rows", "workers", "chunks")
IN_WORKERS = ("dask-glm newton, persisted", "dask-glm lbfgs, persisted")
GROWTH = (AUTO, "scikit-learn lbfgs")
QUICK = (
    AUTO,
    "dask_gd lbfgs",
    "dask-glm newton",
    "dask-ml",
    "scikit-learn lbfgs",
    "scikit-learn newton-cg",
    "scikit-learn Ridge",
    "scikit-learn Lasso",
    "glum",
    "Spark",
)
SIZES = {
    "full": {"rows": 1_000_000, "features": 100, "chunk": 50_000, "base": 62_500, "growth": (1, 2, 4, 8, 16)},
    "quick": {"rows": 20_000, "features": 20, "chunk": 1_000, "base": 2_500, "growth": (1, 8)},
}


@dataclass
class Entry:
    """A contestant in a case, and its runs."""

    case: str
    peer: str
    problem: Problem
    runs: list[dict] = field(default_factory=list)
    error: str = ""

    @property
    def comparable(self) -> bool:
        return bool(self.runs) and all(run["reached"] <= SUBOPTIMALITY for run in self.runs)


class Bench:
    """Runs contestants in processes of their own and remembers what is slow to find out."""

    def __init__(self, directory: Path, limit: float, repeat: int, pythons: dict[str, str], rungs: slice):
        self.directory, self.limit, self.repeat, self.pythons, self.rungs = directory, limit, repeat, pythons, rungs
        self.file = directory / "found.json"
        self.found: dict = json.loads(self.file.read_text()) if self.file.exists() else {}
        self.reached: dict[tuple, float] = {}
        self.objectives: dict[str, Callable] = {}

    def write(self) -> None:
        self.file.write_text(json.dumps(self.found, indent=2) + "\n")

    def suboptimality(self, problem: Problem, parameters: np.ndarray) -> float:
        key = f"optimum {problem.key}"
        if key not in self.found:
            self.found[key] = problem.optimum()
            self.write()
        fit = (key, parameters.tobytes())  # most give the same bits in each run
        if fit not in self.reached:
            if key not in self.objectives:
                self.objectives = {key: problem.objective()}
            value = self.objectives[key](parameters.astype(float))
            self.reached[fit] = value / self.found[key] - 1
        return self.reached[fit]

    def fit(self, entry: Entry, options: dict) -> dict:
        """One run: seconds to load and to fit and what was reached, or {"error": why not}."""
        problem = replace(entry.problem, options=options)
        if entry.peer.startswith("Spark"):
            write_parquet(problem)
        warm(Path(problem.parquet if entry.peer.startswith("Spark") else problem.store))
        given, output, log = (self.directory / name for name in ("problem.json", "result.npz", "log.txt"))
        given.write_text(json.dumps(asdict(problem)))
        output.unlink(missing_ok=True)
        python = next((path for peer, path in self.pythons.items() if entry.peer.startswith(peer)), sys.executable)
        command = [python, str(Path(__file__).with_name("peers.py")), entry.peer, str(given), str(output)]
        code = self.run(command, log)
        if code is None:
            run: dict = {"error": f"{TOO_LONG} {self.limit:.0f} s"}
        elif not output.exists():
            last = (log.read_text(errors="replace").strip() or "no message").splitlines()[-1]
            run = {"error": "out of memory: killed" if code == -signal.SIGKILL else f"exit status {code}: {last}"}
        else:
            with np.load(output) as result:
                run, parameters = json.loads(str(result["result"])), result["parameters"]
            if "error" not in run:
                run |= {"options": options, "total": run["load"] + run["fit"]}
                run["reached"] = self.suboptimality(problem, parameters)
        shown = run.get("error") or f"{run['total']:.2f} s, {run['reached']:.1e}"
        print(f"{entry.case}, {entry.peer}, {setting(options)}: {shown}", flush=True)
        return run

    def run(self, command: list[str], log: Path) -> int | None:
        """The exit status, or None after the limit. Nothing that the command started is left."""
        temporary = self.directory / "temporary"
        temporary.mkdir(exist_ok=True)
        places = {name: str(temporary) for name in ("TMPDIR", "DASK_TEMPORARY_DIRECTORY", "SPARK_LOCAL_DIRS")}
        with log.open("w") as out:
            process = subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | places, start_new_session=True)
            try:
                return process.wait(self.limit)
            except subprocess.TimeoutExpired:
                return None
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                shutil.rmtree(temporary, ignore_errors=True)

    def tune(self, entry: Entry) -> dict | None:
        """The loosest options of the entry's ladder that reach the suboptimality, or the tightest; None if all fail."""
        dtype = str(entry.problem.stored_dtype)
        ladder = [r for r in LADDERS[family(entry.peer)][entry.problem.kind] if r.get("dtype") != dtype]
        best: dict | None = None
        for wider in (None, "float64"):
            rungs = [options for options in ladder if options.get("dtype") == wider]
            best = self.search(entry, rungs[self.rungs] or rungs[-1:]) or best
            if best is None and entry.error.startswith(TOO_LONG):
                break  # float64 is no faster
            if best is not None and self.trials(entry)[setting(best)]["reached"] <= SUBOPTIMALITY:
                break
        if best is not None:
            entry.error = ""
            entry.runs = [run for run in entry.runs if run["options"] == best and self.repeat == 1]
        return best

    def trials(self, entry: Entry) -> dict[str, dict]:
        """By rung: what a search, this one or one before it with the same --directory, found that it reaches."""
        return self.found.setdefault(f"trials {family(entry.peer)} {entry.problem.key}", {})

    def search(self, entry: Entry, rungs: list[dict]) -> dict | None:
        """By bisection the loosest rung that reaches the suboptimality, else the tightest that ran."""
        first, last, best, reached = 0, len(rungs) - 1, None, False
        while first <= last:
            middle = (first + last) // 2
            trial = self.trial(entry, rungs[middle])
            if "error" in trial:
                entry.error, last = trial["error"], middle - 1  # tighter will not be better
                continue
            reaches = trial["reached"] <= SUBOPTIMALITY
            if reaches or not reached:
                best, reached = rungs[middle], reaches
            first, last = (first, middle - 1) if reaches else (middle + 1, last)
        return best

    def trial(self, entry: Entry, options: dict) -> dict:
        """What a rung reaches, or why it does not; a run made now to find out is kept in the entry."""
        trials, rung = self.trials(entry), setting(options)
        known = trials.get(rung)
        if known is None or known.get("limit", self.limit) < self.limit:
            known = self.fit(entry, options)
            if "error" not in known:
                entry.runs.append(known)
                trials[rung] = {"reached": known["reached"]}
            elif known["error"].startswith(TOO_LONG):
                trials[rung] = {"error": known["error"], "limit": self.limit}
            self.write()
        return known

    def compare(self, entries: list[Entry]) -> list[Entry]:
        """Tune every entry, then run them in turns."""
        tuned = [(entry, self.tune(entry)) for entry in entries]
        for _ in range(self.repeat):
            for entry, options in tuned:
                done = len(entry.runs) >= self.repeat or (entry.runs and not entry.comparable)
                if options is None or entry.error or done:
                    continue
                run = self.fit(entry, options)
                if "error" in run:
                    entry.error = run["error"]
                else:
                    entry.runs.append(run)
        return entries


def warm(directory: Path) -> None:
    """Read all files into the page cache, from which the fit before may have driven them."""
    for path in directory.rglob("*"):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while file.read(1 << 24):
                    pass


def setting(options: dict) -> str:
    return " ".join(f"{name}={value}" for name, value in options.items())


def entries(case: str, problem: Problem, peers: Iterable[str]) -> list[Entry]:
    return [Entry(case, peer, problem) for peer in peers if problem.kind in LADDERS[family(peer)]]


def seconds(entry: Entry) -> dict[str, list[float]]:
    """The total seconds of an entry's runs by the name of its row: Spark has a row for the second fit too."""
    again = [run["again"] for run in entry.runs if "again" in run]
    if not again:
        return {entry.peer: [run["total"] for run in entry.runs]}
    name, _, rest = entry.peer.partition(", ")
    end = f", {rest}" if rest else ""
    return {f"{name}, first fit{end}": [run["total"] for run in entry.runs], f"{name}, second fit{end}": again}


def ratios(compared: list[Entry]) -> dict[str, dict[str, float]]:
    """For each case and row, the median over the repeats of its seconds over dask_gd auto's."""
    autos = {entry.case: [run["total"] for run in entry.runs] for entry in compared if entry.peer == AUTO}
    found: dict[str, dict[str, float]] = {}
    for entry in compared:
        for name, times in seconds(entry).items():
            pairs = list(zip(times, autos.get(entry.case, ()), strict=False))
            if entry.comparable and pairs:
                found.setdefault(entry.case, {})[name] = median(own / auto for own, auto in pairs)
    return found


def rows(compared: list[Entry]) -> list[tuple]:
    """The table, see HEADER."""
    result, times_auto = [], ratios(compared)
    for entry in compared:
        if not entry.runs:
            result.append((entry.case, entry.peer, *[""] * 7, entry.error))
            continue
        run = entry.runs[-1]
        notes = [] if entry.comparable else ["not comparable: does not get to 1e-8"]
        note = "; ".join(notes + [entry.error] * bool(entry.error))
        steps = next((run[name] for name in ("passes", "steps") if run.get(name) is not None), "")
        for name, totals in seconds(entry).items():
            load = median(run["load"] for run in entry.runs) if "second fit" not in name else 0.0
            total = median(totals)
            ratio = times_auto.get(entry.case, {}).get(name, "")
            shown = (setting(run["options"]), steps, run["reached"], load, total - load, total, ratio, note)
            result.append((entry.case, name, *shown))
    return result


def growth(compared: list[Entry]) -> dict[str, dict]:
    """By peer: rows and median seconds, and the slope of log seconds over log rows, of all and of the last two."""
    found = {}
    for peer in GROWTH:
        points = [
            (entry.problem.rows, median(run["total"] for run in entry.runs))
            for entry in compared
            if entry.peer == peer and entry.comparable
        ]
        if len(points) > 1:
            x, t = np.log(points).T
            slopes = {"slope": np.polyfit(x, t, 1)[0], "slope of the last two": (t[-1] - t[-2]) / (x[-1] - x[-2])}
            found[peer] = {"points": points} | {name: float(slope) for name, slope in slopes.items()}
    return found


def speedups(compared: list[Entry]) -> dict[str, float]:
    """By peer: the seconds of one worker over those of two, the median of pairs."""
    return {
        one.peer: median(a["total"] / b["total"] for a, b in zip(one.runs, two.runs, strict=False))
        for one, two in ((a, b) for a in compared for b in compared if a.peer == b.peer)
        if (one.problem.workers, two.problem.workers) == (1, 2) and one.runs and two.runs
    }


def peer_verdicts(compared: list[Entry], case: str, targets: dict[str, float]) -> dict[str, bool]:
    """The targets of a case; peers that did not take part have none."""
    found, verdicts = ratios(compared).get(case, {}), {}
    for peer, target in targets.items():
        of_peer = [ratio for name, ratio in found.items() if name.startswith(peer)]
        if of_peer:
            text = f"{case}: the fastest {peer} takes {min(of_peer):.2f} times as long, target >= {target:g}"
            verdicts[text] = min(of_peer) >= target
    return verdicts


def logistic_verdicts(compared: list[Entry]) -> dict[str, bool]:
    """The targets of the case logistic, in time and in passes."""
    verdicts = peer_verdicts(compared, "logistic", TARGETS)
    for entry in compared:
        if entry.peer in PASSES and entry.runs:
            full, passes = (max(run[name] for run in entry.runs) for name in ("full", "passes"))
            text = f"logistic: {entry.peer} takes {full} full passes ({passes:g} with those over samples), "
            verdicts[f"{text}target <= {PASSES[entry.peer]:g}"] = full <= PASSES[entry.peer]
    return verdicts


def draw(compared: list[Entry], grown: dict[str, dict], path: Path) -> None:
    """Bars of the times of dask_gd auto for each case, and the growth curves."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    cases = {case: bars for case, bars in ratios(compared).items() if len(bars) > 1}
    heights = [len(bars) + 1 for bars in cases.values()] + ([8] if grown else [])
    if not heights:
        return
    figure, axes = plt.subplots(
        len(heights), figsize=(9, 0.35 * sum(heights) + 1), height_ratios=heights, squeeze=False, layout="constrained"
    )
    for axis, (case, bars) in zip(axes[:, 0], cases.items(), strict=False):
        names = sorted(bars, key=bars.__getitem__, reverse=True)
        colours = ["tab:blue" if name.startswith("dask_gd") else "tab:gray" for name in names]
        drawn = axis.barh(names, [bars[name] for name in names], color=colours)
        axis.bar_label(drawn, fmt="%.2g", padding=3)
        axis.set(title=case, xlabel="seconds over those of dask_gd auto", xscale="log", xlim=(0.1, None))
        axis.axvline(1, color="black", linewidth=0.8)
    if grown:
        axis = axes[-1, 0]
        for peer, curve in grown.items():
            axis.loglog(*zip(*curve["points"], strict=True), marker="o", label=f"{peer}, slope {curve['slope']:.2f}")
        axis.set(title="growth", xlabel="rows", ylabel="seconds")
        axis.legend()
    figure.savefig(path, dpi=120)


class Cases:
    """The cases, each with the problems that it is made of."""

    def __init__(self, bench: Bench, size: dict, peers: list[str], flights: Path | None, rows: int | None):
        self.bench, self.size, self.flights, self.flights_rows = bench, size, flights, rows
        self.every_peer = peers
        self.peers = [peer for peer in peers if peer not in DENSE]

    def problem(self, store: Path, x: str, y: str, loss: str, **machine) -> Problem:
        tiny = make_problem(self.bench.directory, 2_000, zarr.open_group(store, mode="r")[x].shape[1], 500)
        if loss == "softmax":
            make_classes(tiny)
        parquet = self.bench.directory / f"{store.stem}-{y}.parquet"
        return Problem(str(store.resolve()), x, y, loss, str(tiny), str(parquet), **machine)

    def synthetic(self, n: int, chunk: int, **machine) -> Problem:
        store = make_problem(self.bench.directory, n, self.size["features"], chunk)
        return self.problem(store, "x", "y", "logistic", **machine)

    def of(self, peers: Iterable[str]) -> list[str]:
        return [peer for peer in peers if peer in self.peers]

    def logistic(self) -> list[Entry]:
        problem = self.synthetic(self.size["rows"], self.size["chunk"])
        return self.bench.compare(entries("logistic", problem, self.peers))

    def lasso(self) -> list[Entry]:
        store = make_problem(self.bench.directory, self.size["rows"], self.size["features"], self.size["chunk"])
        problem = self.problem(store, "x", "z", "squared", alpha=LASSO)
        return self.bench.compare(entries("lasso", problem, self.peers))

    def softmax(self) -> list[Entry]:
        store = make_problem(self.bench.directory, self.size["rows"], self.size["features"], self.size["chunk"])
        make_classes(store)
        problem = self.problem(store, "x", "c", "softmax")
        return self.bench.compare(entries("softmax", problem, self.peers))

    def codes(self) -> list[Entry]:
        if self.flights is None:
            print("flights: left out, without --flights PATH; data/README.md says how to make the store.")
            return []
        store = self.flights
        peers = [peer for peer in self.every_peer if peer not in NOT_OF_CODES]
        if self.flights_rows is not None:
            store = copy_rows(store, self.bench.directory / f"flights-{self.flights_rows}.zarr", self.flights_rows)
        # In the small store the dense rows have other features.
        if not Flights(store, "late").has_dense_rows:
            peers = [peer for peer in peers if peer not in DENSE]
        tiny = copy_rows(self.flights, self.bench.directory / "flights-tiny.zarr", 2_000)
        problem = Problem(
            store=str(store.resolve()),
            x="X",
            y="late",
            loss="logistic",
            tiny=str(tiny),
            parquet=str(self.bench.directory / f"{store.stem}-codes.parquet"),
            alpha=RIDGE,
            coded=True,
        )
        return self.bench.compare(entries("flights", problem, peers))

    def with_flights(self, case: str) -> list[Entry]:
        if self.flights is None or "X" not in zarr.open_group(self.flights, mode="r"):
            print(f"{case}: left out, without --flights PATH of dense rows; data/README.md says how to make the store.")
            return []
        loss, target = FLIGHTS[case]
        problem = self.problem(self.flights, "X", target, loss)
        peers = [peer for peer in self.peers if peer not in IN_WORKERS]  # the workers' memory is too small
        return self.bench.compare(entries(case, problem, peers))

    def rows(self) -> list[Entry]:
        sizes = [self.size["base"] * factor for factor in self.size["growth"]]
        chunk = self.size["base"] // 5
        return self.bench.compare(
            [e for n in sizes for e in entries(f"{n:,} rows", self.synthetic(n, chunk), self.of(GROWTH))]
        )

    def workers(self) -> list[Entry]:
        return self.bench.compare(
            [
                entry
                for workers in (1, 2)
                for entry in entries(
                    f"{workers} worker{'s' * (workers > 1)}",
                    self.synthetic(self.size["rows"], self.size["chunk"], workers=workers),
                    self.of((AUTO, "dask_gd lbfgs")),
                )
            ]
        )


def runs_of(compared: list[Entry]) -> list[dict]:
    return [{"case": e.case, "fit": e.peer, "error": e.error, "runs": e.runs} for e in compared]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--quick", action="store_true", help="small data and fewer peers: under 3 minutes")
    parser.add_argument("--flights", type=Path, help="the full flights store; without it its cases are left out")
    parser.add_argument("--rows", type=int, help="of the case flights only so many rows; --quick takes some of data/")
    parser.add_argument("--cases", nargs="+", default=[], choices=CASES)
    parser.add_argument("--only", nargs="+", default=[], help="peers whose name holds one of these, and dask_gd auto")
    parser.add_argument("--without", nargs="+", default=[], help="not those whose name holds one of these")
    parser.add_argument("--repeat", type=int, help="default 3, --quick 1")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds allowed to a process; default %(default)s")
    parser.add_argument("--python", nargs="+", default=[], metavar="PEER=PATH", help="another interpreter for a peer")
    parser.add_argument("--picture", type=Path, help="draw the comparison here; needs matplotlib")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # and with it what runs now
    repeat = args.repeat or (1 if args.quick else 3)
    only = [*(args.only or PEERS), AUTO]
    peers = [p for p in PEERS if any(part in p for part in only) and not any(part in p for part in args.without)]
    if args.quick:
        peers = [peer for peer in peers if peer.startswith(QUICK) and ", persisted" not in peer]
    chosen = args.cases or CASES
    with scratch(args.directory) as directory:
        pythons = dict(pair.split("=", 1) for pair in args.python)
        rungs = slice(2, None, 3) if args.quick else slice(None)
        bench = Bench(directory.resolve(), args.limit, repeat, pythons, rungs)
        flights = args.flights
        flights_rows = args.rows
        if args.quick:
            flights = flights or SMALL_FLIGHTS
            flights_rows = flights_rows or QUICK_ROWS
        cases = Cases(bench, SIZES["quick" if args.quick else "full"], peers, flights, flights_rows)
        of_rows: list[Entry] = []
        compared: list[Entry] = []
        verdicts: dict[str, bool] = {}

        def save() -> None:
            """So that an interruption loses the case it interrupts, and no other."""
            if args.output is not None:
                args.output.write_text(json.dumps(runs_of([*compared, *of_rows]), indent=2) + "\n")

        if "logistic" in chosen:
            compared += cases.logistic()
            verdicts |= {} if args.quick else logistic_verdicts(compared)
            save()
        if "lasso" in chosen:
            compared += cases.lasso()
            save()
        if "softmax" in chosen:
            compared += cases.softmax()
            save()
        if "flights" in chosen:
            compared += cases.codes()
            verdicts |= {} if args.quick else peer_verdicts(compared, "flights", FLIGHTS_TARGETS)
            save()
        for case in FLIGHTS:
            if case in chosen and not (args.quick and args.flights is None):
                compared += cases.with_flights(case)
                save()
        if "rows" in chosen:
            of_rows = cases.rows()
            save()
        of_workers = cases.workers() if "workers" in chosen else []
        grown, faster = growth(of_rows), speedups(of_workers)
        chunks: list[tuple] = []
        if "chunks" in chosen:
            chunks, verdict = overhead.measure(directory, max(3, repeat))
            verdicts |= verdict
            print(f"\n{overhead.TITLE}\n\n{table(overhead.HEADER, chunks)}")
    every = [*compared, *of_rows, *of_workers]
    print()
    for peer, curve in grown.items():
        print(
            f"{peer}: seconds grow as rows to the {curve['slope']:.2f}, {curve['slope of the last two']:.2f} at the end"
        )
    for peer, factor in faster.items():
        print(f"{peer}: 2 workers are {factor:.2f} times as fast as 1")
    if AUTO in grown and not args.quick:
        verdicts[f"slope {grown[AUTO]['slope']:.2f}, target <= {SLOPE:g}"] = grown[AUTO]["slope"] <= SLOPE
    for entry in every:
        if entry.peer.startswith("dask_gd"):
            verdicts[f"{entry.case}: {entry.peer} reaches {SUBOPTIMALITY:.0e}"] = entry.comparable
    if args.picture:
        draw(compared, grown, args.picture)
    details = {
        "runs": runs_of(every),
        "growth": grown,
        "speed-up of 2 workers": faster,
        "chunks": [dict(zip(overhead.HEADER, row, strict=True)) for row in chunks],
    }
    finish("dask_gd and its peers", HEADER, rows(every), verdicts, args.output, details)


if __name__ == "__main__":
    main()
