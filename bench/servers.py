"""Who takes part in tools/bench: how each server is started, and the Debian packages behind it."""

import pathlib
import shutil
import subprocess
from typing import NamedTuple

import harness

PYTHON = "/usr/bin/python3"  # the system's, which finds the packages of the system
OPTION = {"echo": "", "lines": " --lines", "udp": " --udp", "hog": " --hog"}


class Server(NamedTuple):
    name: str
    command: str         # without the mode's option; {port} and {build} are filled in
    modes: tuple = ("echo", "lines")
    packages: tuple = ()

    def start(self, mode):
        if mode == "udp" and self in WEFT:  # which is told what to listen on
            return self.command.replace("--tcp", "--udp")
        return self.command + OPTION[mode]

    def start_with_large_buffer(self, mode):
        """With 64 KiB to receive into where each connection has a buffer of its own."""
        if self.name == "weft-coro":
            return "{build}/bench/bench-coro-echo --port {port} --buffer 65536"
        return self.start(mode) + ("" if self in WEFT else " --buffer 65536")


def peer(name, modes, *packages):
    return Server(name, f"{{build}}/bench/peers/peer-{name} --port {{port}}", modes, packages)


STREAMS = ("echo", "lines")
HAND = [
    Server("hand-edge", "{build}/bench/bench-echo-base --port {port} --trigger edge",
           ("echo",)),
    Server("hand-level", "{build}/bench/bench-echo-base --port {port} --trigger level",
           ("echo",)),
    Server("hand-lines", "{build}/bench/bench-lines-base --port {port}", ()),
    Server("hand-udp", "{build}/bench/bench-udp-base --port {port}", ()),
    Server("hand-udp-single", "{build}/bench/bench-udp-base --port {port} --batch 1", ()),
]
WEFT = [
    Server("weft", "{build}/tools/weft echo --tcp 127.0.0.1:{port}", (*STREAMS, "udp", "hog")),
    Server("weft-coro", "{build}/tools/weft echo --style coro --tcp 127.0.0.1:{port}"),
]
PEERS = [
    peer("libuv", (*STREAMS, "udp", "hog"), "libuv1-dev"),
    peer("libevent", (*STREAMS, "hog"), "libevent-dev"),
    peer("libev", (*STREAMS, "hog"), "libev-dev"),
    peer("asio-callback", (*STREAMS, "udp", "hog"), "libasio-dev"),
    peer("asio-await", STREAMS, "libasio-dev"),
    peer("asio-stackful", STREAMS, "libboost-coroutine-dev", "libboost-system-dev"),
    peer("state-threads", STREAMS, "libst-dev"),
    peer("kj", STREAMS, "libcapnp-dev"),
    peer("go", (*STREAMS, "udp", "hog"), "golang-go"),
    peer("tokio", (*STREAMS, "udp"), "rustc", "cargo", "librust-tokio-dev"),
    Server("uvloop", f"{PYTHON} {harness.ROOT}/bench/peers/echo.py --uvloop --port {{port}}",
           (*STREAMS, "udp"), ("python3-uvloop",)),
    Server("asyncio", f"{PYTHON} {harness.ROOT}/bench/peers/echo.py --port {{port}}",
           (*STREAMS, "udp"), ("python3",)),
]
BY_NAME = {server.name: server for server in (*HAND, *WEFT, *PEERS)}
# What is compared in the programs without sockets; see workloads/operations.py.
OTHER_PACKAGES = ("libboost-fiber-dev",)
# Services with a workload of their own; see workloads/services.py.
SERVICE_PACKAGES = ("redis-server", "nginx-light", "haproxy")


def packages():
    names = {name for server in PEERS for name in server.packages}
    return sorted({*names, *OTHER_PACKAGES, *SERVICE_PACKAGES})


def versions():
    """{package: version} of what is installed, and of the compiler and weft itself."""
    said = subprocess.run(["dpkg-query", "-W", "-f=${Package} ${Version} ${db:Status-Status}\n",
                           *packages()], capture_output=True, text=True, check=False).stdout
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
    if server.name == "weft-coro":
        said = subprocess.run([program, "echo", "--help"], capture_output=True, text=True,
                              check=False).stdout
        if "coro" not in said:
            return "weft was built without the coroutine front-end"
    return None
