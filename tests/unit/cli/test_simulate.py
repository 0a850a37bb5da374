"""`flexpie simulate`: numbers that agree with one another, and a timeline that viewers read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import flexpie_models
from flexpie.cli.main import main
from flexpie.cli.trace_events import trace_events
from flexpie.core.plan import Segment
from flexpie.core.scheme import IN_H
from flexpie.planner.physics import PhysicsCostModel
from flexpie.planner.simulation import simulate
from tests.unit.planner.graphs import cluster_of, conv_chain

CLUSTER = """\
bandwidth: 100 Mbit/s
topology: star
devices:
  - {name: left, address: "left:50051", speed: 0.2}
  - {name: middle, address: "middle:50051", speed: 0.2}
  - {name: right, address: "right:50051", speed: 0.1}
"""


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    model, cluster = tmp_path / "digits.onnx", tmp_path / "cluster.yaml"
    model.write_bytes(flexpie_models.build("digits").SerializeToString())
    cluster.write_text(CLUSTER)
    return [str(model), "--cluster", str(cluster), "--shape", "image=1x1x8x8", "--scheme", "InH"]


def simulated(arguments: list[str], *more: str) -> dict[str, Any]:
    result = CliRunner().invoke(main, ["simulate", *arguments, "--json", *more])
    assert result.exit_code == 0, result.output
    summary: dict[str, Any] = json.loads(result.stdout)
    return summary


def test_devices_account_for_the_latency(arguments: list[str]) -> None:
    summary = simulated(arguments, "--requests", "20", "--in-flight", "3", "--jitter", "0.2")
    latency = summary["latency_seconds"]
    assert summary["requests"] == 20
    assert latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["p100"]
    assert [device["name"] for device in summary["devices"]] == ["left", "middle", "right"]
    for device in summary["devices"]:
        parts = device["computing_seconds"] + device["sending_seconds"] + device["waiting_seconds"]
        assert parts == pytest.approx(summary["mean_latency_seconds"])
        assert 0 < device["utilisation"] <= 1


def test_more_requests_in_flight_are_answered_faster_and_later(arguments: list[str]) -> None:
    one, several = simulated(arguments), simulated(arguments, "--in-flight", "4")
    assert several["requests_per_second"] > one["requests_per_second"]
    assert several["mean_latency_seconds"] > one["mean_latency_seconds"]


def test_a_seed_decides_the_jitter(arguments: list[str]) -> None:
    first, again, other = (simulated(arguments, "--jitter", "0.3", "--seed", seed) for seed in ("1", "1", "2"))
    assert first == again
    assert first["latency_seconds"] != other["latency_seconds"]


def test_a_plan_of_a_file_is_simulated_as_it_is(arguments: list[str], tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    planned = CliRunner().invoke(main, ["plan", *arguments, "--no-compare", "--output", str(file)])
    assert planned.exit_code == 0, planned.output
    assert simulated([*arguments[:-2], "--plan", str(file)]) == simulated(arguments)
    both = CliRunner().invoke(main, ["simulate", *arguments, "--plan", str(file)])
    assert both.exit_code == 2
    assert "either --scheme or --plan" in both.stderr


def test_people_get_a_table(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, ["simulate", *arguments])
    assert result.exit_code == 0, result.output
    for word in ("left", "utilisation", "Latency: mean", "p99", "requests/s"):
        assert word in result.stdout


def test_the_timeline_has_a_process_for_each_end(arguments: list[str], tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    simulated(arguments, "--requests", "2", "--trace", str(trace))
    events = json.loads(trace.read_text())["traceEvents"]
    names = [event["args"]["name"] for event in events if event["name"] == "process_name"]
    assert names == ["master", "left", "middle", "right"]
    spans = [event for event in events if event["ph"] == "X"]
    assert {event["args"]["request"] for event in spans} == {0, 1}
    assert {event["pid"] for event in spans} == {1, 2, 3, 4}
    assert all(event["dur"] >= 0 for event in spans)


def test_the_timeline_is_in_microseconds() -> None:
    graph, cluster = conv_chain(count=1), cluster_of(0.2, 0.2)
    segments = [Segment(0, 1, IN_H, (1.0, 1.0))]
    model = PhysicsCostModel(cluster)
    simulation = simulate(graph, cluster, segments, model)
    events = [event for event in trace_events(simulation, cluster)["traceEvents"] if event["ph"] == "X"]
    (output,) = (graph.tensors[name] for name in graph.outputs)
    answering = (
        model.messages.client_seconds + output.whole.size * output.itemsize * model.messages.client_seconds_per_byte
    )
    ended = simulation.makespan - answering
    assert max(event["ts"] + event["dur"] for event in events) == pytest.approx(ended * 1e6)
    assert sum(event["name"] == "segment 0, request 0" for event in events) == 2
