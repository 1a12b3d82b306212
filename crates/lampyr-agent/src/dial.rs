//! A connection to a port of the guest itself, as a process: its standard
//! input goes there, what comes from there is its standard output.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, TcpStream};
use std::os::fd::OwnedFd;

/// Connects and carries bytes until both ways are at their end.
pub(crate) fn dial(port: u16, mut from: std::fs::File, mut to: std::fs::File) -> io::Result<()> {
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .or_else(|e| TcpStream::connect((Ipv6Addr::LOCALHOST, port)).map_err(|_| e))?;
    socket.set_nodelay(true)?;
    let mut outward = socket.try_clone()?;
    let sending = std::thread::spawn(move || {
        // A peer that reads no more is noticed by what it says or does not.
        let _ = carry(&mut from, &mut outward);
        let _ = outward.shutdown(Shutdown::Write);
    });
    let received = carry(&mut socket, &mut to);
    // Whoever has had everything knows it at once.
    drop(OwnedFd::from(to));
    rustix::stdio::dup2_stdout(std::fs::File::open("/dev/null")?)?;
    let _ = sending.join();
    received
}

/// Carries bytes to the end. Not `io::copy`: that splices, and a splice from a
/// socket holds the pipe's lock while it waits, which stops who reads the pipe.
fn carry(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => to.write_all(&buffer[..n])?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}
