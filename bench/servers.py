"""The peers in tools/bench: how each server is started, and the Debian packages behind it."""

import pathlib
import shutil
import subprocess
from typing import NamedTuple

import harness

PYTHON = "/usr/bin/python3"  # the system's, which finds the packages of the system
OPTION = {"echo": "", "lines": " --lines", "udp": " --udp", "flood": " --udp --sink", "hog": " --hog"}


class Server(NamedTuple):
    name: str
    command: str         # without the mode's option; {port} and {build} are filled in
    modes: tuple = ("echo", "lines")
    packages: tuple = ()

    def start(self, mode, large=False):
        """The command; `large`: with 64 KiB to receive into where each connection has a buffer of its own."""
        return self.command + OPTION[mode] + (" --buffer 65536" if large else "")


def peer(name, modes, *packages):
    return Server(name, f"{{build}}/bench/peers/peer-{name} --port {{port}}", modes, packages)


STREAMS = ("echo", "lines")
DATAGRAMS = ("udp", "flood")
PEERS = [
    peer("libuv", (*STREAMS, *DATAGRAMS, "hog"), "libuv1-dev"),
    peer("libevent", (*STREAMS, "hog"), "libevent-dev"),
    peer("libev", (*STREAMS, "hog"), "libev-dev"),
    peer("asio-callback", (*STREAMS, *DATAGRAMS, "hog"), "libasio-dev"),
    peer("asio-await", STREAMS, "libasio-dev"),
    peer("asio-stackful", STREAMS, "libboost-coroutine-dev", "libboost-system-dev"),
    peer("state-threads", STREAMS, "libst-dev"),
    peer("kj", STREAMS, "libcapnp-dev"),
    peer("go", (*STREAMS, *DATAGRAMS, "hog"), "golang-go"),
    peer("tokio", (*STREAMS, *DATAGRAMS), "rustc", "cargo", "librust-tokio-dev"),
    Server("uvloop", f"{PYTHON} {harness.ROOT}/bench/peers/echo.py --uvloop --port {{port}}",
           (*STREAMS, "udp"), ("python3-uvloop",)),
    Server("asyncio", f"{PYTHON} {harness.ROOT}/bench/peers/echo.py --port {{port}}",
           (*STREAMS, "udp"), ("python3",)),
]
# What is compared in the programs without sockets; see workloads/operations.py.
OTHER_PACKAGES = ("libboost-fiber-dev",)
# Services with a workload of their own; see workloads/services.py.
SERVICE_PACKAGES = ("memcached", "redis-server", "nginx-light", "haproxy")
# What the figures that decide are taken beside.
DECIDING_PACKAGES = ("memcached", "redis-server", "libevent-dev", "libuv1-dev", "libasio-dev")
DECIDING_PEERS = ("libevent", "libuv", "asio-callback")  # in the fairness workload


def packages(deciding):
    if deciding:
        return sorted(DECIDING_PACKAGES)
    names = {name for server in PEERS for name in server.packages}
    return sorted({*names, *OTHER_PACKAGES, *SERVICE_PACKAGES})


def versions():
    """{package: version} of what is installed, and of the compiler and weft itself."""
    said = subprocess.run(["dpkg-query", "-W", "-f=${Package} ${Version} ${db:Status-Status}\n",
                           *packages(False)], capture_output=True, text=True, check=False).stdout
    found = {fields[0]: fields[1] for fields in map(str.split, said.splitlines())
             if fields[-1] == "installed"}
    for name, command in (("c++", ["c++", "-dumpfullversion"]),
                          ("weft", ["git", "-C", str(harness.ROOT), "rev-parse", "HEAD"])):
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        found[name] = ran.stdout.strip() or "unknown"
    return found


def missing(server, build):
    """Why a server can not take part, or None."""
    program = server.command.replace("{build}", str(build)).split()[0]
    if not shutil.which(program):
        wanted = f"; it needs {' '.join(server.packages)}" if server.packages else ""
        return f"{pathlib.Path(program).name} is not built{wanted}"
    if server.name == "uvloop" and subprocess.run(
            [PYTHON, "-c", "import uvloop"], capture_output=True, check=False).returncode:
        return f"{PYTHON} finds no uvloop; it needs python3-uvloop"
    return None
