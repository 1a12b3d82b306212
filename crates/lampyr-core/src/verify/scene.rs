//! The scene: a session with everything that a fork could get wrong, and two
//! forks of it.

use std::collections::HashSet;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command as Program;
use std::time::{Duration, SystemTime};

use lampyr_net::{Access, Domain, Policy, Secret, USUAL_HEADER};
use lampyr_proto::Card;
use lampyr_types::Span;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::{
    Command, Error, ExecRequest, ForkRequest, Leash, Origin, Output, OutputStream, SessionClient,
    SessionRequest, fork, start_attached, stop_session,
};

use super::home::Home;
use super::{ForkPrograms, Look, Wrong, require};

const WITNESS: &str = include_str!("witness.py");
/// Where the witness writes.
const HOME: &str = "/var/tmp/verify-fork";
/// How long a command in a guest may take.
const PATIENCE: Span = Span::secs(30);
/// How far a wall clock may be off, in milliseconds.
const CLOCK_ERROR: i128 = 50;
/// After so many milliseconds without a word a session ends by itself, should
/// everybody who knows of it have been killed.
const TTL_MS: u64 = 180_000;

/// A session, and the way to it.
pub(super) struct Guest {
    pub(super) sid: String,
    pub(super) client: SessionClient,
    leash: Leash,
}

/// See the module.
pub(super) struct Scene<'a> {
    pub(super) home: &'a Home,
    programs: &'a ForkPrograms<'a>,
    pub(super) parent: Guest,
    forks: Vec<Guest>,
    /// The host's end of the parent's connection.
    connection: TcpStream,
    /// Where the witness listens, and the digest of its file.
    port: String,
    digest: String,
}

impl Guest {
    async fn of(home: &Home, sid: String, leash: Leash) -> Result<Self, Error> {
        let client = SessionClient::connect(home.path(), &sid).await?;
        Ok(Self { sid, client, leash })
    }

    /// What a shell command prints that ends well.
    pub(super) async fn sh(&self, text: &str) -> Result<String, Wrong> {
        self.run(Command::Shell(text.to_owned())).await
    }

    async fn run(&self, command: Command) -> Result<String, Wrong> {
        let request = ExecRequest {
            command,
            env: Vec::new(),
            workdir: None,
            user: None,
            timeout: Some(PATIENCE),
            stdin: false,
            terminal: None,
        };
        let (mut said, (_silent, controls)) = (Said::default(), mpsc::channel(1));
        let outcome = self.client.exec(&request, &mut said, controls).await?;
        let text = String::from_utf8_lossy(&said.0).into_owned();
        let failed = || Wrong::Unseen(format!("a command failed in the guest: {text}"));
        if outcome.exit_code == 0 { Ok(text) } else { Err(failed()) }
    }

    /// The lines that the witness wrote down at each tick.
    async fn ticks(&self) -> Result<Vec<Tick>, Wrong> {
        let text = self.sh(&format!("cat {HOME}/ticks")).await?;
        let ticks: Option<Vec<_>> = text.lines().map(Tick::read).collect();
        ticks.ok_or_else(|| Wrong::Seen("the witness's notes are torn".into()))
    }

    /// Waits until the witness has written down more.
    async fn goes_on(&self) -> Result<(), Wrong> {
        let count = format!("$(wc -l < {HOME}/ticks)");
        let wait = format!("n={count}; while [ {count} -lt $((n + 3)) ]; do sleep 0.02; done");
        self.sh(&wait).await.map(drop)
    }
}

/// One line of the witness's.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tick {
    number: u64,
    uuid: String,
    monotonic: u64,
}

impl Tick {
    fn read(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let (number, uuid) = (words.next()?.parse().ok()?, words.next()?.to_owned());
        Some(Self { number, uuid, monotonic: words.next()?.parse().ok()? })
    }
}

#[derive(Default)]
struct Said(Vec<u8>);

impl Output for Said {
    fn write(&mut self, _: OutputStream, bytes: &[u8]) -> std::io::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

impl<'a> Scene<'a> {
    /// Starts a session, lets it do all that matters, and forks it.
    pub(super) async fn set(home: &'a Home, programs: &'a ForkPrograms<'a>) -> Result<Self, Error> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Error::Network)?;
        let host_port = listener.local_addr().map_err(Error::Network)?.port();
        let request = request(home, host_port)?;
        let owner = || (programs.owner)(home.path());
        let (sid, leash) = start_attached(&home.host, &request, owner()).await?;
        let parent = Guest::of(home, sid.to_string(), leash).await?;
        let witness =
            ["python3", "-c", WITNESS, &Card::GATEWAY_V4.to_string(), &host_port.to_string()];
        let told = parent.run(Command::Argv(witness.map(str::to_owned).to_vec())).await;
        let told = told.map_err(not_set)?;
        let (port, digest) = told.trim().split_once(' ').unwrap_or_default();
        let (port, digest) = (port.to_owned(), digest.to_owned());
        // The guest has connected, so that this does not wait.
        let (connection, _) = listener.accept().map_err(Error::Network)?;
        parent.goes_on().await.map_err(not_set)?;
        parent.sh(&format!("echo just now > {HOME}/last")).await.map_err(not_set)?;
        let mut scene =
            Self { home, programs, parent, forks: Vec::new(), connection, port, digest };
        scene.forks = scene.fork(2).await?;
        Ok(scene)
    }

