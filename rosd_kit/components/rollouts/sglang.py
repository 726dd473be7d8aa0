"""Samples rollouts with SGLang servers: the engine of `rosd_kit.serving` with SGLang's options and routes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rosd_kit.contracts import Policy, Site
from rosd_kit.errors import RecipeError
from rosd_kit.serving.engine import ServedEngine
from rosd_kit.sglang.options import EngineOptions

if TYPE_CHECKING:
    from rosd_kit.serving.factory import PoolFactory


class SGLangEngine(ServedEngine):
    """Samples with SGLang servers, at `url` or launched with the run; sends them new weights every step and checks them."""

    name = "sglang"
    provides = ServedEngine.provides | {"partial_rollouts"}

    class Config(EngineOptions):
        """Servers, transfer of weights, and checks."""

    Config.free_on_resume = frozenset(Config.model_fields)
    config: Config

    @classmethod
    def offers(cls, options: Any) -> frozenset[str]:
        return super().offers(options) - ({"partial_rollouts"} if options.router else set())

    def pool_factory(self) -> type[PoolFactory[Any]]:
        from rosd_kit.sglang.factory import SGLangPoolFactory

        return SGLangPoolFactory

    @classmethod
    def missing_for_launch(cls, options: EngineOptions, *, on_gpu: bool) -> list[str]:
        from rosd_kit.sglang.launch import missing_for_launch

        return missing_for_launch(options, on_gpu=on_gpu)

    def start(self, student: Policy, site: Site | None = None) -> None:
        count = (site or Site()).count
        if count > 1 and self.config.router:
            raise RecipeError(
                f"rollout.router: each of {count} ranks needs its own servers, and a router would mix them. Use null."
            )
        super().start(student, site)
