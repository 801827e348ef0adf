"""Formulas: terms of a table's columns, whose levels and knots are learnt in one reduction over its rows."""