    /// Forks the parent, secrets or not.
    pub(super) async fn fork(&self, count: u32) -> Result<Vec<Guest>, Error> {
        let wanted = ForkRequest { count, attached: true, with_secrets: true };
        let forked = fork(&self.home.host, &self.parent.sid, wanted, || Ok(self.owner())).await?;
        let mut guests = Vec::new();
        for (sid, leash) in forked.sessions {
            guests.push(Guest::of(self.home, sid.to_string(), leash).await?);
        }
        Ok(guests)
    }

    /// The program that owns a session.
    pub(super) fn owner(&self) -> Program {
        (self.programs.owner)(self.home.path())
    }

    /// The program that makes so many forks of the parent.
    pub(super) fn forker(&self, count: usize) -> Program {
        let mut fork = (self.programs.fork)(self.home.path(), &self.parent.sid);
        fork.args(["--count", &count.to_string()]);
        fork
    }

    /// The parent and its forks.
    fn all(&self) -> impl Iterator<Item = &Guest> {
        std::iter::once(&self.parent).chain(&self.forks)
    }

    /// The ids of all.
    pub(super) fn sids(&self) -> HashSet<String> {
        self.all().map(|guest| guest.sid.clone()).collect()
    }

    /// Ends all of it.
    pub(super) async fn end(self) {
        for guest in std::iter::once(self.parent).chain(self.forks) {
            // Whatever is left ends with its leash.
            let _ = stop_session(self.home.path(), &guest.sid, Duration::ZERO).await;
            drop(guest.leash);
        }
    }

    pub(super) async fn random(&self) -> Look {
        let draw =
            "head -c 16 /dev/urandom | od -An -tx1; cat /proc/sys/kernel/random/uuid; mktemp -u";
        let (mut drawn, mut all) = (HashSet::new(), 0);
        for guest in self.all() {
            for line in guest.sh(draw).await?.lines() {
                all += 1;
                require(drawn.insert(line.to_owned()), || format!("{line} was drawn twice"))?;
            }
            guest.goes_on().await?;
        }
        let before = self.before().await?;
        let mut after = HashSet::new();
        for guest in self.all() {
            // What was drawn before and not yet written down comes first.
            for tick in guest.ticks().await?.iter().skip(before.len() + 1) {
                let (number, uuid) = (tick.number, &tick.uuid);
                let twice =
                    || format!("a program that goes on drew {uuid} twice, as number {number}");
                require(after.insert(uuid.clone()), twice)?;
            }
        }
        let (all, after) = (all, after.len());
        Ok(format!(
            "{all} numbers by new commands and {after} by a program that went on: no two the same"
        ))
    }

    /// What the witness had written in all of them when they were one.
    async fn before(&self) -> Result<Vec<Tick>, Wrong> {
        let mut all = self.parent.ticks().await?;
        for guest in &self.forks {
            let ticks = guest.ticks().await?;
            let same = all.iter().zip(&ticks).take_while(|(a, b)| a == b).count();
            all.truncate(same);
        }
        require(!all.is_empty(), || "the forks have nothing of what the parent wrote".into())?;
        Ok(all)
    }

    pub(super) async fn clocks(&self) -> Look {
        let mut worst = i128::MIN;
        for guest in self.all() {
            let before = now();
            let said = guest.sh("date +%s%N").await?;
            let after = now();
            let told: i128 = said.trim().parse().map_err(|_| Wrong::Unseen(said.clone()))?;
            let (behind, ahead) = (ms(before - told), ms(told - after));
            worst = worst.max(behind).max(ahead);
            let off = || format!("a wall clock is {behind} ms behind and {ahead} ms ahead");
            require(worst <= CLOCK_ERROR, off)?;
            let ticks = guest.ticks().await?;
            let forward = ticks.windows(2).all(|two| two[0].monotonic <= two[1].monotonic);
            require(forward, || "a monotonic clock went back".into())?;
        }
        Ok(format!("wall clocks at most {} ms off, monotonic clocks never back", worst.max(0)))
    }

    pub(super) async fn identity(&self) -> Look {
        let look = "hostname; cat /etc/machine-id; cat /sys/class/net/eth0/address; \
            awk '/32 host LOCAL/ && ip !~ /^127/ {print ip; exit} {ip = $2}' /proc/net/fib_trie; \
            awk '$6 == \"eth0\" {print $1}' /proc/net/if_inet6";
        let mut seen = HashSet::new();
        for guest in self.all() {
            let said = guest.sh(look).await?;
            let complete = (4..=5).contains(&said.lines().count());
            require(complete, || format!("these are no names and addresses: {said}"))?;
            for line in said.lines() {
                require(seen.insert(line.to_owned()), || format!("{line} is in two of them"))?;
            }
        }
        Ok("hostname, machine-id, MAC and IP addresses are each one's own".into())
    }

