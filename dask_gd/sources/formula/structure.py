"""Which factors of a formula are coded with a column less, so that columns are independent: as formulaic decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from .grammar import Expression, Term, formulaic


class Scoped(NamedTuple):
    """A product of factors, some of them coded without their first or reference column, times a number."""

    #: Each with whether it is coded with a column less.
    factors: tuple[tuple[Expression, bool], ...]
    scale: float


def scoped_terms(terms: tuple[Term, ...], has_intercept: bool, spans: Mapping[Expression, bool]) -> list[Scoped]:
    """Return the products that the columns of a design are made of, in their order.

    ``spans`` says of each factor whether its columns add up to a constant. formulaic is asked about a formula of
    columns of two levels, or of numbers, in their place: which coding keeps columns independent depends on that alone.
    """
    module = formulaic()
    import pandas as pd
    from formulaic.parser.types import Factor
    from formulaic.parser.types import Term as TheirTerm

    names = {factor: f"f{number}" for number, factor in enumerate(spans)}
    expressions = {name: factor for factor, name in names.items()}
    columns = {}
    for factor, name in names.items():
        columns[name] = [1.0, 2.0]
        if spans[factor]:
            columns[name] = pd.Categorical(["a", "b"])
    theirs = []
    if has_intercept:
        theirs.append(TheirTerm([Factor("1", eval_method="literal")]))
    for term in terms:
        theirs.append(TheirTerm([Factor(names[factor], eval_method="lookup") for factor in term.factors]))
    # The order is that of the terms, which formulaic has given them when it parsed the formula.
    formula = module.Formula(theirs, _ordering="none")
    spec = module.model_matrix(formula, pd.DataFrame(columns, index=[0, 1]), output="pandas").model_spec
    scales = [1.0] * has_intercept + [term.scale for term in terms]
    found = []
    for structure, scale in zip(spec.structure, scales, strict=True):
        for scoped in structure.scoped_terms:
            factors = tuple((expressions[each.factor.expr], bool(each.reduced)) for each in scoped.factors)
            # The intercept is none of the columns.
            if factors:
                found.append(Scoped(factors, scale))
    return found
