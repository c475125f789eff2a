#!/usr/bin/env python3
"""lengths_test.py SOURCE: no file of the library has more than 450 lines, no function more than 70.

No line of any C++ source has more than 100 columns, counted in characters. A function's lines are
those from the one with its opening brace to the one with its closing brace; a lambda counts with
the function that it is written in.
"""

import pathlib
import re
import sys

LIBRARY = ("reactor", "protocols", "transports", "coro")
OTHERS = ("bench", "examples", "test", "tools")
FILE_LINES, FUNCTION_LINES, COLUMNS = 450, 70, 100
NOISE = re.compile(r"""//[^\n]*|/\*.*?\*/"""
                   r"""|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|(?<!\w)'(?:\\.|[^'\\\n])+'"""
                   r"""|^[ \t]*\#(?:[^\n]*\\\n)*[^\n]*""", re.DOTALL | re.MULTILINE)
# Before a function's body these are no part of what tells it from a type's.
ASIDE = re.compile(r"\[\[.*?\]\]|\balignas\s*\([^()]*\)|[<>]=|->", re.DOTALL)


def plain(text):
    """The text without comments, literals and directives, line by line as long as before."""
    return NOISE.sub(lambda found: "\n" * found[0].count("\n"), text)


def is_function(head):
    """Whether what stands before a brace, outside of any function, begins the body of one."""
    flat, before = ASIDE.sub(" ", head), None
    while flat != before:
        before, flat = flat, re.sub(r"<[^<>]*>", " ", flat)
    return "(" in flat


def functions(text):
    """(first line, last line) of each function, by their braces."""
    found, opened, line, head = [], [], 1, ""  # opened: (line, whether a function begins)
    for character in plain(text):
        if character == "\n":
            line += 1
        if character == "{":
            opened.append((line, not any(inside for _, inside in opened) and is_function(head)))
        elif character == "}":
            first, function = opened.pop()
            if function:
                found.append((first, line))
        head = "" if character in "{};" else head + character
    return found


def check(path, name, library):
    text = path.read_text(encoding="utf-8")
    lines = text.split("\n")
    found = [f"{name}:{number}: {len(line)} columns, at most {COLUMNS}"
             for number, line in enumerate(lines, 1) if len(line) > COLUMNS]
    if not library:
        return found
    if len(lines) - 1 > FILE_LINES:
        found.append(f"{name}: {len(lines) - 1} lines, at most {FILE_LINES}")
    for first, last in functions(text):
        if last - first + 1 > FUNCTION_LINES:
            found.append(f"{name}:{first}: a function of {last - first + 1} lines, "
                         f"at most {FUNCTION_LINES}")
    return found


def self_test():
    """Whoever lets a long function pass for something else is of no use."""
    text = """namespace a {
class alignas(64) B : public C<int(D<int>)> {
    void f() { // }
        const char c = '}';
        g("}", [] { h(); });
    }
};
template<class T>
    requires(sizeof(T) > 1)
A::A(int x) noexcept : x_{x}, y_(x) {
}
enum class E { one };
int table[] = {1,
               2};
} // namespace a
"""
    found = [place for place in functions(text) if place[0] != place[1]]
    if found != [(3, 6), (10, 11)]:
        sys.exit(f"lengths_test.py takes for functions: {found}")


def main():
    self_test()
    root, found, count = pathlib.Path(sys.argv[1]), [], 0
    for folder in LIBRARY + OTHERS:
        for path in sorted((root / folder).rglob("*.[ch]pp")):
            count += 1
            found += check(path, path.relative_to(root), folder in LIBRARY)
    for line in found:
        print(line)
    if count < 100:
        sys.exit(f"only {count} sources in {root}")
    sys.exit(1 if found else 0)


main()
