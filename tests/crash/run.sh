#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Kills, stops and damage through the real server.  usage: run.sh BINARY [KILLS [IMAGES [ROUNDS]]]
set -eu
binary=$1
here=$(dirname "$0")
python3 "$here/stop_test.py" "$binary" --rounds "${4:-2}"
python3 "$here/kill_loop.py" "$binary" --kills "${2:-15}"
python3 "$here/function_kill.py" "$binary" --kills "${2:-15}"
python3 "$here/damage_server.py" "$binary" --images "${3:-24}"
