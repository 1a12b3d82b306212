//! `exec --pty` in tmux: the screen as a person sees it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use lampyr_e2e::{Process, TestContext};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_mins(1);
/// How long an image may take to be made, and its template.
const LONG: Duration = Duration::from_mins(5);

/// Draws its size in the middle and a word in the last corner, again whenever
/// the window changes, until it is given a q.
const FULL_SCREEN: &str = r#"
draw() {
  read -r rows columns < <(stty size)
  printf '\e[?1049h\e[2J\e[5;10H%dx%d\e[%d;%dHcorner' $columns $rows $rows $((columns - 6))
}
trap draw WINCH
draw
while [ "$key" != q ]; do read -rsn1 -t 0.1 key; done
printf '\e[?1049l'
echo "done $((6 * 7))"
"#;

/// A tmux of one's own with one window, in which a shell waits.
struct Tmux {
    dir: TempDir,
}

impl Tmux {
    fn start(context: &TestContext) -> Self {
        let tmux = Self { dir: tempfile::tempdir().unwrap() };
        let mut start = tmux.command();
        start.args(["-f", "/dev/null", "new-session", "-d", "-x", "100", "-y", "30", "sh"]);
        start.env("LAMPYR_HOME", context.home()).env("L", context.program());
        assert!(start.current_dir(tmux.dir.path()).status().expect("tmux runs").success());
        tmux.line("stty -a | tail -n +2 > before");
        tmux
    }

    fn command(&self) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(self.socket());
        command
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("tmux")
    }

    fn tell(&self, words: &[&str]) {
        assert!(self.command().args(words).status().unwrap().success(), "{words:?}");
    }

    /// Types text as it is.
    fn text(&self, text: &str) {
        self.tell(&["send-keys", "-l", "--", text]);
    }

    /// Presses keys by their names.
    fn keys(&self, names: &[&str]) {
        self.tell(&[["send-keys"].as_slice(), names].concat());
    }

    fn line(&self, text: &str) {
        self.text(text);
        self.keys(&["Enter"]);
    }

    fn screen(&self) -> Vec<String> {
        let shown = self.command().args(["capture-pane", "-p"]).output().unwrap();
        String::from_utf8_lossy(&shown.stdout).lines().map(str::to_owned).collect()
    }

    /// Waits until the screen is as it should be.
    fn shows(&self, what: &str, holds: impl Fn(&[String]) -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !holds(&self.screen()) {
            assert!(Instant::now() < deadline, "no {what} in {:#?}", self.screen());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn shows_line(&self, text: &str) {
        // The prompt may come behind what was typed ahead.
        let said = |line: &String| line.trim_start_matches(['#', '$', ' ']) == text;
        self.shows(text, |screen| screen.iter().any(said));
    }

    /// Runs a command on a terminal of the session.
    fn exec(&self, command: &str) {
        self.line(&format!("$L exec --pty t '{command}'; printf '\\ncode-%d\\n' $?"));
    }

    /// The shell is back, with this exit code of what it ran, and its terminal
    /// is what it was.
    fn is_restored(&self, code: i32) {
        self.shows_line(&format!("code-{code}"));
        self.line("stty -a | tail -n +2 > after; cmp before after && echo same-$((1+1))");
        self.shows_line("same-2");
        self.line("clear");
        self.shows("a clear screen", |screen| !screen.iter().any(|line| line == "same-2"));
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = self.command().arg("kill-server").status();
    }
}

struct Session<'a>(&'a TestContext);

impl<'a> Session<'a> {
    fn start(context: &'a TestContext, flags: &[&str]) -> Self {
        let words = ["session", "start", "--name", "t"];
        let started = context.lampyr(words.iter().chain(flags)).within(LONG).finish();
        assert_eq!(started.status(), Some(0), "{started:?}");
        Self(context)
    }

    fn machine(&self) -> Process {
        let listed = self.0.lampyr(["session", "list"]).finish().stdout();
        let rows: serde_json::Value = serde_json::from_str(&listed).unwrap();
        let owner = i32::try_from(rows[0]["pid"].as_i64().unwrap()).unwrap();
        Process::find(owner).unwrap().children()[0]
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        let _ = self.0.lampyr(["session", "stop", "--grace", "0", "t"]).finish();
    }
}

