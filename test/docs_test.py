#!/usr/bin/env python3
"""docs_test.py ROOTS SOURCE COMPILER...: the C++ in the documents compiles; what they name is there.

Each block that is marked `cpp` is compiled: one with a `main` or a `struct` as a file of its own, any other as the
body of a function. ROOTS is the folder with the include roots. And every operation that the tables of checkpoints in
docs/coroutines.md name is in the lists of the tests, and the other way round. The calls in the tables of docs/errors.md
are declared, and its codes are those of `Errc`. Each function in the pictures of docs/paths.md is in the file beside it.
"""

import pathlib
import re
import subprocess
import sys
import tempfile

FOLDERS = ("reactor", "protocols", "transports", "coro")
HEADER = """
#include <weft/coro/coro.hpp>
#include <weft/reactor/sim/sim_kernel.hpp>
#include <weft/transports/server/server.hpp>
#include <weft/transports/datagram/udp.hpp>
#include <array>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>
using namespace std::chrono_literals;
namespace coro = weft::coro;
"""


def blocks(path):
    text = path.read_text()
    for match in re.finditer(r"^```cpp\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield text.count("\n", 0, match.start()) + 2, match.group(1)


def unit(path, line, code):
    includes = "".join(row + "\n" for row in code.splitlines() if row.startswith("#include"))
    body = "\n".join("" if row.startswith("#include") else row for row in code.splitlines())
    marker = f'#line {line} "{path}"\n'
    if re.search(r"^(int main|struct )", body, re.MULTILINE):
        return HEADER + includes + marker + body
    return HEADER + includes + "void block() {\n" + marker + body + "\n}\n"


def checkpoints(source):
    """What differs between the operations in the tables of docs/coroutines.md and those that are tested."""
    readme = (source / "docs" / "coroutines.md").read_text()
    section = re.search(r"^## Checkpoints$(.*?)^## ", readme, re.MULTILINE | re.DOTALL).group(1)
    rows = "".join(line for line in section.splitlines(True) if line.startswith("|"))
    documented = set(re.findall(r"`([^`]+)`", rows))
    tested = set()
    for name in ("checkpoint_test.cpp", "no_checkpoint_test.cpp"):
        code = (source / "test" / "coro" / name).read_text()
        tested |= set(re.findall(r'(?:\{|on_\w+\()"([^"]+)",\s*\[', code))
    return sorted(documented ^ tested)


def bodies(text, name):
    """What stands between the braces of each class or namespace of that name."""
    kind = r"\b(?:(?:class|struct) (?:\[\[\w+\]\] )?|namespace )(?:\w+::)*"
    for match in re.finditer(rf"{kind}{name}\b[^;{{()]*{{", text):
        depth, end = 1, match.end()
        while depth and end < len(text):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        yield text[match.end():end]


def declared(call, text):
    """Whether a function of that name, with its classes and namespaces, is declared in the text."""
    *scopes, name = call.split("::")
    for scope in scopes:
        text = "\n".join(bodies(text, scope))
    return re.search(rf"\b{name}\(", text) is not None


def errors(source):
    """What docs/errors.md has that is not there, or lacks."""
    page = (source / "docs" / "errors.md").read_text()
    headers = [path.read_text() for folder in FOLDERS for path in (source / folder).rglob("*.hpp")]
    text = re.sub(r"//.*", "", "\n".join(headers))
    names = {"call": [], "`Errc`": []}
    for table in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
        columns = [row.split("|")[1].strip() for row in table.splitlines()]
        names.get(columns[0], []).extend(re.findall(r"`([\w:]+)`", " ".join(columns[2:])))
    calls, codes = names.values()
    enumerators = set(re.findall(r"^\s*(\w+)[ =,]", next(bodies(text, "Errc")), re.MULTILINE))
    wrong = [f"{call} is not declared" for call in calls if not declared(call, text)]
    wrong += [f"Errc::{code} is in the headers or on the page alone" for code in sorted(enumerators ^ set(codes))]
    wrong += [f"there is no Errc::{code}" for code in sorted(set(re.findall(r"Errc::(\w+)", page)) - enumerators)]
    return wrong if calls and codes else ["it has no tables of calls and codes"]


def paths(source):
    """What docs/paths.md shows and is not where it shows it."""
    page = (source / "docs" / "paths.md").read_text()
    calls = re.findall(r"([A-Za-z][\w:]*)\s+((?:%s)/[\w/]+\.[ch]pp)" % "|".join(FOLDERS), page)
    for call, name in calls:
        text = (source / name).read_text() if (source / name).is_file() else ""
        if not re.search(rf"\b{call}\(", text) and not declared(call, text):
            yield f"{call} is not in {name}"
    if not calls:
        yield "it shows no functions with their files"


def main():
    roots, source, *compiler = sys.argv[1:]
    source = pathlib.Path(source)
    flags = [f"-I{roots}/{name}" for name in FOLDERS]
    documents = [source / "README.md", *sorted((source / "docs").glob("*.md"))]
    documents += [path for name in FOLDERS for path in sorted((source / name).rglob("README.md"))]
    count = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for document in documents:
            for line, code in blocks(document):
                count += 1
                file = pathlib.Path(folder) / f"block{count}.cpp"
                file.write_text(unit(document.name, line, code))
                result = subprocess.run(
                    [*compiler, "-std=c++20", "-fsyntax-only", "-Wall", "-Werror",
                     "-Wno-unused-variable", *flags, str(file)],
                    capture_output=True, text=True, check=False)
                if result.returncode != 0:
                    failed += 1
                    print(f"FAIL: {document.relative_to(source)}:{line} does not compile\n{result.stderr}")
    for name in checkpoints(source):
        failed += 1
        print(f"FAIL: {name} is either not in the tables of docs/coroutines.md or not in the tests of checkpoints")
    for page, problems in (("errors.md", errors(source)), ("paths.md", paths(source))):
        for problem in problems:
            failed += 1
            print(f"FAIL: docs/{page}: {problem}")
    print(f"{count} blocks in {len(documents)} documents, {failed} failures")
    return 1 if failed or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
