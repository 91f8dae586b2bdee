//! Any bytes as an ONNX model. One that is read must hold what a checked ensemble promises, and come back from the ONNX model that it is written as.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| homeward_fuzz::imported(homeward_models::import::onnx(bytes)));
