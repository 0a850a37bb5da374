"""From subgraph specifications to ONNX subgraphs with sliced weights, and the package that a device gets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx

from flexpie.compiler.blobs import Blob, array_bytes, blob_of
from flexpie.compiler.imported import ImportedModel
from flexpie.compiler.layers import ONNX_TYPES, tensor_value_info
from flexpie.compiler.lower import Lowered
from flexpie.compiler.narrowing import narrowed, widened
from flexpie.compiler.subgraph import SubgraphSpec
from flexpie.compiler.weights import weight_values
from flexpie.core.footprint import OperatorPart
from flexpie.core.graph import AttributeValue
from flexpie.core.program import BlobRef, DeviceProgram, SubgraphRef
from flexpie.core.region import Region
from flexpie.core.rules import bind, rule_for
from flexpie.core.tensor import ElementType

INLINE_BYTES = 1024
"""Weights up to this size travel inside the subgraph; larger ones are blobs of their own, shared by content."""


def emit(model: ImportedModel, lowered: Lowered) -> tuple[tuple[DeviceProgram | None, ...], Mapping[str, Blob]]:
    """The devices' programs with their subgraphs, and every blob they refer to, by hash."""
    emitter = _Emitter(model)
    programs = []
    for program, specs in zip(lowered.programs, lowered.subgraphs, strict=True):
        refs = tuple(emitter.subgraph(spec) for spec in specs)
        programs.append(None if program is None else dataclasses.replace(program, subgraphs=refs))
    return tuple(programs), emitter.blobs


@dataclass
class _Emitter:
    model: ImportedModel
    blobs: dict[str, Blob] = field(default_factory=dict)
    """By hash."""
    cut: dict[tuple[str, Region], BlobRef] = field(default_factory=dict)
    """Weight slices that were hashed already; devices that need the same slice share the blob."""

    def subgraph(self, spec: SubgraphSpec) -> SubgraphRef:
        writer = _SubgraphWriter(self, spec)
        proto = writer.write()
        content = proto.SerializeToString(deterministic=True)
        blob = blob_of(lambda: memoryview(content))
        self.blobs[blob.ref.sha256] = blob
        return SubgraphRef(spec.name, blob.ref, tuple(dict.fromkeys(writer.weights)))

    def weight_blob(self, name: str, region: Region) -> BlobRef:
        key = (name, region)
        if key not in self.cut:
            blob = blob_of(lambda: array_bytes(weight_slice(self.model, name, region)))
            self.blobs.setdefault(blob.ref.sha256, blob)
            self.cut[key] = blob.ref
        return self.cut[key]


def weight_slice(model: ImportedModel, name: str, region: Region) -> np.ndarray:
    """The values of a region of a weight; a view where the file's own memory has them."""
    array = weight_values(model.weights[name])
    return array[region.relative_to(Region.whole(array.shape))]


