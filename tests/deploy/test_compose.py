"""compose.yaml: the service hardened as in production, a Prometheus that finds it, Grafana with the dashboard."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from service.settings import from_env
from tests.support import manifests
from tests.support.manifests import Manifest
from tests.support.server import ROOT

COMPOSE: Manifest = manifests.read_yaml("compose.yaml")
SERVICES: dict[str, Manifest] = COMPOSE["services"]
PROMETHEUS: Manifest = manifests.read_yaml("deploy/prometheus/compose.yml")
(DATASOURCE,) = manifests.read_yaml("deploy/grafana/provisioning/datasources/prometheus.yml")["datasources"]
(PROVIDER,) = manifests.read_yaml("deploy/grafana/provisioning/dashboards/inferer.yml")["providers"]


def filled(text: str) -> str:
    """Return `text` with the default of each ${NAME:-default}."""
    return re.sub(r"\$\{[A-Z]+:-([^}]*)\}", r"\1", text)


def mounts(service: str) -> dict[str, tuple[str, bool]]:
    """Return the mounts of a service: container path to source and whether it is read-only."""
    found = {}
    for volume in SERVICES[service]["volumes"]:
        if isinstance(volume, str):
            source, target, *mode = volume.split(":")
            found[target] = (source, mode == ["ro"])
        else:
            found[volume["target"]] = (filled(volume["source"]), volume["read_only"])
    return found


def own_file(service: str, path: str) -> Path:
    """Return the project's file that lies at `path` in a service."""
    for target, (source, _) in mounts(service).items():
        if source.startswith("./") and Path(path).is_relative_to(target):
            return ROOT / source / Path(path).relative_to(target)
    raise AssertionError(f"nothing of the project is at {path} in {service}")


def listening(address: str) -> tuple[str, str]:
    """Return host and port of an address such as http://prometheus:9090."""
    host, _, port = address.rpartition("//")[2].partition(":")
    return host, port


def published(service: str) -> list[str]:
    """Return a service's ports: address, port outside, port inside."""
    (port,) = SERVICES[service]["ports"]
    return filled(port).split(":")


def test_there_are_three_services() -> None:
    """The service, Prometheus and Grafana, and the volumes of the two with state."""
    assert set(SERVICES) == {"inferer", "prometheus", "grafana"}
    kept = {source for service in SERVICES for source, _ in mounts(service).values() if not source.startswith(".")}
    assert kept == set(COMPOSE["volumes"])


