"""The conformance kit: tests that plugin authors run on their components.

    from rosd_kit.testing import LocalizerSuite

    class TestAfterKeyword(LocalizerSuite):
        @pytest.fixture
        def component(self):
            return AfterKeyword(AfterKeyword.Config(keyword="Answer"))

It needs neither a GPU nor the network, and pytest only for the suites. `rosd-kit plugins check` runs the same laws.
"""

from __future__ import annotations

from rosd_kit.testing.builders import (
    fake_case,
    fake_completion,
    fake_generate,
    fake_group,
    fake_problem,
    fake_reflection,
    fake_rollout,
    fake_sample,
)
from rosd_kit.testing.check import Bench, Check, CheckFailed
from rosd_kit.testing.checks import checks_of
from rosd_kit.testing.numbers import fake_scores
from rosd_kit.testing.student import tiny_student
from rosd_kit.testing.suites import (
    SUITES,
    ContextSuite,
    CorrectionSuite,
    DemonstrationSuite,
    DivergenceSuite,
    GateSuite,
    LocalizerSuite,
    ObjectiveSuite,
    ReflectorSuite,
    RolloutSuite,
    SupportSuite,
    TaskSuite,
    TeacherSuite,
    VerifierSuite,
    parametrize_with_checks,
)

__all__ = [
    "SUITES",
    "Bench",
    "Check",
    "CheckFailed",
    "ContextSuite",
    "CorrectionSuite",
    "DemonstrationSuite",
    "DivergenceSuite",
    "GateSuite",
    "LocalizerSuite",
    "ObjectiveSuite",
    "ReflectorSuite",
    "RolloutSuite",
    "SupportSuite",
    "TaskSuite",
    "TeacherSuite",
    "VerifierSuite",
    "checks_of",
    "fake_case",
    "fake_completion",
    "fake_generate",
    "fake_group",
    "fake_problem",
    "fake_reflection",
    "fake_rollout",
    "fake_sample",
    "fake_scores",
    "parametrize_with_checks",
    "tiny_student",
]
