"""Keep runs on disk: each iteration is committed whole or not at all."""

from .store import Store

__all__ = ["Store"]
