"""Stands in for SGLang's kernel package, which has no build for CPUs. Every name exists; calling one raises an error."""

__version__ = "0.4.7"


class _Missing:
    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __call__(self, *args: object, **options: object) -> None:
        raise NotImplementedError(f"sgl_kernel.{self.__name__}: this kernel has no build for CPUs")


def __getattr__(name: str) -> _Missing:
    if name.startswith("__"):
        raise AttributeError(name)
    return _Missing(name)
