//! A guest whose network is measured, and what it is asked to do.

use std::fmt::Display;
use std::time::Duration;

use crate::core_api::{Booted, Error, Launched};
use crate::failure::Failure;

use super::said::Said;
use super::server::BULK;
use super::session::rate;
use super::table::{Row, Unit};

/// Questions, one after another.
pub(super) const TURNS: u32 = 200;

/// A VM of ours, or one on a network of QEMU's.
pub(super) enum Guest {
    Ours(Box<Launched>),
    Plain(Booted),
}

impl Guest {
    /// Runs a command that must say something, and gives that and how long it
    /// took.
    pub(super) async fn say(&mut self, command: &str) -> Result<(Duration, String), Failure> {
        let mut said = Said::default();
        let took = match self {
            Self::Ours(machine) => machine.hear(command, &mut said).await?.0,
            Self::Plain(machine) => machine.hear(command, &mut said).await?,
        };
        match said.0.trim() {
            "" => Err(Error::Agent("a measured command did nothing".to_owned()).into()),
            said => Ok((took, said.to_owned())),
        }
    }

    /// Runs a program with some words, and gives the number that it says.
    pub(super) async fn number(&mut self, program: &str, words: &str) -> Result<f64, Failure> {
        let files = "ulimit -S -n $(ulimit -H -n)";
        let command = format!("{files}; python3 -c '{program}' {words} 2>&1");
        let (_, said) = self.say(&command).await?;
        let strange = |_| Error::Agent(format!("a measured program said: {said}"));
        Ok(said.parse().map_err(strange)?)
    }

    pub(super) async fn end(self) {
        match self {
            Self::Ours(machine) => machine.end().await,
            Self::Plain(machine) => machine.end().await,
        }
    }
}

/// What went between a guest and a server, by turns with another guest.
#[derive(Debug, Default)]
pub(super) struct Moved {
    down: Vec<f64>,
    up: Vec<f64>,
    turns: Vec<Duration>,
}

impl Moved {
    /// Moves bytes both ways and a line there and back, once more.
    pub(super) async fn once(
        &mut self,
        guest: &mut Guest,
        host: impl Display,
        port: u16,
    ) -> Result<(), Failure> {
        let open = format!("exec 3<>/dev/tcp/{host}/{port}");
        let down = format!("bash -c '{open}; echo d >&3; cat <&3 >/dev/null && echo k'");
        let up =
            format!("bash -c '{open}; echo u >&3; head -c {BULK} /dev/zero >&3; head -c 1 <&3'");
        let turns = format!(
            "bash -c '{open}; for ((n=0; n<{TURNS}; n++)); do echo p >&3; read -u 3 a; done; \
            echo $a'"
        );
        self.turns.push(guest.say(&turns).await?.0 / TURNS);
        self.down.push(rate(BULK, guest.say(&down).await?.0));
        self.up.push(rate(BULK, guest.say(&up).await?.0));
        Ok(())
    }

    /// Its rows, under these names.
    pub(super) fn rows(self, names: [&'static str; 3], definitions: [&'static str; 2]) -> Vec<Row> {
        let ([down, up, turns], [bulk, turn]) = (names, definitions);
        vec![
            Row::many(down, bulk, Unit::MbPerSecond, self.down),
            Row::many(up, bulk, Unit::MbPerSecond, self.up),
            Row::times(turns, turn, &self.turns),
        ]
    }
}
