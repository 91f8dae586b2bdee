//! Success must not poison the next model: drones that were called and repaired never failed.
#![allow(clippy::unwrap_used)]

use homeward_loop::{Month, Year};

const CONFIG: &str = include_str!("../../../homeward.toml");

async fn year(naive: bool) -> Vec<Month> {
    let months = Year { seed: 1, months: 4, drones: 40, naive }.fly(CONFIG, |_| ()).await.unwrap();
    assert_eq!(months.len(), 4);
    months
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_learnt_from_obeyed_calls_is_no_worse_than_the_first() {
    let months = year(false).await;
    let (first, last) = (&months[0], &months[3]);
    assert!(first.confirmed == 0 && last.confirmed > 20, "no drone was called and repaired, nothing is shown: {months:?}");
    // Without the climb's estimate 0.77 after 0.82, and 186 false alarms after 120: whoever had not called by the inspection had missed, so each called earlier.
    assert!(last.saved > first.saved - 0.03, "{months:?}");
    assert!(last.false_per_1000h < 1.25 * first.false_per_1000h, "{months:?}");
}
