"""What a loss says of itself decides what serves it, whoever wrote it."""

from dataclasses import dataclass

import numpy as np
import pytest
import xarray as xr
from helpers import EVERY, problem_of

import dask_gd
from dask_gd import Folds, Gamma, Hinge, Huber, Logistic, Poisson, Softmax, Squared, Tweedie
from dask_gd.errors import InvalidArgumentError
from dask_gd.model.losses import LOSSES, is_log_loss, likelihood_of, parameters_of, target_kind_of


def as_of_another(name):
    """An attribute that is another loss's; spelled out in the class, where isinstance looks for it from 3.12 on."""
    return property(lambda loss: getattr(loss.of, name))


@dataclass(frozen=True)
class Own:
    """A loss that a user has written before there were traits: another's arithmetic, under a name of its own."""

    of: object
    name = "own"
    targets = as_of_another("targets")
    quadratic = as_of_another("quadratic")
    smooth = as_of_another("smooth")
    curvature_bound = as_of_another("curvature_bound")
    value_and_slope = as_of_another("value_and_slope")
    curvature = as_of_another("curvature")
    inverse_link = as_of_another("inverse_link")
    link = as_of_another("link")
    bad_target = as_of_another("bad_target")
    check_target_mean = as_of_another("check_target_mean")


class OwnPoisson:
    """Half the deviance of counts, written out by hand."""

    name = "counts"
    targets = "numbers of 0 or more"
    quadratic = False
    smooth = True
    curvature_bound = None
    target_kind = "amount"
    likelihood = "known dispersion"

    def value_and_slope(self, z, y):
        safe = np.where(y > 0, y, 1.0)
        return np.exp(z) - y + y * (np.log(safe) - z), np.exp(z) - y

    def curvature(self, z, y):
        return np.exp(z) + 0.0 * y

    def inverse_link(self, z):
        return np.exp(z)

    def link(self, mean):
        return np.log(mean)

    def bad_target(self, y):
        return y < 0

    def check_target_mean(self, mean):
        pass


class OwnGamma(Own):
    likelihood = "estimated dispersion"


class OwnLogistic(Own):
    target_kind = "two classes"
    likelihood = "known dispersion"


class OwnHinge(Own):
    target_kind = "two classes"


class OwnHuber(Own):
    target_kind = "real"


class OwnSoftmax(Own):
    """A loss of several classes says so by their number, as it always had to."""

    classes = 3


class NamedLogistic(Own):
    name = "logistic"


class OtherWords(Own):
    """Its names are no traits."""

    target_kind = 3.0

    def likelihood(self):
        return 1.0


