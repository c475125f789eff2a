"""More than an echo on one loop: idle timeouts, and several loops."""

import settings
from suite import workload

SERVICE = "{build}/bench/bench-services --port {port}"


@workload("timeouts", "echo where each message starts its connection's idle timeout over")
def timeouts(suite):
    suite.compare("timeouts", "64 B, 64 connections", [("without", SERVICE)],
                  [("callback", SERVICE + " --idle-timeout 30")], settings.setting(suite.build))


@workload("scaling", "one loop and two, with the load on the same processors")
def scaling(suite):
    """With as many processors as loops the load takes part of each; what shows is the price of a
    second loop, not the gain."""
    setting = settings.setting(suite.build)
    both = {setting.server_cpu, *suite.cpus[:2]}
    setting = settings.setting(suite.build, server_cpu=both, load_cpu=both)
    suite.compare("scaling", "two loops, one = 1", [("one", settings.tool("callback"))],
                  [("callback", settings.tool("callback") + " --threads 2"),
                   ("coroutine", settings.tool("coroutine") + " --threads 2")], setting, counted=False)
