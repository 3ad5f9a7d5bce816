"""The dashboard and the alert rules ask for metrics and labels that a gateway has, in PromQL that parses."""

import json
import re

import promql_parser
import pytest
import yaml
from support import parts
from support.gateway import ROOT, Gateway
from test_life import local
from test_operator import Operator, Stream

RULES = yaml.safe_load((ROOT / "config/prometheus-alerts.yml").read_text())
DASHBOARD = json.loads((ROOT / "config/grafana-dashboard.json").read_text())
# Of Prometheus' own.
FOREIGN_LABELS = {"instance", "job", "le"}


def selectors(text: str) -> list:
    """Every metric that an expression selects, with its matchers."""
    found = []

    def look(node):
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        if isinstance(node, promql_parser.MatrixSelector):
            found.append(node.vector_selector)
        for name in ("expr", "lhs", "rhs", "param"):
            if (child := getattr(node, name, None)) is not None and not isinstance(child, str):
                look(child)
        for child in getattr(node, "args", None) or []:
            look(child)

    look(promql_parser.parse(text))
    assert found, text
    return found


def expressions() -> list[str]:
    rules = [rule["expr"] for group in RULES["groups"] for rule in group["rules"]]
    targets = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return rules + [text.replace("$__rate_interval", "5m").replace("$instance", ".*") for text in targets]


@pytest.fixture(scope="module")
def exposed(world, tmp_path_factory) -> dict[str, dict[str, set]]:
    """Metric → label → values, as a gateway tells them of which somebody was revoked."""
    config = world.config(local(world, "monitored"))
    config["issuer"][0]["signals"] = {"audience": ["https://gw.test/signals"]}
    gateway = Gateway(tmp_path_factory.mktemp("monitored"), config)
    stream = Stream(world, gateway, world.issuer.token())
    assert Operator(gateway).post("/api/revoke", group="agents").json()["sessions"] == 1
    parts.until(lambda: stream.ended and "closed_total{" in gateway.metrics())
    known = {"up": {}}
    for line in gateway.metrics().splitlines():
        if sample := re.match(r"(staunch_\w+)(?:\{(.*)\})? ", line):
            labels = known.setdefault(sample[1], {})
            for label, value in re.findall(r'(\w+)="([^"]*)"', sample[2] or ""):
                labels.setdefault(label, set()).add(value)
    assert gateway.stop() == 0
    return known


def test_every_metric_and_label_value_that_is_asked_for_exists(exposed):
    asked = 0
    for text in expressions():
        for selector in selectors(text):
            assert selector.name in exposed, f"{selector.name} in {text}"
            labels = exposed[selector.name]
            for matcher in selector.matchers.matchers:
                if matcher.name in FOREIGN_LABELS:
                    continue
                asked += 1
                assert matcher.name in labels, f"{matcher.name} in {text}"
                for value in matcher.value.split("|"):
                    assert value in labels[matcher.name], f"{matcher.name}={value} in {text}"
    assert asked > 3


def test_labels_that_are_grouped_by_or_shown_exist(exposed):
    for text in expressions():
        labels = set().union(*(exposed[selector.name] for selector in selectors(text)))
        for group in re.findall(r"by \(([^)]*)\)", text):
            assert set(re.split(r",\s*", group)) - FOREIGN_LABELS <= labels, text


def test_alerts_have_what_people_need():
    names = [rule["alert"] for group in RULES["groups"] for rule in group["rules"]]
    assert len(names) == len(set(names))
    for group in RULES["groups"]:
        for rule in group["rules"]:
            assert rule["annotations"]["summary"] and rule["labels"]["severity"] in {"info", "warning", "critical"}, rule
            assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s")), rule
