"""deploy/kubernetes as kustomize renders it: valid, with settings, probes, ports and times that the service has."""

from __future__ import annotations

import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from inferer import ModelInferer
from service.app import create_app
from service.settings import Settings
from tests.support import manifests
from tests.support.manifests import FOLDERS, KUBERNETES, KUSTOMIZATIONS, NAME, OVERLAYS, Manifest
from tests.support.server import ROOT

# The newest Kubernetes with published schemas, and one from three years before.
VERSIONS = [".".join(kubernetes_validate.latest_version().split(".")[:2]), "1.29"]
# Removed or deprecated in kustomize 5.
DEPRECATED = {"bases", "commonLabels", "patchesJson6902", "patchesStrategicMerge", "vars", "imageTags"}


def test_all_that_an_operator_needs_is_rendered() -> None:
    """The base has each kind of object, and production the namespace too."""
    kinds = {document["kind"] for document in manifests.rendered("base")}
    assert kinds == {
        "ConfigMap", "Deployment", "HorizontalPodAutoscaler", "NetworkPolicy", "PodDisruptionBudget", "Service",
        "ServiceAccount",
    }  # fmt: skip
    assert {document["kind"] for document in manifests.rendered("overlays/production")} == {*kinds, "Namespace"}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("folder", FOLDERS)
def test_every_object_is_valid(folder: str, version: str) -> None:
    """Each rendered object has only fields that this version of Kubernetes knows, with values of their types."""
    for document in manifests.rendered(folder):
        assert kubernetes_validate.validate(document, version, strict=True) == version


@pytest.mark.parametrize("folder", FOLDERS)
def test_kustomize_has_nothing_to_say(folder: str) -> None:
    """Rendering gives no warning."""
    assert manifests.built(folder).stderr == ""


@pytest.mark.parametrize("file", KUSTOMIZATIONS, ids=lambda file: file.parent.name)
def test_kustomizations_have_no_deprecated_field(file: Path) -> None:
    """No kustomization has a field that kustomize 5 deprecates."""
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert set(content).isdisjoint(DEPRECATED)


def test_no_file_is_left_out() -> None:
    """Every file beside a kustomization is named in it."""
    for file in KUSTOMIZATIONS:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        named = {*content["resources"], *(patch["path"] for patch in content.get("patches", []))}
        beside = {other.name for other in file.parent.glob("*.yaml")} - {file.name}
        assert {name for name in named if name.endswith(".yaml")} == beside
    assert {file.parent.parent for file in KUSTOMIZATIONS} == {KUBERNETES, KUBERNETES / "overlays"}


@pytest.mark.parametrize("folder", FOLDERS)
def test_settings_are_the_services(folder: str) -> None:
    """The service accepts the environment of a pod, and serves the image's folder on the image's port to all."""
    settings = manifests.settings_of(folder)
    assert settings.model_name
    assert settings.bundle == Path(manifests.image_env()["INFERER_BUNDLE"])
    assert (settings.host, settings.port) == ("0.0.0.0", 8080)


@pytest.mark.parametrize("folder", FOLDERS)
def test_keys_come_from_a_secret_that_may_be_absent(folder: str) -> None:
    """The API keys come from an optional Secret, and stand nowhere in the files."""
    (keys,) = [variable for variable in manifests.container_of(folder)["env"] if "valueFrom" in variable]
    assert keys["name"] == "INFERER_API_KEYS"
    assert keys["valueFrom"]["secretKeyRef"]["optional"] is True
    assert "INFERER_API_KEYS" not in manifests.env_of(folder)
    assert "Secret" not in {document["kind"] for document in manifests.rendered(folder)}


