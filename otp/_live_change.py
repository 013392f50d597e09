"""Going on under another spec: what `Change` asks of a supervisor that runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import _protocol as p  # pyright: ignore[reportPrivateUsage]  # private to otp
from ._spec import arguments_of, instance_of

if TYPE_CHECKING:
    from ._core_state import CoreState
    from ._roster import Slot
    from ._spec import ChildSpec, Supervisor


def change(state: CoreState, request: p.Change) -> None:
    """Check all of it, then do it and answer; or refuse it and leave everything as it is."""
    try:
        renewed = _new_template(state, request.spec) if state.simple else _new_children(state, request.spec)
    except (TypeError, ValueError) as error:
        state.reply(request, error)
        return
    added = [] if state.simple else [spec for spec in request.spec.children if state.roster.get(spec.id) is None]
    state.adopt(request.spec)
    for slot, spec in renewed:
        _renew(state, slot, spec)
    for spec in added:
        state.roster.add(spec)
    if not state.simple:
        state.roster.reorder(spec.id for spec in request.spec.children)
    state.reply(request)


def _new_children(state: CoreState, spec: Supervisor) -> list[tuple[Slot, ChildSpec]]:
    if spec.strategy == "simple_one_for_one":
        raise ValueError(f"strategy cannot become simple_one_for_one while {state.path} runs: it is another kind")
    return [(slot, child) for child in spec.children if (slot := state.roster.get(child.id)) is not None]


def _new_template(state: CoreState, spec: Supervisor) -> list[tuple[Slot, ChildSpec]]:
    if spec.strategy != "simple_one_for_one":
        raise ValueError(f"strategy must stay simple_one_for_one while {state.path} runs, not {spec.strategy!r}")
    (before,), (template,) = state.spec.children, spec.children
    if template.id != before.id:
        raise ValueError(f"id of the template must stay {before.id!r}, by which instances are known: {template.id!r}")
    return [(slot, instance_of(template, slot.id, arguments_of(slot.spec))) for slot in state.roster]


def _renew(state: CoreState, slot: Slot, spec: ChildSpec) -> None:
    slot.spec = spec  # (Whether it is another one is not asked: what is in it need not be comparable.)
    if spec.budget is None:
        slot.window = None
    elif slot.window is not None:
        slot.window.limit, slot.window.period = spec.budget.intensity, spec.budget.period
    if slot.alive:
        assert slot.incarnation is not None
        state.actions.append(p.RenewSpec(slot.id, slot.incarnation, spec))
