#!/usr/bin/env python3
"""freeze_thread.py TID: stops one thread, as a debugger does, and no other of its process, until it is gone.

Says "frozen" when the thread stands still. SIGSTOP would stop the whole process.
"""
import ctypes
import os
import sys

PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4206, 0x4207  # linux/ptrace.h
WALL = 0x40000000  # __WALL: threads, too


def main():
    thread = int(sys.argv[1])
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
    for request in (PTRACE_SEIZE, PTRACE_INTERRUPT):
        if ptrace(request, thread, None, None) != 0:
            return f"thread {thread}: {os.strerror(ctypes.get_errno())}"
    os.waitpid(thread, WALL)
    print("frozen", flush=True)
    while True:  # whatever arrives for it stays with it
        _, status = os.waitpid(thread, WALL)
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            return 0


sys.exit(main())
