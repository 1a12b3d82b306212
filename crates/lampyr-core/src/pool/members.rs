//! The members of a keeper: their owners are its children, each with a pipe
//! whose end tells it that the keeper is gone.

use std::collections::HashMap;
use std::io;
use std::process::Stdio;

use lampyr_store::Store;
use lampyr_types::SandboxId;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;

use super::record::sweep;
use super::{MemberWord, PoolMachine, PoolMemberRequest};
use crate::Error;

/// All that a member's owner may say, in bytes.
const MAX_WORDS: u64 = 64 * 1024;

/// What a keeper learns of its members.
#[derive(Debug)]
pub(super) enum News {
    /// The one that was being made is ready.
    Ready,
    /// The one that was being made will never be ready.
    Failed(Error),
    /// One that was ready was claimed.
    Claimed,
    /// One that was ready has ended.
    Lost,
    /// One that was ready ends: no run wants it any more.
    Outdated,
}

/// What is known of a member.
enum State {
    Making,
    Ready(SandboxId),
    /// It is no more of ours: claimed, or a failure.
    Left,
}

struct Member {
    state: State,
    /// While this is held, the member waits.
    lifeline: Option<ChildStdin>,
}

/// What comes from a member's owner.
enum Word {
    Said(MemberWord),
    Gone,
}

/// All members; `make` makes the command that owns one.
pub(super) struct Members<F> {
    store: Store,
    request: PoolMemberRequest,
    make: F,
    all: HashMap<u32, Member>,
    made: u32,
    tell: mpsc::Sender<(u32, Word)>,
    words: mpsc::Receiver<(u32, Word)>,
}

impl<F: Fn() -> io::Result<std::process::Command>> Members<F> {
    /// No members yet of this pool.
    pub(super) fn new(store: Store, pool: SandboxId, machine: PoolMachine, make: F) -> Self {
        let (tell, words) = mpsc::channel(64);
        let request = PoolMemberRequest { pool, machine };
        Self { store, request, make, all: HashMap::new(), made: 0, tell, words }
    }

    /// Begins to make a member.
    pub(super) async fn begin(&mut self) {
        self.made = self.made.wrapping_add(1);
        let lifeline = match self.start().await {
            Ok((owner, lifeline, said)) => {
                tokio::spawn(follow(self.made, owner, said, self.tell.clone()));
                Some(lifeline)
            }
            Err(e) => {
                let failed = MemberWord::Started(Err(Error::Owner(e)).into());
                let (tell, number) = (self.tell.clone(), self.made);
                tokio::spawn(async move {
                    let _ = tell.send((number, Word::Said(failed))).await;
                    let _ = tell.send((number, Word::Gone)).await;
                });
                None
            }
        };
        self.all.insert(self.made, Member { state: State::Making, lifeline });
    }

    async fn start(&self) -> io::Result<(Child, ChildStdin, ChildStdout)> {
        let mut owner = Command::from((self.make)()?);
        let mut owner = owner.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let pipes = owner.stdin.take().zip(owner.stdout.take());
        let (mut lifeline, said) = pipes.ok_or(io::ErrorKind::BrokenPipe)?;
        let mut line = serde_json::to_vec(&self.request).map_err(io::Error::other)?;
        line.push(b'\n');
        lifeline.write_all(&line).await?;
        Ok((owner, lifeline, said))
    }

    /// Waits for news. May be given up and begun again.
    pub(super) async fn news(&mut self) -> News {
        loop {
            match self.words.recv().await {
                Some((number, word)) => {
                    if let Some(news) = self.hear(number, word) {
                        return news;
                    }
                }
                // We hold a sender ourselves.
                None => std::future::pending().await,
            }
        }
    }

    fn hear(&mut self, number: u32, word: Word) -> Option<News> {
        let member = self.all.get_mut(&number)?;
        let (state, news) = match (&member.state, word) {
            (State::Making, Word::Said(MemberWord::Started(reply))) => match reply.into() {
                Ok(id) => (State::Ready(id), News::Ready),
                Err(e) => (State::Left, News::Failed(e)),
            },
            (State::Making, Word::Gone) => {
                let silent = io::Error::other("it ended without a word");
                (State::Left, News::Failed(Error::Owner(silent)))
            }
            (State::Ready(_), Word::Said(MemberWord::Claimed)) => (State::Left, News::Claimed),
            (State::Ready(_), Word::Said(MemberWord::Outdated)) => (State::Left, News::Outdated),
            (State::Ready(id), Word::Gone) => {
                sweep(&self.store, *id);
                (State::Left, News::Lost)
            }
            (_, Word::Said(_)) => return None,
            (State::Left, Word::Gone) => {
                self.all.remove(&number);
                return None;
            }
        };
        if matches!(state, State::Left) {
            member.lifeline = None;
        }
        member.state = state;
        Some(news)
    }

    /// Lets go of all that wait and waits until they have ended.
    pub(super) async fn end(mut self) {
        self.all.retain(|_, member| member.lifeline.take().is_some());
        while !self.all.is_empty() {
            match self.words.recv().await {
                Some((_, Word::Said(MemberWord::Started(_) | MemberWord::Outdated))) => {}
                // Whoever has claimed it just now has it.
                Some((number, Word::Gone | Word::Said(MemberWord::Claimed))) => {
                    self.all.remove(&number);
                }
                None => return,
            }
        }
    }
}

/// Tells all that a member's owner says, and its end.
async fn follow(number: u32, mut owner: Child, said: ChildStdout, tell: mpsc::Sender<(u32, Word)>) {
    let mut lines = BufReader::new(said.take(MAX_WORDS)).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Ok(word) = serde_json::from_str(&line) {
            let _ = tell.send((number, Word::Said(word))).await;
        }
    }
    let _ = owner.wait().await;
    let _ = tell.send((number, Word::Gone)).await;
}
