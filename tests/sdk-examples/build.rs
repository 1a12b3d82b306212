//! Makes a test of every example in the Rust SDK's README and documentation that
//! needs a virtual machine. There they are compiled (`no_run`); here they run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const SDK: &str = "../../sdk/rust";
/// How the examples begin that are to be run.
const FENCES: [&str; 2] = ["```no_run", "```rust,no_run"];
/// What the examples make. Each has names of its own for it, since they run at
/// the same time.
const NAMES: [&str; 6] = ["agent", "other", "tools", "prepared", "cache", "report"];

/// An example: where it is, and what it does.
struct Example {
    name: String,
    source: String,
}

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed={SDK}/README.md");
    println!("cargo::rerun-if-changed={SDK}/src");
    let mut sources = rust_files(&Path::new(SDK).join("src"))?;
    sources.sort();
    sources.insert(0, Path::new(SDK).join("README.md"));
    let mut tests = String::new();
    for path in sources {
        let text = fs::read_to_string(&path)?;
        tests.extend(examples(&path, &text).iter().map(Example::test));
    }
    let folder = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    fs::write(folder.join("examples.rs"), tests)
}

fn rust_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
    Ok(found)
}

/// The examples of a file. In documentation each line begins with `///`.
fn examples(path: &Path, text: &str) -> Vec<Example> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let mut lines = text.lines().enumerate().map(|(number, line)| (number + 1, said(line)));
    let mut found = Vec::new();
    while let Some((number, line)) = lines.next() {
        let ignored = line.starts_with("```") && line.contains("ignore");
        assert!(!ignored, "{}:{number}: an example that nobody tries", path.display());
        if FENCES.contains(&line) {
            let block = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```");
            let source = block.map(shown).collect();
            found.push(Example { name: format!("{stem}_{number}"), source });
        }
    }
    found
}

fn said(line: &str) -> &str {
    let line = line.trim_start();
    line.strip_prefix("/// ").or(line.strip_prefix("///")).unwrap_or(line)
}

/// A line as rustdoc has it: what it hides is there.
fn shown(line: &str) -> String {
    let line = line.strip_prefix("# ").unwrap_or(if line == "#" { "" } else { line });
    format!("{line}\n")
}

impl Example {
    fn test(&self) -> String {
        let Self { name, source } = self;
        let own = |word: &str| format!("{word}-{}", name.replace('_', "-"));
        let source = NAMES.iter().fold(source.clone(), |source, word| {
            source.replace(&format!("\"{word}\""), &format!("\"{}\"", own(word)))
        });
        let names = NAMES.map(own);
        format!(
            "mod {name} {{\n{source}\n#[test]\nfn runs() {{ crate::run(main, &{names:?}) }}\n}}\n"
        )
    }
}
