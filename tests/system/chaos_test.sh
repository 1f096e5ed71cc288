#!/bin/sh
# Two minutes of `./dev bench chaos`.
exec python3 tests/bench/chaos.py --minutes 2
