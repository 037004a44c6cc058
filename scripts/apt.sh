#!/usr/bin/env bash
# apt.sh PACKAGE PATH: installs a Debian package when PATH is missing and we may; never fails.
[ -e "$2" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "setup: installing Debian's $1"
  export DEBIAN_FRONTEND=noninteractive
  { apt-get install -y -qq "$1" || { apt-get update -qq && apt-get install -y -qq "$1"; }; } >/dev/null 2>&1 \
    || echo "setup: could not install $1; going on without it"
else
  echo "setup: $1 is not installed; to have it: sudo apt-get install $1"
fi
exit 0
