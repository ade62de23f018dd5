"""deploy/kserve: the shape of KServe's objects, and the service's settings in them, without a cluster."""

from __future__ import annotations

from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from inferer import ModelInferer
from service.app import create_app
from service.settings import Settings, from_env
from tests.support import manifests
from tests.support.manifests import Manifest
from tests.support.server import ROOT

SERVICE: Manifest = manifests.read_yaml("deploy/kserve/inferenceservice.yaml")
RUNTIME: Manifest = manifests.read_yaml("deploy/kserve/servingruntime.yaml")
KNATIVE_REFUSES = {"terminationGracePeriodSeconds", "securityContext", "topologySpreadConstraints", "hostNetwork"}


def closed(*required: str, **properties: Any) -> dict[str, Any]:
    """Return the schema of an object with these fields and no others."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


COUNT = {"type": "integer", "minimum": 0}
TEXT = {"type": "string", "minLength": 1}
LISTED = {"type": "array", "minItems": 1}
# The fields used here of serving.kserve.io as of KServe 0.13; containers and volumes are Kubernetes' own.
POD = {"containers": {**LISTED, "maxItems": 1}, "volumes": LISTED}
PREDICTOR = closed(
    minReplicas=COUNT, maxReplicas=COUNT, containerConcurrency=COUNT, timeout=COUNT,
    automountServiceAccountToken={"const": False}, enableServiceLinks={"const": False}, **POD,
    model=closed("modelFormat", "storageUri", modelFormat=closed("name", name=TEXT, version=TEXT), storageUri=TEXT),
)  # fmt: skip
# Kubernetes' rule for names that become part of a host name.
METADATA = closed("name", name={"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$"})
SCHEMAS = {
    "InferenceService": closed(
        "apiVersion", "kind", "metadata", "spec", kind={"const": "InferenceService"}, metadata=METADATA,
        apiVersion={"const": "serving.kserve.io/v1beta1"}, spec=closed("predictor", predictor=PREDICTOR),
    ),
    "ClusterServingRuntime": closed(
        "apiVersion", "kind", "metadata", "spec", kind={"const": "ClusterServingRuntime"}, metadata=METADATA,
        apiVersion={"const": "serving.kserve.io/v1alpha1"},
        spec=closed(
            "supportedModelFormats", "protocolVersions", "containers", **POD,
            annotations={"type": "object", "additionalProperties": {"type": "string"}},
            supportedModelFormats={
                **LISTED, "items": closed("name", name=TEXT, version=TEXT, autoSelect={"type": "boolean"}),
            },
            protocolVersions={**LISTED, "items": {"enum": ["v1", "v2"]}},
        ),
    ),
}  # fmt: skip


def in_comment() -> Manifest:
    """Return the InferenceService that the runtime's header shows."""
    lines = (ROOT / "deploy/kserve/servingruntime.yaml").read_text(encoding="utf-8").splitlines()
    shown = [line.removeprefix("#   ") for line in lines if line.startswith("#   ")]
    example: Manifest = yaml.safe_load("\n".join(shown))
    return example


@pytest.mark.parametrize("manifest", [SERVICE, RUNTIME, in_comment()], ids=["service", "runtime", "example"])
def test_objects_have_kserves_shape(manifest: Manifest) -> None:
    """Each object, the one in the comment too, has fields of KServe's with values of their types."""
    jsonschema.validate(manifest, SCHEMAS[manifest["kind"]])


