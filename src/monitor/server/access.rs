//! Decides who may watch a run, and who may steer it, from what is known about a request.
//!
//! It refuses other machines, unless they were given access; pages of other sites in the browser of
//! a user who may steer; and host names that such a page has pointed to this machine (DNS
//! rebinding).

use std::net::IpAddr;

use subtle::ConstantTimeEq;

/// What is known about a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct RequestInfo<'a> {
    /// Where it comes from.
    pub(crate) peer: Peer,
    /// Whether it asks for a change.
    pub(crate) changes: bool,
    /// Whether a person follows a link to a page, or has typed its address.
    pub(crate) navigates: bool,
    pub(crate) host: Option<&'a str>,
    pub(crate) origin: Option<&'a str>,
    pub(crate) fetch_site: Option<&'a str>,
    /// Whether a proxy says that it passes the request on.
    pub(crate) forwarded: bool,
    pub(crate) authorization: Option<&'a str>,
    /// Whether it has the header `X-Drpipe`, which pages of other sites cannot send.
    pub(crate) marked: bool,
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Peer {
    /// The socket of this user.
    #[default]
    Socket,
    /// The network.
    Network {
        /// The address of the client.
        remote: IpAddr,
        /// The address of this machine that it has connected to.
        local: IpAddr,
    },
}

/// Who may do what.
#[derive(Debug, Clone, Default)]
pub(crate) struct AccessPolicy {
    /// The token that steers over the network; without one, clients on this machine steer.
    pub(crate) token: Option<String>,
    /// The names by which clients may ask for this machine.
    pub(crate) names: Vec<String>,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The HTTP status of the answer.
    pub(crate) status: u16,
    /// Why, and what to do.
    pub(crate) why: String,
}

fn refuse<T>(status: u16, why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { status, why: why.into() })
}

impl AccessPolicy {
    /// Returns whether the client may steer.
    ///
    /// # Errors
    /// If the request is refused.
    pub(crate) fn authorize(&self, request: &RequestInfo<'_>) -> Result<bool, Refusal> {
        let local = match request.peer {
            Peer::Socket => true,
            Peer::Network { remote, local } => self.is_local(request, remote, local)?,
        };
        refuse_other_sites(request)?;
        let has_token = self.has_token(request)?;
        // If there is a token, a request from this machine may come from anywhere: a proxy need not
        // say that it passes it on.
        let from_here = local && !request.forwarded && self.token.is_none();
        let may_steer = has_token || request.peer == Peer::Socket || from_here;
        if !request.changes {
            return Ok(may_steer);
        }
        match (may_steer, &self.token) {
            (true, _) if request.marked => Ok(true),
            (true, _) => refuse(
                403,
                "the header \"X-Drpipe: 1\" is missing: without it, a page of another site could \
                 send this request",
            ),
            (false, Some(_)) => {
                refuse(401, "steering needs the token: give it with DRPIPE_MONITOR_TOKEN")
            }
            (false, None) => refuse(
                403,
                "only this machine may steer the run; to steer it from another machine, start it \
                 with DRPIPE_MONITOR_TOKEN and send that token",
            ),
        }
    }

    /// Returns whether the client is on this machine and asks by a loopback name.
    ///
    /// # Errors
    /// If it asks by a name that does not belong to this machine.
    fn is_local(
        &self,
        request: &RequestInfo<'_>,
        remote: IpAddr,
        local: IpAddr,
    ) -> Result<bool, Refusal> {
        let Some(host) = request.host else {
            return refuse(403, "the request has no Host header");
        };
        let name = without_port(host);
        let number = name.trim_matches(['[', ']']).parse::<IpAddr>().ok();
        let is_loopback = match number {
            Some(number) => number.to_canonical().is_loopback(),
            None => name == "localhost" || name.ends_with(".localhost"),
        };
        let is_known = number.map(|n| n.to_canonical()) == Some(local.to_canonical())
            || self.names.iter().any(|known| known.eq_ignore_ascii_case(name));
        if !is_loopback && !is_known {
            return refuse(
                403,
                format!(
                    "{name:?} is not a name of this server; use localhost, or the address given \
                     to --monitor"
                ),
            );
        }
        Ok(is_loopback && remote.to_canonical().is_loopback())
    }

    /// Returns whether the request shows the token.
    ///
    /// # Errors
    /// If it shows a wrong token.
    fn has_token(&self, request: &RequestInfo<'_>) -> Result<bool, Refusal> {
        let (Some(token), Some(shown)) = (&self.token, request.authorization) else {
            return Ok(false);
        };
        let shown = shown.strip_prefix("Bearer ").unwrap_or_default();
        match bool::from(shown.as_bytes().ct_eq(token.as_bytes())) {
            true => Ok(true),
            false => refuse(401, "this is not the token of the run"),
        }
    }
}

