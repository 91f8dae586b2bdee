//! `homeward-loop [SEED] [MONTHS] [naive]`: flies a year on the sample fleet and prints a line a month.
#![allow(clippy::print_stdout)]

use homeward_loop::{Month, Year};

const USAGE: &str = "usage: homeward-loop [SEED] [MONTHS] [naive]";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number =
        |default: u64| arguments.next().map_or(Ok(default), |n| n.parse().map_err(|_| anyhow::anyhow!("found {n:?}; {USAGE}")));
    let (seed, months) = (number(1)?, number(10)?);
    let naive = match arguments.next().as_deref() {
        None => false,
        Some("naive") => true,
        Some(other) => anyhow::bail!("found {other:?}; {USAGE}"),
    };
    println!("month failures confirmed saved lead/min false/1000h | flown under it: hours failed repaired in-vain cost/h");
    let year = Year { seed, months: months as usize, drones: 40, naive };
    year.fly(include_str!("../../../homeward.toml"), line).await?;
    Ok(())
}

fn line(m: &Month) {
    let known = format!("{:5} {:8} {:9} {:5.3} {:8.1} {:10.1}", m.number, m.failures, m.confirmed, m.saved, m.lead_min, m.false_per_1000h);
    match m.served {
        Some(s) => println!("{known} | {:.0} {} {} {} {:.1}", s.hours, s.failed, s.repaired, s.in_vain, s.cost_per_hour),
        None => println!("{known}"),
    }
}
