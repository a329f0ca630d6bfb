//! Listening on the network: which port, and what that exposes.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::routes::{MONITOR, USER};
use crate::event::Level;
use crate::monitor::client::Client;
use crate::plan::address::Address;

/// So many ports above the one that was asked for are tried.
const TRIED: u16 = 20;

/// Listeners on all numbers of one name, with one port.
pub(crate) struct Listening {
    pub(crate) listeners: Vec<TcpListener>,
    pub(crate) port: u16,
    /// Whether only this machine can reach them.
    pub(crate) is_local: bool,
}

/// Why nothing listens.
pub(crate) enum NotListening {
    /// A monitor of this user is there already, and shows this run too.
    Shown,
    /// The system says no.
    Failed(String),
}

/// Listens at the address; if its port is taken, at one of the next.
pub(crate) async fn listen(address: &Address, own_run: bool) -> Result<Listening, NotListening> {
    let failed = |why: String| NotListening::Failed(format!("cannot listen at {address}: {why}"));
    let numbers = tokio::net::lookup_host((address.host.as_str(), address.port)).await;
    let mut numbers: Vec<SocketAddr> =
        numbers.map_err(|error| failed(error.to_string()))?.collect();
    numbers.dedup();
    let last = match address.port {
        0 => 0,
        port => port.saturating_add(TRIED),
    };
    for port in address.port..=last {
        match bind(&numbers, port).await {
            Ok(listeners) => {
                return described(listeners).map_err(|error| failed(error.to_string()));
            }
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                if own_run && port == address.port && is_own_monitor(address).await {
                    return Err(NotListening::Shown);
                }
            }
            Err(error) => return Err(failed(error.to_string())),
        }
    }
    Err(failed(format!("it is taken, and so are the {TRIED} ports above")))
}

/// All numbers of the name with one port; one that this machine does not have is left out.
async fn bind(numbers: &[SocketAddr], wanted: u16) -> io::Result<Vec<TcpListener>> {
    let (mut listeners, mut port) = (Vec::new(), wanted);
    let mut missing = io::Error::new(ErrorKind::NotFound, "the name has no number");
    for number in numbers {
        match TcpListener::bind(SocketAddr::new(number.ip(), port)).await {
            Ok(listener) => {
                port = listener.local_addr()?.port();
                listeners.push(listener);
            }
            // Any port was as good: the others have only that which the first has got.
            Err(error) if error.kind() == ErrorKind::AddrInUse && (wanted != 0 || port == 0) => {
                return Err(error);
            }
            Err(error) => missing = error,
        }
    }
    if listeners.is_empty() { Err(missing) } else { Ok(listeners) }
}

fn described(listeners: Vec<TcpListener>) -> io::Result<Listening> {
    let addresses: io::Result<Vec<_>> = listeners.iter().map(TcpListener::local_addr).collect();
    let addresses = addresses?;
    let port = addresses.first().map_or(0, SocketAddr::port);
    let is_local = addresses.iter().all(|address| address.ip().to_canonical().is_loopback());
    Ok(Listening { listeners, port, is_local })
}

/// Whether what answers there is a monitor of this user.
async fn is_own_monitor(address: &Address) -> bool {
    let Ok(client) = Client::address(&format!("http://{address}/"), None) else { return false };
    let Ok(request) = client.request(hyper::Method::GET, "/api/runs", bytes::Bytes::new()) else {
        return false;
    };
    let Ok((answer, _sender)) = client.send(request).await else { return false };
    let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
    let user = rustix::process::geteuid().as_raw().to_string();
    header(MONITOR) == Some("1") && header(USER) == Some(&user)
}

impl Listening {
    /// What is exposed at the address, in words.
    pub(crate) fn in_words(&self, address: &Address, has_token: bool) -> (Level, String) {
        let at = Address { port: self.port, ..address.clone() };
        let moved = match address.port {
            0 => String::new(),
            port if port == self.port => String::new(),
            port => format!(" (port {port} is taken)"),
        };
        match (self.is_local, has_token) {
            (true, false) => (
                Level::Info,
                format!("monitor at http://{at}/ (this machine only; may steer){moved}"),
            ),
            (true, true) => (
                Level::Info,
                format!(
                    "monitor at http://{at}/ (this machine only; whoever has the token may steer){moved}"
                ),
            ),
            (false, false) => (
                Level::Warning,
                format!(
                    "monitor at http://{at}/, visible to every machine that reaches this one: read-only{moved}"
                ),
            ),
            (false, true) => (
                Level::Warning,
                format!(
                    "monitor at http://{at}/, visible to every machine that reaches this one; whoever has the token may steer, and it travels unencrypted{moved}"
                ),
            ),
        }
    }
}
