//! Any bytes as a model file. One that is read must score as its own plain walk does: one row, many rows; its reasons must add up; and it must come back from
//! its bytes.
#![no_main]

use homeward_models::artifact::Model;
use homeward_models::ensemble::Ensemble;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(model) = Model::parse(bytes) {
        if let Some(ensemble) = model.form.ensemble() {
            homeward_fuzz::check(ensemble);
        }
        let again = model.to_bytes().unwrap();
        assert_eq!(Model::parse(&again).unwrap().to_bytes().unwrap(), again);
    }
    // The file's other parts must hold together before its trees are looked at: so also its trees alone.
    if let Ok(ensemble) = serde_json::from_slice::<Ensemble>(bytes)
        && let Ok(ensemble) = ensemble.check()
    {
        homeward_fuzz::check(&ensemble);
    }
});
