//! Listening on the network: on which port, and what that exposes.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::respond::{MONITOR, USER};
use crate::event::Level;
use crate::monitor::client::Client;
use crate::plan::address::Address;

/// How many ports above the wanted one are tried: more runs at a time are rare.
const MORE_PORTS: u16 = 20;

/// Listeners on all addresses of one name, with one port.
pub(crate) struct Listening {
    pub(crate) listeners: Vec<TcpListener>,
    pub(crate) port: u16,
    /// Whether only this machine can reach them.
    pub(crate) is_local: bool,
}

/// Why nothing listens.
pub(crate) enum NotListening {
    /// A monitor of this user listens there already, and shows this run too.
    Shown,
    /// The system refused.
    Failed(ListenError),
}

/// Why an address cannot be listened at.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen at {address}: {reason}")]
pub(crate) struct ListenError {
    address: Address,
    reason: ListenReason,
}

#[derive(Debug, thiserror::Error)]
enum ListenReason {
    #[error(transparent)]
    System(#[from] io::Error),
    #[error("it is in use, and so are the {MORE_PORTS} ports above")]
    Taken,
}

/// Listens at the address; if its port is taken, at one of the next ports. A run of this
/// program (`is_run`) needs no server where a monitor of this user listens.
pub(crate) async fn listen(address: &Address, is_run: bool) -> Result<Listening, NotListening> {
    let failed = |reason| NotListening::Failed(ListenError { address: address.clone(), reason });
    let numbers = tokio::net::lookup_host((address.host.as_str(), address.port)).await;
    let mut numbers: Vec<SocketAddr> = numbers.map_err(|error| failed(error.into()))?.collect();
    numbers.dedup();
    let last = match address.port {
        0 => 0,
        port => port.saturating_add(MORE_PORTS),
    };
    for port in address.port..=last {
        match bind(&numbers, port).await {
            Ok(listeners) => {
                return described(listeners).map_err(|error| failed(error.into()));
            }
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                if is_run && port == address.port && is_own_monitor(address).await {
                    return Err(NotListening::Shown);
                }
            }
            Err(error) => return Err(failed(error.into())),
        }
    }
    Err(failed(ListenReason::Taken))
}

/// Listens on all addresses of the name with one port, except those that this machine does
/// not have.
async fn bind(numbers: &[SocketAddr], wanted: u16) -> io::Result<Vec<TcpListener>> {
    let (mut listeners, mut port) = (Vec::new(), wanted);
    let mut missing = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for number in numbers {
        match TcpListener::bind(SocketAddr::new(number.ip(), port)).await {
            Ok(listener) => {
                port = listener.local_addr()?.port();
                listeners.push(listener);
            }
            // If any port will do, the other addresses must use the one that the first got.
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

/// Returns whether a monitor of this user answers there.
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
    /// What the address exposes, in words.
    pub(crate) fn in_words(&self, address: &Address, has_token: bool) -> (Level, String) {
        let at = Address { port: self.port, ..address.clone() };
        let moved = match address.port {
            0 => String::new(),
            port if port == self.port => String::new(),
            port => format!(" (port {port} is in use)"),
        };
        match (self.is_local, has_token) {
            (true, false) => (
                Level::Info,
                format!("monitor at http://{at}/ (this machine only, which may steer){moved}"),
            ),
            (true, true) => (
                Level::Info,
                format!(
                    "monitor at http://{at}/ (this machine only; steering needs the token){moved}"
                ),
            ),
            (false, false) => (
                Level::Warning,
                format!(
                    "monitor at http://{at}/, visible to every machine that reaches this one: \
                     read-only{moved}"
                ),
            ),
            (false, true) => (
                Level::Warning,
                format!(
                    "monitor at http://{at}/, visible to every machine that reaches this one; \
                     steering needs the token, which travels unencrypted{moved}"
                ),
            ),
        }
    }
}