    pub(super) async fn secrets(&self) -> Look {
        let wanted = ForkRequest { count: 1, attached: true, with_secrets: false };
        match fork(&self.home.host, &self.parent.sid, wanted, || Ok(self.owner())).await {
            Err(e) if e.to_string() == Error::HoldsSecrets.to_string() => {}
            Err(e) => return Err(e.into()),
            Ok(_) => return Err(Wrong::Seen("a session with secrets was forked".into())),
        }
        for guest in &self.forks {
            let holds = guest.client.record()?.has_secrets();
            require(!holds, || "a fork holds the parent's secrets".into())?;
        }
        Ok("refused; with --with-secrets the forks hold none".into())
    }

    pub(super) async fn connections(&self) -> Look {
        let open = "awk '$4 == \"01\" && $3 !~ /^0100007F/' /proc/net/tcp";
        let mut told = HashSet::new();
        for guest in &self.forks {
            let found = guest.sh(open).await?;
            require(found.is_empty(), || format!("a fork has the connection still: {found}"))?;
            let ended = format!("until [ -s {HOME}/ended ]; do sleep 0.02; done; cat {HOME}/ended");
            told.extend(guest.sh(&ended).await?.lines().map(str::to_owned));
        }
        for guest in self.all() {
            let ask = format!("exec 3<>/dev/tcp/127.0.0.1/{}; cat <&3", self.port);
            let words = ["bash", "-c", &ask].map(str::to_owned);
            let served = guest.run(Command::Argv(words.to_vec())).await?;
            require(served == "served\n", || format!("what listened answers {served:?}"))?;
        }
        (&self.connection).write_all(b"still").map_err(Error::Network)?;
        let heard = format!("until [ -s {HOME}/heard ]; do sleep 0.02; done; cat {HOME}/heard");
        let heard = self.parent.sh(&heard).await?;
        require(heard.starts_with("still"), || format!("the parent heard {heard:?}"))?;
        Ok(format!("in the forks {told:?} at once, the parent's lives on, what listened serves"))
    }

    pub(super) async fn one_instant(&self) -> Look {
        let look = format!(
            "cd {HOME}; cat last; sync; echo 3 > /proc/sys/vm/drop_caches; sha256sum < data"
        );
        for guest in self.all() {
            let said = guest.sh(&look).await?;
            let whole = said == format!("just now\n{}  -\n", self.digest);
            require(whole, || format!("the files are not what was written: {said}"))?;
            guest.goes_on().await?;
            let ticks = guest.ticks().await?;
            let whole = (1..).zip(&ticks).all(|(number, tick)| number == tick.number);
            require(whole, || "what runs and what it had written do not go together".into())?;
        }
        Ok("what was just written is there, in the page cache and on the disk".into())
    }
}

/// What the parent is: it may reach one port of ours, and holds a secret.
fn request(home: &Home, port: u16) -> Result<SessionRequest, Error> {
    let unseen = |e: String| Error::Agent(e);
    let policy =
        Policy::of([format!("host:{port}").as_str()]).map_err(|e| unseen(e.to_string()))?;
    let value = Zeroizing::new("a value that nobody uses".to_owned());
    let host = Domain::parse("verify.example.com").map_err(|e| unseen(e.to_string()))?;
    let secret = Secret::new("VERIFY_TOKEN", host, USUAL_HEADER, value);
    let secrets = vec![secret.map_err(|e| unseen(e.to_string()))?];
    let (spec, disk) = (home.shape.spec, home.shape.disk);
    Ok(SessionRequest {
        name: None,
        origin: home.origin.clone(),
        cpus: spec.cpus,
        memory: spec.memory,
        disk_size: disk.as_bytes(),
        env: Vec::new(),
        workdir: None,
        attached: true,
        ttl_ms: Some(TTL_MS),
        forwards: Vec::new(),
        mounts: Vec::new(),
        net: Some(Access { policy, secrets, ..Access::default() }),
        checkpoints: 0,
        crowd: false,
    })
}

/// A session like the parent, but started as something else.
pub(super) fn request_of(home: &Home, origin: Origin) -> Result<SessionRequest, Error> {
    Ok(SessionRequest { origin, ..request(home, 1)? })
}

fn not_set(wrong: Wrong) -> Error {
    let (Wrong::Seen(why) | Wrong::Unseen(why)) = wrong;
    Error::Agent(why)
}

fn ms(ns: i128) -> i128 {
    ns / 1_000_000
}

fn now() -> i128 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.as_nanos().try_into().unwrap_or(i128::MAX)
}
