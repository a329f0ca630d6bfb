//! The address of a dashboard.

use std::fmt;
use std::str::FromStr;

/// The default port: that of ctapipe's GUI.
const PORT: u16 = 5565;

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The host's name or number, without the brackets of an IPv6 address.
    pub host: String,
    /// The port; 0 is any free port.
    pub port: u16,
}

impl Address {
    /// The default address of a dashboard.
    pub const DEFAULT: &'static str = "localhost:5565";
}

/// A text that is not an address, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("found {found:?}: {why}; expected {EXPECTED}, such as {}", Address::DEFAULT)]
pub struct AddressError {
    found: String,
    why: String,
}

impl FromStr for Address {
    type Err = AddressError;

    /// Reads `host:port`, a port, or a host; `tcp://` or `http://` may stand before it.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = |why: &str| AddressError { found: text.to_owned(), why: why.to_owned() };
        let rest = text.split_once("://").map_or(text, |(scheme, rest)| match scheme {
            "tcp" | "http" => rest.trim_end_matches('/'),
            _ => text,
        });
        if let Some(port) =
            (!rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit())).then_some(rest)
        {
            let port = port.parse().map_err(|_| wrong("a port is at most 65535"))?;
            return Ok(Self { host: "localhost".to_owned(), port });
        }
        let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => {
                (host, Some(port.strip_prefix(':').ok_or_else(|| wrong("\"]:\" is missing"))?))
            }
            // Several colons are an IPv6 address by itself.
            None => match rest.split_once(':') {
                Some((_, port)) if port.contains(':') => (rest, None),
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
        if host.is_empty() || !host.chars().all(plain) {
            return Err(wrong("it names no host"));
        }
        let port = match port {
            None => PORT,
            Some(port) => port.parse().map_err(|_| wrong(&format!("{port:?} is not a port")))?,
        };
        Ok(Self { host: host.to_owned(), port })
    }
}

/// What an address must be, after "expected".
pub(crate) const EXPECTED: &str = "host:port, a port or a host";

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_leave_out_what_is_usual() {
        for (text, address) in [
            ("localhost:5565", "localhost:5565"),
            ("tcp://localhost:5565", "localhost:5565"),
            ("http://localhost:8080/", "localhost:8080"),
            ("8080", "localhost:8080"),
            ("tel1.example.org", "tel1.example.org:5565"),
            ("0.0.0.0:0", "0.0.0.0:0"),
            ("[::1]:80", "[::1]:80"),
            ("::1", "[::1]:5565"),
            ("[::]", "[::]:5565"),
        ] {
            assert_eq!(text.parse::<Address>().map(|a| a.to_string()), Ok(address.to_owned()));
        }
    }

    #[test]
    fn what_is_no_address_says_what_one_is() {
        for text in ["", ":80", "a:b", "a:65536", "70000", "[::1", "[::1]80", "a b:1", "ftp://a:1"]
        {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains("expected host:port"), "{text}: {error}");
        }
    }
}
