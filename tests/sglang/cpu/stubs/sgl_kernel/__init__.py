"""Stands in for SGLang's kernel package, which has no build for CPUs: every name exists, none can be called."""

__version__ = "0.4.7"


class _Missing:
    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __call__(self, *args: object, **options: object) -> None:
        raise NotImplementedError(f"sgl_kernel.{self.__name__}: there is no build of this kernel for CPUs")


def __getattr__(name: str) -> _Missing:
    if name.startswith("__"):
        raise AttributeError(name)
    return _Missing(name)
