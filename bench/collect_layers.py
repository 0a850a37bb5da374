"""Collects layers inside segments of the example models on this machine, as training samples of the i-Estimator.

    taskset -c 0 python -m bench.collect_layers --output DIR --device NAME --minutes 10

Stop it at any time; the same command goes on with other plans. Several of them run side by side on cores of their own.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import flexpie_models
from flexpie.compiler import ImportedModel, import_model
from flexpie.testbed.share import OwnShare
from flexpie.traces.compute import Launch, MeasuredDevice, draw_plan, measure, this_device
from flexpie.traces.samples import ComputeSample
from flexpie.traces.store import TraceWriter

IMAGE_SIZES = (96, 128, 160, 192, 224, 256, 288)
TOKENS = (32, 64, 128, 192)
LAUNCHES = 8
"""Plans of a model in a row: importing it takes as long as a few of them."""
_ONE_SIZE = {"swin_style", "unet", "unet_bilinear", "yolo_style", "mobilenet_v1_int8", "mobilenet_v1_qoperator"}
_SLOW = {"unet", "unet_bilinear", "yolo_style"}
"""Few layers that take long: drawn a third as often."""
_NAMES = tuple(name for name in flexpie_models.NAMES if name != "digits")


def draw_model(rng: random.Random) -> tuple[str, ImportedModel]:
    """An example model in some size."""
    name = rng.choices(_NAMES, [1 if name in _SLOW else 3 for name in _NAMES])[0]
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


@contextmanager
def own_device(name: str, threads: int, cpu_share: float) -> Iterator[MeasuredDevice]:
    """This process as a device, under a quota if it has less than all of its cores."""
    device = this_device(name, threads)
    if cpu_share >= 1:
        yield device
        return
    with closing(OwnShare(cpu_share * threads)) as share:
        yield dataclasses.replace(
            device,
            rates=device.rates.scaled(cpu_share),
            cpu_share=cpu_share,
            throttled=share,
            companion_seconds={kernel: seconds / cpu_share for kernel, seconds in device.companion_seconds.items()},
        )


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, required=True, help="folder of traces")
    parser.add_argument("--device", required=True, help="name of this machine, unique for its speed")
    parser.add_argument("--threads", type=int, default=1, help="of onnxruntime")
    parser.add_argument("--cpu-share", type=float, default=1.0, help="of the cores, by a quota; less than 1 needs root")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", help="collections with the same seed measure the same plans in the same order")
    options = parser.parse_args()
    begin = time.time()
    rng = random.Random(options.seed or f"{begin} {os.getpid()}")
    count = 0
    with (
        own_device(options.device, options.threads, options.cpu_share) as device,
        TraceWriter(options.output, ComputeSample) as writer,
    ):
        while time.time() - begin < options.minutes * 60:
            name, model = draw_model(rng)
            for number in range(LAUNCHES):
                plan = draw_plan(model.graph, rng)
                launch = Launch(
                    f"{name}/{begin:.0f}.{os.getpid()}.{count}.{number}", model, plan, rng.randrange(len(plan.devices))
                )
                samples = measure(launch, device)
                writer.add(samples)
                count += len(samples)
                if time.time() - begin > options.minutes * 60:
                    break
            sys.stderr.write(f"{count:,} samples, {count / (time.time() - begin):.0f} a second\n")


if __name__ == "__main__":
    main()
