"""LightGBM and ONNX Runtime beside `cargo bench -p homeward-models --bench score`: 100 trees of 31 leaves over 400 features, one thread, as little wrapped as
can be. Prints medians in nanoseconds a row, the cost of the empty call through ctypes beside them.

    python3 models/benches/peers/score.py [ROUNDS]
"""
import ctypes
import os
import statistics
import sys
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import lightgbm as lgb
import numpy as np

TREES, LEAVES, FEATURES, DISTINCT, MANY = 100, 31, 400, 1000, 10_000
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 15
rng = np.random.default_rng(1)


def median_ns(work, rows):
    """Median over the rounds of the time of `work`, by row."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter_ns()
        work()
        times.append((time.perf_counter_ns() - start) / rows)
    return statistics.median(times)


def model():
    """Learnt on noise, so that splits spread over all features; leaves of one row let trees grow uneven."""
    x = rng.random((4000, FEATURES))
    y = (x @ rng.normal(size=FEATURES) + rng.normal(size=len(x)) * 2 > 0).astype(int)
    params = {"objective": "binary", "num_leaves": LEAVES, "verbose": -1, "num_threads": 1, "min_data_in_leaf": 5, "feature_fraction": 0.3}
    return lgb.train(params, lgb.Dataset(x, label=y), TREES)


def lightgbm_single(booster, rows):
    """LGBM_BoosterPredictForMatSingleRowFast, called through ctypes with prepared arguments."""
    lib = next(p for p in (Path(lgb.__file__).parent / "lib").glob("lib_lightgbm.*"))
    lib = ctypes.CDLL(str(lib))
    handle, fast, length = booster._handle if hasattr(booster, "_handle") else booster.handle, ctypes.c_void_p(), ctypes.c_int64()
    out = ctypes.c_double()
    normal, float64 = 0, 1
    code = lib.LGBM_BoosterPredictForMatSingleRowFastInit(
        handle, normal, 0, -1, float64, ctypes.c_int32(FEATURES), ctypes.c_char_p(b"num_threads=1"), ctypes.byref(fast))
    assert code == 0
    call, out_p, len_p = lib.LGBM_BoosterPredictForMatSingleRowFast, ctypes.byref(out), ctypes.byref(length)
    pointers = [ctypes.c_void_p(rows[i:].ctypes.data) for i in range(len(rows))]

    def work():
        for pointer in pointers:
            call(fast, pointer, len_p, out_p)

    def empty():
        for pointer in pointers:
            nothing(fast, pointer, len_p, out_p)

    nothing = lib.LGBM_GetLastError  # takes no argument and does nothing
    work()
    assert abs(out.value - booster.predict(rows[-1:])[0]) < 1e-12
    return median_ns(work, len(rows)), median_ns(empty, len(rows))


def lightgbm_many(booster, rows):
    return median_ns(lambda: booster.predict(rows, num_threads=1), len(rows))


def lightgbm_contributions(booster, rows):
    return median_ns(lambda: booster.predict(rows, pred_contrib=True, num_threads=1), len(rows))


def onnx_runtime(booster, rows, many):
    import onnxruntime as ort
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    onnx_model = convert_lightgbm(booster, initial_types=[("input", FloatTensorType([None, FEATURES]))], zipmap=False)
    for output in onnx_model.graph.output:  # the converter says one row
        output.type.tensor_type.ClearField("shape")
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(onnx_model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs = [output.name for output in session.get_outputs()]

    def bound(values):
        binding = session.io_binding()
        binding.bind_ortvalue_input("input", ort.OrtValue.ortvalue_from_numpy(values))
        for name in outputs:
            binding.bind_output(name)
        return binding

    one = [bound(rows[i : i + 1].astype(np.float32)) for i in range(len(rows))]
    run = session._sess.run_with_iobinding

    def work():
        for binding in one:
            run(binding._iobinding, None)

    every = bound(many.astype(np.float32))
    return median_ns(work, len(rows)), median_ns(lambda: run(every._iobinding, None), len(many))


booster = model()
rows, many = np.ascontiguousarray(rng.random((DISTINCT, FEATURES))), np.ascontiguousarray(rng.random((MANY, FEATURES)))
trees = booster.trees_to_dataframe()
print(f"{TREES} trees, {trees.split_feature.notna().sum()} splits on {trees.split_feature.nunique()} of {FEATURES} features; medians of {ROUNDS} rounds, ns a row")
single, empty = lightgbm_single(booster, rows)
print(f"LightGBM {lgb.__version__}, SingleRowFast by ctypes   {single:10.0f}   of which the call {empty:.0f}")
print(f"LightGBM, {MANY:,} rows                      {lightgbm_many(booster, many):10.0f}")
print(f"LightGBM, pred_contrib of one row          {lightgbm_contributions(booster, rows[:1]):10.0f}")
print(f"LightGBM, pred_contrib, 100 rows at once      {lightgbm_contributions(booster, rows[:100]):10.0f}")
try:
    one, batch = onnx_runtime(booster, rows, many)
    print(f"ONNX Runtime, one row, I/O bound before    {one:10.0f}")
    print(f"ONNX Runtime, {MANY:,} rows                  {batch:10.0f}")
except ImportError as missing:
    print(f"ONNX Runtime: skipped: {missing}")
