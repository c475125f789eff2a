"""What all scripts here share: starting servers and the client, reading what they cost.

Both sides run under SCHED_BATCH: a wake-up then does not preempt the running side, so that on one
processor the client gets all its messages out before the server runs, which then finds them all.
"""

import ctypes
import json
import os
import pathlib
import random
import resource
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)
SYS_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
LONGEST_SLICE_NS = 100_000_000
PATIENCE = 120  # seconds; callgrind is slow


class SchedulingAttributes(ctypes.Structure):
    """struct sched_attr of sched_setattr(2)."""
    _fields_ = [("size", ctypes.c_uint32), ("policy", ctypes.c_uint32), ("flags", ctypes.c_uint64),
                ("nice", ctypes.c_int32), ("priority", ctypes.c_uint32),
                ("runtime", ctypes.c_uint64), ("deadline", ctypes.c_uint64),
                ("period", ctypes.c_uint64)]



class Failure(Exception):
    """Something that ends the program with a message and no traceback."""


def say(text):
    """Progress, for those who wait; results go to standard output."""
    print(text, file=sys.stderr, flush=True)


def run_main(main):
    """Calls `main`; on the way out, also after a signal, every process started here is ended."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(130)
    except Failure as failure:
        say(f"{pathlib.Path(sys.argv[0]).name}: {failure}")
        sys.exit(2)


def allow_descriptors(count):
    """Raises the limit of open files for this process and its children, or says that it cannot."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= count:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, max(hard, count)))
    except (ValueError, PermissionError) as error:
        raise Failure(f"{count} open files are needed and the limit is {hard}: "
                      f"`ulimit -Hn {count}` as root ({error})") from error


def default_build():
    return next((path for name in ("build-release", "build")
                 if (path := ROOT / name / "bench" / "bench-load").exists()),
                ROOT / "build-release" / "bench" / "bench-load").parent.parent


def add_common_options(parser, connections, size, depth):
    parser.add_argument("servers", nargs="*", metavar="NAME=COMMAND",
                        help="a server to compare; {port} and {build} are filled in")
    parser.add_argument("--base", action="append", default=[], metavar="NAME=COMMAND",
                        help="a server to compare with; the best of several is the denominator "
                             "(default: the first server)")
    parser.add_argument("--connections", type=int, default=connections, metavar="N",
                        help="default %(default)s")
    parser.add_argument("--size", type=int, default=size, metavar="BYTES",
                        help="of a message, default %(default)s")
    parser.add_argument("--depth", type=int, default=depth, metavar="N",
                        help="messages in flight on a connection, default %(default)s")
    parser.add_argument("--udp", action="store_true", help="datagrams instead of connections")
    parser.add_argument("--build", type=pathlib.Path, default=default_build(), metavar="DIR",
                        help="where bench-load and the rest are built, default %(default)s")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the figures there")
    cpus = sorted(os.sched_getaffinity(0))
    parser.add_argument("--server-cpu", type=int, default=cpus[-1], metavar="CPU",
                        help="default %(default)s")
    parser.add_argument("--load-cpu", type=int, metavar="CPU",
                        help="default: the server's, so that every wake-up finds a full batch")


def settle_options(options):
    """Checks what was asked for; returns (name, command) of all servers and how many are bases."""
    servers = []
    for text in options.base + options.servers:
        name, equals, command = text.partition("=")
        if not equals or "{port}" not in command:
            raise Failure(f"'{text}' is not NAME=COMMAND with {{port}} in the command")
        program = command.replace("{build}", str(options.build)).split()[0]
        if not shutil.which(program):
            raise Failure(f"{name}: there is no program {program}")
        servers.append((name, command))
    if len(servers) < 2 or len({name for name, _ in servers}) < len(servers):
        raise Failure("give at least two servers, of different names")
    if not (options.build / "bench" / "bench-load").exists():
        raise Failure(f"{options.build}/bench/bench-load is not there: "
                      f"`ninja -C {options.build}` builds it, --build names another folder")
    if options.load_cpu is None:
        options.load_cpu = options.server_cpu
    allow_descriptors(options.connections + 200)
    others = os.sched_getaffinity(0) - {options.server_cpu, options.load_cpu}
    if others:  # keep this script out of the measurement's way
        os.sched_setaffinity(0, others)
    return servers, max(1, len(options.base))


realtime = False


