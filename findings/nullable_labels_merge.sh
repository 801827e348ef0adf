#!/usr/bin/env bash
# scikit-learn turns nullable integer and boolean labels into float64: large labels merge into one class.
#
# Guess, before the first run: `classes_` holds the labels as integers or booleans, as it does for int64 and bool.
# Versions: scikit-learn 1.9.1, pandas 3.1.1, pyarrow 26.0.1, numpy 2.4.6, scipy 1.17.1, Python 3.11.
# Seen: for Int64, boolean and Arrow labels without any missing value `classes_` and the predictions are float64: 1.0
# and 0.0 for True and False. float64 holds integers exactly up to 2**53 only, so neighbouring labels above that (cell
# ids of grids on the sphere, hashes) become one class: three classes are fitted as two, and `score` counts the merged
# ones as right. No warning.
# Hurts: whoever reads labels with pandas' nullable or Arrow types (`convert_dtypes`, `read_parquet` with
# `dtype_backend`): predictions written as text match no label, "1.0" for "1", and large ids are wrong.
# Do: `labels.to_numpy(dtype="int64")` (or "bool") before `fit`, and look at `classes_.dtype` after it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    scikit-learn==1.9.1 pandas==3.1.1 pyarrow==26.0.1 numpy==2.4.6 scipy==1.17.1
cat > "$folder/show.py" <<'PY'
import warnings

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

warnings.simplefilter("error")

x = np.linspace(-1, 1, 90).reshape(-1, 1)
thirds = np.repeat([0, 1, 2], 30)
cells = np.array([2**60, 2**60 + 1, 2**60 + 4096])
labels = {
    "true or false": (pd.Series(thirds > 0), ("bool", "boolean", "bool[pyarrow]")),
    "cell ids": (pd.Series(cells[thirds]), ("int64", "Int64", "int64[pyarrow]")),
}

classes = {}
for name, (values, dtypes) in labels.items():
    for dtype in dtypes:
        series = values.astype(dtype)
        model = LogisticRegression(C=1e4, max_iter=1000).fit(x, series)
        predicted = pd.Series(model.predict(x))
        same_text = (predicted.astype(str) == values.astype(str)).mean()
        print(f"{name} as {dtype}: classes_ {model.classes_.tolist()} ({model.classes_.dtype}),")
        print(f"    score {model.score(x, series):.3f}, predictions with the label's text {same_text:.3f}")
        classes[dtype] = model.classes_

assert classes["bool"].dtype == bool
assert classes["int64"].tolist() == cells.tolist()
for dtype in ("boolean", "bool[pyarrow]"):
    assert classes[dtype].dtype == "float64"
    assert classes[dtype].tolist() == [0.0, 1.0]
for dtype in ("Int64", "int64[pyarrow]"):
    assert classes[dtype].dtype == "float64"
    assert len(classes[dtype]) == 2
PY
cd "$folder"
venv/bin/python show.py
