"""The cluster file: which devices there are, how they are connected, and which models to serve.

`docs/cluster-file.md` describes it for its authors.
"""

from __future__ import annotations

import contextlib
import difflib
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from flexpie.core.address import check_address
from flexpie.core.boundary import BOUNDARIES, Boundary
from flexpie.core.cluster import MASTER_NAME, Cluster, Device, Link, Topology
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.heartbeat import Heartbeat
from flexpie.core.plan import OBJECTIVES, Objective
from flexpie.core.routes import groups, ways_from
from flexpie.core.strategy import AUTO, STRATEGIES
from flexpie.master import quantities
from flexpie.master.calibration_file import calibrated, calibration_path, read_calibration
from flexpie.master.serving import MOST_BATCH, Serving, with_batches
from flexpie.master.yaml_source import Location, YamlSource, read_yaml
from flexpie.wire.plan_files import read_plan_text

MAX_PROFILES = 16
"""Of one model: each has sessions, and with them a copy of the weights, of its own."""

MASTER = "master"
"""Stands for the master as an end of a link, unless a device has this name."""

Shapes = Mapping[str, tuple[int, ...]]
"""Lengths by input."""

_REMEDY = "docs/cluster-file.md describes the file."
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelEntry:
    """A model that the master is to serve."""

    name: str
    path: Path
    """Absolute path of the ONNX file."""
    profiles: tuple[Shapes, ...] = field(default_factory=lambda: ({},))
    """One or more sets of shapes that requests may have: of the inputs whose dimensions the file leaves open."""
    scheme: str = AUTO
    """One of `STRATEGIES`."""
    plan: str = ""
    """Text of the plan file to deploy instead of searching for a plan; empty for none."""
    objective: str = Objective.LATENCY.value
    """What the plans are to be best at, one of `flexpie.core.plan.OBJECTIVES`."""
    serving: Serving = field(default_factory=Serving)
    """How many requests run at once, and whether in batches; their profiles are among the others."""
    boundary: Boundary = Boundary.FLOAT32
    """What float32 tensors are between devices; a plan that is given says it itself."""

    def describe(self, profile: int) -> str:
        """A profile as users write it, such as ``input=1x3x224x224``."""
        shapes = self.profiles[profile]
        written = ",".join(f"{name}={'x'.join(map(str, shape))}" for name, shape in shapes.items())
        return written or "(no shapes)"


@dataclass(frozen=True)
class ClusterFile:
    """What a cluster file says."""

    cluster: Cluster
    """With what `flexpie calibrate` measured, where that lies beside the file."""
    models: tuple[ModelEntry, ...] = ()
    calibration: str = ""
    """When the cluster was calibrated; empty if it was not."""
    heartbeat: Heartbeat = field(default_factory=Heartbeat)
    self_check_every: int = 0
    """Of so many requests one is compared with the answer of one device alone; 0 is none."""
    """When a device that says nothing counts as lost."""


def read_cluster_file(path: str | Path, *, require_models: bool = False, with_calibration: bool = True) -> ClusterFile:
    """Read and check a cluster file, and the calibration beside it (`flexpie.master.calibration_file`) if there is one
    and it is wanted. Logs a warning where that is of other devices.

    Raises FlexPieError(INVALID_TRACES) for a broken calibration, and for a cluster file FlexPieError(INVALID_CLUSTER)
    with one line per mistake: ``file:line: field: expected ..., found ...``.
    With `require_models` a model whose file, or plan file, is missing is a mistake too; planning for a cluster
    elsewhere needs none, and reads none.
    """
    source = read_yaml(Path(path))
    try:
        content = _Content.model_validate(source.value)
    except ValidationError as error:
        raise _invalid(source, [_mistake(source, item) for item in error.errors()]) from None
    mistakes = [*_duplicates(content), *_wrong_center(content), *_wrong_links(content), *_wrong_models(content)]
    mistakes += _unreachable(content) if not mistakes else []
    models = tuple(_entry(source, model) for model in content.models)
    plans = {at: _path(source, model.plan) for at, model in enumerate(content.models) if model.plan is not None}
    mistakes += _duplicate_models(models)
    if require_models:
        files = [(("models", at, "path"), model.path) for at, model in enumerate(models)]
        files += [(("models", at, "plan"), plan) for at, plan in plans.items()]
        mistakes += [(where, "expected an existing file", str(file)) for where, file in files if not file.is_file()]
    if mistakes:
        raise _invalid(source, mistakes)
    if require_models:
        texts = {at: read_plan_text(plan) for at, plan in plans.items()}
        models = tuple(replace(model, plan=texts.get(at, "")) for at, model in enumerate(models))
    file = ClusterFile(
        _cluster(content), models, heartbeat=Heartbeat(content.dead_after), self_check_every=content.self_check.every
    )
    measured = calibration_path(Path(path))
    return _calibrated(file, measured) if with_calibration and measured.is_file() else file


