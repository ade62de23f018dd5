"""The deployment's variables, and the errors that name them."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferer.cpu import available_cpus
from service import settings as module
from service.settings import Settings, SettingsError, from_env


def test_nothing_set_gives_the_defaults() -> None:
    """An environment without our variables gives the defaults."""
    settings = from_env({"PATH": "/bin", "HOME": "/root"})
    assert settings == Settings()
    assert (settings.host, settings.port, settings.workers, settings.max_in_flight) == ("127.0.0.1", 8080, 1, 64)
    assert settings.name == "query_type"


def test_every_variable_reaches_its_field() -> None:
    """Every variable that is set reaches its setting."""
    settings = from_env(
        {
            "INFERER_BUNDLE": "models/mine",
            "INFERER_MODEL_NAME": "mine-2",
            "INFERER_HOST": "0.0.0.0",
            "PORT": "9000",
            "INFERER_WORKERS": "3",
            "INFERER_THREADS": "40",
            "INFERER_INTRA_OP_THREADS": "2",
            "INFERER_MAX_IN_FLIGHT": "32",
            "INFERER_MAX_BODY_BYTES": "1000",
            "INFERER_MAX_TEXTS": "5",
            "INFERER_MAX_TEXT_CHARS": "100",
            "INFERER_MAX_TOKENS_PER_REQUEST": "1000",
            "INFERER_API_KEYS": "one, two",
            "INFERER_CACHE_DIR": "cache",
            "INFERER_GOLDEN_CHECK": "warn",
            "INFERER_LOAD_TIMEOUT_S": "300",
            "INFERER_BATCHING": "off",
            "INFERER_MAX_BATCH_TOKENS": "1024",
            "INFERER_DEADLINE_MS": "250",
            "INFERER_LOG_FORMAT": "text",
            "INFERER_ACCESS_LOG": "errors",
            "INFERER_PARALLEL_RUNS": "2",
            "INFERER_LOG_TEXTS": "1",
            "INFERER_CORS_ORIGINS": "https://a.example, http://localhost:3000/",
        }
    )
    assert settings == Settings(
        bundle=Path("models/mine"),
        model_name="mine-2",
        host="0.0.0.0",
        port=9000,
        workers=3,
        threads=40,
        intra_op_threads=2,
        max_in_flight=32,
        max_body_bytes=1000,
        max_texts=5,
        max_text_chars=100,
        max_tokens_per_request=1000,
        api_keys=("one", "two"),
        cache_dir=Path("cache"),
        golden_check="warn",
        load_timeout_s=300,
        batching=False,
        max_batch_tokens=1024,
        deadline_ms=250,
        log_format="text",
        access_log="errors",
        parallel_runs=2,
        log_texts=True,
        cors_origins=("https://a.example", "http://localhost:3000"),
    )


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("PORT", "http", "'http' is not allowed; expected a whole number from 1 to 65535"),
        ("PORT", "70000", "'70000' is not allowed"),
        ("AIP_HTTP_PORT", "0", "'0' is not allowed; expected a whole number from 1 to 65535"),
        ("AIP_PREDICT_ROUTE", "predict", "'predict' is not allowed; expected a path such as /predict"),
        ("AIP_PREDICT_ROUTE", "/<name>", "'/<name>' is not allowed"),
        ("AIP_PREDICT_ROUTE", "/here/", "'/here/' is not allowed; expected a path such as /predict, without a slash"),
        ("AIP_PREDICT_ROUTE", "//here", "'//here' is not allowed"),
        ("AIP_HEALTH_ROUTE", "/health?x=1", "'/health.x=1' is not allowed; expected a path such as /health"),
        ("INFERER_WORKERS", "0", "'0' is not allowed; expected 'auto' or a whole number from 1 to .*, 8 per CPU"),
        ("INFERER_MAX_TEXTS", "-1", "'-1' is not allowed; expected a whole number from 1"),
        ("INFERER_MODEL_NAME", "a/b", "'a/b' is not allowed; expected letters"),
        ("INFERER_BUNDLE", " ", "' ' is not allowed; expected the path"),
        ("INFERER_MAX_BODY_BYTES", "2e6", "'2e6' is not allowed"),
        (
            "INFERER_INTRA_OP_THREADS",
            "2147483648",
            "'2147483648' is not allowed; expected a whole .* to 1024",
        ),
        ("INFERER_GOLDEN_CHECK", "on", "'on' is not allowed; expected one of enforce, warn, off"),
        ("INFERER_BATCHING", "yes", "'yes' is not allowed; expected on or off"),
        ("INFERER_MAX_BATCH_TOKENS", "0", "'0' is not allowed; expected a whole number from 1"),
        ("INFERER_DEADLINE_MS", "10s", "'10s' is not allowed; expected a whole number from 1"),
        ("INFERER_LOG_FORMAT", "xml", "'xml' is not allowed; expected one of json, text"),
        ("INFERER_ACCESS_LOG", "none", "'none' is not allowed; expected one of all, errors, off"),
        ("INFERER_PARALLEL_RUNS", "0", "'0' is not allowed; expected a whole number from 1 to 1024"),
        ("INFERER_LOG_TEXTS", "true", "'true' is not allowed; expected 1 or 0"),
        ("INFERER_CORS_ORIGINS", "a.example", "'a.example' is not allowed; expected origins such as https://"),
        ("INFERER_CORS_ORIGINS", "https://a.example/path", "'https://a.example/path' is not allowed"),
        ("INFERER_CORS_ORIGINS", "*, https://a.example", ".* is not allowed"),
        ("INFERER_CACHE_DIR", "~no-such-user/x", "'~no-such-user/x' is not allowed; expected the path"),
    ],
)
def test_a_wrong_value_is_named_with_the_expected_ones(name: str, value: str, expected: str) -> None:
    """A wrong value is refused with its variable and the expected values."""
    with pytest.raises(SettingsError, match=f"^{name}: {expected}"):
        from_env({name: value})


NUMBERS = [
    name
    for name in (*module.VARIABLES, "AIP_HTTP_PORT")
    if name in ("PORT", "AIP_HTTP_PORT") or type(getattr(Settings(), name.removeprefix("INFERER_").lower())) is int
]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize(
    "value", ["1" + "0" * 9 + "0000000", "9" * 400, "9" * 5000, "１２", "1_000", "+1", "1e3", "12.0", "0x10", "-1"]
)
def test_every_number_has_an_upper_bound_and_one_spelling(name: str, value: str) -> None:
    """A number that no deployment can mean, or one in another spelling, is refused with the allowed range."""
    with pytest.raises(
        SettingsError, match=rf"^{name}: .* is not allowed; expected .*a whole number from \d+ to \d+"
    ) as caught:
        from_env({name: value})
    assert len(str(caught.value)) < 300


def test_more_workers_than_the_machine_can_run_are_refused() -> None:
    """The number of workers has a bound per CPU; the largest values that are allowed fit together."""
    most = module._WORKERS_PER_CPU * available_cpus()
    assert from_env({"INFERER_WORKERS": str(most)}).worker_count == most
    with pytest.raises(SettingsError, match=f"whole number from 1 to {most}, 8 per CPU"):
        from_env({"INFERER_WORKERS": str(most + 1)})
    assert from_env({"INFERER_MAX_IN_FLIGHT": "4000"}).worker_threads < 5000


def test_vertex_ai_takes_precedence_over_port() -> None:
    """AIP_HTTP_PORT takes precedence over PORT, which the image sets; routes are taken literally."""
    route = "/v1/endpoints/12/deployedModels/34:predict"
    given = {"PORT": "8080", "AIP_HTTP_PORT": "9000", "AIP_PREDICT_ROUTE": route, "AIP_HEALTH_ROUTE": "/healthy"}
    settings = from_env(given)
    assert (settings.port, settings.aip_predict_route, settings.aip_health_route) == (9000, route, "/healthy")
    assert "/healthy" in settings.machine_paths
    assert "" not in Settings().machine_paths
    assert from_env({"AIP_HTTP_PORT": "", "AIP_PREDICT_ROUTE": ""}) == Settings()


def test_white_space_around_a_value_is_not_part_of_it() -> None:
    """White space around a value is ignored."""
    assert from_env({"PORT": " 9000 ", "INFERER_WORKERS": " auto\n", "INFERER_MODEL_NAME": " x "}).port == 9000
    assert from_env({"INFERER_HOST": "[::1]"}).host == "::1"


def test_a_wrong_key_is_not_shown() -> None:
    """The error for malformed keys names the variable and shows no secret."""
    with pytest.raises(SettingsError) as caught:
        from_env({"INFERER_API_KEYS": "hunter2,,x"})
    assert "hunter2" not in str(caught.value)
    assert "INFERER_API_KEYS" in str(caught.value)


def test_an_unknown_variable_is_named_with_the_nearest() -> None:
    """A mistyped variable is refused with the nearest known name."""
    with pytest.raises(SettingsError, match="INFERER_BUNDEL is unknown; did you mean INFERER_BUNDLE?"):
        from_env({"INFERER_BUNDEL": "x"})


def test_all_errors_are_reported_at_once() -> None:
    """One error names all mistakes."""
    with pytest.raises(SettingsError, match="INFERER_NONSENSE.*PORT.*INFERER_MAX_TEXTS"):
        from_env({"INFERER_MAX_TEXTS": "x", "PORT": "x", "INFERER_NONSENSE": "x"})


def test_kubernetes_service_variables_are_ignored() -> None:
    """The variables that Kubernetes injects for a Service called `inferer` change no setting."""
    injected = {
        "INFERER_SERVICE_HOST": "10.0.0.1",
        "INFERER_SERVICE_PORT": "8080",
        "INFERER_SERVICE_PORT_HTTP": "8080",
        "INFERER_PORT": "tcp://10.0.0.1:8080",
        "INFERER_PORT_8080_TCP_ADDR": "10.0.0.1",
    }
    assert from_env(injected) == Settings()


def test_threads_must_exceed_the_cap() -> None:
    """Threads must outnumber the in-flight cap, and follow it by default."""
    with pytest.raises(SettingsError, match="INFERER_THREADS: 64 is not allowed; expected more than"):
        from_env({"INFERER_THREADS": "64"})
    assert from_env({"INFERER_MAX_IN_FLIGHT": "8"}).worker_threads == 24


@pytest.mark.parametrize(
    ("environ", "cpus", "workers", "cpus_per_worker", "runs"),
    [
        ({}, 8, 1, 8, None),
        ({}, 1, 1, 1, None),
        ({"INFERER_WORKERS": "4"}, 8, 4, 2, None),
        ({"INFERER_WORKERS": "4"}, 2, 4, 1, None),
        ({"INFERER_WORKERS": "auto"}, 8, 4, 2, None),
        ({"INFERER_WORKERS": "auto"}, 1, 1, 1, None),
        ({"INFERER_WORKERS": "auto", "INFERER_INTRA_OP_THREADS": "3"}, 8, 2, 4, 1),
        ({"INFERER_INTRA_OP_THREADS": "5"}, 2, 1, 2, 1),
        ({"INFERER_INTRA_OP_THREADS": "1"}, 4, 1, 4, 4),
        ({"INFERER_INTRA_OP_THREADS": "1", "INFERER_PARALLEL_RUNS": "2"}, 4, 1, 4, 2),
        ({"INFERER_PARALLEL_RUNS": "3"}, 2, 1, 2, 3),
    ],
)
def test_workers_and_runs_share_the_quota(
    monkeypatch: pytest.MonkeyPatch,
    environ: dict[str, str],
    cpus: int,
    workers: int,
    cpus_per_worker: int,
    runs: int | None,
) -> None:
    """Workers share the available CPUs; chosen threads leave room for the runs that fit beside each other."""
    monkeypatch.setattr(module, "available_cpus", lambda: cpus)
    settings = from_env(environ)
    assert (settings.worker_count, settings.cpus_per_worker, settings.runs_at_once) == (workers, cpus_per_worker, runs)
