# SPDX-License-Identifier: GPL-3.0-or-later
"""A small part of Rego (v1), enough for resource and attestation policies: rules, defaults, not, some ... in, comparisons, a few builtins.

What it does not know it refuses when the policy is loaded, as an engine refuses bad Rego. It is no reference: where a real engine is at hand, tests compare.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

UNDEFINED = object()
# As regorus has it.
LINE_MAX = 1024
_TOKEN = re.compile(r'(?P<ws>[ \t\r]+|#[^\n]*)|(?P<nl>\n)|(?P<str>"(?:[^"\\\n]|\\.)*")|(?P<num>-?\d+(?:\.\d+)?)|(?P<id>[A-Za-z_][A-Za-z0-9_]*)'
                    r'|(?P<op>:=|==|!=|>=|<=|[{}\[\]().,;:=<>])')  # fmt: skip
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: _key(a) == _key(b), "!=": lambda a, b: _key(a) != _key(b), ">=": lambda a, b: a >= b, "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b, "<": lambda a, b: a < b,
}  # fmt: skip


class RegoError(Exception):
    """The policy is no Rego, or Rego that this engine does not know."""


class Set(list):
    """A set of JSON values."""


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


@dataclass
class Policy:
    """A parsed module. ``builtins`` are further functions by name, such as query_reference_value."""

    package: str
    defaults: dict[str, Any] = field(default_factory=dict)
    rules: dict[str, list[tuple[Any, list[Any]]]] = field(default_factory=dict)

    def evaluate(self, name: str, input_: Any, data: Any = None, builtins: dict[str, Callable[..., Any]] | None = None) -> Any:
        """The value of a rule, UNDEFINED if it has none."""
        return _Run(self, input_, data or {}, {**BUILTINS, **(builtins or {})}).rule(name)


def parse(text: str) -> Policy:
    if any(len(line) > LINE_MAX for line in text.split("\n")):
        raise RegoError(f"line exceeds maximum column width of {LINE_MAX}")
    return _Parser(text).module()


class _Parser:
    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise RegoError(f"unexpected {text[position:position + 10]!r}")
            position = match.end()
            if match.lastgroup != "ws":
                self.tokens.append((str(match.lastgroup), match.group()))
        self.at = 0

    def peek(self, skip: bool = True) -> str:
        while skip and self.at < len(self.tokens) and self.tokens[self.at][0] == "nl":
            self.at += 1
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    def take(self, wanted: str = "") -> str:
        found = self.peek()
        if not found or wanted and found != wanted:
            raise RegoError(f"expected {wanted or 'more'}, found {found!r}")
        self.at += 1
        return found

    def module(self) -> Policy:
        self.take("package")
        policy = Policy(self.take())
        while self.peek():
            if self.peek() == "import":
                while self.peek(skip=False) not in ("\n", ""):
                    self.at += 1
            elif self.peek() == "default":
                self.take()
                name = self.take()
                if self.take() not in (":=", "="):
                    raise RegoError("a default needs a value")
                policy.defaults[name] = _Run(policy, None, {}, {}).term(self.term(), {})
            else:
                name = self.take()
                if not name.isidentifier():
                    raise RegoError(f"{name!r} is no rule")
                value: Any = ("lit", True)
                if self.peek() in (":=", "="):
                    self.take()
                    value = self.term()
                body: list[Any] = []
                if self.peek() == "if":
                    self.take()
                    body = self.body()
                policy.rules.setdefault(name, []).append((value, body))
        return policy

    def body(self) -> list[Any]:
        if self.peek() != "{":
            return [self.statement()]
        self.take("{")
        found = []
        while self.peek() != "}":
            found.append(self.statement())
            if self.peek(skip=False) not in ("\n", ";", "}"):
                raise RegoError(f"unexpected {self.peek(skip=False)!r} after a statement")
            if self.peek(skip=False) == ";":
                self.at += 1
        self.take("}")
        return found

    def statement(self) -> Any:
        if self.peek() == "not":
            self.take()
            return ("not", self.statement())
        if self.peek() == "some":
            self.take()
            names = [self.take()]
            if self.peek() == ",":
                self.take()
                names.append(self.take())
            self.take("in")
            return ("some", names, self.term())
        left = self.term()
        operator = self.peek(skip=False)
        if operator == ":=":
            self.take()
            return ("let", left[1], self.term())
        if operator in _COMPARE or operator == "in":
            self.take()
            return ("cmp", operator, left, self.term())
        return ("true", left)

    def term(self) -> Any:
        kind, text = (self.peek(), self.tokens[self.at])[1] if self.peek() else ("", "")
        if kind in ("str", "num"):
            self.take()
            return ("lit", json.loads(text))
        if text in ("true", "false", "null"):
            self.take()
            return ("lit", json.loads(text))
        if text == "[":
            return ("list", self.items("[", "]"))
        if text == "{":
            return self.braces()
        if kind != "id":
            raise RegoError(f"unexpected {text!r}")
        return self.reference()

    def items(self, first: str, last: str) -> list[Any]:
        self.take(first)
        found = []
        while self.peek() != last:
            found.append(self.term())
            if self.peek() != last:
                self.take(",")
        self.take(last)
        return found

    def braces(self) -> Any:
        self.take("{")
        pairs, items = [], []
        while self.peek() != "}":
            key = self.term()
            if self.peek() == ":":
                self.take()
                pairs.append((key, self.term()))
            else:
                items.append(key)
            if self.peek() != "}":
                self.take(",")
        self.take("}")
        if pairs and items:
            raise RegoError("a set or an object")
        return ("set", items) if items else ("obj", pairs)

    def reference(self) -> Any:
        path: list[Any] = [self.take()]
        while True:
            following = self.peek(skip=False)
            if following == ".":
                self.take()
                path.append(("lit", self.take()))
            elif following == "[":
                self.take()
                path.append(self.term())
                self.take("]")
            elif following == "(":
                name = ".".join([path[0]] + [str(part[1]) for part in path[1:]])
                return ("call", name, self.items("(", ")"))
            else:
                return ("var", path[0]) if len(path) == 1 else ("ref", path[0], path[1:])


@dataclass
class _Run:
    policy: Policy
    input: Any
    data: Any
    builtins: dict[str, Callable[..., Any]]

    def rule(self, name: str) -> Any:
        for value, body in self.policy.rules.get(name, ()):
            for names in self.solve(body, {}):
                found = self.term(value, names)
                if found is not UNDEFINED:
                    return found
        return self.policy.defaults.get(name, UNDEFINED)

    def solve(self, body: list[Any], names: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if not body:
            yield names
            return
        for found in self.one(body[0], names):
            yield from self.solve(body[1:], found)

    def one(self, statement: Any, names: dict[str, Any]) -> Iterator[dict[str, Any]]:
        kind = statement[0]
        if kind == "not":
            if next(self.one(statement[1], names), None) is None:
                yield names
        elif kind == "some":
            yield from self.each(statement[1], self.term(statement[2], names), names)
        elif kind == "let":
            value = self.term(statement[2], names)
            if value is not UNDEFINED:
                yield {**names, statement[1]: value}
        elif kind == "cmp":
            if self.compare(statement[1], self.term(statement[2], names), self.term(statement[3], names)):
                yield names
        elif not self.falsy(self.term(statement[1], names)):
            yield names

    @staticmethod
    def falsy(value: Any) -> bool:
        """Zero and the empty string are true in Rego."""
        return value is UNDEFINED or value is False

    @staticmethod
    def each(variables: list[str], value: Any, names: dict[str, Any]) -> Iterator[dict[str, Any]]:
        pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, item in pairs:
            found = {**names, variables[-1]: item}
            yield found if len(variables) == 1 else {**found, variables[0]: key}

    @staticmethod
    def compare(operator: str, left: Any, right: Any) -> bool:
        if left is UNDEFINED or right is UNDEFINED:
            return False
        if operator == "in":
            items = right.values() if isinstance(right, dict) else right if isinstance(right, list) else ()
            return any(_key(left) == _key(item) for item in items)
        if operator in ("==", "!="):
            return _COMPARE[operator](left, right)
        if type(left) is not type(right):
            raise RegoError("an ordering of values of different types has no use here")
        return _COMPARE[operator](left, right)

    def term(self, term: Any, names: dict[str, Any]) -> Any:
        kind = term[0]
        if kind == "lit":
            return term[1]
        if kind in ("list", "set"):
            values = [self.term(item, names) for item in term[1]]
            return UNDEFINED if any(value is UNDEFINED for value in values) else Set(values) if kind == "set" else values
        if kind == "obj":
            pairs = {self.term(key, names): self.term(value, names) for key, value in term[1]}
            return UNDEFINED if any(value is UNDEFINED for value in pairs.values()) else pairs
        if kind == "call":
            return self.call(term[1], [self.term(item, names) for item in term[2]])
        if kind == "var":
            return self.variable(term[1], names)
        value = self.variable(term[1], names)
        for part in term[2]:
            value = self.member(value, self.term(part, names))
        return value

    def call(self, name: str, arguments: list[Any]) -> Any:
        if name not in self.builtins:
            raise RegoError(f"could not find function {name}")
        return UNDEFINED if any(value is UNDEFINED for value in arguments) else self.builtins[name](*arguments)

    def variable(self, name: str, names: dict[str, Any]) -> Any:
        if name in names:
            return names[name]
        if name == "input":
            return self.input
        if name == "data":
            return self.data
        if name in self.policy.rules or name in self.policy.defaults:
            return self.rule(name)
        raise RegoError(f"use of undefined variable `{name}` is unsafe")

    @staticmethod
    def member(value: Any, key: Any) -> Any:
        try:
            return value[key] if isinstance(value, dict) or isinstance(value, list) and isinstance(key, int) and key >= 0 else UNDEFINED
        except (KeyError, IndexError, TypeError):
            return UNDEFINED


def _parse_time(text: Any) -> Any:
    try:
        return int(datetime.fromisoformat(str(text).replace("Z", "+00:00")).timestamp()) * 10**9
    except ValueError:
        return UNDEFINED


BUILTINS: dict[str, Callable[..., Any]] = {
    "count": lambda value: len(value) if isinstance(value, (list, dict, str)) else UNDEFINED,
    "startswith": lambda text, start: text.startswith(start) if isinstance(text, str) else UNDEFINED,
    "substring": lambda text, start, length: text[start : start + length] if isinstance(text, str) else UNDEFINED,
    "time.now_ns": time.time_ns,
    "time.parse_rfc3339_ns": _parse_time,
}
