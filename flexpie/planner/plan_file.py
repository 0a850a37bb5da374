"""Plans as files: JSON that names layers and devices, so that people can read and edit it.

docs/plans.md describes the format. What is read is verified against the model and the cluster it is to run on; what
it costs is not in the file, as it follows from both.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flexpie.core.boundary import BOUNDARIES, Boundary
from flexpie.core.cluster import Cluster, Topology
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.graph import LayerGraph
from flexpie.core.plan import Plan, Segment
from flexpie.core.routes import relayed_ways
from flexpie.core.scheme import Scheme, SchemeKind

FORMAT = "flexpie-plan"
VERSIONS = (1, 2)
"""That are read. One of version 1 has no `boundary`, and is what it was; what is written has the last one."""
LARGEST_SHARE = 1e9
MOST_UNEQUAL = 1e6
"""Times as large as another one a share may be: beyond that it is a mistake."""
MOST_MISTAKES = 8
"""That are told at once."""

_REMEDY = "docs/plans.md describes the file; `flexpie plan --output FILE` writes one."


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Model(_Table):
    name: str
    inputs: dict[str, list[int]]
    layers: int
    signature: str


class _Cluster(_Table):
    devices: list[str]
    topology: str
    signature: str


class _Segment(_Table):
    layers: Annotated[list[str], Field(min_length=1)]
    scheme: str
    shares: dict[str, Annotated[float, Field(ge=0, le=LARGEST_SHARE, allow_inf_nan=False)]]


class _PlanFile(_Table):
    format: Literal["flexpie-plan"]
    version: Literal[1, 2]
    model: _Model
    cluster: _Cluster
    boundary: str = Boundary.FLOAT32.value
    segments: list[_Segment]


def plan_to_json(graph: LayerGraph, cluster: Cluster, plan: Plan) -> str:
    """The text of a plan file."""
    names = [device.name for device in cluster.devices]
    content = _PlanFile(
        format="flexpie-plan",
        version=2,
        model=_model_of(graph),
        cluster=_cluster_of(cluster),
        boundary=plan.boundary.value,
        segments=[
            _Segment(
                layers=[layer.name for layer in graph.layers[segment.first : segment.stop]],
                scheme=segment.scheme.kind.value,
                shares={name: share for name, share in zip(names, segment.shares, strict=True) if share > 0},
            )
            for segment in plan.segments
        ],
    )
    return json.dumps(content.model_dump(), indent=2, ensure_ascii=False) + "\n"


def plan_from_json(text: str, graph: LayerGraph, cluster: Cluster) -> Plan:
    """The plan of a file's text, without predicted costs.

    Raises FlexPieError(INVALID_PLAN): not a plan file, or one of another version, model or cluster; segments that do
    not cover the model's layers one after another; schemes, devices or shares that are none.
    """
    content = _parsed(text)
    _check_model(content.model, graph)
    _check_cluster(content.cluster, cluster)
    names = [device.name for device in cluster.devices]
    mistakes = [
        *_wrong_boundary(content),
        *_wrong_layers(content.segments, graph),
        *_wrong_divisions(content.segments, names),
    ]
    if mistakes:
        more = len(mistakes) - MOST_MISTAKES
        _refuse("\n".join(mistakes[:MOST_MISTAKES]) + (f"\nand {more} more mistakes" if more > 0 else ""))
    segments, first = [], 0
    for item in content.segments:
        stop = first + len(item.layers)
        segments.append(Segment(first, stop, _scheme(item, names), tuple(item.shares.get(name, 0.0) for name in names)))
        first = stop
    relayed, boundary = relayed_ways(cluster), Boundary(content.boundary)
    return Plan(graph.signature, tuple(names), tuple(segments), relayed=relayed, boundary=boundary)


def cluster_signature(cluster: Cluster) -> str:
    """SHA-256 (hex) of what a plan's messages depend on: the devices' names and the ways between them."""
    center = cluster.center if cluster.topology is Topology.STAR else None
    names = [device.name for device in cluster.devices]
    text = repr((names, cluster.topology.value, center, sorted(cluster.missing)))
    return hashlib.sha256(text.encode()).hexdigest()


def _model_of(graph: LayerGraph) -> _Model:
    shapes = {name: list(graph.tensors[name].shape) for name in graph.inputs}
    return _Model(name=graph.name, inputs=shapes, layers=len(graph.layers), signature=graph.signature)


def _cluster_of(cluster: Cluster) -> _Cluster:
    names = [device.name for device in cluster.devices]
    return _Cluster(devices=names, topology=cluster.topology.value, signature=cluster_signature(cluster))


# --------------------------------------------------------------------------------------------- form


def _parsed(text: str) -> _PlanFile:
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        _refuse(f"line {error.lineno}, column {error.colno}: expected JSON: {error.msg}")
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        _refuse(f'expected "format": "{FORMAT}" at the top')
    if value.get("version") not in VERSIONS:
        known = " and ".join(map(str, VERSIONS))
        _refuse(f"it has version {value.get('version')!r}; this FlexPie reads versions {known}")
    try:
        return _PlanFile.model_validate(value)
    except ValidationError as error:
        lines = [_mistake(item["loc"], item["msg"], item["type"], item["input"]) for item in error.errors()]
        _refuse("\n".join(lines[:MOST_MISTAKES]))


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            _refuse(f"{key!r} is there twice in one object")
        found[key] = value
    return found


def _no_number(text: str) -> NoReturn:
    _refuse(f"{text} is no number of JSON")


def _mistake(location: Iterable[str | int], message: str, kind: str, found: object) -> str:
    where = "".join(f"[{item}]" if isinstance(item, int) else f".{item}" for item in location).lstrip(".")
    shown = "" if kind in {"missing", "extra_forbidden"} or isinstance(found, list | dict) else f", found {found!r}"
    return f"{where}: {message[:1].lower()}{message[1:]}{shown}"


# ---------------------------------------------------------------------------------- model and cluster


def _check_model(wanted: _Model, graph: LayerGraph) -> None:
    if wanted.signature != graph.signature:
        _refuse(
            f"it was made for another model: {_described(wanted)}; this is {_described(_model_of(graph))}",
            "Plan this model anew, or give the plan's own model with the same input shapes.",
        )


def _described(model: _Model) -> str:
    inputs = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in model.inputs.items())
    return f"{model.name} with {model.layers} layers for {inputs} (signature {model.signature[:12]})"


def _check_cluster(wanted: _Cluster, cluster: Cluster) -> None:
    here = _cluster_of(cluster)
    if wanted.signature == here.signature:
        return
    gone = [name for name in wanted.devices if name not in here.devices]
    added = [name for name in here.devices if name not in wanted.devices]
    if gone or added:
        parts = [f"it has no {', '.join(gone)}"] * bool(gone) + [f"it has {', '.join(added)} besides"] * bool(added)
        difference = " and ".join(parts)
    elif wanted.devices != here.devices:
        difference = f"its devices come in another order: {', '.join(here.devices)}, not {', '.join(wanted.devices)}"
    elif wanted.topology != here.topology:
        difference = f"its topology is {here.topology}, not {wanted.topology}"
    else:
        difference = "the ways between its devices (the star's center, or links that are missing) are others"
    _refuse(
        f"it was made for another cluster: {difference} (signature {here.signature[:12]}, not {wanted.signature[:12]})",
        "Plan for this cluster anew, or give the plan's own cluster file.",
    )


# ------------------------------------------------------------------------------------------ segments


def _wrong_boundary(content: _PlanFile) -> Iterator[str]:
    """A boundary that is none, or that the file's version does not have."""
    if content.version == 1 and "boundary" in content.model_fields_set:
        yield "boundary: a file of version 1 has none; write version 2"
    elif content.boundary not in BOUNDARIES:
        choices = f"{', '.join(BOUNDARIES)}{_suggestion(content.boundary, BOUNDARIES)}"
        yield f"boundary: expected one of {choices}, found {content.boundary!r}"


