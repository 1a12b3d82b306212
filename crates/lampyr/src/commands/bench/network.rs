//! The rows on the network: between a VM and a server of ours on this host.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::core_api::{self as core, Error, Host, Policy, RunRequest, SessionClient};
use crate::failure::Failure;

use super::super::session::owner;
use super::session::{exec, like, rate};
use super::table::{Row, Unit};

/// Bytes that go each way.
const BULK: usize = 200_000_000;
/// Questions, one after another.
const TURNS: u32 = 200;

/// Measures launches with a card and what goes over it.
pub(super) async fn rows(
    host: &Host,
    home: &Path,
    run: &RunRequest,
    n: usize,
) -> Result<Vec<Row>, Failure> {
    let failed = |source| Failure::System { what: "serve on this host", source };
    let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    // It ends with this process.
    std::thread::spawn(move || listener.incoming().flatten().for_each(serve));
    let rules = Policy::of([format!("host:{port}").as_str()]);
    let net = Some(rules.map_err(|e| failed(io::Error::other(e.to_string())))?.into());
    let run = RunRequest { net: net.clone(), ..run.clone() };
    let mut rows = vec![launches(host, &run, n).await?];
    let session = core::SessionRequest { net, ..like(&run) };
    let sid = core::start_session(host, &session, owner(home, "session-owner")?).await?.to_string();
    let measured = measure(home, &sid, port).await;
    core::stop_session(home, &sid, Duration::ZERO).await?;
    rows.extend(measured?);
    Ok(rows)
}

async fn launches(host: &Host, run: &RunRequest, n: usize) -> Result<Row, Error> {
    core::launch(host, run).await?.end().await;
    let mut took = Vec::new();
    for _ in 0..n {
        let start = Instant::now();
        let mut machine = core::launch(host, run).await?;
        machine.exec("true").await?;
        took.push(start.elapsed());
        machine.end().await;
    }
    let definition = "the launch to a first exec result, of a VM that has a network card";
    Ok(Row::times("launch with a network", definition, &took))
}

async fn measure(home: &Path, sid: &str, port: u16) -> Result<Vec<Row>, Failure> {
    let client = SessionClient::connect(home, sid).await?;
    let open = format!("exec 3<>/dev/tcp/host.lampyr.internal/{port}");
    let down = format!("bash -c '{open}; echo d >&3; cat <&3 >/dev/null'");
    let up = format!("bash -c '{open}; echo u >&3; head -c {BULK} /dev/zero >&3; head -c 1 <&3'");
    let turns =
        format!("bash -c '{open}; for ((n=0; n<{TURNS}; n++)); do echo p >&3; read -u 3 a; done'");
    exec(&client, &turns).await?;
    let (down, up) = (exec(&client, &down).await?, exec(&client, &up).await?);
    let each = exec(&client, &turns).await? / TURNS;
    let bulk = "200 MB over one TCP connection with a server on this host";
    let turn = "a line to a server on this host and one back, each of 200 on one connection";
    Ok(vec![
        Row::one("network, to the VM", bulk, Unit::MbPerSecond, rate(BULK, down)),
        Row::one("network, from the VM", bulk, Unit::MbPerSecond, rate(BULK, up)),
        Row::times("network, there and back", turn, &[each]),
    ])
}

/// Does what the first byte says: `d` gives it bytes, `u` takes them, and `p`
/// answers each line.
fn serve(stream: TcpStream) {
    std::thread::spawn(move || {
        let _ = stream.set_nodelay(true);
        // A guest that hangs up is for the other side to notice.
        let _ = answer(stream);
    });
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut line = [0; 2];
    stream.read_exact(&mut line)?;
    match line[0] {
        b'd' => io::copy(&mut io::repeat(0).take(BULK as u64), &mut stream).map(|_| ()),
        b'u' => {
            io::copy(&mut (&mut stream).take(BULK as u64), &mut io::sink())?;
            stream.write_all(b"k")
        }
        _ => loop {
            stream.write_all(b"a\n")?;
            stream.read_exact(&mut line)?;
        },
    }
}
