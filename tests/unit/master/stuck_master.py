"""A master whose planning never ends, with a fake worker beside it; run by test_daemon.py as a process."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

from flexpie.core.cluster import Cluster, Device, Link
from flexpie.master.cluster_file import ClusterFile, ModelEntry
from flexpie.master.daemon import DaemonOptions, serve
from tests.unit.master.fake_worker import FakeWorker


class StuckPipeline:
    """Says that it began, and never comes back."""

    def import_file(self, *_: Any) -> Any:
        print("importing", flush=True)  # noqa: T201
        threading.Event().wait()

    plan_model = compile_plan = read_plan = write_plan = predict_plan = import_file


async def _main() -> None:
    worker = FakeWorker()
    await worker.start()
    cluster = Cluster((Device("pi", f"127.0.0.1:{worker.port}"),), Link(1e9, 1e-4))
    file = ClusterFile(cluster, (ModelEntry("cat", Path("cat.onnx")),))
    options = DaemonOptions(port=0)
    await serve(file, options, lambda address: print(f"listening on {address}", flush=True), StuckPipeline())  # noqa: T201


if __name__ == "__main__":
    asyncio.run(_main())
