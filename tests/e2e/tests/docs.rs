//! What the documents show of a terminal happens: every command in them is run
//! in its order, and what it prints is what is written there, but for what
//! differs from time to time. With `LAMPYR_REWRITE=1` it is written there.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lampyr_e2e::TestContext;
use lampyr_test_registry::{TestRegistry, distribution};
use serde_json::Value;

/// A template may have to be made first.
const LONG: Duration = Duration::from_mins(3);
/// Keys whose numbers and words are another time's.
const VOLATILE: [&str; 20] = [
    "address",
    "cpu_ms",
    "created",
    "digest",
    "duration_ms",
    "memory_bytes",
    "own_bytes",
    "pause_ms",
    "peak_memory_bytes",
    "read_bytes",
    "received_bytes",
    "sent_bytes",
    "sid",
    "sids",
    "size_bytes",
    "stopped",
    "took_ms",
    "total_bytes",
    "uptime_seconds",
    "write_bytes",
];
const REGISTRY: &str = "localhost:5000";
/// How what takes longer than usual is told: only where it does.
const PROGRESS: char = '…';

/// A document, and a place to try it in.
struct Walk {
    context: TestContext,
    dir: tempfile::TempDir,
    path: PathBuf,
    text: String,
    /// What it calls `localhost:5000`.
    registry: Option<String>,
}

impl Walk {
    fn through(document: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(document);
        let text = fs::read_to_string(&path).unwrap();
        let (context, dir) = (TestContext::with_images(), tempfile::tempdir().unwrap());
        Self { context, dir, path, text, registry: None }
    }

    fn has(self, name: &str, text: &str) -> Self {
        let file = self.dir.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
        self
    }

    /// Runs its console blocks, all that are lampyr's.
    fn run(&self) {
        let mut now = Vec::new();
        let mut lines = self.text.lines();
        while let Some(line) = lines.next() {
            now.push(line.to_owned());
            if line == "```console" {
                let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
                now.extend(self.block(&block));
                now.push("```".to_owned());
            }
        }
        if std::env::var_os("LAMPYR_REWRITE").is_some() {
            fs::write(&self.path, now.join("\n") + "\n").unwrap();
        }
        let stopped = self.context.lampyr(["session", "stop", "--all"]).finish();
        assert_eq!(stopped.status(), Some(0), "{stopped:?}");
    }

    /// What the block would be if it were written now.
    fn block(&self, block: &[&str]) -> Vec<String> {
        if block.iter().any(|line| line.starts_with("$ cargo")) {
            return block.iter().map(|line| (*line).to_owned()).collect();
        }
        let rewriting = std::env::var_os("LAMPYR_REWRITE").is_some();
        let mut now = Vec::new();
        for (command, written) in commands(block) {
            let said = self.say(&command);
            let same = alike(&written) == alike(&said);
            assert!(rewriting || same, "$ {command}\nwritten:\n{written}\nnow:\n{said}");
            now.push(format!("$ {command}"));
            now.extend(said.lines().map(str::to_owned));
        }
        now
    }

    /// What a command prints, on both outputs.
    fn say(&self, command: &str) -> String {
        let registry = self.registry.as_deref().unwrap_or(REGISTRY);
        let command = command.replace(REGISTRY, registry);
        let place = self.dir.path().display();
        let script = format!("lampyr() {{ \"$0\" \"$@\"; }}; cd {place}; {{ {command}\n}} 2>&1");
        let call = self.context.lampyr([""; 0]).under(["bash", "-c", &script]);
        let home = self.dir.path().to_str().unwrap();
        let said = call.env("HOME", home).within(LONG).finish().stdout();
        let said = said.lines().filter(|line| !line.ends_with(PROGRESS)).collect::<Vec<_>>();
        said.join("\n").replace(registry, REGISTRY)
    }
}

/// The commands of a block, each with what it printed. A line that ends in `\`
/// goes on in the next.
fn commands(block: &[&str]) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for line in block {
        match (line.strip_prefix("$ "), found.last_mut()) {
            (Some(command), _) => found.push((command.to_owned(), String::new())),
            (None, Some((command, _))) if command.ends_with('\\') => {
                command.push('\n');
                command.push_str(line);
            }
            (None, Some((_, said))) => {
                said.push_str(line);
                said.push('\n');
            }
            (None, None) => panic!("a block begins with a command, not with '{line}'"),
        }
    }
    found
}

/// What of an output is the same every time.
fn alike(said: &str) -> Vec<String> {
    let lines = said.lines().filter(|line| !line.ends_with(PROGRESS));
    lines
        .map(|line| match serde_json::from_str::<Value>(line) {
            Ok(json) => masked(json).to_string(),
            Err(_) => words(line),
        })
        .collect()
}

fn masked(json: Value) -> Value {
    match json {
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(key, value)| {
                    let volatile = VOLATILE.contains(&key.as_str());
                    let value = if volatile { Value::from("#") } else { masked(value) };
                    (key, value)
                })
                .collect(),
        ),
        Value::Array(items) => items.into_iter().map(masked).collect(),
        Value::String(text) => words(&text).into(),
        other => other,
    }
}

/// A text without versions, times and names that are made up: words of more
/// than three characters with a digit among them.
fn words(text: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '-');
    let is_made_up = |word: &str| word.len() > 3 && word.contains(|c: char| c.is_ascii_digit());
    let runs = text.split_inclusive(|c| !is_part(c));
    let mut masked = String::new();
    for run in runs {
        let (word, end) = run.split_at(run.trim_end_matches(|c| !is_part(c)).len());
        masked.push_str(if is_made_up(word) { "#" } else { word });
        masked.push_str(end);
    }
    masked
}

const TOOLS: &str = r#"
name = "tools"
image = "default"
setup = [
  "mkdir -p /srv/app && echo hello > /srv/app/index.html",
  { kind = "shell", script = "sleep 1000 >/dev/null 2>&1 &", description = "leave something running" },
]

[resources]
cpus = 2
memory = "512M"
"#;

#[test]
fn the_readme_happens() {
    let walk = Walk::through("README.md")
        .has("tools.toml", TOOLS)
        .has("job.py", "print(6*7)\n")
        .has("src/main.c", "int main() { return 7; }");
    walk.say("lampyr snapshot build tools.toml");
    walk.run();
}

#[test]
fn the_guide_of_snapshots_happens() {
    let walk = Walk::through("docs/guides/snapshots.md");
    let toml = walk.text.split("```toml\n").nth(1).unwrap().split("```").next().unwrap().to_owned();
    let registry = TestRegistry::plain();
    let mut walk = walk.has("tools.toml", &toml);
    walk.registry = Some(format!("localhost:{}", registry.port()));
    walk.run();
}

#[test]
fn the_page_of_images_happens() {
    let registry = TestRegistry::plain();
    registry.fill(&distribution("usual"), "python", "py:3", &["--preserve-digests"]);
    let mut walk = Walk::through("docs/images.md");
    walk.registry = Some(format!("localhost:{}", registry.port()));
    walk.run();
}
