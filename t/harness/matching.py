"""What MongoDB finds: filters, sorts and pages over plain documents, written for clarity.

The oracle of the tests of native lists.  It knows the operators that databridge lets through,
and datetimes where the caller says that a field holds them.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

MISSING = object()
Document = Mapping[str, Any]


def instant(value: Any) -> Any:
    """A datetime's text as a datetime; what has no offset is UTC."""
    if not isinstance(value, str):
        return value
    moment = datetime.fromisoformat(value)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def millisecond(value: Any) -> Any:
    """A datetime's text as that of BSON's date, which is what MongoDB tells."""
    if not isinstance(value, str):
        return value
    moment = instant(value).astimezone(UTC)
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    return moment.isoformat().removesuffix("+00:00") + "Z"


def bracket(value: Any) -> str:
    """Values compare within one type only; a bool is no number."""
    if value is None or value is MISSING:
        return "null"
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, (int, float)) else type(value).__name__


ORDER = ("null", "number", "str", "dict", "list", "bool", "datetime")


class Matcher:
    """`times` names the fields, dotted, whose texts are datetimes, to be read by `instant`.

    `written`: $regex looks into lists as text, "[]" or "[a, b]", as mongo-java-server's does.
    """

    def __init__(
        self,
        times: Iterable[str] = (),
        instant: Callable[[Any], Any] = instant,
        *,
        written: bool = False,
    ) -> None:
        self.times = frozenset(times)
        self.instant = instant
        self.written = written

    def leaves(self, document: Any, path: Sequence[str]) -> list[Any]:
        """What a path leads to: lists on the way stand for the objects in them."""
        if not path:
            return [document]
        if isinstance(document, list):
            found = [self.leaves(item, path) for item in document if isinstance(item, dict)]
            return [leaf for leaves in found for leaf in leaves]
        if not isinstance(document, dict) or path[0] not in document:
            return [MISSING]
        return self.leaves(document[path[0]], path[1:])

    def any_value(
        self, document: Any, path: Sequence[str], test: Callable[[Any], bool], where: str
    ) -> bool:
        def convert(value: Any) -> Any:
            return self.instant(value) if where in self.times else value

        for leaf in self.leaves(document, path):
            members = leaf if isinstance(leaf, list) else []
            if any(test(convert(value)) for value in (*members, leaf)):
                return True
        return False

    def matches(self, document: Any, query: Document, prefix: str = "") -> bool:
        for name, condition in query.items():
            if name in ("$and", "$or", "$nor"):
                found = [self.matches(document, item, prefix) for item in condition]
                holds = {"$and": all(found), "$or": any(found), "$nor": not any(found)}[name]
            else:
                name = "id" if name == "_id" else name
                operators = condition if isinstance(condition, dict) else {"$eq": condition}
                holds = self.operators(document, name.split("."), operators, prefix + name)
            if not holds:
                return False
        return True

    def operators(self, document: Any, path: Sequence[str], query: Document, where: str) -> bool:
        return all(
            self.operator(document, path, name, operand, query, where)
            for name, operand in query.items()
            if name != "$options"
        )

    def operator(
        self, document: Any, path: Sequence[str], name: str, operand: Any, query: Any, where: str
    ) -> bool:
        def equals(value: Any) -> Callable[[Any], bool]:
            value = self.instant(value) if where in self.times else value
            return lambda other: (
                bracket(other) == bracket(value) and (bracket(value) == "null" or other == value)
            )

        def any_of(test: Callable[[Any], bool]) -> bool:
            return self.any_value(document, path, test, where)

        if name == "$eq":
            return any_of(equals(operand))
        if name == "$ne":
            return not any_of(equals(operand))
        if name == "$in":
            return any(any_of(equals(value)) for value in operand)
        if name == "$nin":
            return not any(any_of(equals(value)) for value in operand)
        if name == "$all":
            return bool(operand) and all(any_of(equals(value)) for value in operand)
        if name == "$exists":
            there = any(leaf is not MISSING for leaf in self.leaves(document, path))
            return there is operand
        if name == "$not":
            return not self.operators(document, path, operand, where)
        lists = [leaf for leaf in self.leaves(document, path) if isinstance(leaf, list)]
        if name == "$size":
            return any(len(leaf) == operand for leaf in lists)
        if name == "$elemMatch":
            scalar = all(key.startswith("$") for key in operand)
            return any(
                self.operators(member, [], operand, where)
                if scalar
                else self.matches(member, operand, f"{where}.")
                for leaf in lists
                for member in leaf
            )
        if name == "$regex":
            flags = sum(re.RegexFlag[letter.upper()] for letter in query.get("$options", ""))
            search = re.compile(operand, flags).search
            texts = (f"[{', '.join(map(str, leaf))}]" for leaf in lists)
            if self.written and any(map(search, texts)):
                return True
            return any_of(lambda v: isinstance(v, str) and bool(search(v)))
        return any_of(
            self.comparison(name, self.instant(operand) if where in self.times else operand)
        )

    def comparison(self, name: str, operand: Any) -> Callable[[Any], bool]:
        def compare(value: Any) -> bool:
            if bracket(value) != bracket(operand):
                return False
            if bracket(operand) == "null":
                return name in ("$gte", "$lte")
            return bool(
                {
                    "$gt": lambda: value > operand,
                    "$gte": lambda: value >= operand,
                    "$lt": lambda: value < operand,
                    "$lte": lambda: value <= operand,
                }[name]()
            )

        return compare

    def sorted(self, documents: Iterable[Document], sort: str) -> list[Document]:
        """By `-views,title`, then by id in the direction of the last key."""
        keys = [key for key in sort.split(",") if key]
        if not keys or keys[-1].lstrip("-") != "id":
            keys.append("-id" if keys and keys[-1].startswith("-") else "id")
        result = list(documents)
        for key in reversed(keys):
            name = key.removeprefix("-")
            result.sort(key=self.sort_key(name), reverse=key.startswith("-"))
        return result

    def sort_key(self, name: str) -> Callable[[Document], tuple[int, Any]]:
        def key(document: Document) -> tuple[int, Any]:
            (value,) = self.leaves(document, name.split("."))
            value = self.instant(value) if name in self.times else value
            kind = bracket(value)
            return ORDER.index(kind), 0 if kind == "null" else value

        return key


def project(document: Any, paths: Iterable[Sequence[str]]) -> Any:
    """Only the members that are named, as an inclusive projection."""
    wanted = [path for path in paths if path]
    if isinstance(document, list):
        return [project(item, wanted) for item in document if isinstance(item, (dict, list))]
    result = {}
    for name, value in document.items():
        below = [path[1:] for path in wanted if path[0] == name]
        if [] in [list(path) for path in below]:
            result[name] = value
        elif below and isinstance(value, (dict, list)):
            result[name] = project(value, below)
    return result
