"""A plugin that records which ranks get the step-end hook: one line (run and step) per step, in one file per rank."""

import os
from pathlib import Path

import rosd_kit as rk


@rk.hookimpl
def rosd_kit_step_end(run, step):
    with Path(os.environ["WITNESS"], f"rank-{os.environ['RANK']}").open("a") as stream:
        stream.write(f"{run.path.name} {step}\n")
