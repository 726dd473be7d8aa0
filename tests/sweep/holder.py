"""Works through the trials of a store as a sweep's processes do, without training: claims, works a little, finishes.

    python -m tests.sweep.holder FOLDER PAUSE ID...

Ends when every trial is finished. It may be killed at any moment.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from rosd_kit.sweep.lease import Owner
from rosd_kit.sweep.store import Store


def main(folder: str, pause: str, *ids: str) -> None:
    with Store(Path(folder)) as store:
        while any(row.state in ("waiting", "running") for row in store.rows(ids).values()):
            claimer = Owner.me()
            row = store.claim(random.sample(ids, len(ids)), claimer, lease=60.0)
            if row is None:
                time.sleep(0.01)
                continue
            assert store.take_over(row.id, claimer, lease=60.0) is not None
            assert store.renew(row.id, claimer.token, lease=60.0) is False
            time.sleep(random.random() * float(pause))
            assert store.finish(row.id, claimer.token, {"by": claimer.token})


if __name__ == "__main__":
    main(*sys.argv[1:])
