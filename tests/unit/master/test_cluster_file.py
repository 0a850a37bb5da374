"""A cluster file is read into a cluster and models, and every mistake is named with its line."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from flexpie.core.boundary import Boundary
from flexpie.core.cluster import MASTER_NAME, Cluster, Device, Link, Topology
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.heartbeat import Heartbeat
from flexpie.core.routes import all_ways
from flexpie.core.strategy import STRATEGIES
from flexpie.master.calibration_file import read_calibration
from flexpie.master.cluster_file import ClusterFile, ModelEntry, read_cluster_file
from flexpie.master.serving import Serving

FULL = """\
    devices:
      - name: pi-1
        address: 10.0.0.1:50051
      - {name: jetson, address: "[fd00::1]:50052", speed: 2.5, memory: 2 GiB}
    bandwidth: 500 Mbit/s
    latency: 50 us
    topology: ring
    dead_after: 2.5 s
    links:
      - {from: pi-1, to: jetson, bandwidth: 100 Mbit/s}
      - {from: jetson, to: pi-1, latency: 0.2 ms}
    models:
      - path: models/resnet18.onnx
      - name: bert
        path: /srv/bert-base.onnx
        input_shapes: {input_ids: [1, 128], scalar: []}
        scheme: InH
      - {name: planned, path: models/resnet18.onnx, plan: plan.json}