@pytest.mark.parametrize("spec", [SERVICE["spec"]["predictor"], RUNTIME["spec"]], ids=["service", "runtime"])
def test_containers_and_volumes_are_kubernetes_own(spec: Manifest) -> None:
    """Containers and volumes have only fields that Kubernetes knows."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}}
    pod["spec"] = {name: spec[name] for name in ("containers", "volumes")}
    kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("spec", [SERVICE["spec"]["predictor"], RUNTIME["spec"]], ids=["service", "runtime"])
def test_knative_allows_every_field(spec: Manifest) -> None:
    """The objects lack the fields that Knative refuses: hooks, a security context, a grace period, several ports."""
    assert KNATIVE_REFUSES.isdisjoint(spec)
    (container,) = spec["containers"]
    assert {"lifecycle", "startupProbe"}.isdisjoint(container)
    (port,) = container["ports"]
    assert port["name"] == "http1"
    assert container["livenessProbe"]["initialDelaySeconds"] >= 30


@pytest.mark.parametrize("spec", [SERVICE["spec"]["predictor"], RUNTIME["spec"]], ids=["service", "runtime"])
def test_the_service_starts_with_these_settings(spec: Manifest) -> None:
    """The service accepts the environment, and reads the bundle where KServe mounts it."""
    (container,) = spec["containers"]
    assert container["name"] == "kserve-container"
    own = {name: "titles" if value == "{{.Name}}" else value for name, value in manifests.plain_env(container).items()}
    settings = from_env({**manifests.image_env(), **own})
    assert str(settings.bundle) == "/mnt/models"
    assert settings.name == "titles"
    assert container["ports"][0]["containerPort"] == settings.port
    assert int(container["resources"]["limits"]["cpu"]) >= 1
    assert container["resources"]["limits"] == container["resources"]["requests"]


def test_the_served_name_is_that_of_kserves_paths() -> None:
    """The model's name is that of the InferenceService, and its bundle comes from STORAGE_URI."""
    (container,) = SERVICE["spec"]["predictor"]["containers"]
    env = manifests.plain_env(container)
    assert env["INFERER_MODEL_NAME"] == SERVICE["metadata"]["name"]
    assert "://" in env["STORAGE_URI"]


def test_knative_lets_in_fewer_than_the_cap() -> None:
    """Knative's concurrency limit is below the cap, and several pods are allowed."""
    predictor = SERVICE["spec"]["predictor"]
    settings = from_env(
        {"INFERER_MAX_IN_FLIGHT": manifests.plain_env(predictor["containers"][0])["INFERER_MAX_IN_FLIGHT"]}
    )
    assert 0 < predictor["containerConcurrency"] < settings.max_in_flight
    assert 1 < predictor["minReplicas"] <= predictor["maxReplicas"]


@pytest.mark.parametrize("spec", [SERVICE["spec"]["predictor"], RUNTIME["spec"]], ids=["service", "runtime"])
def test_probes_ask_routes_that_need_no_key(spec: Manifest, model: ModelInferer) -> None:
    """Readiness probes /health/ready, liveness /health/live; both give 200 without a key."""
    client = create_app(Settings(api_keys=("secret",)), model).test_client()
    (container,) = spec["containers"]
    paths = [container[probe]["httpGet"]["path"] for probe in ("readinessProbe", "livenessProbe")]
    assert paths == ["/health/ready", "/health/live"]
    assert [client.get(path).status_code for path in paths] == [200, 200]


def test_the_example_names_the_runtimes_format() -> None:
    """The runtime selects itself for the format in the example."""
    wanted = in_comment()["spec"]["predictor"]["model"]["modelFormat"]["name"]
    assert [taken["name"] for taken in RUNTIME["spec"]["supportedModelFormats"] if taken["autoSelect"]] == [wanted]
    assert RUNTIME["spec"]["annotations"]["prometheus.kserve.io/port"] == manifests.image_env()["PORT"]


def test_both_protocols_are_answered(model: ModelInferer) -> None:
    """The paths of KServe's protocols v1 and v2 serve the model under its given name."""
    client = create_app(Settings(model_name="titles"), model).test_client()
    assert RUNTIME["spec"]["protocolVersions"] == ["v1", "v2"]
    assert client.post("/v1/models/titles:predict", json={"instances": ["good"]}).status_code == 200
    asked = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["good"]}]}
    assert client.post("/v2/models/titles/infer", json=asked).status_code == 200
