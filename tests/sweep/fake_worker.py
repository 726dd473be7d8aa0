"""Works through the trials of a store like a sweep's workers, without training: claims a trial, sleeps a little, finishes it.

    python -m tests.sweep.fake_worker FOLDER PAUSE ID...

Ends when every trial is finished; the last one only once the file `enough` is in the folder. Tests kill it at any moment.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from rosd_kit.sweep.lease import LeaseHolder
from rosd_kit.sweep.store import Store


def main(folder: str, pause: str, *ids: str) -> None:
    with Store(Path(folder)) as store:
        while any(row.state in ("waiting", "running") for row in store.rows(ids).values()):
            holder = LeaseHolder.this_process()
            row = store.claim(random.sample(ids, len(ids)), holder, lease=60.0)
            if row is None:
                time.sleep(0.01)
                continue
            assert store.take_over(row.id, holder, lease=60.0) is not None
            assert store.renew(row.id, holder.token, lease=60.0) is False
            time.sleep(random.random() * float(pause))
            while not (Path(folder) / "enough").exists() and _unfinished(store, ids) == 1:
                time.sleep(0.01)
            assert store.finish(row.id, holder.token, {"by": holder.token})


def _unfinished(store: Store, ids: tuple[str, ...]) -> int:
    return sum(row.state in ("waiting", "running") for row in store.rows(ids).values())


if __name__ == "__main__":
    main(*sys.argv[1:])
