"""Runs the `>>>` examples of a text. Shared by the tests of the docstrings and of the documentation's pages."""

import doctest

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def failures(text: str, name: str, namespace: dict, path: str, line: int) -> str:
    """What went wrong, in doctest's words, or "". `line` is where the text begins in the file, counted from 1.

    The examples see `namespace` and leave their names in it.
    """
    test = doctest.DocTestParser().get_doctest(text, {}, name, path, line - 1)
    test.globs = namespace
    report: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS, verbose=False).run(test, out=report.append, clear_globs=False)
    return "".join(report)