def _calibrated(file: ClusterFile, path: Path) -> ClusterFile:
    calibration = read_calibration(path)
    known, stale = calibrated(file.cluster, calibration)
    if stale:
        _log.warning("%s is of other devices: %s. Run `flexpie calibrate` again.", path, stale)
    return replace(file, cluster=known, calibration=calibration.measured_at)


# ------------------------------------------------------------------------------------------------ schema


def _parsed(parse: Callable[[str], Any]) -> BeforeValidator:
    """A validator from a function that raises ValueError with what it expects."""

    def validate(text: object) -> Any:
        try:
            return parse(text if isinstance(text, str) else "")
        except ValueError as error:
            raise PydanticCustomError("flexpie", "expected {expected}", {"expected": str(error)}) from None

    return BeforeValidator(validate)


NAME_RULE = "1 to 128 printable characters without '/', and no space at either end"


def is_name(text: str) -> bool:
    """Whether a device or a model may be called so: `NAME_RULE`."""
    return bool(text) and text == text.strip() and text.isprintable() and "/" not in text and len(text) <= 128


def _name(text: str) -> str:
    if not is_name(text):
        raise ValueError(f"a name: {NAME_RULE}")
    return text


def _address(text: str) -> str:
    check_address(text)
    return text


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"one of {', '.join(choices)}{_suggestion(text, choices)}")
        return text

    return parse


