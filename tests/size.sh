#!/bin/bash
# Prints the size of the stripped broker with all features and with none.
set -euo pipefail
cd "$(dirname "$0")/.."
size() {
    local name=$1 dir=${CARGO_TARGET_DIR:-target}/size
    shift
    cargo build --release --locked --quiet --bin mosquitto --target-dir "$dir" "$@"
    printf '%-22s %9d bytes\n' "$name" "$(stat -c %s "$dir/release/mosquitto")"
}
size 'all features:' --all-features
size 'no features:' --no-default-features
