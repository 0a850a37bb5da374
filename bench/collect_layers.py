"""Collects layers inside segments of the example models on this machine, as training samples of the i-Estimator.

    taskset -c 0 python -m bench.collect_layers --output DIR --device NAME --minutes 10

Stop it at any time; the same command goes on with other plans.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

import flexpie_models
from flexpie.compiler import ImportedModel, import_model
from flexpie.traces.compute import Launch, draw_plan, measure, this_device
from flexpie.traces.samples import ComputeSample
from flexpie.traces.store import TraceWriter

IMAGE_SIZES = (96, 128, 160, 192, 224, 288)
TOKENS = (32, 64, 128, 192)
LAUNCHES = 6
"""Plans of a model in a row: importing it takes as long as a few of them."""
_ONE_SIZE = {"swin_style", "unet", "unet_bilinear", "yolo_style", "mobilenet_v1_int8", "mobilenet_v1_qoperator"}
_NAMES = tuple(name for name in flexpie_models.NAMES if name != "digits")


def draw_model(rng: random.Random) -> tuple[str, ImportedModel]:
    """An example model in some size."""
    name = rng.choice(_NAMES)
    image = flexpie_models.describe(name).image
    if image is None:
        size = rng.choice(TOKENS)
        proto = flexpie_models.build(name, sequence_length=size)
    else:
        size = image.size if name in _ONE_SIZE else rng.choice(IMAGE_SIZES)
        proto = flexpie_models.build(name, image_size=size)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.onnx"
        path.write_bytes(proto.SerializeToString())
        return f"{name}@{size}", import_model(path, name=name)


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, required=True, help="folder of traces")
    parser.add_argument("--device", required=True, help="name of this machine, unique for its speed")
    parser.add_argument("--threads", type=int, default=1, help="of onnxruntime")
    parser.add_argument("--minutes", type=float, default=10.0)
    options = parser.parse_args()
    begin = time.time()
    rng = random.Random(begin)
    device = this_device(options.device, options.threads)
    count = 0
    with TraceWriter(options.output, ComputeSample) as writer:
        while time.time() - begin < options.minutes * 60:
            name, model = draw_model(rng)
            for number in range(LAUNCHES):
                plan = draw_plan(model.graph, rng)
                launch = Launch(f"{name}/{begin:.0f}.{count}.{number}", model, plan, rng.randrange(len(plan.devices)))
                samples = measure(launch, device)
                writer.add(samples)
                count += len(samples)
            sys.stderr.write(f"{count:,} samples, {count / (time.time() - begin):.0f} a second\n")


if __name__ == "__main__":
    main()
