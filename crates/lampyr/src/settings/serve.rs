//! From the arguments of `serve` to a server that can be started.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use lampyr_server::Defaults;

use crate::args::{MachineArgs, ServeArgs};
use crate::bad_input::BadInput;
use crate::wiring::HostChoice;

use super::{Layers, Machine, ReportSettings, shown};

/// Where a server listens where nobody says.
const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7700);

/// Where a server listens.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// On a port, for whoever shows the token, or for everybody.
    Port {
        /// Which, and of which address.
        address: SocketAddr,
        /// Whether the token must be shown.
        token: bool,
    },
    /// On a socket.
    Socket(PathBuf),
    /// On a socket in a directory of its own, which goes with it.
    Private,
}

/// Everything `serve` needs to know, checked.
pub(crate) struct ServeSettings {
    /// Where it listens.
    pub(crate) place: Place,
    /// It ends with who started it.
    pub(crate) parent: bool,
    /// What sandboxes have that nobody says anything else of.
    pub(crate) defaults: Defaults,
    /// The host.
    pub(crate) host: HostChoice,
}

impl ServeSettings {
    /// Resolves and checks everything; touches nothing.
    pub(crate) fn resolve(args: &ServeArgs, layers: &Layers<'_>) -> Result<Self, BadInput> {
        let machine = Machine::resolve(&MachineArgs::default(), layers)?;
        let defaults = Defaults {
            origin: machine.origin,
            cpus: machine.cpus,
            memory: machine.memory,
            disk_size: machine.disk_size,
            max_output: ReportSettings::resolve(None, layers)?.max_output,
        };
        Ok(Self { place: place(args)?, parent: args.parent, defaults, host: layers.host()? })
    }
}

fn place(args: &ServeArgs) -> Result<Place, BadInput> {
    if let Some(path) = &args.socket {
        let here = std::path::absolute(path);
        return here.map(Place::Socket).map_err(|_| BadInput::Socket(shown(path)));
    }
    let address = match &args.listen {
        None if args.parent && !args.no_auth => return Ok(Place::Private),
        None => ADDRESS,
        Some(given) => address(given)?,
    };
    if args.no_auth && !address.ip().is_loopback() {
        return Err(BadInput::OpenServer(address.to_string()));
    }
    Ok(Place::Port { address, token: !args.no_auth })
}

/// Reads `[ADDRESS:]PORT`.
fn address(given: &str) -> Result<SocketAddr, BadInput> {
    let port = || Some(SocketAddr::new(ADDRESS.ip(), given.parse().ok()?));
    given.parse().ok().or_else(port).ok_or_else(|| BadInput::Listen(shown(given)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(listen: Option<&str>, parent: bool, no_auth: bool) -> Result<Place, String> {
        let listen = listen.map(str::to_owned);
        let args = ServeArgs { listen, parent, no_auth, ..ServeArgs::default() };
        place(&args).map_err(|e| e.to_string())
    }

    #[test]
    fn a_port_is_of_the_loopback_unless_told_otherwise() {
        let port =
            |address: &str, token| Ok(Place::Port { address: address.parse().unwrap(), token });
        assert_eq!(placed(None, false, false), port("127.0.0.1:7700", true));
        assert_eq!(placed(Some("80"), false, true), port("127.0.0.1:80", false));
        assert_eq!(placed(Some("[::1]:0"), true, false), port("[::1]:0", true));
        assert_eq!(placed(Some("0.0.0.0:80"), false, false), port("0.0.0.0:80", true));
        assert_eq!(placed(None, true, false), Ok(Place::Private));
        assert_eq!(placed(None, true, true), port("127.0.0.1:7700", false));
    }

    #[test]
    fn what_cannot_be_listened_on_is_refused_in_words() {
        let said = placed(Some("0.0.0.0:80"), false, true).unwrap_err();
        assert!(said.starts_with("0.0.0.0:80 can be reached from elsewhere"), "{said}");
        for bad in ["", "localhost:80", "70000", "1.2.3.4"] {
            assert!(placed(Some(bad), false, false).is_err(), "{bad}");
        }
    }
}
