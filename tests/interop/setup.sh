#!/bin/bash
# Makes target/venv with the Python client that tests/it/paho.rs drives and the parser that tests/it/metrics.rs gives the
# metrics page to. Does nothing when both are there already.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=${CARGO_TARGET_DIR:-target}/venv
if "$venv/bin/python" -c 'import paho.mqtt, prometheus_client.parser' 2>/dev/null; then
    exit 0
fi
mkdir -p "$(dirname "$venv")"
python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check 'paho-mqtt>=2.1,<3' 'prometheus_client>=0.20,<1'
