"""The Grafana dashboard and the alerts of deploy/: they query existing metrics and read well at night."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from inferer import ModelInferer
from service.app import create_app
from tests.support.metrics import NAMES
from tests.support.server import ROOT

DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/inferer.json").read_text(encoding="utf-8"))
ALERTS: dict[str, Any] = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8"))
PROMETHEUS: dict[str, Any] = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))

PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]

# Made by Prometheus itself, and by prometheus_client.
FROM_ELSEWHERE = {"up", "process_resident_memory_bytes", "process_cpu_seconds_total", "process_start_time_seconds"}
HISTOGRAMS = {
    "inferer_request_duration_seconds",
    "inferer_stage_duration_seconds",
    "inferer_batch_size",
    "inferer_input_tokens",
    "inferer_confidence",
}
# Beside job and instance, which Prometheus gives to every series.
LABELS = {
    "inferer_requests_total": {"route", "status"},
    "inferer_request_duration_seconds": {"route"},
    "inferer_stage_duration_seconds": {"stage"},
    "inferer_rejected_total": {"reason"},
    "inferer_cache_texts_total": {"outcome"},
    "inferer_predictions_total": {"label"},
    "inferer_model_info": {"model", "scheme", "problem_type", "bundle", "version", "onnxruntime"},
}
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_METRIC = re.compile(r"\b(?:inferer|process)_\w+|\bup\b")
_SELECTOR = re.compile(r'\b([a-z_]\w*)\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\}')
_MATCHER = re.compile(r'\s*(\w+)\s*(?:=~|!~|!=|=)\s*"(?:[^"\\]|\\.)*"\s*')
_SUM_BY = re.compile(r"\b(?:sum|max|min|avg|count) by \(([^)]*)\) \(")


def expressions() -> Iterator[tuple[str, str]]:
    """Yield (place, PromQL) of every query of the dashboard and the alerts."""
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for mark in DASHBOARD["annotations"]["list"]:
        if "expr" in mark:
            yield f"marks {mark['name']}", mark["expr"]
    for name, variable in VARIABLES.items():
        if variable["type"] == "query":
            yield f"variable {name}", variable["definition"]
    for rule in RULES:
        yield rule["alert"], rule["expr"]


EXPRESSIONS = [pytest.param(expr, id=f"{where} {index}") for index, (where, expr) in enumerate(expressions())]


def family(series: str) -> str:
    """Return the metric that `series` belongs to: of a histogram, its name without _bucket, _sum or _count."""
    name = re.sub(r"_(bucket|sum|count)$", "", series)
    return name if name in HISTOGRAMS else series


def families(expr: str) -> set[str]:
    """Return the metrics in `expr`."""
    return {family(name) for name in _METRIC.findall(_STRING.sub('""', expr))}


def labels_of(series: str) -> set[str]:
    """Return the labels that `series` has in Prometheus."""
    own = LABELS.get(family(series), set())
    return {"job", "instance"} | own | ({"le"} if series.endswith("_bucket") else set())


def inside(expr: str, start: int) -> str:
    """Return the text between the parenthesis that ends before `start` and its closing one."""
    depth = 1
    for end in range(start, len(expr)):
        depth += {"(": 1, ")": -1}.get(expr[end], 0)
        if depth == 0:
            return expr[start:end]
    raise AssertionError(f"a parenthesis is left open in {expr}")


def names(listed: str) -> set[str]:
    """Return the names of a comma-separated list."""
    return {name.strip() for name in listed.split(",")} - {""}


@pytest.mark.parametrize("expr", EXPRESSIONS)
def test_every_metric_asked_for_is_exported(expr: str) -> None:
    """Each metric in the dashboard and the alerts is one that the service, its library or Prometheus makes."""
    asked = families(expr)
    assert asked or expr == "vector($cap)"
    assert asked <= NAMES | FROM_ELSEWHERE


def test_every_metric_exported_is_on_the_dashboard() -> None:
    """Some panel shows each metric of the service."""
    shown = {name for panel in PANELS for target in panel["targets"] for name in families(target["expr"])}
    assert shown >= NAMES


def test_what_the_tests_know_of_metrics_is_what_the_service_exports(model: ModelInferer) -> None:
    """The metrics that the service exports have the names, types and labels that this file lists."""
    client = create_app(inferer=model).test_client()
    with client.post("/predict", json={"text": "good"}) as reply:  # counted when it is closed
        assert reply.status_code == 200
    found = list(text_string_to_metric_families(client.get("/metrics").text))
    exported = {f"{metric.name}_total" if metric.type == "counter" else metric.name: metric for metric in found}
    assert NAMES | FROM_ELSEWHERE - {"up"} <= set(exported)
    assert {name for name in NAMES if exported[name].type == "histogram"} == HISTOGRAMS
    for name in NAMES:
        assert exported[name].samples
        for sample in exported[name].samples:
            assert set(sample.labels) == labels_of(sample.name) - {"job", "instance"}


@pytest.mark.parametrize("expr", EXPRESSIONS)
def test_labels_asked_for_are_those_of_their_metric(expr: str) -> None:
    """Each label in a matcher, in by () or in label_values () is one that the metric has."""
    for series, matchers in _SELECTOR.findall(expr):
        assert _MATCHER.sub("", matchers).replace(",", "") == ""
        asked = set(_MATCHER.findall(matchers))
        assert asked <= labels_of(series), f"{series} has no {asked - labels_of(series)}"
    for found in _SUM_BY.finditer(expr):
        summed = _METRIC.findall(_STRING.sub('""', inside(expr, found.end())))
        assert summed
        for series in summed:
            assert names(found[1]) <= labels_of(series), f"{series} has no {names(found[1]) - labels_of(series)}"
    for series, label in re.findall(r"^label_values\((\w+).*, (\w+)\)$", expr):
        assert label in labels_of(series)


@pytest.mark.parametrize("expr", EXPRESSIONS)
def test_histograms_are_asked_by_their_series(expr: str) -> None:
    """A histogram is named with _bucket, _sum or _count, and nothing else has one of these."""
    for series in _METRIC.findall(_STRING.sub('""', expr)):
        assert (family(series) in HISTOGRAMS) == (family(series) != series)


@pytest.mark.parametrize("expr", [expr for expr in EXPRESSIONS if "histogram_quantile" in str(expr.values[0])])
def test_quantiles_are_taken_of_sums_by_le(expr: str) -> None:
    """Each histogram_quantile takes a share from 0 to 1 of bucket rates that are summed by le."""
    shape = r"histogram_quantile\((0\.\d+), sum by \(([^)]*)\) \(\s*rate\(\w+_bucket\{"
    found = re.findall(shape, expr)
    assert len(found) == expr.count("histogram_quantile")
    assert all("le" in names(by) for _, by in found)


@pytest.mark.parametrize("expr", EXPRESSIONS)
def test_counters_are_only_asked_for_their_rate(expr: str) -> None:
    """A counter, or a series of a histogram, stands inside rate () or increase (), never alone."""
    for found in _METRIC.finditer(expr):
        if re.search(r"_(total|bucket|sum|count)$", found[0]) and not expr.startswith("label_values("):
            assert expr[: found.start()].endswith(("rate(", "increase("))


@pytest.mark.parametrize("expr", EXPRESSIONS)
def test_health_checks_are_not_among_the_requests(expr: str) -> None:
    """Where requests are counted or timed, health checks and scrapes are left out, or the query is about them alone."""
    for series, matchers in _SELECTOR.findall(expr):
        if family(series).startswith("inferer_request") and not expr.startswith("label_values("):
            assert 'route!~"/(health|metrics).*' in matchers or 'route=~"/health(/ready)?"' in matchers


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_panels_say_what_they_show_and_where_it_comes_from(panel: dict[str, Any]) -> None:
    """Each panel has a title, a unit, a description in sentences, and targets with the chosen data source."""
    assert panel["title"]
    assert re.fullmatch(r"[A-Z].*\.", panel["description"])
    assert panel["targets"]
    assert panel["datasource"] == DATASOURCE
    assert all(target["datasource"] == DATASOURCE for target in panel["targets"])
    references = [target["refId"] for target in panel["targets"]]
    assert len(set(references)) == len(references)
    if panel["type"] in {"stat", "timeseries"}:
        assert panel["fieldConfig"]["defaults"]["unit"]


def test_ids_are_unique() -> None:
    """No two panels or rows have the same id."""
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_panels_lie_beside_each_other() -> None:
    """No two panels overlap, and none reaches beyond the 24 columns."""
    for one, other in itertools.combinations([panel["gridPos"] for panel in DASHBOARD["panels"]], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)
    assert all(place["x"] + place["w"] <= 24 for place in (panel["gridPos"] for panel in DASHBOARD["panels"]))


def test_variables_used_are_there() -> None:
    """Each variable in the dashboard is one of its own or of Grafana's, and each of its own is used."""
    text = json.dumps({key: value for key, value in DASHBOARD.items() if key != "__requires"})
    used = set(re.findall(r"\$\{?([a-z_]\w*)", text))
    assert used == set(VARIABLES) | {"__rate_interval", "__all"}


