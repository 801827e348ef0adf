"""The identity of functions and objects that a user wrote: a hash of all their content.

A fit goes on from a store only with the loss with which it began. Functions are not stored, but a hash of their content
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

#: Types whose values are known by their type and text.
PLAIN = (
    type(None),
    type(Ellipsis),
    type(NotImplemented),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    range,
    np.dtype,
)

#: Members of a class that do not change what it does, or differ from process to process.
INCIDENTAL = {"__dict__", "__weakref__", "__module__", "__doc__", "__annotations__", "__firstlineno__"}
INCIDENTAL |= {"__static_attributes__", "__slotnames__"}
INCIDENTAL |= {"__annotate__", "__annotate_func__", "__annotations_cache__", "_abc_impl"}

#: Where packages are installed. A class or a function from there is known by its name.
PLACES = ("stdlib", "platstdlib", "purelib", "platlib")
PACKAGE = os.path.join(os.path.dirname(os.path.dirname(__file__)), "")
INSTALLED = (*{os.path.join(sysconfig.get_path(name), "") for name in PLACES}, PACKAGE)


def described(value: Any) -> str:
    """Return the name of a function or an object, and a hash of its content.

    The content of a function is its code, defaults, closure, and the globals that it reads. The content of an object is
    its class's code and its state; of an array, every byte. Definitions of an installed package are known by their
    name, a module that the user wrote by the names that a function takes from it. The hash leaves out files, attributes
    looked up by a computed name, and the state of objects that cannot be copied, such as open connections. It also
    leaves out a global, or a variable of an enclosing function, that the function itself assigns: that is a counter or
    a cache. Code differs between versions of Python.

    Examples
    --------
    >>> def power(n):
    ...     return lambda z, y: (z - y) ** n
    >>> described(power(2)) == described(power(2)), described(power(2)) == described(power(4))
    (True, False)
    """
    # An object without a name goes by the name of its class.
    name = _name(value) or _name(type(value))
    try:
        return f"{name} {_Content().digest(value).hex()}"
    except RecursionError:
        # The name alone is a weaker identity, but no reason to end the fit.
        logger.warning("%s is nested too deeply to be told from others of its name.", name)
        return name


def code_of(value: Any) -> dict[str, str]:
    """Return the identity of an object's class, unless it is dask_gd's: then its name says it all."""
    if type(value).__module__.partition(".")[0] == "dask_gd":
        return {}
    return {"code": described(type(value))}


def _name(value: Any) -> str:
    """Return the qualified name of a function or a class, or an empty text."""
    name = getattr(value, "__qualname__", None)
    if isinstance(name, str):
        return f"{getattr(value, '__module__', '')}.{name}"
    return ""


def _is_installed(value: Any) -> bool:
    """Return True if a package, and not the user, defines a class or a function."""
    if isinstance(value, types.FunctionType):
        # Not by its module's name, which `functools.wraps` copies.
        return value.__code__.co_filename.startswith(INSTALLED)
    if value.__module__ == "__main__":
        return False
    # Modules that are part of the interpreter have no file.
    if value.__module__.partition(".")[0] in sys.builtin_module_names:
        return True
    file = getattr(sys.modules.get(value.__module__), "__file__", None)
    return file is not None and os.path.abspath(file).startswith(INSTALLED)


class _Content:
    """The digests of objects, each computed once, and the objects whose digests are being computed."""

    def __init__(self) -> None:
        # With the objects themselves, so that no other object takes their place in memory.
        self.digests: dict[int, tuple[Any, bytes]] = {}
        # The objects around the present one, the outermost first.
        self.within: list[int] = []

    def digest(self, value: Any) -> bytes:
        """Return the digest of a value and of all values to which it refers."""
        # Such a value has no parts.
        if type(value) in PLAIN:
            return _hash(type(value).__name__, repr(value))
        key = id(value)
        if key in self.digests:
            return self.digests[key][1]
        if key in self.within:
            # It refers to itself: how many levels up it is says which value this is.
            levels = len(self.within) - self.within.index(key)
            return _hash("within", str(levels))
        self.within.append(key)
        try:
            digest = _hash(*self._parts(value))
        finally:
            self.within.pop()
        self.digests[key] = value, digest
        return digest

    def _parts(self, value: Any) -> Iterator[str | bytes]:
        """Yield the parts of a value: texts, and digests of other values."""
        yield type(value).__name__
        if isinstance(value, np.ndarray | np.generic):
            yield from self._array(value)
        elif isinstance(value, list | tuple):
            yield from map(self.digest, value)
        # Sets and mappings have an order that may differ between processes: their digests are sorted.
        elif isinstance(value, set | frozenset):
            yield from sorted(map(self.digest, value))
        elif isinstance(value, Mapping):
            yield from sorted(self.digest(key) + self.digest(item) for key, item in value.items())
        elif isinstance(value, types.CodeType):
            yield from self._code(value)
        elif isinstance(value, types.ModuleType):
            yield value.__name__
        # The versions of installed packages are not the user's code: the name is enough.
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
        # All other objects, by their class and state.
        else:
            yield from self._object(value)

    def _array(self, value: Any) -> Iterator[str | bytes]:
        """Yield an array's dtype, shape, values and mask."""
        array = np.asarray(value)
        yield array.dtype.str
        yield str(array.shape)
        # The bytes of objects would be their addresses.
        if array.dtype.hasobject:
            yield from map(self.digest, array.ravel().tolist())
        else:
            yield np.ascontiguousarray(array).tobytes()
        if isinstance(value, np.ma.MaskedArray):
            yield self.digest(np.ma.getmaskarray(value))

    def _code(self, code: types.CodeType) -> Iterator[str | bytes]:
        """Yield all of a code object but its name, file, lines and the names of its local variables."""
        yield code.co_code
        yield str((code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags))
        yield code.co_exceptiontable
        # Arguments can be passed by name; the names of other local variables change nothing.
        arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        for names in (code.co_names, arguments, code.co_freevars, code.co_cellvars, code.co_consts):
            yield self.digest(names)

    def _function(self, function: types.FunctionType) -> Iterator[str | bytes]:
        """Yield a function's code, and all values that the code reads from outside."""
        code = function.__code__
        yield self.digest(code)
        for attribute in (function.__defaults__, function.__kwdefaults__, function.__dict__):
            yield self.digest(attribute)
        reads, writes = _globals(code)
        # The variables of the function around it.
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            if name in writes:
                continue
            try:
                yield self.digest(cell.cell_contents)
            except ValueError:
                # The variable has no value yet.
                yield "empty"
        # The globals of its module, and their attributes where they are modules themselves.
        for name in sorted(reads):
            first, *rest = name.split(".")
            if first in writes:
                continue
            if first in function.__globals__:
                item = function.__globals__[first]
            elif hasattr(builtins, first):
                continue
            else:
                yield f"no {first}"
                continue
            yield name
            while rest and isinstance(item, types.ModuleType):
                item = getattr(item, rest.pop(0), None)
            yield self.digest(item)

    def _class(self, kind: type) -> Iterator[str | bytes]:
        """Yield a class's name, bases and members."""
        yield kind.__qualname__
        yield self.digest(kind.__bases__)
        for name, member in sorted(vars(kind).items()):
            if name not in INCIDENTAL:
                yield name
                yield self.digest(member)

    def _object(self, value: Any) -> Iterator[str | bytes]:
        """Yield an object's class and state, as copying it would take them."""
        # A compiled or a cached function is known by the function in it.
        inner = getattr(value, "py_func", None) or getattr(value, "__wrapped__", None)
        if callable(inner):
            yield self.digest(inner)
            return
        # A descriptor is known by its functions.
        if isinstance(value, staticmethod | classmethod):
            yield self.digest(value.__func__)
            return
        if isinstance(value, property):
            yield from map(self.digest, (value.fget, value.fset, value.fdel))
            return
        # A method of a built-in object is known by the object too.
        owner = getattr(value, "__self__", None)
        if isinstance(value, types.BuiltinFunctionType) and not isinstance(owner, types.ModuleType | type(None)):
            yield value.__name__
            yield self.digest(owner)
            return
        # Another function without Python code is known by its name.
        if _name(value) or isinstance(value, np.ufunc):
            yield _name(value) or value.__name__
            return
        # Any other object is known by its class and by its state, if it can be copied.
        yield self.digest(type(value))
        try:
            reduced = value.__reduce_ex__(4)
        except RecursionError:
            raise
        except Exception:
            return
        if isinstance(reduced, str):
            yield reduced
            return
        for part in reduced:
            if isinstance(part, Iterator):
                yield self.digest(list(part))
            else:
                yield self.digest(part)


