//! Sessions, as tests need them.

use serde_json::Value;

use crate::{Call, Envelope, Process, TestContext};

/// A session that ends with its test.
pub struct Session<'a> {
    context: &'a TestContext,
    /// Its id.
    pub sid: String,
}

impl<'a> Session<'a> {
    /// Starts one.
    pub fn start(context: &'a TestContext, flags: &[&str]) -> Self {
        let words = ["session", "start"].iter().chain(flags);
        let started = context.lampyr(words).finish();
        assert_eq!(started.status(), Some(0), "{started:?}");
        let printed: Value = serde_json::from_str(&started.stdout()).unwrap();
        Self::of(context, printed["sid"].as_str().unwrap())
    }

    /// One that was started in another way.
    pub fn of(context: &'a TestContext, sid: &str) -> Self {
        Self { context, sid: sid.to_owned() }
    }

    /// `lampyr exec` in it.
    pub fn exec(&self, command: &str) -> Call {
        self.context.lampyr(["exec", &self.sid, command])
    }

    /// Runs a command in it to its end.
    pub fn sh(&self, command: &str) -> Envelope {
        self.exec(command).envelope()
    }

    /// Its row in `session list`.
    pub fn row(&self) -> Option<Value> {
        rows(self.context, &["session", "list"]).into_iter().find(|row| row["sid"] == self.sid)
    }

    /// The process that owns it.
    pub fn owner(&self) -> Process {
        let pid = self.row().unwrap()["pid"].as_i64().unwrap();
        Process::find(i32::try_from(pid).unwrap()).expect("the owner lives")
    }

    /// Stops it; gives what was printed.
    pub fn stop(&self) -> Value {
        let stopped = self.context.lampyr(["session", "stop", &self.sid]).finish();
        assert_eq!(stopped.status(), Some(0), "{stopped:?}");
        serde_json::from_str(&stopped.stdout()).unwrap()
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        let _ = self.context.lampyr(["session", "stop", "--grace", "0", &self.sid]).finish();
    }
}

/// What a command that lists something printed.
pub fn rows(context: &TestContext, words: &[&str]) -> Vec<Value> {
    let listed = context.lampyr(words).finish();
    assert_eq!(listed.status(), Some(0), "{listed:?}");
    serde_json::from_str(&listed.stdout()).unwrap()
}
