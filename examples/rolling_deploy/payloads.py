"""What travels between publisher and pods, in two versions of its schema.

A deploy changes payloads, too. In version 1 a job's modules are one string and the number of slices is in the code;
version 2 names both. A pod that knows version 2 also takes version 1, through the upcaster. A pod of before meets
version 2 in the queue: it leaves such a job where it is, at no cost, for the pods that know it.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen

from examples.rolling_deploy.analysis import COMPARE_SLICES, Figures
from examples.rolling_deploy.corpus import Group
from otp.engines import Topic

NEWEST_SCHEMA = 2


@frozen
class AnalyseV1:
    """A job of schema 1."""

    job: str
    modules: str
    work_factor: int

    def group(self) -> Group:
        """The job's input."""
        return Group(self.job, tuple(self.modules.split()))

    @property
    def slices(self) -> int:
        """Schema 1 does not say it."""
        return COMPARE_SLICES


@frozen
class Analyse:
    """A job of schema 2."""

    job: str
    modules: tuple[str, ...]
    work_factor: int
    slices: int

    def group(self) -> Group:
        """The job's input."""
        return Group(self.job, self.modules)


AnyAnalyse = AnalyseV1 | Analyse


@frozen
class JobResult:
    """What a job came to; posted to the aggregator's inbox."""

    job: str
    figures: Figures


RESULT = Topic("result", JobResult)


def analyse_topic(schema: int) -> Topic[Any]:
    """The topic of jobs as the code of that schema knew it. Raises ``ValueError`` for a schema that never was."""
    if schema == 1:
        return Topic("analyse", AnalyseV1)
    if schema != NEWEST_SCHEMA:
        raise ValueError(f"schema must be 1 or {NEWEST_SCHEMA}, not {schema}")
    topic = Topic("analyse", Analyse, version=2)

    @topic.upcast(1)
    def _(old: dict[str, Any]) -> dict[str, Any]:
        return old | {"modules": old["modules"].split(), "slices": COMPARE_SLICES}

    return topic


def analyse(group: Group, work_factor: int, schema: int) -> AnyAnalyse:
    """The payload of a job, as the publisher of that schema writes it."""
    if schema == 1:
        return AnalyseV1(group.job, " ".join(group.modules), work_factor)
    return Analyse(group.job, group.modules, work_factor, COMPARE_SLICES)
