"""A pod: the program that the deployment runs, here and in a container.

It takes everything from its environment, answers the probes, logs to stdout, and obeys SIGTERM. What it consists of is
in :mod:`examples.rolling_deploy.tree`, which is loaded late: first the process makes sure that it dies with the demo;
and its worker processes, which load this module too, have no use for the rest.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from examples.rolling_deploy.lifeline import hold_on

if TYPE_CHECKING:
    from collections.abc import Mapping


@frozen(kw_only=True)
class PodSettings:
    """What a pod is told. Durations are in seconds."""

    name: str
    version: str
    schema: int
    host: str
    port: int
    store_url: str
    events_file: Path
    drain: float
    lease: float
    concurrency: int
    without: str
    """The protection that is switched off, for the demo that must fail; empty for none."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> PodSettings:
        """Read the pod's variables. Raises ``ValueError`` naming the variable that is missing or wrong."""

        def read(name: str, kind: type, default: str | None = None) -> Any:
            text = environ.get(name, default)
            if text is None:
                raise ValueError(f"{name} is not set; the manifest names all variables of a pod")
            try:
                return kind(text)
            except ValueError as error:
                raise ValueError(f"{name} must be of type {kind.__name__}, not {text!r}") from error

        return cls(
            name=read("POD_NAME", str),
            version=read("VERSION", str),
            schema=read("SCHEMA", int),
            host=read("HOST", str, "0.0.0.0"),
            port=read("PORT", int),
            store_url=read("STORE_URL", str),
            events_file=read("EVENTS_FILE", Path),
            drain=read("DRAIN_SECONDS", float),
            lease=read("LEASE_SECONDS", float),
            concurrency=read("CONCURRENCY", int),
            without=read("WITHOUT", str, ""),
        )


def main() -> None:
    """Run this process as a pod."""
    hold_on()
    try:
        settings = PodSettings.from_env(os.environ)
    except ValueError as error:
        sys.exit(f"pod: {error}")

    from examples.rolling_deploy.events import EventWriter
    from examples.rolling_deploy.tree import pod_tree
    from otp import RunSettings, run

    with EventWriter(settings.events_file, pod=settings.name) as events:
        run(
            pod_tree(settings, events),
            settings=RunSettings(grace=settings.drain, probes=f"{settings.host}:{settings.port}"),
        )


if __name__ == "__main__":
    main()
