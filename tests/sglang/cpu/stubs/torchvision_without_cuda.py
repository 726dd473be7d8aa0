"""Makes the torchvision wheel, which is linked against CUDA, importable with a torch that has no CUDA.

torchvision's Python code registers fake versions of two operators that only its compiled code declares. This module declares
them right before torchvision is imported; text models never call them. A .pth file loads it when the interpreter starts.
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
