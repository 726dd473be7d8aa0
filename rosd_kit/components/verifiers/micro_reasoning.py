"""The second laboratory's verifier: judges the last `Answer :`, which names everyone's place in any order."""

from __future__ import annotations

from rosd_kit.components.verifiers.micro import MicroVerifier
from rosd_kit.micro.reasoning.text import find_answer


class MicroReasoningVerifier(MicroVerifier):
    """Compares the places in the response's last answer with the right ones."""

    name = "micro_reasoning"

    def find_answer(self, text: str) -> str | None:
        """Return the last stated places, in the order of the answer of a problem, or None."""
        return find_answer(text)
