"""Which default factories C knows, and what they are called in a schema.

Factories are known by what they call, not by name: a function is read as the one expression
that it returns.
"""

import builtins
import datetime
import dis
import functools
import types
import uuid
from collections.abc import Callable, Iterable
from typing import Any

_Call = tuple[Any, tuple[Any, ...], tuple[tuple[str, Any], ...]]


def factory_name(factory: Callable[..., Any]) -> str | None:
    """The schema's name of a default factory, None when it is not known."""
    expression: Any = (factory, (), ())
    if isinstance(factory, functools.partial):
        keywords = tuple(sorted(factory.keywords.items()))
        expression = (factory.func, factory.args, keywords)
    elif isinstance(factory, types.FunctionType) and factory is not uuid.uuid4:
        expression = _returned(factory)
    for known, name in _FACTORIES:
        if _same(expression, known):
            return name
    return None


_now = datetime.datetime.now
_utc = datetime.UTC

_FACTORIES: tuple[tuple[_Call, str], ...] = (
    ((list, (), ()), "list"),
    ((dict, (), ()), "dict"),
    ((uuid.uuid4, (), ()), "uuid4"),
    ((str, ((uuid.uuid4, (), ()),), ()), "uuid4"),
    ((_now, (), ()), "now"),
    ((_now, (None,), ()), "now"),
    ((datetime.datetime.utcnow, (), ()), "utcnow"),
    ((_now, (_utc,), ()), "now_utc"),
    ((_now, (), (("tz", _utc),)), "now_utc"),
)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return one is other or (type(one) is type(other) and bool(one == other))


def _returned(function: types.FunctionType) -> Any:
    """The expression a function returns: calls of names, or None for anything else."""
    code = function.__code__
    if code.co_argcount or code.co_kwonlyargcount or code.co_flags & 0xAC:
        return None  # arguments, generators, coroutines
    stack: list[Any] = []
    keywords: tuple[str, ...] = ()
    try:
        for step in dis.get_instructions(function):
            if step.opname == "KW_NAMES":
                keywords = code.co_consts[step.arg or 0]
            elif step.opname == "RETURN_VALUE":
                return stack[-1] if len(stack) == 1 else None
            elif not _step(function, step, stack, keywords):
                return None
            elif step.opname.startswith("CALL"):
                keywords = ()
    except (AttributeError, IndexError, KeyError, ValueError):
        return None  # a name that is not there yet
    return None


_NULL = object()
_SILENT = {"RESUME", "PRECALL", "COPY_FREE_VARS", "NOP", "CACHE", "NOT_TAKEN"}


def _step(
    function: types.FunctionType, step: dis.Instruction, stack: list[Any], keywords: Iterable[str]
) -> bool:
    """Takes one instruction; False when it has no place in such an expression."""
    name = step.opname
    if name in _SILENT:
        return True
    if name == "PUSH_NULL":
        stack.append(_NULL)
    elif name == "LOAD_GLOBAL":
        scope = function.__globals__
        stack.append(scope[step.argval] if step.argval in scope else getattr(builtins, step.argval))
    elif name == "LOAD_DEREF":
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        stack.append(cells[step.argval].cell_contents)
    elif name in ("LOAD_ATTR", "LOAD_METHOD"):
        owner = stack.pop()
        if not isinstance(owner, (type, types.ModuleType)):
            return False
        stack.append(getattr(owner, step.argval))
    elif name == "LOAD_CONST":
        stack.append(step.argval)
    elif name in ("BUILD_LIST", "BUILD_MAP") and step.arg == 0:
        stack.append((list if name == "BUILD_LIST" else dict, (), ()))
    elif name == "CALL_KW":
        return _call(step.arg or 0, stack, stack.pop())
    elif name == "CALL":
        return _call(step.arg or 0, stack, keywords)
    else:
        return False
    return True


def _call(count: int, stack: list[Any], keywords: Iterable[str]) -> bool:
    """Replaces a callable and its arguments by the call of them."""
    names = tuple(keywords)
    values = [stack.pop() for _ in range(count)][::-1]
    stack[:] = [item for item in stack if item is not _NULL]
    function = stack.pop()
    positional = len(values) - len(names)
    named = tuple(sorted(zip(names, values[positional:], strict=True)))
    stack.append((function, tuple(values[:positional]), named))
    return True
