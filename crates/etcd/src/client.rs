//! The members of a cluster, asked over gRPC by synchronous callers.
//!
//! Invariant: every call has a timeout; nothing is sent to another machine without encryption
//! unless the user asked for it.

mod login;
mod message;
mod snapshot;

use std::future::Future;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use http::uri::PathAndQuery;
use refloat_model::cancel::Cancel;
use refloat_model::secret::Secret;
use tokio::runtime::Runtime;
use tonic::client::Grpc;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic_prost::ProstCodec;

use crate::error::{EtcdError, is_about_users};
pub use login::Login;
use login::Token;
pub use message::{Alarm, HashKvResponse, Member, StatusResponse};
use message::{
    AlarmRequest, AlarmResponse, HashKvRequest, MemberListRequest, MemberListResponse,
    StatusRequest,
};
pub use snapshot::SnapshotStream;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take. A hash reads the whole database.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a member may take to say how it is.
const STATUS_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a waiting call looks whether it was cancelled.
const CANCEL_POLL: Duration = Duration::from_millis(50);
/// etcd sends a snapshot in pieces of 32 KiB; other answers are short.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// How a cluster is reached.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Access {
    /// `https://HOST:PORT` each; `http://` is taken for this machine only, see `plain`.
    pub endpoints: Vec<String>,
    /// Certificates for `https://`.
    pub certificates: Option<Certificates>,
    /// Who we are, for clusters that ask for a password.
    pub login: Option<Arc<Login>>,
    /// Whether other machines are spoken to without encryption.
    pub plain: Plain,
}

/// Files in PEM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificates {
    /// Who signs servers.
    pub ca: PathBuf,
    /// Who we are, and our key; none for servers that do not ask.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Whether a member may be spoken to without encryption.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Plain {
    /// On this machine only.
    #[default]
    Loopback,
    /// Anywhere: the user said so.
    Anywhere,
}

/// Makes connections to members.
#[derive(Debug)]
pub struct Client {
    runtime: Runtime,
    tls: Option<ClientTlsConfig>,
    login: Option<Arc<Login>>,
    token: Token,
    plain: Plain,
}

/// A connection to one member, made when it is first used.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Its URL.
    pub endpoint: String,
    channel: Channel,
}

impl Client {
    /// Reads the certificates; nothing is sent yet.
    ///
    /// # Errors
    /// They cannot be read, or no thread can be made.
    pub fn new(access: &Access) -> Result<Self, EtcdError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("etcd")
            .enable_all()
            .build()
            .map_err(EtcdError::Runtime)?;
        let tls = access.certificates.as_ref().map(tls).transpose()?;
        Ok(Self {
            runtime,
            tls,
            login: access.login.clone(),
            token: Token::default(),
            plain: access.plain,
        })
    }

    /// Prepares a connection; nothing is sent yet.
    ///
    /// # Errors
    /// It is no URL of an endpoint, or it would not be encrypted.
    pub fn connection(&self, url: &str) -> Result<Connection, EtcdError> {
        let invalid = || EtcdError::Endpoint(url.to_owned());
        let uri: Uri = url.parse().map_err(|_invalid| invalid())?;
        let host = uri.host().ok_or_else(invalid)?;
        let endpoint = Endpoint::from(uri.clone())
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_while_idle(true);
        let endpoint = match (uri.scheme_str(), &self.tls) {
            (Some("https"), tls) => {
                let tls = tls.clone().unwrap_or_default();
                endpoint.tls_config(tls).map_err(|source| EtcdError::Tls {
                    endpoint: url.to_owned(),
                    source,
                })?
            }
            (Some("http"), Some(_)) => {
                return Err(EtcdError::PlainWithCertificates(url.to_owned()));
            }
            (Some("http"), None) if self.plain == Plain::Anywhere || is_loopback(host) => endpoint,
            (Some("http"), None) => return Err(EtcdError::Plain(url.to_owned())),
            _ => return Err(invalid()),
        };
        // A lazy connection is driven by the runtime it is made in.
        let inside = self.runtime.enter();
        let channel = endpoint.connect_lazy();
        drop(inside);
        Ok(Connection {
            endpoint: url.to_owned(),
            channel,
        })
    }

    /// How a member is.
    ///
    /// # Errors
    /// It does not answer.
    pub fn status(&self, to: &Connection, cancel: &Cancel) -> Result<StatusResponse, EtcdError> {
        const CALL: Call = Call {
            operation: "ask the status of",
            path: "/etcdserverpb.Maintenance/Status",
            timeout: STATUS_TIMEOUT,
        };
        self.unary(to, CALL, StatusRequest {}, cancel)
    }

    /// A hash of all that a member has of the history up to `revision`.
    ///
    /// # Errors
    /// It does not answer, or the revision is dropped or yet to come.
    pub fn hash_kv(
        &self,
        to: &Connection,
        revision: i64,
        cancel: &Cancel,
    ) -> Result<HashKvResponse, EtcdError> {
        const CALL: Call = Call {
            operation: "ask the hash of",
            path: "/etcdserverpb.Maintenance/HashKV",
            timeout: ANSWER_TIMEOUT,
        };
        self.unary(to, CALL, HashKvRequest { revision }, cancel)
    }

    /// The alarms of all members.
    ///
    /// # Errors
    /// It does not answer.
    pub fn alarms(&self, to: &Connection, cancel: &Cancel) -> Result<Vec<Alarm>, EtcdError> {
        const CALL: Call = Call {
            operation: "ask the alarms of",
            path: "/etcdserverpb.Maintenance/Alarm",
            timeout: STATUS_TIMEOUT,
        };
        let answer: AlarmResponse = self.unary(to, CALL, AlarmRequest {}, cancel)?;
        Ok(answer.alarms)
    }

    /// The members that a member knows.
    ///
    /// # Errors
    /// It does not answer.
    pub fn members(&self, to: &Connection, cancel: &Cancel) -> Result<Vec<Member>, EtcdError> {
        const CALL: Call = Call {
            operation: "ask the members of",
            path: "/etcdserverpb.Cluster/MemberList",
            timeout: STATUS_TIMEOUT,
        };
        let answer: MemberListResponse = self.unary(to, CALL, MemberListRequest {}, cancel)?;
        Ok(answer.members)
    }

    fn unary<Q, A>(
        &self,
        to: &Connection,
        call: Call,
        question: Q,
        cancel: &Cancel,
    ) -> Result<A, EtcdError>
    where
        Q: prost::Message + Default + Clone + 'static,
        A: prost::Message + Default + 'static,
    {
        match self.unary_once(to, call, question.clone(), cancel) {
            Err(error) if self.is_worn_out(&error) => self.unary_once(to, call, question, cancel),
            answer => answer,
        }
    }

    fn unary_once<Q, A>(
        &self,
        to: &Connection,
        call: Call,
        question: Q,
        cancel: &Cancel,
    ) -> Result<A, EtcdError>
    where
        Q: prost::Message + Default + 'static,
        A: prost::Message + Default + 'static,
    {
        let path = call.path;
        let mut request = tonic::Request::new(question);
        self.sign(&mut request, to, cancel)?;
        let mut grpc = Grpc::new(to.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX);
        let asking = async move {
            ready(&mut grpc).await?;
            let codec = ProstCodec::<Q, A>::default();
            let path = PathAndQuery::from_static(path);
            let answer = grpc.unary(request, path, codec).await?;
            Ok(answer.into_inner())
        };
        self.wait(asking, call.timeout, cancel)
            .map_err(|failure| failure.at(call, &to.endpoint))
    }

    /// Waits for an answer, a while, unless cancelled.
    fn wait<T>(
        &self,
        asking: impl Future<Output = Result<T, tonic::Status>>,
        timeout: Duration,
        cancel: &Cancel,
    ) -> Result<T, Failure> {
        self.runtime.block_on(async {
            let mut asking = std::pin::pin!(tokio::time::timeout(timeout, asking));
            loop {
                if cancel.is_cancelled() {
                    return Err(Failure::Cancelled);
                }
                match tokio::time::timeout(CANCEL_POLL, &mut asking).await {
                    Ok(Ok(answer)) => return answer.map_err(|s| Failure::Status(Box::new(s))),
                    Ok(Err(_late)) => return Err(Failure::Late),
                    Err(_not_yet) => {}
                }
            }
        })
    }
}

