"""What is public belongs to the package that exports it, not to the private module that it happens to be written in."""

from __future__ import annotations

from types import FunctionType
from typing import Any


def claim(package: dict[str, Any]) -> None:
    """Make `package` (its globals) the home of what it exports: classes and functions say so in ``__module__``.

    Tracebacks, reprs and pickles then show the name that users import, and `help` and documentation tools list it. A
    pickle that names the private module can still be loaded. The price: `inspect.getsource` of such a class looks into
    the package's ``__init__``.
    """
    home: str = package["__name__"]
    for name, exported in list(package.items()):
        if name.startswith("_") or not isinstance(exported, type | FunctionType):
            continue  # constants and types of types have no home to be set
        if exported.__module__.startswith(f"{home}._"):
            exported.__module__ = home
