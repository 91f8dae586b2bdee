//! Prints the digest: `cargo run --release -p homeward-bits -- [messages]`.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

fn main() {
    let messages = std::env::args().nth(1).map_or(20_000, |n| n.parse().unwrap());
    println!("{}", homeward_bits::bits(messages));
}
