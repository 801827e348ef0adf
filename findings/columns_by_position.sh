#!/usr/bin/env bash
# glum predicts from a DataFrame's columns by position: the same columns in another order, or under other names, give
# other predictions without a word, although the model has learnt the names and looks categories up by theirs.
#
# Guess, before the first run: columns are found by name, or refused as scikit-learn refuses them ("The feature names
# should match those that were passed during fit").
# Versions: glum 3.4.1, pandas 2.3.3, scikit-learn 1.8.0, Python 3.11.
# Seen: fitted to age, income, region, a `GeneralizedLinearRegressor` (and one of cross-validation) given income, age,
# region multiplies the income with age's coefficient: of the right means 0.000 to 0.106 come out, and of region, age,
# income 1.000 to 7.507. No warning, and renamed columns pass too.
# A level that is new is refused by name, so that some names are looked at. With `formula=` columns are found by name.
# Hurts: whoever reads the rows to score from another query, file or Parquet schema than those of the fit.
# Do: `model.predict(frame[columns_of_the_fit])`, or fit with a formula; compare `feature_names_` before.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check glum==3.4.1 pandas==2.3.3 scikit-learn==1.8.0
cat > "$folder/show.py" <<'PY'
import warnings

import numpy as np
import pandas as pd
from glum import GeneralizedLinearRegressor, GeneralizedLinearRegressorCV
from sklearn.linear_model import PoissonRegressor

warnings.simplefilter("error")
rng = np.random.default_rng(0)
n = 2000
frame = pd.DataFrame(
    {
        "age": rng.normal(50, 10, n),
        "income": rng.normal(3, 1, n),
        "region": pd.Categorical(rng.choice(["north", "south", "west"], n)),
    }
)
y = rng.poisson(np.exp(0.02 * frame["age"] - 0.3 * frame["income"]))
others = {
    "income, age, region": frame[["income", "age", "region"]],
    "region, age, income": frame[["region", "age", "income"]],
    "renamed": frame.rename(columns={"age": "weight"}),
}
models = {
    "glum": GeneralizedLinearRegressor(family="poisson", alpha=1e-6, drop_first=True),
    "glum, cross-validated": GeneralizedLinearRegressorCV(family="poisson", cv=3, drop_first=True),
}
largest = {}
for name, model in models.items():
    model.fit(frame, y)
    expected = model.predict(frame)
    for change, other in others.items():
        found = model.predict(other)
        ratio = found / expected
        largest[name, change] = np.abs(found - expected).max()
        print(f"{name:22s} {change:20s} found/expected {ratio.min():.3f} to {ratio.max():.3f}")
        assert np.isfinite(found).all()
    assert list(model.feature_names_)[:2] == ["age", "income"]
    # A level is looked up by its name.
    unseen = frame.head(2).assign(region=pd.Categorical(["north", "east"]))
    try:
        model.predict(unseen)
        raise AssertionError("a new level passes")
    except ValueError as error:
        print(f"{name:22s} a new level: {error}")
for (name, change), difference in largest.items():
    assert (difference > 1) == (change != "renamed"), (name, change, difference)
    assert change != "renamed" or difference == 0

formula = GeneralizedLinearRegressor(family="poisson", alpha=1e-6, formula="age + income + region").fit(frame, y)
by_formula = np.abs(formula.predict(others["income, age, region"]) - formula.predict(frame)).max()
print(f"with a formula, in another order: differs by {by_formula}")
assert by_formula == 0

numbers = frame[["age", "income"]]
peer = PoissonRegressor().fit(numbers, y)
try:
    peer.predict(numbers[["income", "age"]])
    raise AssertionError("scikit-learn passes another order")
except ValueError as error:
    print("scikit-learn refuses:", str(error).splitlines()[0])
PY
cd "$folder"
venv/bin/python show.py
