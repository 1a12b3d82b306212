//! Writes the seeds anew: `cargo run -p lampyr-fuzz --bin seeds`.

use std::fs;
use std::io;

use lampyr_fuzz::seeds;

fn main() -> io::Result<()> {
    for seed in seeds::all() {
        let path = seed.path();
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, seed.bytes)?;
    }
    Ok(())
}
