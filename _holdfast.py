"""Refuse a stranger in the place of one of our packages.

`otp`, `queues`, `checkpoints` and `patterns` are names that other folders and distributions have too, and
what comes first on `sys.path` wins. Each package asks here, before it imports a sibling, whether Python would
find ours. This module has a name of its own, so it is always found itself; importing it is also the mark by
which the code of our `__init__` files is known.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

_SIBLINGS = {
    "otp": (),
    "queues": ("otp",),
    "checkpoints": ("otp",),
    "patterns": ("otp", "queues", "checkpoints"),
}


def check_siblings(package: str) -> None:
    """Raise ImportError if something else stands in the place of a package that `package` needs."""
    for sibling in _SIBLINGS[package]:
        if not _is_ours(sibling):
            raise _shadowed(package, sibling) from None


def _is_ours(name: str) -> bool:
    """Whether what `import name` finds is ours. It is looked at and not run: a stranger may do anything."""
    try:
        spec = find_spec(name)
        if spec is None or spec.loader is None:  # nothing, or a folder without an __init__
            return False
        get_code = getattr(spec.loader, "get_code", None)
        if get_code is None:  # an unusual loader that cannot say
            return True
        code = get_code(name)
    except (ValueError, SyntaxError, ImportError, OSError):
        return False  # made by hand and without a spec, or source that this Python cannot read
    return code is not None and __name__ in code.co_names


def _shadowed(package: str, sibling: str) -> ImportError:
    home = Path(__file__).parent
    found = _where(sibling)
    if found is None:
        what = f"there is none: reinstall holdfast (it belongs into {home})"
    elif home in found.parents:
        from importlib.metadata import packages_distributions  # slow to import, and seldom needed

        owners = sorted(set(packages_distributions().get(sibling, ())) - {"holdfast"})
        other = f" ({', '.join(owners)})" if owners else ""
        what = (
            f"another distribution{other} or a removed one has changed {found}: uninstall the other "
            f"and reinstall holdfast (pip install --force-reinstall holdfast)"
        )
    else:
        what = (
            f"Python finds {found} first: rename it, or take its folder off sys.path, where the script's "
            f"folder and the current directory come before installed packages (ours is in {home})"
        )
    return ImportError(
        f"{package!r} needs holdfast's own package {sibling!r}, but {what}",
        name=sibling,
        path=str(found) if found else None,
    )


def _where(name: str) -> Path | None:
    """Return the file or folder that `import name` finds."""
    try:
        spec = find_spec(name)
    except ValueError:  # a module that was made by hand and put into sys.modules
        file = getattr(sys.modules[name], "__file__", None)
        return Path(file or f"sys.modules[{name!r}]")
    if spec is None:
        return None
    folders = list(spec.submodule_search_locations or ())
    return Path(spec.origin if spec.has_location and spec.origin else folders[0])
