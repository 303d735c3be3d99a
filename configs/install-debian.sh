#!/bin/bash
# install-debian.sh PACKAGE… installs Debian packages, as root or by sudo.
set -euo pipefail
command -v apt-get >/dev/null || { echo "not a Debian system; install these by hand: $*" >&2; exit 1; }
sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
export DEBIAN_FRONTEND=noninteractive
install=($sudo apt-get install -y -q --no-install-recommends "$@")
# A fresh machine has no package lists, a machine with old ones gets 404s: fetch them when the first try does not work.
"${install[@]}" >/dev/null 2>&1 || { $sudo apt-get update -q; "${install[@]}"; }
