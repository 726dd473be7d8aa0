"""Supports: choose the vocabulary entries on which student and teacher are compared."""

from __future__ import annotations

from rosd_kit.components.supports.full import Full
from rosd_kit.components.supports.sampled import Sampled
from rosd_kit.components.supports.student_topk import StudentTopK
from rosd_kit.components.supports.teacher_topk import TeacherTopK

COMPONENTS = (Full, Sampled, StudentTopK, TeacherTopK)
