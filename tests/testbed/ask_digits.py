"""A client, to be run on a testbed's master: waits for a model, asks it once, prints classes and devices as JSON.

Arguments: the master's address, the model's name, an .npy file with images.
"""

import json
import sys
import time

import numpy as np

from flexpie.client import Client

SECONDS = 60.0


def main() -> None:
    address, name, images = sys.argv[1:]
    with Client(address, timeout=SECONDS) as client:
        deadline = time.monotonic() + SECONDS
        while not client.ready(name) and time.monotonic() < deadline:
            time.sleep(0.05)
        answer = client.infer(name, {"image": np.load(images)})
        found = {"classes": answer["probabilities"].argmax(1).tolist(), "devices": client.model(name).devices}
    sys.stdout.write(f"{json.dumps(found)}\n")


if __name__ == "__main__":
    main()
