"""Reads a Kubernetes Deployment manifest into the few values that the demo's controller acts on.

Defaults and rules of validity are those of Kubernetes. What the controller cannot do (other strategies,
several containers, other kinds of probe) is refused with a clear error rather than ignored; what has no
meaning for a process on this host (image, resources, affinity) is left alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import yaml
from attrs import evolve, field, frozen

__all__ = [
    "DEFAULT_MANIFEST",
    "Deployment",
    "Hook",
    "ManifestError",
    "PodTemplate",
    "Probe",
    "load",
    "resolve_fence",
]

DEFAULT_MANIFEST = Path(__file__).parent / "k8s" / "deployment.yaml"

POD_NAME_FIELD = "metadata.name"


class ManifestError(ValueError):
    """The manifest is not valid, or asks for something that this controller does not do. Names the field."""


@frozen
class Probe:
    """An HTTP probe. Times in seconds, thresholds in consecutive results."""

    path: str
    port: int
    initial_delay: float = 0
    period: float = 10
    timeout: float = 1
    success_threshold: int = 1
    failure_threshold: int = 3


@frozen
class Hook:
    """A preStop hook: a command, or else a sleep of so many seconds."""

    command: tuple[str, ...] = ()
    sleep: float = 0


@frozen
class PodTemplate:
    """What a pod is made from. Two equal templates are the same version of the deployment.

    ``env`` holds plain values; ``env_fields`` maps variables to fields of the pod (only ``metadata.name``).
    ``mounts`` are the mount paths of the container's volumes. ``grace`` is ``terminationGracePeriodSeconds``.
    """

    command: tuple[str, ...]
    env: Mapping[str, str] = field(factory=dict[str, str])
    env_fields: Mapping[str, str] = field(factory=dict[str, str])
    labels: Mapping[str, str] = field(factory=dict[str, str])
    mounts: tuple[str, ...] = ()
    port: int = 0
    readiness: Probe | None = None
    liveness: Probe | None = None
    pre_stop: Hook | None = None
    grace: float = 30

    @property
    def version(self) -> str:
        """The version label of the pod, or the variable ``VERSION``, or nothing."""
        return self.labels.get("app.kubernetes.io/version", self.env.get("VERSION", ""))


@frozen
class Deployment:
    """The deployment as it should be."""

    name: str
    replicas: int
    max_surge: int
    max_unavailable: int
    min_ready: float
    template: PodTemplate

    def with_template(self, *, grace: float | None = None, **env: str) -> Deployment:
        """The same deployment with some variables of its template set anew, and perhaps another grace period.

        ``VERSION`` also sets the version label. A preStop hook that the new grace period has no room for is
        left out.
        """
        template = self.template
        labels = {**template.labels}
        if "VERSION" in env:
            labels["app.kubernetes.io/version"] = env["VERSION"]
        template = evolve(template, env={**template.env, **env}, labels=labels)
        if grace is not None:
            keep = grace > 1 or template.pre_stop is None
            template = evolve(template, grace=grace, pre_stop=template.pre_stop if keep else None)
        return evolve(self, template=template)


def resolve_fence(replicas: int, max_surge: int | str, max_unavailable: int | str) -> tuple[int, int]:
    """``maxSurge`` and ``maxUnavailable`` as numbers of pods.

    Percentages are of ``replicas``; the surge is rounded up, the unavailable down. When both come to zero by
    rounding, one pod may be unavailable, since otherwise nothing could ever move. Raises
    :class:`ManifestError` for anything that is neither a whole number nor a percentage, and when both are
    zero as given.
    """
    surge_is_zero, surge = _share(replicas, max_surge, "maxSurge", up=True)
    unavailable_is_zero, unavailable = _share(replicas, max_unavailable, "maxUnavailable", up=False)
    if surge_is_zero and unavailable_is_zero:
        raise ManifestError("maxSurge and maxUnavailable must not both be zero")
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, unavailable


def _share(replicas: int, value: int | str, name: str, *, up: bool) -> tuple[bool, int]:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value == 0, value
    if isinstance(value, str) and value.endswith("%") and value[:-1].isdecimal():
        percent = int(value[:-1])
        if up or percent <= 100:
            return percent == 0, (replicas * percent + (99 if up else 0)) // 100
    allowed = "a whole number or a percentage" + ("" if up else " up to 100%")
    raise ManifestError(f"{name} must be {allowed}, not {value!r}")


def load(path: str | os.PathLike[str] = DEFAULT_MANIFEST) -> Deployment:
    """Read the one Deployment in the file; other documents in it are left alone.

    Raises ``OSError`` when the file cannot be read and :class:`ManifestError` when it is not what it should
    be.
    """
    text = Path(path).read_text(encoding="utf-8")
    try:
        documents: list[Any] = list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        raise ManifestError(f"{os.fspath(path)} is not YAML: {error}") from error
    found: list[Mapping[str, Any]] = [each for each in documents if _is_deployment(each)]
    if len(found) != 1:
        raise ManifestError(f"{os.fspath(path)} must hold one apps/v1 Deployment, and holds {len(found)}")
    return _deployment(found[0])


def _is_deployment(document: Any) -> bool:
    if not isinstance(document, Mapping):
        return False
    known = cast("Mapping[str, Any]", document)
    return known.get("kind") == "Deployment" and known.get("apiVersion") == "apps/v1"


def _deployment(document: Mapping[str, Any]) -> Deployment:
    spec = _mapping(document, "spec")
    replicas = _number(spec, "replicas", 1, whole=True)
    strategy = _mapping(spec, "strategy", default={})
    kind = strategy.get("type", "RollingUpdate")
    if kind != "RollingUpdate":
        raise ManifestError(f"strategy.type must be RollingUpdate, not {kind!r}")
    rolling = _mapping(strategy, "rollingUpdate", default={})
    surge, unavailable = resolve_fence(
        int(replicas), rolling.get("maxSurge", "25%"), rolling.get("maxUnavailable", "25%")
    )
    template = _mapping(spec, "template")
    labels = {str(key): str(value) for key, value in _mapping(_mapping(template, "metadata"), "labels").items()}
    selector = _mapping(_mapping(spec, "selector"), "matchLabels")
    if any(labels.get(key) != value for key, value in selector.items()):
        raise ManifestError(f"selector.matchLabels {selector!r} must match the labels of the template, {labels!r}")
    return Deployment(
        name=str(_mapping(document, "metadata").get("name", "deployment")),
        replicas=int(replicas),
        max_surge=surge,
        max_unavailable=unavailable,
        min_ready=_number(spec, "minReadySeconds", 0),
        template=_template(_mapping(template, "spec"), labels),
    )


def _template(spec: Mapping[str, Any], labels: Mapping[str, str]) -> PodTemplate:
    restart = spec.get("restartPolicy", "Always")
    if restart != "Always":
        raise ManifestError(f"restartPolicy must be Always, not {restart!r}")
    containers: Any = spec.get("containers")
    found = cast("list[object]", containers) if isinstance(containers, list) else []
    if len(found) != 1 or not isinstance(found[0], Mapping):
        raise ManifestError("containers must be a list of exactly one container")
    container = cast("Mapping[str, Any]", found[0])
    command = [str(word) for key in ("command", "args") for word in container.get(key) or ()]
    if not command:
        raise ManifestError("the container must have a command")
    ports = {str(port.get("name", "")): int(port["containerPort"]) for port in container.get("ports") or ()}
    env, env_fields = _env(container)
    return PodTemplate(
        command=tuple(command),
        env=env,
        env_fields=env_fields,
        labels=labels,
        mounts=tuple(str(mount["mountPath"]) for mount in container.get("volumeMounts") or ()),
        port=next(iter(ports.values()), 0),
        readiness=_probe(container, "readinessProbe", ports),
        liveness=_probe(container, "livenessProbe", ports),
        pre_stop=_hook(_mapping(container, "lifecycle", default={})),
        grace=_number(spec, "terminationGracePeriodSeconds", 30),
    )


def _env(container: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    env: dict[str, str] = {}
    env_fields: dict[str, str] = {}
    for variable in container.get("env") or ():
        name = str(variable["name"])
        if "valueFrom" in variable:
            path = variable["valueFrom"].get("fieldRef", {}).get("fieldPath")
            if path != POD_NAME_FIELD:
                raise ManifestError(f"env {name}: valueFrom must be a fieldRef to {POD_NAME_FIELD}")
            env_fields[name] = path
        else:
            value = variable.get("value", "")
            if not isinstance(value, str):
                raise ManifestError(f"env {name}: the value must be a string, not {value!r}; put it in quotes")
            env[name] = value
    return env, env_fields


def _probe(container: Mapping[str, Any], name: str, ports: Mapping[str, int]) -> Probe | None:
    spec = container.get(name)
    if spec is None:
        return None
    if "httpGet" not in spec:
        raise ManifestError(f"{name} must be an httpGet probe")
    get = spec["httpGet"]
    port = get.get("port")
    number = ports.get(port) if isinstance(port, str) else port
    if not isinstance(number, int):
        raise ManifestError(f"{name}.httpGet.port must be a number or the name of a port, not {port!r}")
    success = int(_number(spec, "successThreshold", 1, least=1, whole=True))
    if name == "livenessProbe" and success != 1:
        raise ManifestError("livenessProbe.successThreshold must be 1")
    return Probe(
        path=str(get.get("path", "/")),
        port=number,
        initial_delay=_number(spec, "initialDelaySeconds", 0),
        period=_number(spec, "periodSeconds", 10, least=1),
        timeout=_number(spec, "timeoutSeconds", 1, least=1),
        success_threshold=success,
        failure_threshold=int(_number(spec, "failureThreshold", 3, least=1, whole=True)),
    )


def _hook(lifecycle: Mapping[str, Any]) -> Hook | None:
    spec = lifecycle.get("preStop")
    if spec is None:
        return None
    if "exec" in spec:
        return Hook(command=tuple(str(word) for word in spec["exec"]["command"]))
    if "sleep" in spec:
        return Hook(sleep=_number(spec["sleep"], "seconds", 0))
    raise ManifestError("preStop must be exec or sleep")


def _mapping(parent: Mapping[str, Any], name: str, default: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    value: Any = parent.get(name, default)
    if not isinstance(value, Mapping):
        raise ManifestError(f"{name} must be a mapping, not {value!r}")
    return cast("Mapping[str, Any]", value)


def _number(parent: Mapping[str, Any], name: str, default: float, *, least: float = 0, whole: bool = False) -> float:
    value = parent.get(name, default)
    fits = isinstance(value, int) or (isinstance(value, float) and not whole)
    if not fits or isinstance(value, bool) or value < least:
        raise ManifestError(f"{name} must be a number of at least {least}, not {value!r}")
    return float(value)