/// Refuses requests from pages of other sites: browsers name the page that sends a request.
fn refuse_other_sites(request: &RequestInfo<'_>) -> Result<(), Refusal> {
    let elsewhere = matches!(request.fetch_site, Some("cross-site" | "same-site"));
    // A link on another page shows this one to a person, not to that page.
    let only_looks = request.navigates && !request.changes;
    if elsewhere && !only_looks {
        return refuse(403, "the request comes from a page of another site");
    }
    let Some(origin) = request.origin else { return Ok(()) };
    let own = origin.split_once("://").map(|(_, authority)| authority);
    if own.is_none() || own != request.host {
        return refuse(403, format!("the request comes from {origin:?}, which is another site"));
    }
    Ok(())
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Peer = Peer::Network { remote: loopback(), local: loopback() };
    const ELSEWHERE: Peer = Peer::Network { remote: ip(192, 0, 2, 7), local: ip(192, 0, 2, 1) };

    const fn loopback() -> IpAddr {
        ip(127, 0, 0, 1)
    }

    const fn ip(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
        IpAddr::V4(std::net::Ipv4Addr::new(a, b, c, d))
    }

    fn policy(token: Option<&str>) -> AccessPolicy {
        AccessPolicy { token: token.map(str::to_owned), names: vec!["tel1.example.org".to_owned()] }
    }

    /// A POST as the page sends it.
    fn post(peer: Peer, host: &'static str) -> RequestInfo<'static> {
        RequestInfo {
            peer,
            changes: true,
            host: Some(host),
            marked: true,
            ..RequestInfo::default()
        }
    }

    #[track_caller]
    fn assert_status(token: Option<&str>, request: &RequestInfo<'_>, expected: u16) {
        let found = policy(token).authorize(request).map_or_else(|refusal| refusal.status, |_| 200);
        assert_eq!(found, expected, "{request:?}");
    }

    #[test]
    fn who_may_steer() {
        let local = || post(HERE, "localhost:5565");
        let remote = || post(ELSEWHERE, "tel1.example.org:5565");
        let same = RequestInfo {
            origin: Some("http://localhost:5565"),
            fetch_site: Some("same-origin"),
            ..local()
        };
        for (request, status) in [
            (post(Peer::Socket, "localhost"), 200),
            (RequestInfo { marked: false, ..post(Peer::Socket, "localhost") }, 403),
            (local(), 200),
            (same, 200),
            (post(HERE, "127.0.0.1:5565"), 200),
            (post(HERE, "[::1]:5565"), 200),
            (RequestInfo { marked: false, ..local() }, 403),
            (RequestInfo { forwarded: true, ..local() }, 403),
            (RequestInfo { origin: Some("http://evil.example"), ..local() }, 403),
            (RequestInfo { origin: Some("http://localhost:8000"), ..local() }, 403),
            (RequestInfo { origin: Some("null"), ..local() }, 403),
            (RequestInfo { fetch_site: Some("cross-site"), ..local() }, 403),
            (RequestInfo { fetch_site: Some("same-site"), ..local() }, 403),
            (RequestInfo { fetch_site: Some("cross-site"), navigates: true, ..local() }, 403),
            (post(HERE, "evil.example:5565"), 403),
            (RequestInfo { host: None, ..local() }, 403),
            // The name of the machine does not show who asks.
            (post(HERE, "tel1.example.org:5565"), 403),
            (remote(), 403),
            (post(ELSEWHERE, "localhost:5565"), 403),
        ] {
            assert_status(None, &request, status);
        }
    }

    #[test]
    fn a_token_lets_others_steer() {
        let remote = || post(ELSEWHERE, "tel1.example.org:5565");
        let shown = |shown| RequestInfo { authorization: Some(shown), ..remote() };
        for (request, status) in [
            (remote(), 401),
            (shown("Bearer secret"), 200),
            (shown("Bearer secreT"), 401),
            (shown("Bearer "), 401),
            (shown("secret"), 401),
            (RequestInfo { origin: Some("http://evil.example"), ..shown("Bearer secret") }, 403),
            (RequestInfo { marked: false, ..shown("Bearer secret") }, 403),
            // A request from this machine may come from a silent proxy.
            (post(HERE, "localhost:5565"), 401),
            (
                RequestInfo {
                    authorization: Some("Bearer secret"),
                    ..post(HERE, "localhost:5565")
                },
                200,
            ),
            (post(Peer::Socket, "localhost"), 200),
        ] {
            assert_status(Some("secret"), &request, status);
        }
        let look =
            |peer| RequestInfo { peer, host: Some("localhost:5565"), ..RequestInfo::default() };
        assert_eq!(policy(Some("secret")).authorize(&look(HERE)), Ok(false));
        assert_eq!(policy(Some("secret")).authorize(&look(Peer::Socket)), Ok(true));
        // A token for a run without one is no error, but gives no right.
        assert_status(None, &shown("Bearer secret"), 403);
    }

    #[test]
    fn who_may_look() {
        let look = |peer, host| RequestInfo { peer, host: Some(host), ..RequestInfo::default() };
        let judge = |request| policy(None).authorize(&request);
        assert_eq!(judge(look(HERE, "localhost:5565")), Ok(true));
        assert_eq!(judge(look(ELSEWHERE, "192.0.2.1:5565")), Ok(false));
        assert_eq!(judge(look(ELSEWHERE, "TEL1.example.org")), Ok(false));
        assert_eq!(judge(look(ELSEWHERE, "192.0.2.2:5565")).unwrap_err().status, 403);
        assert_eq!(judge(look(HERE, "rebound.example:5565")).unwrap_err().status, 403);
        let linked = RequestInfo { fetch_site: Some("cross-site"), ..look(HERE, "localhost:5565") };
        assert_eq!(judge(linked.clone()).unwrap_err().status, 403);
        assert_eq!(judge(RequestInfo { navigates: true, ..linked }), Ok(true));
    }
}
