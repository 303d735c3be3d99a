#!/bin/bash
# run.sh: the gateway in the foreground until Ctrl-C, for `make run`. With the demo's configuration a simulated bot runs
# beside it, and a stream URL to try is printed. CONFIG and PATCHBAY_BIN as in the Makefile.
set -euo pipefail
: "${PATCHBAY_BIN:=$PWD/bin}" "${CONFIG:=configs/demo.yaml}"
export PATCHBAY_BIN

# Not `go run`, which a SIGTERM would end without what it has started.
go build -o "$PATCHBAY_BIN/demo" ./configs/demo
exec "$PATCHBAY_BIN/demo" --serve --config "$CONFIG"
