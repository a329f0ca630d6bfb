//! A small HTTP client, for the monitors of runs: over the socket of a run of this user,
//! or over the network. Every request has a time limit.

mod lines;
mod sse;

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Runtime;
use tokio::time::timeout;

pub(crate) use lines::LineSplitter;
pub(crate) use sse::{SseEvent, SseParser};

/// So long may it take until a connection stands.
const TO_CONNECT: Duration = Duration::from_secs(5);
/// So long may an answer take: longer than a run takes to do what it is told.
const TO_ANSWER: Duration = Duration::from_secs(15);
/// The longest answer that is read whole.
const MOST_BYTES: usize = 64 << 20;

/// Asks the monitor of a run, or `drpipe monitor`.
#[derive(Debug, Clone)]
pub struct Client {
    target: Target,
    token: Option<String>,
    /// Where the address pointed to, such as `/runs/NAME/`.
    base: String,
}

#[derive(Debug, Clone)]
enum Target {
    Socket(PathBuf),
    /// A name or number with its port.
    Address(String),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address cannot be used.
    #[error("{0}")]
    Address(String),
    /// Nobody listens there.
    #[error("cannot reach {0}: {1}")]
    Unreachable(String, io::Error),
    /// The answer has not come in time.
    #[error("{0} has not answered within 15 s")]
    Late(String),
    /// What came is no answer.
    #[error("the connection to {0} broke: {1}")]
    Broken(String, String),
}

/// An answer that is read line by line as it comes.
pub struct Lines {
    runtime: Runtime,
    body: Incoming,
    target: String,
    splitter: LineSplitter,
    /// The connection lasts as long as this.
    _sender: SendRequest<Full<Bytes>>,
}

/// What comes next in an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextLine {
    /// A line, without its end.
    Line(String),
    /// None has come in time.
    Nothing,
    /// None will come.
    End,
}

impl Client {
    /// Asks over the socket of a run.
    pub fn socket(path: &Path) -> Self {
        Self { target: Target::Socket(path.to_owned()), token: None, base: "/".to_owned() }
    }

    /// Asks at an address such as `http://localhost:5565/`. The token gives the right to
    /// steer where a run was given one.
    ///
    /// # Errors
    /// If it is no address of this kind.
    pub fn address(url: &str, token: Option<&str>) -> Result<Self, ClientError> {
        let wrong = |why: &str| {
            ClientError::Address(format!(
                "found the address {url:?}: {why}; expected one such as http://localhost:5565/"
            ))
        };
        let rest = match url.split_once("://") {
            None => url,
            Some(("http", rest)) => rest,
            Some((scheme, _)) => {
                return Err(wrong(&format!("{scheme} is not spoken here, only http")));
            }
        };
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        let has_port =
            authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let bare_ipv6 = authority.ends_with(']');
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        if authority.is_empty() || !authority.chars().all(plain) {
            return Err(wrong("it names no machine"));
        }
        let authority = match has_port && !bare_ipv6 {
            true => authority.to_owned(),
            false => format!("{authority}:80"),
        };
        if token.is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(ClientError::Address(
                "the token has blanks or letters beyond ASCII, which cannot be sent".to_owned(),
            ));
        }
        let token = token.map(str::to_owned);
        Ok(Self { target: Target::Address(authority), token, base: path.to_owned() })
    }

    /// The path of the address that it was made with, such as `/runs/NAME/`.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Whom it asks, in words.
    pub fn target(&self) -> String {
        match &self.target {
            Target::Socket(path) => path.display().to_string(),
            Target::Address(authority) => format!("http://{authority}/"),
        }
    }

    /// Gets `path`, which begins with a slash: the status of the answer and its body.
    /// Not to be called where futures are run.
    ///
    /// # Errors
    /// If there is no answer in time.
    pub fn get(&self, path: &str) -> Result<(u16, Vec<u8>), ClientError> {
        self.wait_for(self.exchange(self.request(Method::GET, path, Bytes::new())?))
    }

    /// Posts JSON to `path`, with what a monitor asks for of those who steer: the
    /// status of the answer and its body. Not to be called where futures are run.
    ///
    /// # Errors
    /// If there is no answer in time.
    pub fn post(
        &self,
        path: &str,
        json: &serde_json::Value,
    ) -> Result<(u16, Vec<u8>), ClientError> {
        let body = Bytes::from(json.to_string());
        self.wait_for(self.exchange(self.request(Method::POST, path, body)?))
    }

    /// Gets `path` line by line: the status of the answer, and what reads its lines.
    /// Not to be called where futures are run.
    ///
    /// # Errors
    /// If there is no answer in time.
    pub fn lines(&self, path: &str) -> Result<(u16, Lines), ClientError> {
        let request = self.request(Method::GET, path, Bytes::new())?;
        let runtime = runtime().map_err(|error| self.unreachable(error))?;
        let (response, sender) = runtime.block_on(self.send(request))?;
        let status = response.status().as_u16();
        let (body, target) = (response.into_body(), self.target());
        let splitter = LineSplitter::default();
        Ok((status, Lines { runtime, body, target, splitter, _sender: sender }))
    }

    fn wait_for<T>(
        &self,
        answer: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        runtime().map_err(|error| self.unreachable(error))?.block_on(answer)
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(u16, Vec<u8>), ClientError> {
        let whole = async {
            let (response, _sender) = self.send(request).await?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), MOST_BYTES).collect().await;
            let body = body.map_err(|error| self.broken(error))?;
            Ok((status, body.to_bytes().to_vec()))
        };
        timeout(TO_ANSWER, whole).await.map_err(|_| ClientError::Late(self.target()))?
    }

    /// A request with what a monitor asks for of those who steer.
    pub(super) fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let host = match &self.target {
            Target::Socket(_) => "localhost",
            Target::Address(authority) => authority,
        };
        let mut request = Request::builder().method(&method).uri(path).header(HOST, host);
        if method == Method::POST {
            request = request.header(CONTENT_TYPE, "application/json").header("X-Drpipe", "1");
        }
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        request.body(Full::new(body)).map_err(|error| {
            ClientError::Address(format!("{path:?} is no path that can be asked for: {error}"))
        })
    }

    /// Sends the request and waits for the head of its answer. The connection lasts as
    /// long as the sender.
    pub(super) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, SendRequest<Full<Bytes>>), ClientError> {
        let answer = async {
            let mut sender = timeout(TO_CONNECT, self.connect())
                .await
                .map_err(|_| self.unreachable(io::Error::from(io::ErrorKind::TimedOut)))??;
            let response = sender.send_request(request).await;
            Ok((response.map_err(|error| self.broken(error))?, sender))
        };
        timeout(TO_ANSWER, answer).await.map_err(|_| ClientError::Late(self.target()))?
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, ClientError> {
        match &self.target {
            Target::Socket(path) => {
                let stream = UnixStream::connect(path).await;
                self.begin(stream.map_err(|error| self.unreachable(error))?).await
            }
            Target::Address(authority) => {
                let stream = TcpStream::connect(authority).await;
                self.begin(stream.map_err(|error| self.unreachable(error))?).await
            }
        }
    }

    async fn begin<S>(&self, stream: S) -> Result<SendRequest<Full<Bytes>>, ClientError>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(error))?;
        // What goes wrong with it is seen by whoever reads the answer.
        tokio::spawn(async { drop(connection.await) });
        Ok(sender)
    }

    fn unreachable(&self, error: io::Error) -> ClientError {
        ClientError::Unreachable(self.target(), error)
    }

    fn broken(&self, error: impl std::fmt::Display) -> ClientError {
        ClientError::Broken(self.target(), error.to_string())
    }
}

fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

impl Lines {
    /// The next line; waits for it as long as `patience`. Not to be called where futures
    /// are run.
    ///
    /// # Errors
    /// If the connection breaks, or a line is longer than a monitor sends any.
    #[allow(clippy::should_implement_trait, reason = "it has a time limit")]
    pub fn next(&mut self, patience: Duration) -> Result<NextLine, ClientError> {
        let Self { runtime, body, splitter, target, .. } = self;
        let wait = async {
            loop {
                if let Some(line) = splitter.next() {
                    return Ok(NextLine::Line(line));
                }
                match body.frame().await {
                    None => return Ok(splitter.last().map_or(NextLine::End, NextLine::Line)),
                    Some(Err(error)) => return Err(error.to_string()),
                    Some(Ok(frame)) => {
                        let piece = frame.data_ref().map_or(&[][..], |data| data);
                        splitter.add(piece).map_err(|error| error.to_string())?;
                    }
                }
            }
        };
        match runtime.block_on(async { timeout(patience, wait).await }) {
            Err(_) => Ok(NextLine::Nothing),
            Ok(line) => line.map_err(|why| ClientError::Broken(target.clone(), why)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_machine_and_a_port() {
        let target = |url: &str| Client::address(url, None).map(|client| client.target());
        for url in ["http://localhost:5565/", "http://localhost:5565", "localhost:5565"] {
            assert_eq!(target(url).unwrap(), "http://localhost:5565/");
        }
        assert_eq!(target("http://pipeline.example/x").unwrap(), "http://pipeline.example:80/");
        assert_eq!(target("http://[::1]:5565/").unwrap(), "http://[::1]:5565/");
        assert_eq!(target("http://[::1]/").unwrap(), "http://[::1]:80/");
        let client = Client::address("http://localhost:1/runs/A/", Some("secret")).unwrap();
        assert_eq!(client.base(), "/runs/A/");
        for wrong in ["", "http://", "https://localhost:5565/", "http://a b/", "http://a@b:1/"] {
            assert!(target(wrong).unwrap_err().to_string().contains("expected"), "{wrong}");
        }
        assert!(Client::address("localhost:1", Some("two words")).is_err());
    }

    #[test]
    fn nobody_at_a_socket_is_said_so() {
        let place = tempfile::tempdir().unwrap();
        let error = Client::socket(&place.path().join("none.sock")).get("/").unwrap_err();
        assert!(error.to_string().starts_with("cannot reach "), "{error}");
    }
}