"""
DEVICES = "devices:\n  - {name: a, address: 'localhost:1'}\n  - {name: b, address: 'localhost:2'}\n"


def _read(folder: Path, text: str) -> ClusterFile:
    path = folder / "cluster.yaml"
    path.write_text(textwrap.dedent(text))
    return read_cluster_file(path)


def _mistake(folder: Path, content: bytes | str, *, require_models: bool = False) -> str:
    path = folder / "cluster.yaml"
    path.write_bytes(content if isinstance(content, bytes) else textwrap.dedent(content).encode())
    with pytest.raises(FlexPieError) as caught:
        read_cluster_file(path, require_models=require_models)
    assert caught.value.code is ErrorCode.INVALID_CLUSTER
    assert "docs/cluster-file.md" in caught.value.remedy
    return caught.value.message.replace(f"{folder}/", "")


def test_everything_that_can_be_said_is_read(tmp_path: Path) -> None:
    read = _read(tmp_path, FULL)
    assert read.heartbeat == Heartbeat(2.5)
    default = Link(500e6 / 8, 50e-6)
    assert read.cluster == Cluster(
        devices=(Device("pi-1", "10.0.0.1:50051"), Device("jetson", "[fd00::1]:50052", 2.5, 2 * 2**30)),
        link=default,
        topology=Topology.RING,
        links={("pi-1", "jetson"): Link(100e6 / 8, 50e-6), ("jetson", "pi-1"): Link(500e6 / 8, 0.2e-3)},
    )
    assert read.models == (
        ModelEntry("resnet18", tmp_path / "models/resnet18.onnx"),
        ModelEntry("bert", Path("/srv/bert-base.onnx"), ({"input_ids": (1, 128), "scalar": ()},), "InH"),
        ModelEntry("planned", tmp_path / "models/resnet18.onnx"),
    )


def test_a_plan_is_read_where_models_are_to_be_served(tmp_path: Path) -> None:
    text = DEVICES + "models:\n- {path: a.onnx, plan: plan.json}\n"
    (tmp_path / "a.onnx").touch()
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    message = _mistake(tmp_path, text, require_models=True)
    assert message == "cluster.yaml:5: models[0].plan: expected an existing file, found 'plan.json'."
    (tmp_path / "plan.json").write_text('{"format": "flexpie-plan"}')
    assert read_cluster_file(path, require_models=True).models[0].plan == '{"format": "flexpie-plan"}'
    assert read_cluster_file(path).models[0].plan == ""


def test_devices_alone_are_enough(tmp_path: Path) -> None:
    read = _read(tmp_path, DEVICES + "models:\nlinks: null\n")
    assert read.cluster.link == Link(1e9 / 8, 100e-6)
    assert read.cluster.topology is Topology.MESH
    assert read.models == ()


def test_texts_stay_texts(tmp_path: Path) -> None:
    (device,) = _read(tmp_path, "devices:\n- name: no\n  address: 10:20\n").cluster.devices
    assert device == Device("no", "10:20")


def test_the_example_of_the_documentation_is_valid(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs/cluster-file.md").read_text()
    whole, links, models, calibration = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert [device.name for device in _read(tmp_path, whole).cluster.devices] == ["pi-1", "pi-2", "jetson"]
    relayed = _read(tmp_path, whole[: whole.index("links:")] + links).cluster
    assert all_ways(relayed)[0, 1] == (0, 2, 1)
    (bert,) = _read(tmp_path, DEVICES + models).models
    assert [bert.describe(index) for index in range(2)] == [
        "input_ids=1x64,attention_mask=1x64",
        "input_ids=1x128,attention_mask=1x128",
    ]
    path = tmp_path / "cluster.calibration.yaml"
    path.write_text(calibration)
    assert read_calibration(path).links["pi-1", "pi-2"].bandwidth_bytes_per_second == 114e6


def test_a_model_says_how_many_requests_run_at_once_and_together(tmp_path: Path) -> None:
    model = "models:\n- path: a.onnx\n  input_shapes: {x: [1, 3]}\n"
    (found,) = _read(tmp_path, DEVICES + model + "  in_flight: 3\n  batching: {max: 5, wait: 2 ms}\n").models
    assert found.serving == Serving(in_flight=3, max_batch=5, batch_wait_seconds=0.002)
    assert found.profiles == ({"x": (1, 3)}, {"x": (2, 3)}, {"x": (4, 3)})
    (found,) = _read(tmp_path, DEVICES + model + "  boundary: float16\n").models
    assert found.boundary is Boundary.FLOAT16
    (found,) = _read(tmp_path, DEVICES + model + "  batching: {max: 2}\n").models
    assert found.boundary is Boundary.FLOAT32
    assert found.serving == Serving(max_batch=2, batch_wait_seconds=0.005)
    (found,) = _read(tmp_path, DEVICES + model).models
    assert found.serving == Serving()


def test_a_model_may_have_several_profiles(tmp_path: Path) -> None:
    text = DEVICES + "models:\n- path: a.onnx\n  profiles: [{x: [1, 3], n: []}, {x: [4, 3], n: []}]\n"
    (model,) = _read(tmp_path, text).models
    assert model.profiles == ({"x": (1, 3), "n": ()}, {"x": (4, 3), "n": ()})
    assert model.describe(1) == "x=4x3,n="
    (one,) = _read(tmp_path, DEVICES + "models:\n- path: a.onnx\n").models
    assert one.profiles == ({},)
    assert one.describe(0) == "(no shapes)"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1: expected a list of devices, found an empty file."),
        ("# nothing\n", "1: expected a list of devices, found an empty file."),
        ("hello\n", "1: expected keys with values, such as 'devices:', found 'hello'."),
        ("- a\n", "1: expected keys with values, such as 'devices:', found 'a list'."),
        ("devices: [\n", "2: expected YAML, found an error: "),
        ("a: &x 1\nb: *x\n", "2: expected YAML, found an error: aliases are not supported."),
        ("a: \x01\n", "1: expected YAML, found an error: "),
        (b"devices:\n- \xff\xfe\n", "2: expected a text in UTF-8, found other bytes."),
        (b" " * (1 << 21), " expected a cluster file of at most 1048576 bytes, found a larger one."),
        ("{[1]: 2}\n", "1: expected a text as a key, found a list or a table."),
        ("models: []\n", "1: devices: expected, but missing."),
        ("devices: []\n", "1: devices: expected at least one entry, found 'an empty list'."),
        ("devices:\n\t- name: a\n", "2: expected YAML, found a tab (indent with spaces)."),
        ("latency: 5\nbandwidth: 1\ndevices: []\n", "1: latency: expected a time"),
        ("devices: [{name: a, address: 'x:1', speed: 0}]\n", "1: devices[0].speed: expected a number above 0, found"),
        ("devices: pi\n", "1: devices: expected a list, found 'pi'."),
        ("devices:\n- pi\n", "2: devices[0]: expected keys with values, found 'pi'."),
        ("devices:\n- name: a\n", "2: devices[0].address: expected, but missing."),
        (
            "devices:\n- name: a\n  address: x:1\n  name: b\n",
            "4: name: expected once, found again (first on line 2).",
        ),
        (
            "devices:\n- {name: a, address: 'x:1'}\n- {name: a,\n   address: 'x:1'}\n",
            "3: devices[1].name: expected a name that no other device has, found 'a'\n"
            "cluster.yaml:4: devices[1].address: expected an address that no other device has, found 'x:1'.",
        ),
        (
            "devices:\n- name: a\n  address: 10.0.0.2:99999\n",
            "3: devices[0].address: expected host:port with a port from 1 to 65535, found '10.0.0.2:99999'.",
        ),
        ("devices:\n- name: a\n  address: pi\n", "3: devices[0].address: expected host:port, such as"),
        ("devices:\n- name: a\n  address: ::1:5\n", "3: devices[0].address: expected host:port, such as"),
        ("devices:\n- name: a\n  address: http://x:5\n", "3: devices[0].address: expected host:port,"),
        ("devices:\n- name: a\n  address: [1]\n", "3: devices[0].address: expected host:port,"),
        (
            DEVICES + "bandwith: 1 Gbit/s\n",
            "4: bandwith: unknown key; expected one of devices, bandwidth, latency, topology, center, links, "
            "dead_after, self_check, models (did you mean 'bandwidth'?).",
        ),
        (
            "devices:\n- name: a\n  address: x:1\n  Memory: 2 GiB\n",
            "4: devices[0].Memory: unknown key; expected one of name, address, speed, memory (did you mean 'memory'?).",
        ),
        (
            DEVICES + "bandwidth: 1 GB/s\n",
            "4: bandwidth: expected a bandwidth such as '1 Gbit/s' or '500 Mbit/s' "
            "(units: bit/s, kbit/s, Mbit/s, Gbit/s), found '1 GB/s'.",
        ),
        (DEVICES + "bandwidth: 0 Gbit/s\n", "4: bandwidth: expected a bandwidth such as"),
        (DEVICES + "latency: 5\n", "4: latency: expected a time such as '50 us' or '0.2 ms' (units:"),
        (DEVICES + "latency: -5 us\n", "4: latency: expected a time such as"),
        (DEVICES + "latency: 1e999 us\n", "4: latency: expected a time such as"),
        (DEVICES + "topology: Mesh\n", "4: topology: expected one of mesh, ring, star (did you mean 'me"),
        (DEVICES + "links:\n- {from: a, to: c}\n", "5: links[0].to: expected the name of a device, or master,"),
        (
            DEVICES + "links:\n- {from: a, to: b, bandwidth: no}\n",
            "5: links[0].bandwidth: expected a bandwidth such as '1 Gbit/s' or '500 Mbit/s' "
            "(units: bit/s, kbit/s, Mbit/s, Gbit/s), or 'none' where there is no link, found 'no'.",
        ),
        (
            DEVICES + "links:\n- {from: a, to: b, bandwidth: 0 Mbit/s}\n",
            "5: links[0].bandwidth: expected a bandwidth such as '1 Gbit/s' or '500 Mbit/s', above zero, or 'none'",
        ),
        (
            DEVICES + "links:\n- {from: a, to: b}\n- {from: a, to: b}\n",
            "6: links[1]: expected another direction than that of links[0].",
        ),
        (
            DEVICES + "links:\n- {from: a, to: b, bandwidth: none, latency: 1 ms}\n",
            "5: links[0].latency: expected none for a link whose bandwidth is none.",
        ),
        (
            DEVICES + "links:\n- {from: a, to: b, bandwidth: none}\n",
            "3: devices[1]: expected a way from a to b, found none because of links[0].",
        ),
        (
            DEVICES + "links:\n- {from: b, to: a, bandwidth: none}\n",
            "3: devices[1]: expected a way from b to a, found none because of links[0].",
        ),
        (DEVICES + "center: a\n", "4: center: expected only where the topology is star, found 'a'."),
        (
            DEVICES + "topology: star\ncenter: B\n",
            "5: center: expected the name of a device (did you mean 'b'?), found 'B'.",
        ),
        (
            DEVICES + "links:\n- {from: b, to: master, bandwidth: none}\n",
            "5: links[0].bandwidth: expected a bandwidth: the master reaches every device directly, found 'none'.",
        ),
        (DEVICES + "links:\n- {from: a, to: a}\n", "5: links[0].to: expected another device than 'from'"),
        ("devices:\n- {name: a, address: 'x:1', speed: fast}\n", "2: devices[0].speed: expected a number,"),
        ("devices:\n- {name: a, address: 'x:1', speed: 0}\n", "2: devices[0].speed: expected a number a"),
        ("devices:\n- {name: a, address: 'x:1', speed: nan}\n", "2: devices[0].speed: expected a finite"),
        ("devices:\n- {name: a, address: 'x:1', memory: 2}\n", "2: devices[0].memory: expected a size s"),
        ("devices:\n- {name: a/b, address: 'x:1'}\n", "2: devices[0].name: expected a name: 1 to 128"),
        (DEVICES + "models:\n- name: x\n", "5: models[0].path: expected, but missing."),
        (
            DEVICES + "models:\n- {path: a.onnx}\n- {path: b/a.onnx}\n",
            "6: models[1].name: expected a name that no other model has, found 'a'.",
        ),
        (
            DEVICES + "models:\n- path: a.onnx\n  input_shapes:\n    x: [1, -1]\n",
            "7: models[0].input_shapes.x[1]: expected a number of 0 or more, found '-1'.",
        ),
        (
            DEVICES + "models:\n- path: a.onnx\n  input_shapes: {x: [1]}\n  profiles: [{x: [1]}]\n",
            "7: models[0].profiles: expected either input_shapes or profiles, found both.",
        ),
        (
            DEVICES + "models:\n- path: a.onnx\n  profiles:\n  - {x: [1]}\n  - {x: [2]}\n  - {x: [1]}\n",
            "9: models[0].profiles[2]: expected other shapes than those of profiles[0].",
        ),
        (
            DEVICES + "models:\n- path: a.onnx\n  input_shapes: {x: [1]}\n  in_flight: 0\n",
            "7: models[0].in_flight: expected a number of 1 or more, found '0'.",
        ),
        (
            DEVICES + "models:\n- path: a.onnx\n  batching: {max: 4}\n",
            "6: models[0].batching: expected, for batching, shapes of every input that begin with 1",
        ),
        (
            DEVICES + "models:\n- path: a.onnx\n  boundary: fp16\n",
            "6: models[0].boundary: expected one of float32, float16, found 'fp16'.",
        ),
        (
            DEVICES + "models:\n- path: a.onnx\n  plan: p.json\n  boundary: float16\n",
            "7: models[0].boundary: expected either a boundary or a plan, which has one, found both.",
        ),
        (
            DEVICES + "models:\n- path: a.onnx\n  input_shapes: {x: [1]}\n  batching: {max: 999}\n",
            "7: models[0].batching.max: expected a number of 256 or less, found '999'.",
        ),
        (
            DEVICES + "models:\n- path: a.onnx\n  input_shapes: {x: [1]}\n  batching: {max: 4, wait: 1 h}\n",
            "7: models[0].batching.wait: expected a time of at most 10 s, such as '5 ms'",
        ),
        (
            DEVICES + "models:\n- path: a.onnx\n  input_shapes: {x: [1]}\n  batching: {max: 4, wit: 5 ms}\n",
            "7: models[0].batching.wit: unknown key; expected one of max, wait (did you mean 'wait'?).",
        ),
        (
            DEVICES + "models:\n- path: a.onnx\n  profiles: [{x: [1, 3]}, {x: [1, 4]}]\n  batching: {max: 256}\n",
            "7: models[0].batching: expected at most 16 profiles, those of its batches included, found '18'.",
        ),
        (
            DEVICES + "models:\n- path: a.onnx\n  input_shapes: {x: [1]}\n  plan: p.json\n  batching: {max: 4}\n",
            "8: models[0].batching: expected either batching or a plan, which is for one set of shapes, found both.",
        ),
        (
            DEVICES + "models:\n- path: a.onnx\n  profiles: []\n",
            "6: models[0].profiles: expected at least one entry, found 'an empty list'.",
        ),
        (
            DEVICES + f"models:\n- path: a.onnx\n  profiles: {[{'x': [n]} for n in range(17)]}\n",
            "6: models[0].profiles: expected at most 16 entries, found 'a list'.",
        ),
        (
            DEVICES + "models:\n- path: a.onnx\n  profiles: {x: [1]}\n",
            "6: models[0].profiles: expected a list, found 'keys with values'.",
        ),
        (
            DEVICES + "models:\n- path: a.onnx\n  profiles: [{x: [1]}, {x: 1x3}]\n",
            "6: models[0].profiles[1].x: expected a list, found '1x3'.",
        ),
        (
            DEVICES + "models:\n- path: a.onnx\n  input_shapes: {x: [N]}\n",
            "6: models[0].input_shapes.x[0]: expected a whole number, found 'N'.",
        ),
        (
            DEVICES + "models:\n- path: a.onnx\n  scheme: inh\n",
            f"6: models[0].scheme: expected one of {', '.join(STRATEGIES)} (did you mean 'InH'?), found 'inh'.",
        ),
        (
            DEVICES + "models:\n- path: a.onnx\n  plan: p.json\n  scheme: InH\n",
            "6: models[0].plan: expected either a scheme or a plan, found both.",
        ),
        (
            DEVICES + "models:\n- path: a.onnx\n  plan: p.json\n  profiles: [{x: [1]}, {x: [2]}]\n",
            "6: models[0].plan: expected one profile, as a plan is for one set of shapes.",
        ),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, text: bytes | str, expected: str) -> None:
    message = _mistake(tmp_path, text)
    assert message.startswith(f"cluster.yaml:{expected}")
    assert message.endswith(".")


THREE = DEVICES + "  - {name: c, address: 'localhost:3'}\n"


def test_a_link_may_be_missing_where_a_relay_is_left(tmp_path: Path) -> None:
    read = _read(tmp_path, THREE + "links:\n- {from: a, to: b, bandwidth: none}\n- {from: a, to: c, latency: 1 ms}\n")
    assert read.cluster.missing == {("a", "b")}
    assert set(read.cluster.links) == {("a", "c")}
    assert all_ways(read.cluster)[0, 1] == (0, 2, 1)


def test_a_link_of_the_master_is_named_so_unless_a_device_is(tmp_path: Path) -> None:
    links = "links:\n- {from: master, to: a, bandwidth: 8 Mbit/s}\n"
    assert _read(tmp_path, THREE + links).cluster.links == {(MASTER_NAME, "a"): Link(1e6, 1e-4)}
    named = THREE.replace("name: c", "name: master") + links
    assert _read(tmp_path, named).cluster.links == {("master", "a"): Link(1e6, 1e-4)}


def test_a_star_has_the_center_that_is_asked_for(tmp_path: Path) -> None:
    assert all_ways(_read(tmp_path, THREE + "topology: star\n").cluster)[1, 2] == (1, 0, 2)
    assert all_ways(_read(tmp_path, THREE + "topology: star\ncenter: c\n").cluster)[0, 1] == (0, 2, 1)


def test_each_device_that_is_cut_off_is_named_with_the_links_that_it_lacks(tmp_path: Path) -> None:
    cut = "".join(
        f"- {{from: {source}, to: {destination}, bandwidth: none}}\n"
        for source, destination in ("ab", "cb", "ba", "bc", "ca")
    )
    message = _mistake(tmp_path, THREE + "links:\n" + cut)
    assert message == (
        "cluster.yaml:3: devices[1]: expected a way from a to b, found none because of links[0] and links[1]\n"
        "cluster.yaml:4: devices[2]: expected a way from c to a, found none because of links[1] and links[4]."
    )


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FlexPieError, match=r"absent\.yaml: expected a readable cluster file, found: No such file"):
        read_cluster_file(tmp_path / "absent.yaml")


def test_a_folder_is_no_cluster_file(tmp_path: Path) -> None:
    with pytest.raises(FlexPieError, match="expected a readable cluster file, found: Is a directory"):
        read_cluster_file(tmp_path)


def test_a_missing_model_file_is_a_mistake_only_for_who_serves_it(tmp_path: Path) -> None:
    text = DEVICES + "models:\n- path: absent.onnx\n"
    _read(tmp_path, text)
    message = _mistake(tmp_path, text, require_models=True)
    assert message == "cluster.yaml:5: models[0].path: expected an existing file, found 'absent.onnx'."


def test_a_device_is_not_given_up_before_it_can_answer(tmp_path: Path) -> None:
    assert _read(tmp_path, DEVICES).heartbeat == Heartbeat(1.0)
    for found in ("50 ms", "61 s"):
        message = _mistake(tmp_path, DEVICES + f"dead_after: {found}\n")
        assert (
            message == f"cluster.yaml:4: dead_after: expected a time of 100 ms to 60 s, such as '1 s', found '{found}'."
        )


def test_the_self_check_is_off_unless_wanted(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(DEVICES)
    assert read_cluster_file(file).self_check_every == 0
    file.write_text(DEVICES + "self_check: {every: 1000}\n")
    assert read_cluster_file(file).self_check_every == 1000
    message = _mistake(tmp_path, DEVICES + "self_check: {every: -1}\n")
    assert message == "cluster.yaml:4: self_check.every: expected a number of 0 or more, found '-1'."
