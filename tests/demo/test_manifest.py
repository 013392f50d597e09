"""The manifest: what of it the controller takes, and what it refuses."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from examples.rolling_deploy.manifest import (
    DEFAULT_MANIFEST,
    Hook,
    ManifestError,
    Probe,
    load,
    resolve_fence,
)


@pytest.fixture
def document() -> dict[str, Any]:
    return next(yaml.safe_load_all(DEFAULT_MANIFEST.read_text()))


@pytest.fixture
def reload(tmp_path):
    def write_and_load(document):
        path = tmp_path / "deployment.yaml"
        path.write_text(yaml.safe_dump(document))
        return load(path)

    return write_and_load


def test_the_manifest_of_the_demo():
    deployment = load()
    assert (deployment.name, deployment.replicas) == ("analysis", 3)
    assert (deployment.max_surge, deployment.max_unavailable, deployment.min_ready) == (1, 0, 1)
    template = deployment.template
    assert template.command == ("python", "-m", "examples.rolling_deploy.pod")
    assert template.env["SCHEMA"] == "1"
    assert template.env_fields == {"POD_NAME": "metadata.name"}
    assert template.version == "1"
    assert template.readiness == Probe("/readyz", 8080, 0, 1, 1, 1, 3)
    assert template.liveness == Probe("/livez", 8080, 5, 2, 1, 1, 5)
    assert template.pre_stop == Hook(command=("sleep", "0.2"))
    assert template.grace == 30
    assert float(template.env["DRAIN_SECONDS"]) < template.grace


def test_it_has_what_kubernetes_demands(document):
    """A few of the rules by which an API server would refuse it."""
    spec = document["spec"]
    template = spec["template"]
    assert spec["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert "app.kubernetes.io/version" not in spec["selector"]["matchLabels"]
    container = template["spec"]["containers"][0]
    volumes = {volume["name"] for volume in template["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    assert all(isinstance(variable.get("value", ""), str) for variable in container["env"])
    for value in (template["metadata"]["labels"] | document["metadata"]["labels"]).values():
        assert isinstance(value, str)
    for probe in ("readinessProbe", "livenessProbe"):
        numbers = {key: value for key, value in container[probe].items() if key != "httpGet"}
        assert all(isinstance(value, int) for value in numbers.values())
    affinity = template["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert affinity[0]["labelSelector"]["matchLabels"] == spec["selector"]["matchLabels"]
    claims = [each for each in yaml.safe_load_all(DEFAULT_MANIFEST.read_text()) if "Claim" in each["kind"]]
    assert claims[0]["metadata"]["name"] == template["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"]


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "expected"),
    [
        (3, 1, 0, (1, 0)),
        (3, "25%", "25%", (1, 0)),
        (4, "25%", "25%", (1, 1)),
        (10, "25%", "25%", (3, 2)),
        (3, "100%", "100%", (3, 3)),
        (3, "0%", 1, (0, 1)),
        (3, 0, "25%", (0, 1)),
        (0, "25%", "25%", (0, 1)),
        (3, "200%", 0, (6, 0)),
    ],
)
def test_surge_is_rounded_up_and_unavailable_down(replicas, surge, unavailable, expected):
    assert resolve_fence(replicas, surge, unavailable) == expected


@pytest.mark.parametrize(
    ("surge", "unavailable", "message"),
    [
        (0, 0, "both be zero"),
        ("0%", 0, "both be zero"),
        (-1, 1, "maxSurge must be .* not -1"),
        ("half", 1, "maxSurge must be .* not 'half'"),
        (True, 1, "maxSurge"),
        (1.5, 1, "maxSurge"),
        (1, "101%", "maxUnavailable must be .* up to 100%, not '101%'"),
    ],
)
def test_limits_that_make_no_sense_are_refused(surge, unavailable, message):
    with pytest.raises(ManifestError, match=message):
        resolve_fence(3, surge, unavailable)


def test_defaults_are_those_of_kubernetes(document, reload):
    spec = document["spec"]
    del spec["strategy"], spec["replicas"], spec["minReadySeconds"]
    pod = spec["template"]["spec"]
    del pod["terminationGracePeriodSeconds"], pod["containers"][0]["lifecycle"]
    pod["containers"][0]["readinessProbe"] = {"httpGet": {"path": "/ok", "port": 81}}
    deployment = reload(document)
    assert (deployment.replicas, deployment.max_surge, deployment.max_unavailable) == (1, 1, 0)
    assert deployment.min_ready == 0
    assert deployment.template.grace == 30
    assert deployment.template.pre_stop is None
    assert deployment.template.readiness == Probe("/ok", 81, 0, 10, 1, 1, 3)


def test_command_and_args_are_one_command_line(document, reload):
    container = document["spec"]["template"]["spec"]["containers"][0]
    container["command"], container["args"] = ["python"], ["-m", "thing"]
    assert reload(document).template.command == ("python", "-m", "thing")


REFUSED = [
    (("spec", "strategy", "type"), "Recreate", "RollingUpdate, not 'Recreate'"),
    (("spec", "replicas"), -1, "replicas must be .* not -1"),
    (("spec", "replicas"), "three", "replicas must be .* not 'three'"),
    (("spec", "selector", "matchLabels"), {"a": "b"}, "matchLabels"),
    (("spec", "template", "spec", "restartPolicy"), "Never", "restartPolicy must be Always"),
    (("spec", "template", "spec", "containers"), [], "exactly one container"),
    (("spec", "template", "spec", "containers", 0, "command"), [], "command"),
    (("spec", "template", "spec", "containers", 0, "env"), [{"name": "A", "value": 1}], "env A: .* quotes"),
    (
        ("spec", "template", "spec", "containers", 0, "env"),
        [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
        "env A: valueFrom must be a fieldRef",
    ),
    (
        ("spec", "template", "spec", "containers", 0, "readinessProbe"),
        {"exec": {"command": ["true"]}},
        "readinessProbe must be an httpGet",
    ),
    (("spec", "template", "spec", "containers", 0, "readinessProbe", "periodSeconds"), 0, "periodSeconds"),
    (("spec", "template", "spec", "containers", 0, "livenessProbe", "successThreshold"), 2, "must be 1"),
    (("spec", "template", "spec", "containers", 0, "readinessProbe", "httpGet", "port"), "web", "'web'"),
    (("spec", "template", "spec", "containers", 0, "lifecycle", "preStop"), {"tcp": {}}, "exec or sleep"),
    (("spec", "template", "spec", "terminationGracePeriodSeconds"), -1, "terminationGracePeriodSeconds"),
    (("kind",), "StatefulSet", "holds 0"),
]


@pytest.mark.parametrize(("path", "value", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_the_controller_cannot_do_is_refused(document, reload, path, value, message):
    changed: Any = copy.deepcopy(document)
    target = changed
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    with pytest.raises(ManifestError, match=message):
        reload(changed)


def test_a_broken_file_is_named(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("a: [")
    with pytest.raises(ManifestError, match=r"broken\.yaml is not YAML"):
        load(path)


def test_a_new_template_differs_and_an_equal_one_does_not():
    first = load()
    second = first.with_template(VERSION="2", SCHEMA="2")
    assert second.template != first.template
    assert (second.template.version, second.template.env["SCHEMA"]) == ("2", "2")
    assert second.with_template(VERSION="1", SCHEMA="1") == first


def test_a_short_grace_has_no_room_for_the_hook():
    short = load().with_template(grace=0.5, DRAIN_SECONDS="0.3")
    assert (short.template.grace, short.template.pre_stop) == (0.5, None)
    assert load().with_template(grace=10).template.pre_stop is not None