def use_realtime():
    """From now on this script and all that it starts go before everything else on the machine, for figures on one
    that is busy with other things. Among themselves none preempts another, as under SCHED_BATCH."""
    global realtime
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError as error:
        raise Failure(f"only root may go before everything else ({error})") from error
    realtime = True


def check_programs(servers, build):
    """That every (name, command) names a program that is there, and the client is as well."""
    for name, command in [*servers, ("the client", "{build}/bench/bench-load")]:
        program = command.replace("{build}", str(build)).split()[0]
        if not shutil.which(program):
            raise Failure(f"{name}: there is no program {program}; a release build has it: "
                          f"meson setup --buildtype=release {build} && ninja -C {build}")


def stay_away(cpus):
    """Keeps this script off the processors that are measured, if there are others."""
    if others := os.sched_getaffinity(0) - cpus:
        os.sched_setaffinity(0, others)


def start(command, cpu, **kwargs):
    """Starts a process of its own session on one processor, or on a set of them, which dies with
    this script."""
    def prepare():
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.sched_setaffinity(0, cpu if isinstance(cpu, set) else {cpu})
        if realtime:
            return
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        # A load that sends on hundreds of connections must not be interrupted half way: servers
        # that take a little longer would then see larger batches than others, which cost more per
        # request. Linux 6.12 can give a process more than 3 ms at a time; older ones refuse.
        attributes = SchedulingAttributes(size=ctypes.sizeof(SchedulingAttributes),
                                          policy=os.SCHED_BATCH, runtime=LONGEST_SLICE_NS)
        LIBC.syscall(SYS_SCHED_SETATTR[os.uname().machine], 0, ctypes.byref(attributes), 0)

    kept = ("PATH", "HOME", "LD_LIBRARY_PATH")
    environment = {"LC_ALL": "C", **{name: os.environ[name] for name in kept if name in os.environ}}
    environment.update(kwargs.pop("environment", {}))
    try:
        return subprocess.Popen(command, preexec_fn=prepare, start_new_session=True,
                                env=environment, text=True, **kwargs)
    except OSError as error:
        raise Failure(f"cannot start '{shlex.join(command)}': {error}") from error


