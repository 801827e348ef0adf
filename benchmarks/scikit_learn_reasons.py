"""Rules that say why a test of scikit-learn does not pass with an estimator of ours.

A rule has patterns of the test's name and of its error; the first that fits both is the reason. What no rule knows is
"not looked at".
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Rule(NamedTuple):
    """A reason, and the tests and errors that it explains."""

    reason: str
    error: str = ""
    test: str = ""


PRIVATE = "tests what is private to scikit-learn's solvers: their functions, their attributes, their numbers of steps"
REFUSED = "refused clearly: not served here"
SERVED = "served here, where scikit-learn refuses or warns"
WORDS = "refused or warned of, in other words"
ANOTHER = "another of many solutions that are as good: no penalty, or next to none, on collinear columns"
DESCENT = "stochastic descent takes other steps: of all rows of a partition, and in another order"
SLOW = "takes longer than the limit"
INTERCEPT = "the intercept of a support vector machine is not penalised"
ROUNDED = "the corner of a loss is rounded: within 0.05 % of the minimum, not at a vertex"
ROUTING = "routes metadata, or a scorer, through a search of ours"
CALLBACKS = "counts calls of callbacks as scikit-learn's own solver makes them"
FOLDS = "folds are shared out by a hash of the row's number, and held-out rows are scored with their weights"
ROUNDING = "differs by rounding: in the last digit, or of rows in float32, which stay so"

RULES = (
    Rule(SLOW, error=r"Timeout"),
    Rule(CALLBACKS, test=r"callback"),
    Rule(PRIVATE, error=r"_average_coef|has no attribute '_|loss_functions|_log_reg_scoring_path|reconstruct"),
    Rule(
        PRIVATE,
        test=r"warm_start_convergence|does_not_set_precompute|test_n_iter|huber_max_iter|check_input|gram_matrix"
        r"|precompute|copy_X|set_order|lbfgs_solver_error|linalg_warning|newton_cholesky_fallback|dual_random_state"
        r"|inplace_data|nonfinite_params|large_sparse_matrix",
    ),
    Rule(PRIVATE, test=r"dtype_match\[.*liblinear"),
    Rule(ROUTING, error=r"unexpected keyword argument|scoring=|scor", test=r"CV|cv|scor|routing|ridgecv|dense_sparse"),
    Rule(REFUSED, error=r"is not served|is not known; choose|: 0, or from 1 to 2|served with the|test sets must be"),
    Rule(REFUSED, error=r"have the weight 0|must be > 0|nothing to tell apart"),
    Rule(WORDS, error=r"Regex"),
    Rule(SERVED, error=r"DID NOT"),
    Rule(
        FOLDS,
        test=r"test_lasso_cv|enet_path|1d_multioutput|scores_attribute_layout|cv_iris|CV_on_folds|ridgecv_sample_weight",
    ),
    Rule(ANOTHER, test=r"regularization_limits|unpenalized"),
    Rule(ROUNDING, test=r"float32|dual_gap|uniform_targets"),
    Rule(INTERCEPT, test=r"intercept_handling|l1_min_c|liblinear_decision_function_zero"),
    Rule(ROUNDED, test=r"test_quantile::"),
    Rule(DESCENT, test=r"test_sgd::|versus_sgd|_and_sgd"),
)


def reason_of(outcome: dict) -> str:
    """Return the reason of an outcome."""
    for rule in RULES:
        if re.search(rule.error, outcome["error"]) and re.search(rule.test, outcome["test"]):
            return rule.reason
    return "not looked at"
