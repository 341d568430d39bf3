"""Becomes another program that dies together with the process that started it.

Run by path and in isolation (`python -I -S launch.py PARENT PROGRAM ARGUMENT…`), so that it costs a few milliseconds and
needs nothing but the standard library. The program keeps this process's id. Linux alone can do it (prctl(2),
PR_SET_PDEATHSIG, which survives exec); elsewhere the program is started all the same, and what a killed `dev` left
behind is found by its record in the data directory.

Why not `preexec_fn`: code between fork and exec can deadlock in a process that has threads, and ours has.
"""

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, program: list[str]) -> None:
    """Replaces this process by `program`; exits with 1 if `parent` (a process id) has died already, 127 if it cannot."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before we could ask to be told
            sys.exit(1)
    try:
        os.execv(program[0], program)  # noqa: S606 - no shell is what we want
    except OSError as error:
        sys.exit(f"cannot run {program[0]}: {error.strerror}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
