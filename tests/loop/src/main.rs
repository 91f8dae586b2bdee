//! `homeward-loop [SEED] [MONTHS] [naive]`: flies a year on the sample fleet and prints a line a month.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use homeward_loop::{Month, Year};

#[tokio::main]
async fn main() -> ExitCode {
    let year = match year(std::env::args().skip(1)) {
        Ok(year) => year,
        Err(found) => {
            eprintln!("error: found {found:?}, expected homeward-loop [SEED] [MONTHS] [naive], months from 1 on");
            return ExitCode::from(2);
        }
    };
    println!("month failures confirmed saved lead/min false/1000h | flown under it: hours failed repaired in-vain cost/h");
    match year.fly(include_str!("../../../homeward.toml"), line).await {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The year that was asked for, or the word that is none.
fn year(mut arguments: impl Iterator<Item = String>) -> Result<Year, String> {
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |word| word.parse().map_err(|_| word));
    let (seed, months) = (number(1)?, number(10)?);
    let naive = match arguments.next() {
        None => false,
        Some(word) if word == "naive" => true,
        Some(word) => return Err(word),
    };
    match arguments.next() {
        Some(word) => Err(word),
        None if months == 0 => Err(months.to_string()),
        None => Ok(Year { seed, months: months as usize, drones: 40, naive }),
    }
}

fn line(m: &Month) {
    let known = format!("{:5} {:8} {:9} {:5.3} {:8.1} {:10.1}", m.number, m.failures, m.confirmed, m.saved, m.lead_min, m.false_per_1000h);
    match m.served {
        Some(s) => println!("{known} | {:.0} {} {} {} {:.1}", s.hours, s.failed, s.repaired, s.in_vain, s.cost_per_hour),
        None => println!("{known}"),
    }
}
