"""Peers of the learners: the same matrices, the same settings, the same run.

  python learners.py dump --data ../../../shared/data --to matrices       # makes the matrices
  cargo build --release -p homeward-train --example learners
  python learners.py run --program target/release/examples/learners matrices/*.f64 [--repeat 3]

`run` fits homeward's boost, LightGBM, XGBoost (hist) and scikit-learn's HistGradientBoosting in turn, each with binning, on two threads (`--threads 1`
for one), 100 rounds, 31 leaves, 255 bins, learning rate 0.1; boost, LightGBM and scikit-learn with at least 20 rows a leaf; no L2; boost and XGBoost with
second derivatives of at least 1 a leaf, the others by their defaults. Prints the best wall-clock and processor seconds of the repeats, and the average
precision on rows not fitted on. On a machine that does other things compare processor seconds on one thread: waiting threads of OpenMP spin.
"""
import argparse
import gzip
import json
import pathlib
import subprocess
import time

import numpy as np

HORIZON = 30


def write(path, x, y, fit_rows):
    """Rows, rows to fit on, features; values row after row; outcomes."""
    with open(path, "wb") as f:
        np.array([x.shape[0], fit_rows, x.shape[1]], dtype="<u8").tofile(f)
        np.ascontiguousarray(x, dtype="<f8").tofile(f)
        np.asarray(y, dtype=np.uint8).tofile(f)
    print(path, x.shape, f"fit {fit_rows}", f"positive {np.mean(y):.4f}")


def read(path):
    rows, fit_rows, features = (int(v) for v in np.fromfile(path, dtype="<u8", count=3))
    values = np.fromfile(path, dtype="<f8", count=rows * features, offset=24).reshape(rows, features)
    return values, np.fromfile(path, dtype=np.uint8, offset=24 + values.nbytes), fit_rows


def cmapss(data, name):
    """Rolling features of C-MAPSS as in `cmapss_lightgbm.py`, and running minima: 238 columns. The first 80 % of the engines fit."""
    import pandas as pd

    columns = ["unit", "cycle", "s1", "s2", "s3"] + [f"x{i}" for i in range(1, 22)]
    with gzip.open(data / f"cmapss/train_{name}.txt.gz", "rt") as f:
        df = pd.read_csv(f, sep=r"\s+", header=None, names=columns)
    out, units = [df[columns[1:]]], df.groupby("unit")
    for c in columns[2:]:
        rolled = {w: units[c].rolling(w, min_periods=1) for w in (5, 15, 30)}
        flat = lambda s: s.reset_index(level=0, drop=True)
        means = {w: flat(r.mean()) for w, r in rolled.items()}
        parts = {f"{c}_mean{w}": m for w, m in means.items()} | {f"{c}_std{w}": flat(r.std()) for w, r in rolled.items()}
        parts |= {f"{c}_trend": means[5] - means[30], f"{c}_delta": df[c] - units[c].transform("first")}
        if c.startswith("x"):
            parts[f"{c}_min"] = flat(rolled[15].min())
        out.append(pd.DataFrame(parts))
    x = pd.concat(out, axis=1).to_numpy()
    y = (units["cycle"].transform("max") - df["cycle"] <= HORIZON).to_numpy()
    fit = (df["unit"] <= df["unit"].max() * 0.8).to_numpy()
    return x, y, int(fit.sum())


