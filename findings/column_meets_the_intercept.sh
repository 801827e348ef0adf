#!/usr/bin/env bash
# Vowpal Wabbit gives the intercept the weight number 11650396, and numbers of columns are not hashed: column 11650396 of
# 2^24, or 116060 of the default 2^18, has the intercept's weight. Nothing is said.
#
# Guess, before the first run: the two share a weight without a word, and where a column is rare nobody notices.
# Versions: vowpalwabbit 9.11.9, Python 3.11.
# Seen: rows of one number, drawn with an intercept of -5 and a coefficient of 1. As column 11650395 the weights are
# -5.12 and 1.02; as column 11650396 one weight of -0.37 stands for both: predicted log odds fall from -0.7 to -2.2 where
# they rise from -4.1 to 0. The same with and without `--bfgs`, and of 116060 with `-b 18`. The output names neither.
# Names that are not numbers are hashed and meet it by chance only.
# Hurts: whoever writes columns as numbers: LIBSVM files, matrices of SciPy, features that scikit-learn has hashed. A
# dense column of such a number spoils the intercept of all predictions, and a rare one is predicted as the intercept.
# Do: `--noconstant` and a column of ones with a number of its own; or a namespace, `|x 11650396:1`, which moves the
# numbers; or leave the number out.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check vowpalwabbit==9.11.9
cat > "$folder/show.py" <<'PY'
import random
from math import exp

import vowpalwabbit

CONSTANT = 11650396
random.seed(0)
values = [random.gauss(3, 1) for _ in range(5000)]
classes = [1 if random.random() < 1 / (1 + exp(5 - value)) else -1 for value in values]


def fit(column, bits, options, space=""):
    """Return predicted log odds at 1, 3 and 5, and the weights of the column and of the constant."""
    name = f"{column}-{bits}.txt"
    with open(name, "w") as file:
        file.writelines(f"{y} |{space} {column}:{value:.6g}\n" for y, value in zip(classes, values))
    shared = f"-b {bits} --loss_function logistic --holdout_off -d {name} --cache_file {name}.cache -k --passes 20"
    model = vowpalwabbit.Workspace(f"{shared} {options} --quiet")
    found = [model.predict(f"|{space} {column}:{value}") for value in (1, 3, 5)]
    weights = [model.get_weight(number % 2**bits) for number in (column, CONSTANT)]
    model.finish()
    shown = " ".join(f"{z:6.2f}" for z in found)
    print(f"column {column:8d} -b {bits} {options:35s} log odds {shown}  weights {weights}", flush=True)
    return found


for options in ("", "--bfgs --l2 0.001 --termination 0"):
    for bits in (24, 18):
        meets = CONSTANT % 2**bits
        beside = fit(meets - 1, bits, options)
        spoilt = fit(meets, bits, options)
        assert beside[0] < beside[1] < beside[2]
        assert beside[2] - beside[0] > 3
        assert spoilt[0] > spoilt[1] > spoilt[2], spoilt
moved = fit(CONSTANT, 24, "", space="x")
assert moved[2] - moved[0] > 3, moved
PY
cd "$folder"
venv/bin/python show.py
