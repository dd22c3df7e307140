"""The last step before a child's program starts: change user, tie it to its parent, then become it.

Run as a script in an isolated interpreter, so that none of this happens between fork and exec of a
process with threads: `python -I -S launch.py <parent pid> <signal> <uid|-> <gid|-> <program> [argument…]`.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
CANNOT_START = 126


def main(arguments: list[str]) -> None:
    """Replace this process by the program; leave with 126 and a reason if that cannot be."""
    parent, death_signal, uid, gid, *command = arguments
    linux = sys.platform == "linux"
    libc = ctypes.CDLL(None, use_errno=True)  # before the user changes, who may not be able to read it
    os.umask(0o077)  # what children write in the data folder is nobody else's business
    if uid != "-":
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    if linux and libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0) != 0:
        sys.exit(f"cannot tie the process to its parent: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != int(parent):  # it died before we could ask to be told
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        os.execv(command[0], command)
    except OSError as error:
        sys.stderr.write(f"cannot start {command[0]}: {error.strerror}\n")
        os._exit(CANNOT_START)


if __name__ == "__main__":
    main(sys.argv[1:])
