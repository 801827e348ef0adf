"""Tell functions and objects of a user's own from others, by all of their content.

A fit goes on from a store only with the loss that it began with, but functions are not stored: a hash of what they are
is. It has to be the same in another process, and to differ where the function would return something else.
"""

from __future__ import annotations

import builtins
import dis
import functools
import hashlib
import logging
import os
import sys
import sysconfig
import types
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

logger = logging.getLogger("dask_gd")

#: Values that their type and text say all about.
PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), type(NotImplemented), range, np.dtype)

#: Of a class what says nothing of what it does, or differs from process to process.
INCIDENTAL = {"__dict__", "__weakref__", "__module__", "__doc__", "__annotations__", "__firstlineno__"}
INCIDENTAL |= {"__static_attributes__", "__slotnames__"}
INCIDENTAL |= {"__annotate__", "__annotate_func__", "__annotations_cache__", "_abc_impl"}

#: Where packages are installed. What is there is known by its name.
PLACES = ("stdlib", "platstdlib", "purelib", "platlib")
PACKAGE = os.path.dirname(os.path.dirname(__file__))
INSTALLED = (*{os.path.join(sysconfig.get_path(name), "") for name in PLACES}, PACKAGE)


def described(value: Any) -> str:
    """Return the name of a function or an object, and a hash of its content.

    The content of a function is its code, defaults, closure, and the globals that it reads; of an object its class's
    code and its state; of an array every byte. What an installed package defines is known by its name, a module of the
    user's by what a function takes of it by name. Not seen are files, what is looked up by a computed name, and the
    state of objects that cannot be copied, such as open connections. A global or a variable of an enclosing function
    that the function itself assigns is a counter or a cache, and no part of it. Code differs between versions of
    Python.

    Examples
    --------
    >>> def power(n):
    ...     return lambda z, y: (z - y) ** n
    >>> described(power(2)) == described(power(2)), described(power(2)) == described(power(4))
    (True, False)
    """
    name = _name(value) or _name(type(value))
    try:
        return f"{name} {_Content().digest(value).hex()}"
    except RecursionError:
        logger.warning("%s is nested too deeply to be told from others of its name.", name)
        return name


def code_of(value: Any) -> dict[str, str]:
    """Return the identity of an object's class, unless it is dask_gd's: then its name says it all."""
    if type(value).__module__.partition(".")[0] == "dask_gd":
        return {}
    return {"code": described(type(value))}


def _name(value: Any) -> str:
    """Return the qualified name of a function or a class, or nothing."""
    name = getattr(value, "__qualname__", None)
    if isinstance(name, str):
        return f"{getattr(value, '__module__', '')}.{name}"
    return ""


def _is_installed(value: Any) -> bool:
    """Whether a package, and not the user, defines a class or a function."""
    if isinstance(value, types.FunctionType):
        # Not by its module's name, which `functools.wraps` copies.
        return value.__code__.co_filename.startswith(INSTALLED)
    if value.__module__ == "__main__":
        return False
    if value.__module__.partition(".")[0] in sys.builtin_module_names:
        return True
    file = getattr(sys.modules.get(value.__module__), "__file__", None)
    return file is not None and os.path.abspath(file).startswith(INSTALLED)


