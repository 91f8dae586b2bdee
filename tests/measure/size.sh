#!/usr/bin/env bash
# Bytes on disk of the same readings: Homeward's Parquet as ingested and as compacted, gzip'd JSON lines, pyarrow's zstd Parquet.
#
#   tests/measure/size.sh [HOURS [DRONES]]     # default 8 20
#
# Needs python3 with pyarrow.
set -euo pipefail
cd "$(dirname "$0")/../.."

cargo build --release --workspace --bin homeward
bin="$(cd "${CARGO_TARGET_DIR:-target}/release" && pwd)/homeward"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
export HOMEWARD_STORE_URL="file://$work/store"

"$bin" simulate --out "$work/fleet.jsonl" --hours "${1:-8}" --drones "${2:-20}" --tidy >/dev/null
"$bin" import "$work/fleet.jsonl" --format jsonl >/dev/null
du -sb "$work/store/telemetry" | awk '{ print "homeward, as ingested (zstd 1):", $1 }'
"$bin" compact >/dev/null
du -sb "$work/store/telemetry" | awk '{ print "homeward, compacted:", $1 }'
python3 - "$work" <<'END'
import glob, gzip, os, shutil, sys
import pyarrow.dataset as ds, pyarrow.parquet as pq
work = sys.argv[1]
table = ds.dataset(sorted(glob.glob(f"{work}/store/telemetry/**/*.parquet", recursive=True))).to_table()
print("rows:", table.num_rows)
for level in (1, 3):
    pq.write_table(table, f"{work}/peer.parquet", compression="zstd", compression_level=level)
    print(f"pyarrow, one file, zstd {level}:", os.path.getsize(f"{work}/peer.parquet"))
lines = [line for line in open(f"{work}/fleet.jsonl") if '"event"' not in line]
print("JSON lines:", sum(map(len, lines)))
with gzip.open(f"{work}/fleet.jsonl.gz", "wt", compresslevel=6) as out:
    out.writelines(lines)
print("JSON lines, gzip 6:", os.path.getsize(f"{work}/fleet.jsonl.gz"))
END