def end(process):
    """Kills what is left of a process's session and reaps it."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def free_port():
    """A port nobody uses, below those that connect() hands out."""
    for _ in range(1000):
        port = random.randrange(10000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise Failure("no free port between 10000 and 32000")


def socket_states(port, udp):
    """The states of the sockets whose local port is `port`, seen without connecting to it."""
    states = set()
    for name in ("udp", "udp6") if udp else ("tcp", "tcp6"):
        try:
            lines = open(f"/proc/net/{name}").readlines()[1:]
        except OSError:
            continue
        for line in lines:
            _, local, _, state = line.split()[:4]
            if int(local.rpartition(":")[2], 16) == port:
                states.add(state)
    return states


LISTEN, UDP_BOUND = "0A", "07"
CONNECTED = {"01", "08"}  # established, or ended by the peer and not yet closed


def cpu_ns(pid):
    """Processor time of all threads of a process, user and kernel, exact to the nanosecond."""
    return sum(int(pathlib.Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
               for task in os.listdir(f"/proc/{pid}/task"))


class Server:
    """A server under test, started afresh; a context manager that ends it."""

    def __init__(self, name, command, options, wrapper=("setarch", "-R"), environment={}):
        self.name, self.port, self.udp = name, free_port(), options.udp
        filled = command.replace("{port}", str(self.port)).replace("{build}", str(options.build))
        self.command = [*wrapper, *shlex.split(filled)]
        self.cpu, self.environment = options.server_cpu, environment

    def __enter__(self):
        self.stderr = tempfile.TemporaryFile(mode="w+")
        self.process = start(self.command, self.cpu, environment=self.environment,
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=self.stderr)
        self.pid = self.process.pid
        deadline = time.monotonic() + PATIENCE  # valgrind takes a while to start
        ready = UDP_BOUND if self.udp else LISTEN
        while ready not in socket_states(self.port, self.udp):
            if self.process.poll() is not None or time.monotonic() > deadline:
                end(self.process)
                said = self.said()
                raise Failure(f"{self.name}: `{shlex.join(self.command)}` does not listen on port "
                              f"{self.port}{': ' + said if said else ''}")
            time.sleep(0.01)
        return self

    def __exit__(self, *_):
        end(self.process)
        self.stderr.close()

    def said(self):
        """What the server has written to its standard error."""
        self.stderr.seek(0)
        return self.stderr.read().strip()

    def traced_pid(self):
        """The server's own process when it was started under a tracer that is its parent."""
        for entry in os.listdir("/proc"):
            try:
                # The fields after the name, which may hold anything but ends with the last bracket.
                parent = open(f"/proc/{entry}/stat").read().rpartition(")")[2].split()[1]
            except (OSError, IndexError):
                continue
            if parent == str(self.pid):
                return int(entry)
        return self.pid

    def drain(self):
        """Waits until the server has closed every connection that its peer has closed."""
        while socket_states(self.port, self.udp) & CONNECTED:
            time.sleep(0.01)

    def ask(self, question):
        """Sends bytes on a connection of their own and waits for something in return."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(question)
            if not connection.recv(65536):
                raise Failure(f"{self.name} does not answer {question[:60]}")

    def finish(self):
        """Asks the server to end, so that a tracer around it reports; returns its stderr."""
        os.kill(self.traced_pid(), signal.SIGTERM)
        self.process.wait()
        return self.said()

    def tasks(self):
        return [pathlib.Path(f"/proc/{self.pid}/task/{task}")
                for task in os.listdir(f"/proc/{self.pid}/task")]

    def cpu_ns(self):
        return cpu_ns(self.pid)

    def switches(self):
        """(times it went to sleep, times it was preempted)."""
        counts = {"voluntary_ctxt_switches": 0, "nonvoluntary_ctxt_switches": 0}
        for task in self.tasks():
            for line in (task / "status").read_text().splitlines():
                key, _, value = line.partition(":")
                if key in counts:
                    counts[key] += int(value)
        return tuple(counts.values())

    def memory(self):
        """Resident bytes plus page tables. smaps_rollup walks the pages; VmRSS is only near."""
        resident = next(line for line in open(f"/proc/{self.pid}/smaps_rollup")
                        if line.startswith("Rss:"))
        tables = next(line for line in open(f"/proc/{self.pid}/status")
                      if line.startswith("VmPTE:"))
        return 1024 * (int(resident.split()[1]) + int(tables.split()[1]))


class Load:
    """bench-load against a server, step by step: warm(), measure(), then leave the context."""

    def __init__(self, server, options, *arguments, connections=None):
        self.server, self.said = server, ""  # what it has written and nobody has read
        self.process = start(
            [str(options.build / "bench" / "bench-load"), "--steps", "--port", str(server.port),
             "--connections", str(connections or options.connections), "--size", str(options.size),
             "--depth", str(options.depth), *(["--udp"] if options.udp else []),
             *(["--sink"] if getattr(options, "sink", False) else []),
             *arguments],
            options.load_cpu, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        end(self.process)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()

    def line(self):
        pipe = self.process.stdout.fileno()
        while "\n" not in self.said:
            # A server that ceases to answer must not take the whole run with it.
            if not select.select([pipe], [], [], PATIENCE)[0]:
                raise Failure(f"{self.server.name}: nothing was answered for {PATIENCE} seconds")
            more = os.read(pipe, 65536).decode()
            if not more:
                raise Failure(f"{self.server.name}: {self.process.stderr.read().strip()}")
            self.said += more
        text, _, self.said = self.said.partition("\n")
        return text

    def warm(self):
        """Returns when all connections are open and the warm-up is over, the server idle."""
        self.line()

    def cpu_ns(self):
        return cpu_ns(self.process.pid)

    def turn(self, seconds):
        """With --turns: runs for so long; returns {requests, seconds}."""
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        return json.loads(self.line())

    def measure(self):
        """Runs the measured part; returns {requests, seconds} with the connections still open."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        result = json.loads(self.line())
        self.line()
        return result

    def leave(self):
        """Lets the client close its connections and waits for its end."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.process.wait()


def table(header, rows, words=1):
    """The rows as aligned text: the first `words` columns to the left, the others to the right."""
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    return "\n".join("  ".join(cell.ljust(width) if column < words else cell.rjust(width)
                               for column, (cell, width) in enumerate(zip(row, widths))).rstrip()
                     for row in cells)


def machine():
    """What the figures depend on, for the JSON file."""
    model = next((line.partition(":")[2].strip() for line in open("/proc/cpuinfo")
                  if line.startswith("model name")), "unknown")
    return {"kernel": os.uname().release, "processor": model, "cpus": os.cpu_count()}
