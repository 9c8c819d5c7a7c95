#!/bin/bash
# Prints the features of Cargo.toml, one a line, without `default`.
set -euo pipefail
cd "$(dirname "$0")/.."
awk '/^\[/ { inside = ($0 == "[features]") } inside && /^[a-z0-9_-]+ *=/ && !/^default *=/ { sub(/ *=.*/, ""); print }' Cargo.toml