#[test]
fn a_full_screen_program_has_the_whole_screen_whatever_its_size() {
    let own = TestContext::own();
    let _session = Session::start(&own, &[]);
    let script = own.home().join("full-screen");
    std::fs::write(&script, FULL_SCREEN).unwrap();
    let copied = own.lampyr(["cp", script.to_str().unwrap(), "t:/root/full-screen"]).finish();
    assert_eq!(copied.status(), Some(0), "{copied:?}");
    let tmux = Tmux::start(&own);
    tmux.exec("bash full-screen");
    let drawn = |columns: usize, rows: usize| {
        move |screen: &[String]| {
            let size = format!("{:9}{columns}x{rows}", "");
            screen.get(4) == Some(&size)
                && screen.get(rows - 1) == Some(&format!("{:>1$}", "corner", columns - 1))
        }
    };
    tmux.shows("first size", drawn(100, 30));
    tmux.tell(&["resize-window", "-x", "72", "-y", "20"]);
    tmux.shows("second size", drawn(72, 20));
    tmux.keys(&["q"]);
    tmux.shows_line("done 42");
    tmux.is_restored(0);
}

/// Makes an image of Debian's packages, with these among them.
fn debian(context: &TestContext, packages: &str) {
    let tar = context.home().join("debian.tar");
    let mut make = Command::new("mmdebstrap");
    make.args(["--variant=minbase", &format!("--include={packages}"), "bookworm"]).arg(&tar);
    assert!(make.status().expect("mmdebstrap is installed").success());
    let words = ["images", "import", tar.to_str().unwrap(), "debian"];
    let imported = context.lampyr(words).within(LONG).finish();
    assert_eq!(imported.status(), Some(0), "{imported:?}");
}

#[test]
#[ignore = "takes minutes, and Debian's packages from its mirror"]
fn soak_vim_and_top_are_as_on_any_terminal() {
    let own = TestContext::with_images();
    debian(&own, "vim,procps");
    let _session = Session::start(&own, &["--image", "debian"]);
    let tmux = Tmux::start(&own);
    tmux.exec("vim /tmp/text");
    tmux.shows("a new file", |screen| screen[29].starts_with("\"/tmp/text\" [New]"));
    tmux.text("ione");
    tmux.keys(&["Enter"]);
    tmux.text("three");
    tmux.keys(&["Up"]);
    tmux.tell(&["resize-window", "-x", "72", "-y", "20"]);
    let inserts = |screen: &[String]| {
        screen.get(..3) == Some(&["one".into(), "three".into(), "~".into()])
            && screen.get(19).is_some_and(|line| line.starts_with("-- INSERT --"))
    };
    tmux.shows("the smaller window", inserts);
    tmux.keys(&["Escape"]);
    tmux.text("otwo");
    tmux.keys(&["Escape"]);
    tmux.line(":wq");
    tmux.is_restored(0);
    let written = own.lampyr(["exec", "t", "cat /tmp/text"]).envelope();
    assert_eq!(written.success(), "one\ntwo\nthree\n");
    tmux.exec("top -d 1");
    let shows_processes = |screen: &[String]| {
        let words = |line: &String| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let agent =
            screen.iter().map(words).any(|words| words.starts_with(&["1".into(), "root".into()]));
        screen[0].starts_with("top - ") && agent
    };
    tmux.shows("processes", shows_processes);
    tmux.keys(&["q"]);
    tmux.is_restored(0);
}

#[test]
fn a_line_is_edited_and_a_key_interrupts() {
    let own = TestContext::own();
    let session = Session::start(&own, &[]);
    let tmux = Tmux::start(&own);
    tmux.exec("PS1=guest: bash --norc");
    tmux.shows_line("guest:");
    tmux.text("echo ac");
    tmux.keys(&["Left"]);
    tmux.text("b");
    tmux.keys(&["Enter"]);
    tmux.shows_line("abc");
    tmux.line("exit 7");
    tmux.is_restored(7);
    tmux.exec("echo up; cat");
    tmux.shows_line("up");
    tmux.line("heard");
    tmux.shows("an echo", |screen| screen.iter().filter(|line| *line == "heard").count() == 2);
    tmux.keys(&["C-c"]);
    tmux.is_restored(130);
    tmux.exec("echo up; cat");
    tmux.shows_line("up");
    tmux.line("heard");
    tmux.shows("an echo", |screen| screen.iter().filter(|line| *line == "heard").count() == 2);
    session.machine().signal(libc::SIGKILL);
    tmux.is_restored(1);
}
