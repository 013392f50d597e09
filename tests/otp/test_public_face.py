"""Everything that users can see of `otp`, `otp.testing` and `otp.engines` says what it is.

That is: each exported class, function, alias and constant; each public method and property of such a class; and each
attribute of its instances, in a docstring of its own (a string right below it) or by its name in that of the class.
Whether it is said well is not for a test to see.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import typing
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

import otp
import otp.engines
import otp.testing

ON_REQUEST = {otp.engines: {"SqliteEngine"}}  # loaded when it is asked for
PUBLIC = [
    (package, name)
    for package in (otp, otp.testing, otp.engines)
    for name in sorted({*vars(package), *ON_REQUEST.get(package, ())})
    if not name.startswith("_")
    and not isinstance(getattr(package, name), ModuleType)
    and getattr(package, name) is not getattr(typing, name, None)
]


@cache
def body_of(module: ModuleType) -> list[ast.stmt]:
    return ast.parse(inspect.getsource(module)).body


def is_text(statement: ast.stmt | None) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
        and bool(statement.value.value.strip())
    )


def assigned(body: list[ast.stmt], *, to_self: bool = False) -> dict[str, bool]:
    """What is assigned or declared in `body`, and whether a string stands right below it."""
    found: dict[str, bool] = {}
    for statement, below in zip(body, [*body[1:], None], strict=True):
        targets: list[ast.expr] = []
        if isinstance(statement, ast.Assign):
            targets = statement.targets
        elif isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        for target in targets:
            match target:
                case ast.Name(id=name) if not to_self:
                    found[name] = is_text(below)
                case ast.Attribute(value=ast.Name(id="self"), attr=name) if to_self:
                    found[name] = is_text(below)
                case _:
                    pass
    return found


def modules_with(exported: object, name: str) -> list[ModuleType]:
    """Our modules that have it under that name, by writing it or by importing it; no packages."""
    return [
        module
        for module in list(sys.modules.values())
        if module.__name__.startswith("otp.") and not hasattr(module, "__path__") and vars(module).get(name) is exported
    ]


def statement_of(exported: type) -> ast.ClassDef | None:
    """Where a class is written, if it is ours."""
    for module in modules_with(exported, exported.__name__):
        for statement in body_of(module):
            if isinstance(statement, ast.ClassDef) and statement.name == exported.__name__:
                return statement
    return None


def members(cls: ast.ClassDef) -> dict[str, bool]:
    """Methods and attributes of a class statement, and whether each has a docstring, or a string right below it."""
    found = assigned(cls.body)
    for statement in cls.body:
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if statement.name == "__init__":
            found |= assigned(statement.body, to_self=True)
        elif not any(ast.unparse(each) == "overload" for each in statement.decorator_list):
            found[statement.name] = ast.get_docstring(statement) is not None
    return {name: says for name, says in found.items() if not name.startswith("_") and name != "args"}


def undocumented(classes: list[ast.ClassDef]) -> set[str]:
    """What of the first class, or of those that it is derived from, says nothing, in none of them."""
    found = [members(each) for each in classes]
    documented = {name for each in found for name, says in each.items() if says}
    named = " ".join(" ".join(re.findall(r"`[^`]+`|\w+:", ast.get_docstring(each) or "")) for each in classes)
    return {name for each in found for name in each if name not in documented and not re.search(rf"\b{name}\b", named)}


@pytest.mark.parametrize(("package", "name"), PUBLIC, ids=lambda each: each if isinstance(each, str) else each.__name__)
def test_a_public_name_says_what_it_is(package, name):
    exported = getattr(package, name)
    if isinstance(exported, type):
        classes = [statement for each in exported.__mro__ if (statement := statement_of(each)) is not None]
        assert ast.get_docstring(classes[0]), f"{name} has no docstring"
        assert undocumented(classes) == set()
    elif inspect.isfunction(exported):
        assert exported.__doc__, f"{name} has no docstring"
    else:  # an alias or a constant
        says = [body[name] for module in modules_with(exported, name) if name in (body := assigned(body_of(module)))]
        assert says == [True], f"no string below {name}"


def test_all_are_looked_at():
    assert {"Actor", "child", "Status", "DEFERRED"} <= {name for _, name in PUBLIC}
    assert {name for package, name in PUBLIC if package is otp.testing} == set(otp.testing.__all__)


def test_the_index_has_each_name_once_and_no_others():
    index = (Path(__file__).parents[2] / "docs" / "reference.md").read_text()
    cells = re.findall(r"^\|[^|]*\|([^|]*)\|", index, re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(cells))) == sorted(name for _, name in PUBLIC)


@pytest.mark.parametrize(
    ("source", "silent"),
    [
        ("class A:\n    def tell(self): pass", {"tell"}),
        ("class A:\n    size: int", {"size"}),
        ('class A:\n    size: int\n    """How large."""', set()),
        ("class A:\n    '''`size`: how large.'''\n    size: int", set()),
        ("class A:\n    '''Attributes:\n        size: How large.'''\n    size: int", set()),
        ("class A:\n    '''It has a size.'''\n    size: int", {"size"}),
        ("class A:\n    def __init__(self):\n        self.size = 1\n        self._own = 2", {"size"}),
        ("class A:\n    def tell(self): pass\nclass Base:\n    def tell(self):\n        '''Tell.'''", set()),
    ],
)
def test_it_is_seen_when_something_says_nothing(source, silent):
    assert undocumented([each for each in ast.parse(source).body if isinstance(each, ast.ClassDef)]) == silent
