//! How much memory a fleet's states take: `cargo run --release -p homeward-models --example resident -- 100000` fills the windows of that many
//! devices of the sample fleet and prints what the system says is resident, and the size of a saved state.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use homeward_models::features::{DeviceState, FeatureSpec};
use homeward_models::{Fleet, WrittenFleet};

#[derive(serde::Deserialize)]
struct Config {
    fleet: WrittenFleet,
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1_024
}

fn main() {
    let devices: usize = std::env::args().nth(1).map_or(100_000, |n| n.parse().unwrap());
    let config: Config = toml::from_str(include_str!("../../homeward.toml")).unwrap();
    let spec = FeatureSpec::new(&Fleet::check(&config.fleet).unwrap());
    let measured = vec![0.5; spec.fleet().measured];
    let before = resident();
    let states: Vec<DeviceState> = (0..devices)
        .map(|d| {
            let mut state = DeviceState::new(&spec);
            (0..200).for_each(|i| _ = state.reading(&spec, 1_764_000_000_000 + 5_000 * i + d as i64 % 5_000, &measured));
            state
        })
        .collect();
    let resident = resident() - before;
    println!("{devices} devices: {:.2} GB resident, {} bytes a device", resident as f64 / 1e9, resident / devices.max(1) as u64);
    if let Some(state) = states.first() {
        println!("one state: {} bytes in memory, {} saved", state.memory(), state.to_bytes(&spec).len());
    }
}
