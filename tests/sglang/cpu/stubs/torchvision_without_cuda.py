"""Lets the torchvision wheel, which is linked against CUDA, be imported next to a torch without it.

torchvision's Python half registers fake versions of two operators that only its compiled half declares. They are declared
here right before it is imported; text models never call them. Loaded at the start of the interpreter by a .pth file.
"""

import importlib.abc
import sys


class _DeclareFirst(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname != "torchvision":
            return
        sys.meta_path.remove(self)
        import torch

        for operator in ("nms", "qnms"):
            torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


sys.meta_path.insert(0, _DeclareFirst())
