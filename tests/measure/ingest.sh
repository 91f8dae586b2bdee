#!/usr/bin/env bash
# How fast ingest drains a backlog, against a rumqttc client that only counts and acknowledges, in one run on one Mosquitto.
#
#   tests/measure/ingest.sh [MESSAGES [RUNS]]          # default 500000 3
#   tests/measure/ingest.sh steady [RATE [SECONDS]]    # default 50000 600: one line every 10 s with the memory resident
#
# Readings are those of `broker/examples/drain.rs`: 314 bytes, 20 signals. Needs Mosquitto and curl.
set -euo pipefail
cd "$(dirname "$0")/../.."

cargo build --release --workspace --bin homeward --example drain
bin="${CARGO_TARGET_DIR:-target}/release"
bin="$(cd "$bin" && pwd)"
config="$PWD/homeward.toml"
work="$(mktemp -d)"
trap 'kill $(jobs -p) 2>/dev/null; wait; rm -rf "$work"' EXIT

port=21883
metrics=21884
cat >"$work/mosquitto.conf" <<END
listener $port 127.0.0.1
allow_anonymous true
max_inflight_messages 0
max_queued_messages 0
persistence true
persistence_location $work/
END
PATH="$PATH:/usr/sbin" mosquitto -c "$work/mosquitto.conf" >"$work/broker.log" 2>&1 &
sleep 0.5
url="mqtt://127.0.0.1:$port"

ingest() {
    cd "$work"
    # The last batch is not full: it would be held for 10 s.
    HOMEWARD_INGEST_MAX_AGE="${max_age:-10s}" HOMEWARD_BROKER_URL=$url HOMEWARD_STORE_URL="file://$work/store" HOMEWARD_SERVE_LISTEN=127.0.0.1:$metrics \
        exec "$bin/homeward" --config "$config" ingest --json >"$work/done.json" 2>"$work/ingest.log"
}
# The sum of a metric, 0 while nothing answers.
metric() { { curl -sf "http://127.0.0.1:$metrics/metrics" || true; } | awk -v n="^$1" '$1 ~ n { sum += $2 } END { printf "%d\n", sum }'; }
wait_for() { until [ "$(metric homeward_archived_total)" -ge "$1" ]; do sleep 0.2; done; }
memory() { awk -v n="$2" '$1 == n { printf "%.0f", $2 / 1024 }' "/proc/$1/status"; }
field() { python3 -c "import json,sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])" "$work/done.json" "$1"; }

# Sessions first, so that the broker keeps what is published.
ingest & service=$!
until [ "$(metric homeward_broker_connected)" = 1 ]; do sleep 0.1; done
kill -TERM $service; wait $service

if [ "${1:-}" = steady ]; then
    rate="${2:-50000}" seconds="${3:-600}"
    ingest & service=$!
    "$bin/examples/drain" fill --url "$url" --count $((rate * seconds)) --rate "$rate" &
    filling=$!
    for ((at = 10; at <= seconds; at += 10)); do
        sleep 10
        echo "$at s: $(metric homeward_archived_total) archived of $((rate * at)), $(memory $service VmRSS:) MB resident, journal $(($(metric homeward_journal_bytes) >> 20)) MiB"
    done
    wait $filling
    wait_for $((rate * seconds))
    echo "peak $(memory $service VmHWM:) MB"
    kill -TERM $service; wait $service
    exit
fi

messages="${1:-500000}"
"$bin/examples/drain" prepare --url "$url"
for ((run = 1; run <= ${2:-3}; run++)); do
    "$bin/examples/drain" fill --url "$url" --count "$messages" | sed "s/^/run $run /"
    "$bin/examples/drain" bare --url "$url" --count "$messages" | sed "s/^/run $run /"
    max_age=200ms ingest & service=$!
    wait_for "$messages"
    peak=$(memory $service VmHWM:)
    curl -sf "http://127.0.0.1:$metrics/metrics" >"$work/metrics-$run"
    kill -TERM $service; wait $service
    awk -v n="$messages" -v s="$(field busy_s)" -v r="$run" -v m="$peak" \
        'BEGIN { printf "run %d ingest: %d messages in %.3f s: %.0f msg/s, peak %d MB\n", r, n, s, n / s, m }'
    awk -v r="$run" '/^homeward_(fsync|put|encode)_seconds_(sum|count) / { printf "run %d %s %s\n", r, $1, $2 }' "$work/metrics-$run"
done
