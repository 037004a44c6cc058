#!/usr/bin/env bash
# Makes .venv. On Debian without ensurepip, python3-venv is installed when we are root, else named.
set -euo pipefail
python=${1:-python3}
command -v "$python" >/dev/null || { echo "setup: expected Python 3.11 or newer as '$python', found none; make PYTHON=/path/to/python3" >&2; exit 2; }
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
  || { echo "setup: expected Python 3.11 or newer, got $("$python" --version); make PYTHON=/path/to/python3.11" >&2; exit 2; }
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "setup: installing python3-venv"
    (apt-get update -qq || true; DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv) >/dev/null
  else
    echo "setup: this Python cannot make virtual environments; run: sudo apt-get install python3-venv" >&2; exit 2
  fi
fi
[ -x .venv/bin/python ] || "$python" -m venv .venv
echo "setup: installing into .venv (a few minutes the first time)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' 2>&1 | { grep -v -e '^WARNING' -e '^$' || true; }
.venv/bin/landscape --version >/dev/null
touch .venv/.ready
