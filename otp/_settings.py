"""How a service is run: its settings, from the program or from the environment."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import attrs

from . import _checks as checks

if TYPE_CHECKING:
    from collections.abc import Mapping

OnStuck: TypeAlias = Literal["report", "stop"]
"""What follows in a service when a child is stuck; see `RunSettings`."""

LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

_SERVICE_LINK: Final = re.compile(r"(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$")
"""What Kubernetes puts into the environment of every pod for a Service: that of one called "holdfast" is not meant
for us, and refusing it would keep the pods from starting."""


@attrs.frozen(kw_only=True)
class RunSettings:
    """How `run` and `serve` run a service. Durations are in seconds.

    Args:
        grace: The budget for everything between the signal to stop and the end of the process. In Kubernetes take
            `terminationGracePeriodSeconds` less `preStop` and five seconds: the kubelet kills what is late.
        settle: How much of it to go on as before, only not ready any more, until routers have heard of that. 0 is right
            for workers that pull their work; at most half of `grace`.
        probes: Where to serve `/livez`, `/readyz` and `/startupz`: "host:port", ":port" for all interfaces, port 0 for
            a free one (it is logged). None: nowhere.
        warn_after: From when a loop that stalls is reported.
        stall_limit: From when it counts as dead; at least `warn_after`.
        on_stuck: What follows when a child is stuck (:class:`ChildStuck`) while the service starts or serves. It is
            always reported, and waited for. "report": no more than that. "stop": the service has failed, and stops as
            if SIGTERM had come, so that whatever started the process can start another. While it stops already, nothing
            more follows: it has its `grace` time.
        log_level: Of the log that `run` sets up, unless the program has set up its own.

    Raises:
        ValueError: that names the setting, the value and what is allowed.
    """

    grace: float = 25.0
    settle: float = 0.0
    probes: str | None = None
    warn_after: float = 0.5
    stall_limit: float = 5.0
    on_stuck: OnStuck = "report"
    log_level: str = "INFO"

    def __attrs_post_init__(self) -> None:
        checks.positive_seconds("grace", self.grace)
        checks.seconds("settle", self.settle)
        if self.settle > self.grace / 2:
            raise ValueError(f"settle must be at most half of grace, {self.grace / 2:g}, not {self.settle!r}")
        checks.positive_seconds("warn_after", self.warn_after)
        checks.positive_seconds("stall_limit", self.stall_limit)
        if self.stall_limit < self.warn_after:
            raise ValueError(f"stall_limit must be at least warn_after, {self.warn_after:g}, not {self.stall_limit!r}")
        if self.probes is not None:
            parse_address("probes", self.probes)
        checks.choice("on_stuck", self.on_stuck, get_args(OnStuck))
        checks.choice("log_level", self.log_level, LOG_LEVELS)

    @classmethod
    def from_env(cls, prefix: str = "HOLDFAST_", *, environ: Mapping[str, str] | None = None) -> RunSettings:
        """Read the settings from variables such as `HOLDFAST_GRACE`; what is not set keeps its default.

        `HOLDFAST_PROBES=` (empty) is None. The names of Kubernetes' service links are passed over.

        Args:
            prefix: What the names of the variables begin with.
            environ: Where to look; by default `os.environ`.

        Raises:
            ValueError: if a value is not allowed, and for every name with the prefix that is no setting: a misspelt
                one would otherwise be silently without effect.
        """
        checks.text("prefix", prefix)
        environ = os.environ if environ is None else environ
        known = {f"{prefix}{field.name.upper()}": field.name for field in attrs.fields(cls)}
        values: dict[str, object] = {}
        for variable, text in environ.items():
            name = known.get(variable)
            if name is not None:
                values[name] = _parse(variable, name, text)
            elif variable.startswith(prefix) and not _SERVICE_LINK.match(variable, len(prefix)):
                raise ValueError(f"{variable} is no setting; there are {', '.join(sorted(known))}")
        try:
            return cls(**values)  # type: ignore[arg-type]  # it checks them
        except ValueError as error:
            raise ValueError(f"{error} (settings from the environment: {prefix}...)") from None


def parse_address(argument: str, value: object) -> tuple[str, int]:
    """Split "host:port", ":port" or "[v6]:port" into the host, "0.0.0.0" for none, and the port."""
    match = re.fullmatch(r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:\[\]]*)):(?P<port>\d{1,5})", str(value))
    if not isinstance(value, str) or match is None or int(match["port"]) > 65535:
        raise ValueError(f"{argument} must be 'host:port', ':port' or '[v6 address]:port', not {value!r}")
    return match["v6"] or match["host"] or "0.0.0.0", int(match["port"])


def _parse(variable: str, name: str, text: str) -> object:
    if name == "probes":
        return text or None
    if name == "log_level":
        return text.upper()
    if name == "on_stuck":
        return text.lower()
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{variable} must be a number of seconds, not {text!r}") from None
