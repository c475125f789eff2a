"""The workloads of tools/bench. Each module registers its own; here is only their order."""

from . import (  # noqa: F401
    echo,
)
