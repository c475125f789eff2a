"""More than an echo on one loop: idle timeouts, and several loops."""

from suite import workload


@workload("timeouts", "echo where each message starts its connection's idle timeout over")
def timeouts(suite):
    service = "{build}/bench/bench-services --port {port}"
    suite.compare_servers("timeouts", "64 B, 64 connections", [
        ("weft", service), ("weft-timeouts", service + " --idle-timeout 30")])


@workload("scaling", "one loop and two, with the load on the same processors")
def scaling(suite):
    """With as many processors as loops the load takes part of each; what shows is the price of a
    second loop, not the gain."""
    both = set(suite.cpus[:2])
    for count in (1, 2):
        more = f" --threads {count}"
        entrants = [(name, command + more) for name, command in suite.servers("echo", (), (
            "weft", "weft-coro"))]
        entrants += [(name, command + more) for name, command in suite.servers("echo", (), ("go",))]
        suite.compare_servers("scaling", f"{count} loops, 64 B, 64 connections", entrants,
                              server_cpu=both, load_cpu=both)
