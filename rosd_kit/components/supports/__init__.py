"""Which vocabulary entries the student and the teacher are compared on."""

from __future__ import annotations

from rosd_kit.components.supports.full import Full
from rosd_kit.components.supports.sampled import Sampled
from rosd_kit.components.supports.student_topk import StudentTopK
from rosd_kit.components.supports.teacher_topk import TeacherTopK

COMPONENTS = (Full, Sampled, StudentTopK, TeacherTopK)