def synthetic(rows=1_000_000, features=50, seed=7):
    """A seeded problem of mixed columns: normal, skewed, few values, a tenth missing in some; about 8 % positive."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows + rows // 4, features))
    x[:, 10:20] = np.exp(x[:, 10:20])
    x[:, 20:25] = np.round(x[:, 20:25] * 3)
    x[:, 25:30] = x[:, 25:30] > 1
    score = x[:, 0] + x[:, 1] * x[:, 2] + np.sin(3 * x[:, 3]) + 0.5 * np.log(x[:, 10]) * (x[:, 25] > 0) + 0.3 * x[:, 20] + 0.4 * x[:, 4] ** 2
    score += np.where(x[:, 5] > 0.5, x[:, 6], -x[:, 7]) + 1.5 * rng.standard_normal(len(x))
    for column in range(30, 35):
        x[rng.random(len(x)) < 0.1, column] = np.nan
    hidden = rng.random(len(x)) < np.where(score > 3, 0.5, 0.05)
    x[hidden, 0] = np.nan
    return x, score > 4.3, rows


def backblaze(data):
    """Raw SMART values and their change over a day; positive: fails within 10 days. Disks are split by a hash of their serial number."""
    import pandas as pd

    df = pd.read_csv(next((data / "backblaze_2013").glob("*.csv.gz")), parse_dates=["date"]).sort_values(["serial_number", "date"])
    smart = [c for c in df.columns if c.startswith("smart")]
    disks = df.groupby("serial_number")
    x = pd.concat([df[smart], disks[smart].diff(), disks[smart].transform("first").rsub(df[smart])], axis=1).to_numpy(dtype=float)
    fails = df["date"].where(df["failure"] == 1).groupby(df["serial_number"]).transform("max")
    last = disks["date"].transform("max")
    left = (fails - df["date"]).dt.days
    known = (left <= 10) | ((last - df["date"]).dt.days > 10)
    fit = pd.util.hash_array(df["serial_number"].to_numpy(dtype=object)) % 5 < 3
    order = np.r_[np.flatnonzero(known & fit), np.flatnonzero(known & ~fit)]
    return x[order], (left <= 10).to_numpy()[order], int((known & fit).sum())


def ai4i(data):
    """AI4I 2020 without the columns that define the target; rows are independent, so the split is by chance."""
    import pandas as pd

    df = pd.read_csv(data / "ai4i2020/ai4i2020.csv", encoding="utf-8-sig")
    x = np.c_[df["Type"].map({"L": 0, "M": 1, "H": 2}), df.iloc[:, 3:8]].astype(float)
    order = np.random.default_rng(3).permutation(len(x))
    return x[order], df["Machine failure"].to_numpy()[order] == 1, len(x) * 4 // 5


def dump(args):
    data, to = pathlib.Path(args.data), pathlib.Path(args.to)
    to.mkdir(parents=True, exist_ok=True)
    write(to / "synthetic.f64", *synthetic())
    for name in ("FD001", "FD002"):
        write(to / f"{name.lower()}.f64", *cmapss(data, name))
    write(to / "backblaze.f64", *backblaze(data))
    write(to / "ai4i.f64", *ai4i(data))


def lightgbm(x, y, seed, threads):
    import lightgbm as lgb

    params = dict(objective="binary", num_leaves=31, learning_rate=0.1, max_bin=255, num_threads=threads, verbose=-1, seed=seed)
    return lgb.train(params, lgb.Dataset(x, y.astype(np.float32)), 100).predict


def xgboost(x, y, seed, threads):
    import xgboost as xgb

    params = dict(objective="binary:logistic", tree_method="hist", grow_policy="lossguide", max_leaves=31, max_depth=0, eta=0.1, max_bin=256)
    params |= dict(nthread=threads, seed=seed, reg_lambda=0, min_child_weight=1)
    booster = xgb.train(params, xgb.QuantileDMatrix(x, y, max_bin=256, nthread=threads), 100)
    return lambda rows: booster.predict(xgb.DMatrix(rows))


def sklearn(x, y, seed, threads):
    from sklearn.ensemble import HistGradientBoostingClassifier

    booster = HistGradientBoostingClassifier(max_iter=100, max_leaf_nodes=31, learning_rate=0.1, early_stopping=False, random_state=seed)
    booster.fit(x, y)
    return lambda rows: booster.predict_proba(rows)[:, 1]


def peer(fit, x, y, rows, seed, threads):
    from sklearn.metrics import average_precision_score

    started, cpu = time.perf_counter(), time.process_time()
    predict = fit(x[:rows], y[:rows], seed, threads)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    return seconds, cpu, average_precision_score(y[rows:], predict(x[rows:]))


def run(args):
    import os

    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    for path in args.matrices:
        x, y, rows = read(path)
        found = {}
        for _ in range(args.repeat):
            out = json.loads(subprocess.run([args.program, path, str(args.threads)], check=True, capture_output=True, text=True).stdout)
            found.setdefault("boost", []).append((out["seconds"], out["cpu_seconds"], out["average_precision"]))
            for fit in (lightgbm, xgboost, sklearn):
                if fit.__name__ in args.peers:
                    found.setdefault(fit.__name__, []).append(peer(fit, x, y, rows, 1, args.threads))
        line = " | ".join(f"{name} {min(r[0] for r in results):.2f} s, cpu {min(r[1] for r in results):.2f} s, AP {results[0][2]:.4f}" for name, results in found.items())
        print(f"{pathlib.Path(path).stem} {rows} × {x.shape[1]}: {line}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    sub = parser.add_subparsers(required=True)
    dumping = sub.add_parser("dump")
    dumping.add_argument("--data", default="../../../shared/data")
    dumping.add_argument("--to", default="matrices")
    dumping.set_defaults(do=dump)
    running = sub.add_parser("run")
    running.add_argument("matrices", nargs="+")
    running.add_argument("--program", required=True)
    running.add_argument("--threads", type=int, default=2)
    running.add_argument("--repeat", type=int, default=3)
    running.add_argument("--peers", nargs="*", default=["lightgbm", "xgboost", "sklearn"])
    running.set_defaults(do=run)
    args = parser.parse_args()
    args.do(args)