def _hash(*parts: str | bytes) -> bytes:
    """Return a digest of parts, in their order, each by itself."""
    total = hashlib.blake2b(digest_size=8)
    for part in parts:
        data = part
        if isinstance(data, str):
            data = data.encode(errors="surrogatepass")
        # The length comes first, so that no two lists of parts have the same bytes.
        total.update(len(data).to_bytes(8, "little"))
        total.update(data)
    return total.digest()


def _globals(code: types.CodeType) -> tuple[set[str], set[str]]:
    """Return the globals that code reads, with the attributes taken from them, and the outer variables that it writes.

    The code of functions inside it counts as well.
    """
    reads = set[str]()
    writes = set[str]()
    # A global and the attributes that are loaded right after it, such as "np.linalg.norm".
    chain = ""
    for instruction in dis.get_instructions(code):
        operation = instruction.opname
        name = instruction.argval
        if operation in ("LOAD_GLOBAL", "LOAD_NAME"):
            chain = name
            reads.add(chain)
        elif operation in ("LOAD_ATTR", "LOAD_METHOD") and chain:
            reads.discard(chain)
            chain = f"{chain}.{name}"
            reads.add(chain)
        elif operation != "CACHE":
            chain = ""
        if operation == "STORE_GLOBAL" or (operation == "STORE_DEREF" and name in code.co_freevars):
            writes.add(name)
    # A name that an inner function writes is outside of this code too, unless it is a variable of this code.
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            inner_reads, inner_writes = _globals(inner)
            reads |= inner_reads
            writes |= inner_writes - set(code.co_cellvars)
    return reads, writes
