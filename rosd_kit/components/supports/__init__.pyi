"""The components of this slot, once: read by type checkers and by `__init__.py`."""

from rosd_kit.components.supports.full import Full as Full
from rosd_kit.components.supports.sampled import Sampled as Sampled
from rosd_kit.components.supports.student_topk import StudentTopK as StudentTopK
from rosd_kit.components.supports.teacher_topk import TeacherTopK as TeacherTopK
from rosd_kit.contracts import Support

COMPONENTS: tuple[type[Support], ...]
