//! An HTTP client for the monitors of runs, over the socket of a run or over the network.
//! Every request has a time limit.

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
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Runtime;
use tokio::time::timeout;

pub(crate) use lines::LineSplitter;
pub(crate) use sse::{SseEvent, SseParser};

/// How long it may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take: longer than a run takes to carry out an action.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// The longest answer that is read whole, in bytes: more than the longest history.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// A client of a run's monitor, or of `drpipe monitor`.
#[derive(Debug, Clone)]
pub struct Client {
    target: Target,
    token: Option<String>,
    /// The path of the address, such as `/runs/NAME/`.
    base: String,
}

#[derive(Debug, Clone)]
enum Target {
    Socket(PathBuf),
    /// A host with its port.
    Address(String),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The address cannot be used.
    #[error("{0}")]
    Address(String),
    /// No program listens there.
    #[error("cannot reach {0}: {1}")]
    Unreachable(String, io::Error),
    /// The answer did not come in time.
    #[error("{0} has not answered within 15 s")]
    Late(String),
    /// The connection broke, or the answer is not HTTP.
    #[error("the connection to {0} broke: {1}")]
    Broken(String, String),
}

/// An answer, read line by line as it comes.
pub struct Lines {
    runtime: Runtime,
    body: Incoming,
    target: String,
    splitter: LineSplitter,
    /// Keeps the connection open.
    _sender: SendRequest<Full<Bytes>>,
}

/// What [`Lines::next`] returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextLine {
    /// A line, without its end.
    Line(String),
    /// No line came in time.
    Nothing,
    /// The answer has ended.
    End,
}

impl Client {
    /// A client that connects to the socket of a run.
    pub fn socket(path: &Path) -> Self {
        Self { target: Target::Socket(path.to_owned()), token: None, base: "/".to_owned() }
    }

    /// A client that connects to an address such as `http://localhost:5565/`. The token gives
    /// the right to steer, where the run has one.
    ///
    /// # Errors
    /// If the address has another form, or the token cannot be sent.
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
                return Err(wrong(&format!("{scheme} is not supported, only http")));
            }
        };
        let uri = format!("http://{rest}").parse::<Uri>();
        let uri = uri.map_err(|_| wrong("it names no host"))?;
        let host = uri.host().filter(|host| !host.is_empty());
        let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        let Some(host) = host.filter(|_| !has_user) else {
            return Err(wrong("it names no host"));
        };
        let authority = format!("{host}:{}", uri.port_u16().unwrap_or(80));
        if token.is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(ClientError::Address(
                "the token has spaces or characters beyond ASCII, which cannot be sent".to_owned(),
            ));
        }
        let token = token.map(str::to_owned);
        Ok(Self { target: Target::Address(authority), token, base: uri.path().to_owned() })
    }

    /// The path of the address that it was made with, such as `/runs/NAME/`.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The socket or the address, for messages.
    pub fn target(&self) -> String {
        match &self.target {
            Target::Socket(path) => path.display().to_string(),
            Target::Address(authority) => format!("http://{authority}/"),
        }
    }

    /// Gets `path`, which begins with a slash. Returns the status and the body of the answer;
    /// blocks until it has come. Panics within an asynchronous runtime.
    ///
    /// # Errors
    /// If there is no answer in time.
    pub fn get(&self, path: &str) -> Result<(u16, Vec<u8>), ClientError> {
        self.wait_for(self.exchange(self.request(Method::GET, path, Bytes::new())?))
    }

    /// Posts JSON to `path`, with the headers that steering needs. Returns the status and the
    /// body of the answer; blocks until it has come. Panics within an asynchronous runtime.
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

    /// Gets `path` line by line. Returns the status of the answer and its lines; blocks until
    /// the answer begins. Panics within an asynchronous runtime.
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
            let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
            let body = body.map_err(|error| self.broken(error))?;
            Ok((status, body.to_bytes().to_vec()))
        };
        timeout(ANSWER_TIMEOUT, whole).await.map_err(|_| ClientError::Late(self.target()))?
    }

    /// A request with the headers that steering needs.
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
            ClientError::Address(format!("{path:?} is not a path that HTTP can request: {error}"))
        })
    }

    /// Sends the request and waits for the head of its answer. The connection lasts as long as
    /// the sender.
    pub(super) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, SendRequest<Full<Bytes>>), ClientError> {
        let answer = async {
            let mut sender = timeout(CONNECT_TIMEOUT, self.connect())
                .await
                .map_err(|_| self.unreachable(io::Error::from(io::ErrorKind::TimedOut)))??;
            let response = sender.send_request(request).await;
            Ok((response.map_err(|error| self.broken(error))?, sender))
        };
        timeout(ANSWER_TIMEOUT, answer).await.map_err(|_| ClientError::Late(self.target()))?
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
        // If the connection fails, reading the answer fails too.
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
    /// The next line; blocks for `patience` at most. Panics within an asynchronous runtime.
    ///
    /// # Errors
    /// If the connection breaks, or a line is longer than a monitor ever sends.
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
    fn a_socket_without_a_listener_is_an_error() {
        let place = tempfile::tempdir().unwrap();
        let error = Client::socket(&place.path().join("none.sock")).get("/").unwrap_err();
        assert!(error.to_string().starts_with("cannot reach "), "{error}");
    }
}