class _SubgraphWriter:
    """Writes one subgraph. A name always stands for one region of a tensor; other regions of it get longer names."""

    def __init__(self, emitter: _Emitter, spec: SubgraphSpec) -> None:
        self._emitter = emitter
        self._model = emitter.model
        self._graph = emitter.model.graph
        self._spec = spec
        self._regions: dict[str, Region] = dict(spec.inputs)
        self._made: set[str] = set()
        self.proto = onnx.GraphProto(name=spec.name)
        self.weights: list[BlobRef] = []

    def write(self) -> onnx.ModelProto:
        for name, region in self._spec.inputs:
            twin = self._spec.narrow.get(name)
            if twin is None:
                self.proto.input.append(self._declare(name, region))
            else:
                self.proto.input.append(tensor_value_info(twin, ElementType.FLOAT16, region.shape))
                self.proto.node.append(widened(twin, name))
        for part in self._spec.parts:
            self._write_part(part)
        for name, region in self._spec.outputs:
            assert self._regions[name] == region
            output = self._declare(name, region)
            output.name = self._apart(name)
            self.proto.output.append(output)
        for name, region in self._spec.narrow_outputs:
            assert self._regions[name] == region
            self._narrow(name, self._spec.narrow[name], region)
        model = onnx.ModelProto(ir_version=max(self._model.ir_version, 4), graph=self.proto)
        model.producer_name = "flexpie"
        model.opset_import.extend(
            onnx.OperatorSetIdProto(domain=domain, version=version)
            for domain, version in sorted({"": 13, **self._model.opset_imports}.items())
        )
        return model

    def _declare(self, name: str, region: Region) -> onnx.ValueInfoProto:
        spec = self._graph.tensors[name]
        if not spec.opaque:
            return tensor_value_info(name, spec.dtype, region.shape)
        info = onnx.ValueInfoProto(name=name)  # an output may go without a type; every input has one
        if name in self._model.types:
            info.type.CopyFrom(self._model.types[name])
            _forget_shape(info.type)
        return info

    def _narrow(self, name: str, twin: str, region: Region) -> None:
        """Let a tensor leave as float16."""
        nodes, constants = narrowed(name, twin, self._model.opset_imports.get("", 13), self._own_name)
        self.proto.node.extend(nodes)
        self.proto.initializer.extend(constants)
        self.proto.output.append(tensor_value_info(twin, ElementType.FLOAT16, region.shape))

    def _apart(self, name: str) -> str:
        """The name under which a tensor leaves the subgraph: its own, or that of a copy.

        onnxruntime quantises what a Transpose in front of a QuantizeLinear reads, and overlooks that it may be an
        output as well, unless somebody else reads it, too.
        """
        op_types = {node.op_type for node in self.proto.node}
        read = any(name in node.input for node in self.proto.node)
        if not read or not {"Transpose", "QuantizeLinear"} <= op_types:
            return name
        copy = self._own_name(f"{name}/output")
        self.proto.node.append(onnx.helper.make_node("Identity", [name], [copy], name=copy))
        return copy

    def _write_part(self, part: OperatorPart) -> None:
        operator = part.operator
        form = rule_for(operator).local_form(bind(self._graph, operator), part.produced, part.needed)
        original = self._model.nodes[operator.name]
        inputs: list[str] = []
        for index, name in enumerate(operator.inputs):
            if index in form.dropped:
                continue
            if index in form.constants:
                local = self._integers(f"{operator.name}/{index}", form.constants[index])
            elif not name:
                local = ""
            else:
                region = part.needed[index]
                local = "" if region is None else self._input(name, region)
            if index < len(original.input):  # the others are captured by sub-graphs under their own names
                inputs.append(local)
        for index in range(len(original.input), max(form.constants, default=-1) + 1):
            added = form.constants.get(index)
            inputs.append("" if added is None else self._integers(f"{operator.name}/{index}", added))
        node = onnx.NodeProto()
        node.CopyFrom(original)
        node.name = operator.name
        del node.input[:], node.output[:]
        node.input.extend(inputs)
        _set_attributes(node, form.attributes)
        self._pad_apart(node)
        cuts: list[tuple[str, str, Region, Region]] = []
        for index, (name, region) in enumerate(zip(operator.outputs, part.produced, strict=True)):
            there = bool(name) and region is not None
            node.output.append(name if there else "")
            if there and region is not None:
                self._regions[name] = region
                if form.yields.get(index, region) != region:
                    node.output[index] = self._own_name(f"{name}/uncut")
                    cuts.append((node.output[index], name, form.yields[index], region))
        self.proto.node.append(node)
        for cut in cuts:
            self._slice(*cut)

    def _pad_apart(self, node: onnx.NodeProto) -> None:
        """Let a Pad do the uneven padding of an AveragePool that counts it.

        Since operator set 19, onnxruntime 1.23 (the last for Python 3.10) and older take the pads of one axis for those
        of another there.
        """
        given = {attribute.name: attribute for attribute in node.attribute}
        if node.op_type != "AveragePool" or self._model.opset_imports.get("", 0) < 19 or "pads" not in given:
            return
        pads = list(given["pads"].ints)
        counted = "count_include_pad" in given and given["count_include_pad"].i
        if not counted or len(set(pads)) == 1:
            return
        half = len(pads) // 2
        around = self._integers(f"{node.name}/around", [0, 0, *pads[:half], 0, 0, *pads[half:]])
        padded = self._own_name(f"{node.name}/padded")
        self.proto.node.append(onnx.helper.make_node("Pad", [node.input[0], around], [padded], name=padded))
        node.input[0] = padded
        del given["pads"].ints[:]
        given["pads"].ints.extend([0] * len(pads))

    def _input(self, name: str, region: Region) -> str:
        """Name under which exactly this region of a tensor is there, cutting it where needed."""
        if name in self._graph.weights:
            return self._weight(name, region)
        have = self._regions[name]
        if have == region:
            return name
        local = self._own_name(f"{name}{region}")
        if local not in self._made:
            self._made.add(local)
            self._slice(name, local, have, region)
        return local

    def _slice(self, name: str, local: str, have: Region, region: Region) -> None:
        axes = [axis for axis in range(len(have)) if have[axis] != region[axis]]
        starts = [region[axis].start - have[axis].start for axis in axes]
        stops = [region[axis].stop - have[axis].start for axis in axes]
        if self._model.opset_imports.get("", 0) < 10:  # attributes then, inputs since
            self.proto.node.append(
                onnx.helper.make_node("Slice", [name], [local], name=local, axes=axes, starts=starts, ends=stops)
            )
            return
        words = [self._integers(f"{local}/{word}", values) for word, values in
                 (("starts", starts), ("ends", stops), ("axes", axes))]  # fmt: skip
        self.proto.node.append(onnx.helper.make_node("Slice", [name, *words], [local], name=local))

    def _weight(self, name: str, region: Region) -> str:
        spec = self._graph.tensors[name]
        local = name if region == spec.whole else self._own_name(f"{name}{region}")
        if local in self._made:
            return local
        self._made.add(local)
        nbytes = region.size * spec.dtype.itemsize
        tensor = self.proto.initializer.add(name=local, data_type=ONNX_TYPES[spec.dtype], dims=region.shape)
        if self._model.weights[name].dtype.name == "STRING":
            tensor.string_data.extend(bytes(item) for item in weight_slice(self._model, name, region).flatten())
        elif nbytes <= INLINE_BYTES:
            tensor.raw_data = bytes(array_bytes(weight_slice(self._model, name, region)))
        else:
            ref = self._emitter.weight_blob(name, region)
            tensor.data_location = onnx.TensorProto.EXTERNAL
            for key, value in (("location", ref.sha256), ("offset", "0"), ("length", str(ref.nbytes))):
                tensor.external_data.add(key=key, value=value)
            self.weights.append(ref)
        return local

    def _integers(self, name: str, values: tuple[int, ...] | list[int]) -> str:
        name = self._own_name(name)
        if name not in self._made:
            self._made.add(name)
            array = np.asarray(values, dtype=np.int64)
            self.proto.initializer.append(onnx.numpy_helper.from_array(array, name))
        return name

    def _own_name(self, name: str) -> str:
        """A name like this that the model has for nothing else."""
        while name in self._graph.tensors:
            name += "'"
        return name


def _forget_shape(kind: onnx.TypeProto) -> None:
    match kind.WhichOneof("value"):
        case "tensor_type":
            kind.tensor_type.ClearField("shape")
        case "sequence_type":
            _forget_shape(kind.sequence_type.elem_type)
        case "optional_type":
            _forget_shape(kind.optional_type.elem_type)


def _set_attributes(node: onnx.NodeProto, changes: Mapping[str, AttributeValue | None]) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name not in changes]
    del node.attribute[:]
    node.attribute.extend(kept)
    node.attribute.extend(
        onnx.helper.make_attribute(name, value) for name, value in changes.items() if value is not None
    )