class _Content:
    """The digests of objects, each found once, and the objects that are being looked at."""

    def __init__(self) -> None:
        # With the objects themselves, so that no other takes their place in memory.
        self.found: dict[int, tuple[Any, bytes]] = {}
        self.within: list[int] = []

    def digest(self, value: Any) -> bytes:
        """Return the digest of a value and of all that it refers to."""
        if type(value) in PLAIN:
            return _hash(type(value).__name__, repr(value))
        if id(value) in self.found:
            return self.found[id(value)][1]
        if id(value) in self.within:
            return _hash("within", str(len(self.within) - self.within.index(id(value))))
        self.within.append(id(value))
        try:
            digest = _hash(*self._parts(value))
        finally:
            self.within.pop()
        self.found[id(value)] = value, digest
        return digest

    def _parts(self, value: Any) -> Iterator[str | bytes]:
        """Yield what a value is made of: texts, and digests of other values."""
        yield type(value).__name__
        if isinstance(value, np.ndarray | np.generic):
            yield from self._array(value)
        elif isinstance(value, list | tuple):
            yield from map(self.digest, value)
        elif isinstance(value, set | frozenset):
            yield from sorted(map(self.digest, value))
        elif isinstance(value, Mapping):
            yield from sorted(self.digest(key) + self.digest(own) for key, own in value.items())
        elif isinstance(value, types.CodeType):
            yield from self._code(value)
        elif isinstance(value, types.ModuleType):
            yield value.__name__
        elif isinstance(value, type | types.FunctionType) and _is_installed(value):
            yield _name(value)
        elif isinstance(value, types.FunctionType):
            yield from self._function(value)
        elif isinstance(value, type):
            yield from self._class(value)
        elif isinstance(value, types.MethodType):
            yield self.digest(value.__func__)
            yield self.digest(value.__self__)
        elif isinstance(value, functools.partial):
            yield from map(self.digest, (value.func, value.args, value.keywords))
        else:
            yield from self._object(value)

    def _array(self, value: Any) -> Iterator[str | bytes]:
        array = np.asarray(value)
        yield array.dtype.str
        yield str(array.shape)
        if array.dtype.hasobject:
            yield from map(self.digest, array.ravel().tolist())
        else:
            yield np.ascontiguousarray(array).tobytes()
        if isinstance(value, np.ma.MaskedArray):
            yield self.digest(np.ma.getmaskarray(value))

    def _code(self, code: types.CodeType) -> Iterator[str | bytes]:
        yield code.co_code
        yield str((code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags))
        yield code.co_exceptiontable
        arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        for names in (code.co_names, arguments, code.co_freevars, code.co_cellvars, code.co_consts):
            yield self.digest(names)

    def _function(self, function: types.FunctionType) -> Iterator[str | bytes]:
        code = function.__code__
        yield self.digest(code)
        for held in (function.__defaults__, function.__kwdefaults__, function.__dict__):
            yield self.digest(held)
        reads, writes = _globals(code)
        # What it has of the function around it.
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            if name in writes:
                continue
            try:
                yield self.digest(cell.cell_contents)
            except ValueError:
                yield "empty"
        # What it has of its module, and of the modules that this has imported.
        for name in sorted(reads):
            first, *rest = name.split(".")
            if first in writes:
                continue
            if first in function.__globals__:
                found = function.__globals__[first]
            elif hasattr(builtins, first):
                continue
            else:
                yield f"no {first}"
                continue
            yield name
            while rest and isinstance(found, types.ModuleType):
                found = getattr(found, rest.pop(0), None)
            yield self.digest(found)

    def _class(self, kind: type) -> Iterator[str | bytes]:
        yield kind.__qualname__
        yield self.digest(kind.__bases__)
        for name, member in sorted(vars(kind).items()):
            if name not in INCIDENTAL:
                yield name
                yield self.digest(member)

    def _object(self, value: Any) -> Iterator[str | bytes]:
        """Yield an object's class and state, as copying it would take them."""
        inner = getattr(value, "py_func", None) or getattr(value, "__wrapped__", None)
        if callable(inner):  # a compiled or a cached function
            yield self.digest(inner)
            return
        if isinstance(value, staticmethod | classmethod):
            yield self.digest(value.__func__)
            return
        if isinstance(value, property):
            yield from map(self.digest, (value.fget, value.fset, value.fdel))
            return
        owner = getattr(value, "__self__", None)
        if isinstance(value, types.BuiltinFunctionType) and not isinstance(owner, types.ModuleType | type(None)):
            yield value.__name__
            yield self.digest(owner)
            return
        if _name(value) or isinstance(value, np.ufunc):
            yield _name(value) or value.__name__
            return
        yield self.digest(type(value))
        try:
            reduced = value.__reduce_ex__(4)
        except RecursionError:
            raise
        except Exception:  # it cannot be copied
            return
        if isinstance(reduced, str):
            yield reduced
            return
        for part in reduced:
            yield self.digest(list(part) if isinstance(part, Iterator) else part)


def _hash(*parts: str | bytes) -> bytes:
    """Return a digest of parts, in their order, each by itself."""
    total = hashlib.blake2b(digest_size=8)
    for part in parts:
        if isinstance(part, str):
            data = part.encode(errors="surrogatepass")
        else:
            data = part
        total.update(len(data).to_bytes(8, "little"))
        total.update(data)
    return total.digest()


def _globals(code: types.CodeType) -> tuple[set[str], set[str]]:
    """Return the globals that code reads, with the attributes taken of them, and the variables outside that it writes.

    The code inside it counts as well.
    """
    reads = set[str]()
    writes = set[str]()
    chain = ""
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            chain = step.argval
            reads.add(chain)
        elif step.opname in ("LOAD_ATTR", "LOAD_METHOD") and chain:
            reads.discard(chain)
            chain = f"{chain}.{step.argval}"
            reads.add(chain)
        elif step.opname != "CACHE":
            chain = ""
        if step.opname == "STORE_GLOBAL" or (step.opname == "STORE_DEREF" and step.argval in code.co_freevars):
            writes.add(step.argval)
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            inner_reads, inner_writes = _globals(inner)
            reads |= inner_reads
            writes |= inner_writes - set(code.co_cellvars)
    return reads, writes
