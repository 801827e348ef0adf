"""Minima of a quadratic and a nonsmooth penalty, found on the client."""
