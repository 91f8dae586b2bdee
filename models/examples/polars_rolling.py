"""The peer of batch.rs: Polars' rolling expressions for the same windows, signals and statistics, from the same Parquet file.

    python3 models/examples/polars_rolling.py telemetry.parquet

Window columns of the 17 signals with features: mean, std, min, max over 10 s, 60 s and 10 min, by device. Polars has no rolling slope against
time; it is computed from rolling sums as cov(t, x) / var(t). `last`, `delta`, `ewm`, derived signals, ages and events are left out: less is asked
of Polars than of homeward.
"""

import sys
import time

import polars as pl

SKIP = {"device", "ts", "received_at", "seq", "idx", "extra", "lat", "lon", "alt"}
WINDOWS = ["10s", "60s", "10m"]


def columns(signal: str, window: str) -> list[pl.Expr]:
    x = pl.col(signal)
    t = (pl.col("ts").dt.timestamp("ms") - pl.col("ts").dt.timestamp("ms").first()) / 1000.0
    rolled = dict(by="ts", window_size=window)
    mean, t_mean = x.rolling_mean_by(**rolled), t.rolling_mean_by(**rolled)
    slope = ((x * t).rolling_mean_by(**rolled) - mean * t_mean) / ((t * t).rolling_mean_by(**rolled) - t_mean * t_mean)
    named = {
        "mean": mean,
        "std": x.rolling_std_by(**rolled, ddof=0),
        "min": x.rolling_min_by(**rolled),
        "max": x.rolling_max_by(**rolled),
        "slope": slope,
    }
    return [e.over("device").alias(f"{signal}.{word}.{window}") for word, e in named.items()]


def main() -> None:
    best = 0.0
    for _ in range(3):
        started = time.perf_counter()
        frame = pl.read_parquet(sys.argv[1], columns=None)
        signals = [c for c in frame.columns if c not in SKIP]
        features = frame.select([e for s in signals for w in WINDOWS for e in columns(s, w)])
        best = max(best, features.height / (time.perf_counter() - started))
    print(f"polars {pl.__version__}, {pl.thread_pool_size()} threads: {features.width} columns, {best:.0f} readings/s")


main()