def same_table(result, expected):
    xr.testing.assert_allclose(result.table, expected.table, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(result.covariance, expected.covariance, rtol=1e-8)
    for name in ("dispersion", "deviance", "pearson"):
        np.testing.assert_allclose(getattr(result, name), getattr(expected, name), rtol=1e-9)


@pytest.mark.parametrize(("own", "known"), [(OwnPoisson(), Poisson()), (OwnGamma(Gamma()), Gamma())])
def test_a_users_likelihood_has_the_standard_errors_of_the_same_loss(own, known):
    x, y = problem_of(known)
    result, expected = (dask_gd.infer(dask_gd.fit(x, y, loss=loss, tol=1e-10), x, y) for loss in (own, known))
    same_table(result, expected)
    assert (result.dispersion == 1) == (likelihood_of(own) == "known dispersion")


@pytest.mark.parametrize("loss", [Own(Poisson()), OtherWords(Poisson()), NamedLogistic(Logistic())])
def test_a_loss_that_does_not_say_that_it_is_a_likelihood_is_refused(loss):
    x, y = problem_of(loss.of)
    run = dask_gd.fit(x, y, loss=loss)
    with pytest.raises(InvalidArgumentError, match=r"tweedie losses; .* is no likelihood, or not served"):
        dask_gd.infer(run, x, y)


def test_several_classes_are_a_likelihood_without_standard_errors():
    x, y = problem_of(Logistic())
    run = dask_gd.fit(x, y, loss="softmax", tol=1e-8)
    with pytest.raises(InvalidArgumentError, match=r"is no likelihood, or not served"):
        dask_gd.infer(run, x, y)


AVERAGES = {f"{name}_{a}" for name in ("f1", "jaccard", "precision", "recall") for a in ("macro", "micro", "weighted")}
OF_CLASSES = {"accuracy", "balanced_accuracy", "matthews_corrcoef", *AVERAGES}
OF_TWO = OF_CLASSES | {"average_precision", "f1", "jaccard", "precision", "recall", "roc_auc"}
OF_LIKELIHOOD = {"neg_log_loss", "neg_brier_score"}
ERRORS = {
    "explained_variance",
    "neg_max_error",
    "neg_mean_absolute_error",
    "neg_mean_absolute_percentage_error",
    "neg_mean_squared_error",
    "neg_root_mean_squared_error",
    "r2",
}
DEVIANCES = {"neg_mean_gamma_deviance", "neg_mean_poisson_deviance"}
SCORES = [
    (Own(Huber()), set()),
    (OtherWords(Huber()), set()),
    (OwnHuber(Huber()), ERRORS),
    (OwnPoisson(), ERRORS | DEVIANCES),
    (OwnHinge(Hinge()), OF_TWO),
    (OwnLogistic(Logistic()), OF_TWO | OF_LIKELIHOOD),
    (NamedLogistic(Logistic()), OF_TWO | OF_LIKELIHOOD),
    (OwnSoftmax(Softmax(3)), OF_CLASSES | OF_LIKELIHOOD),
    (dask_gd.losses.Custom(np.subtract, np.subtract), set()),
    (Squared(), ERRORS),
    (Hinge(), OF_TWO),
    (Logistic(), OF_TWO | OF_LIKELIHOOD),
    (Softmax(3), OF_CLASSES | OF_LIKELIHOOD),
    (Tweedie(1.5), ERRORS | DEVIANCES),
]


@pytest.mark.parametrize(("loss", "suitable"), SCORES, ids=lambda v: type(v).__name__)
def test_the_scores_of_a_loss_follow_from_its_targets(loss, suitable):
    x, y = np.arange(12.0)[:, None], np.arange(12) % 3.0
    with pytest.raises(InvalidArgumentError) as refused:
        dask_gd.search(x, y, loss=loss, alphas=[0.1], folds=2, scoring="none")
    named = str(refused.value).partition("choose one of ")[2].rstrip(".").split(", ")
    assert set(named) == {"neg_loss", *suitable}


@pytest.mark.parametrize("own", [OwnLogistic(Logistic()), NamedLogistic(Logistic())])
@pytest.mark.parametrize("scoring", ["accuracy", "neg_log_loss"])
def test_a_users_loss_of_two_classes_is_searched_like_the_known_one(own, scoring):
    x, y = problem_of(Logistic(), n=300)
    options = {"alphas": [1e-3, 1.0], "folds": Folds(3, by="class"), "scoring": scoring}
    found, expected = (dask_gd.search(x, y, loss=loss, **options) for loss in (own, Logistic()))
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_classes_are_counted_by_a_subclass_of_softmax_too():
    class Mine(Softmax):
        name = "mine"

    x, y = problem_of(Logistic(), n=300)
    run = dask_gd.fit(x, y, loss=Mine())
    assert (type(run.loss), run.loss.classes) == (Mine, 2)
    with pytest.raises(InvalidArgumentError, match="y has 2 columns; the mine loss takes one, with the classes'"):
        dask_gd.fit(x, np.column_stack([y, 1 - y]), loss=Mine())


@pytest.mark.parametrize("loss", [*EVERY, Softmax(3)], ids=repr)
def test_traits_are_no_parameters_of_a_stored_loss(loss):
    assert target_kind_of(loss) is not None
    names = {*parameters_of(loss)}
    assert names == {*vars(loss)}
    assert not names & {"target_kind", "likelihood", "code"}


def test_the_dispersion_of_a_count_and_of_a_class_is_known():
    known = {name for name in LOSSES if likelihood_of(LOSSES[name]()) == "known dispersion"}
    assert known == {"logistic", "poisson", "softmax"}
    assert {name for name in LOSSES if is_log_loss(LOSSES[name]())} == {"logistic", "softmax"}


class Shares(Own):
    """Targets are the classes' shares, (n, k), and the loss says no more of them than how many they are."""

    name = "shares"
    targets = "shares"
    classes = 3

    def indicators(self, y):
        return y


def test_a_loss_of_classes_may_have_indicators_of_its_own():
    """It says no more than the number of classes, and takes a column of targets for each."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 2))
    y = rng.integers(0, 3, 300)
    shares = dask_gd.fit(x, np.eye(3)[y], loss=Shares(Softmax(3)), solver="lbfgs")
    classes = dask_gd.fit(x, y, loss="softmax", solver="lbfgs")
    np.testing.assert_array_equal(shares.weights, classes.weights)


def test_classes_that_cannot_be_counted_are_refused():
    class NoField(Own):
        target_kind = "classes"

    with pytest.raises(InvalidArgumentError, match="give it an attribute `classes`"):
        dask_gd.fit(np.ones((4, 1)), np.arange(4.0), loss=NoField(Squared()))