@pytest.mark.parametrize("service", SERVICES)
def test_every_container_is_hardened(service: str) -> None:
    """The root is read-only, no capability is left, none can be gained, memory is limited."""
    said = SERVICES[service]
    assert said["read_only"] is True
    assert said["cap_drop"] == ["ALL"]
    assert said["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"\d+[mg]", said["mem_limit"])
    assert {"privileged", "cap_add", "network_mode", "user"}.isdisjoint(said)


@pytest.mark.parametrize("service", SERVICES)
def test_only_this_machine_is_listened_to(service: str) -> None:
    """Each port is published on 127.0.0.1 alone."""
    assert published(service)[0] == "127.0.0.1"


@pytest.mark.parametrize("service", SERVICES)
def test_what_is_mounted_is_there(service: str) -> None:
    """Each file of the project that is mounted is there and read-only; the bundle is the demo's where none is named."""
    for source, read_only in mounts(service).values():
        if source.startswith("./models/"):
            assert source == "./models/query_type"
        elif source.startswith("."):
            assert (ROOT / source).exists(), source
        assert read_only is source.startswith(".")


@pytest.mark.parametrize("service", ["prometheus", "grafana"])
def test_images_of_others_are_pinned(service: str) -> None:
    """The images of Prometheus and Grafana have an exact version."""
    assert re.fullmatch(r"[a-z]+/[a-z]+:v?\d+\.\d+\.\d+", SERVICES[service]["image"])


def test_the_service_is_the_serving_image() -> None:
    """The service is built from the serving stage, with the bundle where the image reads it and its port published."""
    said = SERVICES["inferer"]
    assert said["build"] == {"context": ".", "target": "inference"}
    image = manifests.image_env()
    assert mounts("inferer")[image["INFERER_BUNDLE"]][1] is True
    assert published("inferer")[2] == image["PORT"]
    assert [path.split(":")[0] for path in said["tmpfs"]] == [image["HOME"]]
    assert int(filled(said["cpus"])) >= 1
    assert "healthcheck" not in said, "the image's own"
    assert "HEALTHCHECK " in manifests.serving_stage()


def test_a_mistyped_bundle_is_an_error() -> None:
    """A missing bundle path is not created."""
    (volume,) = SERVICES["inferer"]["volumes"]
    assert volume["bind"] == {"create_host_path": False}


def test_settings_are_the_services() -> None:
    """Settings from the shell are handed on, and absent where the shell has none: "" would be refused."""
    names = SERVICES["inferer"]["environment"]
    assert from_env(dict.fromkeys(names, "x")).api_keys == ("x",)
    assert all("=" not in name for name in names)


def test_a_stop_has_time_and_a_refused_start_ends() -> None:
    """The service may take longer than gunicorn's graceful timeout to stop, and restarts are limited."""
    seconds = re.fullmatch(r"(\d+)s", SERVICES["inferer"]["stop_grace_period"])
    assert seconds
    assert int(seconds[1]) > manifests.graceful_timeout()
    assert re.fullmatch(r"on-failure:[1-9]", SERVICES["inferer"]["restart"])


def test_prometheus_scrapes_the_service_and_reads_the_alerts() -> None:
    """Prometheus' configuration is the project's; it scrapes the service by name and port, and finds the alerts."""
    path = "/etc/prometheus/prometheus.yml"
    assert own_file("prometheus", path) == ROOT / "deploy/prometheus/compose.yml"
    (scrape,) = PROMETHEUS["scrape_configs"]
    (target,) = scrape["static_configs"][0]["targets"]
    assert listening(target) == ("inferer", manifests.image_env()["PORT"])
    usual = manifests.read_yaml("deploy/prometheus/prometheus.yml")
    assert {**scrape, "static_configs": None} == {**usual["scrape_configs"][0], "static_configs": None}
    for name in PROMETHEUS["rule_files"]:
        assert own_file("prometheus", f"/etc/prometheus/{name}") == ROOT / "deploy/prometheus" / name


def test_grafana_asks_this_prometheus() -> None:
    """Grafana's one data source is Prometheus at its name and port, the default, with the scrape interval."""
    assert own_file("grafana", "/etc/grafana/provisioning/datasources/prometheus.yml").exists()
    assert listening(DATASOURCE["url"]) == ("prometheus", published("prometheus")[2])
    assert DATASOURCE["type"] == "prometheus"
    assert DATASOURCE["isDefault"] is True
    assert DATASOURCE["jsonData"]["timeInterval"] == PROMETHEUS["global"]["scrape_interval"]


def test_grafana_shows_the_projects_dashboard() -> None:
    """The folder that Grafana reads has the project's dashboard, with a data source that resolves to the only one."""
    assert own_file("grafana", "/etc/grafana/provisioning/dashboards/inferer.yml").exists()
    shown = f"{PROVIDER['options']['path']}/inferer.json"
    file = own_file("grafana", shown)
    assert file == ROOT / "deploy/grafana/inferer.json"
    dashboard: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    variable = next(one for one in dashboard["templating"]["list"] if one["type"] == "datasource")
    assert variable["query"] == DATASOURCE["type"]
    assert re.search(variable["regex"], DATASOURCE["name"])
    assert variable["current"] == {}, "a choice saved in the file would be another Grafana's"
    assert SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == shown


def test_grafana_lets_look_and_nothing_else() -> None:
    """Login is disabled, so no password is needed, and visitors may only view."""
    said = SERVICES["grafana"]["environment"]
    assert (said["GF_AUTH_ANONYMOUS_ENABLED"], said["GF_AUTH_ANONYMOUS_ORG_ROLE"]) == ("true", "Viewer")
    assert (said["GF_AUTH_DISABLE_LOGIN_FORM"], said["GF_AUTH_BASIC_ENABLED"]) == ("true", "false")
    assert not [name for name in said if "PASSWORD" in name or "SECRET" in name]