_Name = Annotated[str, _parsed(_name)]
_BytesPerSecond = Annotated[float, _parsed(quantities.bandwidth)]
_LinkBytesPerSecond = Annotated[float, _parsed(quantities.bandwidth_or_none)]
_Patience = Annotated[float, _parsed(quantities.patience)]
_Seconds = Annotated[float, _parsed(quantities.latency)]
_Wait = Annotated[float, _parsed(quantities.batch_wait)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Device(_Table):
    name: _Name
    address: Annotated[str, _parsed(_address)]
    speed: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    memory: Annotated[int, _parsed(quantities.memory)] | None = None


class _Link(_Table):
    source: str = Field(alias="from")
    """Name of a device, or `MASTER`."""
    destination: str = Field(alias="to")
    bandwidth: _LinkBytesPerSecond | None = None
    latency: _Seconds | None = None

    @property
    def is_missing(self) -> bool:
        """Whether it says that there is no such link."""
        return self.bandwidth == 0


_Shapes = dict[str, list[Annotated[int, Field(ge=0)]]]


class _Batching(_Table):
    max: Annotated[int, Field(ge=1, le=MOST_BATCH)]
    wait: _Wait = Serving().batch_wait_seconds


class _Model(_Table):
    path: Annotated[str, Field(min_length=1)]
    name: _Name | None = None
    input_shapes: _Shapes | None = None
    profiles: Annotated[list[_Shapes], Field(min_length=1, max_length=MAX_PROFILES)] | None = None
    scheme: Annotated[str, _parsed(_one_of(*STRATEGIES))] = AUTO
    plan: Annotated[str, Field(min_length=1)] | None = None
    objective: Annotated[str, _parsed(_one_of(*OBJECTIVES))] = Objective.LATENCY.value
    boundary: Annotated[str, _parsed(_one_of(*BOUNDARIES))] | None = None
    in_flight: Annotated[int, Field(ge=1)] | None = None
    batching: _Batching | None = None

    @property
    def shapes(self) -> list[_Shapes]:
        """Of its profiles."""
        return self.profiles or [self.input_shapes or {}]


class _SelfCheck(_Table):
    every: Annotated[int, Field(ge=0)] = 0


class _Content(_Table):
    devices: Annotated[list[_Device], Field(min_length=1)]
    bandwidth: _BytesPerSecond = quantities.bandwidth("1 Gbit/s")
    latency: _Seconds = quantities.latency("100 us")
    topology: Annotated[str, _parsed(_one_of(*(item.value for item in Topology)))] = Topology.MESH.value
    center: str | None = None
    links: list[_Link] = []
    dead_after: _Patience = Heartbeat().dead_after_seconds
    self_check: _SelfCheck = _SelfCheck()
    models: list[_Model] = []


# ---------------------------------------------------------------------------------------------- mistakes

_Mistake = tuple[Location, str, str | None]
"""Where it is, what is expected, and what was found; None where there is nothing to show."""

_EXPECTED: Mapping[str, str] = {
    "list_type": "expected a list",
    "dict_type": "expected keys with values",
    "model_type": "expected keys with values",
    "string_type": "expected a text",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "finite_number": "expected a finite number",
    "greater_than": "expected a number above {gt}",
    "greater_than_equal": "expected a number of {ge} or more",
    "less_than_equal": "expected a number of {le} or less",
    "too_short": "expected at least one entry",
    "too_long": "expected at most {max_length} entries",
    "string_too_short": "expected a text",
}


def _mistake(source: YamlSource, error: ErrorDetails) -> _Mistake:
    location, kind, context = error["loc"], error["type"], error.get("ctx", {})
    if kind == "missing":
        return location, "expected, but missing", None
    if kind == "extra_forbidden":
        known = _known_keys(location[:-1])
        suggestion = _suggestion(str(location[-1]), known)
        return location, f"unknown key; expected one of {', '.join(known)}{suggestion}", None
    limits = {key: f"{value:g}" if isinstance(value, float) else value for key, value in context.items()}
    expected = _EXPECTED.get(kind, "").format(**limits) or error["msg"]
    return location, expected, source.found(location)


def _known_keys(table: Location) -> list[str]:
    """The keys of the table at a location."""
    entries: dict[str, type[_Table]] = {"devices": _Device, "links": _Link, "models": _Model, "self_check": _SelfCheck}
    model = entries[str(table[0])] if table else _Content
    if table[-1:] == ("batching",):
        model = _Batching
    return [item.alias or name for name, item in model.model_fields.items()]


def _suggestion(text: str, known: Iterable[str]) -> str:
    lowered = {item.lower(): item for item in known}
    close = difflib.get_close_matches(text.lower(), lowered, n=1)
    return f" (did you mean '{lowered[close[0]]}'?)" if close else ""


def _duplicates(content: _Content) -> list[_Mistake]:
    found: list[_Mistake] = []
    for article, key in (("a", "name"), ("an", "address")):
        seen: set[str] = set()
        for at, device in enumerate(content.devices):
            value = getattr(device, key)
            if value in seen:
                found.append((("devices", at, key), f"expected {article} {key} that no other device has", value))
            seen.add(value)
    return found


def _duplicate_models(models: Iterable[ModelEntry]) -> list[_Mistake]:
    found: list[_Mistake] = []
    seen: set[str] = set()
    for at, model in enumerate(models):
        if model.name in seen:
            found.append((("models", at, "name"), "expected a name that no other model has", model.name))
        seen.add(model.name)
    return found


def _wrong_models(content: _Content) -> list[_Mistake]:
    found: list[_Mistake] = []
    for at, model in enumerate(content.models):
        if model.plan is not None and model.scheme != AUTO:
            found.append((("models", at, "plan"), "expected either a scheme or a plan, found both", None))
        if model.plan is not None and model.boundary is not None:
            found.append(
                (("models", at, "boundary"), "expected either a boundary or a plan, which has one, found both", None)
            )
        if model.scheme != AUTO and model.objective != Objective.LATENCY.value:
            found.append((("models", at, "objective"), f"expected only with the scheme {AUTO}", model.objective))
        found += _wrong_batching(model, ("models", at, "batching"))
        if model.profiles is None:
            continue
        if model.plan is not None and len(model.profiles) > 1:
            found.append((("models", at, "plan"), "expected one profile, as a plan is for one set of shapes", None))
        location: Location = ("models", at, "profiles")
        if model.input_shapes is not None:
            found.append((location, "expected either input_shapes or profiles, found both", None))
        for index, shapes in enumerate(model.profiles):
            first = model.profiles.index(shapes)
            if first < index:
                found.append(((*location, index), f"expected other shapes than those of profiles[{first}]", None))
    return found


def _wrong_batching(model: _Model, location: Location) -> list[_Mistake]:
    if model.batching is None or model.batching.max == 1:
        return []
    if model.plan is not None:
        return [(location, "expected either batching or a plan, which is for one set of shapes, found both", None)]
    try:
        profiles = with_batches(_profiles(model), model.batching.max)
    except ValueError as error:
        return [(location, f"expected, {error}", None)]
    if len(profiles) > MAX_PROFILES:
        return [
            (location, f"expected at most {MAX_PROFILES} profiles, those of its batches included", f"{len(profiles)}")
        ]
    return []


def _profiles(model: _Model) -> list[Shapes]:
    return [{name: tuple(shape) for name, shape in shapes.items()} for shapes in model.shapes]


def _wrong_center(content: _Content) -> list[_Mistake]:
    if content.center is None:
        return []
    names = [device.name for device in content.devices]
    if content.topology != Topology.STAR.value:
        return [(("center",), f"expected only where the topology is {Topology.STAR.value}", content.center)]
    if content.center not in names:
        return [(("center",), f"expected the name of a device{_suggestion(content.center, names)}", content.center)]
    return []


def _wrong_links(content: _Content) -> list[_Mistake]:
    ends = _ends(content)
    found: list[_Mistake] = []
    seen: dict[tuple[str, str], int] = {}
    for at, link in enumerate(content.links):
        for key, name in (("from", link.source), ("to", link.destination)):
            if name not in ends:
                expected = f"expected the name of a device, or {MASTER}{_suggestion(name, list(ends))}"
                found.append((("links", at, key), expected, name))
        if link.source == link.destination:
            found.append((("links", at, "to"), "expected another device than 'from'", link.destination))
        if link.is_missing and MASTER_NAME in (ends.get(link.source), ends.get(link.destination)):
            expected = "expected a bandwidth: the master reaches every device directly"
            found.append((("links", at, "bandwidth"), expected, quantities.NO_LINK))
        first = seen.setdefault((link.source, link.destination), at)
        if first != at:
            found.append((("links", at), f"expected another direction than that of links[{first}]", None))
        if link.is_missing and link.latency is not None:
            expected = f"expected none for a link whose bandwidth is {quantities.NO_LINK}"
            found.append((("links", at, "latency"), expected, None))
    return found


def _unreachable(content: _Content) -> list[_Mistake]:
    """Devices that do not reach all others, or that not all others reach, even through a relay."""
    cluster = _cluster(content)
    names = [device.name for device in cluster.devices]
    main = max(groups(cluster), key=len)
    found: list[_Mistake] = []
    for device in sorted(set(range(len(names))) - set(main)):
        start, end = (main[0], device) if device not in ways_from(cluster, main[0]) else (device, main[0])
        reached = {names[other] for other in ways_from(cluster, start)}
        cut = [f"links[{at}]" for at, link in enumerate(content.links)
               if link.is_missing and link.source in reached and link.destination not in reached]  # fmt: skip
        expected = f"expected a way from {names[start]} to {names[end]}, found none because of {' and '.join(cut)}"
        found.append((("devices", device), expected, None))
    return found


def _invalid(source: YamlSource, mistakes: list[_Mistake]) -> FlexPieError:
    lines = []
    for location, expected, found in sorted(mistakes, key=lambda mistake: source.line(mistake[0])):
        where = f"{source.path}:{source.line(location)}: {source.field(location)}: "
        lines.append(where + expected + ("" if found is None else f", found {found!r}"))
    return FlexPieError(ErrorCode.INVALID_CLUSTER, "\n".join(lines) + ".", _REMEDY)


# ------------------------------------------------------------------------------------------------ values


def _path(source: YamlSource, text: str) -> Path:
    """A path as a cluster file gives it: relative to the file."""
    return (source.path.parent / Path(text).expanduser()).absolute()


def _entry(source: YamlSource, model: _Model) -> ModelEntry:
    path = _path(source, model.path)
    profiles, serving = tuple(_profiles(model)), Serving(model.in_flight or 0)
    if model.batching is not None:
        serving = replace(serving, max_batch=model.batching.max, batch_wait_seconds=model.batching.wait)
        with contextlib.suppress(ValueError):  # a mistake, which is told with all others
            profiles = with_batches(profiles, serving.max_batch)
    return ModelEntry(
        name=model.name or path.stem,
        path=path,
        profiles=profiles,
        scheme=model.scheme,
        objective=model.objective,
        boundary=Boundary(model.boundary or Boundary.FLOAT32.value),
        serving=serving,
    )


def _ends(content: _Content) -> Mapping[str, str]:
    """What may be an end of a link, by how the file calls it."""
    return {MASTER: MASTER_NAME, **{device.name: device.name for device in content.devices}}


def _cluster(content: _Content) -> Cluster:
    ends = _ends(content)
    links = {
        (ends.get(link.source, link.source), ends.get(link.destination, link.destination)): Link(
            content.bandwidth if link.bandwidth is None else link.bandwidth,
            content.latency if link.latency is None else link.latency,
        )
        for link in content.links
        if not link.is_missing
    }
    missing = frozenset((link.source, link.destination) for link in content.links if link.is_missing)
    devices = tuple(Device(item.name, item.address, item.speed, item.memory) for item in content.devices)
    default = Link(content.bandwidth, content.latency)
    return Cluster(devices, default, Topology(content.topology), links, content.center, missing)
