"""The number of pods: the autoscaler, its metric and the source of it, the disruption budget."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.support import manifests
from tests.support.manifests import FOLDERS, Manifest
from tests.support.metrics import NAMES

ADAPTER: Manifest = manifests.read_yaml("deploy/kubernetes/prometheus-adapter.yaml")
PROMETHEUS: Manifest = manifests.read_yaml("deploy/prometheus/kubernetes.yml")


def metrics(folder: str) -> dict[str, Manifest]:
    """Return the autoscaler's metrics: CPU, and the metric of the pods."""
    by_type = {metric["type"]: metric for metric in manifests.one(folder, "HorizontalPodAutoscaler")["spec"]["metrics"]}
    assert set(by_type) == {"Resource", "Pods"}
    return by_type


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_autoscaler_scales_the_deployment(folder: str) -> None:
    """The autoscaler's target is the Deployment, which leaves the number of pods to it."""
    deployment, spec = manifests.one(folder, "Deployment"), manifests.one(folder, "HorizontalPodAutoscaler")["spec"]
    assert spec["scaleTargetRef"] == {
        "apiVersion": deployment["apiVersion"], "kind": "Deployment", "name": deployment["metadata"]["name"],
    }  # fmt: skip
    assert "replicas" not in deployment["spec"]
    assert 2 <= spec["minReplicas"] < spec["maxReplicas"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_autoscaler_asks_for_cpu_and_an_exported_metric(folder: str) -> None:
    """CPU is a share of the request, and the metric of the pods is one that the service exports."""
    by_type = metrics(folder)
    assert by_type["Resource"]["resource"]["name"] == "cpu"
    assert 0 < by_type["Resource"]["resource"]["target"]["averageUtilization"] < 100
    assert by_type["Pods"]["pods"]["metric"]["name"] in NAMES


@pytest.mark.parametrize("folder", FOLDERS)
def test_pods_are_added_before_requests_are_refused(folder: str) -> None:
    """The wanted number of requests in flight is at most half of the cap, so scaling starts before the first 429."""
    settings = manifests.settings_of(folder)
    target = metrics(folder)["Pods"]["pods"]["target"]
    assert target["type"] == "AverageValue"
    assert 0 < int(target["averageValue"]) <= settings.max_in_flight * settings.worker_count / 2


@pytest.mark.parametrize("folder", FOLDERS)
def test_pods_are_added_fast_and_taken_away_slowly(folder: str) -> None:
    """Pods are added at once, and removed one at a time after minutes of lower load."""
    behavior = manifests.one(folder, "HorizontalPodAutoscaler")["spec"]["behavior"]
    assert behavior["scaleUp"]["stabilizationWindowSeconds"] == 0
    assert behavior["scaleUp"]["selectPolicy"] == "Max"
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] >= 120
    assert behavior["scaleDown"]["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 60}]


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_node_can_be_drained(folder: str) -> None:
    """At the minimum of pods the budget allows one eviction and keeps at least one pod."""
    fewest = manifests.one(folder, "HorizontalPodAutoscaler")["spec"]["minReplicas"]
    budget = manifests.one(folder, "PodDisruptionBudget")["spec"]
    assert isinstance(budget["maxUnavailable"], int)
    assert 1 <= budget["maxUnavailable"] < fewest


def test_the_adapter_serves_the_metric_that_the_autoscaler_wants() -> None:
    """The adapter's only rule finds the metric, keeps its name, and gives it to namespaces' pods."""
    wanted = metrics("base")["Pods"]["pods"]["metric"]["name"]
    (rule,) = ADAPTER["rules"]["custom"]
    assert re.match(r"\w+", rule["seriesQuery"])[0] == wanted  # type: ignore[index]
    assert re.fullmatch(rule["name"]["matches"], wanted)
    assert rule["name"]["as"] == wanted
    assert rule["resources"]["overrides"] == {"namespace": {"resource": "namespace"}, "pod": {"resource": "pod"}}
    for part in ("<<.Series>>", "<<.LabelMatchers>>", "by (<<.GroupBy>>)"):
        assert part in rule["metricsQuery"]


def relabelled(labels: dict[str, str]) -> dict[str, str] | None:
    """Return the labels that Prometheus gives a pod's series; None where it does not scrape it."""
    (scrape,) = PROMETHEUS["scrape_configs"]
    given: dict[str, str] = {}
    for rule in scrape["relabel_configs"]:
        value = ";".join(labels.get(name, "") for name in rule["source_labels"])
        matches = re.fullmatch(rule.get("regex", ".*"), value) is not None
        action = rule.get("action", "replace")
        assert action in {"keep", "drop", "replace"}
        if (action == "keep" and not matches) or (action == "drop" and matches):
            return None
        if action == "replace":
            given[rule["target_label"]] = value
    return given


def discovered(**changed: str) -> dict[str, str]:
    """Return the targets that Prometheus sees for a pod of the base, with changes."""
    pod, container = manifests.pod_of("base"), manifests.container_of("base")
    labels = {re.sub(r"[^a-zA-Z0-9_]", "_", name): value for name, value in pod["metadata"]["labels"].items()}
    seen = {
        **{f"label_{name}": value for name, value in labels.items()},
        "container_port_name": container["ports"][0]["name"],
        "phase": "Running",
        "name": "inferer-1",
    }
    return {
        "__meta_kubernetes_namespace": "inferer",
        **{f"__meta_kubernetes_pod_{name}": value for name, value in {**seen, **changed}.items()},
    }


def test_prometheus_finds_the_pods_and_names_them_as_the_adapter_asks() -> None:
    """Prometheus scrapes the base's pods, under the alerts' job, with just the labels that the adapter's rule maps."""
    (rule,) = ADAPTER["rules"]["custom"]
    given = relabelled(discovered())
    assert given == {"namespace": "inferer", "pod": "inferer-1"}
    assert set(given) == set(rule["resources"]["overrides"])
    (scrape,) = PROMETHEUS["scrape_configs"]
    assert (scrape["job_name"], scrape["metrics_path"]) == ("inferer", "/metrics")
    assert PROMETHEUS["rule_files"] == ["alerts.yml"]


@pytest.mark.parametrize(
    "changed",
    [{"phase": "Succeeded"}, {"container_port_name": "other"}, {"label_app_kubernetes_io_name": "another"}],
)
def test_prometheus_leaves_other_pods_alone(changed: dict[str, Any]) -> None:
    """Pods of others, other ports and pods that have ended are not scraped."""
    assert relabelled(discovered(**changed)) is None
