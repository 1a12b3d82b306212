//! How many small files are made in a second.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::Instant;

/// Makes `files` files in `dir`, from so many threads at once, and prints how
/// many that were in a second. Each is made, written and closed.
pub(crate) fn many(dir: &Path, files: usize, threads: usize) {
    let begun = Instant::now();
    thread::scope(|scope| {
        for first in 0..threads {
            scope.spawn(move || {
                for i in (first..files).step_by(threads) {
                    let mut file = File::create(dir.join(format!("f{i}"))).unwrap();
                    file.write_all(b"small\n").unwrap();
                }
            });
        }
    });
    println!("{:.0}", files as f64 / begun.elapsed().as_secs_f64());
}
