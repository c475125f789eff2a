#!/usr/bin/env python3
"""specification_test.py TOOL: docs/specification.md is true, and TOOL finds what is not."""

import pathlib
import subprocess
import sys
import tempfile

PAGE = """# Numbers

Words.

- **s1** A thing that is
  covered.
  - Tests: `a_test.cpp` (2), `smoke.cpp` (1)

- **F2** Another.
  - Tests: `a_test.cpp` (1)

| | for |
|---|---|
| s3, s4 | later |
"""
CASES = """TEST_CASE("one thing "
          "[s1]", "[F2][other]") {} // and no case of [F9]
    SECTION("more of it [s1]") {}
"""
SMOKE = "// Programs that are no tests of Catch2 say it in a comment [s1].\n"


def run(tool, *arguments):
    result = subprocess.run([tool, *arguments], capture_output=True, text=True, check=False)
    return result.returncode, result.stdout + result.stderr


def main():
    tool, failures = sys.argv[1], []

    def expect(what, condition, output):
        if not condition:
            failures.append(what)
            print(f"FAIL: {what}\n{output}")

    status, output = run(tool, "--check")
    print(output, end="")
    expect("docs/specification.md is true", status == 0, "")

    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        (root / "docs").mkdir()
        (root / "test").mkdir()
        page, cases = root / "docs/specification.md", root / "test/a_test.cpp"
        (root / "test/smoke.cpp").write_text(SMOKE)

        def look(mode, text=PAGE, code=CASES):
            page.write_text(text)
            cases.write_text(code)
            return run(tool, mode, "--root", folder)

        status, output = look("--check")
        expect("a page that is true passes", status == 0, output)
        for what, text, code, words in (
                ("a tag without a number", "", 'TEST_CASE("x [s7]") {}', "s7 is missing"),
                ("a tag of a reserved number", "", 'TEST_CASE("x [s4]") {}', "s4 is reserved"),
                ("a number without a test", "\n- **s5** More.\n", "", "s5 has no test"),
                ("a number that is there twice", "\n- **s1** More.\n", "", "s1 is there 2 times"),
                ("a list that is out of date", "", 'TEST_CASE("x [s1]") {}', "out of date")):
            status, output = look("--check", PAGE + text, CASES + code)
            expect(f"{what} is found", status == 1 and words in output, output)
        stale = PAGE.replace("(2)", "(7)\n    more").replace("  - Tests: `a_test.cpp` (1)\n", "")
        status, output = look("--write", stale)
        expect("--write makes the lists, and leaves the rest alone",
               status == 0 and page.read_text() == PAGE, output)
    print(f"{len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
