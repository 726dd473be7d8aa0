"""A plugin that writes down who is told of a step: one line a step, run and step, in a file for each process."""

import os
from pathlib import Path

import rosd_kit as rk


@rk.hookimpl
def rosd_kit_step_end(run, step):
    with Path(os.environ["WITNESS"], f"rank-{os.environ['RANK']}").open("a") as stream:
        stream.write(f"{run.path.name} {step}\n")