/// A call.
#[derive(Clone, Copy)]
struct Call {
    /// What it does, for messages.
    operation: &'static str,
    path: &'static str,
    timeout: Duration,
}

enum Failure {
    Status(Box<tonic::Status>),
    Late,
    Cancelled,
}

impl Failure {
    fn at(self, call: Call, endpoint: &str) -> EtcdError {
        let endpoint = endpoint.to_owned();
        match self {
            Self::Status(source) if is_about_users(&source) => EtcdError::User {
                operation: call.operation,
                endpoint,
                source,
            },
            Self::Status(source) => EtcdError::Call {
                operation: call.operation,
                endpoint,
                source,
            },
            Self::Late => EtcdError::Late {
                endpoint,
                seconds: call.timeout.as_secs(),
            },
            Self::Cancelled => EtcdError::Cancelled,
        }
    }
}

async fn ready(grpc: &mut Grpc<Channel>) -> Result<(), tonic::Status> {
    let ready = grpc.ready().await;
    ready.map_err(|error| tonic::Status::from_error(error.into()))
}

/// Whether `host` is this machine.
fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

fn tls(files: &Certificates) -> Result<ClientTlsConfig, EtcdError> {
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|source| EtcdError::Certificate {
            path: path.clone(),
            source,
        })
    };
    let config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(&files.ca)?));
    let Some((certificate, key)) = &files.identity else {
        return Ok(config);
    };
    let key = Secret::new(read(key)?);
    Ok(config.identity(Identity::from_pem(read(certificate)?, key.expose())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_sent_in_the_clear_to_other_machines() {
        let open = Client::new(&Access::default()).unwrap();
        for url in [
            "http://127.0.0.1:2379",
            "http://[::1]:2379",
            "http://localhost:2379",
        ] {
            assert!(open.connection(url).is_ok(), "{url}");
        }
        for url in ["http://10.0.0.1:2379", "http://127.0.0.1.example:2379"] {
            assert!(
                matches!(open.connection(url), Err(EtcdError::Plain(_))),
                "{url}"
            );
        }
        for url in ["10.0.0.1:2379", "unix:///s", "/x", ""] {
            assert!(
                matches!(open.connection(url), Err(EtcdError::Endpoint(_))),
                "{url}"
            );
        }
        let anywhere = Client::new(&Access {
            plain: Plain::Anywhere,
            ..Access::default()
        });
        assert!(anywhere.unwrap().connection("http://10.0.0.1:2379").is_ok());
    }
}
