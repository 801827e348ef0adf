#!/usr/bin/env bash
# formulaic's exp10(x) is x to the power of 10, not 10 to the power of x, beside log10, log2, exp2 and exp, which are what
# they are called.
#
# Guess, before the first run: exp10(2) is 100, as exp2(3) is 8.
# Versions: formulaic 1.2.2, pandas 3.1.1, numpy 2.4.6, Python 3.11.
# Seen: exp10(2) is 1024, exp10(-2) is 1024 too, and exp10(log10(x)) is no x: for 3.0 it is 0.0006. Nothing is said, and
# the column is named `exp10(x)`.
# Hurts: whoever has magnitudes, decibels or pH, logarithms to base 10, and puts the amounts into a formula: the model has
# an even power of the logarithm in their place, which rises on both sides of 0, and fits and predictions are of that.
# Do: `{10**x}`, `I(10**x)` or `np.power(10, x)`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check formulaic==1.2.2 pandas==3.1.1 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import numpy as np
import pandas as pd
from formulaic import model_matrix

frame = pd.DataFrame({"x": [-2.0, 0.5, 2.0, 3.0], "amount": [0.5, 2.0, 3.0, 100.0]})
names = ["exp10(x)", "{10**x}", "exp2(x)", "exp10(log10(amount))"]
for name in names:
    print(f"{name:22s}", model_matrix(f"0 + {name}", frame).iloc[:, 0].round(6).tolist())
found = model_matrix("0 + exp10(x)", frame).iloc[:, 0]
assert np.allclose(found, frame.x**10)
assert not np.allclose(found, 10**frame.x)
assert np.allclose(model_matrix("0 + exp2(x)", frame).iloc[:, 0], 2**frame.x)
PY
"$folder/venv/bin/python" "$folder/show.py"
