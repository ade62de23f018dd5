"""Security of the pods: Pod Security's `restricted`, rule by rule, and the NetworkPolicy."""

from __future__ import annotations

import re

import pytest

from tests.support import manifests
from tests.support.manifests import FOLDERS, OVERLAYS, Manifest

# Pod Security Standards, "restricted": the kinds of volumes that a pod may have.
VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip
KSERVE = ["deploy/kserve/inferenceservice.yaml", "deploy/kserve/servingruntime.yaml"]


PODS = [*FOLDERS, *KSERVE]


def pod_spec(source: str) -> Manifest:
    """Return a pod that deploy/ describes: of a rendered folder, of an InferenceService or of a ServingRuntime."""
    if source in FOLDERS:
        return dict(manifests.pod_of(source)["spec"])
    spec: Manifest = manifests.read_yaml(source)["spec"]
    return dict(spec.get("predictor", spec))


def faults(spec: Manifest) -> list[str]:
    """Return the rules of `restricted` that a pod breaks; on the pod or on the container, as Kubernetes reads it."""
    pod = spec.get("securityContext", {})
    found = [name for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    found += [f"volume {volume}" for volume in spec.get("volumes", []) if not VOLUMES & set(volume)]
    found += [name for name in ("sysctls", "windowsOptions", "seLinuxOptions", "appArmorProfile") if name in pod]
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        own = container.get("securityContext", {})
        effective = {**pod, **own}
        rules = {
            "runAsNonRoot": effective.get("runAsNonRoot") is True,
            "runAsUser": effective.get("runAsUser", 0) != 0,
            "seccompProfile": effective.get("seccompProfile", {}).get("type") in {"RuntimeDefault", "Localhost"},
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
            "capabilities": own.get("capabilities") == {"drop": ["ALL"]},
            "privileged": not own.get("privileged"),
            "procMount": "procMount" not in own,
            "hostPort": not any("hostPort" in port for port in container.get("ports", [])),
        }
        found += [rule for rule, kept in rules.items() if not kept]
    return found


@pytest.mark.parametrize("source", PODS)
def test_pods_keep_every_rule_of_restricted(source: str) -> None:
    """Each pod of deploy/ keeps all rules of Pod Security's `restricted`, as the image's user."""
    spec = pod_spec(source)
    assert faults(spec) == []
    contexts = [spec.get("securityContext", {}), *(one["securityContext"] for one in spec["containers"])]
    assert {context["runAsUser"] for context in contexts if "runAsUser" in context} == {manifests.image_user()}


@pytest.mark.parametrize(
    "without", ["runAsNonRoot", "runAsUser", "seccompProfile", "allowPrivilegeEscalation", "capabilities"]
)
def test_the_rules_find_what_is_missing(without: str) -> None:
    """A pod that lacks one part of its security context is found to break just that rule."""
    spec = pod_spec(KSERVE[0])
    del spec["containers"][0]["securityContext"][without]
    assert faults(spec) == [without]


@pytest.mark.parametrize("source", PODS)
def test_pods_can_write_nothing_but_tmp(source: str) -> None:
    """The root is read-only, and only the image's HOME is writable: a small emptyDir in memory."""
    spec = pod_spec(source)
    (container,) = spec["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    writable = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert set(writable) == {manifests.image_env()["HOME"]}
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    for name in writable.values():
        assert volumes[name]["emptyDir"]["medium"] == "Memory"
        assert re.fullmatch(r"\d+Mi", volumes[name]["emptyDir"]["sizeLimit"])


@pytest.mark.parametrize("folder", FOLDERS)
def test_pods_hold_no_token_and_no_names_of_services(folder: str) -> None:
    """The ServiceAccount is the pod's own, without a token, and no Service is in the environment."""
    account, spec = manifests.one(folder, "ServiceAccount"), manifests.pod_of(folder)["spec"]
    assert spec["serviceAccountName"] == account["metadata"]["name"]
    assert account["automountServiceAccountToken"] is False
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False


@pytest.mark.parametrize("folder", FOLDERS)
def test_pods_call_nobody(folder: str) -> None:
    """The NetworkPolicy governs both directions and allows no egress."""
    spec = manifests.one(folder, "NetworkPolicy")["spec"]
    assert set(spec["policyTypes"]) == {"Ingress", "Egress"}
    assert not spec.get("egress")


@pytest.mark.parametrize("folder", FOLDERS)
def test_only_labelled_callers_and_monitoring_come_in(folder: str) -> None:
    """Labelled pods, labelled namespaces and the monitoring namespace are let in, and no others."""
    (rule,) = manifests.one(folder, "NetworkPolicy")["spec"]["ingress"]
    label = {"inferer-client": "true"}
    assert rule["from"] == [
        {"podSelector": {"matchLabels": label}},
        {"namespaceSelector": {"matchLabels": label}},
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}},
    ]
    assert [port["protocol"] for port in rule["ports"]] == ["TCP"]


@pytest.mark.parametrize("folder", OVERLAYS)
def test_namespaces_enforce_restricted(folder: str) -> None:
    """The namespace refuses pods that break `restricted`."""
    labels = manifests.one(folder, "Namespace")["metadata"]["labels"]
    assert {name: labels[f"pod-security.kubernetes.io/{name}"] for name in ("enforce", "warn", "audit")} == {
        "enforce": "restricted", "warn": "restricted", "audit": "restricted",
    }  # fmt: skip
