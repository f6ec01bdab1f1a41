"""The counters and timers of the manual, in the two libraries themselves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from finch_middleware.testing import FakeFinch
from tests.docs.snippets import page, run, section, snippets

pytestmark = pytest.mark.full


def finishes(fake: FakeFinch, heading: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One callback at the component that the snippet makes."""
    code = [each.text for each in snippets(section(page("monitoring"), heading), "python")]
    code.insert(0, "from finch_middleware import FinchConnect")
    finch = run(code, "monitoring.md", monkeypatch).finch
    opened = finch.begin(customer_id="acme", customer_name="Acme")
    cookie = opened.headers["Set-Cookie"].partition(";")[0]
    callback = fake.allow(opened.headers["Location"])
    environ = {
        "REQUEST_METHOD": "GET",
        "QUERY_STRING": callback.partition("?")[2],
        "HTTP_COOKIE": cookie,
    }
    assert "finch=connected" in finch.callback(environ).headers["Location"]


@pytest.fixture
def _collected() -> Iterator[None]:
    from prometheus_client import REGISTRY

    before = set(REGISTRY._collector_to_names)
    yield
    for each in set(REGISTRY._collector_to_names) - before:
        REGISTRY.unregister(each)


@pytest.mark.usefixtures("configured", "_collected")
def test_prometheus_counts_and_times_events(
    fake: FakeFinch, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prometheus_client import generate_latest

    finishes(fake, "## Prometheus", monkeypatch)

    shown = generate_latest().decode()
    assert 'finch_events_total{name="finch.connection.stored",reason=""} 1.0' in shown
    assert 'finch_seconds_count{name="finch.connection.stored"} 1.0' in shown


@pytest.mark.usefixtures("configured")
def test_opentelemetry_counts_and_times_events(
    fake: FakeFinch, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opentelemetry import metrics
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    monkeypatch.setattr(metrics, "get_meter", provider.get_meter)

    finishes(fake, "## OpenTelemetry", monkeypatch)

    data = reader.get_metrics_data()
    provider.shutdown()
    assert data is not None
    points = {
        (metric.name, point.attributes["name"]): point
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
        if point.attributes
    }
    assert points["finch.events", "finch.connection.stored"].value == 1
    assert points["finch.duration", "finch.connection.stored"].count == 1
