"""C-MAPSS as the issue asks: all test rows, several seeds, beside LightGBM on `homeward export features` of the same rows.

For each set the training engines are imported and learnt from with each seed, the test engines are imported with a failure at their last cycle + RUL, and both are exported with
the champion's features. Prints average precision and AUC over all test rows, F1 at the last cycle of each test engine at the threshold chosen by cost, and LightGBM's on the same columns.

  python cmapss.py --homeward target/release/homeward --data shared/data/cmapss --config data/cmapss.toml FD001
  python cmapss.py … --config data/cmapss_regimes.toml FD002
"""
import argparse
import json
import math
import os
import subprocess
import tempfile
import time

import lightgbm as lgb
import numpy as np
import pyarrow.parquet as pq
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

START, HOUR, HORIZON = 1577836800000, 3600000, "30h"
PARAMS = dict(n_jobs=2, verbose=-1, n_estimators=200, learning_rate=0.05, num_leaves=31, min_child_samples=50, colsample_bytree=0.3)

ap = argparse.ArgumentParser()
ap.add_argument("--homeward", default="target/release/homeward")
ap.add_argument("--data", default="../shared/data/cmapss")
ap.add_argument("--config", required=True)
ap.add_argument("--seeds", type=int, default=10)
ap.add_argument("--learner", default=None)
ap.add_argument("--no-peer", action="store_true")
ap.add_argument("set")
args = ap.parse_args()
binary, config = os.path.abspath(args.homeward), os.path.abspath(args.config)


def run(folder, *words, seed=1):
    env = dict(os.environ, HOMEWARD_STORE_URL=f"file://{folder}", HOMEWARD_TRAIN_SEED=str(seed), HOMEWARD_TRAIN_PROMOTE="always")
    if args.learner:
        env["HOMEWARD_TRAIN_LEARNER"] = args.learner
    done = subprocess.run([binary, "--config", config, "--json", *words], env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def table(file):
    t = pq.read_table(file)
    names = [c for c in t.column_names if c not in ("device", "ts") and not c.startswith(("label.", "risk."))]
    x = np.column_stack([t[c].to_numpy(zero_copy_only=False) for c in names]).astype(np.float64)
    label = t[f"label.{HORIZON}"].to_pylist()
    risk = t[f"risk.{HORIZON}"].to_numpy()
    return x, label, risk, np.array(t["device"].to_pylist())


def interval(f1s):
    return np.percentile(f1s, [2.5, 97.5])


def last_rows(devices):
    return np.r_[devices[1:] != devices[:-1], True]


found = []
with tempfile.TemporaryDirectory() as top:
    test_file, rul = f"{args.data}/test_{args.set}.txt.gz", [int(l) for l in open(f"{args.data}/RUL_{args.set}.txt").read().split()]
    for seed in range(1, args.seeds + 1):
        folder = f"{top}/train-{seed}"
        run(folder, "import", f"{args.data}/train_{args.set}.txt.gz", "--format", "cmapss", seed=seed)
        started = time.perf_counter()
        trained = run(folder, "train", seed=seed)
        seconds = time.perf_counter() - started
        tests = f"{top}/test-{seed}"
        os.makedirs(tests)
        run(tests, "import", test_file, "--format", "cmapss", seed=seed)
        # The test engines fail when RUL says; the archive has not seen it.
        import gzip

        last = {}
        for line in gzip.open(test_file, "rt"):
            unit, cycle = line.split()[:2]
            last[int(unit)] = int(cycle)
        with open(f"{top}/events.jsonl", "w") as f:
            for unit, cycle in last.items():
                device = f"{args.set.lower()}-test-{unit:03}"
                payload = {"ts": START + (cycle + rul[unit - 1]) * HOUR, "event": "failure", "component": "engine"}
                f.write(json.dumps({"topic": f"fleet/{device}/events", "payload": payload}) + "\n")
        run(tests, "import", f"{top}/events.jsonl", "--format", "jsonl", seed=seed)
        os.rename(f"{folder}/models", f"{tests}/models")
        run(tests, "export", "features", "--model", "champion", "--out", f"{top}/test.parquet", seed=seed)
        x_test, label, risk, devices = table(f"{top}/test.parquet")
        y = np.array([bool(v) for v in label])
        assert None not in label and y.sum() > 0, "every test row has a label"
        at_end = last_rows(devices)
        said, truth = risk[at_end] >= trained["metrics"]["threshold"], y[at_end]
        f1 = f1_score(truth, said)
        rng = np.random.default_rng(seed)
        f1s = [f1_score(truth[i], said[i]) for i in (rng.integers(0, len(truth), len(truth)) for _ in range(2000))]
        row = dict(ap=average_precision_score(y, risk), auc=roc_auc_score(y, risk), f1=f1, low=interval(f1s)[0], high=interval(f1s)[1], s=seconds, learner=trained["metrics"]["learner"])
        if not args.no_peer:
            os.rename(f"{tests}/models", f"{folder}/models")
            run(folder, "export", "features", "--model", "champion", "--out", f"{top}/train.parquet", seed=seed)
            x, label, _, _ = table(f"{top}/train.parquet")
            known = np.array([v is not None for v in label])
            peer = lgb.LGBMClassifier(**PARAMS, random_state=seed).fit(x[known], np.array(label)[known].astype(int))
            row["peer"] = average_precision_score(y, peer.predict_proba(x_test)[:, 1])
        found.append(row)
        print(f"{args.set} seed {seed}: " + " ".join(f"{k} {v:.4f}" if not isinstance(v, str) else f"{k} {v}" for k, v in row.items()), flush=True)
mean = {k: float(np.mean([r[k] for r in found])) for k in found[0] if k != "learner"}
print(f"{args.set} mean of {len(found)} seeds, {len(y)} test rows: " + " ".join(f"{k} {v:.4f}" for k, v in mean.items()))
