#!/bin/bash
# Makes what some tests of `make test` use when it is there, below target/: in venv the Python client that
# tests/it/paho.rs drives, the parser that tests/it/metrics.rs gives the metrics page to and the client for MQTT-SN of
# tests/it/sn_peers.rs, in npm the client for JavaScript that tests/it/websockets.rs drives. What is there already stays.
# A CI machine gets a browser too.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-target}
status=0

venv=$target/venv
if ! "$venv/bin/python" -c 'import paho.mqtt, prometheus_client.parser, mqttsn12' 2>/dev/null; then
    mkdir -p "$target"
    python3 -m venv "$venv" &&
        "$venv/bin/pip" install --quiet --disable-pip-version-check 'paho-mqtt>=2.1,<3' 'prometheus_client>=0.20,<1' \
            'mqtt-sn-12>=1.0.9,<2' ||
        status=1
fi

npm=$target/npm
if [ ! -e "$npm/node_modules/mqtt/dist/mqtt.min.js" ]; then
    if command -v npm >/dev/null; then
        mkdir -p "$npm"
        timeout 120 npm install --prefix "$npm" --no-audit --no-fund --ignore-scripts --loglevel=error 'mqtt@~5.16' \
            </dev/null >/dev/null || echo "npm: no mqtt, its tests will be skipped"
    else
        echo "no npm: the tests with MQTT.js will be skipped"
    fi
fi

if [ "${CI:-}" = true ] && [ "$(id -u)" -eq 0 ] && ! command -v chromium >/dev/null; then
    DEBIAN_FRONTEND=noninteractive timeout 400 apt-get install -y -qq --no-install-recommends chromium \
        </dev/null >/dev/null || echo "no chromium: its test will be skipped"
fi
exit $status
