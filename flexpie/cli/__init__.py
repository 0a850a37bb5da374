"""The commands. Each module imports what it needs when it runs, so that `--help` answers at once."""

from __future__ import annotations

import os

# gRPC's newer way to wait for sockets has threads of its own, which cost more of the processor for each message and
# lengthen its way; on a small device both are felt. gRPC reads this when it is imported; versions that do not have the
# choice ignore it.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")