@pytest.mark.parametrize("folder", FOLDERS)
def test_probes_ask_routes_that_need_no_key(folder: str, model: ModelInferer, tiny_bundle: Path) -> None:
    """Startup and readiness probe /health/ready, liveness /health/live, and both give 200 without a key."""
    client = create_app(Settings(bundle=tiny_bundle, api_keys=("secret",)), model).test_client()
    assert client.get("/info").status_code == 401
    container = manifests.container_of(folder)
    probes = {name: container[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startupProbe": "/health/ready",
        "readinessProbe": "/health/ready",
        "livenessProbe": "/health/live",
    }
    for probe in probes.values():
        assert client.get(probe["path"]).status_code == 200
        assert probe["port"] == container["ports"][0]["name"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_starting_may_take_a_while(folder: str) -> None:
    """The startup probe waits at least a minute for the model, and less than a rollout may take."""
    probe = manifests.container_of(folder)["startupProbe"]
    patience_s = probe["periodSeconds"] * probe["failureThreshold"]
    assert 60 <= patience_s < manifests.one(folder, "Deployment")["spec"]["progressDeadlineSeconds"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_ports_are_one(folder: str) -> None:
    """The image, the container, the Service, the NetworkPolicy and the scrape mean the same port."""
    port = int(manifests.image_env()["PORT"])
    assert f"EXPOSE {port}\n" in manifests.serving_stage()
    (of_container,) = manifests.container_of(folder)["ports"]
    assert of_container["containerPort"] == port
    (of_service,) = manifests.one(folder, "Service")["spec"]["ports"]
    assert of_service["targetPort"] == of_container["name"]
    (rule,) = manifests.one(folder, "NetworkPolicy")["spec"]["ingress"]
    assert [allowed["port"] for allowed in rule["ports"]] == [port]
    annotations = manifests.pod_of(folder)["metadata"]["annotations"]
    assert annotations == {
        "prometheus.io/scrape": "true", "prometheus.io/port": str(port), "prometheus.io/path": "/metrics",
    }  # fmt: skip


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_stop_has_time(folder: str) -> None:
    """A pod that stops has time for preStop's pause and then for gunicorn's graceful timeout."""
    command = manifests.container_of(folder)["lifecycle"]["preStop"]["exec"]["command"]
    assert command[0] == "sleep"
    grace_s = manifests.pod_of(folder)["spec"]["terminationGracePeriodSeconds"]
    assert int(command[1]) >= 5
    assert grace_s > int(command[1]) + manifests.graceful_timeout()


@pytest.mark.parametrize("folder", FOLDERS)
def test_cpus_are_whole_and_its_own(folder: str) -> None:
    """A pod has a whole number of CPUs, from 1, requested and limited alike, and its memory too."""
    resources = manifests.container_of(folder)["resources"]
    assert resources["requests"] == resources["limits"]
    assert int(resources["limits"]["cpu"]) >= 1
    assert resources["limits"]["memory"].endswith("Gi")


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_rollout_takes_no_pod_before_another_is_ready(folder: str) -> None:
    """A rollout starts a new pod first, and older revisions remain for a rollback."""
    spec = manifests.one(folder, "Deployment")["spec"]
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    assert spec["revisionHistoryLimit"] >= 2


@pytest.mark.parametrize("folder", FOLDERS)
def test_selectors_find_the_pods(folder: str) -> None:
    """Deployment, Service, budget, policy and spread all select by the label that the pods have."""
    pod = manifests.pod_of(folder)
    assert NAME.items() <= pod["metadata"]["labels"].items()
    assert manifests.one(folder, "Deployment")["spec"]["selector"]["matchLabels"] == NAME
    assert manifests.one(folder, "Service")["spec"]["selector"] == NAME
    assert manifests.one(folder, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == NAME
    assert manifests.one(folder, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == NAME
    spread = pod["spec"]["topologySpreadConstraints"]
    assert [rule["topologyKey"] for rule in spread] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    assert all(rule["labelSelector"]["matchLabels"] == NAME for rule in spread)


@pytest.mark.parametrize("folder", OVERLAYS)
def test_overlays_name_an_image_that_stays(folder: str) -> None:
    """An overlay names the repository and a tag other than latest."""
    repository, _, tag = manifests.container_of(folder)["image"].rpartition(":")
    assert "/" in repository
    assert tag not in {"", "latest"}


@pytest.mark.parametrize("folder", OVERLAYS)
def test_overlays_are_in_a_namespace_of_their_own(folder: str) -> None:
    """Every object of an overlay is in the overlay's own namespace."""
    namespace = manifests.one(folder, "Namespace")["metadata"]["name"]
    others = [document for document in manifests.rendered(folder) if document["kind"] != "Namespace"]
    assert {document["metadata"]["namespace"] for document in others} == {namespace}


def mounts(container: Manifest) -> dict[str, Manifest]:
    """Return a container's mounts by their paths."""
    return {mount["mountPath"]: mount for mount in container["volumeMounts"]}


def test_the_bundle_volume_is_a_version_mounted_read_only() -> None:
    """With bundle-volume the image's bundle folder is a versioned folder of the claim, read-only all the way."""
    folder = "overlays/bundle-volume"
    mount = mounts(manifests.container_of(folder))[manifests.image_env()["INFERER_BUNDLE"]]
    assert mount["readOnly"] is True
    assert mount["subPath"][-1].isdigit()
    volumes = {volume["name"]: volume for volume in manifests.pod_of(folder)["spec"]["volumes"]}
    claim = volumes[mount["name"]]["persistentVolumeClaim"]
    assert claim["readOnly"] is True
    assert claim["claimName"] == manifests.one(folder, "PersistentVolumeClaim")["metadata"]["name"]


def test_production_serves_the_model_in_the_image() -> None:
    """Without bundle-volume nothing is mounted over the image's bundle."""
    for folder in ("base", "overlays/production"):
        assert set(mounts(manifests.container_of(folder))) == {"/tmp"}  # noqa: S108 - the container's


def test_the_default_cap_is_the_one_written_down() -> None:
    """The in-flight cap of the manifests is the service's default, as alerts.yml and the dashboard expect."""
    assert manifests.settings_of("base").max_in_flight == Settings().max_in_flight
    assert "> 0.8 * 64" in (ROOT / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8")


def test_the_guide_names_files_and_values_that_there_are() -> None:
    """Every file that deploy/README.md names exists, and its commands use the overlays' names."""
    guide = (ROOT / "deploy" / "README.md").read_text(encoding="utf-8")
    named = r"(?<![\w/.-])(?:deploy/)?((?:kubernetes|kserve|prometheus|grafana|base|overlays)/[\w./-]*\w)"
    for path in re.findall(named, guide):
        assert any((folder / path).exists() for folder in (ROOT / "deploy", KUBERNETES)), path
    namespace = manifests.one("overlays/production", "Namespace")["metadata"]["name"]
    assert set(re.findall(r"kubectl -n (\w+) (?:rollout|create|port)", guide)) == {namespace}
    assert manifests.container_of("overlays/production")["image"] in guide
    keys = manifests.container_of("overlays/production")["env"][0]["valueFrom"]["secretKeyRef"]
    assert f"create secret generic {keys['name']} --from-literal={keys['key']}=" in guide
