"""Backblaze 2013 by money: Homeward's out-of-fold policy beside LightGBM on `homeward export features` of the same rows and beside the rule "smart_5 or smart_197 above 0".

LightGBM is fitted on folds of disks, its threshold chosen on the other folds; everything is priced here as `homeward_models::cost` prices it (each day is a flight of its own), and
the prices of never and always are checked against Homeward's. Average precision is over all rows with a known label.

  python backblaze.py --homeward target/release/homeward --data ../shared/data --config data/backblaze.toml
"""
import argparse
import json
import os
import subprocess
import tempfile

import lightgbm as lgb
import numpy as np
import pyarrow.parquet as pq
from sklearn.metrics import average_precision_score

HOUR, DAY, FOLDS = 3600000, 86400000, 3
FAILURE, TRIP, INSPECT, REPAIR, PART = 500, 5, 20, 100, 50
MIN_LEAD, DETECTABLE = 12 * HOUR, 14 * DAY

ap = argparse.ArgumentParser()
ap.add_argument("--homeward", default="target/release/homeward")
ap.add_argument("--data", default="../shared/data")
ap.add_argument("--config", default="data/backblaze.toml")
args = ap.parse_args()
binary, config = os.path.abspath(args.homeward), os.path.abspath(args.config)
csv = f"{args.data}/backblaze_2013/backblaze_ST3000DM001_ST31500541AS_ST31500341AS_10col.csv.gz"


def run(folder, *words):
    env = dict(os.environ, HOMEWARD_STORE_URL=f"file://{folder}", HOMEWARD_TRAIN_HOLDOUT="0", HOMEWARD_TRAIN_FOLDS=str(FOLDS))
    done = subprocess.run([binary, "--config", config, "--json", *words], env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


with tempfile.TemporaryDirectory() as top:
    run(top, "import", csv, "--format", "backblaze")
    metrics = run(top, "train", "--promote", "never")["metrics"]
    run(top, "export", "features", "--out", f"{top}/all.parquet")
    t = pq.read_table(f"{top}/all.parquet")
names = [c for c in t.column_names if c not in ("device", "ts") and not c.startswith(("label.", "risk."))]
x = np.column_stack([t[c].to_numpy(zero_copy_only=False) for c in names]).astype(np.float64)
device, ts = np.array(t["device"].to_pylist()), t["ts"].cast("int64").to_numpy()
label = t["label.7d"].to_pylist()
known, y = np.array([v is not None for v in label]), np.array([v is True for v in label])
first = np.flatnonzero(np.r_[True, device[1:] != device[:-1]])
lives = list(zip(first, np.r_[first[1:], len(device)]))
# A disk's failure is an event of its last day.
failed = {a: ts[b - 1] for a, b in lives if y[b - 1]}


def hours(times):
    return np.minimum(np.diff(times), DAY).sum() / HOUR


MEAN_LIFE = sum(hours(ts[a:b]) for a, b in lives) / len(failed)


def price(score, threshold, of):
    cost = total = called = false = 0
    for a, b in of:
        times, alarms = ts[a:b], score[a:b] >= threshold
        if a in failed:
            ahead = failed[a] - times
            hit = np.flatnonzero(alarms & (ahead <= DETECTABLE))
            early = alarms & (ahead > DETECTABLE)
            false += early.sum()
            cost += early.sum() * (TRIP + INSPECT)
            if len(hit) and ahead[hit[0]] >= MIN_LEAD:
                row = hit[0]
                called += 1
                cost += TRIP + REPAIR + PART * min(hours(times[row:]) / MEAN_LIFE, 1)
                total += hours(times[: row + 1])
                continue
            cost += FAILURE
            # A late alarm ends the life as the failure does.
            total += hours(times[: hit[0] + 1]) if len(hit) else hours(times)
        else:
            false += alarms.sum()
            cost += alarms.sum() * (TRIP + INSPECT)
            total += hours(times)
    return cost, total, called, false


def per_hour(sums):
    return sums[0] / sums[1]


never = per_hour(price(np.zeros(len(ts)), 1, lives))
for name, ours in (("never", never), ("always", per_hour(price(np.ones(len(ts)), 1, lives)))):
    theirs = metrics[name]["cost_per_hour"]
    assert abs(ours - theirs) <= 1e-9 * theirs, f"{name}: {ours} here, {theirs} by Homeward"

rng = np.random.default_rng(1)
order = sorted(range(len(lives)), key=lambda i: (lives[i][0] not in failed, rng.random()))
fold = np.empty(len(lives), int)
fold[order] = np.arange(len(lives)) % FOLDS
rows_of = np.concatenate([np.full(b - a, fold[i]) for i, (a, b) in enumerate(lives)])


def peer(**more):
    score = np.zeros(len(ts))
    for f in range(FOLDS):
        fit = known & (rows_of != f)
        model = lgb.LGBMClassifier(n_jobs=2, verbose=-1, n_estimators=200, learning_rate=0.05, num_leaves=31, random_state=1, **more).fit(x[fit], y[fit].astype(int))
        score[rows_of == f] = model.predict_proba(x[rows_of == f])[:, 1]
    levels = np.r_[np.unique(np.quantile(score, 1 - np.logspace(-5, -0.5, 40))), 2.0]
    table = [[price(score, level, [l for i, l in enumerate(lives) if fold[i] == f]) for f in range(FOLDS)] for level in levels]
    total = np.zeros(4)
    for f in range(FOLDS):
        others = [per_hour(np.sum([row[g] for g in range(FOLDS) if g != f], axis=0)) for row in table]
        total += table[int(np.argmin(others))][f]
    hindsight = min(per_hour(np.sum(row, axis=0)) for row in table)
    return average_precision_score(y[known], score[known]), total, hindsight


def line(name, precision, cost, called, false):
    print(f"{name}: average precision {precision:.3f}, cost {100 * (cost / never - 1):+.1f} % of never's, {called:.0f} of {len(failed)} called, {false:.0f} false", flush=True)


p = metrics["policy"]
line("homeward", metrics["average_precision"], p["cost_per_hour"], p["called"], p["false_alarms"])
for name, more in (("lightgbm", {}), ("lightgbm, min_sum_hessian 1", dict(min_sum_hessian_in_leaf=1.0))):
    precision, total, hindsight = peer(**more)
    line(name, precision, per_hour(total), total[2], total[3])
    print(f"  at the one threshold that was best in hindsight: cost {100 * (hindsight / never - 1):+.1f} %")
column = {n: x[:, i] for i, n in enumerate(names)}
rule = ((np.nan_to_num(column["smart_5.last"]) > 0) | (np.nan_to_num(column["smart_197.last"]) > 0)).astype(float)
sums = price(rule, 1, lives)
line("smart_5 or smart_197 > 0", average_precision_score(y[known], rule[known]), per_hour(sums), sums[2], sums[3])
