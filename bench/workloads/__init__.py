"""The workloads of tools/bench, each a function in one of these modules; here is their order."""

from . import echo, datagrams, memory, waiting, loops, services, operations  # noqa: F401