def _wrong_layers(segments: Sequence[_Segment], graph: LayerGraph) -> Iterator[str]:
    """What keeps the segments from covering all layers once, in the model's order."""
    expected = [layer.name for layer in graph.layers]
    position = {name: index for index, name in enumerate(expected)}
    home: dict[str, int] = {}
    last = -1
    for number, segment in enumerate(segments):
        for name in segment.layers:
            if name not in position:
                yield f"segments[{number}]: the model has no layer {name!r}{_suggestion(name, expected)}"
            elif name in home:
                yield f"segments[{number}]: the layer {name!r} is in segments[{home[name]}] already"
            elif position[name] < last:
                after = expected[last]
                yield f"segments[{number}]: the layer {name!r} comes after {after!r}, but runs before it in the model"
            home.setdefault(name, number)
            last = max(last, position.get(name, -1))
    for name in expected:
        if name not in home:
            before = expected[position[name] - 1] if position[name] else None
            yield f"no segment has the layer {name!r}, " + (f"which follows {before!r}" if before else "the first one")


def _wrong_divisions(segments: Sequence[_Segment], devices: Sequence[str]) -> Iterator[str]:
    """Schemes and shares that are none."""
    kinds = [kind.value for kind in SchemeKind]
    for number, segment in enumerate(segments):
        where = f"segments[{number}]"
        if segment.scheme not in kinds:
            choices = f"{', '.join(kinds)}{_suggestion(segment.scheme, kinds)}"
            yield f"{where}.scheme: expected one of {choices}, found {segment.scheme!r}"
        for name in segment.shares:
            if name not in devices:
                yield f"{where}.shares: the cluster has no device {name!r}{_suggestion(name, devices)}"
        taking_part = _taking_part(segment.shares)
        if segment.scheme == SchemeKind.DATA_PARALLEL.value and len(segments) > 1:
            yield f"{where}.scheme: DataParallel is for a plan of one segment, found {len(segments)}"
        shares = [segment.shares[name] for name in taking_part]
        if shares and max(shares) > MOST_UNEQUAL * min(shares):
            yield f"{where}.shares: expected shares that differ by a factor of {MOST_UNEQUAL:g} at most"
        if not taking_part:
            yield f"{where}.shares: expected a share above 0 for some device"
        elif segment.scheme == SchemeKind.SINGLE.value and len(taking_part) > 1:
            yield f"{where}.shares: Single is for one device, found shares of {', '.join(taking_part)}"


def _taking_part(shares: Mapping[str, float]) -> list[str]:
    return [name for name, share in shares.items() if share > 0]


def _scheme(segment: _Segment, devices: Sequence[str]) -> Scheme:
    kind = SchemeKind(segment.scheme)
    device = devices.index(_taking_part(segment.shares)[0]) if kind is SchemeKind.SINGLE else None
    return Scheme(kind, device)


def _suggestion(text: str, known: Sequence[str]) -> str:
    lowered = {item.lower(): item for item in known}
    close = difflib.get_close_matches(text.lower(), lowered, n=1)
    return f" (did you mean {lowered[close[0]]!r}?)" if close else ""


def _refuse(what: str, remedy: str = _REMEDY) -> NoReturn:
    raise FlexPieError(ErrorCode.INVALID_PLAN, f"The plan file cannot be used: {what}.", remedy)
