#!/bin/bash
# Checks that the crate builds with every feature alone, with none and with all.
set -euo pipefail
cd "$(dirname "$0")/.."
export RUSTFLAGS="${RUSTFLAGS:-} -D warnings"
# A directory of its own: other flags would make the next ordinary build start afresh.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/features"
check() {
    echo "features: $*"
    cargo check --locked --quiet "$@"
}
check --no-default-features
for feature in $(tests/list_features.sh); do
    check --no-default-features --features "$feature"
done
check --all-features