def test_dashboard_can_be_imported() -> None:
    """The dashboard takes its data source from a variable, has no fixed id, and a recent schema."""
    assert VARIABLES["datasource"]["type"] == "datasource"
    assert DASHBOARD["__inputs"] == []
    assert DASHBOARD["id"] is None
    assert DASHBOARD["schemaVersion"] >= 39


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_alerts_say_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    """Each alert waits before it fires, has a severity, a summary, a runbook sentence, and the job of the scrape."""
    assert re.fullmatch(r"[1-9]\d*[mh]", rule["for"])
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert rule["annotations"]["summary"]
    assert re.fullmatch(r"[A-Z].*\.", rule["annotations"]["runbook"])
    jobs = [config["job_name"] for config in PROMETHEUS["scrape_configs"]]
    assert all(f'job="{jobs[0]}"' in matchers for _, matchers in _SELECTOR.findall(rule["expr"]))


def test_alerts_have_names_of_their_own() -> None:
    """No two alerts have the same name."""
    assert len({rule["alert"] for rule in RULES}) == len(RULES)


def test_prometheus_example_scrapes_the_service_and_reads_the_alerts() -> None:
    """The example scrapes the default port's /metrics and names the file of alerts beside it."""
    (scrape,) = PROMETHEUS["scrape_configs"]
    assert scrape["metrics_path"] == "/metrics"
    assert scrape["static_configs"] == [{"targets": ["localhost:8080"]}]
    assert PROMETHEUS["rule_files"] == ["alerts.yml"]
