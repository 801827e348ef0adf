"""Sources with the levels that a fit has decided on: which of them have a feature, and which are references."""

from __future__ import annotations

from dataclasses import replace

from .column import Column
from .encoding import Encoding
from .frame_column import FrameColumn, encoding_in_fit
from .side_by_side_column import SideBySideColumn
from .source import Source
from .table_column import TableColumn


def in_fit(source: Source, is_penalised: bool, fit_intercept: bool) -> Source:
    """Return a source whose factors have a reference level where their coefficients would not be determined."""
    x = source.x
    if isinstance(x, SideBySideColumn):
        if is_penalised or not x.drops:
            return source
        return with_features(source, x.with_reference_levels(fit_intercept))
    return with_encoding(source, encoding_in_fit(source.x, is_penalised, fit_intercept))


def with_features(source: Source, x: SideBySideColumn) -> Source:
    """Return a source of other features in the place of its own."""
    return replace(source, by_role={**source.by_role, "x": x}, feature_names=x.feature_names)


def with_features_of(source: Source, names: tuple[str, ...] | None) -> Source:
    """Return a source of sparse rows among codes with the features of a fit, which has decided on reference levels."""
    x = source.x
    if not isinstance(x, SideBySideColumn) or not x.drops:
        return source
    if x.feature_names == names:
        return with_all_levels(source)
    for fit_intercept in (True, False):
        with_references = x.with_reference_levels(fit_intercept)
        if with_references.feature_names == names:
            return with_features(source, with_references)
    return source


def with_all_levels(source: Source) -> Source:
    """Return a source whose factors have a feature for each level in all fits, those without a penalty too."""
    x = source.x
    if isinstance(x, SideBySideColumn):
        return with_features(source, x.with_all_levels())
    return with_encoding(source, x.encoding)


def with_encoding(source: Source, encoding: Encoding | None) -> Source:
    """Return a source of codes with the encoding of a fit, where it has not been decided which levels to drop."""
    x = source.x
    if encoding is None or not isinstance(x, FrameColumn | TableColumn) or not x.drops:
        return source
    by_role: dict[str, Column] = {**source.by_role, "x": x.with_levels(encoding)}
    return replace(source, by_role=by_role, feature_names=encoding.feature_names)
